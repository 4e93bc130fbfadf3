"""For random spaces, architectures and observations, the file matches the policy."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from tests.export.policies import make_model, statistics_for
from trpo_deploy import TRPO
from trpo_deploy.export import ExportOptions, export_model
from trpo_deploy.runtime import OnnxPolicy

shapes = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)
small = st.integers(1, 4)


@st.composite
def boxes(draw: st.DrawFn, *, finite: bool = False) -> spaces.Box:
    shape = draw(shapes)
    dtype = np.dtype(draw(st.sampled_from(["float32", "float64"])))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    low = rng.uniform(-10, 10, shape).astype(dtype)
    high = (low + rng.uniform(1e-3, 20, shape)).astype(dtype)
    if not finite:
        low[rng.random(shape) < 0.3] = -np.inf
        high[rng.random(shape) < 0.3] = np.inf
    return spaces.Box(low, high, shape, dtype)


discretes = st.builds(lambda n, start: spaces.Discrete(n, start=start), small, st.integers(-3, 3))
multi_discretes = st.builds(
    lambda nvec, start: spaces.MultiDiscrete(nvec, start=[start] * len(nvec)),
    st.lists(small, min_size=1, max_size=5),
    st.integers(-3, 3),
)
multi_binaries = st.builds(lambda shape: spaces.MultiBinary(list(shape)), shapes)
single = st.one_of(boxes(), discretes, multi_discretes, multi_binaries)
keyed = st.dictionaries(st.sampled_from(["z", "a", "é n", "obs", "x/y"]), single, min_size=1)
observation_spaces = st.one_of(single, keyed.map(lambda parts: spaces.Dict(list(parts.items()))))
action_spaces = st.one_of(boxes(finite=True), discretes, multi_discretes, multi_binaries)
architectures = st.fixed_dictionaries(
    {
        "net_arch": st.fixed_dictionaries(
            {"pi": st.lists(small, max_size=3), "vf": st.lists(small, max_size=2)}
        ),
        "activation_fn": st.sampled_from([nn.Tanh, nn.ReLU, nn.ELU, nn.SiLU, nn.GELU]),
        "share_features_extractor": st.booleans(),
    }
)


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    observation_spaces, action_spaces, architectures, st.booleans(), st.booleans(), st.booleans()
)
def test_any_policy_is_exported_and_certified(
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
    architecture: dict[str, Any],
    normalise: bool,
    squash: bool,
    use_sde: bool,
) -> None:
    gaussian = isinstance(action_space, spaces.Box)
    if gaussian and squash:
        architecture["squash_output"] = True
    kind = "MultiInputPolicy" if isinstance(observation_space, spaces.Dict) else "MlpPolicy"
    model = make_model(
        observation_space,
        action_space,
        kind,
        algorithm=TRPO,
        use_sde=use_sde and gaussian,
        policy_kwargs=architecture,
    )
    statistics = None
    keys = boxes_of(observation_space)
    if normalise and keys:
        chosen = keys if isinstance(observation_space, spaces.Dict) else None
        statistics = statistics_for(observation_space, clip_obs=2.0, norm_obs_keys=chosen)
    outputs = ("value", "log_prob", *(("mean", "std") if gaussian else ("logits", "margin")))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "policy.onnx"
        options = ExportOptions(outputs, guard=bool(keys))
        result = export_model(model, path, vecnormalize=statistics, options=options)
        assert result.certificate is not None
        assert result.certificate.passed
        policy = OnnxPolicy(path)
    rng = np.random.default_rng(0)
    for _ in range(5):
        action, _ = policy.predict(policy.spec.sample_observation(rng))
        assert action_space.contains(action.astype(action_space.dtype).reshape(action_space.shape))


def boxes_of(space: spaces.Space[Any]) -> list[str]:
    parts = space.spaces if isinstance(space, spaces.Dict) else {"obs": space}
    return [key for key, part in parts.items() if isinstance(part, spaces.Box)]
