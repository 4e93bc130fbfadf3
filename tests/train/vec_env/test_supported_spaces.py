"""Spaces that TRPO does not support are refused with what to do."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from tests.train.environments import RandomEnv
from tests.train.vec_env.helpers import make
from trpo_deploy.errors import SpaceError


class Unsupported(RandomEnv):
    """Has an unsupported space."""

    def __init__(self, kind: str) -> None:
        vector = spaces.Box(-1, 1, (2,))
        space_of: dict[str, spaces.Space[Any]] = {
            "Tuple": spaces.Tuple((vector, vector)),
            "Text": spaces.Text(5),
            "Sequence": spaces.Sequence(vector),
            "Graph": spaces.Graph(vector, None),
            "Dict": spaces.Dict({"inner": spaces.Dict({"a": vector})}),
            "Images": spaces.Dict(
                {
                    "front": spaces.Box(0, 255, (40, 40, 3), np.uint8),
                    "depth": spaces.Box(0, 255, (1, 40, 40), np.uint8),
                }
            ),
            "Integers": vector,
        }
        super().__init__(spaces.Discrete(2), space_of[kind])
        if kind == "Integers":
            self.action_space = spaces.Box(0, 5, (2,), np.int64)
        if kind == "Text":
            self.action_space, self.observation_space = space_of[kind], vector


gymnasium.register("Unsupported-v0", f"{__name__}:Unsupported", disable_env_checker=True)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("Tuple", "a Tuple space for the observations"),
        ("Text", "a Text space for the actions"),
        ("Sequence", "pad it to a Box"),
        ("Graph", "encode nodes and edges"),
        ("Integers", "make it a MultiDiscrete"),
        ("Dict", "a Dict space for the observation 'inner'"),
        ("Images", "channels-first images (depth) and channels-last images (front)"),
    ],
)
def test_an_unsupported_space_is_refused_with_advice(kind: str, says: str) -> None:
    with pytest.raises(SpaceError) as caught:
        make(
            "tests.train.vec_env.test_supported_spaces:Unsupported-v0",
            "sync",
            env_args=[f"kind={kind}"],
        )
    assert says in str(caught.value)
    assert "env_wrapper=module:Class" in str(caught.value)
