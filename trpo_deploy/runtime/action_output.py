"""From the network's action to the robot's: order, blend-in, rate limits, safe and held actions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from trpo_deploy.errors import ControlError
from trpo_deploy.runtime.orders import (
    PerComponent,
    Positions,
    checked_order,
    per_component,
    positions,
)
from trpo_deploy.runtime.transition import BlendIn, RateLimit
from trpo_deploy.spec.components import checked_action, number_of
from trpo_deploy.spec.policy_spec import PolicySpec
from trpo_deploy.spec.spaces import Array, BoxSpace, DiscreteSpace


class ActionOutput:
    """The actions that a robot gets, in its order.

    Args:
        spec: The policy's spec.
        buffer: The network's output, ``(1, *shape)``.
        order: Names as the robot takes them; ``None`` for the file's order.
        period: Seconds between two actions.
        safe_action: The action when nothing is known; ``None`` for the file's.
        rate_limit: Largest change in units per second.
        blend_in: Seconds from the first action to the policy's.

    Raises:
        ControlError: A setting does not fit the policy, or there is no safe action.
    """

    def __init__(
        self,
        spec: PolicySpec,
        buffer: Array,
        order: Sequence[str] | None,
        period: float,
        *,
        safe_action: PerComponent | None,
        rate_limit: PerComponent | None,
        blend_in: PerComponent | None,
    ) -> None:
        self._space = space = spec.action_space
        self._policy_names = [each.name for each in spec.action_components]
        if isinstance(space, DiscreteSpace):
            self._policy_names = []  # these are names of values, not of numbers
            if order is not None:
                raise ControlError("a Discrete action is one number; leave action_order out")
        self._names = self._policy_names
        self._positions: Positions | None = None
        if order is not None:
            self._names = [*checked_order(order, spec.action_components, "the action")]
            self._positions = positions(self._policy_names, self._names)
        self._shape = space.shape if order is None else (number_of(space),)
        self._size = number_of(space)
        self._computed = buffer.reshape(-1)
        self._is_real = buffer.dtype.kind == "f"
        self._ordered = np.zeros_like(self._computed)
        self._blend, self._limit = self._transitions(rate_limit, blend_in, period)
        self._safe = self._safe_action(safe_action, spec.safe_action)
        self._last = self._safe.copy()
        self._given = self._last.reshape(self._shape)
        self.restart(None)

    def is_finite(self) -> bool:
        """Whether the network's action is finite."""
        # A sum of float32 numbers as float64 is finite if and only if all of them are.
        return not self._is_real or math.isfinite(sum(self._computed.tolist()))

    def follow(self) -> Array:
        """The action after a usable observation: the network's, with blend-in and rate limits."""
        action = self._computed
        if self._positions is not None:
            action = action.take(self._positions, out=self._ordered, mode="clip")
        if self._blend is not None:
            action = self._blend.mix(action)
        return self._give(action)

    def hold(self) -> Array:
        """The last action."""
        return self._given.copy()

    def make_safe(self) -> Array:
        """The safe action, with rate limits. The next blend-in begins there."""
        action = self._give(self._safe)
        if self._blend is not None:
            self._blend.restart(self._last)
        return action

    def restart(self, action: PerComponent | None) -> None:
        """Begin again from an action of the robot; from the safe one by default.

        Raises:
            ControlError: The action does not fit the policy.
        """
        current = self._safe if action is None else self._checked(action, "the current action")
        np.copyto(self._last, current)
        if self._blend is not None:
            self._blend.restart(self._last)

    def _give(self, action: Array) -> Array:
        if self._limit is not None:
            action = self._limit.limit(action, self._last)
        self._last[...] = action
        return self._given.copy()  # callers keep and change actions

    def _transitions(
        self, rate_limit: PerComponent | None, blend_in: PerComponent | None, period: float
    ) -> tuple[BlendIn | None, RateLimit | None]:
        space, blend, limit = self._space, None, None
        if rate_limit is None and blend_in is None:
            return None, None
        if not isinstance(space, BoxSpace) or not self._is_real:
            raise ControlError(
                f"rate_limit and blend_in need real numbers, but the action is {space.describe()}"
            )
        if rate_limit is not None:
            rates = per_component(rate_limit, self._names, self._size, "rate_limit", np.inf)
            if not (rates > 0).all():
                raise ControlError("rate_limit must be positive, in units per second")
            limit = RateLimit(rates, period, self._computed.dtype)
        if blend_in is not None:
            durations = per_component(blend_in, self._names, self._size, "blend_in", 0)
            if not ((durations >= 0) & np.isfinite(durations)).all():
                raise ControlError("blend_in must be at least 0, in seconds")
            low, high = (self._in_order(each.reshape(-1)) for each in space.inner_bounds)
            blend = BlendIn(durations, period, low, high)
        return blend, limit

    def _safe_action(self, stated: PerComponent | None, known: Array | None) -> Array:
        if stated is not None:
            return self._checked(stated, "the safe action")
        if known is None:
            raise ControlError(
                "neither the file nor the controller has a safe action; pass safe_action, what the "
                "robot shall do when nothing is known"
            )
        return self._in_order(known.reshape(-1))

    def _checked(self, value: PerComponent, what: str) -> Array:
        """An action in the robot's order, checked by the space."""
        numbers = per_component(value, self._names, self._size, what)
        space = self._space
        if not self._is_real and (numbers != np.round(numbers)).any():
            raise ControlError(f"{what} is {numbers}, expected integers")
        inverse = None if self._positions is None else np.argsort(self._positions)
        ordered = numbers if inverse is None else numbers[inverse]
        whole = ordered if self._is_real else ordered.astype(np.int64)
        try:
            checked = checked_action(whole.reshape(space.shape), space)
        except ValueError as error:
            raise ControlError(str(error).replace("the safe action", what)) from error
        return self._in_order(checked.reshape(-1))

    def _in_order(self, action: Array) -> Array:
        """A flat action of the file's order in the robot's order."""
        return action.copy() if self._positions is None else action[self._positions]
