"""Presets, settings and flags make one configuration; mistakes are one line, and no code runs."""

from __future__ import annotations

import inspect
import io
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import sb3_contrib
import torch
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from torch import nn

from trpo_deploy.envs.wrappers import wrapper_list
from trpo_deploy.errors import ConfigError
from trpo_deploy.files.yaml import to_yaml
from trpo_deploy.train import TRPO, TrainConfig, load_config
from trpo_deploy.train.config.hyperparameters import HYPERPARAMETERS
from trpo_deploy.train.config.preset_files import preset_names
from trpo_deploy.train.run.environments import make_training_env

# Every form that RL Zoo's trpo.yml and its other files use.
ZOO = """
default:
  n_timesteps: !!float 1e6
  policy: 'MlpPolicy'

CartPole-v1: &shared
  n_envs: 4
  n_timesteps: !!float 1e5
  policy: 'MlpPolicy'
  normalize: "{'norm_obs': True, 'norm_reward': False}"
  learning_rate: lin_2e-3
  cg_damping: !!float 1e-3
  env_wrapper:
    - gymnasium.wrappers.TransformReward:
        func: null
    - stable_baselines3.common.monitor.Monitor
  policy_kwargs: "dict(log_std_init=-2,
                       ortho_init=False,
                       activation_fn=nn.ReLU,
                       net_arch=dict(pi=[64, 32], vf=[16])
                       )"

Acrobot-v1:
  <<: *shared
  n_steps: 64
  frame_stack: 2
"""


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    path = tmp_path / "trpo.yml"
    path.write_text(ZOO)
    return path


def test_every_form_of_rl_zoos_files_is_read(zoo: Path) -> None:
    config = load_config("Acrobot-v1", preset=str(zoo))
    assert config == TrainConfig(
        env_id="Acrobot-v1",
        n_envs=4,
        n_timesteps=100_000,
        frame_stack=2,
        normalize={"norm_obs": True, "norm_reward": False},
        env_wrapper=[
            {"gymnasium.wrappers.TransformReward": {"func": None}},
            "stable_baselines3.common.monitor.Monitor",
        ],
        hyperparameters={
            "learning_rate": "lin_2e-3",
            "cg_damping": 0.001,
            "n_steps": 64,
            "policy_kwargs": {
                "log_std_init": -2,
                "ortho_init": False,
                "activation_fn": "nn.ReLU",
                "net_arch": {"pi": [64, 32], "vf": [16]},
            },
        },
    )
    assert load_config("Taxi-v4", preset=str(zoo)).n_timesteps == 1_000_000  # by its default


def test_text_and_mapping_make_the_same_policy() -> None:
    text = load_config("CartPole-v1", settings=["policy_kwargs=dict(activation_fn=th.nn.ELU)"])
    mapping = load_config("CartPole-v1", settings=["policy_kwargs={activation_fn: ELU}"])
    for config in (text, mapping):
        assert config.algorithm_arguments()["policy_kwargs"] == {"activation_fn": nn.ELU}
    config = load_config(
        "CartPole-v1",
        settings=[
            "policy_kwargs={optimizer_class: torch.optim.SGD, optimizer_kwargs: {momentum: 0.5}, "
            "features_extractor_class: FlattenExtractor}"
        ],
    )
    model = TRPO("MlpPolicy", "CartPole-v1", **config.algorithm_arguments())
    assert isinstance(model.policy.optimizer, torch.optim.SGD)


