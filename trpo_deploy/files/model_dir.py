"""The files of one model folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from trpo_deploy.errors import ModelDirError
from trpo_deploy.files.atomic import folder_problem

if sys.platform != "win32":
    import fcntl


def folder_name(env_id: str) -> str:
    """Name of the folder for what is trained in an environment."""
    return env_id.replace(":", "_").replace("/", "_")


@dataclass(frozen=True)
class ModelDir:
    """Paths in a model folder. The files may be missing."""

    root: Path

    @property
    def policy_zip(self) -> Path:
        """The last policy of the training, in Stable-Baselines3's zip format."""
        return self.root / "policy.zip"

    @property
    def vecnormalize(self) -> Path:
        """Running statistics of observations and returns, if the run normalises."""
        return self.root / "vecnormalize.pkl"

    @property
    def best(self) -> ModelDir:
        """The policy and statistics of the best evaluation."""
        return ModelDir(self.root / "best")

    @property
    def config(self) -> Path:
        """All settings of the run, enough to repeat it."""
        return self.root / "config.yaml"

    @property
    def progress(self) -> Path:
        """The training log, a row for each update."""
        return self.root / "progress.csv"

    @property
    def evaluations(self) -> Path:
        """Evaluation returns in the layout of SB3's ``EvalCallback``."""
        return self.root / "evaluations.npz"

    @property
    def learning_curve(self) -> Path:
        """A plot of the evaluations."""
        return self.root / "learning_curve.png"

    @property
    def checkpoint(self) -> Path:
        """The state to resume the run from."""
        return self.root / "checkpoint" / "checkpoint.npz"

    @property
    def onnx(self) -> Path:
        """The exported policy."""
        return self.root / "policy.onnx"

    @property
    def certificate(self) -> Path:
        """The proof that the exported policy behaves like the trained one."""
        return self.root / "certificate.json"

    @property
    def policy_json(self) -> Path:
        """The exported policy's spec, for programs that cannot read an ONNX file's metadata."""
        return self.root / "policy.json"

    @property
    def card(self) -> Path:
        """The policy's card, for people."""
        return self.root / "README.md"

    def create(self, *, force: bool = False) -> None:
        """Make the folder for a new run.

        Args:
            force: Remove the files of an earlier run. Other files stay.

        Raises:
            ModelDirError: The path is a file or not writable, or the folder has files that are
                not of a run, or of a run and ``force`` is not set.
        """
        self._make()
        self.sweep()
        if any(self.root.iterdir()):
            self._check_holds_a_run()
            if not force:
                resumable = "resume it with --resume, " if self.checkpoint.is_file() else ""
                raise ModelDirError(
                    f"{self.root} is not empty: it holds an earlier run; {resumable}replace it "
                    "with --force, or give another folder with -o"
                )
            self._clear()

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Make the folder and lock it against other runs until the block ends.

        Raises:
            ModelDirError: The path is a file, cannot be made, or another run has locked it.
        """
        self._make()
        if sys.platform == "win32":
            yield
            return
        # Lock the folder, since a lock file would stay behind. The lock ends with the process.
        handle = os.open(self.root, os.O_RDONLY)
        try:
            if not _locked(handle):
                raise ModelDirError(
                    f"another run is writing into {self.root}; wait until it ends, or give another "
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
            raise ModelDirError(
                f"cannot make the folder {self.root}: {folder_problem(self.root, error)}"
            ) from error

    def sweep(self) -> None:
        """Remove the temporary files of a run that was killed. Other files stay."""
        for path in self._files():
            for temporary in path.parent.glob(f".{path.name}.*.tmp"):
                temporary.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the files of a run that failed, and the folder if nothing else is in it."""
        self._clear()
        with suppress(OSError):  # other files are in it
            self.root.rmdir()

    def _clear(self) -> None:
        """Remove the files of an earlier run; all others belong to the user."""
        for path in self._files():
            path.unlink(missing_ok=True)
        for folder in (self.checkpoint.parent, self.best.root):
            with suppress(OSError):
                folder.rmdir()

    def _check_holds_a_run(self) -> None:
        """Raise if the files in the folder are not of a run that another may replace.

        Names such as ``policy.zip`` and ``config.yaml`` are common, so a name alone is no sign of a
        run. A policy that was trained has a checkpoint beside it; one that was put here, such as a
        policy that ships in ``models/``, has none.
        """
        text = self.config.read_text(errors="replace") if self.config.is_file() else ""
        if not any(line.startswith("env_id:") for line in text.splitlines()):
            raise ModelDirError(
                f"{self.root} is not empty and holds no run, so training does not replace its "
                "files; give another folder with -o"
            )
        if self.policy_zip.is_file() and not self.checkpoint.is_file():
            raise ModelDirError(
                f"{self.root} holds a finished policy without its checkpoint, so training does not "
                "replace it; give another folder with -o"
            )

    def _files(self) -> list[Path]:
        """All files of a run, in the order in which to remove them.

        The policy is first and the configuration last: if the process is killed in between, the
        folder still counts as one of a run, see :meth:`_check_holds_a_run`.
        """
        policy, *others = self._files_of_policy()
        logs = (self.progress, self.evaluations, self.learning_curve)
        return [policy, self.checkpoint, *others, *self.best._files_of_policy(), *logs, self.config]

    def _files_of_policy(self) -> list[Path]:
        exported = [self.onnx, self.certificate, self.policy_json, self.card]
        return [self.policy_zip, self.vecnormalize, *exported]


def _locked(handle: int) -> bool:
    """Lock an open file for this process; false if another process holds the lock."""
    assert sys.platform != "win32"
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # the file system does not support locks
        return True
    return True
