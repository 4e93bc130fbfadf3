"""Names, units and periods of Gymnasium's classic control and Box2D environments.

Sources: the tables "Action Space" and "Observation Space" of Gymnasium's pages
``classic_control/cart_pole``, ``acrobot``, ``mountain_car``, ``mountain_car_continuous``,
``pendulum``, ``box2d/lunar_lander``, ``bipedal_walker``, ``car_racing``, and the factors in the
environments' ``step``. A unit is ``None`` where neither states one, as for Box2D's lengths.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gymnasium import spaces

from trpo_deploy.spec.components import Component, ControlSpec
from trpo_deploy.spec.policy_spec import OBS

_Units = Mapping[str, str | None]
"""Units by name, in order."""


@dataclass(frozen=True)
class _Known:
    observation: _Units = field(default_factory=dict)
    values: tuple[str, ...] = ()
    """Names of the values of a Discrete action."""
    action: _Units = field(default_factory=dict)
    """Numbers of a Box action."""
    period: Callable[[Any], float] | None = None


def _tau(env: Any) -> float:
    return float(env.tau)


def _dt(env: Any) -> float:
    return float(env.dt)


def _per_frame(env: Any) -> float:
    """Box2D's environments simulate ``1 / FPS`` seconds in a step, by a constant of the module."""
    return 1 / float(vars(sys.modules[type(env).__module__])["FPS"])


def _leg(leg: int) -> _Units:
    return {
        f"hip_{leg}.angle": "rad",
        f"hip_{leg}.speed": "4 rad/s",
        f"knee_{leg}.angle_plus_1": "rad",
        f"knee_{leg}.speed": "6 rad/s",
        f"leg_{leg}.contact": "1",
    }


_CARTPOLE = _Known(
    {
        "cart.position": "m",
        "cart.velocity": "m/s",
        "pole.angle": "rad",
        "pole.angular_velocity": "rad/s",
    },
    ("push left", "push right"),
    period=_tau,
)
_ACROBOT = _Known(
    {
        "theta1.cos": "1",
        "theta1.sin": "1",
        "theta2.cos": "1",
        "theta2.sin": "1",
        "theta1.angular_velocity": "rad/s",
        "theta2.angular_velocity": "rad/s",
    },
    ("torque -1 N m", "torque 0 N m", "torque 1 N m"),
    period=_dt,
)
# Its time has no unit: the velocity is what a step adds to the position.
_CAR: _Units = {"car.position": "m", "car.velocity": "m/step"}
_MOUNTAIN_CAR = _Known(_CAR, ("accelerate left", "do not accelerate", "accelerate right"))
_MOUNTAIN_CAR_CONTINUOUS = _Known(_CAR, action={"force": None})
_PENDULUM = _Known(
    {"theta.cos": "1", "theta.sin": "1", "theta.angular_velocity": "rad/s"},
    action={"torque": "N m"},
    period=_dt,
)
_LUNAR_LANDER = _Known(
    {
        "lander.x": None,
        "lander.y": None,
        "lander.velocity.x": None,
        "lander.velocity.y": None,
        "lander.angle": "rad",
        "lander.angular_velocity": "2.5 rad/s",
        # In this order: the first leg is placed at a larger x than the second.
        "right_leg.contact": "1",
        "left_leg.contact": "1",
    },
    (
        "do nothing",
        "fire left orientation engine",
        "fire main engine",
        "fire right orientation engine",
    ),
    {"main_engine": None, "lateral_engines": None},
    _per_frame,
)
_BIPEDAL_WALKER = _Known(
    {
        "hull.angle": "rad",
        "hull.angular_velocity": "25 rad/s",
        "hull.velocity.x": None,
        "hull.velocity.y": None,
        **_leg(1),
        **_leg(2),
        **{f"lidar[{index}].fraction": "1" for index in range(10)},
    },
    action={"hip_1": None, "knee_1": None, "hip_2": None, "knee_2": None},
    period=_per_frame,
)
_CAR_RACING = _Known(
    values=("do nothing", "steer right", "steer left", "gas", "brake"),
    action={"steering": None, "gas": None, "braking": None},
    period=_per_frame,
)

_KNOWN = {
    "gymnasium.envs.classic_control.cartpole:CartPoleEnv": _CARTPOLE,
    "gymnasium.envs.classic_control.acrobot:AcrobotEnv": _ACROBOT,
    "gymnasium.envs.classic_control.mountain_car:MountainCarEnv": _MOUNTAIN_CAR,
    "gymnasium.envs.classic_control.continuous_mountain_car:Continuous_MountainCarEnv": (
        _MOUNTAIN_CAR_CONTINUOUS
    ),
    "gymnasium.envs.classic_control.pendulum:PendulumEnv": _PENDULUM,
    "gymnasium.envs.box2d.lunar_lander:LunarLander": _LUNAR_LANDER,
    "gymnasium.envs.box2d.bipedal_walker:BipedalWalker": _BIPEDAL_WALKER,
    "gymnasium.envs.box2d.car_racing:CarRacing": _CAR_RACING,
}


def control_by_class(env: Any) -> ControlSpec:
    """What is known of an environment without wrappers; nothing if its class is not in the table.

    The class decides, and not its ancestors: a subclass may observe something else.
    """
    known = _KNOWN.get(f"{type(env).__module__}:{type(env).__name__}")
    if known is None:
        return ControlSpec()
    is_discrete = isinstance(env.action_space, spaces.Discrete)
    return ControlSpec(
        {OBS: _components(known.observation)},
        _components(dict.fromkeys(known.values) if is_discrete else known.action),
        None if known.period is None else known.period(env),
    )


def _components(units: _Units) -> tuple[Component, ...]:
    return tuple(Component(name, unit) for name, unit in units.items())
