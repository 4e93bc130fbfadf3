"""The environment of a model in memory: which of its wrappers the file contains, and which not.

From the environment outwards, a model's environment has Gymnasium wrappers, a vec env, and vec-env
wrappers. The file maps what the recorded environment gives to what it takes. So each wrapper must
be one of these:

- without effect on observations and actions, such as ``Monitor`` and ``TimeLimit``;
- a part of the recorded environment, which can be made again with it: a known wrapper that records
  its arguments;
- a part of the file: a known pure function (:mod:`~trpo_deploy.sb3.inside_wrappers`), and
  ``VecNormalize``, ``VecFrameStack`` and ``VecTransposeImage``.

Every other wrapper is refused by its name, unless the user allows it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import RecordConstructorArgs
from gymnasium.wrappers import OrderEnforcing
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecNormalize,
    VecTransposeImage,
)

from trpo_deploy.envs.known_wrappers import (
    OF_THE_TASK,
    STATISTICS,
    WITHOUT_EFFECT,
    class_name,
    public_name,
)
from trpo_deploy.envs.recorded import is_plain
from trpo_deploy.envs.trust import is_known_wrapper
from trpo_deploy.errors import ExportError
from trpo_deploy.sb3.inside_wrappers import InsideWrappers, can_be_inside, same_wrappers

AnyEnv: TypeAlias = gymnasium.Env[Any, Any]
AnyWrapper: TypeAlias = gymnasium.Wrapper[Any, Any, Any, Any]

_VEC_WITHOUT_EFFECT = {
    "stable_baselines3.common.vec_env.vec_check_nan:VecCheckNan",
    "stable_baselines3.common.vec_env.vec_monitor:VecMonitor",
    "stable_baselines3.common.vec_env.vec_video_recorder:VecVideoRecorder",
    "trpo_deploy.train.vec_env.checked:CheckedVecEnv",
}

_VEC_ENVS = (DummyVecEnv, SubprocVecEnv)
_SYNC = "trpo_deploy.train.vec_env.sync:SyncVecEnv"
"""This project's; it changes nothing."""

_GONE = (
    "a process of the model's SubprocVecEnv has ended: its environment's spec cannot be sent to "
    "another process; export the model with a DummyVecEnv (model.set_env)"
)


@dataclass(frozen=True, eq=False)
class EnvWrapper:
    """A Gymnasium wrapper of a model's environment."""

    name: str
    """``module:Class``; only the class's name if its module is unknown."""
    arguments: Mapping[str, Any] | None
    """Arguments of its constructor; ``None`` if it does not record them."""
    instance: AnyWrapper | None
    """``None`` if it lives in another process."""

    @property
    def keeps_spaces(self) -> bool:
        """Whether neither observations nor actions depend on it."""
        return _is_one_of(self.name, WITHOUT_EFFECT | OF_THE_TASK)


@dataclass(frozen=True, eq=False)
class EnvironmentInMemory:
    """A model's environment, as the export sees it."""

    env: VecEnv
    """With all its wrappers."""
    statistics: VecNormalize | None
    """The normaliser; it may normalise rewards only."""
    inside: InsideWrappers
    outside: tuple[EnvWrapper, ...]
    """Gymnasium wrappers that are not in the file and have an effect, from the environment
    outwards."""
    depth: int
    """Number of the first Gymnasium wrappers that are part of the environment. All later ones are
    in the file or keep observations and actions as they are."""


def recorded_part(environment: EnvironmentInMemory) -> AnyEnv | None:
    """The first environment without the wrappers that the file contains.

    Returns:
        ``None`` if it lives in another process.
    """
    base = base_env(environment.env)
    if not isinstance(base, DummyVecEnv):
        return None
    (env, *_) = base.envs
    later = gym_wrappers(env)[environment.depth :]
    return later[0].env if later else env


def read_environment(env: VecEnv, allowed: Collection[str]) -> EnvironmentInMemory:
    """Read the wrappers of a model's environment.

    Args:
        env: ``model.get_env()``.
        allowed: Names of wrappers that the user allows; see ``SourceOptions.allow_wrappers``.

    Raises:
        ExportError: A wrapper is neither without effect, nor part of the recorded environment, nor
            part of the file; the message names it.
    """
    statistics = _read_vec_wrappers(env, allowed)
    found = [_read_chain(env, statistics, chain, allowed) for chain in _chains(env)]
    first = found[0]
    for other in found[1:]:
        if other.depth != first.depth or not same_wrappers(first.inside, other.inside):
            names = ", ".join(each.name for each in _chains(env)[0] if not each.keeps_spaces)
            raise ExportError(
                f"the model's environments are not all wrapped alike in {names} (for example, each "
                "has its own running statistics), so no single file fits them; give the model one "
                "environment with model.set_env, or normalise with VecNormalize"
            )
    return first


