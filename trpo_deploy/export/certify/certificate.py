"""The result of comparing an ONNX file with the trained policy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trpo_deploy.export.certify.check import Check
from trpo_deploy.spec.spaces import Json

FORMAT_VERSION = 2
"""Since 2, a check can be undecided: ``"passed": null``, and ``"note"`` says why."""


@dataclass(frozen=True)
class Certificate:
    """All checks of a file, bound to the compared files by their SHA-256."""

    sha256: Mapping[str, str]
    checks: tuple[Check, ...]
    environment: Mapping[str, Any]
    returns: Mapping[str, Any]
    versions: Mapping[str, str]
    golden: Json | None
    """Observations and the file's actions for them; ``None`` if they are too large."""

    @property
    def passed(self) -> bool:
        """Whether no check found a difference between the file and the trained policy.

        Undecided checks do not count: parity decides about every output by itself.
        """
        return not any(check.failed for check in self.checks)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know although the file is the trained policy."""
        return tuple(check.warning for check in self.checks if check.warning)

    def failures(self) -> str:
        """The failed checks as text."""
        return "; ".join(f"{c.name}: {c.note or dict(c.measured)}" for c in self.checks if c.failed)

    def to_json(self) -> str:
        """The certificate as indented JSON."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def to_dict(self) -> dict[str, Any]:
        """The certificate as JSON values."""
        value: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "verdict": "pass" if self.passed else "fail",
            "sha256": dict(self.sha256),
            "environment": dict(self.environment),
            "checks": [
                {
                    "name": check.name,
                    "passed": check.passed,
                    "how": check.how,
                    "measured": dict(check.measured),
                    **_if_any("warning", check.warning),
                    **_if_any("worst_case", check.worst_case),
                    **_if_any("note", check.note),
                }
                for check in self.checks
            ],
            "returns": dict(self.returns),
            "versions": dict(self.versions),
        }
        if self.golden is not None:
            value["golden"] = self.golden
        return value


def _if_any(name: str, value: Any) -> dict[str, Any]:
    return {name: value} if value else {}
