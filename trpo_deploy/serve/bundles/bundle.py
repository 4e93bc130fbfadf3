"""``bundle``: check models as the service does, and write a target's folder whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trpo_deploy.errors import ServeError
from trpo_deploy.extras import require
from trpo_deploy.files.atomic import folder_problem
from trpo_deploy.serve.bundles.names import dns_label
from trpo_deploy.serve.bundles.table import DEFAULT, check_models_from
from trpo_deploy.serve.bundles.target import Contents, target_module
from trpo_deploy.serve.models.publisher import Publisher
from trpo_deploy.serve.settings import Settings


@dataclass(frozen=True)
class Bundle:
    """A bundle that was written."""

    folder: Path
    next_steps: Sequence[tuple[str, str]]
    """Commands for what comes next, each with a word for what it does."""


def bundle(
    models: Sequence[Path], output: Path, target: str = DEFAULT, models_from: str | None = None
) -> Path:
    """Pack the latest versions of models for a container or a cluster.

    Args:
        models: Model folders, ONNX files, or folders of model folders.
        output: The folder to create; it must not exist.
        target: ``bento``, ``kubernetes``, ``kserve`` or ``triton``.
        models_from: For ``kubernetes``, from where the service reads the models: ``image`` (the
            default), ``volume`` or ``configmap``.

    Returns:
        ``output``.

    Raises:
        ServeError: A model cannot be served, the target cannot hold it, or the folder exists.
        MissingExtraError: The extra ``serve`` is not installed.
    """
    return pack(models, output, target, models_from).folder


def pack(
    models: Sequence[Path], output: Path, target: str = DEFAULT, models_from: str | None = None
) -> Bundle:
    """As :func:`bundle`; the result says what to do next, too."""
    require("serve")
    place = check_models_from(target, models_from)
    if os.path.lexists(output):
        raise ServeError(f"{output} exists; choose another folder with -o")
    module = target_module(target)
    try:
        with tempfile.TemporaryDirectory(prefix="trpo-deploy-bundle-") as folder:
            store, written = Path(folder, "store"), Path(folder, "bundle")
            store.mkdir()
            written.mkdir()
            contents = Contents(dns_label(output.absolute().name), _try(models, store), place)
            module.write(contents, written)
            _place(written, output)
    except OSError as error:  # shutil collects several in one that has no text
        reason = folder_problem(output.parent, error) or "the disk may be full"
        raise ServeError(f"cannot write {output}: {reason}") from error
    return Bundle(output, module.next_steps(contents, output))


def _try(models: Sequence[Path], store: Path) -> dict[str, Path]:
    """Check models as the service does.

    Returns:
        The folder of each model's latest version, in the store.

    Raises:
        ServeError: A model cannot be served.
    """
    publisher = Publisher(Settings(models=tuple(models)), store)
    try:
        publisher.open()
    finally:
        publisher.stop()
    for view in publisher.view.models.values():
        if view.error is not None:
            raise ServeError(view.error)
    return {
        name: store / [*view.versions.values()][-1] for name, view in publisher.view.models.items()
    }


def _place(written: Path, output: Path) -> None:
    """Copy a finished folder to where it belongs: it appears there whole or not at all."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".trpo-deploy-", dir=output.parent) as beside:
        shutil.copytree(written, Path(beside, output.name)).rename(output)
