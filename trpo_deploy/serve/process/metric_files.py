"""The files in which workers add up their metrics.

They are named by the worker's slot, so a replacement continues the counts of the worker that died.
Their space is claimed at the start: a write to a mapped file without space kills the process.
"""

from __future__ import annotations

import errno
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import values

from trpo_deploy.errors import ServeError
from trpo_deploy.serve.locked_folder import locked_folder

_MEMORY = Path("/dev/shm")  # noqa: S108 - a private folder is made in it
_GAUGES = "gauge_livesum"
_SIZES = {"counter": 1 << 18, "histogram": 1 << 20, _GAUGES: 1 << 16}
"""Bytes claimed for each kind of file."""
_log = logging.getLogger(__name__)

_owner = "zygote"


def name_files_by_worker() -> None:
    """Let Prometheus' client open its files by :func:`use_files_of`. Call it before metrics exist.

    The client's default is the process id: the files would grow in number with each restart.
    """
    values.ValueClass = values.MultiProcessValue(lambda: _owner)  # type: ignore[no-untyped-call]


def use_files_of(slot: int) -> None:
    """Write metrics to the files of a worker from now on. Call it right after the fork."""
    global _owner
    _owner = str(slot)


class MetricFiles:
    """The files of all workers, as the supervisor sees them.

    Args:
        folder: The folder of the files.
        workers: Number of workers.

    Raises:
        OSError: There is no space.
    """

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder = folder
        for slot in range(workers):
            for kind, size in _SIZES.items():
                with (folder / f"{kind}_{slot}.db").open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, size)

    def forget_gauges(self, slot: int) -> None:
        """Take a dead worker out of the sums of what is open or in flight."""
        with (self.folder / f"{_GAUGES}_{slot}.db").open("r+b") as file:
            file.write(bytes(4))  # the length of what follows


@contextmanager
def create_metric_files(workers: int) -> Iterator[MetricFiles]:
    """Create the files in memory, or on disk if the memory has no space.

    Raises:
        ServeError: There is no space on the disk either.
    """
    # In memory if possible: a write to a mapped file waits while its page is written to disk.
    places = [_MEMORY] if os.access(_MEMORY, os.W_OK) else []
    for place in [*places, Path(tempfile.gettempdir())]:
        with locked_folder("trpo-deploy-metric-files-", place) as folder:
            try:
                files = MetricFiles(folder, workers)
            except OSError as error:
                if place != _MEMORY:
                    raise ServeError(f"no space for metrics in {place}: {error}") from error
                reason = errno.errorcode.get(error.errno or 0, "error")
                _log.warning("%s is full (%s); metrics are kept on disk", place, reason)
                continue
            yield files
            return
