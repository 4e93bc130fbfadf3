"""An environment by id, with arguments and wrappers, and the check that a policy fits it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces

from trpo_deploy.envs.failure import failure_message, missing_package, newest_version
from trpo_deploy.envs.spaces import frames_in, space_from_gymnasium
from trpo_deploy.envs.wrappers import wrap
from trpo_deploy.errors import EnvError, SpaceError, TrpoDeployError
from trpo_deploy.spec.spaces import (
    BoxSpace,
    DictSpace,
    Space,
)

AnyEnv: TypeAlias = gymnasium.Env[Any, Any]

FAILURES = (Exception, SystemExit)
"""What an environment may raise. It is foreign code, and may not end the program."""


@dataclass(frozen=True)
class Environment:
    """How to make an environment."""

    env_id: str
    """The Gymnasium id, ``Name-v0`` or ``module:Name-v0``."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of ``gymnasium.make``."""
    note: str = ""
    """How the environment differs from the one of the training, for the user."""
    env_wrapper: Any = None
    """Wrappers by name; see :func:`trpo_deploy.envs.wrappers.wrapper_list`."""
    frame_stack: int | None = None
    """Number of consecutive observations that are stacked into one."""

    def make(self, inside: Callable[[AnyEnv], AnyEnv] = lambda env: env) -> AnyEnv:
        """Make an instance.

        Args:
            inside: Wraps the environment before the wrappers do.

        Raises:
            EnvError: The environment cannot be made.
        """
        try:
            with warnings.catch_warnings():  # old versions of an id are used on purpose
                warnings.simplefilter("ignore", DeprecationWarning)
                made = gymnasium.make(self.env_id, **self.kwargs)
                return wrap(inside(made), self.env_wrapper, self.frame_stack)
        except TrpoDeployError:
            raise
        except FAILURES as error:
            raise EnvError(failure_message(self.env_id, error)) from error

    @contextmanager
    def opened(self, inside: Callable[[AnyEnv], AnyEnv] = lambda env: env) -> Iterator[AnyEnv]:
        """Make an instance and close it after the block. Errors while closing are ignored.

        Args:
            inside: Wraps the environment before the wrappers do.

        Raises:
            EnvError: The environment cannot be made.
        """
        made = self.make(inside)
        try:
            yield made
        finally:
            with suppress(Exception):
                made.close()


def layers_of(env: AnyEnv) -> Iterator[AnyEnv]:
    """The wrappers of an environment, the outermost first, then the environment itself."""
    yield env
    while isinstance(env, gymnasium.Wrapper):
        env = env.env
        yield env


def newest_environment(environment: Environment) -> Environment:
    """The environment, or its newest installed version if it cannot be made.

    Raises:
        EnvError: Neither can be made.
    """
    try:
        _check_can_be_made(environment)
    except EnvError as error:
        newest = newest_version(environment.env_id)
        if newest is None or newest == environment.env_id:
            raise
        # Where a package is missing, the newest version lacks it too.
        if missing_package(error.__cause__ or error):
            raise
        note = f"{newest} in place of {environment.env_id}: {error}"
        environment = replace(environment, env_id=newest, note=note)
        try:
            _check_can_be_made(environment)
        except EnvError as newer:
            raise EnvError(f"{error}, and {newer}") from newer
    return environment


def _check_can_be_made(environment: Environment) -> None:
    with environment.opened():
        pass


def find_environment(
    environment: Environment,
    observation_space: Space | DictSpace,
    action_space: Space,
    frame_stack: int = 1,
) -> Environment:
    """The environment, or its newest installed version, if its spaces are the policy's.

    Args:
        environment: How to make it.
        observation_space: The policy's; one frame of a stack.
        action_space: The policy's.
        frame_stack: Number of frames that the policy stacks, for the message.

    Raises:
        EnvError: The environment cannot be made, or its spaces are others.
    """
    environment = newest_environment(environment)
    with environment.opened() as made:
        for role, expected, found in (
            ("observations", observation_space, made.observation_space),
            ("actions", action_space, made.action_space),
        ):
            if not _fits(expected, found) or (role == "actions" and _scales(expected, found)):
                raise EnvError(_misfit(environment.env_id, role, expected, found, frame_stack))
    return environment


def _misfit(
    env_id: str,
    role: str,
    expected: Space | DictSpace,
    found: spaces.Space[Any],
    frame_stack: int,
) -> str:
    stack = _right_stack(expected, found, frame_stack) if role == "observations" else None
    if stack is None:
        return (
            f"{env_id} has the {role} {found}, but the policy was trained for "
            f"{expected.describe()}; name the right environment with --env"
        )
    frames = "" if frame_stack == 1 else f" in each of {frame_stack} frames"
    return (
        f"the policy takes observations of shape {_shapes(expected)}{frames}, which is a stack of "
        f"{stack} observations of {env_id}, of shape {_shapes(found)}; export the policy with "
        f"--frame-stack {stack}, or name the right environment with --env"
    )


def _shapes(space: Space | DictSpace | spaces.Space[Any]) -> str:
    if isinstance(space, (DictSpace, spaces.Dict)):
        return str({key: part.shape for key, part in space.spaces.items()})
    return str(space.shape)


def _right_stack(expected: Space | DictSpace, found: spaces.Space[Any], n_stack: int) -> int | None:
    """Number of stacked frames with which the policy would fit; ``None`` if no number does."""
    if isinstance(expected, DictSpace) and isinstance(found, spaces.Dict):
        if set(expected.spaces) != set(found.spaces):
            return None
        each = {_right_stack(part, found[key], n_stack) for key, part in expected.spaces.items()}
        return each.pop() if len(each) == 1 else None
    if not isinstance(expected, BoxSpace) or not isinstance(found, spaces.Box):
        return None
    shape = expected.shape
    stacks = [
        (*shape[:axis], size * n_stack, *shape[axis + 1 :]) for axis, size in enumerate(shape)
    ]
    numbers = {frames_in(stack, found.shape) for stack in stacks} - {None, n_stack}
    return numbers.pop() if len(numbers) == 1 else None


def _fits(expected: Space | DictSpace, found: spaces.Space[Any]) -> bool:
    """Whether two spaces are interchangeable. Box bounds may differ: versions change them."""
    try:
        space = space_from_gymnasium(found)
    except SpaceError:
        return False
    if isinstance(expected, DictSpace) and isinstance(found, spaces.Dict):
        return set(expected.spaces) == set(found.spaces) and all(
            _fits(part, found.spaces[key]) for key, part in expected.spaces.items()
        )
    if isinstance(expected, BoxSpace) and isinstance(space, BoxSpace):
        dtypes = {expected.low.dtype, space.low.dtype}
        same = len(dtypes) == 1 or {dtype.kind for dtype in dtypes} == {"f"}
        return expected.shape == space.shape and same
    return expected.to_json() == space.to_json()


def _scales(expected: Space | DictSpace, found: spaces.Space[Any]) -> bool:
    """Whether two Boxes of actions have other bounds, so that a number means another action."""
    if not isinstance(expected, BoxSpace) or not isinstance(found, spaces.Box):
        return False
    pairs = ((expected.low, found.low), (expected.high, found.high))
    return not all(np.allclose(own, other, rtol=1e-5) for own, other in pairs)
