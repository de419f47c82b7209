"""Quadrotors: in the plane with two rotors, and in space with Euler angles."""

import casadi as ca
import numpy as np

from plants.task import task
from rlctrl.errors import strict
from rlctrl.plant import Plant, Signal


def _box(bound, unit, *names):
    return [Signal(name, unit, -bound, bound) for name in names]


@task(
    at=lambda p: ([0.0] * 6, [p.mass * p.gravity / 2] * 2),
    dt=0.02,
    gamma=0.99,
    Q=(1.0, 1.0, 0.5, 0.1, 0.1, 0.05),
    R=(0.02, 0.02),
)
@strict
def planar_quadrotor(
    mass=0.5,
    inertia=0.004,
    arm=0.25,
    gravity=9.81,
    noise=0.05,
    position_max=2.0,
    angle_max=1.5,
    speed_max=5.0,
    spin_max=10.0,
    thrust_max=6.0,
) -> Plant:
    """m x'' = −(T1 + T2) sin θ, m z'' = (T1 + T2) cos θ − m g, J θ'' = arm·(T1 − T2), with wind of `noise` N per √Hz in x and z.

    `mass` kg, `inertia` kg m², `arm` m, `gravity` m/s²; bounds in m, rad, m/s, rad/s, N. The default numbers are those of a small indoor
    vehicle, rounded. Equilibrium: hovering level at the origin, each rotor carrying half the weight.
    """
    return Plant(
        name="planar_quadrotor",
        states=[
            *_box(position_max, "m", "x", "z"),
            Signal("theta", "rad", -min(angle_max, np.pi), min(angle_max, np.pi)),
            *_box(speed_max, "m/s", "v_x", "v_z"),
            Signal("omega", "rad/s", -spin_max, spin_max),
        ],
        inputs=[Signal(f"thrust{k}", "N", 0, thrust_max) for k in (1, 2)],
        drift=lambda x, u, p: ca.vertcat(
            x[3:],
            -(u[0] + u[1]) * ca.sin(x[2]) / p.mass,
            (u[0] + u[1]) * ca.cos(x[2]) / p.mass - p.gravity,
            p.arm * (u[0] - u[1]) / p.inertia,
        ),
        diffusion=lambda x, u, p: p.noise / p.mass * ca.vertcat(ca.SX(3, 2), ca.SX.eye(2), ca.SX(1, 2)),
        params={"mass": mass, "inertia": inertia, "arm": arm, "gravity": gravity, "noise": noise},
        units={"mass": "kg", "inertia": "kg m²", "arm": "m", "gravity": "m/s²", "noise": "N √s"},
        source="Tedrake, Underactuated Robotics, 2023, ch. 3 (planar quadrotor)",
    )


def _axis(angles):
    """The body's z axis in the world for roll, pitch, yaw: the third column of Rz(yaw) Ry(pitch) Rx(roll)."""
    roll, pitch, yaw = ca.vertsplit(angles)
    return ca.vertcat(
        ca.cos(yaw) * ca.sin(pitch) * ca.cos(roll) + ca.sin(yaw) * ca.sin(roll),
        ca.sin(yaw) * ca.sin(pitch) * ca.cos(roll) - ca.cos(yaw) * ca.sin(roll),
        ca.cos(pitch) * ca.cos(roll),
    )


def _euler_rates(angles, rates):
    """Rates of roll, pitch, yaw from the body rates; singular at a pitch of ±90°."""
    roll, pitch, _ = ca.vertsplit(angles)
    sideways = rates[1] * ca.sin(roll) + rates[2] * ca.cos(roll)
    return ca.vertcat(rates[0] + sideways * ca.tan(pitch), rates[1] * ca.cos(roll) - rates[2] * ca.sin(roll), sideways / ca.cos(pitch))


@task(
    at=lambda p: ([0.0] * 12, [p.mass * p.gravity, 0.0, 0.0, 0.0]),
    dt=0.02,
    gamma=0.99,
    Q=(1.0,) * 3 + (0.1,) * 3 + (0.5,) * 3 + (0.05,) * 3,
    R=(0.02, 1.0, 1.0, 1.0),
)
@strict
def quadrotor(
    mass=0.65,
    inertia_x=0.0075,
    inertia_y=0.0075,
    inertia_z=0.013,
    gravity=9.81,
    noise=0.05,
    position_max=2.0,
    speed_max=5.0,
    angle_max=1.2,
    spin_max=10.0,
    thrust_max=15.0,
    torque_max=0.5,
) -> Plant:
    """Rigid body in space: m p'' = thrust·R e_z − m g e_z, J ω' = torque − ω × J ω, with wind of `noise` N per √Hz along each axis.

    States: position and velocity in the world, roll, pitch, yaw (R = Rz Ry Rx), body rates. Inputs: thrust, three torques. `mass` kg,
    `inertia_x`, `inertia_y`, `inertia_z` kg m², `gravity` m/s²; bounds in m, m/s, rad, rad/s, N, N m; roll and pitch stay short of the
    singularity at 90°. Equilibrium: hovering level at the origin, thrust = m g, no torque.
    """

    def drift(x, u, p):
        angles, rates = x[6:9], x[9:12]
        inertia = ca.vertcat(p.inertia_x, p.inertia_y, p.inertia_z)
        push = u[0] / p.mass * _axis(angles) - ca.vertcat(0, 0, p.gravity)
        return ca.vertcat(x[3:6], push, _euler_rates(angles, rates), (u[1:4] - ca.cross(rates, inertia * rates)) / inertia)

    tilt = min(angle_max, 1.5)
    return Plant(
        name="quadrotor",
        states=[
            *_box(position_max, "m", "x", "y", "z"),
            *_box(speed_max, "m/s", "v_x", "v_y", "v_z"),
            *_box(tilt, "rad", "roll", "pitch"),
            Signal("yaw", "rad", -np.pi, np.pi, periodic=True),
            *_box(spin_max, "rad/s", "rate_x", "rate_y", "rate_z"),
        ],
        inputs=[Signal("thrust", "N", 0, thrust_max), *_box(torque_max, "N m", "torque_x", "torque_y", "torque_z")],
        drift=drift,
        diffusion=lambda x, u, p: p.noise / p.mass * ca.vertcat(ca.SX(3, 3), ca.SX.eye(3), ca.SX(6, 3)),
        params={
            "mass": mass,
            "inertia_x": inertia_x,
            "inertia_y": inertia_y,
            "inertia_z": inertia_z,
            "gravity": gravity,
            "noise": noise,
        },
        units={"mass": "kg", "inertia_x": "kg m²", "inertia_y": "kg m²", "inertia_z": "kg m²", "gravity": "m/s²", "noise": "N √s"},
        source="Mahony, Kumar & Corke, Multirotor aerial vehicles, IEEE Robotics & Automation Magazine 19(3), 2012; mass and inertia of "
        "OS4: Bouabdallah, Design and control of quadrotors, PhD thesis 3727, EPFL, 2007",
    )
