"""The command ``trpo-deploy``: each command parses, calls one function, prints.

Everything heavy is imported inside of the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from trpo_deploy.errors import ConfigError, TrpoDeployError

if TYPE_CHECKING:
    from trpo_deploy.export import Certificate, Export, SourceOptions
    from trpo_deploy.files.model_dir import ModelDir
    from trpo_deploy.train import TrainConfig, TrainResult

app = typer.Typer(
    name="trpo-deploy",
    help="Train TRPO policies, export each to one certified ONNX file, serve it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console(highlight=False, soft_wrap=True, emoji=False)


def main() -> None:
    """Run the command line; an error of the user's making is one line and exit code 1."""
    # Environments and classes of the user's are named by module: python -m finds those in the
    # working folder, and so does the command. Last, so that nothing installed is replaced.
    sys.path.append(os.getcwd())
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ± is no reason to stop
    try:
        app()
    except TrpoDeployError as error:
        message = " ".join(str(error).split())
        Console(stderr=True, highlight=False, soft_wrap=True, emoji=False).print(
            f"[bold red]error:[/] {_escape(message)}"
        )
        sys.exit(1)


def _escape(text: object) -> str:
    """Text as it is, with no square brackets taken for a style."""
    from rich.markup import escape

    return escape(str(text))


class Backend(str, Enum):
    """What runs a policy."""

    onnx = "onnx"
    torch = "torch"


class OutOfBounds(str, Enum):
    """What a service does with numbers beyond a finite bound."""

    refuse = "refuse"
    clip = "clip"
    accept = "accept"


class VecEnvKind(str, Enum):
    """How environments run side by side."""

    auto = "auto"
    sync = "sync"
    subproc = "subproc"
    envpool = "envpool"


class ImageLayoutName(str, Enum):
    """Where an image has its channels."""

    hwc = "hwc"
    chw = "chw"


EnvId = Annotated[str, typer.Argument(help="A Gymnasium id, or module:Id.", show_default=False)]
Source = Annotated[
    Path,
    typer.Argument(
        help="A policy zip, a model folder, or a run folder of RL Zoo.", show_default=False
    ),
]
Model = Annotated[Path, typer.Argument(help="A model folder or a policy.onnx.", show_default=False)]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of everything that is random.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object and nothing else.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the model folder that is there.")]
Statistics = Annotated[
    Path | None,
    typer.Option("--vecnormalize", help="Statistics, where the layout does not tell them."),
]
ImageLayoutOption = Annotated[
    ImageLayoutName | None,
    typer.Option(help="The environment's images: height, width, channels, or channels first."),
]
FrameStack = Annotated[
    int | None, typer.Option(min=1, help="Frames that VecFrameStack put together.")
]
AllowImport = Annotated[
    list[str] | None,
    typer.Option(help="module:Class of your own that the zip may name; it is run. Repeatable."),
]
NormalizeCheck = Annotated[
    bool, typer.Option(help="Refuse a run that says it normalised and has no statistics.")
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
        typer.Option("--output", "-o", help="Model folder. (default: models/ENV_ID)"),
    ] = None,
    timesteps: Annotated[
        int | None, typer.Option("--timesteps", "-n", help="Environment steps to train for.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything that is random.")] = None,
    n_envs: Annotated[int | None, typer.Option(help="Environments side by side.")] = None,
    vec_env: Annotated[
        VecEnvKind | None, typer.Option(help="Run them here, in processes, or by EnvPool.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="A shipped preset, a YAML file of RL Zoo, or a run's config.yaml.  "
            "(default: the environment's own)"
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value of a hyperparameter or setting; repeatable."),
    ] = None,
    env_args: Annotated[
        list[str] | None,
        typer.Option("--env-arg", help="key=value for the environment; repeatable."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto (cpu for MlpPolicy), cpu or cuda.")
    ] = None,
    eval_every: Annotated[int | None, typer.Option(help="Steps between evaluations.")] = None,
    eval_episodes: Annotated[int | None, typer.Option(help="Episodes of an evaluation.")] = None,
    checkpoint_every: Annotated[int | None, typer.Option(help="Steps between checkpoints.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the model folder's checkpoint.")
    ] = False,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Write TensorBoard's files into this folder too.")
    ] = None,
    progress: Annotated[bool, typer.Option(help="Show the log and a progress bar.")] = True,
    export: Annotated[bool, typer.Option(help="Export and certify the policy at the end.")] = True,
    force: Force = False,
) -> None:
    """Train a TRPO policy and write a model folder."""
    from trpo_deploy.extras import require

    require("train", *(["export"] if export else []))
    from trpo_deploy.files.model_dir import ModelDir
    from trpo_deploy.train import load_config, settings_to_resume

    if resume and force:
        raise typer.BadParameter("--resume goes on with a run and --force throws it away: choose")
    folder = ModelDir(output or Path("models") / env_id.replace(":", "_").replace("/", "_"))
    if resume and preset is None:
        preset = settings_to_resume(folder)
    config = load_config(
        env_id,
        preset=preset,
        settings=settings or (),
        env_args=env_args or (),
        n_timesteps=timesteps,
        seed=seed,
        n_envs=n_envs,
        vec_env=None if vec_env is None else vec_env.value,
        device=device,
        eval_every=eval_every,
        eval_episodes=eval_episodes,
        checkpoint_every=checkpoint_every,
    )
    # A scheduler's and a container's way to end a run.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        result = train_with_progress(
            config, folder, force=force, resume=resume, tensorboard=tensorboard, show=progress
        )
    except KeyboardInterrupt:
        if folder.config.is_file():
            again = f"trpo-deploy train {_word(env_id)} -o {_word(folder.root)} --resume"
            out.print(f"stopped; go on with: {again}")
        else:
            out.print("stopped before anything was learned; start anew with the same command")
        raise typer.Exit(130) from None
    _print_training(result, config)
    if export:
        _export_trained(folder, config)
    elif folder.onnx.is_file():
        out.print(
            f"note: {_escape(folder.onnx)} is still of the policy before; export this one "
            f"with: {_export_command(folder, config)}"
        )


