"""Names of the input and output that carry the earlier frames of a stacked observation."""

from __future__ import annotations

STATE_PREFIX = "state_"
NEXT_STATE_PREFIX = "next_state_"


def state_name(observation: str) -> str:
    """Name of the input for the earlier frames of an observation."""
    return f"{STATE_PREFIX}{observation}"


def next_state_name(observation: str) -> str:
    """Name of the output for the frames to pass at the next step."""
    return f"{NEXT_STATE_PREFIX}{observation}"
