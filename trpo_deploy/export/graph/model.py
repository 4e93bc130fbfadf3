"""An actor network as one ONNX model, written operator by operator.

Built from the weights with ``onnx.helper`` and not by tracing, so that a file holds what this
module says and nothing of the exporting machine, loads in old engines, and is the same bytes
each time. Only code of the user's own goes another way; see :mod:`~.traced`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper

from trpo_deploy.errors import ExportError
from trpo_deploy.export.graph.builder import GraphBuilder, newest_opset
from trpo_deploy.export.graph.features import add_features, add_layer, add_layers, add_observation
from trpo_deploy.export.graph.guard import Guard
from trpo_deploy.export.graph.heads import PARAMETERS, Head, output_tensor
from trpo_deploy.export.policy.network import ActorNetwork
from trpo_deploy.export.profiles import OBS_OK, Profile
from trpo_deploy.spec.policy_spec import ACTION, METADATA_KEY, PolicySpec, TensorSpec


def output_tensors(
    actor: ActorNetwork, names: Sequence[str], *, guard: bool
) -> tuple[TensorSpec, ...]:
    """All outputs of a file: the action, those asked for, the guard's, the next states.

    Raises:
        ExportError: the policy has no such output.
    """
    asked = [output_tensor(name, actor) for name in dict.fromkeys((ACTION, *names))]
    if guard:
        asked.append(TensorSpec(OBS_OK, "bool", ()))
    states = (
        TensorSpec(state.output, state.input.dtype, state.input.shape) for state in actor.states
    )
    return (*asked, *states)


def build_model(actor: ActorNetwork, spec: PolicySpec, profile: Profile) -> onnx.ModelProto:
    """The ONNX model of an actor, with its spec in the metadata.

    The tensor :data:`~.heads.PARAMETERS` holds the distribution's parameters,
    so that a check can look at more than the action.

    Raises:
        ExportError: the policy cannot be written in the profile's opset.
    """
    if profile.opset > newest_opset():
        raise ExportError(
            f"opset {profile.opset} is newer than the installed onnx knows ({newest_opset()})"
        )
    graph = GraphBuilder(profile.opset)
    _add_policy(graph, actor, spec)
    opset = helper.make_opsetid("", profile.opset)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "policy",
            [_value_info(tensor) for tensor in spec.inputs],
            [_value_info(tensor) for tensor in spec.outputs],
            graph.initializers,
        ),
        producer_name="trpo-deploy",
        producer_version=spec.versions.get("trpo-deploy", ""),
        ir_version=max(profile.ir_version, helper.find_min_ir_version_for([opset])),
        opset_imports=[opset],
    )
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ExportError(f"opset {profile.opset} cannot hold this policy ({reason})") from error
    return model


def _add_policy(graph: GraphBuilder, actor: ActorNetwork, spec: PolicySpec) -> None:
    sources = {tensor.name: tensor.name for tensor in spec.inputs}
    guard = Guard.add_to(graph, actor) if spec.guard is not None else None
    if guard is not None:
        sources |= guard.sources
    observations = {each.name: add_observation(graph, each, sources) for each in actor.inputs}
    features = add_features(graph, actor.features, observations, "/features")
    latent = add_layers(graph, actor.layers, features, "/actor")
    add_layer(graph, actor.head, latent, "/actor/head", PARAMETERS)
    head = Head(graph, actor, latent)
    asked = [tensor.name for tensor in spec.outputs]
    if guard is None:
        head.add(ACTION, ACTION)
    else:
        head.add(ACTION, "/unguarded_action")
        guard.choose(graph, "/unguarded_action", actor.action_space, ACTION)
    for name in asked:
        if name == "value":
            _add_value(graph, actor, features, observations)
        elif name not in (ACTION, OBS_OK, *(state.output for state in actor.states)):
            head.add(name, name)


def _add_value(
    graph: GraphBuilder, actor: ActorNetwork, features: str, observations: dict[str, str]
) -> None:
    critic = actor.critic
    if critic.features is not None:
        features = add_features(graph, critic.features, observations, "/critic_features")
    name = add_layers(graph, critic.layers, features, "/critic")
    graph.reshape(name, [-1], "value")


def _value_info(tensor: TensorSpec) -> onnx.ValueInfoProto:
    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    return helper.make_tensor_value_info(tensor.name, dtype, ["batch", *tensor.shape])
