"""Checks of a rollout that SB3's rollout makes by its distributions, or does not need."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy

from trpo_deploy.errors import ObservationError, TrainingError
from trpo_deploy.spec.policy_spec import OBS
from trpo_deploy.spec.spaces import Array


def unusable_output(model: OnPolicyAlgorithm, output: Array) -> ObservationError | TrainingError:
    """The error for actions or logits that must not reach the environments.

    Args:
        model: The algorithm, before the step.
        output: Actions or logits, ``(envs, ...)``; some number is not finite.

    Returns:
        An ``ObservationError`` where an observation is the cause, or else a ``TrainingError``.
    """
    observed = _parts(model._last_obs)
    normalizer = model.get_vec_normalize_env()
    if normalizer is not None:
        # One NaN in its statistics makes the observations of all environments NaN.
        observed = _parts(normalizer.get_original_obs()) + observed
    for key, values in [*observed, (None, output)]:  # noqa: B007 - used below
        rows = np.asarray(values).reshape(len(values), -1)
        wrong = np.argwhere(~np.isfinite(rows))
        if len(wrong):
            break
    env, index = wrong[0].tolist()
    where = f"environment {env} of {len(rows)}, after {model.num_timesteps} steps"
    found = f"{rows[env, index]} at index {index}"
    if key is not None:
        received = f"{found} from {where}"
        return ObservationError(key, "finite numbers", received, kind="not_finite")
    return TrainingError(
        f"the policy's output is {found} for {where}, and its observation is finite: the weights "
        "are not finite, or too large; lower the learning rate or target_kl"
    )


def _parts(observations: Any) -> list[tuple[str | None, Array]]:
    return list((observations if isinstance(observations, dict) else {OBS: observations}).items())


class WeightsOfRollout:
    """A policy's weights at the start of a rollout, whose actions are computed with them.

    Their values are compared: ``parameter.data.fill_()`` does not count as a change for torch.

    Args:
        policy: The policy.
    """

    def __init__(self, policy: ActorCriticPolicy) -> None:
        self._policy = policy
        self._before = self._weights()

    def check_unchanged(self) -> None:
        """Check that the policy still has these weights.

        Raises:
            TrainingError: With the names of the weights that changed.
        """
        now = self._weights()
        changed = [name for name in now if now[name] != self._before.get(name)]
        if changed:
            raise TrainingError(
                f"{', '.join(changed)} changed during a rollout, whose actions were computed with "
                "the weights at its start: change weights in _on_rollout_start of the callback, or "
                "use TRPO(..., unrolled=False), which computes everything step by step"
            )

    def _weights(self) -> dict[str, bytes]:
        # Bytes: NaN equals NaN, and the update refuses it.
        named = self._policy.named_parameters()
        return {name: parameter.detach().numpy().tobytes() for name, parameter in named}
