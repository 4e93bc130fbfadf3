"""The folder of a target: its files, and ``policy.json``, which says what they are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from trpo_deploy.errors import ExportError, ModelDirError, PolicyFileError
from trpo_deploy.export.targets.names import check_identifier
from trpo_deploy.export.targets.table import TARGETS
from trpo_deploy.files.atomic import atomic_write_all, file_sha256
from trpo_deploy.files.names import check_names
from trpo_deploy.spec.policy_spec import PolicySpec

POLICY, GOLDEN, CERTIFICATE = "policy.json", "golden.json", "certificate.json"
_MAX_BYTES = 64 * 2**20


@dataclass(frozen=True)
class TargetFolder:
    """What the ``policy.json`` of a folder says."""

    root: Path
    target: str
    name: str
    """Name of the policy in the files."""
    hashes: Mapping[str, str]
    """Hex SHA-256 of the export's files by name, but of ``policy.json`` and the certificate."""
    spec: PolicySpec

    @classmethod
    def read(cls, root: Path) -> TargetFolder:
        """Read a folder that an export wrote.

        Raises:
            ModelDirError: The folder has no ``policy.json`` that can be read.
            PolicyFileError: Its spec cannot be read.
        """
        path = root / POLICY
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise ValueError("it is larger than 64 MiB")
            value = json.loads(path.read_text(encoding="utf-8"))
            if value["target"] not in TARGETS:
                raise ValueError(f"its target is not one of {', '.join(TARGETS)}")
            files = {str(name): str(sha256) for name, sha256 in value["files"].items()}
            if any(Path(each).name != each for each in files):
                raise ValueError("it names files of other folders")
            check_identifier(value["name"])
            spec = PolicySpec.from_json(json.dumps(value["spec"]))
        except FileNotFoundError as error:
            raise ModelDirError(
                f"{root} has no {POLICY}, so no target was exported to it; export one with: "
                "trpo-deploy export SOURCE --target ..."
            ) from error
        except KeyError as error:
            raise ModelDirError(f"{path} has no entry {error}; export again") from error
        except (
            OSError,
            ValueError,
            AttributeError,
            TypeError,
            RecursionError,
            ExportError,
        ) as error:
            raise ModelDirError(f"{path} cannot be read ({error}); export again") from error
        return cls(root, value["target"], value["name"], files, spec)

    @property
    def files(self) -> tuple[str, ...]:
        """All files of the export, by name."""
        return (*self.hashes, POLICY, CERTIFICATE)

    def sha256(self) -> dict[str, str]:
        """Hashes of the files as they are now, the certificate aside.

        Raises:
            ModelDirError: A file is missing.
        """
        try:
            return {
                name: file_sha256(self.root / name) for name in self.files if name != CERTIFICATE
            }
        except OSError as error:
            raise ModelDirError(f"cannot read {error.filename}: {error.strerror}") from error


def check_output(root: Path, *, force: bool) -> None:
    """Check that an export may write into a folder.

    Raises:
        ModelDirError: The path is a file, or the folder is not empty and ``force`` is not set.
    """
    if root.exists() and not root.is_dir():
        raise ModelDirError(f"{root} is a file; give a folder with -o")
    if root.is_dir() and any(root.iterdir()) and not force:
        raise ModelDirError(
            f"{root} is not empty; give another folder with -o, or replace the files of an earlier "
            "export with --force"
        )


def check_replaced(root: Path, names: Iterable[str]) -> None:
    """Check that an export replaces the files of an earlier one only.

    Args:
        root: The folder.
        names: Names of the files to write.

    Raises:
        ModelDirError: The folder has a file of that name from elsewhere.
    """
    earlier = _earlier_files(root)
    for name in names:
        if name not in earlier and (root / name).exists():
            raise ModelDirError(
                f"{root / name} is not of an earlier export, so it is not replaced; give another "
                "folder with -o"
            )


def _earlier_files(root: Path) -> tuple[str, ...]:
    try:
        return TargetFolder.read(root).files
    except (ModelDirError, PolicyFileError):  # not a folder of an export
        return ()


def write_folder(root: Path, files: Mapping[str, bytes | str]) -> None:
    """Write all files or none, and remove those of an earlier export that are not among them.

    Other files in the folder stay.

    Raises:
        ModelDirError: A file cannot be written.
    """
    check_names(root / name for name in files)
    before = _earlier_files(root)
    atomic_write_all({root / name: content for name, content in files.items()})
    for name in {*before} - {*files}:
        (root / name).unlink(missing_ok=True)


def hashes(files: Mapping[str, bytes | str]) -> dict[str, str]:
    """SHA-256 of files that are not yet written, in hexadecimal."""
    return {
        name: sha256(content.encode() if isinstance(content, str) else content).hexdigest()
        for name, content in files.items()
    }
