"""Which names in an environment's record may be imported.

A record is text in a file, and making the environment imports the modules that it names. A file
of unknown origin must not choose what runs. Only these names are imported:

- wrappers of gymnasium, RL Zoo, sb3-contrib and Stable-Baselines3, except ``RecordVideo``, which
  writes files where its arguments say;
- names that the caller trusts: those that the user gave, and those in the configuration of the
  run that the file belongs to.

An id ``module:Name-v0`` names a module as well, and follows the same rule.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from trpo_deploy.spec.environment import EnvironmentSpec

_KNOWN_WRAPPERS = re.compile(
    r"(gymnasium\.wrappers(?!:RecordVideo)|rl_zoo3\.wrappers|sb3_contrib\.common\.wrappers"
    r"|stable_baselines3\.common\.atari_wrappers):\w+"
)

# Environments that make another one, of the id in their arguments, with the old gym.
_COMPATIBILITY_IDS = re.compile(r"GymV\d+Environment-v\d+")


def is_known_wrapper(name: str) -> bool:
    """Whether ``module:Class`` is a wrapper of a known library, which may be imported."""
    return _KNOWN_WRAPPERS.fullmatch(name) is not None


def imported_names(recorded: EnvironmentSpec) -> tuple[str, ...]:
    """Names whose modules are imported to make the environment: the wrappers' and the id."""
    return (*(wrapper.name for wrapper in recorded.wrappers), recorded.id)


def untrusted_names(recorded: EnvironmentSpec, trusted: Collection[str]) -> list[str]:
    """Names in a record that must not be imported: ``module:Class`` and ``module:Name-v0``.

    Args:
        recorded: The environment.
        trusted: Names that may be imported in addition to the known wrappers.
    """
    names = [wrapper.name for wrapper in recorded.wrappers if not is_known_wrapper(wrapper.name)]
    if ":" in recorded.id or _COMPATIBILITY_IDS.fullmatch(recorded.id):
        names.append(recorded.id)
    return [name for name in names if name not in trusted]
