"""The state that an update changes: networks, optimiser, running statistics, counters."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from trpo_deploy.train.algorithm.trpo import TRPO

_COUNTERS = ("num_timesteps", "_n_updates", "_episode_num", "_refusals_in_a_row", "_n_refusals")


def learner_state(model: TRPO) -> dict[str, Any]:
    """The learner's state; its tensors and arrays are not copies."""
    normalizer = model.get_vec_normalize_env()
    return {
        "policy": model.policy.state_dict(),
        "optimizer": model.policy.optimizer.state_dict(),
        "normalizer": None if normalizer is None else _normalizer_state(normalizer),
        "return_moments": model.return_moments,
        "running_returns": model.running_returns,
        "counters": {name: getattr(model, name) for name in _COUNTERS},
    }


def restore_learner(model: TRPO, state: dict[str, Any]) -> None:
    """Put the learner into a state that :func:`learner_state` returned."""
    model.policy.load_state_dict(state["policy"])
    model.policy.optimizer.load_state_dict(state["optimizer"])
    normalizer = model.get_vec_normalize_env()
    if normalizer is not None:
        _restore_normalizer(normalizer, state["normalizer"])
    model.return_moments = state["return_moments"]
    model.running_returns = state["running_returns"]
    vars(model).update(state["counters"])


def _normalizer_state(env: VecNormalize) -> dict[str, Any]:
    statistics = running_statistics(env)
    return {"returns": env.returns, **{name: vars(each) for name, each in statistics.items()}}


def _restore_normalizer(env: VecNormalize, state: dict[str, Any]) -> None:
    env.returns = state["returns"].copy()
    for name, each in running_statistics(env).items():
        # In place: the evaluation environments share these objects.
        vars(each).update(state[name])


def running_statistics(env: VecNormalize) -> dict[str, RunningMeanStd]:
    """All running statistics of a normaliser, by name."""
    named = {"ret_rms": env.ret_rms}
    if not env.norm_obs:
        return named
    observations: Any = env.obs_rms  # a dict for Dict observations, whatever SB3's annotation says
    if isinstance(observations, dict):
        return named | {f"obs_rms.{key}": each for key, each in observations.items()}
    return named | {"obs_rms": observations}
