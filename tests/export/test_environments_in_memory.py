"""``export_model``: the file contains what lies between an environment and its policy, or names it.

The right value is what the environment itself was given.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import sb3_contrib
from gymnasium import spaces
from gymnasium.wrappers import (
    ClipAction,
    ClipReward,
    DtypeObservation,
    FlattenObservation,
    FrameStackObservation,
    NormalizeObservation,
    OrderEnforcing,
    PassiveEnvChecker,
    RescaleAction,
    RescaleObservation,
    ReshapeObservation,
    TimeLimit,
    TransformAction,
    TransformObservation,
)
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecCheckNan,
    VecEnvWrapper,
    VecExtractDictObs,
    VecFrameStack,
    VecNormalize,
)

from tests.export.policies import randomize
from trpo_deploy import TRPO
from trpo_deploy.errors import CertificateError, ExportError
from trpo_deploy.export import Check, Export, ExportOptions, SourceOptions, export_model
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.sb3 import environment_in_memory
from trpo_deploy.spec.spaces import Array

# Gymnasium's wrappers take Python's numbers as bounds, but warn that these are float64.
pytestmark = pytest.mark.filterwarnings("ignore:.*precision lowered")

AnyEnv = gymnasium.Env[Any, Any]
WITNESS = "witness: the model's environment"
POSITIONS = spaces.Box(np.array([0, -5, 100], np.float32), np.array([1, 5, 300], np.float32))
GRID = spaces.Box(-5.0, 5.0, (2, 3), np.float32)
COUNTS = spaces.Box(0, 9, (3,), np.int32)
TORQUES = spaces.Box(np.array([-2, -1], np.float32), np.array([2, 3], np.float32))


class Recorded(gymnasium.Env[Any, Any]):
    """Random observations; records each with the action that it was given next."""

    def __init__(
        self,
        observation_space: spaces.Space[Any] = POSITIONS,
        action_space: spaces.Space[Any] = TORQUES,
        length: int = 5,
    ) -> None:
        self.observation_space = copy.deepcopy(observation_space)  # has its own random numbers
        self.action_space = action_space
        self.length = length
        self.log: list[tuple[Any, Any]] = []
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.observation_space.seed(seed)
        self._steps = 0
        self._last = self.observation_space.sample()
        return self._last, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.log.append((self._last, np.array(action)))
        self._steps += 1
        self._last = self.observation_space.sample()
        return self._last, 1.0, self._steps >= self.length, False, {}


gymnasium.register("Recorded-v0", entry_point=f"{__name__}:Recorded")


def rescaled(env: AnyEnv, low: Any, high: Any) -> AnyEnv:
    return RescaleAction(env, low, high)


def rescaled_observations(env: AnyEnv, low: Any, high: Any) -> AnyEnv:
    return RescaleObservation(env, low, high)


def model_of(env: Any, *, ours: bool = False) -> Any:
    """A model with random weights, whose environment has run for a while."""
    if isinstance(env, gymnasium.Env):
        made = env
        env = DummyVecEnv([lambda: made])
    policy = "MultiInputPolicy" if isinstance(env.observation_space, spaces.Dict) else "MlpPolicy"
    model: Any = (TRPO if ours else sb3_contrib.TRPO)(policy, env, seed=0)
    randomize(model.policy)
    vec = model.get_env()
    vec.seed(0)
    vec.reset()
    for _ in range(40):
        vec.step(np.zeros((vec.num_envs, 2), np.float32))
    return model


def given_in(model: Any, steps: int = 12) -> list[tuple[Any, Any]]:
    """What each environment of the model gives and is given, with frozen statistics."""
    env = model.get_env()
    base: Any = environment_in_memory.base_env(env)
    cores = [each.unwrapped for each in base.envs]
    layer: Any = env
    while layer is not base:
        layer.training = False
        layer = layer.venv
    for each in base.envs:
        while isinstance(each, gymnasium.Wrapper):
            if isinstance(each, NormalizeObservation):
                each.update_running_mean = False
            each = each.env
    observation = env.reset()
    for core in cores:
        core.log.clear()
    for _ in range(steps):
        action, _ = model.predict(observation, deterministic=True)
        observation, *_ = env.step(action)
    return [pair for core in cores for pair in core.log]


def exported_from(model: Any, folder: Path, *allowed: str, **options: Any) -> Export:
    reading = SourceOptions(allow_wrappers=allowed)
    return export_model(model, folder / "policy.onnx", reading=reading, **options)


def witness_of(result: Export) -> Check:
    assert result.certificate is not None
    (found,) = (check for check in result.certificate.checks if check.name == WITNESS)
    return found


INSIDE: dict[str, Callable[[], AnyEnv]] = {
    "nothing": Recorded,
    "monitor and limit": lambda: Monitor(TimeLimit(ClipReward(Recorded(), 0.0), 3)),
    "RescaleAction": lambda: rescaled(Recorded(), -0.3, 1.0),
    "RescaleAction by dimension": lambda: rescaled(
        Recorded(), np.array([0, -9], np.float32), np.array([1, 9], np.float32)
    ),
    "ClipAction": lambda: ClipAction(Recorded()),
    "NormalizeObservation": lambda: NormalizeObservation(Recorded()),
    "RescaleObservation": lambda: rescaled_observations(Recorded(), -1.0, 1.0),
    "DtypeObservation": lambda: DtypeObservation(Recorded(COUNTS), np.float32),
    "DtypeObservation of float64": lambda: DtypeObservation(
        Recorded(spaces.Box(-5.0, 5.0, (3,), np.float64)), np.float32
    ),
    "FlattenObservation": lambda: FlattenObservation(Recorded(GRID)),
    "ReshapeObservation": lambda: ReshapeObservation(Recorded(GRID), (3, 2)),
    "five of them": lambda: rescaled(
        NormalizeObservation(rescaled_observations(FlattenObservation(Recorded(GRID)), 0.0, 1.0)),
        0.0,
        1.0,
    ),
    "nine counts, normalised": lambda: NormalizeObservation(
        DtypeObservation(Recorded(COUNTS), np.float32)
    ),
}


@pytest.mark.parametrize("vec", ["plain", "normalised and stacked"])
@pytest.mark.parametrize("name", INSIDE)
def test_the_file_answers_what_the_environment_is_given(
    name: str, vec: str, tmp_path: Path
) -> None:
    env: Any = DummyVecEnv([INSIDE[name]])
    if vec != "plain":
        env = VecFrameStack(VecCheckNan(VecNormalize(env)), 3)
    model = model_of(env, ours=name == "ClipAction")
    result = exported_from(model, tmp_path)
    assert witness_of(result).passed is True
    policy = OnnxPolicy(result.path)
    state: Any = None
    for step, (observation, action) in enumerate(given_in(model)):
        first = step == 0 or step % episode_length(name) == 0
        found, state = policy.predict(observation, state, np.array(first), deterministic=True)
        # float32 rounding in the wrappers, on numbers up to ten.
        np.testing.assert_allclose(found, action, rtol=0, atol=2e-5)


def episode_length(name: str) -> int:
    return 3 if name == "monitor and limit" else 5


@pytest.mark.parametrize("normalised", [True, False])
def test_wrappers_in_float64(normalised: bool, tmp_path: Path) -> None:
    far = spaces.Box(-1e6, 1e6, (2, 3), np.float64)

    def make() -> AnyEnv:
        flat = FlattenObservation(Recorded(far))
        return NormalizeObservation(flat) if normalised else flat

    model = model_of(VecFrameStack(DummyVecEnv([make]), 2))
    result = exported_from(model, tmp_path, options=ExportOptions(float64_input=True))
    assert witness_of(result).passed is True
    assert result.spec.inputs[0].dtype == "float64"


@pytest.mark.parametrize("kwargs", [{}, {"use_sde": True}, "squashed"])
def test_the_distribution_is_in_the_units_of_the_environment(kwargs: Any, tmp_path: Path) -> None:
    if kwargs == "squashed":
        kwargs = {"use_sde": True, "policy_kwargs": {"squash_output": True}}
    model = sb3_contrib.TRPO("MlpPolicy", rescaled(Recorded(), -0.3, 1.0), seed=0, **kwargs)
    outputs = ("mean", "std", "log_prob", "value")
    result = exported_from(model, tmp_path, options=ExportOptions(outputs))
    assert witness_of(result).passed is True


class Shifted(gymnasium.ObservationWrapper[Any, Any, Any]):
    def observation(self, observation: Array) -> Array:
        return np.asarray(observation + np.float32(0.5))


class Counted(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Changes nothing."""


