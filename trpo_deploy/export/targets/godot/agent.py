"""What an agent of Godot must have for a policy: the keys and sizes of its dictionaries."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from trpo_deploy.export.targets.games.actions import Branches
from trpo_deploy.export.targets.godot.consumer import CONTINUOUS, DISCRETE, GodotAction
from trpo_deploy.spec.policy_spec import Inputs, PolicySpec, StateSpec, state_name
from trpo_deploy.spec.spaces import Array, BoxSpace


def stack_of(spec: PolicySpec, key: str) -> StateSpec | None:
    """The earlier frames of an observation, if the policy stacks frames."""
    return next((each for each in spec.states if each.input.name == state_name(key)), None)


def stack_axis(shape: tuple[int, ...], stack: StateSpec) -> int:
    """Axis of a batch along which the frames of the given shape are stacked."""
    pairs = zip(shape, stack.input.shape, strict=True)
    return next((1 + index for index, (one, all_) in enumerate(pairs) if one != all_), 1)


def observation_sizes(spec: PolicySpec) -> dict[str, int]:
    """How many numbers ``get_obs`` returns for each key, those of earlier frames included."""
    sizes = {}
    for key, space in spec.observation_spaces.items():
        stack = stack_of(spec, key)
        earlier = 0 if stack is None else int(np.prod(stack.input.shape))
        sizes[key] = earlier + int(np.prod(space.shape))
    return sizes


def action_space(spec: PolicySpec) -> dict[str, GodotAction]:
    """What ``get_action_space`` returns."""
    space = spec.action_space
    if isinstance(space, BoxSpace):
        return {"action": GodotAction(int(np.prod(space.shape)), CONTINUOUS)}
    sizes = Branches.of(space).sizes
    keys = ["action"] if len(sizes) == 1 else [f"action_{index}" for index in range(len(sizes))]
    return {key: GodotAction(size, DISCRETE) for key, size in zip(keys, sizes, strict=True)}


def observe(spec: PolicySpec, batch: Inputs) -> Mapping[str, Array]:
    """What ``get_obs`` returns for each row: float32, ``(batch, numbers)`` by key."""
    observed = {}
    for key, space in spec.observation_spaces.items():
        rows, stack = len(batch[key]), stack_of(spec, key)
        frames = [batch[key]]
        if stack is not None:
            axis, earlier = stack_axis(space.shape, stack), batch[stack.input.key]
            length = batch[key].shape[axis]
            count = earlier.shape[axis] // length
            frames = [*np.split(earlier, count, axis=axis), batch[key]]  # the oldest first
        flat = np.concatenate([each.reshape(rows, -1) for each in frames], axis=1)
        with np.errstate(over="ignore"):
            observed[key] = flat.astype(np.float32)
    return observed
