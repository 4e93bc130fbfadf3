"""``trpo-deploy demo``: train, export, verify and serve CartPole, then play it over HTTP."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, pstdev
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from trpo_deploy.cli.demo_service import HttpPolicy, service
from trpo_deploy.cli.output import escape, own_command, print_warnings, shell_word, stdout_console
from trpo_deploy.errors import CertificateError, ModelDirError, TrainingError
from trpo_deploy.extras import require

if TYPE_CHECKING:
    from trpo_deploy.export import Export
    from trpo_deploy.files.model_dir import ModelDir
    from trpo_deploy.files.runs import Run
    from trpo_deploy.spec.spaces import Array
    from trpo_deploy.train import TrainConfig, TrainResult

ENV_ID = "CartPole-v1"
TARGET_RETURN = 500.0
"""The highest return of CartPole-v1: every evaluated episode lasts until its time limit."""
SEED = 5
"""The training starts at a return of 9 and takes 15,360 steps, where floats are computed alike."""
EPISODES = 10
"""Episodes of each evaluation, and over HTTP."""
_PAGE = Path(__file__).with_name("cartpole_page")
"""A page in which a visitor plays against ``policy/cartpole.global.js``."""


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Run folder.")] = Path("runs/demo"),
) -> None:
    """Train, export, verify, serve and play CartPole: everything in about a minute."""
    require("train", "export", "serve", "video")
    run_demo(output, stdout_console())


def run_demo(output: Path, console: Console) -> None:
    """Run all steps, print a line for each, and a summary.

    Args:
        output: Model folder; an earlier demo in it is replaced.
        console: Console to print on.

    Raises:
        ModelDirError: The folder contains something else than an earlier demo.
        TrainingError: The training did not reach :data:`TARGET_RETURN`.
        ServeError: The service did not answer.
        CertificateError: The service took another action than the trained policy.
    """
    console.print(f"[bold]1. train[/] TRPO on {ENV_ID} to a return of {TARGET_RETURN:g}")
    from trpo_deploy.cli.progress import train_with_progress
    from trpo_deploy.export import export_policy
    from trpo_deploy.files.model_dir import ModelDir
    from trpo_deploy.files.runs import find_run
    from trpo_deploy.train.run.environments import evaluation_seed

    folder = ModelDir(output)
    config = demo_config()
    check_own(folder)
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
    with service(output) as port:
        policy = HttpPolicy(port)
        served = play(policy, seeds)
    check_equal_actions(expected, served)

    console.print("[bold]4. show[/] an episode as a video, and the policy in a page")
    video, page = _record(folder, first), _write_page(folder)
    console.print(_summary(trained, exported, served, policy.latencies))
    console.print(
        f"learning curve  {escape(folder.learning_curve)}\n"
        f"video           {escape(video)}\n"
        f"page            {escape(page)} (play against the policy)"
    )
    command, model = own_command(), shell_word(output)
    console.print(
        "try next:\n"
        f"  {command} inspect {model}\n"
        f"  {command} evaluate {model}\n"
        f"  {command} serve {model}\n"
        f"  {command} train Pendulum-v1"
    )


def demo_config() -> TrainConfig:
    """What the demo trains."""
    from trpo_deploy.train import load_config

    return load_config(
        ENV_ID, seed=SEED, eval_every=5_000, eval_episodes=EPISODES, stop_return=TARGET_RETURN
    )


def check_own(folder: ModelDir) -> None:
    """Check that nothing is lost: the folder is empty, or a run of the demo.

    Raises:
        ModelDirError: Something else is in the folder.
    """
    from trpo_deploy.files.yaml import read_yaml
    from trpo_deploy.train.config.differences import different_settings

    root = folder.root
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return
    is_run = folder.config.is_file()
    if not is_run or any(different_settings(read_yaml(folder.config), demo_config())):
        raise ModelDirError(
            f"{root} contains something else than this demo, so nothing is replaced; give another "
            "folder with -o, or move it away"
        )


def _record(folder: ModelDir, seed: int) -> Path:
    """Record an episode of the exported policy as a video."""
    from trpo_deploy.play import evaluate

    video = folder.root / "episode.mp4"
    evaluate(folder.onnx, episodes=1, seed=seed, video=video)
    return video


def _write_page(folder: ModelDir) -> Path:
    """Export the policy to JavaScript, in a page that needs no server."""
    from trpo_deploy.export import TargetOptions, export_file

    page = folder.root / "page"
    to = TargetOptions("web", page / "policy", "cartpole", force=True)
    print_warnings(export_file(folder.onnx, to, verify=True).warnings)
    shutil.copytree(_PAGE, page, dirs_exist_ok=True)
    return page / "index.html"


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
