"""What runs ONNX files: onnxruntime and onnx's own evaluator always, others where installed."""

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
from trpo_deploy.export.graph.heads import PARAMETERS
from trpo_deploy.spec.policy_spec import Inputs, TensorSpec
from trpo_deploy.spec.spaces import Array

Outputs: TypeAlias = Mapping[str, Array]


@dataclass(frozen=True)
class Engine:
    """A loaded file: the inputs' batch to all outputs, and the last layer's as well."""

    name: str
    run: Callable[[Inputs], Outputs]
    takes_infinities: bool
    """Whether it promises anything for numbers that are not finite."""
    is_slow: bool


def load_engines(model: onnx.ModelProto, inputs: tuple[TensorSpec, ...]) -> dict[str, Engine]:
    """A file in every engine that is installed here.

    Args:
        model: with any outputs.
        inputs: the file's inputs, whose dtypes a batch is converted to.

    Raises:
        PolicyFileError: an engine cannot run the file.
    """
    content = expose_parameters(model).SerializeToString()
    engines = {"onnxruntime": load_onnxruntime(content, inputs)}
    for name, (module, load, takes_infinities) in _OTHERS.items():
        if find_spec(module) is None:
            continue
        try:
            run = load(content)
        except Exception as error:  # engines raise what they like
            raise PolicyFileError(f"{name} cannot run the file ({_one_line(error)})") from error
        engines[name] = Engine(name, _converted(run, inputs), takes_infinities, is_slow=True)
    return engines


def engine_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of the packages of the engines that were run."""
    packages = {"onnxruntime": "onnxruntime", **{name: other[0] for name, other in _OTHERS.items()}}
    return {name: version(packages[name]) for name in names}


def expose_parameters(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose last layer's output is an output of the file as well."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.append(
        helper.make_tensor_value_info(PARAMETERS, onnx.TensorProto.FLOAT, ["batch", None])
    )
    return exposed


def load_onnxruntime(content: bytes, inputs: tuple[TensorSpec, ...]) -> Engine:
    """The engine that the runtime of this project uses.

    Raises:
        PolicyFileError: it cannot run the file.
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


def _converted(
    run: Callable[[Inputs], Outputs], inputs: tuple[TensorSpec, ...]
) -> Callable[[Inputs], Outputs]:
    def converted(batch: Inputs) -> Outputs:
        with np.errstate(all="ignore"):  # a float64 battery reaches beyond float32
            return run({each.name: batch[each.name].astype(each.dtype) for each in inputs})

    return converted


class BatchNormalization(OpRun):
    """Of a trained network; below opset 14 onnx's own mixes the batch's statistics in."""

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


def _onnx_reference(content: bytes) -> Callable[[Inputs], Outputs]:
    evaluator = ReferenceEvaluator(
        onnx.load_model_from_string(content), new_ops=[BatchNormalization]
    )
    names = list(evaluator.output_names)

    def run(batch: Inputs) -> Outputs:
        outputs = evaluator.run(None, dict(batch))
        return {name: np.asarray(each) for name, each in zip(names, outputs, strict=True)}

    return run


def _openvino(content: bytes) -> Callable[[Inputs], Outputs]:
    openvino: Any = import_module("openvino")

    # bfloat16, the default on processors that have it, is off by 2e-2.
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    names = [each.name for each in onnx.load_model_from_string(content).graph.output]
    core = openvino.Core()
    compiled: Any = core.compile_model(core.read_model(content, b""), "CPU", settings)

    def run(batch: Inputs) -> Outputs:
        found = compiled(dict(batch))
        # By position, since a port may go by several names; copied, since buffers are used again.
        return {
            name: np.array(found[port]) for name, port in zip(names, compiled.outputs, strict=True)
        }

    return run


def _tract(content: bytes) -> Callable[[Inputs], Outputs]:
    tract: Any = import_module("tract")
    graph = onnx.load_model_from_string(content).graph
    with TemporaryDirectory() as folder:  # it loads from files only
        path = Path(folder) / "policy.onnx"
        path.write_bytes(content)
        model = tract.onnx().load(path).into_model().into_runnable()

    def run(batch: Inputs) -> Outputs:
        found = model.run([np.ascontiguousarray(batch[each.name]) for each in graph.input])
        return {
            each.name: value.to_numpy() for each, value in zip(graph.output, found, strict=True)
        }

    return run


# name: the module, how to load a file, whether it keeps to IEEE for infinities
_OTHERS: dict[str, tuple[str, Callable[[bytes], Callable[[Inputs], Outputs]], bool]] = {
    "onnx reference": ("onnx", _onnx_reference, True),
    "OpenVINO": ("openvino", _openvino, False),
    "tract": ("tract", _tract, False),
}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
