"""Earlier frames: predict carries them, a session keeps them, a new episode clears them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.runtime.policy_files import IMAGE, box, write_policy
from trpo_deploy.errors import ObservationError
from trpo_deploy.runtime import OnnxPolicy, Session
from trpo_deploy.spec.spaces import Array

FRAMES = 4


@pytest.fixture(params=["image", "box"])
def policy(request: pytest.FixtureRequest, tmp_path: Path) -> OnnxPolicy:
    space = IMAGE if request.param == "image" else box(3)
    return OnnxPolicy(write_policy(tmp_path / "p.onnx", space, frames=FRAMES))


@pytest.fixture
def episode(policy: OnnxPolicy) -> list[Array]:
    rng = np.random.default_rng(0)
    return [np.asarray(policy.spec.sample_observation(rng)) for _ in range(7)]


def expected(policy: OnnxPolicy, frames: list[Array]) -> Array:
    """The action for a stack built by hand, with zeros before the first frame."""
    missing = [np.zeros_like(frames[0])] * (FRAMES - len(frames))
    stack = [*missing, *frames[-FRAMES:]]
    state = np.concatenate(stack[:-1], axis=-1)[None]
    (action,) = policy.run(["action"], {"state_obs": state, "obs": stack[-1][None]})
    return np.asarray(action[0])


def test_the_state_carries_the_earlier_frames(policy: OnnxPolicy, episode: list[Array]) -> None:
    state = None
    for index, frame in enumerate(episode):
        action, state = policy.predict(frame, state)
        np.testing.assert_array_equal(action, expected(policy, episode[: index + 1]))
    assert state is not None
    assert state[0].shape == (1, *policy.spec.states[0].input.shape)


def test_a_row_that_starts_an_episode_clears_its_frames(
    policy: OnnxPolicy, episode: list[Array]
) -> None:
    batch = [np.stack([frame, frame]) for frame in episode]
    _, state = policy.predict(batch[0])
    _, state = policy.predict(batch[1], state)
    actions, state = policy.predict(batch[2], state, episode_start=np.array([False, True]))
    # A batch of two is summed in another order than a batch of one.
    np.testing.assert_allclose(actions[0], expected(policy, episode[:3]), atol=1e-4)
    np.testing.assert_allclose(actions[1], expected(policy, episode[2:3]), atol=1e-4)


def test_a_session_keeps_the_state_until_it_is_reset(
    policy: OnnxPolicy, episode: list[Array]
) -> None:
    session, other = Session(policy), Session(policy)
    for _ in range(2):
        session.reset()
        for index, frame in enumerate(episode):
            other.act(episode[0])  # sessions share only the policy
            np.testing.assert_array_equal(
                session.act(frame), expected(policy, episode[: index + 1])
            )


def test_a_session_without_a_frame_stack_acts_like_predict(tmp_path: Path) -> None:
    policy = OnnxPolicy(write_policy(tmp_path / "p.onnx"))
    session = Session(policy)
    observation = np.array([1, 2, 3, 4], np.float32)
    for _ in range(2):
        np.testing.assert_array_equal(session.act(observation), policy.predict(observation)[0])


def test_a_state_of_another_batch_is_refused(policy: OnnxPolicy, episode: list[Array]) -> None:
    _, state = policy.predict(np.stack(episode[:2]))
    with pytest.raises(ObservationError) as caught:
        policy.predict(episode[0], state)
    assert caught.value.field == "state_obs"
    assert state is not None
    with pytest.raises(ObservationError):
        policy.predict(np.stack(episode[:2]), (state[0].astype(np.float64),))


@pytest.mark.parametrize("batched", [False, True])
def test_validation_does_not_change_the_action(
    policy: OnnxPolicy, episode: list[Array], batched: bool
) -> None:
    observation = np.stack(episode) if batched else episode[0]
    want, _ = policy.predict(observation)
    got, _ = policy.predict(observation, validate=False)
    np.testing.assert_array_equal(got, want)
