"""A spec from a stranger is read as a usable spec, or refused with PolicyFileError."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.runtime.policy_files import ACTION_SPACES, OBSERVATION_SPACES, make_spec
from trpo_deploy.errors import PolicyFileError
from trpo_deploy.runtime.sampling import sampler
from trpo_deploy.spec import PolicySpec

SPECS = [
    json.loads(make_spec(observation, action).to_json())
    for observation, action in zip(
        OBSERVATION_SPACES.values(), [*ACTION_SPACES.values()] * 3, strict=False
    )
]
NUMBERS = st.sampled_from([0, -1, 1.5, 10**13, 2**63, -(2**70), 10**400, 1e308, True, None])
TEXTS = st.sampled_from(["", "inf", "nan", "\ud800", "float128", "O", "i4,f8", "x" * 5000])
VALUES = st.recursive(
    NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=5,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Each container in a JSON value with each of its keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    own = [(value, key) for key in keys]
    inner = [value[key] for key in keys if isinstance(value[key], (dict, list))]
    return own + [place for item in inner for place in places(item)]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_damaged_spec_is_refused_or_usable(data: st.DataObject) -> None:
    value = json.loads(json.dumps(data.draw(st.sampled_from(SPECS))))
    container, key = data.draw(st.sampled_from(places(value)))
    if data.draw(st.booleans()):
        container[key] = data.draw(VALUES)
    else:
        del container[key]
    try:
        spec = PolicySpec.from_json(json.dumps(value))
    except PolicyFileError:
        return
    observation = spec.sample_observation(np.random.default_rng(0))
    spec.validate(observation)
    sampler(spec)
    assert spec.observation_space.describe()
    assert PolicySpec.from_json(spec.to_json()).to_json() == spec.to_json()


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"kind": "discrete", "n": 0, "start": 0}, "n of the Discrete space is 0"),
        ({"kind": "discrete", "n": 2, "start": 2**63 - 1}, "n of the Discrete space is 2"),
        ({"kind": "discrete", "n": 2.0, "start": 0}, "n of the Discrete space is 2.0"),
        ({"kind": "multi_discrete", "nvec": [2, 0], "start": [0, 0]}, "nvec"),
        ({"kind": "multi_discrete", "nvec": [2], "start": [0, 0]}, "nvec"),
        ({"kind": "multi_binary", "shape": [10**13]}, "numbers"),
        ({"kind": "multi_binary", "shape": "5"}, "list"),
        ({"kind": "dict", "spaces": {}}, "no keys"),
        ({"kind": "box", "shape": [2], "dtype": "float32", "low": 1, "high": 0}, "low above"),
        ({"kind": "box", "shape": [2], "dtype": "float32", "low": "nan", "high": 0}, "low above"),
        ({"kind": "box", "shape": [2], "dtype": "uint8", "low": 0, "high": 300}, "other numbers"),
        ({"kind": "box", "shape": [10**13], "dtype": "uint8", "low": 0, "high": 1}, "numbers"),
        ({"kind": "box", "shape": [2], "dtype": "O", "low": 0, "high": 1}, "dtype"),
        ({"kind": {}}, "unknown kind"),
        ([], "spec"),
    ],
)
def test_an_impossible_space_is_refused_by_name(space: Any, words: str) -> None:
    value = {**SPECS[0], "observation_space": space}
    with pytest.raises(PolicyFileError, match=words):
        PolicySpec.from_json(json.dumps(value))


@pytest.mark.parametrize("text", ["", "[" * 100_000, "[]", "3", '{"format_version": NaN}'])
def test_text_that_is_not_a_spec_is_refused(text: str) -> None:
    with pytest.raises(PolicyFileError):
        PolicySpec.from_json(text)
