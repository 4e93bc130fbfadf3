"""Run cases in engines, in processes of their own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from harness.engines.case import FOUND, Case, Cell
from harness.engines.results import Results
from harness.engines.table import Command, command_of, environment_of
from harness.report import machine, processor

SECONDS = 1800  # for all cases, on a busy machine
PROCESSES = 2


def measure(engines: Iterable[str], cases: Mapping[str, Case]) -> Results:
    """Run all cases in engines, which are installed first.

    Args:
        engines: Names of :data:`~harness.engines.table.ENGINES`.
        cases: The cases, by kind.
    """
    today = datetime.now(timezone.utc).date().isoformat()
    results = Results(today, f"{processor()}, {machine('onnxruntime', 'numpy')}")
    results.cells = {kind: {} for kind in cases}
    for engine in engines:
        print(engine, flush=True)
        for kind, cell in _column(engine, cases, results).items():
            results.cells[kind][engine] = cell
    return results


def _column(engine: str, cases: Mapping[str, Case], results: Results) -> dict[str, Cell]:
    try:
        command = command_of(engine)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = _last_line(getattr(error, "stderr", None) or str(error))
        return dict.fromkeys(cases, Cell("not run", message=reason))

    for case in cases.values():
        (case.folder / FOUND).unlink(missing_ok=True)
    parts = [list(cases.values())[part::PROCESSES] for part in range(PROCESSES)]
    with ThreadPoolExecutor(PROCESSES) as pool:
        crashes = list(pool.map(lambda part: _run(command, environment_of(engine), part), parts))
    crashed = {case: message for part in crashes for case, message in part.items()}
    cells = {
        kind: Cell("refuses", message=crashed[case.folder])
        if case.folder in crashed
        else case.compare()
        for kind, case in cases.items()
    }
    founds = [_found(case.folder) for case in cases.values()]
    version = next((each["version"] for each in founds if each), None)
    if version is not None:
        results.versions[engine] = version
    results.types[engine] = sorted(
        {
            f"{expected.dtype} as {found['types'][name]}"
            for case, found in zip(cases.values(), founds, strict=True)
            for name, expected in case.expected[0].items()
            if found.get("types", {}).get(name, expected.dtype) != expected.dtype
        }
    )
    return cells


def _run(
    command: Command, environment: Mapping[str, str], cases: Sequence[Case]
) -> dict[Path, str]:
    """Run cases one after another, in a new process after each crash.

    Returns:
        Folders of the cases in which the process ended, with its last line.
    """
    crashes = {}
    pending = [case.folder for case in cases]
    while pending:
        message = _last_line_of([*command, *pending], environment)
        pending = [folder for folder in pending if not (folder / FOUND).is_file()]
        if pending:
            crashes[pending.pop(0)] = message
    return crashes


def _last_line_of(command: Sequence[Any], environment: Mapping[str, str]) -> str:
    """Run a process; its exit code and the last line of its errors."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {SECONDS} s"
    return f"exit code {done.returncode}: {_last_line(done.stderr) or 'no message'}"


def _found(folder: Path) -> dict[str, Any]:
    path = folder / FOUND
    return json.loads(path.read_text()) if path.is_file() else {}


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]
