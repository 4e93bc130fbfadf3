"""Engines that run an ONNX file: onnxruntime and onnx's reference evaluator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from trpo_deploy.errors import PolicyFileError
from trpo_deploy.export.graph.distribution import PARAMETERS
from trpo_deploy.spec.policy_spec import Inputs, TensorSpec
from trpo_deploy.spec.spaces import Array

Outputs: TypeAlias = Mapping[str, Array]
Run: TypeAlias = Callable[[Inputs], Outputs]


@dataclass(frozen=True)
class Engine:
    """A loaded file."""

    name: str
    package: str | None
    """The engine's distribution package; ``None`` for a program, whose version is in the name."""
    run: Run
    """From a batch of inputs to all outputs."""
    is_slow: bool
    """Whether the engine should be given only part of the observations."""
    outputs: frozenset[str] | None = None
    """The outputs that it computes; ``None`` for all of the file's."""
    refuses_infinity: bool = False
    """Whether it gives the safe action for infinities, which the file without a guard takes."""
    action_rounding: float = 0.0
    """Largest rounding error that it adds to a continuous action, by scaling it to the bounds."""

    def computes(self, output: str) -> bool:
        """Whether it computes an output of the file."""
        return self.outputs is None or output in self.outputs


def load_engines(model: onnx.ModelProto, inputs: tuple[TensorSpec, ...]) -> dict[str, Engine]:
    """Load a file in all engines; the last layer's output becomes an extra output.

    Args:
        model: The file, with any outputs.
        inputs: The file's inputs; a batch is converted to their dtypes.

    Raises:
        PolicyFileError: An engine cannot run the file.
    """
    content = expose_parameters(model).SerializeToString()
    engines = (load_onnxruntime(content, inputs), _load_reference_evaluator(content, inputs))
    return {engine.name: engine for engine in engines}


def expose_parameters(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a model and make the last layer's output an output of the file."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.append(
        helper.make_tensor_value_info(PARAMETERS, onnx.TensorProto.FLOAT, ["batch", None])
    )
    return exposed


def load_onnxruntime(content: bytes, inputs: tuple[TensorSpec, ...]) -> Engine:
    """Load a file in onnxruntime, the engine of this project's runtime.

    Raises:
        PolicyFileError: onnxruntime cannot run the file.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no public base class
        reason = one_line(error)
        raise PolicyFileError(f"onnxruntime cannot run the file ({reason})") from error
    names = [output.name for output in session.get_outputs()]

    def run(batch: Inputs) -> Outputs:
        return dict(zip(names, session.run(None, dict(batch)), strict=True))

    return Engine("onnxruntime", "onnxruntime", converted(run, inputs), is_slow=False)


def converted(run: Run, inputs: tuple[TensorSpec, ...]) -> Run:
    """Name a batch's arrays as the file's inputs and convert them to their dtypes first."""

    def run_converted(batch: Inputs) -> Outputs:
        with np.errstate(all="ignore"):  # float64 observations may exceed float32
            return run({each.name: batch[each.key].astype(each.dtype) for each in inputs})

    return run_converted


class BatchNormalization(OpRun):
    """Batch normalisation at inference.

    Below opset 14, onnx's reference evaluator mixes in the statistics of the batch.
    """

    op_domain = ""

    def _run(
        self,
        x: Array,
        scale: Array,
        bias: Array,
        mean: Array,
        var: Array,
        epsilon: float = 1e-5,
        **_: Any,
    ) -> tuple[Array]:
        shape = (1, -1, *(1,) * (x.ndim - 2))
        factor = scale / np.sqrt(var + epsilon)
        return (((x - mean.reshape(shape)) * factor.reshape(shape) + bias.reshape(shape)),)


def _load_reference_evaluator(content: bytes, inputs: tuple[TensorSpec, ...]) -> Engine:
    try:
        evaluator = ReferenceEvaluator(
            onnx.load_model_from_string(content), new_ops=[BatchNormalization]
        )
    except Exception as error:  # its errors share no public base class
        reason = one_line(error)
        raise PolicyFileError(f"onnx's evaluator cannot run the file ({reason})") from error
    names = list(evaluator.output_names)

    def run(batch: Inputs) -> Outputs:
        outputs = evaluator.run(None, dict(batch))
        return {name: np.asarray(each) for name, each in zip(names, outputs, strict=True)}

    return Engine("onnx reference", "onnx", converted(run, inputs), is_slow=True)


def one_line(error: Exception) -> str:
    """The beginning of an error's message."""
    return " ".join(str(error).split())[:300]
