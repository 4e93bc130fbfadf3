"""``trpo-deploy evaluate``: play a policy and print its returns."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trpo_deploy.cli.options import AllowImport, EnvOverride, Json, Model
from trpo_deploy.cli.output import escape, print_json, reserve_stdout, say, telling
from trpo_deploy.extras import require

if TYPE_CHECKING:
    from trpo_deploy.play.evaluate import Evaluation


class Backend(str, Enum):
    """What computes the actions."""

    onnx = "onnx"
    torch = "torch"


def evaluate(
    model: Model,
    backend: Annotated[
        Backend, typer.Option(help="Play the exported file or the torch policy.")
    ] = Backend.onnx,
    episodes: Annotated[int, typer.Option(min=1, help="Number of episodes.")] = 20,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the first episode; episode i takes seed + i.")
    ] = 0,
    stochastic: Annotated[
        bool, typer.Option("--stochastic", help="Sample actions, as in training.")
    ] = False,
    env: EnvOverride = None,
    allow_import: AllowImport = None,
    video: Annotated[
        Path | None, typer.Option(help="Write the first episode to this file: .mp4, .gif or .webp.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Play a policy in its environment and print its returns."""
    require("train")
    reserve_stdout()
    from trpo_deploy.play import evaluate as play

    with telling(lines=video is not None) as tell:
        result = play(
            model,
            backend=backend.value,
            env_id=env,
            episodes=episodes,
            seed=seed,
            deterministic=not stochastic,
            allow_import=allow_import or (),
            video=video,
            tell=tell,
        )
    if as_json:
        _print_as_json(result, backend)
    else:
        _print(result, backend)
        if video is not None:
            say(f"wrote {escape(video)}")


def _print(result: Evaluation, backend: Backend) -> None:
    from trpo_deploy.envs.returns import return_digits

    returns = result.returns
    episodes = "1 episode" if len(returns) == 1 else f"{len(returns)} episodes"
    if result.note:
        say(f"note: {escape(result.note)}")
    digits = return_digits(returns.mean(), returns.std(), returns.min(), returns.max())
    say(
        f"{escape(result.env_id)}: return {returns.mean():{digits}} ± {returns.std():{digits}} "
        f"(min {returns.min():{digits}}, max {returns.max():{digits}}, {episodes}, "
        f"{backend.value})"
    )


def _print_as_json(result: Evaluation, backend: Backend) -> None:
    print_json(
        {
            "env_id": result.env_id,
            "note": result.note,
            "backend": backend.value,
            "return_mean": float(result.returns.mean()),
            "return_std": float(result.returns.std()),
            "returns": result.returns.tolist(),
        }
    )
