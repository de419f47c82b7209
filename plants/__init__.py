"""Plants by name: `plants.names()`, `plants.get("pendulum", noise=0.1)`, or `plants.pendulum(noise=0.1)`.

Each file holds one plant or one close family, in CasADi, with units and source. Parameters are keywords with defaults in SI units.
Every plant has an equilibrium and a default problem: `rc.Problem(**plants.defaults("pendulum"))`, `plants.equilibrium("pendulum")`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from plants.aircraft import f16, f16_discrete
from plants.bian_jiang import bian_jiang
from plants.cart_pole import cart_pole
from plants.cstr import cstr
from plants.dc_motor import dc_motor
from plants.doyle import doyle
from plants.duffing import duffing
from plants.economics import car_replacement, growth, merton
from plants.gym import gym_cart_pole, gym_mountain_car, gym_pendulum
from plants.linear import linear
from plants.lunar_lander import lunar_lander
from plants.nevistic_primbs import nevistic_primbs
from plants.pendulum import pendulum, pendulum_friction, pendulum_motor
from plants.point import double_integrator, kinematic_point
from plants.power_system import power_system
from plants.quadrotor import planar_quadrotor, quadrotor
from plants.tanks import quadruple_tank, two_tank
from plants.task import TASKS, Default, default_of
from plants.two_link import acrobot, two_link_arm
from plants.vamvoudakis_lewis import vamvoudakis_lewis
from plants.van_der_pol import van_der_pol
from plants.vehicles import bicycle, three_wheeled_robot, three_wheeled_robot_dynamic
from plants.vrabie_lewis import vrabie_lewis_easy, vrabie_lewis_hard
from rlctrl.errors import nearest, require, strict
from rlctrl.plant import Plant

PLANTS: dict[str, Callable[..., Plant]] = {
    f.__name__: f
    for f in (
        acrobot, bian_jiang, bicycle, car_replacement, cart_pole, cstr, dc_motor, double_integrator, doyle, duffing, f16, f16_discrete,
        growth, gym_cart_pole, gym_mountain_car, gym_pendulum, kinematic_point, linear, lunar_lander, merton, nevistic_primbs, pendulum,
        pendulum_friction, pendulum_motor, planar_quadrotor, power_system, quadrotor, quadruple_tank, three_wheeled_robot,
        three_wheeled_robot_dynamic, two_link_arm, two_tank, vamvoudakis_lewis, van_der_pol, vrabie_lewis_easy, vrabie_lewis_hard,
    )
}  # fmt: skip


def names() -> list[str]:
    """Names of all plants."""
    return sorted(PLANTS)


@strict
def get(name: str, **parameters) -> Plant:
    """The plant of that name with some parameters changed. Raises `InputError` for an unknown name or parameter."""
    require(isinstance(name, str) and name in PLANTS, "name", "must be one of the plants", name, nearest(name, PLANTS))
    return PLANTS[name](**parameters)


@strict
def default(name: str, **parameters) -> Default:
    """That plant with its default problem: fields plant, reward(x, u), gamma, dt, exit, equilibrium, exit_value, target."""
    return default_of(get(name, **parameters), TASKS[name])


@strict
def defaults(name: str, **parameters) -> dict[str, Any]:
    """The default problem as keywords: `rc.Problem(**plants.defaults("pendulum", noise=0.1))`."""
    return default(name, **parameters).problem


@strict
def equilibrium(name: str, **parameters) -> tuple[np.ndarray, np.ndarray]:
    """(x, u) at which the plant rests: drift(x, u) = 0, or update(x, u, mean of w) = x."""
    return default(name, **parameters).equilibrium


__all__ = [
    "PLANTS", "TASKS", "Default", "default", "defaults", "equilibrium", "get", "names", "acrobot", "bian_jiang", "bicycle",
    "car_replacement", "cart_pole", "cstr", "dc_motor", "double_integrator", "doyle", "duffing", "f16", "f16_discrete", "growth",
    "gym_cart_pole", "gym_mountain_car", "gym_pendulum", "kinematic_point", "linear", "lunar_lander", "merton", "nevistic_primbs",
    "pendulum", "pendulum_friction", "pendulum_motor", "planar_quadrotor", "power_system", "quadrotor", "quadruple_tank",
    "three_wheeled_robot", "three_wheeled_robot_dynamic", "two_link_arm", "two_tank", "vamvoudakis_lewis", "van_der_pol",
    "vrabie_lewis_easy", "vrabie_lewis_hard",
]  # fmt: skip
