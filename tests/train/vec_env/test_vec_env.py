"""Environments side by side: the same information from every kind, and mistakes by name."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from tests.train.environments import RandomEnv
from trpo_deploy.envs.environment import Environment
from trpo_deploy.envs.episode import MAX_EPISODE_STEPS, play
from trpo_deploy.envs.wrappers import wrap
from trpo_deploy.errors import ConfigError, EnvError, SpaceError
from trpo_deploy.train import TRPO, load_config
from trpo_deploy.train.run.environments import make_evaluation_env, make_training_env

KINDS = ["sync", "subproc", "envpool"]


def _make(env_id: str, kind: str, **settings: Any) -> Any:
    if kind == "envpool":
        pytest.importorskip("envpool")
    settings.setdefault("n_envs", 2)
    config = load_config(env_id, vec_env=kind, **settings)
    return make_training_env(config)


@pytest.fixture(autouse=True)
def _quiet_gymnasium() -> Any:
    # EnvPool makes its Box spaces with a warning about float64 bounds.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gymnasium.logger, "min_level", gymnasium.logger.ERROR)
        yield


@pytest.mark.parametrize("kind", KINDS)
def test_an_episode_cut_by_the_time_limit_says_so(kind: str) -> None:
    env = _make("Pendulum-v1", kind, normalize=False)
    observations, rewards = [env.reset().copy()], []
    for step in range(201):
        obs, reward, done, infos = env.step(np.full((2, 1), 0.5, np.float32))
        observations.append(obs.copy())
        rewards.append(reward.copy())
        assert done.all() == (step == 199)
        if step == 199:
            break
    for i, info in enumerate(infos):
        assert info["TimeLimit.truncated"] is True
        final = info["terminal_observation"]
        assert np.linalg.norm(final - observations[199][i]) < 2  # one step on
        assert abs(final[2]) > 1.5 or np.linalg.norm(final - obs[i]) > 1e-3
        assert abs(obs[i][2]) <= 1  # a first observation has a speed of at most one
        assert info["episode"]["l"] == 200
        assert info["episode"]["r"] == pytest.approx(np.sum([r[i] for r in rewards]), rel=1e-4)
    assert not env.step(np.zeros((2, 1), np.float32))[2].any()
    env.close()


@pytest.mark.parametrize("kind", KINDS)
def test_an_episode_that_ends_is_not_cut(kind: str) -> None:
    env = _make("CartPole-v1", kind)
    env.reset()
    ended = []
    for _ in range(30):
        obs, _, done, infos = env.step(np.zeros(2, dtype=np.int64))
        for i in np.flatnonzero(done):
            ended.append(infos[i])
            assert np.abs(obs[i]).max() <= 0.05  # the next episode's start
            assert abs(infos[i]["terminal_observation"][2]) > 0.2
    assert len(ended) >= 4
    assert not any(info["TimeLimit.truncated"] for info in ended)
    lengths = [info["episode"]["l"] for info in ended]
    assert [info["episode"]["r"] for info in ended] == lengths
    assert sum(lengths) <= 60  # each counted from its own start
    env.close()


@pytest.mark.parametrize("kind", KINDS)
def test_the_return_goes_on_behind_a_time_limit(kind: str) -> None:
    env = _make("Pendulum-v1", kind, normalize=False)
    seen: dict[str, Any] = {}

    class Watch(BaseCallback):
        def _on_step(self) -> bool:
            if self.locals["dones"].any():
                seen["rewards"] = self.locals["rewards"].copy()
                seen["final"] = np.stack(
                    [info["terminal_observation"] for info in self.locals["infos"]]
                )
            return True

    model = TRPO("MlpPolicy", env, n_steps=200, batch_size=400, seed=0, gamma=0.9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "train", lambda: None)
        model.learn(400, callback=Watch())
    values = model.policy.predict_values(model.policy.obs_to_tensor(seen["final"])[0])
    expected = seen["rewards"] + 0.9 * values.detach().numpy()[:, 0]
    np.testing.assert_allclose(model.rollout_buffer.rewards[-1], expected, rtol=1e-5)
    env.close()


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides(kind: str) -> None:
    starts = []
    for seed in (1, 1, 2):
        env = _make("CartPole-v1", kind, seed=seed)
        starts.append(env.reset())
        env.close()
    np.testing.assert_array_equal(starts[0], starts[1])
    assert not np.array_equal(starts[0], starts[2])
    assert not np.array_equal(starts[0][0], starts[0][1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_given_again_starts_anew(kind: str) -> None:
    env = _make("CartPole-v1", kind, seed=2)
    starts: dict[int, list[Any]] = {1: [], 2: []}
    for i, seeds in enumerate(([2], [2], [1], [1], [1], [2, 1], [1, 2])):
        for seed in seeds:
            env.seed(seed)
        starts[seed].append(env.reset())
        if i % 2 == 1:
            env.step(np.zeros(2, np.int64))
    env.close()
    for same in starts.values():
        for start in same:
            np.testing.assert_array_equal(start, same[0])
    assert not np.array_equal(starts[1][0], starts[2][0])


def test_a_seed_starts_anew_what_envpool_lets_step_before_a_reset() -> None:
    starts = []
    for steps in (0, 3):
        env = _make("CartPole-v1", "envpool", seed=1)
        for _ in range(steps):
            env.step(np.zeros(2, np.int64))
        env.seed(1)
        starts.append(env.reset())
        env.close()
    np.testing.assert_array_equal(*starts)


def test_frames_are_stacked_as_sb3_stacks_them() -> None:
    sb3 = VecFrameStack(DummyVecEnv([lambda: gymnasium.make("Pendulum-v1")]), 3)
    ours = wrap(gymnasium.make("Pendulum-v1"), None, 3)
    sb3.seed(4)
    np.testing.assert_array_equal(sb3.reset()[0], ours.reset(seed=4)[0])
    assert ours.observation_space.shape == sb3.observation_space.shape
    for _ in range(5):
        expected = sb3.step(np.array([[0.3]], np.float32))[0][0]
        np.testing.assert_array_equal(expected, ours.step(np.array([0.3], np.float32))[0])


def test_a_wrapper_by_name_is_put_on() -> None:
    settings = [
        "normalize=false",
        "env_wrapper=[{gymnasium.wrappers.TimeLimit: {max_episode_steps: 7}}]",
    ]
    env = make_training_env(load_config("Pendulum-v1", settings=settings, n_envs=1))
    env.reset()
    dones = [env.step(np.zeros((1, 1), np.float32))[2][0] for _ in range(8)]
    assert dones == [False] * 6 + [True, False]
    for wrapper, says in (
        ("{gymnasium.wrappers.TimeLimit: {max_episode_stops: 7}}", "max_episode_stops"),
        ("gymnasium.Nothing", r"gymnasium\.Nothing cannot be imported"),
    ):
        config = load_config("Pendulum-v1", settings=[f"env_wrapper={wrapper}"])
        with pytest.raises(ConfigError, match=says):
            make_training_env(config)


# --- what goes wrong is named ------------------------------------------------------------------


class Failing(RandomEnv):
    """Does what it is told to at its fifth step, if it is the second of a run's environments."""

    made = 0

    def __init__(self, how: str) -> None:
        keys = spaces.Dict({"speed": spaces.Box(-1, 1, (2,)), "lamp": spaces.Discrete(2)})
        super().__init__(spaces.Discrete(2), keys, length=1000)
        self.how = how
        self.second = False

    def reset(self, *, seed: int | None = None, **_: Any) -> Any:
        if seed is not None:
            self.second = seed % 10 == 1
        ended = self.how == "second reset" and self.steps == 5
        if self.second and (self.how == "reset" or ended):
            raise RuntimeError("no\nroad")
        return super().reset(seed=seed)

    def step(self, action: Any) -> Any:
        observation, reward, _, truncated, info = super().step(action)
        if self.steps == 5 and self.second:
            if self.how == "raise":
                raise ZeroDivisionError("the wheel came off")
            if self.how == "exit":
                raise SystemExit(3)
            if self.how == "nan":
                observation["speed"][1] = np.nan
            if self.how == "huge":
                observation["speed"][:] = 1e30  # its square is beyond float32
            if self.how == "shape":
                observation["speed"] = np.zeros(3, np.float32)
            if self.how == "key":
                del observation["lamp"]
            if self.how == "nothing":
                observation = None
            if self.how == "reward":
                reward = float("-inf")
            if self.how == "info":
                info = None
            if self.how == "nan at the end":
                observation["speed"][1] = np.nan
            if self.how in ("nan at the end", "second reset"):
                return observation, reward, True, False, info
        return observation, reward, False, truncated, info


