"""An environment that a spec records is made again, with notes on what differs."""

from __future__ import annotations

import gymnasium
import numpy as np

from trpo_deploy.envs.recorded import remake_environment
from trpo_deploy.envs.spaces import space_from_gymnasium
from trpo_deploy.spec.environment import EnvironmentSpec, WrapperSpec
from trpo_deploy.spec.spaces import BoxSpace, DictSpace


def test_lost_statistics_of_a_wrapper_are_noted() -> None:
    """Runs of RL Zoo, and of earlier versions, may have such a wrapper."""
    action = space_from_gymnasium(gymnasium.spaces.Box(-2, 2, (1,)))
    assert not isinstance(action, DictSpace)
    observation = BoxSpace(np.full(3, -np.inf, np.float32), np.full(3, np.inf, np.float32))
    recorded = EnvironmentSpec(
        "Pendulum-v1",
        wrappers=(WrapperSpec("gymnasium.wrappers:NormalizeObservation", {}),),
        unrecorded=(),
    )
    found = remake_environment(recorded, observation, action)
    assert "NormalizeObservation starts with new statistics" in found.note
