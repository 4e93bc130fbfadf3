"""Returns in messages: how many digits they need, and why an episode has none."""

from __future__ import annotations

import math

from trpo_deploy.envs.episode import MAX_EPISODE_STEPS


def return_digits(*returns: float) -> str:
    """Format specification for returns that are shown together.

    The largest has three significant digits, and at least one decimal: ``-104.6``, ``-4.62``,
    ``0.0312``.
    """
    largest = max(map(abs, returns), default=0.0)
    if not (0 < largest < math.inf):
        return ".1f"
    return f".{min(max(1, 2 - math.floor(math.log10(largest))), 9)}f"


def cut_episodes(env_id: str, cut: int, episodes: int) -> str:
    """A note on episodes that had to be cut; empty if none was."""
    if not cut:
        return ""
    return (
        f"{cut} of {episodes} episodes of {env_id} did not end within {MAX_EPISODE_STEPS:,} steps "
        "and were cut; if it has no time limit, train with one: --env-arg max_episode_steps=N"
    )
