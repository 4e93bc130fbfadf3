"""A witness beside our own reading of a run: the returns that the training recorded.

File and reference come from the same reading. If it misses the normaliser, both act wrongly in the
same way, and every comparison of the two passes. The training's own returns reveal it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import gymnasium
import numpy as np
import torch

from trpo_deploy.class_path import import_class
from trpo_deploy.envs.environment import Environment
from trpo_deploy.envs.episode import Observation, play
from trpo_deploy.envs.wrappers import wrapper_classes
from trpo_deploy.export.certify.check import Check, json_number
from trpo_deploy.export.certify.student import student_quantile
from trpo_deploy.export.certify.trained_policy import TrainedPolicy
from trpo_deploy.sb3.reference import SB3Policy
from trpo_deploy.spec.policy_spec import FrameHistory
from trpo_deploy.spec.spaces import Array, Space

NAME = "witness: returns of training"
SHARE = 0.5
"""Share of the training's gain over random actions that a right file must reach. Returns vary from
update to update, and drawn actions get others than the most probable ones."""
SHARE_SAME_POLICY = 0.75
"""The same for the evaluation at the policy's timesteps, which is before its last update."""
SHARE_ELSEWHERE = 0.25
"""The same in another environment than the training's, such as a newer version."""
FALSE_ALARM = 0.001
"""Probability that a file which reaches exactly this share fails."""
POWER = 0.9
"""Smallest power of a witness: the probability that it notices a file that acts at random."""
EPISODES = 16
"""Episodes with random actions, and with drawn actions if they are needed."""
_HOW = (
    "mean return of the file against returns that the training recorded: the evaluation at the "
    "policy's timesteps, else the lowest mean of the last training episodes and the evaluations "
    f"next to it. Fails if the file reaches less than {SHARE_SAME_POLICY:.0%}, or {SHARE:.0%} if "
    "the policy was not evaluated, of the training's gain over random actions, by a one-sided "
    f"Welch test at {FALSE_ALARM:.1%}, and actions drawn as in training do as well. In another "
    f"environment than the training's it fails below {SHARE_ELSEWHERE:.0%} and is undecided above, "
    "and always with wrappers that may change rewards. The power is the probability to see a file "
    f"that acts at random; below {POWER:.0%} there is no witness"
)


@dataclass(frozen=True, eq=False)
class GainScale:
    """The scale on which the mean of random actions is 0 and that of the training is 1."""

    training: Array
    """Returns that the training recorded, ``(episodes,)``, at least two."""
    random: Array
    """Returns with random actions, ``(episodes,)``, at least two."""

    @property
    def gain(self) -> float:
        """What the training gained over random actions."""
        return float(self.training.mean() - self.random.mean())

    def is_below(self, returns: Array, share: float) -> bool:
        """Whether returns reach significantly less than a share of the gain."""
        error, t = self._uncertainty(returns, share)
        return float(returns.mean() - self.random.mean()) < share * self.gain - t * error

    def power(self, returns: Array, share: float) -> float:
        """Probability that :meth:`is_below` for a file with the mean of random actions.

        The file's returns vary as ``returns`` do.
        """
        error, t = self._uncertainty(returns, share)
        if self.gain <= 0:
            return 0.0
        return NormalDist().cdf(share * self.gain / error - t) if error > 0 else 1.0

    def _uncertainty(self, returns: Array, share: float) -> tuple[float, float]:
        """Standard error of the distance to the share, and the quantile that is its factor."""
        samples = ((returns, 1.0), (self.training, share), (self.random, 1 - share))
        variances = [weight**2 * float(x.var(ddof=1)) / len(x) for x, weight in samples]
        total = sum(variances)
        if total == 0:
            return 0.0, 0.0
        # Welch and Satterthwaite's degrees of freedom for a sum of means.
        parts = (v**2 / (len(x) - 1) for v, (x, _) in zip(variances, samples, strict=True))
        df = max(1, int(total**2 / sum(parts)))
        return math.sqrt(total), student_quantile(1 - FALSE_ALARM, df)


