"""Names, units, control period and safe action of a source: found, and told by a file."""

from __future__ import annotations

from pathlib import Path

from trpo_deploy.envs.components import fitting
from trpo_deploy.envs.spaces import space_from_gymnasium
from trpo_deploy.errors import SpaceError
from trpo_deploy.files.names_file import names_template, read_names
from trpo_deploy.files.runs import Run
from trpo_deploy.sb3.from_files import load_source
from trpo_deploy.sb3.source import LoadedSource, SourceOptions
from trpo_deploy.spec.components import ControlSpec, periods_differ
from trpo_deploy.spec.policy_spec import spaces_by_key
from trpo_deploy.spec.spaces import DictSpace, Space


def control_of(
    loaded: LoadedSource,
    observation_space: Space | DictSpace,
    action_space: Space,
    names: Path | None = None,
) -> tuple[ControlSpec, tuple[str, ...]]:
    """What is known about a policy's observations and actions, and notes for the user.

    Args:
        loaded: The policy.
        observation_space: Of the exported file.
        action_space: Of the exported file.
        names: File that wins over what is found.

    Raises:
        ConfigError: The file does not fit the spaces.
    """
    spaces = spaces_by_key(observation_space)
    found, notes = loaded.control()
    known = fitting(found, spaces, action_space)
    if names is not None:
        stated = read_names(names, spaces, action_space)
        if periods_differ(stated.period, known.period):
            notes = (
                *notes,
                f"{names} states a period of {stated.period} s, but the environment's is "
                f"{known.period} s, which the policy was trained with",
            )
        known = known.updated(stated)
    return known, notes


def source_template(source: Run, reading: SourceOptions) -> str:
    """A file with names for a source that is not exported yet.

    Raises:
        ExportError: The source cannot be read.
        SpaceError: The action space is not supported.
    """
    loaded = load_source(source, reading)
    observation_space = loaded.reference.frame_space
    action_space = space_from_gymnasium(loaded.reference.action_space)
    if isinstance(action_space, DictSpace):
        raise SpaceError("an action space cannot be a Dict")
    known, _ = control_of(loaded, observation_space, action_space)
    return names_template(known, spaces_by_key(observation_space), action_space)
