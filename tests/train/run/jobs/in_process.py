"""Stands in for the process of a training run, which takes seconds to start."""

from __future__ import annotations

from collections.abc import Sequence

from tests.command import run_cli
from trpo_deploy.files.model_dir import ModelDir


class RunInThisProcess:
    """A run that is trained when it is first polled."""

    def __init__(self, env_id: str, folder: ModelDir, options: Sequence[str]) -> None:
        self.error = ""
        self._folder = folder
        self._words = ("train", env_id, "-o", folder.root, *options)

    def poll(self) -> int:
        resume = ["--resume"] if self._folder.config.is_file() else []
        run = run_cli(*self._words, "--no-export", "--no-progress", *resume)
        self.error = run.error
        return run.code

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass
