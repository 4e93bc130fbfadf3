"""What the commands print: consoles, escaping, JSON, warnings and errors."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape as escape_markup

_own_stdout: TextIO | None = None
"""Stdout of this module's functions, where :func:`reserve_stdout` was called."""


def reserve_stdout(asked: bool = True) -> bool:
    """From here on, only the functions of this module write to stdout.

    Everything else goes to stderr: what environments, C libraries and child processes print, what
    they have buffered until the process ends, and what they print then.

    Args:
        asked: Whether to do so. It is returned, so that the function can be an option's callback.
    """
    global _own_stdout
    if asked and _own_stdout is None and sys.stdout is not None:
        sys.stdout.flush()
        own = os.dup(1)
        _own_stdout = open(own, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        # A shell's 2>&- closes stderr.
        os.dup2(2 if sys.stderr is not None else os.open(os.devnull, os.O_WRONLY), 1)
    return asked


def silence_stdout() -> None:
    """From here on, nothing in this process writes to stdout, C libraries neither."""
    sys.stdout.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def release_stdout() -> None:
    """Forget an earlier :func:`reserve_stdout`, for a process that runs several commands."""
    global _own_stdout
    if _own_stdout is not None:
        os.close(_own_stdout.fileno())
        _own_stdout = None


def stdout_console() -> Console:
    """A console for stdout: no guessed highlights, no wrapped lines."""
    return Console(file=_own_stdout, highlight=False, soft_wrap=True, emoji=False)


def say(text: str) -> None:
    """Print a line on stdout. Square brackets are Rich markup; escape what is not."""
    stdout_console().print(text)


def warn(text: object) -> None:
    """Print a warning as one line on stderr."""
    _print_to_stderr("[yellow]warning:[/]", text)


@contextmanager
def telling(lines: bool) -> Iterator[Callable[[str], None]]:
    """Show on stderr what a command does; gives the function that takes it in a few words.

    On a terminal it is one line, which changes and is gone at the end.

    Args:
        lines: Whether to print a line for each text where stderr is not a terminal.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)

    def tell_line(text: str) -> None:
        if lines:
            console.print(f"{escape(text)} ...")

    if console.is_terminal:
        with console.status("") as status:
            yield lambda text: status.update(f"{escape(text)} ...")
    else:
        yield tell_line


def print_error(error: BaseException) -> None:
    """Print an error as one line on stderr."""
    _print_to_stderr("[bold red]error:[/]", error)


def _print_to_stderr(label: str, text: object) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
    console.print(f"{label} {escape(' '.join(str(text).split()))}")


def escape(text: object) -> str:
    """Keep square brackets from being read as Rich markup."""
    return escape_markup(str(text))


def shell_word(text: object) -> str:
    """Quote a word of a command that users paste into a shell."""
    return escape(shlex.quote(str(text)))


def own_command() -> str:
    """This program, as a user can type it here: it may be in an environment not on the PATH."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        return f"{shell_word(sys.executable)} -m trpo_deploy"
    found = shutil.which("trpo-deploy")
    on_path = found is not None and Path(found).resolve() == program.resolve()
    is_command = program.stem == "trpo-deploy" and program.is_file()
    return shell_word(program) if is_command and not on_path else "trpo-deploy"


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object on one line of stdout."""
    stdout = _own_stdout or sys.stdout
    stdout.write(json.dumps(value, allow_nan=False) + "\n")
    stdout.flush()


def print_warnings(warnings: Iterable[str]) -> None:
    """Print a line for each warning of a certificate."""
    for warning in warnings:
        say(f"[yellow]warning[/]: {escape(warning)}")