class Slower(RescaleAction[Any, Any, Any]):
    def __init__(self, env: AnyEnv) -> None:
        super().__init__(env, np.float32(-1), np.float32(1))

    def action(self, action: Array) -> Array:
        return np.asarray(0.5 * super().action(action))


class VecShifted(VecEnvWrapper):
    def reset(self) -> Any:
        return np.asarray(self.venv.reset()) + np.float32(0.5)

    def step_wait(self) -> Any:
        observations, *rest = self.venv.step_wait()
        return (np.asarray(observations) + np.float32(0.5), *rest)


class VecCounted(VecEnvWrapper):
    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        return self.venv.step_wait()


KEYS = spaces.Dict({"a": POSITIONS, "b": POSITIONS})
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "observations": (lambda: Shifted(Recorded()), "Shifted"),
    "actions": (lambda: Slower(Recorded()), "Slower"),
    "function": (
        lambda: TransformObservation(Recorded(), lambda x: x, None),
        "gymnasium.wrappers:TransformObservation",
    ),
    "function of actions": (
        lambda: TransformAction(Recorded(), lambda x: x, None),
        "gymnasium.wrappers:TransformAction",
    ),
    "statistics in a stack": (
        lambda: FrameStackObservation(NormalizeObservation(Recorded()), 2),
        "NormalizeObservation, whose statistics",
    ),
    "statistics of two": (
        lambda: DummyVecEnv([lambda: NormalizeObservation(Recorded())] * 2),
        "not all wrapped alike in gymnasium.wrappers:NormalizeObservation",
    ),
    "vec env": (lambda: VecShifted(DummyVecEnv([Recorded])), "VecShifted"),
    "one key": (
        lambda: VecExtractDictObs(DummyVecEnv([lambda: Recorded(KEYS)]), "a"),
        "VecExtractDictObs",
    ),
    "two VecNormalize": (
        lambda: VecNormalize(VecNormalize(DummyVecEnv([Recorded]))),
        "two VecNormalize",
    ),
    "two VecFrameStack": (
        lambda: VecFrameStack(VecFrameStack(DummyVecEnv([Recorded]), 2), 2),
        "two VecFrameStack",
    ),
}


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("name", REFUSED)
def test_a_wrapper_that_is_not_understood_is_named(name: str, verify: bool, tmp_path: Path) -> None:
    make, says = REFUSED[name]
    model = model_of(make())
    with pytest.raises(ExportError, match=says) as caught:
        exported_from(model, tmp_path, verify=verify)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_allowed_wrapper_of_gymnasium_is_a_part_of_the_environment(tmp_path: Path) -> None:
    model = model_of(rescaled(Shifted(gymnasium.make("Recorded-v0")), -1.0, 1.0))
    result = exported_from(model, tmp_path, f"{__name__}:Shifted")
    assert witness_of(result).passed is True
    assert result.spec.environment is not None
    assert result.spec.environment.unrecorded == (f"{__name__}:Shifted",)
    observation, action = given_in(model, 1)[0]
    found, _ = OnnxPolicy(result.path).predict(observation + np.float32(0.5))
    np.testing.assert_allclose(found, action, rtol=0, atol=2e-5)


