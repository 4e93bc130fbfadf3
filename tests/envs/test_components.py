"""What wrappers and attributes make of an environment's names: right, or unknown."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces, wrappers
from stable_baselines3.common.monitor import Monitor

from tests.export.policies import SpaceEnv
from trpo_deploy.envs.components import find_control
from trpo_deploy.envs.environment import Environment
from trpo_deploy.spec.components import Component, ControlSpec
from trpo_deploy.spec.policy_spec import OBS

THETA = ["theta.cos", "theta.sin", "theta.angular_velocity"]
BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)


def pendulum() -> Any:
    return Environment("Pendulum-v1").make()


def found(env: gymnasium.Env[Any, Any]) -> ControlSpec:
    control, notes = find_control(env)
    assert notes == ()
    return control


def names(control: ControlSpec, key: str = OBS) -> list[str]:
    return [each.name for each in control.observation_components.get(key, ())]


class Named(SpaceEnv):
    """An environment that tells its names."""

    observation_names: Any = ("left", "right")
    observation_units: Any = ("rad", None)
    action_names: Any = ("wheel", "arm")
    control_period: Any = 0.01
    safe_action: Any = (0.0, -1.0)

    def __init__(self, observation_space: Any = BOX, action_space: Any = BOX, **told: Any) -> None:
        super().__init__(observation_space, action_space)
        vars(self).update(told)


def test_attributes_tell_everything() -> None:
    control = found(Named())
    assert control.observation_components == {OBS: (Component("left", "rad"), Component("right"))}
    assert control.action_components == (Component("wheel"), Component("arm"))
    assert control.period == 0.01
    assert control.safe_action is not None
    assert control.safe_action.dtype == np.float32
    assert control.safe_action.tolist() == [0.0, -1.0]


def test_attributes_by_key_tell_only_some_keys() -> None:
    space = spaces.Dict({"camera": spaces.Box(0, 255, (4, 4, 3), np.uint8), "joints": BOX})
    env = Named(
        space,
        observation_names={"joints": ["hip", "knee"]},
        observation_units={"joints": ["m", "m"]},
    )
    control = found(env)
    assert control.observation_components == {
        "joints": (Component("hip", "m"), Component("knee", "m"))
    }


class Degrees(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Observes the velocity in degrees per second."""

    observation_names: Any = THETA
    observation_units: Any = ("1", "1", "deg/s")
    control_period = 0.1

    def observation(self, observation: Any) -> Any:
        return observation * np.array([1, 1, 57.29578], np.float32)


def test_attributes_win_over_the_table() -> None:
    control = found(Degrees(pendulum()))
    assert control.observation_components[OBS][2] == Component(THETA[2], "deg/s")
    assert control.action_components == (Component("torque", "N m"),)
    assert control.period == 0.1


def test_units_alone_belong_to_the_names_that_are_known() -> None:
    kept = gymnasium.Wrapper(pendulum())
    vars(kept)["observation_units"] = ("m", "m", "deg/s")
    assert found(kept).observation_components[OBS][2] == Component(THETA[2], "deg/s")
    unknown = Degrees(pendulum())
    unknown.observation_names = None
    control, (note,) = find_control(unknown)
    assert control.observation_components == {}
    assert "there are 3 units and 0 names" in note


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (
            {"observation_names": ("a",), "observation_units": None},
            "the observation 'obs' needs 2 names, received 1",
        ),
        ({"observation_names": ("a", "a")}, "the name 'a' twice"),
        ({"observation_names": "ab"}, "'ab' is one text"),
        ({"observation_names": ("a", "")}, "the name '' is not a text"),
        ({"observation_names": ("a", 3)}, "the name 3 is not a text"),
        ({"observation_names": ("a", "b\nc")}, "one line of printable text"),
        ({"observation_names": {"x": ("a", "b")}}, "the observation 'x' does not exist"),
        ({"observation_units": ("m",)}, "there are 1 units and 2 names"),
        ({"action_names": ("a", "b", "c")}, "the action needs 2 names, received 3"),
        ({"action_names": 7}, "not iterable"),
        ({"control_period": 0}, "the period is 0, expected a positive number"),
        ({"control_period": "fast"}, "the period is 'fast'"),
        ({"control_period": float("nan")}, "the period is nan"),
        ({"safe_action": (0.0, 2.0)}, "the safe action contains 2.0, expected numbers in"),
        ({"safe_action": (0.0,)}, "the safe action is shape (1,)"),
    ],
    ids=str,
)
def test_attributes_that_do_not_fit_are_not_used_and_named(told: Any, says: str) -> None:
    control, (note,) = find_control(Named(**told))
    assert control.to_json() == {}
    assert says in note
    assert "Named" in note


def test_an_environment_whose_attributes_fail_has_no_names() -> None:
    class Broken(Named):
        @property
        def action_names(self) -> Any:
            raise OSError("the robot is off")

    control, (note,) = find_control(Broken())
    assert control.to_json() == {}
    assert "the robot is off" in note


@pytest.mark.parametrize(
    "wrap",
    [
        Monitor,
        wrappers.RecordEpisodeStatistics,
        lambda env: wrappers.TransformReward(env, lambda reward: 2 * float(reward)),
        lambda env: wrappers.NormalizeReward(env),
        lambda env: wrappers.DtypeObservation(env, np.float32),
        lambda env: wrappers.FlattenObservation(env),
        lambda env: wrappers.ReshapeObservation(env, (3, 1)),
        lambda env: wrappers.ClipAction(env),
        gymnasium.Wrapper,
    ],
)
def test_wrappers_that_keep_the_numbers_keep_all(wrap: Any) -> None:
    control = found(wrap(pendulum()))
    assert names(control) == THETA
    assert control.observation_components[OBS][2].unit == "rad/s"
    assert control.action_components == (Component("torque", "N m"),)
    assert control.period == 0.05