gymnasium.register("Failing-v0", entry_point=Failing, disable_env_checker=True)


@pytest.mark.parametrize("kind", ["sync", "subproc"])
@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("raise", "its step 5: step() raised ZeroDivisionError: the wheel came off"),
        ("exit", "its step 5: step() raised SystemExit: 3"),
        ("nan", "its step 5: the observation 'speed' is nan at index 1"),
        ("reward", "its step 5: the reward is -inf"),
        ("reset", "its step 0: reset() raised RuntimeError: no road"),
        ("shape", "its step 5: the observation 'speed' has the shape (3,), not (2,)"),
        ("key", "its step 5: the observation has no key 'lamp'"),
        ("nothing", "its step 5: the observation is a NoneType, not a mapping"),
        ("info", "its step 5: its info is a NoneType, not a dict"),
        ("nan at the end", "its step 5: the observation 'speed' is nan at index 1"),
        ("second reset", "its step 5: reset() raised RuntimeError: no road"),
    ],
)
def test_a_failing_environment_is_named(kind: str, how: str, says: str) -> None:
    env = _make("tests.train.vec_env.test_vec_env:Failing-v0", kind, env_args=[f"how={how}"])

    def play() -> None:
        env.reset()
        for _ in range(9):
            env.step(np.zeros(2, dtype=np.int64))

    with pytest.raises(EnvError) as caught:
        play()
    env.close()
    assert "Failing-v0: environment 1 of 2" in str(caught.value)
    assert says in str(caught.value)


