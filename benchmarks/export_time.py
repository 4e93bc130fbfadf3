"""How long an export takes after imports, with and without its certificate, and how large it is.

Run: ``python benchmarks/export_time.py [ENV_ID ...]``. The targets for a 64x64 network are 0.2 s
for the file alone, 10 s with the default certificate, and weights plus 8 kB.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import gymnasium
import torch
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from trpo_deploy import TRPO
from trpo_deploy.export import export_policy
from trpo_deploy.files.runs import find_run

REPEATS = 5


def measure(env_id: str, folder: Path) -> str:
    """One row of the table."""
    env = VecNormalize(DummyVecEnv([lambda: gymnasium.make(env_id)]))
    model = TRPO("MlpPolicy", env, policy_kwargs={"net_arch": [64, 64]})
    model.save(folder / "policy.zip")
    env.save(str(folder / "vecnormalize.pkl"))
    (folder / "config.yaml").write_text(f"env_id: {env_id}\n")
    source, onnx = find_run(folder), folder / "policy.onnx"
    alone = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        result = export_policy(source, onnx, verify=False)
        alone.append(time.perf_counter() - start)
    start = time.perf_counter()
    export_policy(source, onnx)
    certified = time.perf_counter() - start
    actor = [*model.policy.mlp_extractor.policy_net.parameters()]
    actor += [*model.policy.action_net.parameters()]
    weights = sum(4 * each.numel() for each in actor)
    return (
        f"| {env_id} | {alone[0]:.3f} | {min(alone):.3f} | {certified:.1f} | {result.size} | "
        f"{result.size - weights} |"
    )


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    print("| env | first export s | best s | with certificate s | bytes | beyond weights |")
    print("|---|---|---|---|---|---|")
    for env_id in sys.argv[1:] or ["CartPole-v1", "Pendulum-v1", "HalfCheetah-v5"]:
        with TemporaryDirectory() as folder:
            print(measure(env_id, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