def test_a_difference_by_rounding_names_float64_input(tmp_path: Path) -> None:
    """The file's earlier frames are rounded too: by 6 % of their deviation."""
    env = VecNormalize(VecFrameStack(DummyVecEnv([lambda: Precise(1234.5678)]), 2))
    model = model_of(env)
    moments: Any = env.obs_rms
    moments.mean[:], moments.var[:] = 1234.5678, 1e-6  # SB3 counts a zero at the start
    with pytest.raises(CertificateError, match=f"{WITNESS}.*float64_input=True.*--float64-input"):
        exported_from(model, tmp_path)
    exact = exported_from(model, tmp_path, options=ExportOptions(float64_input=True))
    assert witness_of(exact).passed is True


def test_an_allowed_vec_env_wrapper_must_change_nothing(tmp_path: Path) -> None:
    counted = model_of(VecCounted(VecNormalize(DummyVecEnv([Recorded]))))
    result = exported_from(counted, tmp_path, f"{__name__}:VecCounted")
    assert witness_of(result).passed is True
    shifted = model_of(VecShifted(DummyVecEnv([Recorded])))
    with pytest.raises(CertificateError) as failure:
        exported_from(shifted, tmp_path / "shifted", f"{__name__}:VecShifted")
    _, witness = str(failure.value).split(WITNESS)
    for text in ("in the file and", "in SB3", "allowed", "a wrapper that changes observations"):
        assert text in witness
    assert "float64" not in witness
    assert "{" not in witness
    assert not (tmp_path / "shifted").exists()


def test_the_witness_sees_a_normaliser_that_the_reading_passes_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = model_of(VecNormalize(DummyVecEnv([Recorded])))
    monkeypatch.setattr(environment_in_memory, "_read_vec_wrappers", lambda *_: None)
    with pytest.raises(CertificateError, match=WITNESS):
        exported_from(model, tmp_path)


