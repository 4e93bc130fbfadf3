"""How long one action takes: ``OnnxPolicy`` against SB3, bare onnxruntime and NumPy by hand.

All five compute the same policy (17 numbers in, two tanh layers of 64, 6 numbers out, normalised
and clipped), one observation at a time in one thread. They take turns in each round, so that a
busy machine is busy for all of them; numbers are medians over the rounds. Run it with
``python benchmarks/latency.py``; it needs the extras ``train`` and ``export``, and writes
``benchmarks/results/latency.md``, ``.json`` and ``.png``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from trpo_deploy.export import export_policy
from trpo_deploy.files.runs import find_run
from trpo_deploy.runtime import OnnxPolicy

RESULTS = Path(__file__).parent / "results"
BATCHES = (1, 8, 64, 256)
CALLS = 2000
STARTS = 7


class Bodies(gymnasium.Env[Any, Any]):
    """The spaces of HalfCheetah without its physics: only the policy is measured."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (17,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (6,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed, options=options)
        return self.np_random.normal(size=17).astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:  # noqa: ARG002
        """Give the next observation, whatever the action."""
        return self.np_random.normal(size=17).astype(np.float32), 0.0, False, False, {}


def make_policy(folder: Path) -> tuple[PPO, VecNormalize, OnnxPolicy]:
    """An untrained policy with a normaliser, saved, exported and loaded again."""
    env = VecNormalize(DummyVecEnv([Bodies]), norm_reward=False)
    model = PPO("MlpPolicy", env, n_steps=64, batch_size=64, device="cpu", seed=0)
    model.learn(256)  # gives the normaliser its statistics
    model.save(folder / "policy.zip")
    env.save(str(folder / "vecnormalize.pkl"))
    env.training = False
    export_policy(find_run(folder), folder / "policy.onnx", verify=False)
    return model, env, OnnxPolicy(folder / "policy.onnx")


def by_hand(model: PPO, env: VecNormalize) -> Callable[[Any], Any]:
    """The same policy as a few NumPy lines."""
    parameters = {
        name: tensor.detach().numpy().T.copy()
        for name, tensor in model.policy.named_parameters()
        if "value" not in name
    }
    net = "mlp_extractor.policy_net"
    w1, b1 = parameters[f"{net}.0.weight"], parameters[f"{net}.0.bias"]
    w2, b2 = parameters[f"{net}.2.weight"], parameters[f"{net}.2.bias"]
    w3, b3 = parameters["action_net.weight"], parameters["action_net.bias"]
    mean = env.obs_rms.mean.astype(np.float32)
    std = np.sqrt(env.obs_rms.var + env.epsilon).astype(np.float32)

    def act(observation: Any) -> Any:
        hidden = np.minimum(np.maximum((observation - mean) / std, -10), 10)
        hidden = np.tanh(hidden @ w1 + b1)
        hidden = np.tanh(hidden @ w2 + b2)
        return np.minimum(np.maximum(hidden @ w3 + b3, -1), 1)

    return act


def ways(model: PPO, env: VecNormalize, policy: OnnxPolicy) -> dict[str, Callable[[Any], Any]]:
    """Each way to the action of a batch, by name."""
    session = policy._session
    return {
        "bare onnxruntime `session.run`": lambda obs: session.run(["action"], {"obs": obs})[0],
        "`OnnxPolicy.predict`": lambda obs: policy.predict(obs)[0],
        "`OnnxPolicy.predict(validate=False)`": lambda obs: policy.predict(obs, validate=False)[0],
        "NumPy by hand": by_hand(model, env),
        "SB3 `model.predict`": lambda obs: model.predict(
            env.normalize_obs(obs), deterministic=True
        )[0],
    }


def quantiles(function: Callable[[Any], Any], observation: Any, calls: int) -> tuple[float, float]:
    """p50 and p99 of one call, in microseconds."""
    times = np.empty(calls)
    for index in range(calls):
        start = time.perf_counter_ns()
        function(observation)
        times[index] = time.perf_counter_ns() - start
    return tuple(np.quantile(times, [0.5, 0.99]) / 1e3)  # type: ignore[return-value]


