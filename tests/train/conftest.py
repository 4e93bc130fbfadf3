"""Fixtures of the training tests."""

from __future__ import annotations

import pytest

from trpo_deploy.spec.spaces import Array
from trpo_deploy.train.mlp import step_arithmetic


@pytest.fixture(params=["compiled", "NumPy"])
def arithmetic(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both arithmetics of a step; NumPy's as without a C compiler."""
    if request.param == "NumPy":
        monkeypatch.setattr(step_arithmetic, "compiled", None)
    elif step_arithmetic.compiled is None:
        pytest.skip("needs a C compiler while the project is installed")
    return str(request.param)


@pytest.fixture
def undrawn_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the numbers of a learning curve: drawing it takes as long as a short training."""

    def numbers(env_id: str, timesteps: Array, returns: Array) -> bytes:
        return f"{env_id} {timesteps.tolist()} {returns.tolist()}".encode()

    monkeypatch.setattr("trpo_deploy.train.run.plots.learning_curve", numbers)
