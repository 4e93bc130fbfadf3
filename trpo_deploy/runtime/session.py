"""A policy for one control loop."""

from __future__ import annotations

from trpo_deploy.runtime.onnx_policy import OnnxPolicy
from trpo_deploy.spec.policy_spec import FrameHistory
from trpo_deploy.spec.spaces import Array


class Session:
    """A policy and its earlier frames of one episode, for one loop in one thread.

    ::

        session = Session(OnnxPolicy("policy.onnx"))
        session.reset()
        while not done:
            action = session.act(observation)

    Args:
        policy: The policy. Several sessions may share it.
        deterministic: Whether to return the distribution's mode; otherwise a sample.
        validate: Whether to check every observation.
    """

    def __init__(
        self, policy: OnnxPolicy, *, deterministic: bool = True, validate: bool = True
    ) -> None:
        self._policy = policy
        self._deterministic = deterministic
        self._validate = validate
        self._state: FrameHistory | None = None

    def reset(self) -> None:
        """Start an episode: clear the frames of the last one."""
        self._state = None

    def act(self, observation: object) -> Array:
        """The action for the next observation of the episode.

        Raises:
            ObservationError: The observation does not fit the policy.
        """
        action, self._state = self._policy.predict(
            observation,
            self._state,
            deterministic=self._deterministic,
            validate=self._validate,
        )
        return action
