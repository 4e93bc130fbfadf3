"""The CSV log is complete after every row, also after a resume."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.train.run.csv_log import CsvLog


def test_appended_and_rewritten_rows_are_one_table(tmp_path: Path) -> None:
    folder = ModelDir(tmp_path)
    log = CsvLog(folder)
    rows: list[dict[str, Any]] = [{"a": 1, "b": 2.5}, {"b": "x,y"}, {"a": 3, "c": 4}, {"c": 5}]
    for row in rows:
        log.write(row, {})
    resumed = CsvLog(folder, n_rows=3)  # the last row came after the checkpoint
    resumed.write({"a": 6}, {})
    with folder.progress.open(newline="") as file:
        read = [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]
    expected = [*rows[:3], {"a": 6}]
    assert read == [{k: str(v) for k, v in row.items()} for row in expected]
