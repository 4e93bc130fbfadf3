"""The C of each kind of space on emulated microcontrollers gives the golden rows' actions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.export.targets.c.boards import CORTEX_M3, CORTEX_M4F, Board
from tests.export.targets.c.folders import NAME, sources, write_folder
from tests.export.targets.programs import KINDS

SPACES = [
    *(kind for kind in KINDS if kind.startswith(("action ", "observation "))),
    *("normalised", "squashed", "float64", "guarded", "normalised stack"),
    *("stack of bools", "stack of images", "stack of a dict"),
]


@pytest.mark.slow
@pytest.mark.parametrize("board", [CORTEX_M3, CORTEX_M4F], ids=lambda board: board.machine)
@pytest.mark.parametrize("kind", SPACES)
def test_golden_rows_are_right_on_a_microcontroller(
    kind: str, board: Board, tmp_path: Path
) -> None:
    folder, image = write_folder(tmp_path, **KINDS[kind]), tmp_path / "image.elf"
    board.build(sources(folder), image, "-Os", f"-D{NAME.upper()}_TEST_MAIN")
    assert "largest error" in board.run(image)
