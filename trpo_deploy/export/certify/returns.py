"""The returns of an ONNX file and of Stable-Baselines3 on the same seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trpo_deploy.envs.environment import Environment
from trpo_deploy.envs.episode import Act, Observation, play
from trpo_deploy.export.certify.engines import Engine
from trpo_deploy.export.certify.observations import concatenate, take
from trpo_deploy.export.certify.parity import Check, number, one_ulp_off
from trpo_deploy.sb3.reference import SB3Policy
from trpo_deploy.spec.policy_spec import ACTION, OBS, FrameHistory, Inputs, PolicySpec
from trpo_deploy.spec.spaces import Array

EPISODES = 10


@dataclass(frozen=True, eq=False)
class ReturnComparison:
    """What came of playing both."""

    check: Check
    measured: Mapping[str, Any]
    observations: Inputs
    """On-policy, raw, with the states that came with them."""


def compare_returns(
    environment: Environment,
    reference: SB3Policy,
    engine: Engine,
    spec: PolicySpec,
    *,
    seed: int,
    steps: int,
) -> ReturnComparison:
    """Play SB3, the file, and SB3 with one-ulp noise as the null, each on the same seeds.

    Args:
        environment: what to play.
        reference: the policy as SB3 runs it.
        engine: the file.
        spec: of the file.
        seed: of the first episode and of the noise.
        steps: on-policy observations to keep.
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
    check = returns_check(sb3.returns, file.returns, null.returns, discrete=discrete)
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


def returns_check(sb3: Array, file: Array, null: Array, *, discrete: bool) -> Check:
    """Whether the file's returns are the policy's, as far as returns can tell.

    Args:
        sb3: of the policy's episodes.
        file: of the file's, on the same seeds.
        null: of the policy's on observations that are one ulp off.
        discrete: whether actions are; then what noise does not change has to be equal.
    """
    n = len(sb3)
    changed = null - sb3
    exact = discrete and not changed.any()
    # A difference of two such means, and a thousandth of the return for environments in which a
    # few ulps do not grow into chaos.
    error = np.sqrt(2 / n) * float(np.sqrt(np.square(changed).mean()))
    if (changed != 0).mean() > 0.5:
        # Episodes are draws of chance, then, and a rare fall may be in one of the two and not in
        # the other: the error is that of the difference itself.
        error = max(error, float((file - sb3).std(ddof=1)) / np.sqrt(n))
    tolerance = 0.0 if exact else 3 * error + 1e-3 * float(np.abs(sb3).mean())
    difference = float((file - sb3).mean())
    return Check(
        "returns",
        bool(abs(difference) <= tolerance),
        "mean return on the same seeds; equal where one-ulp noise on SB3's observations changes "
        "no episode, else within three standard errors of what that noise changes, and of the "
        "difference itself where it changes most episodes, plus 0.1 %",
        {
            "mean_difference": number(difference),
            "tolerance": number(tolerance),
            "equal_episodes": int((file == sb3).sum()),
        },
    )


def _mean_and_interval(returns: Array) -> dict[str, float]:
    """Mean, standard deviation and the normal 95 % interval of the mean."""
    half = 1.96 * float(returns.std(ddof=1)) / np.sqrt(len(returns))
    mean = float(returns.mean())
    return {
        "mean": number(mean),
        "std": number(returns.std()),
        "ci95_low": number(mean - half),
        "ci95_high": number(mean + half),
    }
