"""The command ``trpo-deploy``: each command parses, calls one function, prints.

Everything heavy is imported inside of the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import json
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from trpo_deploy.errors import ConfigError, TrpoDeployError

if TYPE_CHECKING:
    from trpo_deploy.export import Certificate, Export
    from trpo_deploy.train import TrainResult

app = typer.Typer(
    name="trpo-deploy",
    help="Train TRPO policies, export each to one certified ONNX file, serve it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console(highlight=False, soft_wrap=True)


def main() -> None:
    """Run the command line; an error of the user's making is one line and exit code 1."""
    try:
        app()
    except TrpoDeployError as error:
        message = " ".join(str(error).split())
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"[bold red]error:[/] {_escape(message)}"
        )
        sys.exit(1)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


class Backend(str, Enum):
    """What runs a policy."""

    onnx = "onnx"
    torch = "torch"


class OutOfBounds(str, Enum):
    """What a service does with numbers beyond a finite bound."""

    refuse = "refuse"
    clip = "clip"
    accept = "accept"


EnvId = Annotated[str, typer.Argument(help="A Gymnasium id, or module:Id.", show_default=False)]
Source = Annotated[
    Path,
    typer.Argument(
        help="A policy zip, a model folder, or a run folder of RL Zoo.", show_default=False
    ),
]
Model = Annotated[Path, typer.Argument(help="A model folder or a policy.onnx.", show_default=False)]
Seed = Annotated[int, typer.Option("--seed", help="Of everything that is random.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object and nothing else.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the model folder that is there.")]
Statistics = Annotated[
    Path | None,
    typer.Option("--vecnormalize", help="Statistics, where the layout does not tell them."),
]
OtherEnv = Annotated[
    str | None, typer.Option("--env", help="The environment, where the source does not tell it.")
]
Steps = Annotated[int, typer.Option("--steps", min=1, help="On-policy observations to compare.")]


