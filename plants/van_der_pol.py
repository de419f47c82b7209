"""Controlled Van der Pol oscillator."""

import casadi as ca

from plants.task import origin, task
from rlctrl.errors import strict
from rlctrl.plant import Plant, Signal


@task(at=origin(2), dt=0.05, gamma=0.98, Q=(1.0, 0.1), R=(0.1,))
@strict
def van_der_pol(mu=1.0, noise=0.1, position_max=3.0, velocity_max=4.0, input_max=2.0) -> Plant:
    """x'' = mu·(1 − x²)·x' − x + u, with `noise` per √s on the velocity. Dimensionless; the origin is unstable for mu > 0.

    Equilibrium: the origin, no input.
    """
    return Plant(
        name="van_der_pol",
        states=[Signal("position", "1", -position_max, position_max), Signal("velocity", "1/s", -velocity_max, velocity_max)],
        inputs=[Signal("input", "1/s²", -input_max, input_max)],
        drift=lambda x, u, p: ca.vertcat(x[1], p.mu * (1 - x[0] ** 2) * x[1] - x[0] + u[0]),
        diffusion=lambda x, u, p: ca.vertcat(0, p.noise),
        params={"mu": mu, "noise": noise},
        units={"mu": "1", "noise": "1/√s"},
        source="Khalil, Nonlinear Systems, 3rd ed., 2002, Example 2.6, with an input on the acceleration",
    )
