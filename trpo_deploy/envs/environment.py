"""An environment by its id, with arguments and wrappers, and the check that a policy fits it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium
from gymnasium import spaces

from trpo_deploy.envs.spaces import space_from_gymnasium
from trpo_deploy.envs.wrappers import wrap
from trpo_deploy.errors import EnvError, SpaceError, TrpoDeployError
from trpo_deploy.spec.spaces import (
    BoxSpace,
    DictSpace,
    Space,
)

FAILURES = (Exception, SystemExit)
"""What an environment, somebody's code, may raise; to end the program is not its to choose."""


@dataclass(frozen=True)
class Environment:
    """An environment that a policy fits, and how it was found."""

    env_id: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    """Said in the certificate where the environment is not the one of the training."""
    env_wrapper: Any = None
    """Wrappers by dotted name; see :func:`trpo_deploy.envs.wrappers.wrapper_list`."""
    frame_stack: int | None = None
    """How many observations in a row the policy sees as one."""

    def make(self) -> gymnasium.Env[Any, Any]:
        """A new instance.

        Raises:
            EnvError: it cannot be made here.
        """
        try:
            with warnings.catch_warnings():  # old versions of an id are used on purpose here
                warnings.simplefilter("ignore", DeprecationWarning)
                made = gymnasium.make(self.env_id, **self.kwargs)
                return wrap(made, self.env_wrapper, self.frame_stack)
        except TrpoDeployError:
            raise
        except FAILURES as error:
            reason = " ".join(str(error).split())
            raise EnvError(f"the environment {self.env_id} cannot be made ({reason})") from error

    @contextmanager
    def opened(self) -> Iterator[gymnasium.Env[Any, Any]]:
        """A new instance, closed after the block; a failure of that is too late to matter.

        Raises:
            EnvError: it cannot be made here.
        """
        made = self.make()
        try:
            yield made
        finally:
            with suppress(Exception):
                made.close()


def newest_environment(environment: Environment) -> Environment:
    """The environment itself, or its newest version if that one cannot be made here.

    Raises:
        EnvError: neither can be made.
    """
    try:
        with environment.opened():
            pass
    except EnvError as error:
        newest = _newest_version(environment.env_id)
        if newest is None or newest == environment.env_id:
            raise
        note = f"{newest} in place of {environment.env_id}: {error}"
        environment = replace(environment, env_id=newest, note=note)
        with environment.opened():
            pass
    return environment


def find_environment(
    env_id: str,
    kwargs: dict[str, Any],
    observation_space: Space | DictSpace,
    action_space: Space,
    env_wrapper: Any = None,
    frame_stack: int | None = None,
) -> Environment:
    """The environment of that id, or its newest version here, if its spaces are the policy's.

    Raises:
        EnvError: there is none.
    """
    environment = newest_environment(
        Environment(env_id, kwargs, env_wrapper=env_wrapper, frame_stack=frame_stack)
    )
    with environment.opened() as made:
        for role, expected, found in (
            ("observations", observation_space, made.observation_space),
            ("actions", action_space, made.action_space),
        ):
            if not _fits(expected, found):
                raise EnvError(
                    f"{environment.env_id} has the {role} {found}, the policy was trained for "
                    f"{expected.describe()}; name the right environment with --env"
                )
    return environment


def _fits(expected: Space | DictSpace, found: spaces.Space[Any]) -> bool:
    """Whether observations or actions can be exchanged; bounds may differ between versions."""
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


def _newest_version(env_id: str) -> str | None:
    match = re.fullmatch(r"(.+)-v\d+", env_id)
    if match is None:
        return None
    versions = [
        spec.version
        for spec in gymnasium.registry.values()
        if spec.id == f"{match[1]}-v{spec.version}" and spec.version is not None
    ]
    return f"{match[1]}-v{max(versions)}" if versions else None
