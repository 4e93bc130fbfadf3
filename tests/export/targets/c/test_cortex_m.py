"""The C of each kind of space on emulated microcontrollers gives the golden rows' actions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.export.targets.c.folders import NAME, compiler, run, sources, write_folder
from tests.export.targets.programs import KINDS

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Machine:
    """A board of QEMU."""

    options: tuple[str, ...]
    flash: tuple[str, str]
    """Origin and size."""
    ram: str


MACHINES = {
    "mps2-an385": Machine(("-mcpu=cortex-m3", "-mfloat-abi=soft"), ("0x0", "4M"), "4M"),
    "netduinoplus2": Machine(
        ("-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"), ("0x08000000", "1M"), "128K"
    ),
}
SPACES = [
    *(kind for kind in KINDS if kind.startswith(("action ", "observation "))),
    *("normalised", "squashed", "float64", "guarded", "normalised stack"),
    *("stack of bools", "stack of images", "stack of a dict"),
]


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("kind", SPACES)
def test_golden_rows_are_right_on_a_microcontroller(
    kind: str, machine: str, tmp_path: Path
) -> None:
    gcc, qemu = compiler("arm-none-eabi-gcc"), compiler("qemu-system-arm")
    folder, board = write_folder(tmp_path, **KINDS[kind]), MACHINES[machine]
    origin, size = board.flash
    symbols = {"FLASH_ORIGIN": origin, "FLASH_SIZE": size, "RAM_SIZE": board.ram}
    defined = [f"-Wl,--defsym={name}={value}" for name, value in symbols.items()]
    options = ["-std=c99", "-Os", "-mthumb", *board.options, "-nostartfiles"]
    linked = [*defined, "--specs=rdimon.specs", "-T", HERE / "cortex_m.ld", "-Wl,--gc-sections"]
    files = [*sources(folder), HERE / "startup.c"]
    image = tmp_path / "image.elf"
    run([gcc, *options, *linked, f"-D{NAME.upper()}_TEST_MAIN", *files, "-lm", "-o", image])
    said = run(
        [
            *(qemu, "-M", machine, "-display", "none", "-monitor", "none", "-serial", "null"),
            *("-semihosting-config", "enable=on,target=native", "-kernel", image),
        ]
    )
    assert "largest error" in said