def _export_trained(folder: ModelDir, config: TrainConfig) -> None:
    from trpo_deploy.files.source import find_source

    try:
        with _interrupts_held():
            import onnxruntime  # noqa: F401

            from trpo_deploy.export import SourceOptions, export_policy
        own = SourceOptions(allow_import=config.own_classes)
        _print_export(export_policy(find_source(folder.root), folder.onnx, reading=own))
    except KeyboardInterrupt:
        again = _export_command(folder, config)
        out.print(f"stopped; the policy is trained, export it with: {again}")
        raise typer.Exit(130) from None
    out.print(f"next: trpo-deploy serve {_word(folder.root)}")


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let Ctrl-C wait for the end of the block.

    Within the import of a compiled module it may end as anything up to a segmentation fault.
    """
    pressed = []
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def train_with_progress(
    config: TrainConfig,
    folder: ModelDir,
    *,
    force: bool = False,
    resume: bool = False,
    tensorboard: Path | None = None,
    show: bool = True,
) -> TrainResult:
    """Train with the log and a progress bar on the terminal, and a line for each evaluation."""
    from trpo_deploy.cli.progress_display import TrainingDisplay
    from trpo_deploy.train import train

    with TrainingDisplay(out, config, live=show) as display:
        return train(
            config,
            folder,
            force=force,
            resume=resume,
            tensorboard=tensorboard,
            reports=display.reports,
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
    allow_import: AllowImport = None,
    video: Annotated[
        Path | None, typer.Option(help="Show the first episode in this MP4 file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Play a policy in its environment and print its returns."""
    from trpo_deploy.extras import require

    require("train")
    from trpo_deploy.play import evaluate as play

    result = play(
        model,
        backend=backend.value,
        env_id=env,
        episodes=episodes,
        seed=seed,
        deterministic=not stochastic,
        allow_import=allow_import or (),
        video=video,
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
        f"{_escape(result.env_id)}: return {returns.mean():.1f} ± {returns.std():.1f} "
        f"(min {returns.min():.1f}, max {returns.max():.1f}, {len(returns)} episodes, "
        f"{backend.value})"
    )


