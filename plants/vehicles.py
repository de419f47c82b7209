"""Vehicles that roll without slipping: three-wheeled robots and the kinematic bicycle."""

import casadi as ca
import numpy as np

from plants.task import origin, task
from rlctrl.errors import strict
from rlctrl.plant import Plant, Signal


def _pose(position_max):
    return [
        Signal("x", "m", -position_max, position_max),
        Signal("y", "m", -position_max, position_max),
        Signal("heading", "rad", -np.pi, np.pi, periodic=True),
    ]


@task(at=origin(3, 2), dt=0.1, gamma=0.98, Q=(1.0, 1.0, 0.1), R=(0.01, 0.01))
@strict
def three_wheeled_robot(noise=0.05, turn_noise=0.05, position_max=5.0, speed_max=25.0, turn_max=5.0) -> Plant:
    """x' = v cos θ, y' = v sin θ, θ' = ω: the unicycle, or nonholonomic integrator; inputs speed v and turn rate ω.

    `noise` m per √s along the heading, `turn_noise` rad per √s; bounds in m, m/s, rad/s. Equilibrium: at the origin, no speed, no turn.
    """

    def diffusion(x, _, p):
        return ca.horzcat(p.noise * ca.vertcat(ca.cos(x[2]), ca.sin(x[2]), 0), ca.vertcat(0, 0, p.turn_noise))

    return Plant(
        name="three_wheeled_robot",
        states=_pose(position_max),
        inputs=[Signal("speed", "m/s", -speed_max, speed_max), Signal("turn_rate", "rad/s", -turn_max, turn_max)],
        drift=lambda x, u, p: ca.vertcat(u[0] * ca.cos(x[2]), u[0] * ca.sin(x[2]), u[1]),
        diffusion=diffusion,
        params={"noise": noise, "turn_noise": turn_noise},
        units={"noise": "m/√s", "turn_noise": "rad/√s"},
        source="Brockett, Asymptotic stability and feedback stabilization, 1983; regelum-control, class ThreeWheeledRobotNI, 2023",
    )


@task(at=origin(5, 2), dt=0.1, gamma=0.98, Q=(1.0, 1.0, 0.1, 0.05, 0.05), R=(0.001, 0.001))
@strict
def three_wheeled_robot_dynamic(
    mass=10.0, inertia=1.0, noise=0.5, turn_noise=0.1, position_max=5.0, speed_max=5.0, turn_max=5.0, force_max=25.0, torque_max=5.0
) -> Plant:
    """The unicycle pushed and turned: mass·v' = force, inertia·ω' = torque (extended nonholonomic double integrator).

    `mass` kg, `inertia` kg m², `noise` N per √Hz on the force, `turn_noise` N m per √Hz on the torque; bounds in m, m/s, rad/s, N, N m.
    Equilibrium: at rest at the origin, no force, no torque.
    """
    return Plant(
        name="three_wheeled_robot_dynamic",
        states=[
            *_pose(position_max),
            Signal("speed", "m/s", -speed_max, speed_max),
            Signal("turn_rate", "rad/s", -turn_max, turn_max),
        ],
        inputs=[Signal("force", "N", -force_max, force_max), Signal("torque", "N m", -torque_max, torque_max)],
        drift=lambda x, u, p: ca.vertcat(x[3] * ca.cos(x[2]), x[3] * ca.sin(x[2]), x[4], u[0] / p.mass, u[1] / p.inertia),
        diffusion=lambda x, u, p: ca.vertcat(ca.SX(3, 2), ca.diag(ca.vertcat(p.noise / p.mass, p.turn_noise / p.inertia))),
        params={"mass": mass, "inertia": inertia, "noise": noise, "turn_noise": turn_noise},
        units={"mass": "kg", "inertia": "kg m²", "noise": "N √s", "turn_noise": "N m √s"},
        source="Abbasi, ur Rehman & Shah, Backstepping based nonlinear adaptive control for the extended nonholonomic double "
        "integrator, Kybernetika 53(4), 2017; regelum-control, class ThreeWheeledRobot, 2023",
    )


@task(at=origin(4, 2), dt=0.1, gamma=0.98, Q=(0.1, 1.0, 1.0, 0.1), R=(0.1, 1.0))
@strict
def bicycle(
    front=1.105, rear=1.738, noise=0.2, turn_noise=0.02, position_max=50.0, speed_max=20.0, acceleration_max=3.0, steering_max=0.6
) -> Plant:
    """Kinematic bicycle about the centre of mass: x' = v cos(ψ + β), y' = v sin(ψ + β), ψ' = v sin β / rear, v' = acceleration.

    β = atan(rear·tan(steering)/(front + rear)). `front`, `rear` m from the centre of mass to the axles; `noise` m/s per √s on the speed,
    `turn_noise` rad per √s on the heading; bounds in m, m/s, m/s², rad. Equilibrium: parked at the origin, wheels straight.
    """

    def drift(x, u, p):
        slip = ca.atan(p.rear * ca.tan(u[1]) / (p.front + p.rear))
        return ca.vertcat(x[3] * ca.cos(x[2] + slip), x[3] * ca.sin(x[2] + slip), x[3] * ca.sin(slip) / p.rear, u[0])

    return Plant(
        name="bicycle",
        states=[*_pose(position_max), Signal("speed", "m/s", -speed_max, speed_max)],
        inputs=[
            Signal("acceleration", "m/s²", -acceleration_max, acceleration_max),
            Signal("steering", "rad", -steering_max, steering_max),
        ],
        drift=drift,
        diffusion=lambda x, u, p: ca.vertcat(ca.SX(2, 2), ca.diag(ca.vertcat(p.turn_noise, p.noise))),
        params={"front": front, "rear": rear, "noise": noise, "turn_noise": turn_noise},
        units={"front": "m", "rear": "m", "noise": "m/(s √s)", "turn_noise": "rad/√s"},
        source="Kong, Pfeiffer, Schildbach & Borrelli, Kinematic and dynamic vehicle models for autonomous driving control design, IV 2015",
    )
