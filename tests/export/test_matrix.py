"""Every action space, observation space, policy and option: the file matches the policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecTransposeImage
from torch import nn

from tests.export.policies import BOX, SpaceEnv, exported, make_model, statistics_for
from trpo_deploy import TRPO
from trpo_deploy.errors import ExportError
from trpo_deploy.export import ExportOptions, SourceOptions, export_model
from trpo_deploy.export.graph.activations import ACTIVATION_NODES
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.sb3.activations import ACTIVATIONS

ACTIONS: dict[str, spaces.Space[Any]] = {
    "box": spaces.Box(np.array([-2.0, 0.0]), np.array([0.5, 0.1]), dtype=np.float64),
    "box n-d": spaces.Box(-1.0, 1.0, (2, 3)),
    "box unbounded": spaces.Box(-np.inf, np.inf, (2,)),
    "discrete": spaces.Discrete(4),
    "discrete from -1": spaces.Discrete(3, start=-1),
    "discrete of one": spaces.Discrete(1),
    "multi discrete": spaces.MultiDiscrete([3, 2, 2, 4]),
    "multi discrete of equal": spaces.MultiDiscrete([3, 3, 3]),
    "multi discrete n-d from start": spaces.MultiDiscrete(
        np.array([[2, 3], [3, 2]]), start=np.array([[1, 0], [5, -2]])
    ),
    "multi binary": spaces.MultiBinary(5),
    "multi binary n-d": spaces.MultiBinary([2, 3]),
}
IMAGE = spaces.Box(0, 255, (36, 40, 3), np.uint8)
OBSERVATIONS: dict[str, tuple[spaces.Space[Any], str]] = {
    "box": (BOX, "MlpPolicy"),
    "box float64 n-d": (spaces.Box(-np.inf, np.inf, (2, 3), np.float64), "MlpPolicy"),
    "box float16": (spaces.Box(-1.0, 1.0, (2,), np.float16), "MlpPolicy"),
    "box int32": (spaces.Box(-5, 7, (3,), np.int32), "MlpPolicy"),
    "box uint8": (spaces.Box(0, 9, (4,), np.uint8), "MlpPolicy"),
    "box bool": (spaces.Box(0, 1, (4,), np.bool_), "MlpPolicy"),
    "discrete": (spaces.Discrete(5), "MlpPolicy"),
    "discrete from 2": (spaces.Discrete(5, start=2), "MlpPolicy"),
    "multi discrete": (spaces.MultiDiscrete([3, 2, 4]), "MlpPolicy"),
    "multi discrete n-d from start": (
        spaces.MultiDiscrete(np.array([[3, 2], [4, 2]]), start=np.array([[1, 2], [0, -1]])),
        "MlpPolicy",
    ),
    "multi binary": (spaces.MultiBinary(4), "MlpPolicy"),
    "multi binary n-d": (spaces.MultiBinary([2, 2]), "MlpPolicy"),
    "image hwc": (IMAGE, "CnnPolicy"),
    "image chw": (spaces.Box(0, 255, (3, 36, 40), np.uint8), "CnnPolicy"),
    "image hwc flattened": (spaces.Box(0, 255, (6, 5, 3), np.uint8), "MlpPolicy"),
    "image float": (spaces.Box(0.0, 1.0, (3, 36, 40)), "CnnPolicy"),
    "dict": (
        spaces.Dict(
            {
                "vector": spaces.Box(-1.0, 1.0, (3,)),
                "picture": IMAGE,
                "choice": spaces.Discrete(3, start=1),
                "choices": spaces.MultiDiscrete([2, 3]),
                "flags": spaces.MultiBinary([2, 2]),
                "mask": spaces.Box(0, 1, (2, 3), np.bool_),
            }
        ),
        "MultiInputPolicy",
    ),
}
DISTRIBUTION = {"box": ("mean", "std"), "other": ("logits", "margin")}


def outputs_of(action_space: spaces.Space[Any]) -> tuple[str, ...]:
    kind = "box" if isinstance(action_space, spaces.Box) else "other"
    return ("value", "log_prob", *DISTRIBUTION[kind])


def options_for(observation_space: spaces.Space[Any]) -> dict[str, Any]:
    shape = observation_space.shape or ()
    image = len(shape) == 3 and observation_space.dtype == np.float32
    return {"policy_kwargs": {"normalize_images": False}} if image else {}


def check(model: Any, folder: Path, *arguments: Any, **keywords: Any) -> OnnxPolicy:
    """Export with all outputs and a certificate."""
    layout = keywords.pop("layout", None)
    options = keywords.pop("options", None) or ExportOptions(outputs_of(model.action_space))
    reading = SourceOptions(image_layout=layout)
    result = exported(model, folder, *arguments, options=options, reading=reading, **keywords)
    assert result.certificate is not None
    assert result.certificate.passed
    return OnnxPolicy(result.path)


def layout_of(space: spaces.Space[Any]) -> Literal["hwc", "chw"]:
    shape = (space["picture"] if isinstance(space, spaces.Dict) else space).shape
    return "hwc" if shape is not None and len(shape) == 3 and shape[-1] == 3 else "chw"


def agrees(policy: OnnxPolicy, model: Any, space: spaces.Space[Any], normalize: Any = None) -> None:
    """Compare the file with ``model.predict`` on samples of the environment's space."""
    space.seed(3)
    for _ in range(20):
        observation = space.sample()
        found, _ = policy.predict(observation)
        given = observation if normalize is None else normalize(observation)
        expected, _ = model.predict(given, deterministic=True)
        assert found.shape == np.shape(expected)
        # float32 rounding through a few layers of gain one, on values of order one
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("normalised", [False, True])
def test_every_action_space_matches_predict(action: str, normalised: bool, tmp_path: Path) -> None:
    model = make_model(BOX, ACTIONS[action], algorithm=TRPO)
    statistics = statistics_for(BOX) if normalised else None
    policy = check(model, tmp_path, statistics)
    agrees(policy, model, BOX, statistics and statistics.normalize_obs)


