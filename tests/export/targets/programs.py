"""Policies of every kind, exported without a certificate, as programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from tests.export.extractors import Normalized, Residual
from tests.export.norms import WIDTH, Normed, NormedExtractor, OtherNorms
from tests.export.policies import BOX, exported, make_model, statistics_for
from tests.export.test_matrix import ACTIONS, BOUNDED, GREY, OBSERVATIONS, stacked
from trpo_deploy import TRPO
from trpo_deploy.export import ExportOptions, SourceOptions
from trpo_deploy.sb3.activations import ACTIVATIONS

PICTURE = spaces.Box(0, 255, (3, 13, 14), np.uint8)
SMALL = {"net_arch": [6, 5]}
"""Unless a kind says how wide its layers are: compilers take long for thousands of weights."""
NORMALISED_DICT = OBSERVATIONS["dict"][0]


class Pooled(BaseFeaturesExtractor):
    """Convolutions with padding, dilation and groups, and both kinds of pooling."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, 8)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 6, (3, 2), stride=(2, 1), padding=(1, 2), groups=3),
            nn.ELU(0.5),
            nn.MaxPool2d((2, 3), stride=(1, 2)),
            nn.Conv2d(6, 8, 2, dilation=2),
            nn.BatchNorm2d(8),
            nn.AvgPool2d(2, 1),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )

    def forward(self, observations: Tensor) -> Tensor:
        features: Tensor = self.layers(observations)
        return features


def activation(name: str) -> dict[str, Any]:
    return {"policy_kwargs": {"activation_fn": getattr(nn, name), "net_arch": [6]}}


def extractor(kind: type[Any]) -> dict[str, Any]:
    return {"policy_kwargs": {"features_extractor_class": kind, **SMALL}}


KINDS: dict[str, dict[str, Any]] = {
    **{f"action {name}": {"action_space": space} for name, space in ACTIONS.items()},
    **{
        f"observation {name}": {
            "observation_space": space,
            "policy": kind,
            "action_space": spaces.Discrete(3),
            "policy_kwargs": {
                "normalize_images": not (len(space.shape or ()) == 3 and space.dtype == np.float32)
            },
        }
        for name, (space, kind) in OBSERVATIONS.items()
    },
    **{f"activation {name}": activation(name) for name in ("Identity", *ACTIVATIONS)},
    "squashed": {"action_space": BOUNDED, "policy_kwargs": {"squash_output": True}},
    "linear": {"policy_kwargs": {"net_arch": []}},
    "observation box int64": {"observation_space": spaces.Box(-5, 7, (3,), np.int64)},
    "observation box uint16": {"observation_space": spaces.Box(0, 999, (3,), np.uint16)},
    "extractor with pooling": {**extractor(Pooled), "observation_space": PICTURE},
    "extractor with a shortcut": extractor(Residual),
    "extractor with batch normalisation": extractor(Normalized),
    "layer norms": {"policy": Normed, "policy_kwargs": SMALL},
    "other norms": {"policy_kwargs": {"activation_fn": OtherNorms, "net_arch": [WIDTH]}},
    "extractor with layer norms": extractor(NormedExtractor),
    "normalised": {
        "action_space": BOUNDED,
        "statistics": {"clip_obs": 2.0},
        "policy_kwargs": {"net_arch": [64, 64]},  # as by default
    },
    "normalised without clip": {"statistics": {"clip_obs": np.inf}},
    "normalised dict": {
        "observation_space": NORMALISED_DICT,
        "policy": "MultiInputPolicy",
        "statistics": {"norm_obs_keys": ["vector"]},
    },
    "float64": {
        "observation_space": spaces.Box(-np.inf, np.inf, (2, 3), np.float64),
        "statistics": {},
        "options": {"float64_input": True},
    },
    "guarded": {
        "observation_space": NORMALISED_DICT,
        "policy": "MultiInputPolicy",
        "options": {"guard": True},
    },
    "guarded stack": {"observation_space": BOX, "frames": 3, "options": {"guard": True}},
    "added outputs": {"options": {"outputs": ("value", "log_prob", "mean", "std")}},
    "stack of vectors": {"observation_space": BOX, "frames": 4},
    "normalised stack": {"observation_space": BOX, "frames": 4, "statistics": {}},
    "stack of bools": {"observation_space": spaces.Box(0, 1, (3,), np.bool_), "frames": 2},
    "stack of images": {"observation_space": GREY, "policy": "CnnPolicy", "frames": 4},
    "stack of images chw": {
        "observation_space": spaces.Box(0, 255, (1, 36, 40), np.uint8),
        "policy": "CnnPolicy",
        "frames": 3,
        "layout": "chw",
    },
    "stack of a dict": {
        "observation_space": spaces.Dict({"a": BOX, "b": GREY}),
        "policy": "MultiInputPolicy",
        "frames": 3,
    },
}
"""Arguments of :func:`make`, by what is special about the policy."""


def make(
    folder: Path,
    *,
    observation_space: spaces.Space[Any] = BOX,
    frames: int = 1,
    statistics: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    layout: str | None = None,
    policy: str = "MlpPolicy",
    policy_kwargs: dict[str, Any] | None = None,
    **keywords: Any,
) -> Path:
    """Write ``policy.zip`` and ``policy.onnx`` of a policy with random weights."""
    space = observation_space
    if frames > 1:
        space = stacked(space, frames).observation_space
    found = None if statistics is None else statistics_for(space, **statistics)
    network = {**SMALL, **(policy_kwargs or {})}
    model = make_model(space, policy=policy, policy_kwargs=network, algorithm=TRPO, **keywords)
    reading = SourceOptions(
        frame_stack=frames if frames > 1 else None,
        image_layout="chw" if layout == "chw" or _is_chw(observation_space) else "hwc",
        allow_import=(
            *("tests.export.extractors:Residual", "tests.export.extractors:Normalized"),
            "tests.export.targets.programs:Pooled",
            *(
                f"tests.export.norms:{each.__name__}"
                for each in (Normed, NormedExtractor, OtherNorms)
            ),
        ),
    )
    return exported(
        model,
        folder,
        found,
        verify=False,
        options=ExportOptions(**(options or {})),
        reading=reading,
    ).path


def _is_chw(space: spaces.Space[Any]) -> bool:
    shape = space.shape
    return shape is not None and len(shape) == 3 and shape[-1] != 3 and shape[-1] != 1
