"""Engines that run an ONNX file: onnxruntime, onnx's reference evaluator, tract if installed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from trpo_deploy.errors import PolicyFileError
from trpo_deploy.export.graph.distribution import PARAMETERS
from trpo_deploy.sb3.reference import Inputs
from trpo_deploy.spec.policy_spec import TensorSpec
from trpo_deploy.spec.spaces import Array

Outputs: TypeAlias = Mapping[str, Array]
Run: TypeAlias = Callable[[Inputs], Outputs]


@dataclass(frozen=True)
class Engine:
    """A loaded file."""

    name: str
    run: Run
    """From a batch of inputs to all outputs."""
    takes_infinities: bool
    """Whether the engine follows IEEE 754 for infinities."""
    is_slow: bool
    """Whether the engine should be given only part of the observations."""


def load_engines(model: onnx.ModelProto, inputs: tuple[TensorSpec, ...]) -> dict[str, Engine]:
    """Load a file in every installed engine; the last layer's output becomes an extra output.

    Args:
        model: The file, with any outputs.
        inputs: The file's inputs; a batch is converted to their dtypes.

    Raises:
        PolicyFileError: An engine cannot run the file.
    """
    content = expose_parameters(model).SerializeToString()
    engines = {"onnxruntime": load_onnxruntime(content, inputs)}
    for name, other in _OTHERS.items():
        if find_spec(other.package) is None:
            continue
        try:
            run = other.load(content)
        except Exception as error:  # engines raise unrelated exceptions
            raise PolicyFileError(f"{name} cannot run the file ({_one_line(error)})") from error
        engines[name] = Engine(name, _converted(run, inputs), other.takes_infinities, is_slow=True)
    return engines


def engine_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of the packages of some engines."""
    return {name: version(_OTHERS[name].package if name in _OTHERS else name) for name in names}


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
        reason = _one_line(error)
        raise PolicyFileError(f"onnxruntime cannot run the file ({reason})") from error
    names = [output.name for output in session.get_outputs()]

    def run(batch: Inputs) -> Outputs:
        return dict(zip(names, session.run(None, dict(batch)), strict=True))

    return Engine("onnxruntime", _converted(run, inputs), takes_infinities=True, is_slow=False)


def _converted(run: Run, inputs: tuple[TensorSpec, ...]) -> Run:
    def converted(batch: Inputs) -> Outputs:
        with np.errstate(all="ignore"):  # float64 observations may exceed float32
            return run({each.name: batch[each.name].astype(each.dtype) for each in inputs})

    return converted


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


def _load_onnx_reference(content: bytes) -> Run:
    evaluator = ReferenceEvaluator(
        onnx.load_model_from_string(content), new_ops=[BatchNormalization]
    )
    names = list(evaluator.output_names)

    def run(batch: Inputs) -> Outputs:
        outputs = evaluator.run(None, dict(batch))
        return {name: np.asarray(each) for name, each in zip(names, outputs, strict=True)}

    return run


def _load_tract(content: bytes) -> Run:
    tract: Any = import_module("tract")
    graph = onnx.load_model_from_string(content).graph
    with TemporaryDirectory() as folder:  # tract loads from files only
        path = Path(folder) / "policy.onnx"
        path.write_bytes(content)
        model = tract.onnx().load(path).into_model().into_runnable()

    def run(batch: Inputs) -> Outputs:
        found = model.run([np.ascontiguousarray(batch[each.name]) for each in graph.input])
        return {
            each.name: value.to_numpy() for each, value in zip(graph.output, found, strict=True)
        }

    return run


@dataclass(frozen=True)
class _OtherEngine:
    """An engine that may not be installed."""

    package: str
    load: Callable[[bytes], Run]
    takes_infinities: bool


_OTHERS = {
    "onnx reference": _OtherEngine("onnx", _load_onnx_reference, takes_infinities=True),
    "tract": _OtherEngine("tract", _load_tract, takes_infinities=False),
}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
