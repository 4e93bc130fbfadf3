"""Files that a served folder may hold by accident or by intent."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from trpo_deploy.files.atomic import file_sha256


def _certificate(folder: Path, **changes: object) -> None:
    value = {"verdict": "pass", "sha256": {"policy.onnx": file_sha256(folder / "policy.onnx")}}
    (folder / "certificate.json").write_text(json.dumps({**value, **changes}))


def _sparse(folder: Path) -> None:
    with (folder / "policy.onnx").open("wb") as file:
        file.truncate(20 * 10**9)


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "certificate.json")


HOSTILE_FILES: dict[str, Callable[[Path], object]] = {
    "bad-garbage": lambda folder: (folder / "policy.onnx").write_bytes(b"nothing"),
    "bad-empty": lambda folder: (folder / "policy.onnx").write_bytes(b""),
    "bad-cut": lambda folder: os.truncate(folder / "policy.onnx", 200),
    "bad-sparse": _sparse,
    "bad-nested": lambda folder: (folder / "certificate.json").write_text("[" * 100_000),
    "bad-huge-golden": lambda folder: _certificate(
        folder, golden={"observation": [0, 0, 0, 0], "action": 10**30}
    ),
    "bad-surrogate": lambda folder: _certificate(folder, note="\ud800"),
    "bad-huge-number": lambda folder: _certificate(folder, note=10**30),
    "bad-other-certificate": lambda folder: _certificate(folder, sha256={"policy.onnx": "0" * 64}),
    "bad-pipe": _pipe,
    "a copy": lambda _: None,
    "a:b": lambda _: None,
}
"""What is done to a copy of a good model, by the name of its folder."""


def drop_hostile_file(models: Path, good: Path, name: str) -> Path:
    """Put a bad copy of a good model into a served folder; its files appear at once."""
    staged = models.parent / f"staged-{name}"
    shutil.copytree(good, staged)
    HOSTILE_FILES[name](staged)
    return staged.rename(models / name)
