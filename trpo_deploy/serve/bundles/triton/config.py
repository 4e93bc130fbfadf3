"""Triton's configuration of a policy, ``config.pbtxt``.

Fields: https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto.

A policy that stacks frames keeps the earlier ones in Triton, as implicit state of a sequence: the
client sends one frame at a time, with the sequence's number and a flag at its start.
"""

from __future__ import annotations

import numpy as np

from trpo_deploy.errors import ServeError
from trpo_deploy.serve.bundles.triton.text_format import Message, Symbol
from trpo_deploy.serve.protocols.inference_v2.datatypes import DATATYPE_OF
from trpo_deploy.serve.settings import Settings
from trpo_deploy.spec.policy_spec import PolicySpec, StateSpec, TensorSpec

SEQUENCE_IDLE_S = 60
"""Triton forgets the frames of a robot that is silent for longer, s. Its own default is 1 s."""


def model_config(name: str, spec: PolicySpec) -> Message:
    """The configuration of a policy.

    Args:
        name: Name of the model.
        spec: The policy's spec.

    Raises:
        ServeError: Triton cannot hold the policy.
    """
    states = {state.input.name for state in spec.states} | {state.output for state in spec.states}
    max_batch: int = Settings.model_fields["max_batch"].default
    config = {
        "name": name,
        "platform": "onnxruntime_onnx",
        "max_batch_size": max_batch,
        "input": [_tensor(name, each) for each in spec.inputs if each.name not in states],
        "output": [_tensor(name, each) for each in spec.outputs if each.name not in states],
        # A policy is too small for a GPU, and for more than one thread.
        "instance_group": [{"kind": Symbol("KIND_CPU"), "count": 1}],
        "parameters": [{"key": "intra_op_thread_count", "value": {"string_value": "1"}}],
    }
    if not spec.states:
        return {**config, "dynamic_batching": {}}
    batching = {
        "max_sequence_idle_microseconds": SEQUENCE_IDLE_S * 1_000_000,
        # Batches of whatever sequences have a frame; "direct" would run empty places of a batch.
        "oldest": {"max_candidate_sequences": max_batch},
        "state": [_state(name, state) for state in spec.states],
    }
    return {**config, "sequence_batching": batching}


def _tensor(model: str, tensor: TensorSpec) -> Message:
    """An input or output. Triton has none without axes: one number is a row of one, reshaped."""
    value = {
        "name": tensor.name,
        "data_type": _data_type(tensor),
        "dims": [*_sizes(model, tensor)] or [1],
    }
    return value if tensor.shape else {**value, "reshape": {}}


def _state(model: str, state: StateSpec) -> Message:
    if not state.input.shape:
        raise ServeError(
            f"Triton cannot hold model {model}: its state {state.input.name!r} is a single number, "
            "expected an array; serve it with another target"
        )
    kind = {
        "data_type": _data_type(state.input),
        "dims": [*_sizes(model, state.input)],
    }
    return {
        "input_name": state.input.name,
        "output_name": state.output,
        **kind,
        "initial_state": {"name": f"zeros of {state.input.name}", **kind, "zero_data": True},
    }


def _data_type(tensor: TensorSpec) -> Symbol:
    return Symbol(f"TYPE_{DATATYPE_OF[np.dtype(tensor.dtype)]}")


def _sizes(model: str, tensor: TensorSpec) -> tuple[int, ...]:
    if 0 in tensor.shape:
        raise ServeError(
            f"Triton cannot hold model {model}: its tensor {tensor.name!r} has the shape "
            f"{tensor.shape}, expected at least one number; serve it with another target"
        )
    return tensor.shape
