"""Which engines, in which versions, run the exported files, and how equal their results are.

    python benchmarks/engines.py [--engine NAME ...] [--kind NAME ...] [--check | --page]

Each engine is installed in a folder of its own under ``build/engine-table`` and stays there; remove
the folder to get the newest versions. It gets the files of ``models/`` and a small one of every
other kind, in processes of its own. The script writes ``docs/engines.md`` and
``results/engines.json``; cells that were not run again stay.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the tests are not installed

from harness.engines.case import Case  # noqa: E402
from harness.engines.kinds import groups, write  # noqa: E402
from harness.engines.page import page  # noqa: E402
from harness.engines.results import Results, worse  # noqa: E402
from harness.engines.run import measure  # noqa: E402
from harness.engines.table import ENGINES  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "engines.json"
PAGE = ROOT / "docs" / "engines.md"


def run(engines: list[str], kinds: list[str]) -> Results:
    """Write the policies and run them."""
    with TemporaryDirectory() as temporary:
        cases = {
            kind: Case.prepare(write(kind, Path(temporary, str(number))))
            for number, kind in enumerate(kinds)
        }
        results = measure(engines, cases)
    results.groups = dict(groups())
    return results


def main() -> None:
    """Run the engines, and write the page or compare with it."""
    kinds = [kind for names in groups().values() for kind in names]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", action="append", choices=ENGINES, help="run this one only")
    parser.add_argument("--kind", action="append", choices=kinds, help="run this one only")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if a cell became worse"
    )
    what.add_argument("--page", action="store_true", help="write the page without a run")
    options = parser.parse_args()
    results = Results.read(RESULTS) if RESULTS.is_file() else Results()
    if not options.page:
        newer = run(options.engine or list(ENGINES), options.kind or kinds)
        if options.check:
            sys.exit("\n".join(worse(results, newer)) or 0)
        results.update(newer)
        results.write(RESULTS)
    PAGE.write_text(page(results, list(ENGINES)))


if __name__ == "__main__":
    main()