@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_every_observation_space_matches_predict(observation: str, tmp_path: Path) -> None:
    space, kind = OBSERVATIONS[observation]
    model = make_model(space, spaces.Discrete(3), kind, algorithm=TRPO, **options_for(space))
    policy = check(model, tmp_path, layout=layout_of(space))
    assert {tensor.name for tensor in policy.spec.inputs} == set(
        space.spaces if isinstance(space, spaces.Dict) else ["obs"]
    )
    agrees(policy, model, space)


@pytest.mark.parametrize(
    "observation", ["box float64 n-d", "box int32", "image hwc flattened", "dict"]
)
def test_every_normalised_observation_space_matches_predict(
    observation: str, tmp_path: Path
) -> None:
    space, kind = OBSERVATIONS[observation]
    keys: dict[str, Any] = {}
    if isinstance(space, spaces.Dict):
        keys["norm_obs_keys"] = ["vector"]
    model = make_model(space, ACTIONS["box"], kind, algorithm=TRPO)
    statistics = statistics_for(space, clip_obs=3.0, **keys)
    policy = check(model, tmp_path, statistics, layout=layout_of(space))
    agrees(policy, model, space, statistics.normalize_obs)


@pytest.mark.parametrize("name", ["Identity", *ACTIVATIONS])
def test_every_activation_matches_predict(name: str, tmp_path: Path) -> None:
    model = make_model(
        algorithm=TRPO, policy_kwargs={"activation_fn": getattr(nn, name), "net_arch": [8, 8]}
    )
    agrees(check(model, tmp_path), model, BOX)


@pytest.mark.parametrize(
    "activation",
    [
        nn.CELU(0.7),
        nn.ELU(0.7),
        nn.Hardtanh(-0.4, 0.6),
        nn.LeakyReLU(0.3),
    ],
    ids=str,
)
def test_parameters_of_activations_are_exported(activation: nn.Module, tmp_path: Path) -> None:
    keywords = {"activation_fn": lambda: activation, "net_arch": [8, 8]}
    model = make_model(algorithm=TRPO, policy_kwargs=keywords)
    path = export_model(model, tmp_path / "policy.onnx").path
    agrees(OnnxPolicy(path), model, BOX)


@pytest.mark.parametrize(
    "activation", [nn.GELU("tanh"), nn.Softplus(beta=2), nn.Softplus(threshold=1)], ids=str
)
def test_activations_of_another_form_are_refused_in_one_line(
    activation: nn.Module, tmp_path: Path
) -> None:
    keywords = {"activation_fn": lambda: activation, "net_arch": [8]}
    model = make_model(algorithm=TRPO, policy_kwargs=keywords)
    with pytest.raises(ExportError, match=f"the layer {type(activation).__name__}.* supported: "):
        export_model(model, tmp_path / "policy.onnx", verify=False)


def test_the_graph_has_every_activation_that_a_policy_may_have() -> None:
    assert set(ACTIVATION_NODES) == set(ACTIVATIONS)


@pytest.mark.parametrize(
    "net_arch", [[], [5], {"pi": [], "vf": [3]}, {"pi": [7, 6, 5], "vf": []}, {"pi": [4]}]
)
def test_every_architecture_matches_predict(net_arch: Any, tmp_path: Path) -> None:
    model = make_model(algorithm=TRPO, policy_kwargs={"net_arch": net_arch})
    agrees(check(model, tmp_path), model, BOX)


