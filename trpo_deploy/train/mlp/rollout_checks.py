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


_PLAIN = (bool, float, int, str, type(None))


class PolicyOfRollout:
    """A policy at the start of a rollout, whose actions are computed with it.

    Weights are compared by value: ``parameter.data.fill_()`` does not count as a change for torch.
    A module is compared by its class and mode, and torch's own modules by all plain attributes: the
    ``forward`` of other modules may change theirs, and callbacks keep some on a policy.

    Args:
        model: The algorithm.
    """

    def __init__(self, model: OnPolicyAlgorithm) -> None:
        self._model = model
        self._before = _parts_of_policy(model.policy)

    def check_unchanged(self) -> None:
        """Check that the algorithm still has the same policy.

        Raises:
            TrainingError: With the names of what changed.
        """
        now, before, no_part = _parts_of_policy(self._model.policy), self._before, object()
        if now != before:
            names = [
                name
                for name in {**before, **now}
                if before.get(name, no_part) != now.get(name, no_part)
            ]
            more = f" and {len(names) - 3} others" if len(names) > 3 else ""
            raise changed_during_rollout(", ".join(names[:3]) + more)


def changed_during_rollout(what: str) -> TrainingError:
    """The error for a change that an unrolled rollout does not follow."""
    return TrainingError(
        f"{what} changed during a rollout, which uses what was there at its start: make the change "
        "in _on_rollout_start of the callback, or use TRPO(..., unrolled=False), which computes "
        "everything step by step"
    )


def _parts_of_policy(policy: ActorCriticPolicy) -> dict[str, Any]:
    """What the actions of a policy depend on, under names."""
    # Bytes: NaN equals NaN, and the update refuses it.
    parts: dict[str, Any] = {
        name: parameter.detach().numpy().tobytes() for name, parameter in policy.named_parameters()
    }
    parts["action_dist"] = policy.action_dist
    for name, module in policy.named_modules():
        cls, own = type(module), vars(module)
        parts[name or "the policy"] = cls
        for key in own if cls.__module__.startswith("torch.") else ("training",):
            if type(own[key]) in _PLAIN:
                parts[f"{name}.{key}" if name else key] = own[key]
    return parts
