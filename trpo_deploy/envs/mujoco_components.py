"""Names, units and period of Gymnasium's MuJoCo environments, read from their models.

A number is named ``JOINT.position``, ``BODY.external_force.x`` and so on; an action is named after
the joint that its actuator drives. A joint or body without a name is ``joint[3]`` or ``body[3]``,
by its number in the model. Angles are in rad: ``compiler angle="degree"`` concerns the XML only.

Sources: the sections "Observation Space" of Gymnasium's pages about the environments
(``mujoco/ant`` and so on), their ``_get_obs``, and MuJoCo's documentation of ``mjData``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from trpo_deploy.spec.components import Component, ControlSpec
from trpo_deploy.spec.policy_spec import OBS

_MODULE = "gymnasium.envs.mujoco."

_Quantities = tuple[tuple[str, str], ...]
"""What follows a joint's or body's name, and the unit."""


def _vector(name: str, unit: str, axes: str = "xyz") -> _Quantities:
    return tuple((f"{name}.{axis}", unit) for axis in axes)


# By MuJoCo's mjtJoint: free, ball, slide, hinge.
_POSITION: tuple[_Quantities, ...] = (
    (*_vector("position", "m"), *_vector("orientation", "1", "wxyz")),
    _vector("orientation", "1", "wxyz"),
    (("position", "m"),),
    (("position", "rad"),),
)
_VELOCITY: tuple[_Quantities, ...] = (
    (*_vector("velocity", "m/s"), *_vector("angular_velocity", "rad/s")),
    _vector("angular_velocity", "rad/s"),
    (("velocity", "m/s"),),
    (("velocity", "rad/s"),),
)


def _force(source: str) -> tuple[_Quantities, ...]:
    """Generalised forces of each kind of joint."""
    force, torque = f"{source}_force", f"{source}_torque"
    return (
        (*_vector(force, "N"), *_vector(torque, "N m")),
        _vector(torque, "N m"),
        ((force, "N"),),
        ((torque, "N m"),),
    )


# Each of mjData's rows for a body. Spatial vectors have the rotation first.
_BODY: dict[str, _Quantities] = {
    "cinert": (
        *((f"inertia.{axes}", "kg m^2") for axes in ("xx", "yy", "zz", "xy", "xz", "yz")),
        *_vector("mass_offset", "kg m"),
        ("mass", "kg"),
    ),
    "cvel": (*_vector("com_angular_velocity", "rad/s"), *_vector("com_velocity", "m/s")),
    "cfrc_ext": (*_vector("external_torque", "N m"), *_vector("external_force", "N")),
}


def mujoco_control(env: Any) -> ControlSpec:
    """What is known of an environment without wrappers; nothing unless it is one of Gymnasium's.

    The class decides, and not its ancestors: a subclass may observe something else.
    """
    if not type(env).__module__.startswith(_MODULE):
        return ControlSpec()
    return ControlSpec({OBS: _observation(env)}, _actions(env.model), float(env.dt))


def _observation(env: Any) -> tuple[Component, ...]:
    family, _, version = type(env).__module__.removeprefix(_MODULE).rpartition("_")
    special = _SPECIAL.get(family)
    if special is not None:
        return special(env.model, version)
    size = env.observation_space.shape[0]
    blocks = {
        "qpos": _of_joints(env.model, _POSITION),
        "qvel": _of_joints(env.model, _VELOCITY),
        **{name: _of_bodies(env.model, each) for name, each in _BODY.items()},
        "qfrc_actuator": _of_joints(env.model, _force("actuator")),
    }
    sizes = getattr(env, "observation_structure", None)
    if sizes is None:
        sizes = _sizes_of_version_4(env, family, blocks, size)
    if any(number for name, number in sizes.items() if name not in {*blocks, "skipped_qpos"}):
        return ()
    # What an environment leaves out is at the beginning of a block: the first coordinates, the
    # world body, the actuator forces of the free joint.
    return tuple(
        component
        for name, number in sizes.items()
        if name in blocks and number
        for component in blocks[name][-int(number) :]
    )


def _sizes_of_version_4(
    env: Any, family: str, blocks: Mapping[str, tuple[Component, ...]], size: int
) -> dict[str, int]:
    """The ``observation_structure`` that version 5 of an environment would have."""
    names = ["qvel"]
    if family.startswith("humanoid"):
        names += ["cinert", "cvel", "qfrc_actuator", "cfrc_ext"]
    elif family == "ant" and env._use_contact_forces:
        names += ["cfrc_ext"]
    sizes = {name: len(blocks[name]) for name in names}
    return {"qpos": size - sum(sizes.values()), **sizes}


def _reacher(model: Any, version: str) -> tuple[Component, ...]:
    arm = [model.joint(index).name for index in range(2)]
    axes = "xyz" if version == "v4" else "xy"
    return (
        *_named(arm, [("cos", "1")]),
        *_named(arm, [("sin", "1")]),
        *_of_joints(model, _POSITION)[2:],
        *_of_joints(model, _VELOCITY)[:2],
        *_named(["fingertip"], _vector("offset_from_target", "m", axes)),
    )


def _pusher(model: Any, _version: str) -> tuple[Component, ...]:
    return (
        *_of_joints(model, _POSITION)[:7],
        *_of_joints(model, _VELOCITY)[:7],
        *_named(["tips_arm", "object", "goal"], _vector("position", "m")),
    )


def _inverted_double_pendulum(model: Any, version: str) -> tuple[Component, ...]:
    poles = [model.joint(index).name for index in (1, 2)]
    forces = _of_joints(model, _force("constraint"))
    return (
        *_of_joints(model, _POSITION)[:1],
        *_named(poles, [("sin", "1")]),
        *_named(poles, [("cos", "1")]),
        *_of_joints(model, _VELOCITY),
        *(forces if version == "v4" else forces[:1]),
    )


_SPECIAL = {
    "reacher": _reacher,
    "pusher": _pusher,
    "inverted_double_pendulum": _inverted_double_pendulum,
}


def _of_joints(model: Any, quantities: tuple[_Quantities, ...]) -> tuple[Component, ...]:
    """Components of all joints, in the order of ``qpos`` and ``qvel``."""
    return tuple(
        component
        for joint, kind in enumerate(model.jnt_type)
        for component in _named([_joint_name(model, joint)], quantities[kind])
    )


def _of_bodies(model: Any, quantities: _Quantities) -> tuple[Component, ...]:
    names = [model.body(body).name or f"body[{body}]" for body in range(model.nbody)]
    return _named(names, quantities)


def _named(names: Iterable[str], quantities: Iterable[tuple[str, str]]) -> tuple[Component, ...]:
    listed = tuple(quantities)
    return tuple(Component(f"{name}.{each}", unit) for name in names for each, unit in listed)


def _joint_name(model: Any, joint: int) -> str:
    return str(model.joint(joint).name) or f"joint[{joint}]"


def _actions(model: Any) -> tuple[Component, ...]:
    """The joints that the actuators drive, in the actuators' order.

    An actuator that drives no joint, or one that another drives too, has its own name.
    """
    from mujoco import mjtTrn

    to_joint = (int(mjtTrn.mjTRN_JOINT), int(mjtTrn.mjTRN_JOINTINPARENT))
    driven = [
        int(target) if kind in to_joint else None
        for kind, target in zip(model.actuator_trntype, model.actuator_trnid[:, 0], strict=True)
    ]
    return tuple(
        Component(
            model.actuator(index).name or f"actuator[{index}]"
            if joint is None or driven.count(joint) > 1
            else _joint_name(model, joint),
            None if joint is None else _action_unit(model, index, joint),
        )
        for index, joint in enumerate(driven)
    )


def _action_unit(model: Any, actuator: int, joint: int) -> str | None:
    """The unit of the control of an actuator: of a motor, the force that a control of 1 exerts.

    ``None`` if it is neither a motor nor a servo of position or velocity, and for free and ball
    joints.
    """
    from mujoco import mjtBias, mjtDyn, mjtGain, mjtJoint

    if model.actuator_gaintype[actuator] != mjtGain.mjGAIN_FIXED:
        return None
    if model.actuator_dyntype[actuator] != mjtDyn.mjDYN_NONE:
        return None
    slides = model.jnt_type[joint] == mjtJoint.mjJNT_SLIDE
    if not slides and model.jnt_type[joint] != mjtJoint.mjJNT_HINGE:
        return None
    gain, gear = float(model.actuator_gainprm[actuator, 0]), float(model.actuator_gear[actuator, 0])
    if model.actuator_biastype[actuator] == mjtBias.mjBIAS_NONE:
        return _scaled(gain * gear, "N" if slides else "N m")
    constant, position, velocity = model.actuator_biasprm[actuator, :3]
    if constant == 0 and position == -gain:
        return _scaled(1 / gear, "m" if slides else "rad")
    if constant == position == 0 and velocity == -gain:
        return _scaled(1 / gear, "m/s" if slides else "rad/s")
    return None


def _scaled(factor: float, unit: str) -> str:
    return unit if factor == 1 else f"{factor:.12g} {unit}"
