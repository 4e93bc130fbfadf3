"""Boards with a Cortex-M, as QEMU emulates them: compile programs for them and run these."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.export.targets.c.folders import compiler, run

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Board:
    """A board of QEMU."""

    machine: str
    """Its name in QEMU."""
    options: tuple[str, ...]
    flash: tuple[str, str]
    """Origin and size."""
    ram: str
    clock: float
    """Frequency of the processor, in Hz."""

    def build(self, sources: Iterable[Path], image: Path, *options: str) -> None:
        """Compile and link a program."""
        origin, size = self.flash
        symbols = {"FLASH_ORIGIN": origin, "FLASH_SIZE": size, "RAM_SIZE": self.ram}
        defined = [f"-Wl,--defsym={name}={value}" for name, value in symbols.items()]
        linked = ["--specs=rdimon.specs", "-T", HERE / "cortex_m.ld", "-Wl,--gc-sections"]
        compiled = ["-std=c99", "-mthumb", *self.options, "-nostartfiles", *options]
        files = [*sources, HERE / "startup.c", "-lm", "-o", image]
        run([compiler("arm-none-eabi-gcc"), *compiled, *defined, *linked, *files])

    def run(self, image: Path, *options: str) -> str:
        """Run a program; return what it prints."""
        semihosting = ("-semihosting-config", "enable=on,target=native")
        silent = ("-display", "none", "-monitor", "none", "-serial", "null")
        qemu = compiler("qemu-system-arm")
        command = (qemu, "-M", self.machine, *silent, *semihosting, *options, "-kernel", image)
        return run([*command])


CORTEX_M3 = Board(
    "mps2-an385", ("-mcpu=cortex-m3", "-mfloat-abi=soft"), ("0x0", "4M"), "4M", clock=25e6
)
CORTEX_M4F = Board(
    "netduinoplus2",
    ("-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
    ("0x08000000", "1M"),
    "128K",
    clock=168e6,
)
