"""Lunar lander in the plane."""

import casadi as ca
import numpy as np

from plants.task import task
from rlctrl.errors import strict
from rlctrl.plant import Plant, Signal


def _touch_down(x, _):
    """What it costs to end: off the pad, fast or tilted, and by the square of the height where it leaves the box elsewhere."""
    return -(x[0] ** 2 + 10 * x[1] ** 2 + 20 * x[2] ** 2 + 10 * (x[3] ** 2 + x[4] ** 2) + 20 * x[5] ** 2)


@task(
    at=lambda p: ([0.0, 5.0, 0.0, 0.0, 0.0, 0.0], [0.0, p.mass * p.gravity]),
    dt=0.1,
    gamma=0.99,
    reward=lambda x, u, p: -(0.1 * x[0] ** 2 + 0.1 * x[1] ** 2 + x[2] ** 2 + 0.1 * ca.sumsqr(x[3:]) + 1e-3 * ca.sumsqr(u)),
    exit="absorb",
    exit_value=_touch_down,
)
@strict
def lunar_lander(
    mass=10.0,
    inertia=3.0,
    gravity=1.62,
    lever=4.0,
    noise=0.3,
    position_max=10.0,
    height_max=20.0,
    angle_max=1.5,
    speed_max=10.0,
    spin_max=4.0,
    side_max=10.0,
    thrust_max=50.0,
) -> Plant:
    """A rigid body with a main engine along its axis and a side thruster at `lever` above its centre, both fixed to the body.

    m x'' = side·cos θ − thrust·sin θ, m y'' = side·sin θ + thrust·cos θ − m g, J θ'' = lever·side. `mass` kg, `inertia` kg m², `gravity`
    m/s², `lever` m, `noise` N per √Hz on both forces; bounds in m, rad, m/s, rad/s, N. y is the height above touch-down: by default the
    problem ends where the lander leaves the box, the ground y = 0 included. Equilibrium: hovering at 5 m (or any height), thrust = m g.
    """

    def drift(x, u, p):
        sine, cosine = ca.sin(x[2]), ca.cos(x[2])
        across, up = (u[0] * cosine - u[1] * sine) / p.mass, (u[0] * sine + u[1] * cosine) / p.mass - p.gravity
        return ca.vertcat(x[3:], across, up, p.lever * u[0] / p.inertia)

    def diffusion(x, _, p):
        sine, cosine = ca.sin(x[2]), ca.cos(x[2])
        side = ca.vertcat(0, 0, 0, cosine / p.mass, sine / p.mass, p.lever / p.inertia)
        main = ca.vertcat(0, 0, 0, -sine / p.mass, cosine / p.mass, 0)
        return p.noise * ca.horzcat(side, main)

    return Plant(
        name="lunar_lander",
        states=[
            Signal("x", "m", -position_max, position_max),
            Signal("y", "m", 0, height_max),
            Signal("theta", "rad", -min(angle_max, np.pi), min(angle_max, np.pi)),
            Signal("v_x", "m/s", -speed_max, speed_max),
            Signal("v_y", "m/s", -speed_max, speed_max),
            Signal("omega", "rad/s", -spin_max, spin_max),
        ],
        inputs=[Signal("side_force", "N", -side_max, side_max), Signal("thrust", "N", 0, thrust_max)],
        drift=drift,
        diffusion=diffusion,
        params={"mass": mass, "inertia": inertia, "gravity": gravity, "lever": lever, "noise": noise},
        units={"mass": "kg", "inertia": "kg m²", "gravity": "m/s²", "lever": "m", "noise": "N √s"},
        source="University of Sydney, AMME3500 System dynamics and control, assignment 4, lunar lander; regelum-control, class "
        "LunarLander, 2023 (without its contact model)",
    )
