"""What the commands print: consoles, escaping, JSON, exports and certificates."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape as escape_markup

if TYPE_CHECKING:
    from trpo_deploy.export import Certificate, Export, TargetExport


def stdout_console() -> Console:
    """A console for the current ``sys.stdout``: no guessed highlights, no wrapped lines."""
    return Console(highlight=False, soft_wrap=True, emoji=False)


def say(text: str) -> None:
    """Print a line on stdout. Square brackets are Rich markup; escape what is not."""
    stdout_console().print(text)


def warn(text: object) -> None:
    """Print a warning as one line on stderr."""
    _print_to_stderr("[yellow]warning:[/]", text)


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


_json_descriptor = 1
"""File descriptor that :func:`print_json` writes to."""


def reserve_stdout_for_json(asked: bool) -> bool:
    """Callback of ``--json``: from here on, only :func:`print_json` writes to stdout.

    Everything else goes to stderr: what environments, C libraries and child processes print, what
    they have buffered until the process ends, and what they print then.
    """
    global _json_descriptor
    if asked:
        sys.stdout.flush()
        # A shell's 2>&- closes stderr.
        rest = 2 if sys.stderr is not None else os.open(os.devnull, os.O_WRONLY)
        _json_descriptor = os.dup(1)
        os.dup2(rest, 1)
    return asked


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object on one line of stdout.

    Only for commands with the option ``--json``.
    """
    with open(_json_descriptor, "w", encoding="utf-8", closefd=False) as stdout:
        stdout.write(json.dumps(value, allow_nan=False) + "\n")


def print_export(result: Export) -> None:
    """Print the files of an export, its warnings and its certificate."""
    say(f"wrote {escape(result.path)} ({result.size / 1024:.1f} kB) and {escape(result.card.name)}")
    print_warnings(result.warnings)
    if result.skipped:
        say(f"skipped entries of the zip (not needed): {escape(', '.join(result.skipped))}")
    if result.certificate is None:
        say("not verified: no certificate was written")
    else:
        print_certificate(result.certificate)


def print_target_export(result: TargetExport) -> None:
    """Print the folder of a target, its files and its certificate."""
    say(f"wrote {escape(result.folder)}: {escape(', '.join(sorted(result.files)))}")
    print_warnings(result.warnings)
    if result.certificate is None:
        say("not verified: no certificate was written")
    else:
        print_certificate(result.certificate)


def print_warnings(warnings: Iterable[str]) -> None:
    """Print a line for each warning of a certificate."""
    for warning in warnings:
        say(f"[yellow]warning[/]: {escape(warning)}")


def print_certificate(certificate: Certificate) -> None:
    """Print each check of a certificate, and the verdict."""
    note = certificate.environment["note"]
    if note:
        say(f"note: {escape(note)}")
    for check in certificate.checks:
        color = {True: "green", False: "red", None: "yellow"}[check.passed]
        measured = ", ".join(f"{name} {_short(value)}" for name, value in check.measured.items())
        words = escape(check.note or measured)
        say(f"  [{color}]{check.result:<4}[/] {check.name}: {words}")
    verdict = "[green]the same policy[/]" if certificate.passed else "[red]NOT the same policy[/]"
    say(f"certificate: {verdict}")


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def print_verdict(certificate: dict[str, Any] | None, sha256: str) -> None:
    """Print the verdict of a certificate file, if it belongs to the ONNX file with this hash."""
    if certificate is None:
        say("  certificate: none; create one with: trpo-deploy verify")
    elif certificate.get("sha256", {}).get("policy.onnx") != sha256:
        say("  certificate: [red]belongs to another file[/]")
    else:
        checks = certificate.get("checks", [])
        passed = sum(bool(check.get("passed")) for check in checks)
        say(f"  certificate: {certificate.get('verdict')}, {passed} of {len(checks)} checks")
        for check in checks:
            if check.get("passed") is None:
                say(f"  {escape(check.get('name'))}: {escape(check.get('note'))}")
        if not any(str(check.get("name")).startswith("witness") for check in checks):
            say(
                "  no witness: the certificate is of an older version; run trpo-deploy export again"
            )
