"""The returns of an ONNX file and of Stable-Baselines3 on the same seeds.

Two equal policies rarely get equal returns: in a chaotic environment, rounding errors make every
episode different. The test below compares mean returns, and plays until it has the power to see a
loss of 5 %.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from trpo_deploy.envs.environment import Environment
from trpo_deploy.envs.episode import Act, Observation, play
from trpo_deploy.export.certify.batches import concatenate, size_of, take
from trpo_deploy.export.certify.check import Check, json_number
from trpo_deploy.export.certify.engines import Engine
from trpo_deploy.export.certify.student import student_quantile
from trpo_deploy.sb3.reference import SB3Policy
from trpo_deploy.spec.policy_spec import ACTION, OBS, FrameHistory, Inputs, PolicySpec
from trpo_deploy.spec.spaces import Array

MIN_EPISODES, MAX_EPISODES = 48, 1024
"""Number of episodes of each policy, if the time permits. If a file fails in one of twenty
episodes, 48 episodes contain a failure with a probability of 1 - 0.95^48 = 91 %."""
LOSS = 0.05
"""The loss of return that the test is to see."""
POWER = 0.9
"""Episodes are played until the test has this power."""
FALSE_ALARM = 0.002
"""Probability that a right file fails."""
_EPISODES_AT_A_TIME = 16
_HOW = (
    f"mean difference of the returns on the same seeds, with its {1 - FALSE_ALARM:.1%} Student "
    f"interval. The margin is {LOSS:.0%} of SB3's mean return, or of its standard deviation if "
    "that is larger. Passes if the interval lies within the margin, or if it contains zero and the "
    f"power is at least {POWER:.0%}. Fails if the interval excludes zero and leaves the margin, "
    f"which a right file does with a probability of {FALSE_ALARM:.1%}. Otherwise undecided. The "
    "power is the probability that a file fails which loses the margin in each episode. Between "
    f"{MIN_EPISODES} and {MAX_EPISODES} episodes are played, until the power is reached or the "
    "time is over"
)


@dataclass(frozen=True)
class PairedTest:
    """Mean difference of paired returns: file minus SB3."""

    episodes: int
    difference: float
    half_width: float
    """Half of the width of the interval of ``difference``."""
    margin: float
    """Loss that the test is to see."""
    power: float
    """Probability to see this loss in each episode."""

    @classmethod
    def of(cls, sb3: Array, file: Array) -> PairedTest:
        """Test the returns of episodes with the same seeds.

        The interval is valid for environments that ignore seeds, too. It is wider there.

        Args:
            sb3: Returns of the policy, ``(episodes,)``, at least two.
            file: Returns of the file, ``(episodes,)``.
        """
        n = len(sb3)
        difference = file - sb3
        error = float(difference.std(ddof=1)) / math.sqrt(n)
        t = student_quantile(1 - FALSE_ALARM / 2, n - 1)
        margin = LOSS * max(abs(float(sb3.mean())), float(sb3.std()))
        power = NormalDist().cdf(margin / error - t) if error > 0 else 1.0
        return cls(n, float(difference.mean()), t * error, margin, power)

    @property
    def passed(self) -> bool | None:
        """Whether the returns are the same; ``None`` if undecided."""
        within = abs(self.difference) + self.half_width <= self.margin
        contains_zero = abs(self.difference) <= self.half_width
        if not (within or contains_zero):
            return False
        return True if within or self.power >= POWER else None


@dataclass(frozen=True, eq=False)
class ReturnComparison:
    """Returns of the file and of Stable-Baselines3, and the observations on the way."""

    check: Check
    measured: Mapping[str, Any]
    """Statistics of the returns, as JSON values."""
    observations: Inputs
    """Raw on-policy observations with their states."""
    file_returns: Array
    """Returns of the file, ``(episodes,)``."""


def compare_returns(
    environment: Environment,
    reference: SB3Policy,
    engine: Engine,
    spec: PolicySpec,
    *,
    seed: int,
    steps: int,
    seconds: float,
) -> ReturnComparison:
    """Play SB3 and the file on the same seeds until their returns can be compared.

    Args:
        environment: Environment to play.
        reference: The policy as SB3 runs it.
        engine: The file.
        spec: Spec of the file.
        seed: Seed of the first episode.
        steps: Number of on-policy observations to keep.
        seconds: Time limit. The first episodes are played in any case.
    """
    start = time.monotonic()
    sb3, file = np.empty(0), np.empty(0)
    observations: Inputs = {}
    while True:
        seeds = range(seed + len(sb3), seed + len(sb3) + _EPISODES_AT_A_TIME)
        played = play(environment, reference.predict, seeds, keep=0 if observations else steps)
        if not observations:
            observations = _on_policy(spec, played.observations, steps)
        sb3 = np.concatenate([sb3, played.returns])
        file = np.concatenate([file, play(environment, _act(engine, spec), seeds).returns])
        test = PairedTest.of(sb3, file)
        following = (time.monotonic() - start) * (1 + _EPISODES_AT_A_TIME / len(sb3))
        enough = test.power >= POWER and len(sb3) >= MIN_EPISODES
        if enough or len(sb3) >= MAX_EPISODES or following > seconds:
            break
    measured = {
        "sb3": _mean_and_interval(sb3),
        "onnx": _mean_and_interval(file),
        "episodes": len(sb3),
    }
    return ReturnComparison(check_returns(sb3, file), measured, observations, file)


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


def _on_policy(
    spec: PolicySpec,
    played: tuple[tuple[Observation, FrameHistory | None], ...],
    steps: int,
) -> Inputs:
    rows = concatenate([_inputs(spec, *batch) for batch in played])
    size = size_of(rows)
    return take(rows, np.linspace(0, size - 1, min(size, steps)).astype(np.int64))


def check_returns(sb3: Array, file: Array) -> Check:
    """Check that the file's returns are the policy's.

    Args:
        sb3: Returns of the policy, one for each episode.
        file: Returns of the file on the same seeds.
    """
    test = PairedTest.of(sb3, file)
    low, high = test.difference - test.half_width, test.difference + test.half_width
    measured = {
        "episodes": test.episodes,
        "mean_difference": json_number(test.difference),
        "interval_low": json_number(low),
        "interval_high": json_number(high),
        "margin": json_number(test.margin),
        "power": json_number(test.power),
        "equal_episodes": int((file == sb3).sum()),
    }
    note = (
        f"{file.mean():.5g} (file) and {sb3.mean():.5g} (SB3) in {test.episodes} episodes each, "
        f"difference {test.difference:.3g} ({1 - FALSE_ALARM:.1%} interval {low:.3g} to "
        f"{high:.3g}), power {test.power:.0%} to see a loss of {test.margin:.3g}"
    )
    if test.passed is None:
        note = f"undecided, more episodes are needed (give them time with --seconds): {note}"
    return Check("returns", test.passed, _HOW, measured, note=note)


def _mean_and_interval(returns: Array) -> dict[str, float | str]:
    """Mean, standard deviation, and Student's 95 % confidence interval of the mean."""
    n = len(returns)
    half = student_quantile(0.975, n - 1) * float(returns.std(ddof=1)) / math.sqrt(n)
    mean = float(returns.mean())
    return {
        "mean": json_number(mean),
        "std": json_number(returns.std()),
        "ci95_low": json_number(mean - half),
        "ci95_high": json_number(mean + half),
    }