class Falls(RandomEnv):
    """Its observation is NaN where an episode ends, and nowhere else."""

    def __init__(self) -> None:
        super().__init__(spaces.Discrete(2), length=5)

    def step(self, action: Any) -> Any:
        observation, reward, _, truncated, info = super().step(action)
        return observation * (np.nan if truncated else 1), reward, truncated, False, info


gymnasium.register("Falls-v0", entry_point=Falls, disable_env_checker=True)


@pytest.mark.parametrize("kind", ["sync", "subproc"])
def test_an_episodes_last_observation_is_looked_at_too(kind: str) -> None:
    env = _make("tests.train.vec_env.test_vec_env:Falls-v0", kind)
    env.reset()
    for _ in range(4):
        env.step(np.zeros(2, dtype=np.int64))
    with pytest.raises(EnvError, match="its step 5: the observation is nan at index 0"):
        env.step(np.zeros(2, dtype=np.int64))
    env.close()


@pytest.mark.filterwarnings("error")
def test_a_large_number_is_no_failure() -> None:
    env = _make("tests.train.vec_env.test_vec_env:Failing-v0", "sync", env_args=["how=huge"])
    env.reset()
    largest = [env.step(np.zeros(2, dtype=np.int64))[0]["speed"].max() for _ in range(9)]
    assert np.argmax(largest) == 4
    assert max(largest) == np.float32(1e30)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("raise", "of seed 1 at step 5: step() raised ZeroDivisionError: the wheel came off"),
        ("exit", "of seed 1 at step 5: step() raised SystemExit: 3"),
        ("nan", "of seed 1 at step 5: the observation 'speed' is nan at index 1"),
        ("reward", "of seed 1 at step 5: the reward is -inf"),
        ("reset", "of seed 1 at step 0: reset() raised RuntimeError: no road"),
        ("shape", "the observation 'speed' has the shape (3,), not (2,)"),
    ],
)
def test_a_failing_environment_is_named_when_a_policy_is_played(how: str, says: str) -> None:
    environment = Environment("Failing-v0", {"how": how})

    def act(observations: Any, state: Any) -> Any:
        return np.zeros(len(observations["lamp"]), int), state

    with pytest.raises(EnvError, match="Failing-v0") as caught:
        play(environment, act, [0, 1])
    assert says in str(caught.value)


class Endless(RandomEnv):
    """Never ends an episode by itself."""

    def __init__(self) -> None:
        super().__init__(spaces.Discrete(2))

    def step(self, action: Any) -> Any:
        observation, _, _, _, info = super().step(action)
        return observation, 1.0, False, False, info


def test_an_evaluation_ends_also_where_episodes_do_not() -> None:
    gymnasium.register("Endless-v0", entry_point=Endless, disable_env_checker=True)
    config = load_config("Endless-v0", n_timesteps=64, eval_episodes=1)
    training = make_training_env(config)
    env = make_evaluation_env(config, training)
    env.reset()
    ends = [bool(env.step(np.zeros(1, int))[2][0]) for _ in range(MAX_EPISODE_STEPS)]
    assert ends.index(True) == MAX_EPISODE_STEPS - 1