@app.command()
def export(
    source: Source,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            help="The ONNX file. (default: policy.onnx in a model folder, else ENV_ID.onnx here)",
        ),
    ] = None,
    outputs: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            help="value, log_prob, logits, mean, std or margin beside the action; repeatable.",
        ),
    ] = None,
    vecnormalize: Statistics = None,
    verify: Annotated[
        bool, typer.Option(help="Prove that the file is the policy; write nothing if not.")
    ] = True,
    env: OtherEnv = None,
    steps: Steps = 2000,
    opset: Annotated[
        int | None, typer.Option(help="Version of ONNX's operators. (default: 13)")
    ] = None,
    guard: Annotated[
        bool, typer.Option("--guard", help="Give a stated action and obs_ok = false for NaN.")
    ] = False,
    float64_input: Annotated[
        bool, typer.Option("--float64-input", help="Take and normalise observations as float64.")
    ] = False,
    golden: Annotated[
        Path | None, typer.Option(help="Write golden vectors there, as ONNX's backend tests.")
    ] = None,
    image_layout: ImageLayoutOption = None,
    frame_stack: FrameStack = None,
    allow_import: AllowImport = None,
    normalize_check: NormalizeCheck = True,
) -> None:
    """Write a policy as one ONNX file, with a certificate beside it."""
    from trpo_deploy.extras import require

    require("export")
    from trpo_deploy.export import ExportOptions, export_policy
    from trpo_deploy.files.source import find_source

    found = find_source(source, vecnormalize)
    if output is None:
        stem = found.policy_zip.stem
        output = found.model_dir.onnx if found.model_dir is not None else Path(f"{stem}.onnx")
    result = export_policy(
        found,
        output,
        verify=verify,
        steps=steps,
        golden=golden,
        options=ExportOptions(tuple(outputs or ()), opset, guard, float64_input),
        reading=_reading(env, image_layout, frame_stack, allow_import, normalize_check),
    )
    _print_export(result)


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
    image_layout: ImageLayoutOption = None,
    frame_stack: FrameStack = None,
    allow_import: AllowImport = None,
    normalize_check: NormalizeCheck = True,
) -> None:
    """Hold an ONNX file against the policy it should be; exit with 1 if it is another."""
    from trpo_deploy.extras import require

    require("export")
    from trpo_deploy.export import verify_policy
    from trpo_deploy.files.atomic import atomic_write
    from trpo_deploy.files.source import find_source

    reading = _reading(env, image_layout, frame_stack, allow_import, normalize_check)
    found = find_source(source, vecnormalize)
    certificate = verify_policy(found, policy, steps=steps, reading=reading)
    if output is not None:
        atomic_write(output, certificate.to_json())
    _print_certificate(certificate)
    if not certificate.passed:
        raise typer.Exit(1)


@app.command()
def inspect(policy: Model, as_json: Json = False) -> None:
    """Show what an ONNX file takes and gives, and where it comes from."""
    from trpo_deploy.files.certificate import read_certificate
    from trpo_deploy.files.source import changed_sources, find_onnx
    from trpo_deploy.runtime import OnnxPolicy

    path = find_onnx(policy)
    loaded = OnnxPolicy(path)
    spec, certificate = loaded.spec, read_certificate(path)
    changed = changed_sources(path, spec.source_sha256)
    if as_json:
        own = {"sha256": loaded.sha256, "size": path.stat().st_size, "certificate": certificate}
        _print_json({**json.loads(spec.to_json()), **own, "changed_sources": changed})
        return
    out.print(f"[bold]{_escape(path)}[/]: {spec.algorithm} on {spec.env_id or 'unknown'}")
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
    if spec.guard is None:
        out.print("  NaN     undefined in the file; the Python runtime refuses it")
    else:
        safe = (
            f"  NaN     gives {spec.guard.output} = false and action {spec.guard.action.tolist()}"
        )
        out.print(_escape(safe))
    for name, value in spec.training.items():
        out.print(f"  {name}: {value:g}")
    for name, text in {**spec.versions, **spec.source_sha256, path.name: loaded.sha256}.items():
        out.print(_escape(f"  {name}: {text}"))
    for name in changed:
        out.print(f"  {name}: [red]has changed since[/]; export it anew with: trpo-deploy export")
    _print_verdict(certificate, loaded.sha256)


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
    out.print(f"wrote {_escape(path)}; serve it with: bentoml serve {_escape(path)}")


