"""A run leaves torch's compiler out, and its optimizers can be compiled after it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_RUN = """
import sys
import torch
from pathlib import Path
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.train import load_config, train

folder = ModelDir(Path("run"))
for steps in (256, 512):
    settings = ["n_steps=128", "n_envs=1"]
    config = load_config("CartPole-v1", n_timesteps=steps, eval_episodes=1, settings=settings)
    train(config, folder, resume=steps > 256)
assert "torch._dynamo" not in sys.modules
"""

_COMPILED = """
weight = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.Adam([weight], lr=0.1)

@torch.compile(backend="eager")
def step():
    optimizer.zero_grad()
    (weight**2).sum().backward()
    optimizer.step()

step()
assert "torch._dynamo" in sys.modules
assert torch.allclose(weight, torch.full((3,), 0.9))
"""


def test_a_run_imports_no_compiler_and_leaves_it_usable(tmp_path: Path) -> None:
    program = _RUN + _COMPILED
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, cwd=tmp_path)