@app.command()
def train(
    env_id: EnvId,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Model folder.  [default: models/ENV_ID]"),
    ] = None,
    timesteps: Annotated[
        int | None, typer.Option("--timesteps", "-n", help="Environment steps to train for.")
    ] = None,
    seed: Seed = 0,
    n_envs: Annotated[int | None, typer.Option(help="Environments side by side.")] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="A shipped preset or a YAML file.  [default: the environment's own]"),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value of a hyperparameter or setting; repeatable."),
    ] = None,
    env_args: Annotated[
        list[str] | None,
        typer.Option("--env-arg", help="key=value for the environment; repeatable."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    eval_every: Annotated[int | None, typer.Option(help="Steps between evaluations.")] = None,
    eval_episodes: Annotated[int | None, typer.Option(help="Episodes of an evaluation.")] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
    export: Annotated[bool, typer.Option(help="Export and certify the policy at the end.")] = True,
    force: Force = False,
) -> None:
    """Train a TRPO policy and write a model folder."""
    from trpo_deploy.extras import require

    require("train", *(["export"] if export else []))
    from trpo_deploy.model_dir import ModelDir, find_source
    from trpo_deploy.train import load_config

    config = load_config(
        env_id,
        preset=preset,
        settings=settings or (),
        env_args=env_args or (),
        n_timesteps=timesteps,
        seed=seed,
        n_envs=n_envs,
        device=device,
        eval_every=eval_every,
        eval_episodes=eval_episodes,
    )
    folder = ModelDir(output or Path("models") / env_id.replace(":", "_").replace("/", "_"))
    result = train_with_progress(config, folder, force=force, show=progress)
    _print_training(result)
    if export:
        from trpo_deploy.export import export_policy

        _print_export(export_policy(find_source(folder.root), folder.onnx))
        out.print(f"next: trpo-deploy serve {folder.root}")


def train_with_progress(config: Any, folder: Any, *, force: bool, show: bool) -> TrainResult:
    """Train with a progress bar and a line for each evaluation."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from trpo_deploy.train import train

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TextColumn("{task.fields[recent]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=out, disable=not show, transient=True) as bar:
        task = bar.add_task(config.env_id, total=config.n_timesteps, speed="", recent="")

        def on_progress(timesteps: int, recent: float | None) -> None:
            text = "" if recent is None else f"return {recent:.1f}"
            bar.update(task, completed=timesteps, recent=text)
            speed = bar.tasks[task].speed
            bar.update(task, speed="" if speed is None else f"{speed:,.0f} steps/s")

        return train(
            config,
            folder,
            force=force,
            on_evaluation=lambda point: bar.console.print(
                f"evaluation at {point.timesteps:>9,} steps: "
                f"return {point.mean:.1f} ± {point.std:.1f}"
            ),
            on_progress=on_progress,
        )


@app.command()
def evaluate(
    model: Model,
    backend: Annotated[
        Backend, typer.Option(help="The exported file, or the torch policy.")
    ] = Backend.onnx,
    episodes: Annotated[int, typer.Option(min=1, help="How many to play.")] = 20,
    seed: Seed = 0,
    stochastic: Annotated[
        bool, typer.Option("--stochastic", help="Draw actions at random, as in training.")
    ] = False,
    env: OtherEnv = None,
    as_json: Json = False,
) -> None:
    """Play a policy in its environment and print its returns."""
    from trpo_deploy.extras import require

    require("train")
    from trpo_deploy.train import evaluate as play

    result = play(
        model,
        backend=backend.value,
        env_id=env,
        episodes=episodes,
        seed=seed,
        deterministic=not stochastic,
    )
    returns = result.returns
    if as_json:
        _print_json(
            {
                "env_id": result.env_id,
                "note": result.note,
                "backend": backend.value,
                "return_mean": float(returns.mean()),
                "return_std": float(returns.std()),
                "returns": returns.tolist(),
            }
        )
        return
    if result.note:
        out.print(f"note: {_escape(result.note)}")
    out.print(
        f"{result.env_id}: return {returns.mean():.1f} ± {returns.std():.1f} "
        f"(min {returns.min():.1f}, max {returns.max():.1f}, {len(returns)} episodes, "
        f"{backend.value})"
    )


@app.command()
def export(
    source: Source,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The ONNX file.  [default: policy.onnx in a model folder, else ENV_ID.onnx here]",
        ),
    ] = None,
    vecnormalize: Statistics = None,
    verify: Annotated[
        bool, typer.Option(help="Prove that the file is the policy; write nothing if not.")
    ] = True,
    env: OtherEnv = None,
    steps: Steps = 2000,
) -> None:
    """Write a policy as one ONNX file, with a certificate beside it."""
    from trpo_deploy.extras import require

    require("export")
    from trpo_deploy.export import export_policy
    from trpo_deploy.model_dir import find_source

    found = find_source(source, vecnormalize)
    if output is None:
        stem = found.policy_zip.stem
        output = found.model_dir.onnx if found.model_dir is not None else Path(f"{stem}.onnx")
    _print_export(export_policy(found, output, verify=verify, env_id=env, steps=steps))


@app.command()
def verify(
    source: Source,
    policy: Annotated[Path, typer.Argument(help="The ONNX file.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the certificate there.")
    ] = None,
    vecnormalize: Statistics = None,
    env: OtherEnv = None,
    steps: Steps = 2000,
) -> None:
    """Hold an ONNX file against the policy it should be; exit with 1 if it is another."""
    from trpo_deploy.extras import require

    require("export")
    from trpo_deploy.export import verify_policy
    from trpo_deploy.model_dir import atomic_write, find_source

    certificate = verify_policy(find_source(source, vecnormalize), policy, env_id=env, steps=steps)
    if output is not None:
        atomic_write(output, certificate.to_json())
    _print_certificate(certificate)
    if not certificate.passed:
        raise typer.Exit(1)


@app.command()
def inspect(policy: Model, as_json: Json = False) -> None:
    """Show what an ONNX file takes and gives, and where it comes from."""
    from trpo_deploy.model_dir import find_onnx
    from trpo_deploy.runtime import OnnxPolicy

    path = find_onnx(policy)
    spec = OnnxPolicy(path).spec
    if as_json:
        _print_json(json.loads(spec.to_json()))
        return
    out.print(f"[bold]{_escape(str(path))}[/]: {spec.algorithm} on {spec.env_id or 'unknown'}")
    for role, tensors, space in (
        ("input", spec.inputs, spec.observation_space),
        ("output", spec.outputs, spec.action_space),
    ):
        for tensor in tensors:
            shape = ", ".join(["batch", *map(str, tensor.shape)])
            out.print(_escape(f"  {role:<8}{tensor.name}: {tensor.dtype} ({shape})"))
        out.print(_escape(f"  {'':<8}{space.describe()}"))
    for step in spec.preprocessing:
        out.print(_escape(f"  inside  {step}"))
    for name, value in spec.training.items():
        out.print(f"  {name}: {value:g}")
    for name, text in {**spec.versions, **spec.source_sha256}.items():
        out.print(_escape(f"  {name}: {text}"))


@app.command()
def serve(
    models: Annotated[
        list[Path],
        typer.Argument(help="Model folders or ONNX files to serve.", show_default=False),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 3000,
    workers: Annotated[int, typer.Option(min=1, help="Processes that answer.")] = 1,
    api_key_file: Annotated[
        Path | None, typer.Option(help="Keys, a line each; a request must show one.")
    ] = None,
    admin_key_file: Annotated[
        Path | None, typer.Option(help="Keys for /admin, which is off without it.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate, for HTTPS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key.")] = None,
    cors_origin: Annotated[
        list[str] | None, typer.Option(help="A page's origin that may call; repeatable.")
    ] = None,
    out_of_bounds: Annotated[
        OutOfBounds, typer.Option(help="What happens to numbers beyond the space's bounds.")
    ] = OutOfBounds.refuse,
    access_log: Annotated[bool, typer.Option("--access-log", help="Log each request.")] = False,
    tracing: Annotated[bool, typer.Option("--tracing", help="Trace with OpenTelemetry.")] = False,
) -> None:
    """Serve policies over HTTP with BentoML."""
    from trpo_deploy.extras import require

    require("serve")
    from trpo_deploy.serve import serve as run

    if (tls_cert is None) != (tls_key is None):
        raise ConfigError("--tls-cert and --tls-key belong together: give both or neither")
    run(
        models,
        host=host,
        port=port,
        workers=workers,
        tls=(tls_cert, tls_key) if tls_cert is not None and tls_key is not None else None,
        api_key_file=api_key_file,
        admin_key_file=admin_key_file,
        cors_origins=tuple(cors_origin or ()),
        out_of_bounds=out_of_bounds.value,
        access_log=access_log,
        tracing=tracing,
    )


@app.command()
def bundle(
    models: Annotated[
        list[Path],
        typer.Argument(help="Model folders or ONNX files to pack.", show_default=False),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A folder that does not exist yet.")
    ] = Path("bento"),
) -> None:
    """Pack policies into a Bento, ready to containerize."""
    from trpo_deploy.extras import require

    require("serve")
    from trpo_deploy.serve import bundle as pack

    path = pack(models, output)
    out.print(f"wrote {path}; serve it with: bentoml serve {path}")


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Model folder.")] = Path(
        "models/demo"
    ),
) -> None:
    """The whole way on one page: train, export, verify, serve, play over HTTP."""
    from trpo_deploy.extras import require

    require("train", "export", "serve")
    from trpo_deploy.demo import run_demo

    run_demo(output, out)


def _print_training(result: TrainResult) -> None:
    reached = "return reached" if result.stopped_early else "all steps done"
    out.print(
        f"trained {result.timesteps:,} steps in {result.seconds:.0f} s ({reached}): return "
        f"{result.last.mean:.1f} ± {result.last.std:.1f}, in {result.folder.root}"
    )
    if result.best.mean > result.last.mean:
        out.print(
            f"best evaluation: {result.best.mean:.1f} at {result.best.timesteps:,} steps; "
            f"export it with: trpo-deploy export {result.folder.best.root}"
        )


def _print_export(result: Export) -> None:
    out.print(f"wrote {result.path} ({result.size / 1024:.1f} kB)")
    if result.certificate is None:
        out.print("not verified: there is no certificate beside it")
    else:
        _print_certificate(result.certificate)


def _print_certificate(certificate: Certificate) -> None:
    note = certificate.environment["note"]
    if note:
        out.print(f"note: {_escape(note)}")
    for check in certificate.checks:
        mark = "[green]ok[/]  " if check.passed else "[red]FAIL[/]"
        measured = ", ".join(f"{name} {_short(value)}" for name, value in check.measured.items())
        out.print(f"  {mark} {check.name}: {_escape(measured)}")
    verdict = "[green]the same policy[/]" if certificate.passed else "[red]NOT the same policy[/]"
    out.print(f"certificate: {verdict}")


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _print_json(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