def test_the_witness_sees_a_wrapper_that_the_reading_passes_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = model_of(NormalizeObservation(Recorded()))
    read = environment_in_memory._read_chain

    def without_wrappers(*arguments: Any) -> Any:
        found = read(*arguments)
        return replace(found, inside=replace(found.inside, observation=()))

    monkeypatch.setattr(environment_in_memory, "_read_chain", without_wrappers)
    with pytest.raises(CertificateError, match=WITNESS):
        exported_from(model, tmp_path)


@pytest.mark.parametrize("registered", [True, False])
def test_the_models_environment_stays_as_it_is(registered: bool, tmp_path: Path) -> None:
    core = gymnasium.make("Recorded-v0") if registered else Recorded()
    monitored = Monitor(NormalizeObservation(core), str(tmp_path / "log"))
    env = VecNormalize(DummyVecEnv([lambda: monitored]))
    model = model_of(env)
    unwrapped: Any = core.unwrapped

    def state() -> Any:
        normalizers = [monitored.env.obs_rms, env.obs_rms]  # type: ignore[attr-defined]
        counts = [float(each.count) for each in normalizers]
        draws = unwrapped.observation_space.np_random.bit_generator.state
        log = (tmp_path / "log.monitor.csv").read_text()
        return counts, len(unwrapped.log), unwrapped._steps, draws, log, env.training

    before = state()
    folder = tmp_path / "exported"
    folder.mkdir()
    assert witness_of(exported_from(model, folder)).passed is True
    assert state() == before
    env.close()


