"""The training log as a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

import numpy as np
from stable_baselines3.common.logger import KVWriter

from trpo_deploy.files.atomic import append, atomic_write
from trpo_deploy.files.model_dir import ModelDir


class CsvLog(KVWriter):
    """SB3's log as a CSV file that is complete after every row.

    Args:
        folder: Model folder to write to.
        n_rows: Number of rows of an existing file to keep.
        report: Called with each row.
    """

    def __init__(
        self,
        folder: ModelDir,
        n_rows: int = 0,
        report: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        self._path = folder.progress
        self._report = report
        self._rows: list[dict[str, Any]] = []
        self._columns: list[str] = []
        """Columns of the file; empty before the first row."""
        if n_rows and self._path.is_file():
            with self._path.open(newline="", encoding="utf-8", errors="replace") as file:
                rows = list(csv.DictReader(file))[:n_rows]
            # DictReader puts the surplus fields of a damaged file under the key None.
            self._rows = [{k: v for k, v in row.items() if k is not None and v} for row in rows]

    @property
    def n_rows(self) -> int:
        """Number of rows so far."""
        return len(self._rows)

    def write(
        self,
        key_values: dict[str, Any],
        key_excluded: dict[str, tuple[str, ...]],
        step: int = 0,  # noqa: ARG002 - among the values as time/total_timesteps
    ) -> None:
        """Append a row; rewrite the file if the row has a new column."""
        row = {
            # Plain floats: a float32 prints shorter than the float that a checkpoint restores.
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in sorted(key_values.items())
            if "csv" not in key_excluded.get(name, ())
        }
        self._rows.append(row)
        if self._columns and row.keys() <= set(self._columns):
            append(self._path, self._text([row]))
        else:
            self._columns = sorted({name for each in self._rows for name in each})
            header = {name: name for name in self._columns}
            atomic_write(self._path, self._text([header, *self._rows]))
        self._report(row)

    def _text(self, rows: list[dict[str, Any]]) -> str:
        text = io.StringIO(newline="")
        csv.DictWriter(text, self._columns).writerows(rows)
        return text.getvalue()

    def close(self) -> None:
        """Do nothing: the file is closed after each row."""
