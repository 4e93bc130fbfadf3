"""Names of the models in the fixture ``models``."""

from __future__ import annotations

from tests.runtime.policy_files import ACTION_SPACES, OBSERVATION_SPACES

DETERMINISTIC = [*OBSERVATION_SPACES, *(f"act-{name}" for name in ACTION_SPACES)]
"""One observation in, the deterministic action out."""
SAMPLED = [f"sampled-{name}" for name in ACTION_SPACES]
"""Models that also have the action's distribution."""
STACKED = ["stacked-image", "stacked-box"]
"""Models that stack frames."""
ALL = [*DETERMINISTIC, *SAMPLED, *STACKED]