class Locked(Recorded):
    """An environment that cannot be copied."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lock = threading.Lock()


gymnasium.register("Locked-v0", entry_point=f"{__name__}:Locked")


def test_an_environment_that_cannot_be_copied_is_made_again_or_is_no_witness(
    tmp_path: Path,
) -> None:
    made = exported_from(model_of(gymnasium.make("Locked-v0")), tmp_path)
    assert witness_of(made).passed is True
    check = witness_of(exported_from(model_of(Locked()), tmp_path))
    assert check.passed is None
    assert "no witness: the model's environment cannot be played in a copy" in check.note


def test_environments_in_processes_are_known_by_their_names(tmp_path: Path) -> None:
    env = SubprocVecEnv([_rescaled])
    result = exported_from(sb3_contrib.TRPO("MlpPolicy", env), tmp_path)
    assert "SubprocVecEnv cannot be copied" in witness_of(result).note
    recorded = result.spec.environment
    assert recorded is not None
    assert [each.name for each in recorded.wrappers] == ["gymnasium.wrappers:RescaleAction"]
    env.close()
    env = SubprocVecEnv([_function])
    with pytest.raises(ExportError, match="wrapped in TransformObservation"):
        exported_from(sb3_contrib.TRPO("MlpPolicy", env), tmp_path)
    env.reset()  # the process still lives: it was not asked for a function, which has no pickle
    env.close()


def _rescaled() -> AnyEnv:
    return rescaled(gymnasium.make("Pendulum-v1"), -1.0, 1.0)


def _function() -> AnyEnv:
    return TransformObservation(gymnasium.make("Pendulum-v1"), lambda x: x, None)


def test_an_environment_is_played_with_its_arguments(tmp_path: Path) -> None:
    model = model_of(gymnasium.make("Recorded-v0", length=3))
    result = exported_from(model, tmp_path)
    assert result.certificate is not None
    assert result.certificate.environment["kwargs"] == {"length": 3}
    assert result.certificate.returns["onnx"]["mean"] == 3.0


def test_wrappers_of_the_registered_environment_are_part_of_it(tmp_path: Path) -> None:
    if "RecordedRescaled-v0" not in gymnasium.registry:
        gymnasium.register("RecordedRescaled-v0", entry_point=f"{__name__}:_registered")
    result = exported_from(model_of(gymnasium.make("RecordedRescaled-v0")), tmp_path)
    assert witness_of(result).passed is True
    recorded = result.spec.environment
    assert recorded is not None
    assert recorded.wrappers == ()
    assert result.spec.action_space.describe().endswith("in [-1, 1]")


def _registered() -> AnyEnv:
    return rescaled(Recorded(), -1.0, 1.0)


class Negated(gymnasium.ObservationWrapper[Any, Any, Any]):
    def observation(self, observation: Any) -> Any:
        return -observation


def _negated() -> AnyEnv:
    return Monitor(Negated(gymnasium.make("Pendulum-v1")))


def _pendulum() -> AnyEnv:
    return Monitor(gymnasium.make("Pendulum-v1"))


class HumanRendering(Negated):
    """An own class with the name of a known one."""


def _named_as_a_known_one() -> AnyEnv:
    return Monitor(HumanRendering(Recorded()))


def test_an_order_enforcer_hides_no_wrapper(tmp_path: Path) -> None:
    env = OrderEnforcing(PassiveEnvChecker(Negated(gymnasium.make("Pendulum-v1"))))
    with pytest.raises(ExportError, match="Negated"):
        exported_from(model_of(env), tmp_path)
    exported_from(model_of(OrderEnforcing(gymnasium.make("Pendulum-v1"))), tmp_path)


def test_processes_with_other_wrappers_are_refused(tmp_path: Path) -> None:
    env = SubprocVecEnv([_pendulum, _negated])
    with pytest.raises(ExportError, match="not all wrapped alike"):
        exported_from(model_of(env), tmp_path)
    env.close()


def test_an_own_class_in_a_process_is_not_taken_for_a_known_one(tmp_path: Path) -> None:
    env = SubprocVecEnv([_named_as_a_known_one])
    with pytest.raises(ExportError, match="HumanRendering"):
        exported_from(model_of(env), tmp_path)
    env.close()


def test_rounding_of_float64_observations_does_not_accuse_a_file(tmp_path: Path) -> None:
    """Statistics of a training that normalised float64 numbers far from zero."""
    env = VecNormalize(DummyVecEnv([Precise]))
    model = PPO("MlpPolicy", env, n_steps=64, seed=0).learn(128)
    assert witness_of(exported_from(model, tmp_path)).passed is True


class Precise(Recorded):
    """Observes numbers whose deviation is a thousandth of their size."""

    def __init__(self, mean: float = 1.2345678) -> None:
        super().__init__(spaces.Box(-np.inf, np.inf, (3,), np.float64))
        self._mean = mean

    def reset(self, **arguments: Any) -> Any:
        super().reset(**arguments)
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        _, *others = super().step(action)
        return self._observe(), *others

    def _observe(self) -> Any:
        return self._mean + 1e-3 * self.np_random.standard_normal(3)


def _unsendable() -> AnyEnv:
    make: Any = lambda: Recorded()  # noqa: E731 - a function that cannot be pickled
    gymnasium.register("Unsendable-v0", entry_point=make)
    return Monitor(gymnasium.make("Unsendable-v0"))


def test_a_process_that_cannot_send_its_spec_is_one_clear_error(tmp_path: Path) -> None:
    env = SubprocVecEnv([_unsendable])
    with pytest.raises(ExportError, match="export the model with a DummyVecEnv"):
        exported_from(model_of(env), tmp_path)
    with suppress(EOFError, OSError):  # the process has ended
        env.close()


@pytest.mark.parametrize(
    "actions", [spaces.Discrete(4, start=-2), spaces.MultiDiscrete([2, 3], start=[1, -4])]
)
def test_sb3_counts_discrete_actions_from_zero(actions: Any, tmp_path: Path) -> None:
    env = DummyVecEnv([lambda: Recorded(action_space=actions)])
    model = PPO("MlpPolicy", env, n_steps=64, seed=0).learn(64)
    result = exported_from(model, tmp_path)
    assert witness_of(result).passed is True
    low = getattr(result.spec.action_space, "start", 0)
    assert np.all(np.asarray(low) == 0)


class HalfActions(DummyVecEnv):
    def step_async(self, actions: Array) -> None:
        super().step_async(0.5 * actions)


class HalfActionsElsewhere(SubprocVecEnv):
    def step_async(self, actions: Array) -> None:
        super().step_async(0.5 * actions)


@pytest.mark.parametrize("kind", [HalfActions, HalfActionsElsewhere])
def test_an_own_subclass_of_a_vec_env_is_refused_unless_allowed(
    kind: type[DummyVecEnv], tmp_path: Path
) -> None:
    name = f"{kind.__module__}:{kind.__name__}"
    env = kind([lambda: gymnasium.make("Pendulum-v1")])
    try:
        model = PPO("MlpPolicy", env, n_steps=8, batch_size=8)
        with pytest.raises(ExportError, match=f"is a {name}, which export_model does not know"):
            export_model(model, tmp_path / "policy.onnx", verify=False)
        reading = SourceOptions(allow_wrappers=(name,))
        export_model(model, tmp_path / "policy.onnx", verify=False, reading=reading)
    finally:
        env.close()
