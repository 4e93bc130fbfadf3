"""What a program around the policy needs to know: names, control period, safe action."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trpo_deploy.export.graph.guard import safe_action
from trpo_deploy.spec.components import Component
from trpo_deploy.spec.policy_spec import PolicySpec
from trpo_deploy.spec.spaces import Array


@dataclass(frozen=True, eq=False)
class RobotFacts:
    """Facts of a spec, as far as it has them."""

    safe_action: Array
    """Action for an observation that is not usable, of the action's shape and dtype."""
    period: float | None = None
    """Seconds between two actions."""
    observation_components: Mapping[str, tuple[Component, ...]] = field(default_factory=dict)
    """Key -> name and unit of each number."""
    action_components: tuple[Component, ...] = ()
    """Name and unit of each number of the action; of a discrete action, of each value."""
    tells_safe_action: bool = True
    """Whether the policy tells the safe action; else it is the value closest to zero."""


def robot_facts(spec: PolicySpec) -> RobotFacts:
    """Read the facts of a spec."""
    safe = safe_action(spec.action_space) if spec.safe_action is None else spec.safe_action
    return RobotFacts(
        safe,
        spec.period,
        spec.observation_components,
        spec.action_components,
        tells_safe_action=spec.safe_action is not None,
    )