def check_training_returns(
    policy: TrainedPolicy, file_returns: Array | None, action_space: Space, *, seed: int
) -> Check:
    """Check that the file gets what the training got.

    Args:
        policy: The trained policy, with the returns that its training recorded.
        file_returns: Returns of the file; ``None`` if it was not played.
        action_space: The file's.
        seed: Seed of the first episode, and of random and drawn actions.
    """
    recorded, environment = policy.training_returns, policy.environment
    if not recorded:
        return _no_witness("neither the model nor an evaluation of its run recorded returns")
    if environment is None or file_returns is None:
        return _no_witness(policy.environment_note)
    against = min(recorded, key=lambda each: (not each.same_policy, float(each.returns.mean())))
    share = SHARE_SAME_POLICY if against.same_policy else SHARE
    seeds = range(seed, seed + EPISODES)
    scale = GainScale(against.returns, _random_returns(environment, action_space, seeds))
    power = scale.power(file_returns, share)
    words = (
        f"{file_returns.mean():.5g} (file, {len(file_returns)} episodes), "
        f"{scale.training.mean():.5g} ({against.source}, {len(scale.training)} episodes), "
        f"{scale.random.mean():.5g} (random actions, {EPISODES} episodes)"
    )
    measured = {
        "file_mean": json_number(file_returns.mean()),
        "file_episodes": len(file_returns),
        "training_mean": json_number(scale.training.mean()),
        "training_episodes": len(scale.training),
        "training_source": against.source,
        "random_mean": json_number(scale.random.mean()),
        "random_episodes": EPISODES,
        "share": share,
        "power": json_number(power),
    }
    if power < POWER:
        why = f"the training's returns do not stand out from those of random actions: {words}"
        return _no_witness(why, measured)
    passed, explanation = _verdict(scale, share, policy, environment, file_returns, seeds)
    note = "; ".join(filter(None, [f"{words}, power {power:.0%}", explanation]))
    return Check(NAME, passed, _HOW, measured, note=note)


def _no_witness(why: str, measured: dict[str, float | int | str] | None = None) -> Check:
    return Check(NAME, None, _HOW, measured or {}, note=f"no witness: {why}")


def _verdict(
    scale: GainScale,
    share: float,
    policy: TrainedPolicy,
    environment: Environment,
    file_returns: Array,
    seeds: Sequence[int],
) -> tuple[bool | None, str]:
    """Whether the file gets what the training got, and an explanation."""
    elsewhere = policy.environment_note
    if not scale.is_below(file_returns, share):
        return True, elsewhere
    # Some policies need their noise, for example to leave a wall that they cannot see.
    drawn = _drawn_returns(environment, policy.reference, seeds)
    if not scale.is_below(drawn, share):
        return True, (
            f"actions drawn as in training get {drawn.mean():.5g}, but the most probable actions, "
            "which the file returns, far less"
        )
    inside = ", ".join(_reward_wrappers(environment))
    if inside:
        return None, f"undecided, since the returns were recorded inside of {inside}"
    suspects = ", or ".join(_suspects(policy))
    if elsewhere and not scale.is_below(file_returns, SHARE_ELSEWHERE):
        return None, f"undecided, since the environment is another one; {suspects} may be missing"
    return False, f"far below the training; what is missing may be {suspects}"


def _reward_wrappers(environment: Environment) -> Iterator[str]:
    """Wrappers that may change rewards and the length of episodes.

    SB3's ``make_vec_env`` puts ``Monitor``, which records returns, inside of them.
    """
    for name in wrapper_classes(environment.env_wrapper):
        wrapper: type[Any] = import_class("env_wrapper", name, gymnasium.Wrapper)
        if not issubclass(wrapper, (gymnasium.ObservationWrapper, gymnasium.ActionWrapper)):
            yield name


def _suspects(policy: TrainedPolicy) -> Iterator[str]:
    """What a reading of the run may have missed."""
    other = "other " if policy.reference.statistics is not None else ""
    yield f"{other}statistics of the normaliser (--vecnormalize FILE)"
    if policy.reference.wrapping.frame_stack == 1:
        yield "a frame stack (--frame-stack N)"
    yield "wrappers or arguments of the environment"
    if policy.environment_note:
        yield f"the environment of the training ({policy.environment_note})"


def _random_returns(environment: Environment, space: Space, seeds: Sequence[int]) -> Array:
    rng = np.random.default_rng(seeds[0])

    def act(observation: Observation, _: FrameHistory | None) -> tuple[Array, None]:
        one = next(iter(observation.values())) if isinstance(observation, dict) else observation
        return np.stack([space.sample(rng) for _ in range(len(one))]), None

    return play(environment, act, seeds).returns


def _drawn_returns(environment: Environment, reference: SB3Policy, seeds: Sequence[int]) -> Array:
    def act(
        observation: Observation, state: FrameHistory | None
    ) -> tuple[Array, FrameHistory | None]:
        return reference.predict(observation, state, deterministic=False)

    with torch.random.fork_rng(devices=[]):  # keep the caller's random state
        torch.manual_seed(seeds[0])
        return play(environment, act, seeds).returns
