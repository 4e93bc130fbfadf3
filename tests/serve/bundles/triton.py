"""What Triton does with a model repository, by its own configuration format and onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from trpo_deploy.spec.spaces import Array

_ONNX_TYPES = {
    "TYPE_BOOL": "tensor(bool)",
    **{
        f"TYPE_{sign}INT{bits}": f"tensor({sign.lower()}int{bits})"
        for sign in ("", "U")
        for bits in (8, 16, 32, 64)
    },
    "TYPE_FP16": "tensor(float16)",
    "TYPE_FP32": "tensor(float)",
    "TYPE_FP64": "tensor(double)",
}


class TritonModel:
    """A model of a repository: checked against its ONNX file when it is loaded, as Triton does it.

    The checks are those of Triton's backend for onnxruntime: the number of inputs, and name, type
    and shape of each, after ``reshape``.
    """

    def __init__(self, folder: Path) -> None:
        text = (folder / "config.pbtxt").read_text()
        self.config = text_format.Parse(text, model_config_pb2.ModelConfig())
        assert self.config.name == folder.name
        assert self.config.platform == "onnxruntime_onnx"
        (version,) = (each for each in folder.iterdir() if each.is_dir())
        assert version.name == "1"
        self.session = onnxruntime.InferenceSession(
            version / "model.onnx", providers=["CPUExecutionProvider"]
        )
        self._states = list(self.config.sequence_batching.state)
        states = [(each.input_name, each) for each in self._states]
        inputs = {**{each.name: each for each in self.config.input}, **dict(states)}
        file_inputs = {each.name: each for each in self.session.get_inputs()}
        assert [*inputs] == [*file_inputs]
        outputs = {each.name: each for each in self.config.output}
        outputs |= {each.output_name: each for each in self._states}
        file_outputs = {each.name: each for each in self.session.get_outputs()}
        for name, tensor in (*inputs.items(), *outputs.items()):
            file = {**file_inputs, **file_outputs}[name]
            kind = model_config_pb2.DataType.Name(tensor.data_type)
            assert _ONNX_TYPES[kind] == file.type, name
            assert [*shape_of(tensor)] == file.shape[1:], name
        self._memory: dict[int, dict[str, Array]] = {}

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """One request without a sequence: rows of the shapes that ``dims`` says."""
        assert not self._states, "Triton refuses requests without a sequence for this model"
        return self._run({each.name: shaped(each, inputs[each.name]) for each in self.config.input})

    def infer_in_sequence(
        self, number: int, inputs: Mapping[str, Array], *, start: bool
    ) -> dict[str, Array]:
        """One request of a sequence, which has one row."""
        assert number > 0, "0 means: no sequence"
        if start:
            self._memory[number] = {
                each.input_name: zeros(each.initial_state[0]) for each in self._states
            }
        feeds = {each.name: shaped(each, inputs[each.name]) for each in self.config.input}
        assert all(len(rows) == 1 for rows in feeds.values())
        found = self._run({**feeds, **self._memory[number]})
        self._memory[number] = {each.input_name: found[each.output_name] for each in self._states}
        return {each.name: found[each.name] for each in self.config.output}

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        names = [each.name for each in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, dict(feeds)), strict=True))


def shape_of(tensor: Any) -> tuple[int, ...]:
    """The shape in the ONNX file, without the batch."""
    assert all(size > 0 for size in tensor.dims), "Triton takes no other sizes"
    assert len(tensor.dims) > 0, "Triton takes no tensor without axes"
    reshaped = "reshape" in tensor.DESCRIPTOR.fields_by_name and tensor.HasField("reshape")
    return tuple(tensor.reshape.shape if reshaped else tensor.dims)


def shaped(tensor: Any, rows: Array) -> Array:
    """The rows of a request in the shape of the file."""
    assert rows.shape[1:] == tuple(tensor.dims), tensor.name
    return rows.reshape(len(rows), *shape_of(tensor))


def zeros(initial: Any) -> Array:
    """The state at the start of a sequence."""
    assert initial.zero_data
    kind = model_config_pb2.DataType.Name(initial.data_type).removeprefix("TYPE_")
    dtype = {"FP32": "float32", "FP64": "float64"}.get(kind, kind.lower())
    return np.zeros((1, *initial.dims), dtype)
