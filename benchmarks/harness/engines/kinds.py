"""Kinds of policies: the shipped ones, and a small one with random weights for every other kind."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gymnasium import spaces

from tests.export.policies import BOX
from tests.export.targets.programs import KINDS, make

MODELS = Path(__file__).parents[3] / "models"
GUARD = {"options": {"guard": True}}
MORE: dict[str, dict[str, Any]] = {
    "gSDE": {"use_sde": True},
    "squashed gSDE": {"use_sde": True, "policy_kwargs": {"squash_output": True}},
    "guarded box": GUARD,
    "guarded discrete": {"action_space": spaces.Discrete(4), **GUARD},
    "guarded multi discrete": {"action_space": spaces.MultiDiscrete([3, 2]), **GUARD},
    "guarded multi binary": {"action_space": spaces.MultiBinary(3), **GUARD},
    "added outputs, discrete": {
        "action_space": spaces.Discrete(4),
        "options": {"outputs": ("value", "log_prob", "logits", "margin")},
    },
    "normalised, guarded": {"observation_space": BOX, "statistics": {}, **GUARD},
}
"""Kinds that the tests of the targets lack."""
SMALL = {**KINDS, **MORE}


def groups() -> Mapping[str, list[str]]:
    """The names of all kinds, by the title of their table."""
    shipped = sorted(path.parent.name for path in MODELS.glob("*/policy.onnx"))
    titles = {"observation": "Observations", "action": "Actions", "activation": "Activations"}
    found: dict[str, list[str]] = {title: [] for title in titles.values()}
    others = "Networks, normalisers, frame stacks and options"
    found[others] = []
    for name in SMALL:
        found[titles.get(name.partition(" ")[0], others)].append(name)
    return {**found, "Policies of this repository": shipped}


def write(name: str, folder: Path) -> Path:
    """Write the ``policy.onnx`` of a kind."""
    folder.mkdir(parents=True)
    if name in SMALL:
        return make(folder, **SMALL[name])
    return Path(shutil.copy(MODELS / name / "policy.onnx", folder))
