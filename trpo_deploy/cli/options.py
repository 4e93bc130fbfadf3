"""Arguments and options that several commands share, declared once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from trpo_deploy.cli.output import reserve_stdout
from trpo_deploy.extras import require

if TYPE_CHECKING:
    from trpo_deploy.export import SourceOptions
    from trpo_deploy.files.runs import Run
    from trpo_deploy.sb3.wrapper_search import ImageLayout


class ImageLayoutName(str, Enum):
    """The order of an image's axes."""

    hwc = "hwc"
    chw = "chw"


def count(text: str) -> int:
    """Read an option that counts steps: a whole number above zero, also as ``1e5`` or ``100_000``.

    Raises:
        typer.BadParameter: It is another text.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not (value >= 1 and value.is_integer()):
        raise typer.BadParameter(f"{text!r}: expected a whole number above zero, as 100000 or 1e5")
    return int(value)


EnvId = Annotated[
    str,
    typer.Argument(
        metavar="ENV_ID",
        help="Gymnasium id, or module:Id for an id that a module registers.",
        show_default=False,
    ),
]
Source = Annotated[
    Path,
    typer.Argument(
        metavar="SOURCE",
        help="Policy zip, model folder, or RL Zoo run folder.",
        show_default=False,
    ),
]
Model = Annotated[
    Path, typer.Argument(metavar="MODEL", help="Model folder or ONNX file.", show_default=False)
]
Models = Annotated[
    list[Path],
    typer.Argument(metavar="MODEL", help="Model folders or ONNX files.", show_default=False),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON object on stdout; everything else on stderr.",
        callback=reserve_stdout,
    ),
]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Print every check of the certificate with its numbers.")
]
EnvOverride = Annotated[
    str | None, typer.Option("--env", help="Environment id.", show_default="the policy's")
]
AllowImport = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODULE:CLASS", help="Class that the zip may import; its code runs. Repeatable."
    ),
]


@dataclass(frozen=True)
class ReadingOptions:
    """How ``export`` and ``verify`` read a policy, and how much of it they compare."""

    vecnormalize: Annotated[
        Path | None,
        typer.Option(help="VecNormalize statistics.", show_default="those next to the policy"),
    ] = None
    env: EnvOverride = None
    steps: Annotated[
        int,
        typer.Option(
            parser=count, metavar="N", help="Number of on-policy observations to compare."
        ),
    ] = 2000
    seconds: Annotated[
        float,
        typer.Option(min=0, metavar="S", help="Time limit for playing, to compare the returns."),
    ] = 120.0
    image_layout: Annotated[
        ImageLayoutName | None,
        typer.Option(
            help="Layout of the environment's images: hwc (channels last) or chw (channels first)."
        ),
    ] = None
    frame_stack: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Number of frames that VecFrameStack stacked."),
    ] = None
    allow_import: AllowImport = None
    normalize_check: Annotated[
        bool,
        typer.Option(
            help="Stop if the normaliser's statistics are missing, or if the training had no "
            "normaliser."
        ),
    ] = True

    def locate(self, source: Path) -> tuple[Run, SourceOptions]:
        """Find the files of a ``SOURCE`` argument, and how to read them.

        Limits torch to one thread: on a busy machine two take several times longer than one.

        Raises:
            MissingExtraError: the extra ``export`` is not installed.
            ModelDirError: a file is missing.
        """
        require("export")
        from trpo_deploy.files.runs import find_run

        found = find_run(source, self.vecnormalize)
        import torch

        from trpo_deploy.export import SourceOptions

        torch.set_num_threads(1)
        layout = None if self.image_layout is None else self.image_layout.value
        return found, SourceOptions(
            env_id=self.env,
            image_layout=cast("ImageLayout | None", layout),
            frame_stack=self.frame_stack,
            allow_import=tuple(self.allow_import or ()),
            normalize_check=self.normalize_check,
        )
