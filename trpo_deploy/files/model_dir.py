"""The files of one model folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from trpo_deploy.errors import ModelDirError

if sys.platform != "win32":
    import fcntl


@dataclass(frozen=True)
class ModelDir:
    """Paths inside a model folder; none of them needs to exist."""

    root: Path

    @property
    def policy_zip(self) -> Path:
        """The last policy, in Stable-Baselines3's zip format."""
        return self.root / "policy.zip"

    @property
    def vecnormalize(self) -> Path:
        """The statistics of observations and returns, if the run normalises."""
        return self.root / "vecnormalize.pkl"

    @property
    def best(self) -> ModelDir:
        """The policy and statistics of the best evaluation."""
        return ModelDir(self.root / "best")

    @property
    def config(self) -> Path:
        """Everything that it takes to run the training again."""
        return self.root / "config.yaml"

    @property
    def progress(self) -> Path:
        """The training log, a row an update."""
        return self.root / "progress.csv"

    @property
    def evaluations(self) -> Path:
        """Evaluation returns in the layout of SB3's ``EvalCallback``."""
        return self.root / "evaluations.npz"

    @property
    def learning_curve(self) -> Path:
        """A picture of the evaluations."""
        return self.root / "learning_curve.png"

    @property
    def checkpoint(self) -> Path:
        """All that it takes to go on with the run."""
        return self.root / "checkpoint" / "checkpoint.npz"

    @property
    def onnx(self) -> Path:
        """The exported policy."""
        return self.root / "policy.onnx"

    @property
    def certificate(self) -> Path:
        """The proof that the exported policy is the trained one."""
        return self.root / "certificate.json"

    @property
    def card(self) -> Path:
        """What a person should know of the policy."""
        return self.root / "README.md"

    def create(self, *, force: bool = False) -> None:
        """Make the folder for a new run.

        Args:
            force: remove the files of an earlier run, and no others.

        Raises:
            ModelDirError: the path is a file, is not writable, or is a folder with something in
                it and ``force`` is not set, or with no run in it.
        """
        self._make()
        self.sweep()
        if any(self.root.iterdir()):
            if not force:
                resumable = "go on with --resume, " if self.checkpoint.is_file() else ""
                raise ModelDirError(
                    f"{self.root} is not empty; {resumable}give another folder with -o, or start "
                    "anew with --force"
                )
            self._clear()

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Make the folder, and keep other runs out of it while the block lasts.

        Raises:
            ModelDirError: the path is a file, cannot be made, or belongs to a run that goes on.
        """
        self._make()
        if sys.platform == "win32":
            yield
            return
        # Of the folder itself, as a file would be left behind; it ends with the process.
        handle = os.open(self.root, os.O_RDONLY)
        try:
            if not _locked(handle):
                raise ModelDirError(
                    f"another run is writing into {self.root}; wait for its end, or give another "
                    "folder with -o"
                )
            yield
        finally:
            os.close(handle)

    def _make(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise ModelDirError(f"{self.root} is a file; give a folder with -o")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ModelDirError(f"cannot make the folder {self.root}: {error.strerror}") from error

    def sweep(self) -> None:
        """Remove the temporary files that a run left when it was stopped, and no other file."""
        for path in self._files():
            for temporary in path.parent.glob(f".{path.name}.*.tmp"):
                temporary.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove what a run wrote that did not come to anything."""
        self._clear()
        with suppress(OSError):  # somebody else's files are in it
            self.root.rmdir()

    def _clear(self) -> None:
        """Remove the files of an earlier run; what else lies there is the user's."""
        if not self._holds_a_run():
            raise ModelDirError(
                f"{self.root} holds files but no policy.zip and no config.yaml of a run: it is no "
                "model folder, and nothing in it is replaced; give another folder with -o"
            )
        for path in self._files():
            path.unlink(missing_ok=True)
        for folder in (self.checkpoint.parent, self.best.root):
            with suppress(OSError):
                folder.rmdir()

    def _holds_a_run(self) -> bool:
        if self.policy_zip.is_file():
            return True
        # Killed early, a run has left no more than this. Others have files of that name too.
        text = self.config.read_text(errors="replace") if self.config.is_file() else ""
        return any(line.startswith("env_id:") for line in text.splitlines())

    def _files(self) -> list[Path]:
        """In the order in which they can go.

        The checkpoint first and the configuration last: killed in between, this is still a
        model folder, and none that could be resumed.
        """
        policies = [
            path
            for each in (self, self.best)
            for path in (each.policy_zip, each.vecnormalize, each.onnx, each.certificate, each.card)
        ]
        logs = (self.progress, self.evaluations, self.learning_curve)
        return [self.checkpoint, *policies, *logs, self.config]


def _locked(handle: int) -> bool:
    """Lock a file for this process; false if another one has."""
    assert sys.platform != "win32"
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # not every file system has locks
        return True
    return True