def measure(functions: dict[str, Callable[[Any], Any]], rounds: int) -> dict[str, Any]:
    """``{batch: {name: [(p50, p99), ...]}}``."""
    rng = np.random.default_rng(0)
    measured: dict[str, Any] = {}
    for batch in BATCHES:
        observation = rng.normal(size=(batch, 17)).astype(np.float32)
        check(functions, observation)
        rows: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
        for _ in range(rounds):
            for name, function in functions.items():
                calls = CALLS // 10 if name.startswith("SB3") else CALLS
                quantiles(function, observation, 50)  # warm
                rows[name].append(quantiles(function, observation, calls))
        measured[str(batch)] = rows
    return measured


def check(functions: dict[str, Callable[[Any], Any]], observation: Any) -> None:
    """All of them give the same actions, or the comparison means nothing."""
    want = None
    for name, function in functions.items():
        action = function(observation)
        want = action if want is None else want
        np.testing.assert_allclose(action, want, atol=1e-4, err_msg=name)


START = """
import re, sys
import numpy as np
from trpo_deploy.runtime import OnnxPolicy
OnnxPolicy(sys.argv[1]).predict(np.zeros(17, np.float32))
# Not getrusage: what it tells begins with the parent's memory at the fork.
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024)
"""


def fresh_process(policy: OnnxPolicy) -> list[tuple[float, float]]:
    """Seconds and MB from nothing to the first action, interpreter and all."""
    results = []
    for _ in range(STARTS):
        start = time.perf_counter()
        output = subprocess.run(
            [sys.executable, "-c", START, str(policy.path)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        results.append((time.perf_counter() - start, float(output)))
    return results


def median(values: Sequence[float]) -> float:
    """The median, for short lines below."""
    return statistics.median(values)


def table(measured: dict[str, Any], starts: list[tuple[float, float]]) -> str:
    """The measurements as Markdown."""
    lines = [
        "| batch | way | p50 µs | p99 µs | p50 ÷ bare `session.run` |",
        "|---|---|---|---|---|",
    ]
    for batch, rows in measured.items():
        bare = next(iter(rows.values()))
        for name, pairs in rows.items():
            ratio = median([mine[0] / its[0] for mine, its in zip(pairs, bare, strict=True)])
            p50, p99 = (median([pair[i] for pair in pairs]) for i in (0, 1))
            lines.append(f"| {batch} | {name} | {p50:.1f} | {p99:.1f} | {ratio:.2f} |")
    seconds, megabytes = (median([start[i] for start in starts]) for i in (0, 1))
    lines += [
        "",
        "From nothing to the first action in a fresh process (interpreter, import, load): "
        f"{seconds:.2f} s, {megabytes:.0f} MB.",
    ]
    return "\n".join(lines) + "\n"


def plot(measured: dict[str, Any], path: Path) -> None:
    """p50 over the batch size, a line for each way."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    batches = [int(batch) for batch in measured]
    for name in measured[str(batches[0])]:
        p50 = [median([pair[0] for pair in measured[str(batch)][name]]) for batch in batches]
        axes.plot(batches, p50, marker="o", label=name.replace("`", ""))
    axes.set(xscale="log", yscale="log", xlabel="observations a call", ylabel="p50 of a call, µs")
    axes.set_xticks(batches, map(str, batches))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print and write the table and the plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="trpo-deploy-latency-") as folder:
        model, env, policy = make_policy(Path(folder))
        measured = measure(ways(model, env, policy), options.rounds)
        starts = fresh_process(policy)
    head = (
        f"Medians of {options.rounds} rounds, one thread: {platform.machine()}, {os.cpu_count()} "
        f"cores, Python {platform.python_version()}, torch {torch.__version__}. Trust the "
        "ratios, not the absolute numbers.\n\n"
    )
    text = head + table(measured, starts)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latency.md").write_text(text)
    values = {"latency": measured, "fresh_process": starts}
    (RESULTS / "latency.json").write_text(json.dumps(values, indent=1) + "\n")
    plot(measured, RESULTS / "latency.png")
    print(text)


if __name__ == "__main__":
    main()
