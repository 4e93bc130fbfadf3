"""The files of one model folder, and how they are written: whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

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


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` that takes its name once the block has ended well.

    A reader sees the old file or the whole new one; after an error nothing new is left.

    Raises:
        ModelDirError: the target cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise ModelDirError(f"cannot write {path}: {error.strerror}") from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        # mkstemp makes private files; a model is as readable as the user's other files.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        raise ModelDirError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write(path: Path, content: bytes | str) -> None:
    """Write a whole file, or leave what was there."""
    data = content.encode() if isinstance(content, str) else content
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def append(path: Path, text: str) -> None:
    """Add to a file, whole or not at all.

    Raises:
        ModelDirError: it cannot be written.
    """
    try:
        # Without a buffer, which would be written once more before the file is cut back.
        with path.open("ab", buffering=0) as file:
            size, data = file.tell(), text.encode()
            if file.write(data) != len(data):
                file.truncate(size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise ModelDirError(f"cannot write {path}: {error.strerror}") from error


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    return sha256(path.read_bytes()).hexdigest()


def find_onnx(model: Path) -> Path:
    """The ONNX file that a ``MODEL`` argument names: the file itself, or the one in a folder.

    Raises:
        ModelDirError: there is none.
    """
    if model.is_file():
        if model.suffix == ".zip":
            raise ModelDirError(
                f"{model} is a policy zip and no ONNX file; export it with: trpo-deploy export "
                f"{model}"
            )
        return model
    if not model.exists():
        raise ModelDirError(f"{model} does not exist; give a model folder or a policy.onnx")
    onnx = ModelDir(model).onnx
    if not onnx.is_file():
        raise ModelDirError(f"{model} has no policy.onnx; make it with: trpo-deploy export {model}")
    return onnx


def changed_sources(onnx: Path, sources: Mapping[str, str]) -> list[str]:
    """Files beside an ONNX file that are not those any more that it was exported from.

    Args:
        onnx: the file.
        sources: what its spec says: SHA-256 by name.
    """
    beside = {name: onnx.parent / name for name in sources}
    return [
        name
        for name, path in beside.items()
        if path.is_file() and file_sha256(path) != sources[name]
    ]


def certificate_path(onnx: Path) -> Path:
    """Where the certificate of an ONNX file lies: beside it."""
    model_dir = ModelDir(onnx.parent)
    if onnx.name == model_dir.onnx.name:
        return model_dir.certificate
    return onnx.with_suffix(".certificate.json")


def read_certificate(onnx: Path) -> dict[str, Any] | None:
    """The certificate beside an ONNX file, if there is one.

    Raises:
        ModelDirError: it cannot be read.
    """
    path = certificate_path(onnx)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelDirError(f"{path} cannot be read as a certificate ({error})") from error
    if not isinstance(value, dict):
        raise ModelDirError(f"{path} holds no certificate")
    return value


@dataclass(frozen=True)
class PolicySource:
    """The files that a ``SOURCE`` argument stands for."""

    policy_zip: Path
    """The policy, in Stable-Baselines3's zip format."""
    vecnormalize: Path | None
    """Its normaliser's statistics, if there are any."""
    config: Path | None
    """The run's configuration: ours (``config.yaml``) or RL Zoo's (``config.yml``)."""
    env_id: str | None
    """The environment's id where the layout tells it (RL Zoo names the zip after it)."""
    evaluations: Path | None
    """Returns during the training, in SB3's layout."""
    model_dir: ModelDir | None
    """The model folder, if the source is one."""


def find_source(source: Path, vecnormalize: Path | None = None) -> PolicySource:
    """Find a policy and what belongs to it: a zip, a model folder, or a run folder of RL Zoo.

    RL Zoo's layout is ``ENV_1/ENV.zip`` beside ``ENV_1/ENV/{config.yml,vecnormalize.pkl}``.

    Args:
        source: path of the zip or folder.
        vecnormalize: statistics to use in place of those found by the layout.

    Raises:
        ModelDirError: nothing there, or more than one policy to choose from.
    """
    if not source.exists():
        raise ModelDirError(
            f"{source} does not exist; give a policy zip, a model folder or an RL Zoo run folder"
        )
    if vecnormalize is not None and not vecnormalize.is_file():
        raise ModelDirError(
            f"{vecnormalize} does not exist; --vecnormalize takes a statistics file"
        )
    found = _from_folder(source) if source.is_dir() else _from_zip(source)
    return found if vecnormalize is None else replace(found, vecnormalize=vecnormalize)


def _from_folder(folder: Path) -> PolicySource:
    model_dir = ModelDir(folder)
    if model_dir.policy_zip.is_file():
        return _from_zip(model_dir.policy_zip)
    zips = sorted(folder.glob("*.zip"))
    # RL Zoo leaves its best model and checkpoints beside the policy that has a configuration.
    zips = [path for path in zips if (path.with_suffix("") / "config.yml").is_file()] or zips
    if len(zips) != 1:
        found = ", ".join(path.name for path in zips) or "none"
        raise ModelDirError(
            f"{folder} holds neither policy.zip nor exactly one other zip (found: {found}); "
            "give the policy zip itself"
        )
    return _from_zip(zips[0])


def _from_zip(policy_zip: Path) -> PolicySource:
    model_dir = ModelDir(policy_zip.parent)
    if policy_zip.name == model_dir.policy_zip.name:
        # The pair of the best evaluation lies one folder below the run's configuration.
        run = ModelDir(model_dir.root.parent) if model_dir.root.name == "best" else model_dir
        return PolicySource(
            policy_zip=policy_zip,
            vecnormalize=_if_file(model_dir.vecnormalize),
            config=_if_file(run.config),
            env_id=None,
            evaluations=_if_file(run.evaluations),
            model_dir=model_dir,
        )
    configs = list(policy_zip.parent.glob("*/config.yml"))
    if policy_zip.name == "best_model.zip" and len(configs) == 1:
        zoo = configs[0].parent  # the configuration and statistics are the run's
    else:
        zoo = policy_zip.with_suffix("")
    config = _if_file(zoo / "config.yml")
    return PolicySource(
        policy_zip=policy_zip,
        vecnormalize=_if_file(zoo / "vecnormalize.pkl"),
        config=config,
        env_id=zoo.name if config is not None else None,
        evaluations=_if_file(policy_zip.with_name("evaluations.npz")),
        model_dir=None,
    )


def _if_file(path: Path) -> Path | None:
    return path if path.is_file() else None