def test_a_changed_scale_has_no_unit() -> None:
    control = found(wrappers.RescaleAction(pendulum(), np.float32(-1), np.float32(1)))
    assert control.action_components == (Component("torque"),)
    assert control.observation_components[OBS][2].unit == "rad/s"
    for wrapped in (
        wrappers.NormalizeObservation(pendulum()),
        wrappers.RescaleObservation(pendulum(), np.float32(0), np.float32(1)),
    ):
        control = found(wrapped)
        assert control.observation_components == {OBS: tuple(map(Component, THETA))}
        assert control.action_components == (Component("torque", "N m"),)


def test_a_safe_action_of_another_scale_is_unknown() -> None:
    assert found(wrappers.RescaleAction(Named(), np.float32(-2), np.float32(2))).safe_action is None
    assert found(wrappers.ClipAction(Named())).safe_action is not None


@pytest.mark.parametrize(
    "wrap",
    [
        lambda env: wrappers.FrameStackObservation(env, 2),
        lambda env: wrappers.TransformObservation(env, lambda x: x[::-1], env.observation_space),
    ],
)
def test_other_observations_have_no_names(wrap: Any) -> None:
    control = found(wrap(pendulum()))
    assert control.observation_components == {}
    assert control.action_components == (Component("torque", "N m"),)


def test_a_wrapper_that_steps_in_its_own_way_leaves_nothing_known() -> None:
    class Twice(gymnasium.Wrapper[Any, Any, Any, Any]):
        def step(self, action: Any) -> Any:
            self.env.step(action)
            return self.env.step(action)

    class Reversed(gymnasium.ActionWrapper[Any, Any, Any]):
        def action(self, action: Any) -> Any:
            return action[::-1]

    assert found(Twice(pendulum())).to_json() == {}
    control = found(Reversed(pendulum()))
    assert (names(control), control.action_components) == (THETA, ())
    # Unless it tells them itself.
    Twice.control_period = 0.1  # type: ignore[attr-defined]
    assert found(Twice(pendulum())).to_json() == {"period": 0.1}


def test_attributes_that_a_wrapper_passes_on_are_not_its_own() -> None:
    class Forwarding(gymnasium.ObservationWrapper[Any, Any, Any]):
        def observation(self, observation: Any) -> Any:
            return observation[::-1]

        def __getattr__(self, name: str) -> Any:
            return getattr(self.env, name)

    control = found(Forwarding(Named()))
    assert control.observation_components == {}
    assert control.action_components == (Component("wheel"), Component("arm"))


def test_repeated_actions_have_a_longer_period() -> None:
    assert found(wrappers.MaxAndSkipObservation(pendulum(), skip=4)).period == 0.2


def test_time_is_the_last_number() -> None:
    control = found(wrappers.TimeAwareObservation(pendulum()))
    assert names(control) == [*THETA, "time"]
    assert control.observation_components[OBS][3].unit == "step"
    control = found(wrappers.TimeAwareObservation(pendulum(), flatten=False))
    assert (names(control), names(control, "time")) == (THETA, [])


def test_a_flattened_dict_has_the_names_of_its_keys_in_gymnasiums_order() -> None:
    space = spaces.Dict({"b": BOX, "a": spaces.Box(-1.0, 1.0, (1,), np.float32)})
    env = Named(space, observation_names={"a": ["x"], "b": ["y", "z"]}, observation_units=None)
    env.reset(seed=0)
    flat = wrappers.FlattenObservation(env)
    control = found(flat)
    sample = {"a": np.array([1], np.float32), "b": np.array([2, 3], np.float32)}
    order = dict(zip(flat.observation(sample).tolist(), names(control), strict=True))
    assert order == {1: "a.x", 2: "b.y", 3: "b.z"}
    some = Named(space, observation_names={"b": ["y", "z"]}, observation_units=None)
    assert found(wrappers.FlattenObservation(some)).observation_components == {}
    one_hot = spaces.Dict({"a": spaces.Discrete(3)})
    coded = Named(one_hot, observation_names={"a": ["gear"]}, observation_units=None)
    assert found(wrappers.FlattenObservation(coded)).observation_components == {}


def test_a_dict_that_loses_a_key_keeps_the_names_of_the_others() -> None:
    space = spaces.Dict({"a": BOX, "b": BOX})
    env = Named(space, observation_names={"a": ["x", "y"], "b": ["v", "w"]}, observation_units=None)
    control = found(wrappers.FilterObservation(env, ["b"]))
    assert set(control.observation_components) == {"b"}


def test_discrete_actions_have_a_name_for_each_value() -> None:
    env = Named(action_space=spaces.Discrete(3, start=5), action_names=tuple("abc"), safe_action=6)
    control = found(env)
    assert [each.name for each in control.action_components] == ["a", "b", "c"]
    assert control.safe_action == 6
    branches = Named(
        action_space=spaces.MultiDiscrete([4, 5]), action_names=("gear", "mode"), safe_action=(3, 0)
    )
    assert len(found(branches).action_components) == 2


def test_spaces_that_a_spec_cannot_have_have_no_names() -> None:
    env = Named(spaces.Tuple((BOX, BOX)), observation_names=None, observation_units=None)
    assert found(env).observation_components == {}
