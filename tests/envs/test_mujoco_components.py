"""Names of MuJoCo's numbers: each named number is the one that MuJoCo has under that name."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from trpo_deploy.envs.components import find_control
from trpo_deploy.envs.environment import Environment
from trpo_deploy.files.runs import find_run
from trpo_deploy.sb3.from_files import load_source
from trpo_deploy.sb3.source import SourceOptions
from trpo_deploy.spec.components import Component, ControlSpec
from trpo_deploy.spec.policy_spec import OBS
from trpo_deploy.spec.spaces import Array

MODELS = sorted(path.parent for path in (Path(__file__).parents[2] / "models").glob("*/policy.zip"))
TASKS = (
    *("Ant", "HalfCheetah", "Hopper", "Humanoid", "HumanoidStandup", "InvertedDoublePendulum"),
    *("InvertedPendulum", "Pusher", "Reacher", "Swimmer", "Walker2d"),
)
# Pusher-v4 needs MuJoCo 2.
IDS = [
    f"{task}-v{version}" for task in TASKS for version in (4, 5) if (task, version) != ("Pusher", 4)
]
VARIANTS: dict[str, dict[str, Any]] = {
    **{env_id: {} for env_id in IDS},
    "Ant-v4 with forces": {"use_contact_forces": True},
    "Ant-v5 without forces": {"include_cfrc_ext_in_observation": False},
    "Ant-v5 with all positions": {"exclude_current_positions_from_observation": False},
    "Hopper-v4 with all positions": {"exclude_current_positions_from_observation": False},
    "Humanoid-v5 without inertias": {
        "include_cinert_in_observation": False,
        "include_qfrc_actuator_in_observation": False,
    },
}


def make(case: str, **kwargs: Any) -> Any:
    return Environment(case.split()[0], kwargs).make().unwrapped


def control_of(env: Any) -> ControlSpec:
    control, notes = find_control(env)
    assert notes == ()
    return control


def joint(quantity: str, index: int = 0) -> Callable[[Any, Any], float]:
    return lambda env, name: getattr(env.data.joint(name), quantity)[index]


def body(quantity: str, index: int) -> Callable[[Any, Any], float]:
    return lambda env, name: getattr(env.data.body(name), quantity)[index]


def offset(axis: int) -> Callable[[Any, Any], float]:
    return lambda env, name: env.data.body(name).xpos[axis] - env.data.body("target").xpos[axis]


# How MuJoCo's documentation says to read each quantity.
READ: dict[str, Callable[[Any, Any], float]] = {
    "position": joint("qpos"),
    "velocity": joint("qvel"),
    "sin": lambda env, name: math.sin(env.data.joint(name).qpos[0]),
    "cos": lambda env, name: math.cos(env.data.joint(name).qpos[0]),
    "actuator_torque": joint("qfrc_actuator"),
    "constraint_force": joint("qfrc_constraint"),
    "constraint_torque": joint("qfrc_constraint"),
    "mass": body("cinert", 9),
    **{f"orientation.{axis}": joint("qpos", 3 + i) for i, axis in enumerate("wxyz")},
    **{
        f"inertia.{axes}": body("cinert", i)
        for i, axes in enumerate(("xx", "yy", "zz", "xy", "xz", "yz"))
    },
}
for number, axis in enumerate("xyz"):
    READ |= {
        f"velocity.{axis}": joint("qvel", number),
        f"angular_velocity.{axis}": joint("qvel", 3 + number),
        f"actuator_force.{axis}": joint("qfrc_actuator", number),
        f"actuator_torque.{axis}": joint("qfrc_actuator", 3 + number),
        f"mass_offset.{axis}": body("cinert", 6 + number),
        f"com_angular_velocity.{axis}": body("cvel", number),
        f"com_velocity.{axis}": body("cvel", 3 + number),
        f"external_torque.{axis}": body("cfrc_ext", number),
        f"external_force.{axis}": body("cfrc_ext", 3 + number),
        f"offset_from_target.{axis}": offset(number),
    }


def measured(env: Any, component: Component) -> float:
    """The number that a name stands for, looked up in the simulation by that name."""
    owner, _, quantity = component.name.partition(".")
    numbered = re.fullmatch(r"body\[(\d+)\]", owner)
    name = int(numbered[1]) if numbered else owner
    if quantity.startswith("position."):  # of a free joint or of a body
        axis = "xyz".index(quantity[-1])
        of_joint = any(env.model.joint(index).name == owner for index in range(env.model.njnt))
        value = env.data.joint(owner).qpos[axis] if of_joint else env.data.body(owner).xpos[axis]
        return float(value)
    value = float(READ[quantity](env, name))
    clips = {"velocity": 10.0, "constraint_force": 10.0, "constraint_torque": 10.0}
    family = type(env).__module__
    if quantity in clips and ("hopper" in family or "walker" in family or "double" in family):
        return float(np.clip(value, -clips[quantity], clips[quantity]))
    if "external" in quantity and "ant" in family.rpartition(".")[2]:
        return float(np.clip(value, -1, 1))
    return value


@pytest.mark.parametrize("case", VARIANTS)
def test_each_named_number_of_an_observation_is_the_one_in_the_simulation(case: str) -> None:
    env = make(case, **VARIANTS[case])
    components = control_of(env).observation_components[OBS]
    env.reset(seed=3)
    env.action_space.seed(3)
    rows = []
    for _ in range(30):
        observation, *_ = env.step(env.action_space.sample())
        expected = [measured(env, each) for each in components]
        # The same numbers, read twice: no tolerance.
        np.testing.assert_array_equal(observation, expected)
        rows.append(observation)
    # Numbers that never differ would not show a wrong order; most of Ant's contact forces are zero.
    assert np.unique(rows, axis=1).shape[1] > len(components) // 3
    env.close()


@pytest.mark.parametrize("case", IDS)
def test_actions_are_the_joints_of_the_xml_files_actuators(case: str) -> None:
    env = make(case)
    control = control_of(env)
    root = ElementTree.parse(env.fullpath).getroot()
    motors = root.findall("./actuator/motor")
    assert [each.name for each in control.action_components] == [m.get("joint") for m in motors]
    for motor, component in zip(motors, control.action_components, strict=True):
        (element,) = root.findall(f".//body/joint[@name='{motor.get('joint')}']")
        force = "N" if element.get("type", "hinge") == "slide" else "N m"
        gear = float(motor.get("gear", "1"))
        assert component.unit == (force if gear == 1 else f"{gear:g} {force}")
    option = root.find("./option")
    assert option is not None
    period = float(option.get("timestep", "0.002")) * env.frame_skip
    assert control.period == pytest.approx(period, rel=1e-12)
    env.close()


@pytest.mark.parametrize("case", ["Ant-v5", "Walker2d-v5", "Swimmer-v5", "HalfCheetah-v5"])
def test_positions_are_the_joints_in_the_order_of_the_xml_file(case: str) -> None:
    env = make(case)
    root = ElementTree.parse(env.fullpath).getroot()
    joints = [each.get("name") for each in root.findall(".//body/joint")]
    names = [each.name for each in control_of(env).observation_components[OBS]]
    for kind in ("position", "velocity"):
        found = [name.partition(".")[0] for name in names if f".{kind}" in name]
        expected = [each for each in joints if each in found]
        assert list(dict.fromkeys(found)) == expected
        assert len(expected) >= len(joints) - 2  # the first ones are left out
    env.close()


@pytest.mark.parametrize("folder", MODELS, ids=lambda path: path.name)
def test_all_numbers_of_a_shipped_model_have_names_and_units(folder: Path) -> None:
    loaded = load_source(find_run(folder), SourceOptions())
    control, notes = loaded.control()
    assert notes == ()
    (space,) = (loaded.reference.frame_space,)
    components = control.observation_components[OBS]
    assert len(components) == math.prod(space.shape)  # type: ignore[union-attr]
    assert len(control.action_components) == math.prod(loaded.reference.action_space.shape or ())
    assert all(each.unit for each in (*components, *control.action_components))
    env = make(folder.name)
    assert control.period == env.model.opt.timestep * env.frame_skip
    env.close()


def test_the_joints_of_ant_are_observed_and_actuated_in_different_orders() -> None:
    control = control_of(make("Ant-v5"))
    names = [each.name for each in control.observation_components[OBS]]
    joints = [name for name in names if re.fullmatch(r"(hip|ankle)_\d.position", name)]
    assert joints[:3] == ["hip_1.position", "ankle_1.position", "hip_2.position"]
    actions = [each.name for each in control.action_components]
    assert actions[:3] == ["hip_4", "ankle_4", "hip_1"]


def test_another_frame_skip_is_another_period() -> None:
    assert control_of(make("Hopper-v5", frame_skip=5, render_mode=None)).period == 0.01


def humanoid() -> tuple[Any, list[str]]:
    env = make("HumanoidStandup-v5")
    env.reset(seed=0)
    return env, [each.name for each in control_of(env).observation_components[OBS]]


def values(names: list[str], observation: Array, pattern: str) -> dict[str, float]:
    """Numbers by the first group of a pattern that matches their names."""
    pairs = zip(names, observation.tolist(), strict=True)
    return {m[1]: value for name, value in pairs if (m := re.fullmatch(pattern, name))}


def test_a_moving_body_has_a_velocity_and_no_angular_velocity() -> None:
    env, names = humanoid()
    velocity = np.zeros(env.model.nv)
    velocity[1] = 2.0
    env.set_state(env.init_qpos, velocity)
    observation = env._get_obs()
    along = values(names, observation, r"(.*)\.com_velocity\.y")
    np.testing.assert_allclose(list(along.values()), 2.0, atol=1e-9)  # of the whole body
    turning = values(names, observation, r"(.*\.com_angular_velocity\.[xyz])")
    np.testing.assert_allclose(list(turning.values()), 0.0, atol=1e-9)


def test_inertias_are_those_of_the_bodies_about_the_center_of_mass() -> None:
    env, names = humanoid()
    observation, model, data = env._get_obs(), env.model, env.data
    masses = values(names, observation, r"(.*)\.mass")
    assert masses.keys() >= {"torso", "pelvis", "left_shin"}
    for name, mass in masses.items():
        own = model.body(name)
        assert mass == pytest.approx(own.mass[0])
        distance = data.body(name).xipos - data.subtree_com[model.body_rootid[own.id]]
        for axis, component in zip("xyz", distance, strict=True):
            key = rf"({re.escape(name)}\.mass_offset\.{axis})"
            (value,) = values(names, observation, key).values()
            assert value == pytest.approx(mass * component, abs=1e-9)
        rotation = data.body(name).ximat.reshape(3, 3)
        inertia = rotation @ np.diag(own.inertia) @ rotation.T
        inertia += mass * (distance @ distance * np.eye(3) - np.outer(distance, distance))
        for row, column in ("xx", "yy", "zz", "xy", "xz", "yz"):
            key = rf"({re.escape(name)}\.inertia\.{row}{column})"
            (value,) = values(names, observation, key).values()
            assert value == pytest.approx(inertia["xyz".index(row), "xyz".index(column)], abs=1e-9)


def test_the_ground_carries_a_body_that_lies_on_it() -> None:
    env, names = humanoid()
    rest = np.zeros(env.action_space.shape)
    loads = []
    for step in range(400):
        observation, *_ = env.step(rest)
        if step >= 200:
            loads.append(sum(values(names, observation, r"(.*)\.external_force\.z").values()))
    weight = 9.81 * env.model.body_subtreemass[1]
    # It still sways a little; a torque in the force's place would be far off.
    assert np.mean(loads) == pytest.approx(weight, rel=0.1)


XML = """
<mujoco>
  <option timestep="0.004"/>
  <worldbody>
    <body name="base">
      <freejoint name="base"/>
      <geom size="0.1"/>
      <body name="arm">
        <joint type="ball" name="shoulder"/>
        <geom size="0.1" pos="0 0 1"/>
        <body>
          <joint type="slide" name="rail"/>
          <geom size="0.1" pos="0 0 1"/>
          <body>
            <joint type="hinge"/>
            <geom size="0.1" pos="0 0 1"/>
          </body>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <position joint="rail" kp="30" ctrlrange="-1 1"/>
    <velocity joint="rail" name="brake" kv="3" ctrlrange="-1 1"/>
    <motor joint="shoulder" ctrlrange="-1 1"/>
  </actuator>
