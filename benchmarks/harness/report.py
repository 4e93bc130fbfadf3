"""Statistics of paired rounds, Markdown tables and result files."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

RESULTS = Path(__file__).parents[1] / "results"
TRUST = "Trust the ratios, not the absolute numbers."

Row = TypeVar("Row")


def machine(*packages: str) -> str:
    """Architecture, cores, and the versions of Python and of the packages named."""
    versions = [f"{name} {version(name)}" for name in packages]
    return ", ".join(
        [
            platform.machine(),
            f"{os.cpu_count()} cores",
            f"Python {platform.python_version()}",
            *versions,
        ]
    )


def processor() -> str:
    """Name of the processor, as Linux tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown processor")


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median, minimum and maximum over the rounds."""
    found = sorted(values)
    return {"median": statistics.median(found), "min": found[0], "max": found[-1]}


def with_spread(values: dict[str, float]) -> str:
    """``median (minimum - maximum)``, for a table's cell."""
    return "{median:.2f} ({min:.2f} - {max:.2f})".format(**values)


def median_of(rows: Iterable[Row], value: Callable[[Row], float]) -> float:
    """Median of a value over the rounds."""
    return statistics.median(map(value, rows))


def median_ratio(
    rows: Sequence[Row], others: Sequence[Row], value: Callable[[Row], float]
) -> float:
    """Median of each round's ratio. A round's two numbers share the machine's load."""
    return statistics.median(value(a) / value(b) for a, b in zip(rows, others, strict=True))


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_results(name: str, values: Any, text: str, folder: Path = RESULTS) -> None:
    """Print the text; write it as ``NAME.md`` and the values as ``NAME.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps(values, default=vars, indent=1)
    (folder / f"{name}.json").write_text(content + "\n")
    (folder / f"{name}.md").write_text(text)
    print(text)