BOUNDED = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([0.5, 0.1], np.float32))
OPTIONS: dict[str, tuple[spaces.Space[Any], str, dict[str, Any]]] = {
    "gSDE": (BOX, "MlpPolicy", {"use_sde": True}),
    "gSDE, one std a feature": (
        BOX,
        "MlpPolicy",
        {"use_sde": True, "policy_kwargs": {"full_std": False, "use_expln": True}},
    ),
    "gSDE, squashed": (
        BOX,
        "MlpPolicy",
        {"use_sde": True, "policy_kwargs": {"squash_output": True}},
    ),
    "squashed": (BOX, "MlpPolicy", {"policy_kwargs": {"squash_output": True}}),
    "separate extractors": (
        OBSERVATIONS["dict"][0],
        "MultiInputPolicy",
        {"policy_kwargs": {"share_features_extractor": False}},
    ),
    "unscaled images": (
        IMAGE,
        "CnnPolicy",
        # The default width: fewer features of numbers up to 255 are rounded more.
        {
            "policy_kwargs": {
                "normalize_images": False,
                "features_extractor_kwargs": {"features_dim": 512},
            }
        },
    ),
    "the default CNN": (
        IMAGE,
        "CnnPolicy",
        {"policy_kwargs": {"features_extractor_kwargs": {"features_dim": 512}}},
    ),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_policy_option_matches_predict(option: str, tmp_path: Path) -> None:
    space, kind, keywords = OPTIONS[option]
    model = make_model(space, BOUNDED, kind, algorithm=TRPO, **keywords)
    policy = check(model, tmp_path, layout=layout_of(space))
    agrees(policy, model, space)


@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_policies_of_other_algorithms_match_predict(algorithm: Any, tmp_path: Path) -> None:
    model = make_model(algorithm=algorithm, policy_kwargs={"net_arch": [8]})
    policy = check(model, tmp_path)
    assert policy.spec.algorithm == algorithm.__name__
    agrees(policy, model, BOX)


@pytest.mark.parametrize("squash", [False, True])
def test_actions_of_saturated_policies_stay_in_bounds(squash: bool, tmp_path: Path) -> None:
    model = make_model(BOX, ACTIONS["box"], algorithm=TRPO, policy_kwargs={"squash_output": squash})
    with torch.no_grad():
        model.policy.action_net.weight *= 1e3
    policy = check(model, tmp_path)
    observations = np.random.default_rng(0).uniform(-1, 1, (500, 3)).astype(np.float32)
    actions, _ = policy.predict(observations)
    space = ACTIONS["box"]
    assert all(space.contains(action.astype(space.dtype)) for action in actions)


GREY: spaces.Space[Any] = spaces.Box(0, 255, (36, 40, 1), np.uint8)
BOOLS: spaces.Space[Any] = spaces.Box(0, 1, (3,), np.bool_)


def stacked(space: spaces.Space[Any], n_stack: int) -> Any:
    return VecFrameStack(DummyVecEnv([lambda: SpaceEnv(space, spaces.Discrete(3))]), n_stack)


@pytest.mark.parametrize(
    ("space", "kind"),
    [
        (BOX, "MlpPolicy"),
        (BOOLS, "MlpPolicy"),
        (GREY, "CnnPolicy"),
        (spaces.Box(0, 255, (1, 36, 40), np.uint8), "CnnPolicy"),
        (
            spaces.Dict({"a": BOX, "b": spaces.Box(0, 255, (36, 40, 1), np.uint8)}),
            "MultiInputPolicy",
        ),
    ],
    ids=["vector", "bool", "image hwc", "image chw", "dict"],
)
def test_frame_stacks_continue_as_in_sb3(
    space: spaces.Space[Any], kind: str, tmp_path: Path
) -> None:
    """Compare three steps through SB3's wrappers with the file and its state."""
    env = stacked(space, 4)
    model = make_model(env.observation_space, spaces.Discrete(3), kind, algorithm=TRPO)
    hwc = not (isinstance(space, spaces.Box) and space.shape[0] == 1)
    result = exported(
        model,
        tmp_path,
        options=ExportOptions(("value",)),
        reading=SourceOptions(image_layout="hwc" if hwc else "chw", frame_stack=4),
    )
    policy = OnnxPolicy(result.path)
    if kind == "CnnPolicy" and hwc:
        env = VecTransposeImage(env)
    observation = env.reset()
    raw = env.unwrapped.venv if hasattr(env.unwrapped, "venv") else env.unwrapped
    state = None
    for _ in range(3):
        expected, _ = model.predict(observation, deterministic=True)
        frame = raw.buf_obs
        frame = dict(frame.items()) if isinstance(space, spaces.Dict) else frame[None]
        found, state = policy.predict(frame, state)
        np.testing.assert_array_equal(found, expected)
        observation, *_ = env.step(expected)
