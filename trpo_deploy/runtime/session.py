"""One control loop's thread through a policy."""

from __future__ import annotations

from trpo_deploy.runtime.onnx_policy import OnnxPolicy
from trpo_deploy.spec.spaces import Array


class Session:
    """A policy with what it remembers of one episode, for one loop in one thread.

    ::

        session = Session(OnnxPolicy("policy.onnx"))
        session.reset()
        while not done:
            action = session.act(observation)

    Args:
        policy: may be shared with other sessions.
        deterministic: the distribution's mode; else an action drawn from it.
        validate: whether every observation is checked.
    """

    def __init__(
        self, policy: OnnxPolicy, *, deterministic: bool = True, validate: bool = True
    ) -> None:
        self._policy = policy
        self._deterministic = deterministic
        self._validate = validate
        self._state: tuple[Array, ...] | None = None

    def reset(self) -> None:
        """Begin an episode: forget the frames of the one before."""
        self._state = None

    def act(self, observation: object) -> Array:
        """The action for the next observation of the episode.

        Raises:
            ObservationError: the observation is not one that the policy takes.
        """
        action, self._state = self._policy.predict(
            observation,
            self._state,
            deterministic=self._deterministic,
            validate=self._validate,
        )
        return action
