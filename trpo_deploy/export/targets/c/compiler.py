"""C compilers on this machine."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from trpo_deploy.errors import ExportError, ToolMissingError
from trpo_deploy.export.targets.process import run

_CORTEX_M4 = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")


@dataclass(frozen=True)
class Compiler:
    """A compiler with the options of GCC."""

    command: str
    name: str
    """Such as ``gcc 12``."""

    @classmethod
    def find(cls) -> Compiler:
        """The compiler of this machine: ``$CC``, else ``cc``, ``gcc`` or ``clang``.

        Raises:
            ToolMissingError: There is none.
        """
        for candidate in (os.environ.get("CC"), "cc", "gcc", "clang"):
            command = shutil.which(candidate) if candidate else None
            if command:
                return cls(command, _name(command))
        raise ToolMissingError(
            "no C compiler on this machine (tried $CC, cc, gcc and clang); install gcc or clang"
        )

    def compile(self, source: Path, output: Path, *options: str) -> None:
        """Compile one file.

        Raises:
            ExportError: The compiler reports an error.
        """
        files = [str(source.absolute()), "-o", str(output.absolute()), "-lm"]
        command = [self.command, "-std=c99", *options, *files]
        done = run(command, output.parent)
        if done.returncode != 0:
            reason = next((line for line in done.stderr.splitlines() if "error" in line), "")
            raise ExportError(f"{self.name} cannot compile {source.name}: {reason or done.stderr}")


def _name(command: str) -> str:
    about = run([command, "--version"], Path.cwd()).stdout
    kind = "clang" if "clang" in about.lower() else "gcc"
    major = re.match(r"\d+", run([command, "-dumpversion"], Path.cwd()).stdout)
    return f"{kind} {major[0]}" if major else kind


def measured_cost(folder: Path, name: str) -> str:
    """Flash and stack of ``NAME.c`` as one line; empty if no compiler can say.

    Measured for a Cortex-M4 if its compiler is on this machine, else for this machine.

    Args:
        folder: Folder with ``NAME.c`` and ``NAME.h``.
        name: Name of the policy.
    """
    arm = shutil.which("arm-none-eabi-gcc")
    try:
        compiler = Compiler(arm, _name(arm)) if arm else Compiler.find()
        options = ("-O2", "-c", "-fstack-usage", *(_CORTEX_M4 if arm else ()))
        compiled = folder / f"{name}.o"
        compiler.compile(folder / f"{name}.c", compiled, *options)
        size = "arm-none-eabi-size" if arm else "size"
        flash = int(run([size, str(compiled)], folder).stdout.splitlines()[1].split()[0])
        stacks = [line.split("\t")[1] for line in _stack_usage(folder).splitlines()]
        stack = sum(int(each) for each in stacks)
    except (ExportError, OSError, IndexError, ValueError):
        return ""
    kind = "Cortex-M4" if arm else "this kind of processor"
    return (
        f"Flash {flash} bytes, stack at most {stack} bytes, no other memory ({kind}, "
        f"{compiler.name} -O2, without the functions of math.h)."
    )


def _stack_usage(folder: Path) -> str:
    return next(folder.glob("*.su")).read_text(encoding="utf-8")
