"""Names of classic control's and Box2D's numbers: each is the quantity in the simulation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from trpo_deploy.envs.components import find_control
from trpo_deploy.envs.environment import Environment
from trpo_deploy.spec.components import ControlSpec
from trpo_deploy.spec.policy_spec import OBS


def stepped(env_id: str, steps: int = 3) -> tuple[Any, dict[str, float], ControlSpec]:
    """An environment after some steps, its numbers by name in the units' base, and its control."""
    env = Environment(env_id).make()
    control, notes = find_control(env)
    assert notes == ()
    env.reset(seed=4)
    env.action_space.seed(4)
    for _ in range(steps):
        observation, *_ = env.step(env.action_space.sample())
    numbers = {}
    for component, number in zip(control.observation_components[OBS], observation, strict=True):
        factor, space, _ = (component.unit or "").partition(" ")
        numbers[component.name] = float(number) * (float(factor) if space else 1.0)
    return env.unwrapped, numbers, control


def test_cart_pole() -> None:
    env, numbers, control = stepped("CartPole-v1")
    names = ("cart.position", "cart.velocity", "pole.angle", "pole.angular_velocity")
    assert numbers == pytest.approx(dict(zip(names, env.state, strict=True)), rel=1e-6)
    assert control.period == env.tau
    x, velocity = env.state[:2]
    after, *_ = env.step(1)
    assert [each.name for each in control.action_components][1] == "push right"
    assert after[1] > velocity
    assert after[0] == pytest.approx(x + control.period * velocity, rel=1e-6)


def test_pendulum() -> None:
    env, numbers, control = stepped("Pendulum-v1")
    theta, velocity = env.state
    assert numbers == pytest.approx(
        {
            "theta.cos": math.cos(theta),
            "theta.sin": math.sin(theta),
            "theta.angular_velocity": velocity,
        },
        rel=1e-5,
    )
    env.step(np.zeros(1, np.float32))
    assert control.period is not None
    assert env.state[0] == pytest.approx(theta + control.period * env.state[1])


def test_acrobot() -> None:
    env, numbers, control = stepped("Acrobot-v1")
    first, second, first_velocity, second_velocity = env.state
    assert numbers == pytest.approx(
        {
            "theta1.cos": math.cos(first),
            "theta1.sin": math.sin(first),
            "theta2.cos": math.cos(second),
            "theta2.sin": math.sin(second),
            "theta1.angular_velocity": first_velocity,
            "theta2.angular_velocity": second_velocity,
        },
        rel=1e-5,
    )
    assert control.period == 0.2
    torques = [each.name for each in control.action_components]
    assert torques == [f"torque {torque:g} N m" for torque in env.AVAIL_TORQUE]


@pytest.mark.parametrize("env_id", ["MountainCar-v0", "MountainCarContinuous-v0"])
def test_mountain_car_has_no_seconds(env_id: str) -> None:
    env, numbers, control = stepped(env_id)
    assert list(numbers.values()) == pytest.approx(list(env.state), rel=1e-5)
    assert control.period is None
    assert {each.unit for each in control.observation_components[OBS]} == {"m", "m/step"}


@pytest.mark.parametrize("env_id", ["LunarLander-v3", "LunarLanderContinuous-v3"])
def test_lunar_lander(env_id: str) -> None:
    env, numbers, control = stepped(env_id, 60)
    assert numbers["lander.angle"] == pytest.approx(env.lander.angle, rel=1e-5)
    velocity = env.lander.angularVelocity
    assert numbers["lander.angular_velocity"] == pytest.approx(velocity, rel=1e-5)
    assert control.period == 1 / 50
    # Which leg is which: by where it is.
    names = [name for name in numbers if name.endswith("contact")]
    sides = ["right" if leg.position.x > env.lander.position.x else "left" for leg in env.legs]
    assert names == [f"{side}_leg.contact" for side in sides]
    count = 2 if "Continuous" in env_id else 4
    assert len(control.action_components) == count


def test_the_engines_of_lunar_lander() -> None:
    """As on Gymnasium's page. The left one pushes to the left."""
    env, _, control = stepped("LunarLander-v3", 1)
    names = [each.name for each in control.action_components]
    velocities = {}
    for index, name in enumerate(names):
        env.reset(seed=0)
        env.step(index)
        velocities[name] = tuple(env.lander.linearVelocity)
    across, up = velocities["do nothing"]
    assert velocities["fire left orientation engine"][0] < across
    assert velocities["fire right orientation engine"][0] > across
    assert velocities["fire main engine"][1] > up


def test_bipedal_walker() -> None:
    env, numbers, control = stepped("BipedalWalker-v3", 20)
    assert numbers["hull.angle"] == pytest.approx(env.hull.angle, rel=1e-5)
    assert numbers["hull.angular_velocity"] == pytest.approx(env.hull.angularVelocity, rel=1e-5)
    hip_1, knee_1, hip_2, knee_2 = env.joints
    for leg, hip, knee in ((1, hip_1, knee_1), (2, hip_2, knee_2)):
        assert numbers[f"hip_{leg}.angle"] == pytest.approx(hip.angle, rel=1e-5)
        assert numbers[f"hip_{leg}.speed"] == pytest.approx(hip.speed, rel=1e-5)
        assert numbers[f"knee_{leg}.angle_plus_1"] == pytest.approx(knee.angle + 1, rel=1e-5)
        assert numbers[f"knee_{leg}.speed"] == pytest.approx(knee.speed, rel=1e-5)
        assert numbers[f"leg_{leg}.contact"] == env.legs[2 * leg - 1].ground_contact
    assert [each.name for each in control.action_components] == [
        "hip_1",
        "knee_1",
        "hip_2",
        "knee_2",
    ]
    assert control.period == 1 / 50


@pytest.mark.parametrize(
    ("continuous", "right"), [(False, 1), (True, np.array([1, 0, 0], np.float32))]
)
def test_car_racing_has_names_of_actions_only(continuous: bool, right: Any) -> None:
    env = Environment("CarRacing-v3", {"continuous": continuous}).make()
    control, _ = find_control(env)
    assert control.observation_components == {}  # an image
    names = [each.name for each in control.action_components]
    assert names[0] == ("steering" if continuous else "do nothing")
    env.reset(seed=0)
    car: Any = env.unwrapped
    env.step(right)
    wheels = [wheel.steer for wheel in car.car.wheels[:2]]
    assert all(angle < 0 for angle in wheels)  # clockwise, so to the right
    env.close()


def test_a_subclass_is_not_taken_for_its_ancestor() -> None:
    class Mirrored(CartPoleEnv):
        pass

    control, _ = find_control(Mirrored())
    assert control.observation_components == {}
    assert control.period is None
