"""Leases: which process does what, in a folder that processes and machines share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import SoftFileLease, Timeout

from trpo_deploy.errors import ModelDirError
from trpo_deploy.files.atomic import folder_problem

LEASE_S = 60.0
"""Time after which the lease of a process that no longer renews it may be taken, in seconds."""


class Leases:
    """Leases on names, each a file in one folder while it is held.

    A file with a heartbeat, because locks of the operating system do not reach other machines on
    every network file system. A lease of a dead process on this machine can be taken at once, one
    of another machine after :data:`LEASE_S` without a heartbeat.

    Args:
        folder: Folder for the files. All processes that share the work use the same one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Kept, because a lease remembers when it last saw another holder's heartbeat.
        self._known: dict[str, SoftFileLease] = {}

    def take(self, name: str) -> Lease | None:
        """Take the lease on a name; None while another job or process holds it.

        Raises:
            ModelDirError: The folder cannot be written to.
        """
        file = self._file(name)
        if file.is_locked:
            return None
        try:
            file.acquire(blocking=False)
        except Timeout:
            return None
        except OSError as error:
            raise self._cannot_write(error) from error
        return Lease(file)

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Hold the lease on a name, after waiting for it.

        Raises:
            ModelDirError: The folder cannot be written to.
        """
        file = self._file(name)
        try:
            file.acquire()
        except OSError as error:
            raise self._cannot_write(error) from error
        with Lease(file):
            yield

    def names(self) -> set[str]:
        """Names of the leases that a process holds and has renewed within :data:`LEASE_S`.

        To be shown only: the clocks of two machines may differ.
        """
        found = set()
        for file in self.folder.glob("*.lease"):
            with suppress(FileNotFoundError):  # just given back
                if time.time() - file.stat().st_mtime < LEASE_S:
                    found.add(file.stem)
        return found

    def _file(self, name: str) -> SoftFileLease:
        if name not in self._known:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise self._cannot_write(error) from error
            self._known[name] = SoftFileLease(
                self.folder / f"{name}.lease", lease_duration=LEASE_S, thread_local=False
            )
        return self._known[name]

    def _cannot_write(self, error: OSError) -> ModelDirError:
        return ModelDirError(
            f"cannot write into the folder {self.folder}: {folder_problem(self.folder, error)}"
        )


class Lease:
    """A lease that this process holds, until it is closed."""

    def __init__(self, file: SoftFileLease) -> None:
        self._file = file

    @property
    def is_lost(self) -> bool:
        """Whether another process has taken it: this one was suspended, or cut off from the folder.

        The holder then has to stop what it does.
        """
        return self._file.compromise is not None

    def close(self) -> None:
        """Give the lease back."""
        self._file.release()

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
