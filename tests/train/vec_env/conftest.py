"""Fixtures of the environments' tests."""

from __future__ import annotations

from collections.abc import Iterator

import gymnasium
import pytest


@pytest.fixture(autouse=True)
def _quiet_gymnasium() -> Iterator[None]:
    # EnvPool makes its Box spaces with a warning about float64 bounds.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gymnasium.logger, "min_level", gymnasium.logger.ERROR)
        yield