def test_actions_in_whole_numbers_are_refused_with_what_to_do() -> None:
    def make() -> RandomEnv:
        return RandomEnv(spaces.Box(0, 5, (2,), np.int64))

    gymnasium.register("Steps-v0", entry_point=make, disable_env_checker=True)
    with pytest.raises(SpaceError, match="make it a MultiDiscrete"):
        make_training_env(load_config("Steps-v0"))


class Odd(RandomEnv):
    """Has the spaces it is told to have."""

    def __init__(self, kind: str) -> None:
        vector = spaces.Box(-1, 1, (2,))
        odd: dict[str, spaces.Space[Any]] = {
            "Tuple": spaces.Tuple((vector, vector)),
            "Text": spaces.Text(5),
            "Sequence": spaces.Sequence(vector),
            "Graph": spaces.Graph(vector, None),
            "Dict": spaces.Dict({"inner": spaces.Dict({"a": vector})}),
            "Images": spaces.Dict(
                {
                    "front": spaces.Box(0, 255, (40, 40, 3), np.uint8),
                    "depth": spaces.Box(0, 255, (1, 40, 40), np.uint8),
                }
            ),
        }
        super().__init__(spaces.Discrete(2), odd[kind])
        if kind == "Text":
            self.action_space, self.observation_space = odd[kind], vector


gymnasium.register("Odd-v0", entry_point=Odd, disable_env_checker=True)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("Tuple", "a Tuple space for the observations"),
        ("Text", "a Text space for the actions"),
        ("Sequence", "pad it to a Box"),
        ("Graph", "encode nodes and edges"),
        ("Dict", "a Dict space for the observation 'inner'"),
        ("Images", "the images depth with their channels first and front with their channels last"),
    ],
)
def test_a_space_without_a_policy_is_refused(kind: str, says: str) -> None:
    with pytest.raises(SpaceError) as caught:
        _make("tests.train.vec_env.test_vec_env:Odd-v0", "sync", env_args=[f"kind={kind}"])
    assert says in str(caught.value)
    assert "env_wrapper=module.Class" in str(caught.value)


def test_what_envpool_cannot_do_is_refused() -> None:
    pytest.importorskip("envpool")
    gymnasium.register("Stacks-v0", entry_point="gymnasium.envs.classic_control:CartPoleEnv")
    with pytest.raises(EnvError, match="EnvPool has no environment Stacks-v0"):
        _make("Stacks-v0", "envpool")
    with pytest.raises(ConfigError, match="EnvPool takes no env_wrapper"):
        _make("CartPole-v1", "envpool", settings=["frame_stack=2"])
    with pytest.raises(EnvError, match="wings"):
        _make("CartPole-v1", "envpool", env_args=["wings=2"])


def test_mujoco_takes_no_memory_for_envpools_other_environments() -> None:
    pytest.importorskip("envpool")
    program = """
import sys
from trpo_deploy.train import load_config
from trpo_deploy.train.run.environments import make_training_env

for env_id, everything in (("Hopper-v5", False), ("CartPole-v1", True), ("Ant-v5", True)):
    make_training_env(load_config(env_id, vec_env="envpool", n_envs=2)).reset()
    assert ("envpool.atari" in sys.modules) is everything, env_id
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)


_INTERRUPTED = """
def interrupted(name):
    import envpool
    raise KeyboardInterrupt

whole, importlib.import_module = importlib.import_module, interrupted
try:
    _imported("Hopper-v5")
except KeyboardInterrupt:
    importlib.import_module = whole
envpool = _imported("Hopper-v5")
"""
_THREADS = """
with ThreadPoolExecutor() as pool:
    envpool, *_ = list(pool.map(_imported, ["Hopper-v5", "CartPole-v1"] * 4))
"""


@pytest.mark.parametrize("way", [_INTERRUPTED, _THREADS], ids=["interrupted", "threads"])
def test_envpool_is_there_whatever_way_it_was_imported(way: str) -> None:
    pytest.importorskip("envpool")
    program = f"""
import importlib
from concurrent.futures import ThreadPoolExecutor
from trpo_deploy.train.vec_env.envpool import _imported
{way}
assert {{"Hopper-v5", "CartPole-v1"}} <= set(envpool.list_all_envs())
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)


