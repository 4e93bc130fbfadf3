"""The returns of an ONNX file and of Stable-Baselines3 on the same seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trpo_deploy.environment import Act, Environment, Observation, State, play
from trpo_deploy.export.engines import Engine
from trpo_deploy.export.observations import concatenate, take
from trpo_deploy.export.parity import Check, number, one_ulp_off
from trpo_deploy.sb3_policy import Inputs, SB3Policy
from trpo_deploy.spec import ACTION, OBS, Array, PolicySpec

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

    def noisy(observation: Observation, state: State) -> tuple[Array, State]:
        frames = observation if isinstance(observation, dict) else {OBS: observation}
        changed = one_ulp_off(frames, rng)
        return reference.predict(changed if isinstance(observation, dict) else changed[OBS], state)

    sb3 = play(environment, reference.predict, seeds, keep=steps)
    file = play(environment, _act(engine, spec), seeds)
    null = play(environment, noisy, seeds)
    check = _check(sb3.returns, file.returns, null.returns, reference)
    batches = [_inputs(spec, *batch) for batch in sb3.observations]
    measured = {
        "sb3": _mean_and_interval(sb3.returns),
        "onnx": _mean_and_interval(file.returns),
        "sb3_with_one_ulp_noise": _mean_and_interval(null.returns),
        "episodes": len(seeds),
    }
    return ReturnComparison(check, measured, take(concatenate(batches), slice(steps)))


def _act(engine: Engine, spec: PolicySpec) -> Act:
    def act(observation: Observation, state: State) -> tuple[Array, State]:
        outputs = engine.run(_inputs(spec, observation, state))
        following = tuple(outputs[each.output] for each in spec.states)
        return outputs[ACTION], following or None

    return act


def _inputs(spec: PolicySpec, observation: Observation, state: State) -> Inputs:
    frames = observation if isinstance(observation, dict) else {OBS: observation}
    batch = len(next(iter(frames.values())))
    state = state or tuple(each.zeros(batch) for each in spec.states)
    names = (each.input.name for each in spec.states)
    return {**frames, **dict(zip(names, state, strict=True))}


def _check(sb3: Array, file: Array, null: Array, reference: SB3Policy) -> Check:
    difference = float((file - sb3).mean())
    null_rms = float(np.sqrt(np.square(null - sb3).mean()))
    # Three standard errors of a difference of two such means, and a thousandth of the return
    # for environments in which a few ulps do not grow into chaos.
    tolerance = 3 * np.sqrt(2 / len(sb3)) * null_rms + 1e-3 * float(np.abs(sb3).mean())
    discrete = np.dtype(reference.action_space.dtype).kind != "f"
    exact = null_rms == 0 and discrete
    passed = abs(difference) <= (0 if exact else tolerance)
    return Check(
        "returns",
        bool(passed),
        "mean return on the same seeds; equal where one-ulp noise on SB3's observations changes "
        "no episode, else within three standard errors of what that noise changes plus 0.1 %",
        {
            "mean_difference": number(difference),
            "tolerance": 0.0 if exact else number(tolerance),
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
