"""Torque-limited pendulum, the angle measured from the upright."""

import casadi as ca
import numpy as np

from rlctrl.errors import strict
from rlctrl.plant import Plant, Signal


@strict
def pendulum(mass=1.0, length=1.0, gravity=9.81, damping=0.1, noise=0.2, torque_max=5.0, speed_max=8.0) -> Plant:
    """m l² θ'' = m g l sin θ − damping·θ' + torque, and torque noise of `noise` N m per √Hz (N m √s).

    `mass` kg, `length` m, `gravity` m/s², `damping` N m s, bounds in N m and rad/s. θ = 0 is upright and unstable, ±π hangs down.
    """
    return Plant(
        name="pendulum",
        states=[Signal("theta", "rad", -np.pi, np.pi, periodic=True), Signal("omega", "rad/s", -speed_max, speed_max)],
        inputs=[Signal("torque", "N m", -torque_max, torque_max)],
        drift=lambda x, u, p: ca.vertcat(
            x[1],
            p.gravity / p.length * ca.sin(x[0]) + (u[0] - p.damping * x[1]) / (p.mass * p.length**2),
        ),
        diffusion=lambda x, u, p: ca.vertcat(0, p.noise / (p.mass * p.length**2)),
        params={"mass": mass, "length": length, "gravity": gravity, "damping": damping, "noise": noise},
        source="Doya, Reinforcement learning in continuous time and space, Neural Computation 12(1), 2000, §5.1",
    )