</mujoco>
"""


def test_free_and_ball_joints_servos_and_missing_names(tmp_path: Path) -> None:
    """Ant with another model: its observations are those of the model's joints."""
    (tmp_path / "robot.xml").write_text(XML)
    env = make(
        "Ant-v5",
        xml_file=str(tmp_path / "robot.xml"),
        main_body="base",
        frame_skip=5,
        include_cfrc_ext_in_observation=False,
    )
    control = control_of(env)
    named = {each.name: each.unit for each in control.observation_components[OBS]}
    assert list(named) == [
        "base.position.z",
        *(f"base.orientation.{axis}" for axis in "wxyz"),
        *(f"shoulder.orientation.{axis}" for axis in "wxyz"),
        "rail.position",
        "joint[3].position",
        *(f"base.velocity.{axis}" for axis in "xyz"),
        *(f"base.angular_velocity.{axis}" for axis in "xyz"),
        *(f"shoulder.angular_velocity.{axis}" for axis in "xyz"),
        "rail.velocity",
        "joint[3].velocity",
    ]
    assert (named["rail.position"], named["joint[3].velocity"]) == ("m", "rad/s")
    # Two actuators drive the rail, so each has its own name; no unit fits a ball joint.
    assert control.action_components == (
        Component("actuator[0]", "m"),
        Component("brake", "m/s"),
        Component("shoulder"),
    )
    assert control.period == pytest.approx(0.02)
