"""A policy in a robot's control loop: names, time, and what to do when something is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from trpo_deploy.errors import ControlError
from trpo_deploy.runtime.action_output import ActionOutput
from trpo_deploy.runtime.faults import ON_FAULT, Fault, OnFault
from trpo_deploy.runtime.loop_stats import ControllerStats, LoopStats
from trpo_deploy.runtime.observation_input import DictInput, ObservationInput
from trpo_deploy.runtime.observation_range import Range, observation_ranges
from trpo_deploy.runtime.onnx_policy import OnnxPolicy
from trpo_deploy.runtime.orders import PerComponent, checked_order, positions, seconds
from trpo_deploy.runtime.punctuality import Punctuality
from trpo_deploy.spec.components import checked_period
from trpo_deploy.spec.policy_spec import ACTION, OBS, PolicySpec
from trpo_deploy.spec.spaces import Array, DictSpace

ObservationOrder: TypeAlias = Sequence[str] | Mapping[str, Sequence[str]]
"""Names in the robot's order; by key for a space with keys."""


class Controller:
    """A policy for one control loop in one thread, which gives an action in every call.

    ::

        controller = Controller(
            OnnxPolicy("policy.onnx"),
            observation_order=sensors.names,
            action_order=motors.names,
            period=0.02,
            max_age=0.05,
        )
        while running:
            values, stamp = sensors.read()
            motors.send(controller.act(values, stamp))

    An observation that is late, too old, malformed, not finite or out of range is a fault, and so
    is a network without a finite action. A fault does not stop the loop: it is counted, and the
    call gives the last or the safe action. Earlier frames and a blend-in stay as they are then.

    All arrays have the robot's order: flat, in the order given; without an order, the file's order
    and shape. The observation's range is, by name, the stated one; else the space's bounds and a
    tenth of their distance more; else the mean of the training and 100 standard deviations; else
    1e6.

    Args:
        policy: The policy. Several controllers may share it.
        observation_order: Names of the observation's numbers as the robot gives them; for a space
            with keys, by key.
        action_order: Names of the action's numbers as the robot takes them.
        period: Seconds between two calls of :meth:`act`. It must be the policy's, if that is known.
        period_tolerance: Largest relative difference between both.
        max_age: Largest age of an observation in seconds; then every call needs a ``stamp``.
        max_delay: How many seconds after its time a call may come; by default, one period.
        on_fault: ``hold`` gives the last action again, and the safe one after ``max_hold``.
            ``safe`` gives the safe action at once. ``raise`` raises :class:`ControlError`.
        max_hold: For how many seconds after the last usable call an action is held; by default, ten
            periods.
        safe_action: The action when nothing is known, also before the first usable observation: a
            number for all components, one for each, or by name. By default, the file's.
        rate_limit: Largest change of a component in units per second: a number for all, one for
            each, or by name for some. It applies to every action, the safe one too.
        blend_in: Seconds in which the action moves from the safe or current one to the policy's,
            after the start and after a safe action: for all components, for each, or by name.
        observation_range: ``(low, high)`` by name, in the observation's units.
        clock: Seconds, as those of the stamps.

    Raises:
        ControlError: The names, the period or another setting does not fit the policy, or there is
            no safe action.
    """

    def __init__(
        self,
        policy: OnnxPolicy,
        *,
        period: float,
        observation_order: ObservationOrder | None = None,
        action_order: Sequence[str] | None = None,
        period_tolerance: float = 0.01,
        max_age: float | None = None,
        max_delay: float | None = None,
        on_fault: OnFault = "hold",
        max_hold: float | None = None,
        safe_action: PerComponent | None = None,
        rate_limit: PerComponent | None = None,
        blend_in: PerComponent | None = None,
        observation_range: Mapping[str, Range] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if on_fault not in ON_FAULT:
            raise ControlError(f"on_fault is {on_fault!r}, expected one of {', '.join(ON_FAULT)}")
        if not callable(clock):
            raise ControlError(f"clock is {clock!r}, expected a function that returns seconds")
        spec = policy.spec
        period = _fitting_period(period, spec.period, period_tolerance)
        delay = period if max_delay is None else seconds(max_delay, "max_delay")
        age = None if max_age is None else seconds(max_age, "max_age")
        following = [state.output for state in spec.states]
        self._network = policy.bind([ACTION, *following])
        self._inputs = _inputs(spec, self._network.inputs, observation_order, observation_range)
        self._output = ActionOutput(
            spec,
            self._network.outputs[ACTION],
            action_order,
            period,
            safe_action=safe_action,
            rate_limit=rate_limit,
            blend_in=blend_in,
        )
        self._frames = [
            (self._network.inputs[state.input.key], self._network.outputs[state.output])
            for state in spec.states
        ]
        self._on_fault = on_fault
        self._max_hold = 10 * period if max_hold is None else seconds(max_hold, "max_hold")
        self._clock = clock
        self._punctuality = Punctuality(period + delay, age)
        self._stats = LoopStats(period)
        self._last_good: float | None = None
        self._last_fault: Fault | None = None

    @property
    def stats(self) -> ControllerStats:
        """Calls, faults and times so far. It takes about a millisecond: call it between loops."""
        return self._stats.snapshot()

    @property
    def last_fault(self) -> Fault | None:
        """Cause and text of the last fault, if there was one."""
        return self._last_fault

    def reset(self, action: PerComponent | None = None) -> None:
        """Start an episode: clear earlier frames and times, and blend in again. Statistics stay.

        Args:
            action: The action that the robot has now; the safe action by default.

        Raises:
            ControlError: The action does not fit the policy.
        """
        self._output.restart(action)
        for earlier, _ in self._frames:
            earlier.fill(0)
        self._punctuality.restart()
        self._last_good = None

    def act(self, observation: object, stamp: float | None = None) -> Array:
        """The action for the next observation.

        Args:
            observation: Raw numbers in the robot's order.
            stamp: When it was measured, in seconds of the controller's clock.

        Returns:
            The action in the robot's order, in the action space's bounds.

        Raises:
            ControlError: There is a fault, and ``on_fault`` is ``raise``.
        """
        start = time.perf_counter_ns()
        now = self._clock()
        interval = self._punctuality.interval(now)
        if interval is not None:
            self._stats.add_interval(interval)
        fault = (
            self._punctuality.check(interval, now, stamp)
            or self._inputs.read(observation)
            or self._compute()
        )
        if fault is None:
            self._last_good = now
            self._punctuality.accept(stamp)
            action = self._output.follow()
        else:
            self._last_fault = fault
            action = self._fallback(now)
        cause = None if fault is None else fault.cause
        self._stats.add_call(time.perf_counter_ns() - start, cause)
        if fault is not None and self._on_fault == "raise":
            raise ControlError(f"{fault.cause}: {fault.text}", fault.cause)
        return action

    def _compute(self) -> Fault | None:
        """Run the network; keep the frames for the next call if it has an action."""
        try:
            self._network.run()
        except Exception as error:  # onnxruntime's errors share no public base class
            return Fault("policy", str(error).partition("\n")[0])
        if not self._output.is_finite():
            return Fault("policy", "the network's action is not finite")
        for earlier, following in self._frames:
            np.copyto(earlier, following)
        return None

    def _fallback(self, now: float) -> Array:
        """The action of a call with a fault."""
        held = 0.0 if self._last_good is None else now - self._last_good
        if self._on_fault == "safe" or (self._on_fault == "hold" and held > self._max_hold):
            return self._output.make_safe()
        return self._output.hold()


def _fitting_period(period: float, trained: float | None, tolerance: float) -> float:
    """The loop's period, if it is the policy's."""
    try:
        checked = checked_period(period)
    except ValueError as error:
        raise ControlError(str(error)) from error
    seconds(tolerance, "period_tolerance")
    if trained is not None and abs(checked - trained) > tolerance * trained:
        raise ControlError(
            f"the loop's period is {checked:g} s ({1 / checked:g} Hz), but the policy was trained "
            f"with {trained:g} s ({1 / trained:g} Hz); run the loop at the policy's period"
        )
    return checked


def _inputs(
    spec: PolicySpec,
    buffers: Mapping[str, Array],
    order: ObservationOrder | None,
    stated: Mapping[str, Range] | None,
) -> ObservationInput | DictInput:
    """Readers of the observation's arrays."""
    has_keys = isinstance(spec.observation_space, DictSpace)
    orders = _orders_by_key(spec, order, has_keys)
    ranges = observation_ranges(spec, stated or {})
    readers = {}
    for key in spec.observation_spaces:
        names = [each.name for each in spec.observation_components.get(key, ())]
        given = orders.get(key)
        taken = None if given is None else positions(given, names)
        readers[key] = ObservationInput(key, buffers[key], *ranges[key], taken, names)
    return DictInput(readers) if has_keys else readers[OBS]


def _orders_by_key(
    spec: PolicySpec, order: ObservationOrder | None, has_keys: bool
) -> dict[str, tuple[str, ...]]:
    if order is None:
        return {}
    if isinstance(order, Mapping) != has_keys:
        expected = f"a mapping from {', '.join(spec.observation_spaces)}" if has_keys else "a list"
        raise ControlError(f"observation_order is {type(order).__name__}, expected {expected}")
    by_key = order if isinstance(order, Mapping) else {OBS: order}
    for key in by_key:
        if key not in spec.observation_spaces:
            expected = ", ".join(spec.observation_spaces)
            raise ControlError(f"observation_order has the key {key!r}, expected {expected}")
    return {
        key: checked_order(
            names, spec.observation_components.get(key, ()), f"the observation {key!r}"
        )
        for key, names in by_key.items()
    }
