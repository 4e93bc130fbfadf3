"""The results of a run, as JSON: every cell of the table, and what it was measured with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from harness.engines.case import STATES, Cell


@dataclass
class Results:
    """The table. A run of some engines or kinds replaces their cells only."""

    date: str = ""
    """Of the newest cells, in ISO format."""
    machine: str = ""
    """Of the newest cells."""
    versions: dict[str, str] = field(default_factory=dict)
    """By engine; engines that were never run have none."""
    types: dict[str, list[str]] = field(default_factory=dict)
    """By engine: types of outputs that differ from the file's, such as ``int64 as int32``."""
    groups: dict[str, list[str]] = field(default_factory=dict)
    """Kinds by the title of their table."""
    cells: dict[str, dict[str, Cell]] = field(default_factory=dict)
    """By kind and engine."""

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read a file that :meth:`write` wrote."""
        values = json.loads(path.read_text())
        values["cells"] = {
            kind: {engine: Cell(**cell) for engine, cell in row.items()}
            for kind, row in values["cells"].items()
        }
        return cls(**values)

    def write(self, path: Path) -> None:
        """Write the results as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    def update(self, newer: Results) -> None:
        """Replace the cells that were measured again."""
        self.date, self.machine = newer.date, newer.machine
        self.versions |= newer.versions
        is_partial = bool(self.cells.keys() - newer.cells.keys())
        for engine, types in newer.types.items():
            kept = self.types.get(engine, []) if is_partial else []
            self.types[engine] = sorted({*kept, *types})
        for kind, row in newer.cells.items():
            self.cells[kind] = self.cells.get(kind, {}) | row
        self.groups = {
            title: [kind for kind in kinds if kind in self.cells]
            for title, kinds in newer.groups.items()
        }

    def cell(self, kind: str, engine: str) -> Cell:
        """One cell, also of a pair that no run had."""
        return self.cells.get(kind, {}).get(engine, Cell("not run", message="new in the table"))

    def of(self, engine: str) -> Iterator[tuple[str, Cell]]:
        """The kinds and cells of an engine."""
        for kind, row in self.cells.items():
            if engine in row:
                yield kind, row[engine]


def worse(before: Results, now: Results) -> Iterable[str]:
    """A line for each cell that is worse now, in the order of :data:`~harness.engines.case.STATES`.

    Cells that only one of them has are left out.
    """
    for kind, row in now.cells.items():
        for engine, cell in row.items():
            old = before.cells.get(kind, {}).get(engine)
            if old is not None and STATES.index(cell.state) > STATES.index(old.state):
                version = now.versions.get(engine, "")
                yield (
                    f"{kind}, {engine} {version}: {old.state} before, now {cell.state} "
                    f"({cell.message})"
                )
