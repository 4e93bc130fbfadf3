"""What the checks of a passed certificate have measured, in one sentence for people."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

WITH_FILE = "policy.onnx, "
"""Start of the name of a check that compares a target's files with the finished file."""
_COMPARISONS = ("parity, onnxruntime, ", WITH_FILE)
"""Names of checks that compare observations: with the trained policy, or with the finished file."""


def passed_in_words(certificate: Mapping[str, Any]) -> str:
    """How many checks passed, how much they compared, and the result.

    Args:
        certificate: The content of a certificate file with the verdict ``pass``.
    """
    passed = sum(check.get("passed") is True for check in certificate.get("checks", []))
    count = "1 check" if passed == 1 else f"{passed} checks"
    return f"{count} passed: {', '.join(_measured(certificate))}"


def _measured(certificate: Mapping[str, Any]) -> Iterator[str]:
    """How much was compared, and the result."""
    checks = certificate.get("checks", [])
    compared = [each for each in checks if str(each.get("name")).startswith(_COMPARISONS)]
    rows = sum(each["measured"]["rows"] for each in compared)
    yield f"{rows:,} observations"
    cases = [each["worst_case"] for each in checks if _has_error(each)]
    if cases:
        worst = max(cases, key=lambda case: float(case["error"]) / float(case["tolerance"]))
        error, tolerance = float(worst["error"]), float(worst["tolerance"])
        yield f"largest error {error:.1e} of {tolerance:.0e} allowed"
    returns = next((each for each in checks if each.get("name") == "returns"), None)
    if returns is not None:
        yield _returns(returns["measured"], certificate.get("returns", {}))


def _has_error(check: Mapping[str, Any]) -> bool:
    case = check.get("worst_case")
    if not str(check.get("name")).startswith("parity") or not case:
        return False
    return 0 < float(case["tolerance"]) < math.inf


def _returns(measured: Mapping[str, Any], returns: Mapping[str, Any]) -> str:
    episodes, equal = measured["episodes"], measured.get("equal_episodes")
    if equal == episodes:
        return f"{equal} of {episodes} episodes equal"
    file, sb3 = (float(returns[who]["mean"]) for who in ("onnx", "sb3"))
    return f"mean return {file:.5g} (file) and {sb3:.5g} (SB3) in {episodes} episodes"
