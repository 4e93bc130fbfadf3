"""``--init``: a run starts as the policy that it names, or says what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sb3_contrib
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from tests.train.checkpoint.runs import (
    assert_same_run,
    checkpoint_of,
    short_config,
    train_interrupted,
)
from tests.train.environments import RandomEnv
from tests.train.registration import register
from trpo_deploy.errors import ConfigError, TrpoDeployError
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.yaml import read_yaml
from trpo_deploy.sb3.policy_zip import read_policy_zip
from trpo_deploy.sb3.statistics import read_vecnormalize
from trpo_deploy.train import TRPO, Reports, TrainConfig, load_config, train
from trpo_deploy.train.checkpoint.learner_state import running_statistics
from trpo_deploy.train.run.environments import make_training_env
from trpo_deploy.train.run.initial_policy import read_initial_policy, start_from
from trpo_deploy.train.run.model import make_model

PENDULUM = ("use_sde=false", "policy_kwargs={net_arch: [8]}", "batch_size=64", "n_steps=64")


def saved(folder: Path, algorithm: type[Any] = TRPO, normalize: Any = None, **kwargs: Any) -> Path:
    """A trained policy of Pendulum, with its statistics beside it."""
    env: Any = make_vec_env("Pendulum-v1", seed=0)
    if normalize is not None:
        env = VecNormalize(env, **normalize)
    arguments = {"policy_kwargs": {"net_arch": [8]}, "n_steps": 128, "seed": 1, **kwargs}
    model = algorithm("MlpPolicy", env, **arguments).learn(256)
    folder.mkdir(exist_ok=True)
    model.save(folder / "policy.zip")
    if normalize is not None:
        env.save(str(folder / "vecnormalize.pkl"))
    return folder / "policy.zip"


def initialized(init: Path, *settings: str, env_id: str = "Pendulum-v1") -> tuple[TRPO, list[str]]:
    """A new model that starts from a policy, and the notes."""
    chosen = [*PENDULUM, *settings] if env_id == "Pendulum-v1" else settings
    return made(load_config(env_id, settings=chosen, init=str(init)))


def made(config: TrainConfig) -> tuple[TRPO, list[str]]:
    notes: list[str] = []
    model = make_model(config, make_training_env(config))
    start_from(model, read_initial_policy(config), notes.append)
    return model, notes


@pytest.mark.parametrize("algorithm", [TRPO, sb3_contrib.TRPO, PPO, A2C])
@pytest.mark.parametrize("normalize", [None, {}, {"norm_reward": False, "clip_obs": 5.0}])
def test_actor_critic_and_statistics_are_the_policys(
    algorithm: type[Any], normalize: dict[str, Any] | None, tmp_path: Path
) -> None:
    init = saved(tmp_path, algorithm, normalize, policy_kwargs={"net_arch": [8], "log_std_init": 1})
    setting = {None: "false", 0: "true", 2: "{norm_reward: false, clip_obs: 5.0}"}
    model, notes = initialized(
        init, f"normalize={setting[None if normalize is None else len(normalize)]}"
    )
    assert notes == []
    weights = read_policy_zip(init).weights
    torch.testing.assert_close(model.policy.state_dict(), dict(weights), rtol=0, atol=0)
    env = model.get_vec_normalize_env()
    if normalize is None:
        assert env is None
        return
    assert env is not None
    statistics = read_vecnormalize(init.with_name("vecnormalize.pkl"))
    ours, theirs = (running_statistics(each)["obs_rms"] for each in (env, statistics))
    assert theirs.count == ours.count > 128
    np.testing.assert_array_equal(ours.var, theirs.var)
    assert (env.ret_rms.var == statistics.ret_rms.var) == env.norm_reward


def test_the_critic_starts_new_where_it_does_not_fit(tmp_path: Path) -> None:
    plain = saved(tmp_path / "plain")
    wider, notes = initialized(plain, "policy_kwargs.net_arch={pi: [8], vf: [16]}")
    (note,) = notes
    assert "Linear(3, 8) Tanh() Linear(8, 1), and this run's is Linear(3, 16) Tanh()" in note
    weights = read_policy_zip(plain).weights
    torch.testing.assert_close(wider.policy.action_net.weight.data, weights["action_net.weight"])
    for settings in (["scale_returns=true"], ["normalize={norm_obs: false}"]):
        model, notes = initialized(plain, *settings)
        assert "other units" in notes[0]
        assert not torch.equal(model.policy.value_net.weight, weights["value_net.weight"])


def test_a_critic_of_scaled_returns_keeps_its_scale(tmp_path: Path) -> None:
    init = saved(tmp_path, scale_returns=True)
    model, notes = initialized(init, "scale_returns=true")
    assert notes == []
    assert model.return_moments == read_policy_zip(init).return_moments
    assert model.return_moments["count"] > 128
    # Without the option the critic has other units, and its moments are not needed.
    assert "other units" in initialized(init)[1][0]


@pytest.mark.parametrize(
    ("saved_as", "settings", "words"),
    [
        ({}, ["policy_kwargs.net_arch=[9]"], ["Linear(3, 8)", "Linear(3, 9)"]),
        ({}, ["policy_kwargs.activation_fn=ReLU"], ["Tanh", "ReLU"]),
        ({}, ["use_sde=true"], ["DiagGaussian", "StateDependentNoise", "(8, 1)"]),
        ({}, ["policy_kwargs.squash_output=true"], ["with squash_output"]),
        ({"normalize": {}}, [], ["clip_obs=10", "has raw observations", "--set normalize"]),
        ({}, ["normalize=true"], ["trained with raw observations", "clip_obs=10"]),
        ({"normalize": {"clip_obs": 5.0}}, ["normalize=true"], ["clip_obs=5,", "clip_obs=10,"]),
    ],
)
def test_a_network_or_normalizer_that_does_not_fit_is_refused_with_both_names(
    saved_as: dict[str, Any], settings: list[str], words: list[str], tmp_path: Path
) -> None:
    init = saved(tmp_path, **saved_as)
    with pytest.raises(ConfigError) as refused:
        initialized(init, *settings)
    message = str(refused.value)
    assert all(word in message for word in [f"init={init}: ", *words]), message
    assert "\n" not in message


def test_other_spaces_are_refused_with_both_names(tmp_path: Path) -> None:
    init = saved(tmp_path)
    with pytest.raises(ConfigError, match=r"observes Box.*\(3,\).* environment has Box.*\(4,\)"):
        initialized(init, env_id="CartPole-v1")
    register("Wide-v0", RandomEnv, action_space=spaces.Box(-3, 3, (1,)))
    with pytest.raises(ConfigError, match=r"actions are Box\(-2.0.* takes Box\(-3.0"):
        initialized(init, env_id="Wide-v0")


def test_bounds_of_observations_may_differ(tmp_path: Path) -> None:
    register("SameActions-v0", RandomEnv, action_space=spaces.Box(-2, 2, (1,)))
    kwargs = "policy_kwargs={net_arch: [8]}"
    model, notes = initialized(saved(tmp_path), kwargs, env_id="SameActions-v0")
    assert notes == []
    assert model.observation_space != read_policy_zip(tmp_path / "policy.zip").observation_space


def test_missing_statistics_and_statistics_of_another_policy_are_refused(tmp_path: Path) -> None:
    init = saved(tmp_path, normalize={})
    statistics = init.with_name("vecnormalize.pkl")
    other = VecNormalize(make_vec_env("CartPole-v1"))
    other.save(str(statistics))
    with pytest.raises(ConfigError, match=r"shape \(4,\), but the observations \(3,\)"):
        initialized(init, "normalize=true")
    statistics.unlink()
    with pytest.raises(ConfigError, match=r"statistics were not found; .* as vecnormalize\.pkl"):
        initialized(init, "normalize=true")


def test_a_file_that_is_not_a_policy_is_refused(tmp_path: Path) -> None:
    (tmp_path / "policy.zip").write_bytes(b"PK nothing")
    for path in (tmp_path / "policy.zip", tmp_path / "missing", tmp_path):
        with pytest.raises(TrpoDeployError):
            initialized(path)


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainConfig, ModelDir]:
    """The initial policy, and a run from it on CartPole, with statistics."""
    root = tmp_path_factory.mktemp("init")
    first = ModelDir(root / "first")
    train(short_config("CartPole-v1", "normalize=true", steps=4096), first)
    config = short_config("CartPole-v1", "normalize=true", steps=1024, init=str(first.root))
    second = ModelDir(root / "second")
    train(config, second)
    return first.root, config, second


def test_the_first_evaluation_is_that_of_the_policy(
    fine_tuned: tuple[Path, TrainConfig, ModelDir],
) -> None:
    first, _, folder = fine_tuned
    with np.load(folder.evaluations) as ours, np.load(first / "evaluations.npz") as theirs:
        np.testing.assert_array_equal(ours["results"][0], theirs["results"][-1])
        assert theirs["results"][0].mean() < theirs["results"][-1].mean()


def test_the_run_records_the_files_and_repeats_bit_for_bit(
    fine_tuned: tuple[Path, TrainConfig, ModelDir], tmp_path: Path
) -> None:
    first, _, folder = fine_tuned
    recorded = read_yaml(folder.config)
    assert recorded["init"] == str(first)
    assert recorded["init_sha256"].keys() == {"policy.zip", "vecnormalize.pkl"}
    assert f"| init | `{first}` |" in folder.card.read_text()
    again = ModelDir(tmp_path / "again")
    train(load_config("CartPole-v1", preset=str(folder.config)), again)
    assert_same_run(folder, again)
    # Other files at the same place are refused, unless the user names them.
    changed = tmp_path / "config.yaml"
    changed.write_text(folder.config.read_text().replace(recorded["init_sha256"]["policy.zip"], ""))
    config = load_config("CartPole-v1", preset=str(changed))
    with pytest.raises(ConfigError, match="have changed since"):
        train(config, ModelDir(tmp_path / "other"))
    assert not (tmp_path / "other").exists()
    assert load_config("CartPole-v1", preset=str(changed), init="x").init_sha256 is None


def test_a_resumed_run_does_not_read_the_policy_again(
    fine_tuned: tuple[Path, TrainConfig, ModelDir], tmp_path: Path
) -> None:
    first, config, folder = fine_tuned
    parts, notes = ModelDir(tmp_path / "parts"), list[str]()
    train_interrupted(config, parts, update=3)
    kept = first.rename(first.with_name("moved"))
    train(config, parts, resume=True, reports=Reports(note=notes.append))
    kept.rename(first)
    assert notes == []
    assert_same_run(folder, parts)
    assert checkpoint_of(parts).config["init"] == str(first)
