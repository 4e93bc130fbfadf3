"""Time for one action: ``OnnxPolicy``, bare onnxruntime, NumPy and SB3.

All compute the same policy in one thread: 17 floats, normalised and clipped, two tanh layers of 64,
6 floats. They take turns in each round, so that other work on the machine slows all of them. Run
it with

    python benchmarks/latency.py [--rounds N]

It needs the extras ``train`` and ``export``, and writes ``results/latency.md``, ``.json`` and
``.png``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from harness.report import (
    RESULTS,
    TRUST,
    machine,
    markdown_table,
    median_of,
    median_ratio,
    write_results,
)
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from trpo_deploy.export import export_policy
from trpo_deploy.files.runs import find_run
from trpo_deploy.runtime import OnnxPolicy

BATCHES = (1, 8, 64, 256)
CALLS = 2000
STARTS = 7


class Bodies(gymnasium.Env[Any, Any]):
    """An environment with HalfCheetah's spaces and no physics."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (17,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (6,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed, options=options)
        return self.np_random.normal(size=17).astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:  # noqa: ARG002
        """Return a random observation, whatever the action."""
        return self.np_random.normal(size=17).astype(np.float32), 0.0, False, False, {}


def make_policy(folder: Path) -> tuple[PPO, VecNormalize, OnnxPolicy]:
    """Save, export and load a policy with a normaliser and random weights."""
    env = VecNormalize(DummyVecEnv([Bodies]), norm_reward=False)
    model = PPO("MlpPolicy", env, n_steps=64, batch_size=64, device="cpu", seed=0)
    model.learn(256)  # gives the normaliser its statistics
    model.save(folder / "policy.zip")
    env.save(str(folder / "vecnormalize.pkl"))
    env.training = False
    export_policy(find_run(folder), folder / "policy.onnx", verify=False)
    return model, env, OnnxPolicy(folder / "policy.onnx")


def by_hand(model: PPO, env: VecNormalize) -> Callable[[Any], Any]:
    """The same policy in a few lines of NumPy."""
    parameters = {
        name: tensor.detach().numpy().T.copy()
        for name, tensor in model.policy.named_parameters()
        if "value" not in name
    }
    net = "mlp_extractor.policy_net"
    w1, b1 = parameters[f"{net}.0.weight"], parameters[f"{net}.0.bias"]
    w2, b2 = parameters[f"{net}.2.weight"], parameters[f"{net}.2.bias"]
    w3, b3 = parameters["action_net.weight"], parameters["action_net.bias"]
    moments: Any = env.obs_rms  # SB3 declares it as a dict, which it is for Dict spaces only
    mean = moments.mean.astype(np.float32)
    std = np.sqrt(moments.var + env.epsilon).astype(np.float32)

    def act(observation: Any) -> Any:
        hidden = np.minimum(np.maximum((observation - mean) / std, -10), 10)
        hidden = np.tanh(hidden @ w1 + b1)
        hidden = np.tanh(hidden @ w2 + b2)
        return np.minimum(np.maximum(hidden @ w3 + b3, -1), 1)

    return act


def functions(model: PPO, env: VecNormalize, policy: OnnxPolicy) -> dict[str, Callable[[Any], Any]]:
    """The functions from a batch to its actions, by name."""
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
    """p50 and p99 of one call in microseconds."""
    times = np.empty(calls)
    for index in range(calls):
        start = time.perf_counter_ns()
        function(observation)
        times[index] = time.perf_counter_ns() - start
    p50, p99 = np.quantile(times, [0.5, 0.99]) / 1e3
    return float(p50), float(p99)


def measure(compared: dict[str, Callable[[Any], Any]], rounds: int) -> dict[str, Any]:
    """``{batch: {name: [(p50, p99), ...]}}``."""
    rng = np.random.default_rng(0)
    measured: dict[str, Any] = {}
    for batch in BATCHES:
        observation = rng.normal(size=(batch, 17)).astype(np.float32)
        check(compared, observation)
        rows: dict[str, list[tuple[float, float]]] = {name: [] for name in compared}
        for _ in range(rounds):
            for name, function in compared.items():
                calls = CALLS // 10 if name.startswith("SB3") else CALLS
                quantiles(function, observation, 50)  # warm up
                rows[name].append(quantiles(function, observation, calls))
        measured[str(batch)] = rows
    return measured


def check(compared: dict[str, Callable[[Any], Any]], observation: Any) -> None:
    """Check that all functions return the same actions."""
    want = None
    for name, function in compared.items():
        action = function(observation)
        want = action if want is None else want
        np.testing.assert_allclose(action, want, atol=1e-4, err_msg=name)


FIRST_ACTION = """
import sys
import numpy as np
from harness.peak_memory import peak_memory
from trpo_deploy.runtime import OnnxPolicy
OnnxPolicy(sys.argv[1]).predict(np.zeros(17, np.float32))
print(peak_memory())
"""


def fresh_process(policy: OnnxPolicy) -> list[tuple[float, float]]:
    """Seconds and peak MB of a new process until its first action."""
    results = []
    for _ in range(STARTS):
        start = time.perf_counter()
        output = subprocess.run(
            [sys.executable, "-c", FIRST_ACTION, str(policy.path)],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent,
        ).stdout
        results.append((time.perf_counter() - start, float(output)))
    return results


def report(measured: dict[str, Any], starts: list[tuple[float, float]]) -> str:
    """The measurements as Markdown."""
    rows = []
    for batch, compared in measured.items():
        bare = next(iter(compared.values()))
        for name, pairs in compared.items():
            p50, p99 = np.median(pairs, axis=0)
            ratio = median_ratio(pairs, bare, lambda pair: pair[0])
            rows.append([batch, name, f"{p50:.1f}", f"{p99:.1f}", f"{ratio:.2f}"])
    header = ["batch", "function", "p50 µs", "p99 µs", "p50 ÷ bare `session.run`"]
    seconds, megabytes = np.median(starts, axis=0)
    return (
        f"{markdown_table(header, rows)}\nA new process until its first action (interpreter, "
        f"imports, loading): {seconds:.2f} s, {megabytes:.0f} MB.\n"
    )


def plot(measured: dict[str, Any], path: Path) -> None:
    """p50 over the batch size, a line for each function."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    batches = [int(batch) for batch in measured]
    for name in measured[str(batches[0])]:
        p50 = [median_of(measured[str(batch)][name], lambda pair: pair[0]) for batch in batches]
        axes.plot(batches, p50, marker="o", label=name.replace("`", ""))
    axes.set(
        xscale="log", yscale="log", xlabel="observations in a call", ylabel="p50 of a call, µs"
    )
    axes.set_xticks(batches, map(str, batches))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print and write table and plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="trpo-deploy-latency-") as folder:
        model, env, policy = make_policy(Path(folder))
        measured = measure(functions(model, env, policy), options.rounds)
        starts = fresh_process(policy)
    head = f"Medians of {options.rounds} rounds, one thread: {machine('torch')}. {TRUST}\n\n"
    values = {"latency": measured, "fresh_process": starts}
    write_results("latency", values, head + report(measured, starts))
    plot(measured, RESULTS / "latency.png")


if __name__ == "__main__":
    main()
