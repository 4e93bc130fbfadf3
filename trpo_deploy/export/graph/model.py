"""An actor network as one ONNX model, written operator by operator.

The graph is built from the weights with ``onnx.helper`` rather than traced. The same policy thus
gives the same bytes, the file loads in old engines, and it contains nothing from the exporting
machine. Only custom features extractors are traced, see :mod:`~.traced`.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from trpo_deploy.errors import ExportError
from trpo_deploy.export.graph.action import add_action
from trpo_deploy.export.graph.builder import GraphBuilder, newest_opset
from trpo_deploy.export.graph.distribution import PARAMETERS, Distribution
from trpo_deploy.export.graph.features import add_features
from trpo_deploy.export.graph.guard import UNGUARDED_ACTION, FiniteGuard
from trpo_deploy.export.graph.layers import add_layer, add_layers
from trpo_deploy.export.graph.log_prob import add_log_prob
from trpo_deploy.export.graph.margin import add_margin
from trpo_deploy.export.graph.observations import add_observation
from trpo_deploy.export.policy.network import ActorNetwork
from trpo_deploy.export.policy.outputs import OPTIONAL_OUTPUTS
from trpo_deploy.spec.policy_spec import ACTION, METADATA_KEY, PolicySpec, TensorSpec

OPSET = 13
"""Default version of ONNX's operators."""
IR_VERSION = 8
"""Version of the file format. onnxruntime 1.15 reads up to 9, older engines up to 8."""


def build_model(actor: ActorNetwork, spec: PolicySpec, opset: int = OPSET) -> onnx.ModelProto:
    """Build the ONNX model of an actor, with its spec in the metadata.

    Args:
        actor: The policy.
        spec: The spec, which names the inputs and outputs.
        opset: Version of ONNX's operators.

    Raises:
        ExportError: The policy cannot be written with this opset.
    """
    if opset > newest_opset():
        raise ExportError(
            f"opset {opset} is newer than the installed onnx supports ({newest_opset()})"
        )
    graph = GraphBuilder(opset)
    _add_policy(graph, actor, spec)
    opset_id = helper.make_opsetid("", opset)
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
        ir_version=max(IR_VERSION, helper.find_min_ir_version_for([opset_id])),
        opset_imports=[opset_id],
    )
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ExportError(f"the policy cannot be written with opset {opset} ({reason})") from error
    return model


def _add_policy(graph: GraphBuilder, actor: ActorNetwork, spec: PolicySpec) -> None:
    sources = {tensor.key: tensor.name for tensor in spec.inputs}
    guard = None
    if spec.guard is not None:
        guard = FiniteGuard.add_to(graph, actor, sources, spec.guard.action)
        sources |= guard.sources
    observations = {each.name: add_observation(graph, each, sources) for each in actor.inputs}
    features = add_features(graph, actor.features, observations, "/features")
    latent = add_layers(graph, actor.layers, features, "/actor")
    add_layer(graph, actor.head, latent, "/actor/head", PARAMETERS)
    distribution = Distribution(graph, actor, latent)
    if guard is None:
        add_action(distribution, ACTION)
    else:
        add_action(distribution, UNGUARDED_ACTION)
        guard.select(graph, UNGUARDED_ACTION, actor.action_space, ACTION)
    for tensor in spec.outputs:
        if tensor.name == "value":
            _add_value(graph, actor, features, observations)
        elif tensor.name in OPTIONAL_OUTPUTS:
            _add_output(distribution, tensor.name)


def _add_value(
    graph: GraphBuilder, actor: ActorNetwork, features: str, observations: dict[str, str]
) -> None:
    critic = actor.critic
    if critic.features is not None:
        features = add_features(graph, critic.features, observations, "/critic_features")
    name = add_layers(graph, critic.layers, features, "/critic")
    graph.reshape(name, [-1], "value")


def _add_output(distribution: Distribution, name: str) -> None:
    graph, shape = distribution.graph, distribution.actor.action_space.shape
    if name == "logits":
        graph.add("Identity", [PARAMETERS], name)
    elif name == "mean":
        graph.reshape(PARAMETERS, [-1, *shape], name)
    elif name == "std":
        graph.reshape(distribution.batched_std(), [-1, *shape], name)
    elif name == "margin":
        add_margin(distribution, name)
    else:
        assert name == "log_prob"
        add_log_prob(distribution, name)


def _value_info(tensor: TensorSpec) -> onnx.ValueInfoProto:
    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    return helper.make_tensor_value_info(tensor.name, dtype, ["batch", *tensor.shape])
