"""The note that training takes NumPy, since there was no C compiler at the installation."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console

NOTE = (
    "note: trpo-deploy was installed without a C compiler, so rollouts take NumPy in place of "
    "compiled code and are slower. Install one (apt install gcc libc6-dev), then run the pip "
    "install again with --force-reinstall --no-deps --no-cache-dir. This note comes once."
)


def say_once_if_not_compiled(console: Console) -> None:
    """Print :data:`NOTE` before a user's first training without the compiled module.

    An empty file in the user's cache folder remembers that it was said. Where none can be written,
    the note comes each time.
    """
    from trpo_deploy.train.mlp import step_arithmetic

    said = _cache_folder() / "not-compiled-was-said"
    if step_arithmetic.compiled is not None or said.exists():
        return
    console.print(NOTE)
    try:
        said.parent.mkdir(parents=True, exist_ok=True)
        said.touch()
    except OSError:
        pass


def _cache_folder() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME")
    return (Path(folder) if folder else Path.home() / ".cache") / "trpo-deploy"
