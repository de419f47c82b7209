"""Double integrator: a mass on a frictionless line."""

import casadi as ca

from rlctrl.errors import strict
from rlctrl.plant import Plant, Signal


@strict
def double_integrator(mass=1.0, noise=0.1, position_max=2.0, velocity_max=2.0, force_max=5.0) -> Plant:
    """mass·q'' = force, with `noise` in m/s per √s on the velocity. `mass` in kg; bounds in m, m/s, N."""
    return Plant(
        name="double_integrator",
        states=[
            Signal("position", "m", -position_max, position_max),
            Signal("velocity", "m/s", -velocity_max, velocity_max),
        ],
        inputs=[Signal("force", "N", -force_max, force_max)],
        drift=lambda x, u, p: ca.vertcat(x[1], u[0] / p.mass),
        diffusion=lambda x, u, p: ca.vertcat(0, p.noise),
        params={"mass": mass, "noise": noise},
        source="Rao & Bernstein, Naive control of the double integrator, IEEE Control Systems 21(5), 2001",
    )
