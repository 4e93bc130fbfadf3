"""Search spaces: RL Zoo's by default, one clear line for each mistake, values that train."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import IntDistribution, json_to_distribution

from trpo_deploy.errors import ConfigError
from trpo_deploy.files.yaml import to_yaml
from trpo_deploy.train.config.load import load_config
from trpo_deploy.train.config.train_config import TrainConfig
from trpo_deploy.train.run.tuning.space import Space, read_space


def check(settings: list[str]) -> TrainConfig:
    return load_config("CartPole-v1", settings=settings)


def space_of(folder: Path, **entries: Any) -> Space:
    file = folder / "space.yml"
    file.write_text(to_yaml(entries))
    return read_space(file, check)


@pytest.fixture
def study() -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))


_RL_ZOOS = """
import json
import optuna
from optuna.distributions import distribution_to_json
from rl_zoo3.hyperparams_opt import HYPERPARAMS_SAMPLER

trial = optuna.create_study().ask()
HYPERPARAMS_SAMPLER["trpo"](trial, 1, 1, {})
print(json.dumps({name: distribution_to_json(each) for name, each in trial.distributions.items()}))
"""


def test_the_default_space_is_rl_zoos(study: optuna.Study) -> None:
    ours = study.ask()
    read_space(None, check).suggest(ours)
    # In a process of its own: the import replaces Gymnasium's TimeLimit.
    done = subprocess.run([sys.executable, "-c", _RL_ZOOS], check=True, capture_output=True)
    theirs = {name: json_to_distribution(text) for name, text in json.loads(done.stdout).items()}
    names = {
        "n_steps_pow": "log2(n_steps)",
        "batch_size_pow": "log2(batch_size)",
        "one_minus_gamma": "1 - gamma",
        "one_minus_gae_lambda": "1 - gae_lambda",
        "net_arch": "policy_kwargs.net_arch",
        "activation_fn": "policy_kwargs.activation_fn",
    }
    assert {names.get(name, name) for name in theirs} == ours.params.keys()
    expected: Any
    for name, expected in theirs.items():
        found: Any = ours.distributions[names.get(name, name)]
        assert type(found) is type(expected)
        if name not in ("net_arch", "activation_fn"):
            assert found.log == expected.log
            assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_suggestions_train_and_stay_in_their_range(study: optuna.Study) -> None:
    space = read_space(None, check)
    for _ in range(50):
        trial = study.ask()
        settings = space.suggest(trial)
        assert settings == space.suggest(trial)
        values = check(settings).hyperparameters
        assert values["n_steps"] in [2**i for i in range(5, 13)]
        assert 0.97 <= values["gamma"] <= 0.9999
        assert 1e-5 <= values["learning_rate"] <= 0.002
        assert type(values["cg_max_steps"]) is int
        assert values["policy_kwargs"]["activation_fn"] in ("Tanh", "ReLU")
        assert values["policy_kwargs"]["net_arch"]["pi"] in ([64, 64], [256, 256])


def test_choices_keep_their_types(tmp_path: Path, study: optuna.Study) -> None:
    choices = [True, "lin_0.001", 0.01, "1e-3", None, {"a": [1]}]
    file = tmp_path / "space.yml"
    file.write_text(to_yaml({"learning_rate": choices}))
    space = read_space(file, lambda _: None)
    found = {space.suggest(study.ask())[0] for _ in range(100)}
    assert found == {
        f"learning_rate={text}"
        for text in ("true", "lin_0.001", "0.01", '"1e-3"', "null", '{"a": [1]}')
    }


def test_whole_numbers_stay_whole_on_a_log_scale(tmp_path: Path, study: optuna.Study) -> None:
    space = space_of(tmp_path, n_steps={"low": 10, "high": 1000, "scale": "log"})
    trial = study.ask()
    assert type(check(space.suggest(trial)).hyperparameters["n_steps"]) is int
    assert trial.distributions["n_steps"] == IntDistribution(10, 1000, log=True)


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({}, "at least one setting"),
        ({"gama": [0.9, 0.99]}, "unknown setting 'gama'; did you mean 'gamma'"),
        ({"gamma": 0.9}, "gamma: 0.9: expected a list of values, or a range such as"),
        ({"gamma": [0.9]}, r"gamma: \[0.9\]: expected two values or more"),
        ({"gamma": [0.9, 0.9]}, "gamma: 0.9 twice"),
        ({"gamma": [0.9, 1.1]}, "gamma=1.1: expected a number from 0 to 1"),
        ({"gamma": {"low": 0.9}}, "gamma: high=None: expected a finite number"),
        ({"gamma": {"low": 0.9, "high": True}}, "gamma: high=True: expected a finite number"),
        ({"gamma": {"low": 0.9, "high": float("inf")}}, "high=inf: expected a finite number"),
        ({"gamma": {"low": 0.9, "high": 0.9}}, "low=0.9, high=0.9: expected low below high"),
        ({"gamma": {"low": 0.9, "high": 1.5}}, "gamma=1.5: expected a number from 0 to 1"),
        ({"gamma": {"low": 0, "high": 1, "scale": "log"}}, "low=0: expected a number above 0"),
        (
            {"gamma": {"low": 0.9, "high": 1, "scale": "log_of_1_minus"}},
            "high=1: expected a number below 1",
        ),
        (
            {"n_steps": {"low": 32, "high": 100, "scale": "powers_of_2"}},
            "n_steps: high=100: expected 1, 2, 4, 8",
        ),
        ({"gamma": {"low": 0.9, "high": 1, "scale": "lin"}}, "scale='lin': expected one of linear"),
        ({"gamma": {"low": 0.9, "hihg": 1}}, "gamma: unknown setting 'hihg'; did you mean 'high'"),
        ({"n_timesteps": [1000, 2000]}, "n_timesteps cannot be searched.*--set n_timesteps"),
        ({"seed": [1, 2]}, "seed cannot be searched"),
        ({"policy_kwargs.net_arch": [[64], [0]]}, "expected the widths of hidden layers"),
    ],
)
def test_each_mistake_is_one_clear_line(entries: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"space.yml: .*{says}"):
        space_of(tmp_path, **entries)


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none\.yml"):
        read_space(tmp_path / "none.yml", partial(load_config, "CartPole-v1"))
