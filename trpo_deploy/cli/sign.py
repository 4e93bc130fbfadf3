"""``trpo-deploy sign``: sign an exported file and its certificate."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from trpo_deploy.cli.options import Model
from trpo_deploy.cli.output import escape, say
from trpo_deploy.extras import require

_PASSWORD = "TRPO_DEPLOY_KEY_PASSWORD"  # noqa: S105 - the variable's name


def sign(
    model: Model,
    key: Annotated[
        Path,
        typer.Option(
            help="Private key (PEM, elliptic curve). If it is encrypted, the command reads the "
            f"password from {_PASSWORD} or asks for it.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File to write.", show_default="policy.sig in the folder"
        ),
    ] = None,
) -> None:
    """Sign an exported policy and its certificate, for serve --trusted-key."""
    require("sign")
    from trpo_deploy.files.exported import find_onnx
    from trpo_deploy.files.signature import sign as sign_model
    from trpo_deploy.files.signing_key import is_encrypted

    password = os.environ.get(_PASSWORD) if is_encrypted(key) else None
    if password is None and is_encrypted(key) and sys.stdin.isatty():
        password = typer.prompt(f"password of {key}", hide_input=True, err=True)
    path = sign_model(find_onnx(model), key, password, output)
    say(f"wrote {escape(path)}")