def base_env(env: VecEnv) -> VecEnv:
    """The vec env inside all vec-env wrappers."""
    while isinstance(env, VecEnvWrapper):
        env = env.venv
    return env


def gym_wrappers(env: AnyEnv) -> list[AnyWrapper]:
    """The wrappers around what ``gymnasium.make`` returned, from the environment outwards.

    ``make`` puts an order enforcer around the environment, unless its registration says otherwise.
    All that is inside of the innermost enforcer belongs to the environment's id.
    """
    spec = env.unwrapped.spec
    registered = None if spec is None else gymnasium.registry.get(spec.id)
    is_enforced = registered is not None and registered.order_enforce
    found: list[AnyWrapper] = []
    while isinstance(env, gymnasium.Wrapper):
        found.append(env)
        env = env.env
    made = [
        index
        for index, each in enumerate(found)
        if is_enforced and isinstance(each, OrderEnforcing)
    ]
    return found[: max(made, default=len(found))][::-1]


def has_effect(wrapper: VecEnvWrapper) -> bool:
    """Whether a vec-env wrapper is not known to keep observations and actions as they are."""
    if type(wrapper) is VecNormalize:
        return wrapper.norm_obs
    if type(wrapper) is VecTransposeImage:
        return not wrapper.skip
    return class_name(wrapper) not in _VEC_WITHOUT_EFFECT


def _read_vec_wrappers(env: VecEnv, allowed: Collection[str]) -> VecNormalize | None:
    """Check the vec-env wrappers; return the normaliser."""
    seen: dict[type[VecEnvWrapper], VecEnvWrapper] = {}
    while isinstance(env, VecEnvWrapper):
        name, kind = class_name(env), type(env)
        if kind in seen and has_effect(env) and has_effect(seen[kind]):
            raise ExportError(
                f"the model's environment is wrapped in two {kind.__name__}, of which the file can "
                "hold one; train with one"
            )
        if kind in (VecNormalize, VecFrameStack, VecTransposeImage):
            # A normaliser of rewards only makes way for one of observations.
            if has_effect(env) or (kind is VecNormalize and kind not in seen):
                seen[kind] = env
        elif has_effect(env) and name not in allowed:
            raise ExportError(
                f"the model's environment is wrapped in {name}, which export_model does not know; "
                "if it changes neither observations nor actions, export with "
                f"SourceOptions(allow_wrappers=({name!r},))"
            )
        env = env.venv
    _check_base(env, allowed)
    normalize = seen.get(VecNormalize)
    return normalize if isinstance(normalize, VecNormalize) else None


def _check_base(env: VecEnv, allowed: Collection[str]) -> None:
    """Refuse a subclass of SB3's vec envs, which may change what its environments give and take.

    Any other vec env is itself the environment.
    """
    name = class_name(env)
    is_own = isinstance(env, _VEC_ENVS) and type(env) not in _VEC_ENVS
    if is_own and name not in {*allowed, _SYNC}:
        raise ExportError(
            f"the model's environment is a {name}, which export_model does not know; if it changes "
            "neither observations nor actions, export with "
            f"SourceOptions(allow_wrappers=({name!r},))"
        )


def _read_chain(
    env: VecEnv,
    statistics: VecNormalize | None,
    wrappers: list[EnvWrapper],
    allowed: Collection[str],
) -> EnvironmentInMemory:
    """Divide the Gymnasium wrappers of one environment into the outer and the inner ones."""
    fits = [each.name not in allowed and can_be_inside(each.instance) for each in wrappers]
    depth = 0
    for index, each in enumerate(wrappers):
        if not (fits[index] or each.keeps_spaces):
            depth = index + 1
    for each in wrappers[:depth]:
        _check_outside(each, allowed)
    inside = [
        each.instance
        for each, is_inside in zip(wrappers[depth:], fits[depth:], strict=True)
        if is_inside and each.instance is not None
    ]
    outside = (
        each
        for each in wrappers
        if each.instance not in inside and not _is_one_of(each.name, WITHOUT_EFFECT)
    )
    return EnvironmentInMemory(env, statistics, InsideWrappers.of(inside), tuple(outside), depth)


