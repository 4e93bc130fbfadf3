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


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C of a kind of policy, for all boards."""
    return write_folder(tmp_path_factory.mktemp("policy"), **KINDS[request.param])


@pytest.mark.slow
@pytest.mark.parametrize("board", [CORTEX_M3, CORTEX_M4F], ids=lambda board: board.machine)
@pytest.mark.parametrize("folder", SPACES, indirect=True)
def test_golden_rows_are_right_on_a_microcontroller(
    folder: Path, board: Board, tmp_path: Path
) -> None:
    image = tmp_path / "image.elf"
    board.build(sources(folder), image, "-Os", f"-D{NAME.upper()}_TEST_MAIN")
    assert "largest error" in board.run(image)
