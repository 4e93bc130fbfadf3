"""Policy zips of random weights, and changed copies of them."""

from __future__ import annotations

import base64
import json
import zipfile
from pathlib import Path
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from tests.train.environments import RandomEnv
from trpo_deploy import TRPO


def save(path: Path, algorithm: type[Any] = TRPO, **kwargs: Any) -> Any:
    env = DummyVecEnv([lambda: RandomEnv(kwargs.pop("space", spaces.Discrete(3)))])
    model = algorithm("MlpPolicy", env, **kwargs)
    model.save(path)
    return model


def replaced(path: Path, name: str, content: bytes | None) -> Path:
    """A copy of the zip with one entry changed or left out."""
    changed = path.with_name("changed.zip")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(changed, "w") as target:
        for entry in source.namelist():
            data = content if entry == name else source.read(entry)
            if data is not None:
                target.writestr(entry, data)
    return changed


def with_pickle(path: Path, entry: str, content: bytes) -> Path:
    """A copy of the zip with a pickle under one name of its data."""
    with zipfile.ZipFile(path) as source:
        data = json.loads(source.read("data"))
    data[entry] = {":type:": "x", ":serialized:": base64.b64encode(content).decode()}
    return replaced(path, "data", json.dumps(data).encode())


def with_policy_kwargs(path: Path, policy_kwargs: dict[str, Any]) -> Path:
    """A copy of the zip with other arguments of the policy, as plain JSON."""
    with zipfile.ZipFile(path) as source:
        data = json.loads(source.read("data"))
    data["policy_kwargs"] = policy_kwargs
    return replaced(path, "data", json.dumps(data).encode())
