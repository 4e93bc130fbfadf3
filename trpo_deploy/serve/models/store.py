"""The folder in which models are published."""

from __future__ import annotations

import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

from trpo_deploy.serve.locked_folder import locked_folder


def new_store() -> AbstractContextManager[Path]:
    """A store, removed at the end of the block. Those of killed processes are removed, too."""
    return locked_folder("trpo-deploy-models-", Path(tempfile.gettempdir()))