@pytest.mark.parametrize("alone", [True, False])
def test_whole_numbers_are_not_normalised(alone: bool) -> None:
    """SB3's buffer would cut them to whole numbers again."""
    memory = spaces.Box(0, 255, (5,), np.uint8)
    space = memory if alone else spaces.Dict({"ram": memory, "x": spaces.Box(-1, 1, (2,))})
    policy = "MlpPolicy" if alone else "MultiInputPolicy"

    def model(**normalizer: Any) -> TRPO:
        env = DummyVecEnv([lambda: RandomEnv(spaces.Discrete(2), space)])
        return TRPO(policy, VecNormalize(env, **normalizer), n_steps=64, batch_size=64)

    with pytest.raises(SpaceError, match=r"uint8.* holds whole numbers.*DtypeObservation"):
        model(norm_obs_keys=None if alone else ["ram", "x"])
    model(norm_obs=False).learn(64)
    if not alone:
        model(norm_obs_keys=["x"]).learn(64)


class Strange(RandomEnv):
    """Gives an observation that its space does not have."""

    def __init__(self, kind: str) -> None:
        box = spaces.Box(-np.inf, np.inf, (2,), np.float64)
        multi, whole = spaces.MultiDiscrete([2, 3]), spaces.Box(0, 9, (2,), np.int64)
        space = {"discrete": spaces.Discrete(3), "multi": multi, "real": multi, "nan": whole}
        super().__init__(spaces.Discrete(2), space.get(kind, box))
        wrong = {"discrete": 3, "multi": np.array([1, 3]), "text": np.array(["a", "b"])}
        wrong |= {"objects": np.array([None, 1]), "ragged": [1.0, [2.0]]}
        wrong |= {"real": np.array([1.0, 3.0]), "nan": np.array([np.nan, 1.0])}
        self.wrong = wrong.get(kind, np.array([0.0, 1e300]))

    def step(self, action: Any) -> Any:
        return self.wrong, *super().step(action)[1:]


gymnasium.register("Strange-v0", entry_point=Strange, disable_env_checker=True)


@pytest.mark.parametrize("how", ["sync", "subproc"])
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("discrete", r"is 3, outside of Discrete\(3\)"),
        ("multi", r"is \[1 3\], outside of MultiDiscrete"),
        ("real", r"is \[1\. 3\.\], outside of MultiDiscrete"),
        ("nan", r"is nan at index 0"),
        ("text", "not of numbers"),
        ("objects", "not of numbers"),
        ("ragged", r"step\(\) raised ValueError"),
        ("huge", r"is 1e\+300 at index 1"),
    ],
)
def test_an_observation_that_the_space_does_not_have(how: str, kind: str, says: str) -> None:
    env = _make("tests.train.vec_env.test_vec_env:Strange-v0", how, env_args=[f"kind={kind}"])
    env.reset()
    with pytest.raises(EnvError, match=says):
        env.step(np.zeros(2, dtype=np.int64))
    env.close()


class Pictured(RandomEnv):
    """Sees an image."""

    def __init__(self, *, keys: bool) -> None:
        image = spaces.Box(0, 255, (36, 36, 1), np.uint8)
        vector = spaces.Box(-1, 1, (2,))
        both = spaces.Dict({"image": image, "vector": vector})
        super().__init__(spaces.Discrete(2), both if keys else image)


gymnasium.register("Pictured-v0", entry_point=Pictured, disable_env_checker=True)


@pytest.mark.parametrize("keys", [True, False])
def test_images_are_not_normalised(keys: bool) -> None:
    def make(normalize: str) -> None:
        _make(
            "tests.train.vec_env.test_vec_env:Pictured-v0",
            "sync",
            env_args=[f"keys={keys}"],
            settings=[f"normalize={normalize}"],
        ).close()

    with pytest.raises(SpaceError, match="is an image, which the policy scales by itself"):
        make("{norm_obs_keys: [vector, image]}" if keys else "true")
    make("{norm_obs_keys: [vector]}" if keys else "{norm_obs: false}")


def test_the_evaluations_normaliser_is_the_trainings() -> None:
    settings = ["normalize={clip_obs: 2.5, epsilon: 0.5}", "gamma=0.9"]
    config = load_config("CartPole-v1", settings=settings)
    env = make_training_env(config)
    evaluation = make_evaluation_env(config, env)
    assert env.gamma == 0.9
    assert (evaluation.clip_obs, evaluation.epsilon) == (2.5, 0.5)
    assert evaluation.obs_rms is env.obs_rms
    assert not evaluation.training
    assert not evaluation.norm_reward
    evaluation.close()
    env.close()


def test_a_normaliser_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="normalize=false trains on raw observations"):
        _make("FrozenLake-v1", "sync", normalize=True)


def test_every_kind_counts_as_monitored() -> None:
    for kind in KINDS:
        env = _make("CartPole-v1", kind)
        assert env.env_is_wrapped(Monitor) == [True, True]
        env.close()
