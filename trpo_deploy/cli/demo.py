"""``trpo-deploy demo``: train, export, verify and serve CartPole, then play it over HTTP."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, pstdev
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from trpo_deploy.cli.output import escape, stdout_console
from trpo_deploy.errors import CertificateError, ServeError, TrainingError
from trpo_deploy.extras import require

if TYPE_CHECKING:
    from trpo_deploy.export import Export
    from trpo_deploy.files.runs import Run
    from trpo_deploy.spec.spaces import Array
    from trpo_deploy.train import TrainResult

ENV_ID = "CartPole-v1"
TARGET_RETURN = 475.0
"""CartPole-v1 counts as solved at this mean return."""
EPISODES = 10
"""Episodes of each evaluation, and over HTTP."""
_START_TIMEOUT_S = 60.0


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Run folder.")] = Path("runs/demo"),
) -> None:
    """Train, export, verify, serve and play CartPole: everything in about a minute."""
    require("train", "export", "serve")
    run_demo(output, stdout_console())


def run_demo(output: Path, console: Console) -> None:
    """Run all steps, print a line for each, and a summary.

    Args:
        output: Model folder; an earlier run in it is replaced.
        console: Console to print on.

    Raises:
        TrainingError: the training did not reach :data:`TARGET_RETURN`.
        ServeError: the service did not answer.
        CertificateError: the service took another action than the trained policy.
    """
    from trpo_deploy.cli.progress import train_with_progress
    from trpo_deploy.export import export_policy
    from trpo_deploy.files.model_dir import ModelDir
    from trpo_deploy.files.runs import find_run
    from trpo_deploy.train import load_config
    from trpo_deploy.train.run.environments import evaluation_seed

    folder = ModelDir(output)
    console.print(f"[bold]1. train[/] TRPO on {ENV_ID} to a return of {TARGET_RETURN:g}")
    config = load_config(
        ENV_ID, eval_every=5_000, eval_episodes=EPISODES, stop_return=TARGET_RETURN
    )
    trained = train_with_progress(console, config, folder, force=output.exists())
    if not trained.stopped_early:
        raise TrainingError(f"the return stayed at {trained.last.mean:.1f}, below {TARGET_RETURN}")

    console.print("[bold]2. export[/] the policy to one ONNX file and verify it against SB3")
    source = find_run(output)
    exported = export_policy(source, folder.onnx)

    console.print("[bold]3. serve[/] it with BentoML and play the last evaluation's episodes again")
    first = evaluation_seed(config)
    seeds = range(first, first + EPISODES)
    expected = play(_torch_policy(source), seeds)
    with _service(output) as port:
        policy = _HttpPolicy(port)
        served = play(policy, seeds)
    check_equal_actions(expected, served)
    console.print(_summary(trained, exported, served, policy.latencies))
    console.print(
        "try next:\n"
        f"  trpo-deploy inspect {escape(output)}\n"
        f"  trpo-deploy evaluate {escape(output)}\n"
        f"  trpo-deploy serve {escape(output)}\n"
        "  trpo-deploy train Pendulum-v1"
    )


def _summary(
    trained: TrainResult, exported: Export, served: list[PlayedEpisode], latencies: list[float]
) -> Table:
    assert exported.certificate is not None
    returns = [episode.total for episode in served]
    steps = sum(len(episode.actions) for episode in served)
    table = Table(title="from training to HTTP", show_header=False)
    table.add_row("trained", f"{trained.timesteps:,} steps in {trained.seconds:.0f} s")
    table.add_row("return in training", f"{trained.last.mean:.1f} ± {trained.last.std:.1f}")
    table.add_row("return over HTTP", f"{fmean(returns):.1f} ± {pstdev(returns):.1f}")
    table.add_row(
        "compared with torch", f"every action equal: {EPISODES} episodes, {steps:,} actions"
    )
    table.add_row("certificate", f"the same policy ({len(exported.certificate.checks)} checks)")
    table.add_row("policy.onnx", f"{exported.size / 1024:.1f} KiB")
    table.add_row("latency over HTTP", f"{1e3 * median(latencies):.2f} ms (median)")
    return table


@dataclass(frozen=True)
class PlayedEpisode:
    """An episode of CartPole."""

    seed: int
    actions: list[int]
    total: float
    """Sum of rewards."""


def play(policy: Callable[[Array], int], seeds: Iterable[int]) -> list[PlayedEpisode]:
    """Play one episode per seed.

    Args:
        policy: Maps an observation, float32 ``(4,)``, to an action.
        seeds: Seeds for ``env.reset``.
    """
    import gymnasium

    episodes = []
    with gymnasium.make(ENV_ID) as env:
        for seed in seeds:
            actions: list[int] = []
            total, over = 0.0, False
            observation, _ = env.reset(seed=seed)
            while not over:
                actions.append(policy(observation))
                observation, reward, terminated, truncated, _ = env.step(actions[-1])
                total += float(reward)
                over = terminated or truncated
            episodes.append(PlayedEpisode(seed, actions, total))
    return episodes


def check_equal_actions(expected: list[PlayedEpisode], served: list[PlayedEpisode]) -> None:
    """Compare the actions of the trained policy with those of the service.

    Raises:
        CertificateError: they differ; names the seed and the step.
    """
    for ours, theirs in zip(expected, served, strict=True):
        # Episodes are deterministic: up to the first difference both saw the same observations.
        pairs = zip(ours.actions, theirs.actions, strict=False)
        for step, (action, answer) in enumerate(pairs):
            if action != answer:
                raise CertificateError(
                    f"{ENV_ID}, seed {ours.seed}, step {step}: the trained policy takes action "
                    f"{action}, the service answered {answer}"
                )


def _torch_policy(source: Run) -> Callable[[Array], int]:
    """The trained policy as Stable-Baselines3 runs it."""
    from trpo_deploy.sb3.from_files import load_source
    from trpo_deploy.sb3.source import SourceOptions

    reference = load_source(source, SourceOptions()).reference
    return lambda observation: int(reference.predict(observation[None])[0][0])


class _HttpPolicy:
    """The served policy: one ``POST /predict`` per action.

    Args:
        port: Port of the service on this machine.
    """

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self.latencies: list[float] = []
        """Seconds from request to answer."""

    def __call__(self, observation: Array) -> int:
        body = json.dumps({"observation": observation.tolist()})
        start = time.perf_counter()
        self._connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
        self.latencies.append(time.perf_counter() - start)
        if response.status != http.client.OK:
            raise ServeError(f"the service answered {response.status}: {answer}")
        return int(answer["action"])


@contextmanager
def _service(model: Path) -> Iterator[int]:
    """Run ``trpo-deploy serve`` in its own process; gives the port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [sys.executable, "-m", "trpo_deploy", "serve", str(model), "--port", str(port)]
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        _wait_until_ready(process, port)
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=30)


def _wait_until_ready(process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            error = process.stderr.read() if process.stderr else ""
            raise ServeError(f"the service ended while starting: {error}")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == http.client.OK:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise ServeError(f"the service was not ready within {_START_TIMEOUT_S:g} s")
