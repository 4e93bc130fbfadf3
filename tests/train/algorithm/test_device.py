"""Training on a GPU: updates equal the CPU's, and a rollout is copied there once."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sb3_contrib
import torch
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer

from tests.train.algorithm.test_trpo import CASES, model_of
from trpo_deploy import TRPO
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.train.config.load import load_config
from trpo_deploy.train.run.trainer import train
from trpo_deploy.train.update.autograd_regression import mini_batches_on_device
from trpo_deploy.train.update.regression import RegressionSettings

gpu = pytest.mark.gpu
needs_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
GPU = "cuda"
# SB3 warns that small dense networks are slow on a GPU.
quietly = pytest.mark.filterwarnings("ignore:You are trying to run TRPO on the GPU")


def with_a_rollout(case: str, device: str) -> TRPO:
    model: TRPO = model_of(case, batch_size=24, seed=0, device=device)
    return model.learn(64)


def give_rollout(of: TRPO, to: TRPO) -> None:
    """Copy policy, optimizer, noise and samples of one model to the other."""
    to.policy.load_state_dict(of.policy.state_dict())
    to.policy.optimizer.load_state_dict(copy.deepcopy(of.policy.optimizer.state_dict()))
    for name in ("exploration_mat", "exploration_matrices"):
        if of.use_sde:
            noise = getattr(of.policy.action_dist, name).to(to.device)
            setattr(to.policy.action_dist, name, noise)
    kept = {key: value for key, value in vars(of.rollout_buffer).items() if key != "device"}
    vars(to.rollout_buffer).update(copy.deepcopy(kept))


def drawn_on_the_cpu(like: torch.Tensor) -> torch.Tensor:
    return torch.randn(like.shape).to(like.device)


@gpu
@needs_a_gpu
@quietly
@pytest.mark.filterwarnings("ignore:The rollout of")
@pytest.mark.parametrize("case", CASES)
def test_an_update_on_a_gpu_equals_the_cpus(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    # The start of conjugate gradient: a GPU's generator gives other numbers.
    monkeypatch.setattr(torch, "randn_like", drawn_on_the_cpu)
    cpu, other = (with_a_rollout(case, device) for device in ("cpu", GPU))
    give_rollout(cpu, other)
    for model in (cpu, other):
        torch.manual_seed(1)
        np.random.seed(1)
        model.train()
    assert all(parameter.device.type == GPU for parameter in other.policy.parameters())
    ours = {key: value.cpu() for key, value in other.policy.state_dict().items()}
    # float32 sums in another order, as between the two paths on the CPU
    torch.testing.assert_close(ours, dict(cpu.policy.state_dict()), rtol=1e-4, atol=2e-5)


@gpu
@needs_a_gpu
@quietly
def test_a_gpu_run_resumes_exactly_and_its_policy_opens_on_a_cpu(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {
        "eval_every": 2048,
        "eval_episodes": 2,
        "checkpoint_every": 1024,
        "seed": 3,
    }

    def run(folder: str, steps: int, *, resume: bool = False) -> sb3_contrib.TRPO:
        steady = ["target_kl_end=null"]  # a schedule depends on the run's length
        config = load_config("CartPole-v1", settings=steady, device=GPU, n_timesteps=steps, **sizes)
        train(config, ModelDir(tmp_path / folder), resume=resume)
        return sb3_contrib.TRPO.load(tmp_path / folder / "policy.zip", device="cpu")

    whole = run("whole", 4096)
    run("parts", 2048)
    parts = run("parts", 4096, resume=True)
    torch.testing.assert_close(
        dict(parts.policy.state_dict()), dict(whole.policy.state_dict()), rtol=0, atol=0
    )


@pytest.mark.parametrize("batch_size", [24, None])
@pytest.mark.parametrize("case", ["box", "discrete observation", "keys, shared extractor"])
def test_mini_batches_on_the_device_equal_the_buffers(case: str, batch_size: int | None) -> None:
    with pytest.warns(UserWarning, match="The rollout of"):
        buffer = with_a_rollout(case, "cpu").rollout_buffer
    assert type(buffer) in (RolloutBuffer, DictRolloutBuffer)
    np.random.seed(2)
    expected = [batch for _ in range(2) for batch in buffer.get(batch_size)]
    np.random.seed(2)
    found = list(mini_batches_on_device(buffer, RegressionSettings(2, batch_size)))
    assert len(found) == len(expected) == (2 if batch_size is None else 6)
    for (observations, returns), batch in zip(found, expected, strict=True):
        torch.testing.assert_close(observations, batch.observations, rtol=0, atol=0)
        torch.testing.assert_close(returns, batch.returns, rtol=0, atol=0)
