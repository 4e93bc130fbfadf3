"""What the exported file does around the network, as text for the spec."""

from __future__ import annotations

from trpo_deploy.export.policy.network import ActorNetwork
from trpo_deploy.spec.spaces import BoxSpace, DiscreteSpace, MultiDiscreteSpace


def describe_preprocessing(actor: ActorNetwork) -> tuple[str, ...]:
    """One line for each step from the raw observation and one for the action."""
    steps = [f"{each.name}: {step.describe()}" for each in actor.inputs for step in each.steps]
    return (*steps, _describe_action(actor))


def _describe_action(actor: ActorNetwork) -> str:
    space = actor.action_space
    if isinstance(space, BoxSpace):
        if actor.squash:
            return "action: tanh of the Gaussian's mean, scaled to the action bounds"
        return "action: mean of the Gaussian, clipped to the action bounds"
    if isinstance(space, DiscreteSpace):
        start = f", counted from {space.start}" if space.start else ""
        return f"action: the most probable one{start}"
    if isinstance(space, MultiDiscreteSpace):
        start = ", each counted from its start" if space.start.any() else ""
        return f"action: the most probable value of each number{start}"
    return "action: 1 where the probability is above 0.5"
