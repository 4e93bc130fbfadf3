"""The critic's regression as a graph: it runs during the policy step and changes nothing early."""

from __future__ import annotations

import copy
import subprocess
import sys
from threading import Event
from typing import Any

import onnxruntime
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from tests.train.mlp.policies import FROM_VALUE, NORMS, trained
from trpo_deploy import TRPO
from trpo_deploy.train.mlp.actor import MlpActor
from trpo_deploy.train.mlp.regression import MlpRegression, can_regress
from trpo_deploy.train.mlp.standard_mlp import standard_mlp
from trpo_deploy.train.update.autograd_regression import AutogradRegression
from trpo_deploy.train.update.regression import NOT_FINITE, RegressionSettings

SMALL = """
import sys, threading
from gymnasium import spaces
from tests.train.environments import RandomEnv
from trpo_deploy import TRPO

model = TRPO("MlpPolicy", RandomEnv(spaces.Discrete(3)), n_steps=64, batch_size=64, device="cpu")
"""
OUTLIVING = """
threading.Thread(target=lambda: print(model.learn(192).num_timesteps)).start()
"""
IMPORTING = """
class Witness:
    def find_spec(self, name, *_):
        if name == "onnxruntime" and threading.current_thread() is threading.main_thread():
            print("imported", name)

sys.meta_path.insert(0, Witness())
model.learn(192)
"""


@pytest.mark.parametrize(
    ("program", "says"),
    [(OUTLIVING, "192"), (IMPORTING, "")],
    ids=["a thread that outlives the main thread", "the main thread imports no extension"],
)
def test_training_works_in(program: str, says: str) -> None:
    code = SMALL + program
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert (run.stdout.strip(), run.stderr, run.returncode) == (says, "", 0)


SECONDS = 20
"""How long two threads wait for each other, far longer than either takes."""


def test_the_regression_runs_during_the_policy_step(monkeypatch: pytest.MonkeyPatch) -> None:
    regression_started, step_started = Event(), Event()
    run, policy_step = onnxruntime.InferenceSession.run, TRPO.policy_step
    overlaps = []

    def run_during_the_step(*arguments: Any) -> Any:
        regression_started.set()
        overlaps.append(step_started.wait(SECONDS))
        return run(*arguments)

    def step_during_the_run(*arguments: Any) -> Any:
        step_started.set()
        overlaps.append(regression_started.wait(SECONDS))
        return policy_step(*arguments)

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", run_during_the_step)
    monkeypatch.setattr(TRPO, "policy_step", step_during_the_run)
    trained(spaces.Discrete(3), generic=False, n_updates=1)
    assert overlaps == [True, True]


@pytest.mark.parametrize("max_grad_norm", [None, 0.5])
@pytest.mark.parametrize(
    ("policy", "activation"),
    [
        *(("MlpPolicy", activation) for activation in (*FROM_VALUE, nn.SiLU)),
        *((policy, nn.Tanh) for policy in NORMS),
    ],
)
def test_a_regression_changes_nothing_before_commit_and_prints_nothing(
    policy: str | type[ActorCriticPolicy],
    activation: type[nn.Module],
    max_grad_norm: float | None,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kwargs = {"activation_fn": activation}
    model = trained(spaces.Discrete(3), generic=False, policy=policy, policy_kwargs=kwargs)
    mlp = standard_mlp(model.policy)
    assert mlp is not None
    before = copy.deepcopy([model.policy.state_dict(), model.policy.optimizer.state_dict()])
    critic_before = [parameter.detach().clone() for parameter in mlp.critic.parameters]
    finished, run = Event(), onnxruntime.InferenceSession.run

    def run_to_the_end(*arguments: Any) -> Any:
        outputs = run(*arguments)
        finished.set()
        return outputs

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", run_to_the_end)
    settings = RegressionSettings(3, 64, max_grad_norm)
    regression = MlpRegression(model.policy, mlp.critic, model.rollout_buffer, settings)
    assert finished.wait(SECONDS)
    after = [model.policy.state_dict(), model.policy.optimizer.state_dict()]
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert regression.commit().refusal is None
    for parameter, old in zip(mlp.critic.parameters, critic_before, strict=True):
        assert not torch.equal(parameter, old)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("observations", "returns"), [(1.0, 5e18), (1e4, 1e17)], ids=["the loss", "a moment"]
)
def test_a_regression_beyond_float32_is_refused_by_both_implementations(
    observations: float, returns: float
) -> None:
    model = trained(spaces.Discrete(3), generic=False, policy_kwargs={"activation_fn": nn.ReLU})
    mlp, buffer = standard_mlp(model.policy), model.rollout_buffer
    assert mlp is not None
    buffer.observations *= observations
    buffer.returns[:] = returns
    before = copy.deepcopy([model.policy.state_dict(), model.policy.optimizer.state_dict()])
    settings = RegressionSettings(1, 64)
    regression = MlpRegression(model.policy, mlp.critic, buffer, settings)
    assert regression.commit().refusal == NOT_FINITE
    after = [model.policy.state_dict(), model.policy.optimizer.state_dict()]
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    actor = MlpActor(model.policy, mlp, torch.zeros(1, 3))
    by_autograd = AutogradRegression(model.policy, actor, buffer, settings)
    assert by_autograd.commit().refusal == NOT_FINITE


@pytest.mark.parametrize("other", [{"dtype": torch.float64}, {"device": "meta"}], ids=str)
def test_a_regression_needs_float32_on_the_cpu(other: dict[str, Any]) -> None:
    parameters = [nn.Parameter(torch.zeros(3))]
    assert can_regress(torch.optim.Adam(parameters), parameters)
    others = [nn.Parameter(torch.zeros(3, **other))]
    assert not can_regress(torch.optim.Adam(others), others)
