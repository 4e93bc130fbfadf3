"""Volumes as the kubelet makes them: files behind links that change all at once."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path


class ProjectedVolume:
    """A projected volume of ConfigMaps, or the volume of one.

    The files are in a folder with a time in its name. ``..data`` links to it, and what a user sees
    at the top are links into ``..data``. An update writes a new folder and replaces ``..data`` by a
    rename, so that all files change at once; then the old folder is removed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._updates = 0
        folder.mkdir(parents=True)

    def update(self, files: Mapping[str, bytes]) -> None:
        """Replace all files, given by path in the volume."""
        self._updates += 1
        new = self.folder / f"..2024_01_01_10_00_00.{self._updates:09}"
        for path, content in files.items():
            (new / path).parent.mkdir(parents=True, exist_ok=True)
            (new / path).write_bytes(content)
        data, temporary = self.folder / "..data", self.folder / "..data_tmp"
        old = data.resolve() if data.is_symlink() else None
        temporary.symlink_to(new.name)
        temporary.rename(data)
        for name in {Path(path).parts[0] for path in files}:
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")
        for link in self.folder.iterdir():
            if link.is_symlink() and not link.exists():
                link.unlink()
        if old is not None:
            shutil.rmtree(old)