@app.command()
def benchmark(
    envs: Annotated[
        list[str] | None,
        typer.Option("--env", help="A task; repeatable. (default: five of MuJoCo, -v4 and -v5)"),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each task.")] = 3,
    timesteps: Annotated[
        int, typer.Option("--timesteps", "-n", min=1, help="Environment steps of a run.")
    ] = 1_000_000,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder; what is there already is kept.")
    ] = Path("benchmarks/results/returns"),
    processes: Annotated[
        int | None, typer.Option(min=1, help="Runs at once. (default: one a core)")
    ] = None,
) -> None:
    """Train tasks times seeds and write learning curves and tables; goes on where it stopped."""
    from trpo_deploy.extras import require

    require("train")
    from trpo_deploy.train.run.benchmark.runner import MUJOCO
    from trpo_deploy.train.run.benchmark.runner import benchmark as run

    run(
        envs or list(MUJOCO),
        seeds,
        timesteps,
        output,
        processes or os.cpu_count() or 1,
        out.print,
    )
    out.print((output / "table.md").read_text())


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Model folder.")] = Path(
        "models/demo"
    ),
) -> None:
    """The whole way on one page: train, export, verify, serve, play over HTTP."""
    from trpo_deploy.extras import require

    require("train", "export", "serve")
    from trpo_deploy.cli.demo import run_demo

    run_demo(output, out)


def _word(text: object) -> str:
    """As a word of a command that can be pasted into a shell."""
    return _escape(shlex.quote(str(text)))


def _export_command(folder: ModelDir, config: TrainConfig) -> str:
    own = "".join(f" --allow-import {_word(name)}" for name in config.own_classes)
    return f"trpo-deploy export {_word(folder.root)}{own}"


def _print_training(result: TrainResult, config: TrainConfig) -> None:
    reached = "return reached" if result.stopped_early else "all steps done"
    out.print(
        f"trained {result.timesteps:,} steps in {result.seconds:.0f} s ({reached}): return "
        f"{result.last.mean:.1f} ± {result.last.std:.1f}, in {_escape(result.folder.root)}"
    )
    if result.best.mean > result.last.mean:
        out.print(
            f"best evaluation: {result.best.mean:.1f} at {result.best.timesteps:,} steps; "
            f"export it with: {_export_command(result.folder.best, config)}"
        )


def _reading(
    env: str | None,
    image_layout: ImageLayoutName | None,
    frame_stack: int | None,
    allow_import: list[str] | None,
    normalize_check: bool,
) -> SourceOptions:
    import torch

    from trpo_deploy.export import SourceOptions

    # On a busy machine two threads take several times longer than one.
    torch.set_num_threads(1)
    layout = None if image_layout is None else image_layout.value
    allowed = tuple(allow_import or ())
    return SourceOptions(env, layout, frame_stack, allowed, normalize_check)  # type: ignore[arg-type]


def _print_verdict(certificate: dict[str, Any] | None, sha256: str) -> None:
    """What the certificate beside a file says, as far as it is of that file."""
    if certificate is None:
        out.print("  certificate: none beside the file; make one with: trpo-deploy verify")
    elif certificate.get("sha256", {}).get("policy.onnx") != sha256:
        out.print("  certificate: [red]of another file[/]")
    else:
        checks = certificate.get("checks", [])
        passed = sum(bool(check.get("passed")) for check in checks)
        out.print(f"  certificate: {certificate.get('verdict')}, {passed} of {len(checks)} checks")


def _print_export(result: Export) -> None:
    out.print(f"wrote {_escape(result.path)} ({result.size / 1024:.1f} kB) and {result.card.name}")
    for warning in result.warnings:
        out.print(f"[yellow]warning[/]: {_escape(warning)}")
    if result.skipped:
        out.print(f"not read, as nothing needs it: {_escape(', '.join(result.skipped))}")
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
    sys.stdout.write(json.dumps(value, allow_nan=False) + "\n")
