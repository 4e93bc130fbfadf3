"""A certificate in words, for ``export``, ``verify`` and ``inspect``.

These lines are for people: the verdict, and all that limits it. Each check with its numbers is in
the file, and printed with ``--verbose``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trpo_deploy.cli.output import escape, say
from trpo_deploy.files.certificate_words import WITH_FILE, passed_in_words

_WITNESS = "witness: "
_NO_WITNESS = "no witness: "
_RESULTS: Mapping[Any, str] = {
    True: "[green]ok  [/]",
    False: "[red]FAIL[/]",
    None: "[yellow]open[/]",
}


def print_certificate(certificate: Mapping[str, Any], *, verbose: bool = False) -> None:
    """Print the verdict, and what was not checked or failed.

    Args:
        certificate: The content of a certificate file.
        verbose: Print every check with its numbers, too.
    """
    checks: Sequence[Mapping[str, Any]] = certificate.get("checks", [])
    passed = [check for check in checks if check.get("passed")]
    if certificate.get("verdict") == "pass":
        with_file = any(str(check.get("name")).startswith(WITH_FILE) for check in checks)
        verdict = "the same as policy.onnx" if with_file else "the same policy"
        say(f"certificate: [green]{verdict}[/]; {passed_in_words(certificate)}")
    else:
        count = f"{len(passed)} of {len(checks)} checks passed"
        say(f"certificate: [red]NOT the same policy[/]; {count}")
    for line in _limits(certificate, checks):
        say(f"  {line}")
    if verbose:
        for check in checks:
            say(f"  {_in_full(check)}")


def print_stored_certificate(certificate: Mapping[str, Any] | None, sha256: str) -> None:
    """Print a certificate file, if it belongs to the ONNX file with this hash."""
    if certificate is None:
        say("certificate: none; create one with: trpo-deploy verify")
    elif certificate.get("sha256", {}).get("policy.onnx") != sha256:
        say("certificate: [red]belongs to another file[/]")
    else:
        print_certificate(certificate)
        checks = certificate.get("checks", [])
        for warning in filter(None, (check.get("warning") for check in checks)):
            say(f"  [yellow]warning[/]: {escape(warning)}")
        if not any(str(check.get("name")).startswith(_WITNESS) for check in checks):
            say(
                "  no witness: the certificate is of an older version; run trpo-deploy export again"
            )


def _limits(certificate: Mapping[str, Any], checks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What was not played, has no witness, is undecided or failed."""
    environment = certificate.get("environment", {})
    note = str(environment.get("note") or "")
    is_played = environment.get("env_id") is not None
    if note and not is_played:
        yield f"on made-up observations only; not played: {escape(note)}"
    elif note:
        yield f"note: {escape(note)}"
    for check in checks:
        name, reason = str(check.get("name")), str(check.get("note") or "")
        if check.get("passed") is False:
            reason = reason or _numbers(check)
            yield f"[red]FAIL[/] {escape(name)}: {escape(reason)}"
        elif check.get("passed") is None and reason.startswith(_NO_WITNESS):
            reason = reason.removeprefix(_NO_WITNESS)
            if reason == note and not is_played:
                reason = "not played"
            yield f"no witness ({escape(name.removeprefix(_WITNESS))}): {escape(reason)}"
        elif check.get("passed") is None:
            yield f"[yellow]open[/] {escape(name)}: {escape(reason)}"


def _in_full(check: Mapping[str, Any]) -> str:
    words = check.get("note") or _numbers(check)
    details = f": {escape(words)}" if words else ""
    return f"{_RESULTS[check.get('passed')]} {escape(check.get('name'))}{details}"


def _numbers(check: Mapping[str, Any]) -> str:
    pairs = check.get("measured", {}).items()
    return ", ".join(f"{name} {_value(value)}" for name, value in pairs)


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, Mapping):
        return " and ".join(f"{key} {_value(each)}" for key, each in value.items())
    if isinstance(value, list):
        return " and ".join(map(_value, value)) or "none"
    return str(value)