def _check_outside(wrapper: EnvWrapper, allowed: Collection[str]) -> None:
    """Check that the recorded environment has the wrapper.

    Raises:
        ExportError: The wrapper cannot be made again.
    """
    name = wrapper.name
    if wrapper.keeps_spaces or name in allowed:
        return
    learns = name in STATISTICS
    recorded = wrapper.arguments is not None and is_plain(wrapper.arguments)
    if recorded and is_known_wrapper(name) and not learns:
        return
    problem = (
        "whose statistics the file cannot hold there"
        if learns
        else "which the file cannot hold and no record can make again"
    )
    raise ExportError(
        f"the model's environment is wrapped in {name}, {problem}; to leave it outside of the "
        "file, as a part of the environment, export with "
        f"SourceOptions(allow_wrappers=({name!r},))"
    )


def _chains(env: VecEnv) -> list[list[EnvWrapper]]:
    """The Gymnasium wrappers of each environment; none for a vec env of another kind."""
    base = base_env(env)
    if isinstance(base, DummyVecEnv):
        return [[_wrapper(each) for each in gym_wrappers(made)] for made in base.envs]
    if isinstance(base, SubprocVecEnv):
        return [_wrappers_in_process(base)]
    return [[]]


def _wrapper(instance: AnyWrapper) -> EnvWrapper:
    arguments = None
    if isinstance(instance, RecordConstructorArgs):
        arguments = {name: each for name, each in instance._saved_kwargs.items() if name != "env"}
    return EnvWrapper(class_name(instance), arguments, instance)


def _wrappers_in_process(env: SubprocVecEnv) -> list[EnvWrapper]:
    """The wrappers of an environment in another process, as far as their names tell.

    The objects are not asked for: a wrapper that cannot be pickled would end the process.
    """
    spec = gymnasium_spec(env)
    wrappers = () if spec is None else spec.additional_wrappers
    recorded = {each.name: (public_name(each.entry_point), each.kwargs) for each in wrappers}
    names = _names_in_process(env)
    made = [index for index, each in enumerate(names) if each == "OrderEnforcing"]
    own = names[: max(made, default=len(names))]
    found = [recorded.get(name, (_in_process(name, made), None)) for name in reversed(own)]
    return [EnvWrapper(*each, None) for each in found]


def _in_process(name: str, made: list[int]) -> str:
    """The name of a wrapper that is not recorded.

    Without ``gymnasium.make`` only ``Monitor``, which SB3 puts around every environment, is known
    by its class's name: another class may have the name of a known one.
    """
    return name if made or name == "Monitor" else f"{name} (in another process)"


def _names_in_process(env: SubprocVecEnv) -> list[str]:
    """The classes of all wrappers of an environment, from the outermost inwards.

    Raises:
        ExportError: The environments are wrapped differently, or cannot be asked.
    """
    try:
        texts = set(env.env_method("__str__"))
    except (EOFError, OSError) as error:
        raise ExportError(_GONE) from error
    if len(texts) > 1:
        raise ExportError(
            f"the model's environments are not all wrapped alike: {', '.join(sorted(texts))}; no "
            "single file fits them"
        )
    (text,) = texts
    # <Monitor<TimeLimit<CartPoleEnv<CartPole-v1>>>>, or <Monitor<MyEnv instance>>.
    return re.findall(r"<(\w+)", re.sub(r"<\w+( instance|<[^<> ]*>)>.*$", "", text))


def gymnasium_spec(base: VecEnv) -> EnvSpec | None:
    """The Gymnasium spec of a vec env's first environment, with the time limit around it.

    Of an environment in another process only if all wrappers are known, since the spec holds their
    arguments, and one that cannot be pickled would end the process.
    """
    if isinstance(base, SubprocVecEnv) and not all(map(_can_be_sent, _names_in_process(base))):
        return None
    try:
        (spec, *_) = base.get_attr("spec", indices=[0])
        if spec is None and isinstance(base, DummyVecEnv):  # a wrapper's arguments cannot be copied
            spec = base.envs[0].unwrapped.spec
    except (AttributeError, TypeError, ValueError):  # not a Gymnasium environment
        return None
    except (EOFError, OSError) as error:
        raise ExportError(_GONE) from error
    return spec if isinstance(spec, EnvSpec) else None


def _can_be_sent(name: str) -> bool:
    known = _is_one_of(name, WITHOUT_EFFECT | OF_THE_TASK) or hasattr(gymnasium.wrappers, name)
    return known and not name.startswith("Transform")  # these have a function


def _is_one_of(name: str, names: Collection[str]) -> bool:
    return name in names or name in {each.rpartition(":")[2] for each in names}