def test_one_entry_of_a_mapping_changes_and_the_others_stay(zoo: Path) -> None:
    entries = ["policy_kwargs.net_arch=[8]", "policy_kwargs.log_std_init=-1e0"]
    config = load_config("Acrobot-v1", preset=str(zoo), settings=entries)
    assert config.hyperparameters["policy_kwargs"] == {
        "log_std_init": -1.0,
        "ortho_init": False,
        "activation_fn": "nn.ReLU",
        "net_arch": [8],
    }
    raw = load_config("Hopper-v5", settings=["normalize.norm_obs=false"])
    assert raw.normalize == {"norm_obs": False}
    bare = load_config("CartPole-v1", settings=["policy_kwargs.activation_fn=nn.ELU"])
    assert bare.algorithm_arguments()["policy_kwargs"] == {"activation_fn": nn.ELU}


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "dict(activation_fn=(lambda: 1)())",
        "dict(a=[x for x in (1,)])",
        "dict(**{'a': 1})",
        "dict(a=open('x'))",
        "dict(a=f'{1}')",
        "dict(a=1 + 1)",
        "dict(a=-'1')",
        "dict(",
        "(" * 2000 + ")" * 2000,
    ],
)
def test_python_text_is_not_evaluated(text: str) -> None:
    with pytest.raises(ConfigError, match="policy_kwargs"):
        load_config("CartPole-v1", policy_kwargs=text)


@pytest.mark.parametrize(
    ("setting", "name", "expected"),
    [
        ("normalize={clip_obs: 1e1}", "normalize", {"clip_obs": 10.0}),
        ("normalize=dict(clip_obs=1e1)", "normalize", {"clip_obs": 10.0}),
        (
            "policy_kwargs={optimizer_kwargs: {betas: [9e-1, 0.99]}}",
            "policy_kwargs",
            {"optimizer_kwargs": {"betas": [0.9, 0.99]}},
        ),
        ("env_kwargs={map_name: 8x8, p: 5e-1}", "env_kwargs", {"map_name": "8x8", "p": 0.5}),
    ],
)
def test_an_exponent_makes_a_number_at_any_depth(setting: str, name: str, expected: Any) -> None:
    config = load_config("CartPole-v1", settings=[setting])
    assert {**config.to_dict(), **config.hyperparameters}[name] == expected


class Adam(torch.optim.SGD):
    """A class of the user's, with the name of one in torch."""


@pytest.mark.parametrize("separator", [":", "."])  # RL Zoo's files have the dotted form
def test_a_full_name_is_looked_up_in_its_own_module(separator: str) -> None:
    classes = f"optimizer_class: {__name__}{separator}Adam, activation_fn: th.nn{separator}ReLU"
    own = f"policy_kwargs={{{classes}}}"
    arguments = load_config("CartPole-v1", settings=[own]).algorithm_arguments()
    assert arguments["policy_kwargs"] == {"optimizer_class": Adam, "activation_fn": nn.ReLU}


def test_a_linear_schedule_loads_in_sb3_contrib() -> None:
    config = load_config("CartPole-v1", settings=["learning_rate=lin_0.004"])
    model = TRPO("MlpPolicy", "CartPole-v1", **config.algorithm_arguments())
    saved = io.BytesIO()
    model.save(saved)
    loaded = sb3_contrib.TRPO.load(saved)
    assert [loaded.lr_schedule(left) for left in (1.0, 0.5, 0.0)] == pytest.approx(
        [0.004, 0.002, 0]
    )


@pytest.mark.parametrize(
    "env_wrapper",
    [
        "own.wrappers.Slow",
        "own.wrappers:Slow",
        {"own.wrappers:Slow": None},
        [{"own.wrappers.Slow": {}}],
    ],
)
def test_every_form_of_a_wrapper_names_the_same_class(env_wrapper: Any) -> None:
    assert wrapper_list(env_wrapper) == [{"own.wrappers:Slow": {}}]


@pytest.mark.parametrize("name", preset_names())
def test_every_shipped_preset_fits_its_environment(name: str) -> None:
    if "-v4" in name or "-v5" in name:
        pytest.importorskip("mujoco")
    if name.startswith(("LunarLander", "BipedalWalker")):
        pytest.importorskip("Box2D")
    config = load_config(name)
    env = make_training_env(config)
    TRPO(config.policy, env, **config.algorithm_arguments())
    env.close()
    assert config.n_timesteps >= 50_000


