"""A trained policy and what is known of its training."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trpo_deploy.envs.environment import Environment, find_environment
from trpo_deploy.envs.wrappers import wrapper_classes
from trpo_deploy.errors import TrpoDeployError
from trpo_deploy.sb3.observation_chain import ImageLayout
from trpo_deploy.sb3.reference import SB3Policy
from trpo_deploy.spec.spaces import DictSpace, Space

# Wrappers whose modules may be imported because a configuration names them.
_KNOWN_WRAPPERS = re.compile(
    r"(gymnasium\.wrappers|rl_zoo3\.wrappers|sb3_contrib\.common\.wrappers"
    r"|stable_baselines3\.common\.atari_wrappers):\w+"
)


ATARI_WRAPPER = "stable_baselines3.common.atari_wrappers:AtariWrapper"


@dataclass(frozen=True)
class SourceOptions:
    """What a user can say of a source that the source does not tell itself."""

    env_id: str | None = None
    """The environment, for real observations, returns and the layout of images."""
    image_layout: ImageLayout | None = None
    """How the environment lays out images."""
    frame_stack: int | None = None
    """Frames that ``VecFrameStack`` put together."""
    allow_import: tuple[str, ...] = ()
    """Classes of the user's own that the source may name, as ``package.module:Class``."""
    normalize_check: bool = True
    """Whether a run that says it normalised must have its statistics."""


@dataclass(frozen=True, eq=False)
class LoadedSource:
    """A policy as SB3 runs it, and what is known of its training."""

    reference: SB3Policy
    algorithm: str
    has_std: bool
    env_id: str | None
    env_kwargs: Mapping[str, Any]
    env_wrapper: tuple[dict[str, dict[str, Any]], ...]
    sha256: Mapping[str, str]
    sb3_version: str
    training: Mapping[str, float] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    """Entries of the zip that were not decoded, since nothing needs them."""
    allow_import: tuple[str, ...] = ()
    """See :class:`SourceOptions`."""

    def environment(self, asked: str | None, spaces: _Spaces) -> tuple[Environment | None, str]:
        """The environment asked for, or the source's own; and why there is none, or another.

        Raises:
            EnvError: the environment that was asked for cannot be made or does not fit.
        """
        env_id = asked or self.env_id
        if env_id is None:
            return None, "the source does not tell its environment; name it with --env"
        unknown = unknown_wrappers(self.env_wrapper, self.allow_import)
        if unknown and asked is None:
            return None, (
                f"the training wrapped {env_id} in {', '.join(unknown)}, which is not known here, "
                "so that the policy was not played; --allow-import module:Class allows it"
            )
        try:
            wrappers = None if unknown else list(self.env_wrapper)
            found = find_environment(env_id, dict(self.env_kwargs), *spaces, wrappers)
        except TrpoDeployError as error:
            if asked is not None:
                raise
            # The policy can be exported all the same; the certificate says what was not compared.
            return None, str(error)
        return found, found.note


_Spaces = tuple[Space | DictSpace, Space]


def unknown_wrappers(
    wrappers: Sequence[Mapping[str, Any]], allow_import: Sequence[str]
) -> list[str]:
    """The wrappers that may not be imported, as ``module:Class``."""
    names = wrapper_classes(wrappers)
    return [n for n in names if not _KNOWN_WRAPPERS.fullmatch(n) and n not in allow_import]
