"""Time of an export, with and without its certificate, and the size of the file.

Targets for a network of 64x64: 0.2 s for the file alone, 10 s with the default certificate, and
8 kB more than the weights. Imports are not counted. Run it with

    python benchmarks/export_time.py [ENV_ID ...]

It writes ``results/export_time.md`` and ``.json``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import gymnasium
import torch
from harness.report import machine, markdown_table, write_results
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from trpo_deploy import TRPO
from trpo_deploy.export import export_policy
from trpo_deploy.files.runs import find_run

REPEATS = 5


def measure(env_id: str, folder: Path) -> dict[str, float]:
    """Seconds and bytes of one environment's policy."""
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
    return {
        "first_s": alone[0],
        "best_s": min(alone),
        "certified_s": certified,
        "bytes": result.size,
        "bytes_beyond_weights": result.size - weights,
    }


def report(measured: dict[str, dict[str, float]]) -> str:
    """A row for each environment."""
    header = "environment|first export s|best of 5 s|with certificate s|bytes|beyond weights"
    return markdown_table(
        header.split("|"),
        [
            [
                env_id,
                f"{row['first_s']:.3f}",
                f"{row['best_s']:.3f}",
                f"{row['certified_s']:.1f}",
                f"{row['bytes']:,}",
                f"{row['bytes_beyond_weights']:,}",
            ]
            for env_id, row in measured.items()
        ],
    )


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = ["CartPole-v1", "Pendulum-v1", "HalfCheetah-v5"]
    parser.add_argument("env_ids", metavar="ENV_ID", nargs="*", default=default)
    torch.set_num_threads(1)
    measured = {}
    for env_id in parser.parse_args().env_ids:
        with TemporaryDirectory() as folder:
            measured[env_id] = measure(env_id, Path(folder))
    head = f"One thread: {machine('torch', 'onnx', 'onnxruntime')}.\n\n"
    write_results("export_time", measured, head + report(measured))


if __name__ == "__main__":
    main()