def test_a_runs_config_yaml_is_a_preset(tmp_path: Path) -> None:
    config = load_config(
        "Pendulum-v1", settings=["n_steps=64"], env_args=["g=9.81"], seed=3, vec_env="subproc"
    )
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml({**config.to_dict(), "versions": {"torch": "2"}}))
    assert load_config("Pendulum-v1", preset=str(path)) == config
    with pytest.raises(ConfigError, match="run on Pendulum-v1, not on CartPole-v1"):
        load_config("CartPole-v1", preset=str(path))


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("n_step=5", "did you mean 'n_steps'"),
        ("n_steps", "expected key=value"),
        ("n_steps=many", "n_steps='many': expected a whole number"),
        ("n_steps=0", "n_steps=0: expected a number from 1"),
        ("n_steps=true", "expected a whole number"),
        ("gamma=1.5", "expected a number from 0 to 1"),
        ("gamma=[1", "not a YAML value"),
        ("use_sde=1", "expected true or false"),
        ("kl_reduction=max", "expected one of mean, sum"),
        ("learning_rate=cosine_0.1", "lin_0.001"),
        ("normalize=3", "expected true or false or a mapping"),
        ("policy=MlpPolice", "MlpPolicy"),
        ("vec_env=thread", "auto, sync, subproc, envpool"),
        ("vec_env_wrapper=a.B", "not supported; wrap single environments"),
        ("env_wrapper=5", "expected module:Class"),
        ("policy_kwargs={activation_fn: os.system}", "expected a torch Module as module:Class"),
        (
            "policy_kwargs={activation_fn: Sofmax}",
            "expected a Module of torch.nn; did you mean Softmax?",
        ),
        ("policy_kwargs=[1]", "expected a mapping"),
        ("policy_kwargs={net_arc: [8]}", "policy_kwargs: unknown setting 'net_arc'; did you mean"),
        ("policy_kwargs.net_arc=[8]", "policy_kwargs: unknown setting 'net_arc'; did you mean"),
        ("gamma.net_arch=[8]", "unknown setting 'gamma.net_arch'"),
        ("normalize={norm_rewards: true}", "did you mean 'norm_reward'?"),
        ("normalize={norm_reward: 1e0}", "norm_reward=1.0: expected true or false"),
        ("policy_kwargs={activation_fn: nn.Relu}", "did you mean ReLU?"),
        ("policy_kwargs={optimizer_class: no_such.Adam}", "No module named 'no_such'"),
        ("target_kl=.inf", "expected a finite number"),
        ("critic_max_grad_norm=-1", "expected a number from 0"),
        ("line_search_shrinking_factor=2", "expected a number between 0 and 1"),
        ("line_search_shrinking_factor=1", "expected a number between 0 and 1"),
        ("learning_rate=.inf", "expected a finite number"),
        ("learning_rate=lin_-1", "expected a finite number from 0"),
        ("normalize={clip_obs: -1}", "clip_obs=-1: expected a number from 0"),
        ("policy_kwargs={optimizer_class: LBFGS}", "LBFGS cannot train the critic"),
        ("n_critic_updates=-3", "expected a number from 0"),
        (
            "net_arch=[64]",
            "an argument of the policy: use --set policy_kwargs.net_arch=...",
        ),
        ("seed=-1", "seed=-1: expected a number from 0 to 4294967295"),
        ("policy_kwargs={net_arch: {pi: [8], vff: [8]}}", "or {pi: [64, 64], vf: [64, 64]}"),
        ("policy_kwargs={net_arch: [0]}", "expected the widths of hidden layers"),
        ("policy_kwargs={net_arch: {pi: 8}}", "expected the widths of hidden layers"),
        ("policy_kwargs={net_arch: 8}", "expected the widths of hidden layers"),
    ],
)
def test_an_invalid_setting_is_refused_in_one_line(setting: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("CartPole-v1", settings=[setting])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("preset", "says"),
    [
        ("CartPole-v0", "did you mean 'CartPole-v1'"),
        ("nothing.yml", "cannot read"),
        ("list.yml", "expected a mapping"),
        ("other.yml", "has no entry 'CartPole-v1'; it has Other-v0"),
        ("twice.yml", "gamma twice in the mapping of line 2"),
    ],
)
def test_a_missing_or_ambiguous_preset_is_refused(preset: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "list.yml").write_text("[1]")
    (tmp_path / "other.yml").write_text("Other-v0: {n_steps: 1}")
    (tmp_path / "twice.yml").write_text("CartPole-v1:\n  gamma: 0.9\n  n_steps: 8\n  gamma: 0.8")
    path = str(tmp_path / preset) if preset.endswith(".yml") else preset
    with pytest.raises(ConfigError, match=says):
        load_config("CartPole-v1", preset=path)


