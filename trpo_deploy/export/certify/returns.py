"""The returns of an ONNX file and of Stable-Baselines3 on the same seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trpo_deploy.envs.environment import Environment
from trpo_deploy.envs.episode import Act, Observation, play
from trpo_deploy.export.certify.batches import concatenate, one_ulp_off, take
from trpo_deploy.export.certify.check import Check, json_number
from trpo_deploy.export.certify.engines import Engine
from trpo_deploy.sb3.reference import SB3Policy
from trpo_deploy.spec.policy_spec import ACTION, OBS, FrameHistory, Inputs, PolicySpec
from trpo_deploy.spec.spaces import Array

EPISODES = 10


@dataclass(frozen=True, eq=False)
class ReturnComparison:
    """Returns of the file and of Stable-Baselines3, and the observations on the way."""

    check: Check
    measured: Mapping[str, Any]
    """Statistics of the returns, as JSON values."""
    observations: Inputs
    """Raw on-policy observations with their states."""


def compare_returns(
    environment: Environment,
    reference: SB3Policy,
    engine: Engine,
    spec: PolicySpec,
    *,
    seed: int,
    steps: int,
) -> ReturnComparison:
    """Play SB3, the file, and SB3 with one-ulp noise on the same seeds.

    The noise shows how much returns change without any change of the policy.

    Args:
        environment: Environment to play.
        reference: The policy as SB3 runs it.
        engine: The file.
        spec: Spec of the file.
        seed: Seed of the first episode and of the noise.
        steps: Number of on-policy observations to keep.
    """
    rng = np.random.default_rng(seed)
    seeds = range(seed, seed + EPISODES)

    def noisy(
        observation: Observation, state: FrameHistory | None
    ) -> tuple[Array, FrameHistory | None]:
        frames = observation if isinstance(observation, dict) else {OBS: observation}
        changed = one_ulp_off(frames, rng)
        return reference.predict(changed if isinstance(observation, dict) else changed[OBS], state)

    sb3 = play(environment, reference.predict, seeds, keep=steps)
    file = play(environment, _act(engine, spec), seeds)
    null = play(environment, noisy, seeds)
    discrete = np.dtype(reference.action_space.dtype).kind != "f"
    check = check_returns(sb3.returns, file.returns, null.returns, discrete=discrete)
    batches = [_inputs(spec, *batch) for batch in sb3.observations]
    measured = {
        "sb3": _mean_and_interval(sb3.returns),
        "onnx": _mean_and_interval(file.returns),
        "sb3_with_one_ulp_noise": _mean_and_interval(null.returns),
        "episodes": len(seeds),
    }
    return ReturnComparison(check, measured, take(concatenate(batches), slice(steps)))


def _act(engine: Engine, spec: PolicySpec) -> Act:
    def act(
        observation: Observation, state: FrameHistory | None
    ) -> tuple[Array, FrameHistory | None]:
        outputs = engine.run(_inputs(spec, observation, state))
        following = tuple(outputs[each.output] for each in spec.states)
        return outputs[ACTION], following or None

    return act


def _inputs(spec: PolicySpec, observation: Observation, state: FrameHistory | None) -> Inputs:
    frames = observation if isinstance(observation, dict) else {OBS: observation}
    batch = len(next(iter(frames.values())))
    state = state or tuple(each.zeros(batch) for each in spec.states)
    names = (each.input.name for each in spec.states)
    return {**frames, **dict(zip(names, state, strict=True))}


def check_returns(sb3: Array, file: Array, null: Array, *, discrete: bool) -> Check:
    """Check that the file's returns are compatible with the policy's.

    Args:
        sb3: Returns of the policy, one for each episode.
        file: Returns of the file on the same seeds.
        null: Returns of the policy on observations with one-ulp noise.
        discrete: Whether actions are discrete. If so, and if noise changes no episode, the returns
            must be equal.
    """
    n = len(sb3)
    changed = null - sb3
    exact = discrete and not changed.any()
    # Standard error of the difference of two means. 0.1 % of the return is added below for
    # environments that do not amplify a few ulps into chaos.
    error = np.sqrt(2 / n) * float(np.sqrt(np.square(changed).mean()))
    if (changed != 0).mean() > 0.5:
        # Episodes are then random draws, and a rare fall may occur in only one of the two. The
        # error is at least that of the difference itself.
        error = max(error, float((file - sb3).std(ddof=1)) / np.sqrt(n))
    tolerance = 0.0 if exact else 3 * error + 1e-3 * float(np.abs(sb3).mean())
    difference = float((file - sb3).mean())
    return Check(
        "returns",
        bool(abs(difference) <= tolerance),
        "mean return on the same seeds; equal if one-ulp noise on SB3's observations changes no "
        "episode, else within three standard errors of the change that noise causes (and of the "
        "difference itself if noise changes most episodes) plus 0.1 %",
        {
            "mean_difference": json_number(difference),
            "tolerance": json_number(tolerance),
            "equal_episodes": int((file == sb3).sum()),
        },
    )


def _mean_and_interval(returns: Array) -> dict[str, float | str]:
    """Mean, standard deviation, and the normal 95 % confidence interval of the mean."""
    half = 1.96 * float(returns.std(ddof=1)) / np.sqrt(len(returns))
    mean = float(returns.mean())
    return {
        "mean": json_number(mean),
        "std": json_number(returns.std()),
        "ci95_low": json_number(mean - half),
        "ci95_high": json_number(mean + half),
    }
