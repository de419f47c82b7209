"""Duffing oscillator."""

import casadi as ca

from plants.task import origin, task
from rlctrl.errors import strict
from rlctrl.plant import Plant, Signal


@task(at=origin(2), dt=0.05, gamma=0.98, Q=(1.0, 0.1), R=(0.1,))
@strict
def duffing(damping=0.3, stiffness=-1.0, cubic=1.0, noise=0.1, position_max=2.0, velocity_max=2.0, input_max=1.0) -> Plant:
    """x'' = −damping·x' − stiffness·x − cubic·x³ + u, with `noise` per √s on the velocity. Dimensionless.

    A negative `stiffness` makes two wells at ±√(−stiffness/cubic). Equilibrium: the origin, u = 0 (a saddle between the wells).
    """
    return Plant(
        name="duffing",
        states=[Signal("position", "1", -position_max, position_max), Signal("velocity", "1/s", -velocity_max, velocity_max)],
        inputs=[Signal("force", "1/s²", -input_max, input_max)],
        drift=lambda x, u, p: ca.vertcat(x[1], -p.damping * x[1] - p.stiffness * x[0] - p.cubic * x[0] ** 3 + u[0]),
        diffusion=lambda x, u, p: ca.vertcat(0, p.noise),
        params={"damping": damping, "stiffness": stiffness, "cubic": cubic, "noise": noise},
        units={"damping": "1", "stiffness": "1", "cubic": "1", "noise": "1/√s"},
        source="Guckenheimer & Holmes, Nonlinear Oscillations, Dynamical Systems, and Bifurcations of Vector Fields, 1983, §2.2",
    )
