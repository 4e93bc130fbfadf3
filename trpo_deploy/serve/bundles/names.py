"""Names of objects in a cluster."""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256

_TAKEN = "kubernetes"
"""The API server's own Service in the namespace ``default``: a second one would replace it."""
_LENGTH = 40
"""Of the 63 that a DNS label has; platforms append to the names that they are given."""


def dns_label(text: str) -> str:
    """A DNS label that resembles a text: lower-case letters, digits and ``-``, a letter first.

    Services and images take no other names (RFC 1035).
    """
    label = re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")
    if not label[:1].isalpha() or label == _TAKEN:
        label = f"policies-{label}"
    return label[:_LENGTH].strip("-")


def dns_labels(texts: Iterable[str]) -> dict[str, str]:
    """A DNS label for each text, all different, by text."""
    labels: dict[str, str] = {}
    for text in texts:
        label = dns_label(text)
        if label in labels.values():  # names that differ in case or in punctuation
            label = f"{label}-{sha256(text.encode()).hexdigest()[:8]}"
        labels[text] = label
    return labels
