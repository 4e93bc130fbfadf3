"""Outputs of an exported file: their names, dtypes and shapes."""

from __future__ import annotations

from collections.abc import Sequence

from trpo_deploy.errors import ExportError
from trpo_deploy.export.policy.network import ActorNetwork
from trpo_deploy.spec.policy_spec import ACTION, TensorSpec

OPTIONAL_OUTPUTS = ("value", "log_prob", "logits", "mean", "std", "margin")
"""Outputs that a user can add to the action."""
OBS_OK = "obs_ok"
"""Output of the guard: whether the observation is finite."""


def output_tensors(
    actor: ActorNetwork, optional: Sequence[str], *, guard: bool
) -> tuple[TensorSpec, ...]:
    """All outputs of a file: the action, the optional ones, the guard's, the next states.

    Args:
        actor: The policy.
        optional: Names out of :data:`OPTIONAL_OUTPUTS`.
        guard: Whether the file has a guard against NaN.

    Raises:
        ExportError: The policy does not have an optional output.
    """
    space = actor.action_space
    tensors = [TensorSpec(ACTION, str(space.dtype), space.shape)]
    tensors += [_optional_tensor(name, actor) for name in dict.fromkeys(optional)]
    if guard:
        tensors.append(TensorSpec(OBS_OK, "bool", ()))
    states = (
        TensorSpec(state.output, state.input.dtype, state.input.shape) for state in actor.states
    )
    return (*tensors, *states)


def _optional_tensor(name: str, actor: ActorNetwork) -> TensorSpec:
    if name not in OPTIONAL_OUTPUTS:
        expected = ", ".join(OPTIONAL_OUTPUTS)
        raise ExportError(f"unknown output {name!r}; expected one of {expected}")
    space, gaussian = actor.action_space, actor.is_gaussian
    if (name in ("mean", "std") and not gaussian) or (name in ("logits", "margin") and gaussian):
        has = "mean and std" if gaussian else "logits and margin"
        raise ExportError(
            f"a policy with {space.describe()} actions does not have the output {name!r}; "
            f"it has {has}"
        )
    if name in ("std", "log_prob") and gaussian and actor.std is None:
        raise ExportError(
            f"the output {name!r} cannot be exported: the zip is from SB3 before 1.8 and uses "
            "gSDE with separate features (sde_net_arch)"
        )
    shapes = {"mean": space.shape, "std": space.shape, "logits": actor.head.bias.shape}
    return TensorSpec(name, "float32", shapes.get(name, ()))
