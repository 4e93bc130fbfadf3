"""A rank that trains all cases: ``python -m tests.train.distributed.train_cases FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.train.distributed.cases import CASES, train_case
from trpo_deploy.train import joined

if __name__ == "__main__":
    with joined():
        for name in CASES:
            train_case(name, Path(sys.argv[1]))