@pytest.mark.parametrize(
    "net_arch",
    [[], [64], (64, 32), {"pi": [8], "vf": []}, {"vf": [8]}, [{"pi": [8], "vf": [8]}], None],
    ids=str,
)
def test_every_form_of_net_arch_is_accepted(net_arch: Any) -> None:
    TrainConfig("CartPole-v1", hyperparameters={"policy_kwargs": {"net_arch": net_arch}})


def test_dates_and_quoted_numbers_are_text() -> None:
    arguments = {"start": "2024-01-01", "end": "2024-13-41", "code": '"0042"', "scale": "1e-3"}
    texts = [f"{name}={value}" for name, value in arguments.items()]
    config = load_config("CartPole-v1", env_args=texts)
    assert config.env_kwargs == {**arguments, "code": "0042", "scale": 0.001}


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("env_kwargs=5", "env_kwargs=5: expected a mapping"),
        ("policy_kwargs={1: 2}", "unknown setting 1"),
        ("env_wrapper={gymnasium.wrappers.TimeLimit: 50}", "env_wrapper=.*expected module:Class"),
    ],
)
def test_a_value_of_another_type_is_refused(setting: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        wrapper_list(load_config("CartPole-v1", settings=[setting]).env_wrapper)


def test_a_count_may_have_an_exponent() -> None:
    config = load_config("CartPole-v1", settings=["learning_rate=1e-4", "n_timesteps=1e3"])
    assert config.hyperparameters["learning_rate"] == 1e-4
    assert config.n_timesteps == 1000


@pytest.mark.parametrize("algorithm", [PPO, A2C, DQN, SAC, TD3])
def test_a_setting_of_another_algorithm_is_told_from_a_typo(algorithm: type) -> None:
    """Every parameter of SB3's algorithms either is one of a run or has its own message."""
    ours = {each.name for each in fields(TrainConfig)} | HYPERPARAMETERS.keys() - {"preset"}
    for name in inspect.signature(algorithm).parameters.keys() - ours:
        with pytest.raises(ConfigError, match=r"is a setting of \w+; TRPO|the run sets") as caught:
            load_config("CartPole-v1", settings=[f"{name}=1"])
        assert "unknown setting" not in str(caught.value)


def test_the_setting_of_ppo_names_the_one_of_trpo() -> None:
    for name, ours in (
        ("clip_range", "target_kl"),
        ("n_epochs", "n_critic_updates"),
        ("max_grad_norm", "critic_max_grad_norm"),
    ):
        assert ours in HYPERPARAMETERS
        with pytest.raises(ConfigError, match=f"{name}' is a setting of PPO; .* {ours}"):
            load_config("CartPole-v1", settings=[f"{name}=0.2"])
    for name in ("env", "preset"):
        with pytest.raises(ConfigError, match=name):
            load_config("CartPole-v1", settings=[f"{name}=x"])


@pytest.mark.parametrize(
    ("name", "ours"),
    [("lr", "learning_rate"), ("delta", "target_kl"), ("hidden_sizes", "policy_kwargs.net_arch")],
)
def test_a_setting_by_another_librarys_name_is_told_ours(name: str, ours: str) -> None:
    with pytest.raises(ConfigError, match=f"^unknown setting '{name}'; here it is {ours}$"):
        load_config("CartPole-v1", settings=[f"{name}=0.1"])


def test_an_id_without_a_version_is_the_newest_version() -> None:
    assert load_config("CartPole") == load_config("CartPole-v1")
    assert load_config("NoSuchThing").env_id == "NoSuchThing"
