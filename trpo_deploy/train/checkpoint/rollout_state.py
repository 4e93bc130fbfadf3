"""The state that a rollout changes: environments, last observations, random generators."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np
import torch

from trpo_deploy.train.algorithm.trpo import TRPO
from trpo_deploy.train.distributed.randomness import set_shared_generators, shared_generators

_BUFFERS = ("ep_info_buffer", "ep_success_buffer")
_NOISE = ("exploration_mat", "exploration_matrices")
"""gSDE's noise matrices."""


def rollout_state(model: TRPO) -> dict[str, Any]:
    """The state of the environments and of all random generators."""
    assert model.env is not None
    states = None
    if model.env.has_attr("checkpoint_state"):
        states = model.env.env_method("checkpoint_state")
    return {
        # All or none: with only some environments restored, the run would still differ.
        "environments": None if states is None or None in states else states,
        "last_obs": model._last_obs,
        "last_episode_starts": model._last_episode_starts,
        "last_original_obs": model._last_original_obs,
        "buffers": {name: getattr(model, name) for name in _BUFFERS},
        "seconds": (time.time_ns() - model.start_time) / 1e9,
        "randomness": _randomness(model),
    }


def restore_rollout(model: TRPO, state: dict[str, Any]) -> bool:
    """Put the environments and generators into a state that :func:`rollout_state` returned.

    Returns:
        False if the environments' states are unknown; they start new episodes.
    """
    assert model.env is not None
    vars(model).update(state["buffers"])
    # Tells the export that the training has a normaliser. Older checkpoints lack it.
    model._last_original_obs = state.get("last_original_obs")
    model.start_time = time.time_ns() - int(state["seconds"] * 1e9)
    model._num_timesteps_at_start = 0
    exact = state["environments"] is not None
    if exact:
        for i, environment in enumerate(state["environments"]):
            model.env.env_method("restore_state", environment, indices=i)
        model._last_obs = state["last_obs"]
        model._last_episode_starts = state["last_episode_starts"]
    else:
        # Other seeds than at the start of the run, whose episodes would be played again.
        model.env.seed((model.seed or 0) + model.num_timesteps)
        observation: Any = model.env.reset()
        model._last_obs = observation
        model._last_episode_starts = np.ones(model.env.num_envs, dtype=bool)
    restore_randomness(model, state)
    return exact


def _randomness(model: TRPO) -> dict[str, Any]:
    noise = {name: getattr(model.policy.action_dist, name, None) for name in _NOISE}
    cuda = torch.cuda.get_rng_state_all() if model.device.type == "cuda" else None
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": cuda,
        "noise": noise if model.use_sde else {},
        "shared": shared_generators(),
    }


def restore_randomness(model: TRPO, state: dict[str, Any]) -> None:
    """Restore the random generators, and the gSDE noise that was drawn from them.

    Args:
        model: The model that holds the noise.
        state: The state that :func:`rollout_state` returned.
    """
    kept = state["randomness"]
    random.setstate(kept["python"])
    np.random.set_state(kept["numpy"])
    torch.set_rng_state(kept["torch"])
    if kept["cuda"] is not None and model.device.type == "cuda":
        torch.cuda.set_rng_state_all(kept["cuda"])
    set_shared_generators(kept.get("shared"))  # older checkpoints lack it
    for name, noise in kept["noise"].items():
        setattr(model.policy.action_dist, name, noise.to(model.device))
