"""A point on a line or in the plane: integrators."""

import casadi as ca

from plants.task import origin, task
from rlctrl.errors import strict
from rlctrl.plant import Plant, Signal


@task(at=origin(2), dt=0.1, gamma=0.98, Q=(1.0, 0.1), R=(0.1,))
@strict
def double_integrator(mass=1.0, noise=0.1, position_max=2.0, velocity_max=2.0, force_max=5.0) -> Plant:
    """mass·q'' = force, with `noise` in m/s per √s on the velocity. `mass` in kg; bounds in m, m/s, N.

    Equilibrium: at rest at the origin, no force.
    """
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
        units={"mass": "kg", "noise": "m/(s √s)"},
        source="Rao & Bernstein, Naive control of the double integrator, IEEE Control Systems 21(5), 2001",
    )


@task(at=origin(2, 2), dt=0.1, gamma=0.98, Q=(1.0, 1.0), R=(0.1, 0.1))
@strict
def kinematic_point(noise=0.1, position_max=5.0, velocity_max=10.0) -> Plant:
    """x' = v_x, y' = v_y: a point whose velocity is commanded, with `noise` in m per √s on both coordinates; bounds in m, m/s.

    Equilibrium: at the origin, no velocity.
    """
    return Plant(
        name="kinematic_point",
        states=[Signal("x", "m", -position_max, position_max), Signal("y", "m", -position_max, position_max)],
        inputs=[Signal("v_x", "m/s", -velocity_max, velocity_max), Signal("v_y", "m/s", -velocity_max, velocity_max)],
        drift=lambda x, u, p: u,
        diffusion=lambda x, u, p: p.noise * ca.SX.eye(2),
        params={"noise": noise},
        units={"noise": "m/√s"},
        source="regelum-control, class KinematicPoint, github.com/osinenkop/regelum-control, 2023",
    )
