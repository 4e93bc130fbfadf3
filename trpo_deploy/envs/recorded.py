"""An environment as a policy's spec records it: writing the record, and making it again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from gymnasium import spaces

from trpo_deploy.envs.environment import Environment, find_environment, newest_environment
from trpo_deploy.envs.known_wrappers import STATISTICS, public_name
from trpo_deploy.envs.trust import untrusted_names
from trpo_deploy.envs.wrappers import wrapper_list
from trpo_deploy.errors import EnvError
from trpo_deploy.files.runs import RunSettings
from trpo_deploy.spec.codec import plain_to_json
from trpo_deploy.spec.environment import EnvironmentSpec, WrapperSpec
from trpo_deploy.spec.spaces import DictSpace, Space


def record_environment(environment: Environment) -> EnvironmentSpec:
    """The record of an environment. Arguments that are not plain values are named in it.

    Raises:
        ConfigError: The wrappers are written in an unknown form.
    """
    unrecorded = [name for name, value in environment.kwargs.items() if not is_plain({name: value})]
    arguments = {
        name: value for name, value in environment.kwargs.items() if name not in unrecorded
    }
    wrappers = []
    for each in wrapper_list(environment.env_wrapper):
        for name, wrapper_arguments in each.items():
            wrapper = WrapperSpec(name, wrapper_arguments)
            if is_plain(wrapper_arguments):
                wrappers.append(wrapper)
            else:
                unrecorded.append(wrapper.name)
    return EnvironmentSpec(
        id=environment.env_id,
        arguments=arguments,
        wrappers=tuple(wrappers),
        frame_stack=environment.frame_stack or 1,
        unrecorded=tuple(unrecorded),
    )


def recorded_by_run(settings: RunSettings) -> EnvironmentSpec:
    """The record of a run's environment; its id is empty if the run does not tell it.

    Raises:
        ConfigError: The wrappers are written in an unknown form.
    """
    return record_environment(
        Environment(
            settings.env_id or "",
            dict(settings.env_kwargs),
            env_wrapper=settings.env_wrapper,
            frame_stack=settings.frame_stack,
        )
    )


def environment_of(recorded: EnvironmentSpec, *, stack_frames: bool = False) -> Environment:
    """The environment of a record; not checked for untrusted names.

    Args:
        recorded: The environment.
        stack_frames: Whether the environment stacks frames, because the policy does not.
    """
    wrappers = [{wrapper.name: dict(wrapper.arguments)} for wrapper in recorded.wrappers]
    return Environment(
        recorded.id,
        dict(recorded.arguments),
        env_wrapper=wrappers or None,
        frame_stack=recorded.frame_stack if stack_frames and recorded.frame_stack > 1 else None,
    )


def recorded_space(recorded: EnvironmentSpec, trusted: Collection[str]) -> spaces.Space[Any]:
    """The observation space of a recorded environment, one frame.

    Raises:
        EnvError: The environment cannot be made, or names code that must not be imported.
    """
    _check_trusted(recorded, untrusted_names(recorded, trusted))
    with newest_environment(environment_of(recorded)).opened() as made:
        return made.observation_space


def remake_environment(
    recorded: EnvironmentSpec,
    observation_space: Space | DictSpace,
    action_space: Space,
    *,
    asked: bool = False,
    trusted: Collection[str] = (),
    stack_frames: bool = False,
) -> Environment:
    """The recorded environment, if its spaces are the policy's.

    Args:
        recorded: The environment.
        observation_space: The policy's; one frame unless ``stack_frames``.
        action_space: The policy's.
        asked: Whether the user named the environment's id, which is trusted then. Its recorded
            arguments and wrappers stay; what the record lacks is named in a note.
        trusted: See :func:`~trpo_deploy.envs.trust.untrusted_names`.
        stack_frames: See :func:`environment_of`.

    Raises:
        EnvError: The environment cannot be made, does not fit, or names code that must not be
            imported. Unless ``asked``: also if its record is incomplete.
    """
    notes = []
    _check_trusted(
        recorded, untrusted_names(recorded, (*trusted, recorded.id) if asked else trusted)
    )
    if not asked:
        _check_complete(recorded)
    found = find_environment(
        environment_of(recorded, stack_frames=stack_frames),
        observation_space,
        action_space,
        1 if stack_frames else recorded.frame_stack,
    )
    if recorded.unrecorded is None:
        notes.append(
            "the file records the environment's id only, not its arguments and wrappers; "
            "export the policy again to record them"
        )
    elif recorded.unrecorded:
        notes.append(f"played without {', '.join(recorded.unrecorded)}, which the file cannot hold")
    notes += [
        f"{wrapper.name} starts with new statistics: those of the training are in no file"
        for wrapper in recorded.wrappers
        if public_name(wrapper.name) in STATISTICS
    ]
    return replace(found, note="; ".join(filter(None, [found.note, *notes])))


def _check_trusted(recorded: EnvironmentSpec, untrusted: list[str]) -> None:
    if recorded.id in untrusted:
        raise EnvError(
            f"the environment {recorded.id} names a module that was not imported, since a file "
            f"chose it; if you trust it, name it with --env {recorded.id}"
        )
    if untrusted:
        allowed = " ".join(f"--allow-import {name}" for name in untrusted)
        raise EnvError(
            f"the training wrapped {recorded.id} in {', '.join(untrusted)}, which is not a wrapper "
            "of a known library, so it was not imported and the policy not played; allow it, which "
            f"runs its code, with {allowed}"
        )


def _check_complete(recorded: EnvironmentSpec) -> None:
    if recorded.unrecorded:
        raise EnvError(
            f"the environment {recorded.id} was made with {', '.join(recorded.unrecorded)}, which "
            f"the file cannot hold; play without it with --env {recorded.id}"
        )


def is_plain(arguments: Mapping[str, Any]) -> bool:
    """Whether JSON can represent the arguments."""
    try:
        plain_to_json(arguments)
    except TypeError:
        return False
    return True
