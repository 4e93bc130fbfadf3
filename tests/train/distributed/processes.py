"""Ranks as processes that start in a moment: forks of one that has imported everything."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.distributed as dist

from tests.command import Run
from trpo_deploy.cli.app import main

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

_LIMIT_S = 240.0
"""Time until a rank counts as hanging; within the usual time limit of a test."""


@dataclass(frozen=True)
class Rank:
    """A running rank."""

    process: BaseProcess
    output: Path
    error: Path
    store: Store
    """torchrun's table, which has to outlive the ranks."""

    def wait(self, limit_s: float = _LIMIT_S) -> Run:
        """Wait for the end."""
        self.process.join(limit_s)
        if self.process.is_alive():
            self.process.kill()
            raise AssertionError(f"a rank hangs: {self.error.read_text()}")
        code = self.process.exitcode
        assert code is not None
        return Run(code, self.output.read_text(), self.error.read_text())


def start_ranks(
    folder: Path,
    function: Callable[..., object],
    arguments: Sequence[tuple[Any, ...]],
    variables: Mapping[str, str] | None = None,
) -> list[Rank]:
    """Start ranks that find each other by the variables that torchrun sets.

    Args:
        folder: Folder for what they print.
        function: Function of a module to call in each rank.
        arguments: Its arguments, for each rank.
        variables: More environment variables.
    """
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    # What a training imports late takes longer than a short training.
    late = ["onnx", "torch._dynamo", "trpo_deploy.cli.progress", "trpo_deploy.train.run.plots"]
    context.set_forkserver_preload([__name__, *late])
    store = dist.TCPStore(  # type: ignore[attr-defined]
        "127.0.0.1", 0, is_master=True, wait_for_workers=False
    )
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "WORLD_SIZE": str(len(arguments)),
        **(variables or {}),
    }
    ranks = []
    for rank, values in enumerate(arguments):
        files = folder / f"{rank}.out", folder / f"{rank}.err"
        process = context.Process(
            target=_run, args=(function, values, shared | {"RANK": str(rank)}, files)
        )
        process.start()
        ranks.append(Rank(process, *files, store))
    return ranks


def run_command(*arguments: object) -> None:
    """Run ``trpo-deploy``; the function of a rank."""
    sys.argv = ["trpo-deploy", *map(str, arguments)]
    main()


def _run(
    function: Callable[..., object],
    arguments: tuple[Any, ...],
    variables: Mapping[str, str],
    files: tuple[Path, Path],
) -> None:
    os.environ.update(variables)
    for descriptor, path in enumerate(files, start=1):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, descriptor)
    function(*arguments)
