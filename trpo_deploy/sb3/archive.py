"""The entries of a policy zip: size-limited, and decoded without running code."""

from __future__ import annotations

import base64
import binascii
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trpo_deploy.errors import (
    PolicyZipError,
    UnsafePickleError,
)
from trpo_deploy.sb3.pickles import Classes, decode

# Far above the size of any policy, far below what would exhaust a machine.
MAX_DATA_BYTES = 64 * 2**20
_MAX_WEIGHT_BYTES = 2 * 2**30

_WITH_OWN_CLASSES = (
    "policy_class",
    "policy_kwargs",
    *(f"{env}{which}_space" for env in ("", "env_") for which in ("observation", "action")),
)
"""Entries that may name a user's classes."""


def read_entries(path: Path) -> tuple[bytes, str, bytes]:
    """Read the raw ``data``, the version and the raw weights, each of limited size.

    Raises:
        PolicyZipError: The file is not a policy zip, or an entry is too large.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            missing = {"data", "policy.pth"} - set(archive.namelist())
            if missing:
                raise PolicyZipError(
                    f"{path} is a zip, but not a policy of Stable-Baselines3: it lacks "
                    f"{sorted(missing)}"
                )
            data = _read_entry(archive, "data", MAX_DATA_BYTES)
            weights = _read_entry(archive, "policy.pth", _MAX_WEIGHT_BYTES)
            version = b"unknown"
            if "_stable_baselines3_version" in archive.namelist():
                version = _read_entry(archive, "_stable_baselines3_version", 1024)
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise PolicyZipError(
            f"{path} is not a policy zip, or is truncated ({reason}); "
            "give a zip that model.save() wrote"
        ) from error
    return data, version.decode(errors="replace").strip(), weights


def _read_entry(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    size = archive.getinfo(name).file_size
    if size > limit:
        raise PolicyZipError(
            f"{archive.filename}: the entry {name!r} claims {size} bytes, more than the "
            f"limit of {limit}"
        )
    return archive.read(name)


def read_weights(path: Path, content: bytes) -> dict[str, torch.Tensor]:
    """The tensors of ``policy.pth``, by name, on the CPU.

    Raises:
        PolicyZipError: The entry has other objects than tensors, tensors larger than their data,
            or values that are not finite.
    """
    try:
        _check_stored_size(content)
        weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many exceptions on damaged and hostile files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PolicyZipError(
            f"{path}: policy.pth is not a dictionary of tensors ({reason})"
        ) from error
    if not isinstance(weights, dict) or not all(
        isinstance(value, torch.Tensor) for value in weights.values()
    ):
        raise PolicyZipError(f"{path}: policy.pth is not a dictionary of tensors")
    claimed = {name for name, value in weights.items() if not _is_stored(value)}
    size = sum(value.numel() * value.element_size() for value in weights.values())
    if claimed or size > _MAX_WEIGHT_BYTES:
        raise PolicyZipError(
            f"{path}: policy.pth claims weights of {size} bytes that it does not contain"
        )
    wrong = [name for name, value in weights.items() if not torch.isfinite(value).all()]
    if wrong:
        raise PolicyZipError(f"{path}: the weights {wrong} have NaN or infinite values")
    return weights


def _check_stored_size(content: bytes) -> None:
    """Raise if an entry of torch's zip, inside the policy zip, claims more bytes than it has."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return  # the format of torch before 1.6
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > len(content):
        raise ValueError(f"its entries claim {size} bytes, but it has {len(content)}")


def _is_stored(tensor: torch.Tensor) -> bool:
    """Whether each element has its own memory; a view can repeat one element without limit."""
    return (
        tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    )


class Entries:
    """The zip's ``data``. Pickled values are decoded on access."""

    def __init__(self, path: Path, data: Mapping[str, Any], allowed: Classes) -> None:
        self.path = path
        self._data = data
        self._allowed = allowed
        self._decoded: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return self._data.get(name) is not None

    def get(self, name: str) -> object:
        """Decode one entry.

        Raises:
            PolicyZipError: The entry is missing or damaged.
            UnsafePickleError: The entry refers to a name outside the allow-list.
        """
        if name not in self._data:
            raise PolicyZipError(f"{self.path}: the entry 'data' lacks {name!r}")
        value = self._data[name]
        if not _is_pickled(value):
            return value
        self._decoded.add(name)
        where = f"{self.path}: {name}"
        try:
            content = base64.b64decode(value[":serialized:"], validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise PolicyZipError(f"{where} is not base64 ({error})") from error
        try:
            return decode(content, where, self._allowed)
        except UnsafePickleError as error:
            if name not in _WITH_OWN_CLASSES:
                raise
            raise UnsafePickleError(
                f"{error}; allow a network or space of your own with --allow-import module:Class, "
                "or export the model in Python with trpo_deploy.export.export_model"
            ) from error

    def skipped(self) -> tuple[str, ...]:
        """Names of the pickled entries that were not decoded."""
        names = {name for name, value in self._data.items() if _is_pickled(value)}
        return tuple(sorted(names - self._decoded))


def _is_pickled(value: object) -> bool:
    return isinstance(value, dict) and ":serialized:" in value
