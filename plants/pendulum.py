"""Torque-limited pendulums, the angle measured from the upright."""

import casadi as ca
import numpy as np

from plants.task import origin, task
from rlctrl.errors import strict
from rlctrl.plant import Plant, Signal


def _swing(speed_max):
    return [Signal("theta", "rad", -np.pi, np.pi, periodic=True), Signal("omega", "rad/s", -speed_max, speed_max)]


@task(at=origin(2), dt=0.05, gamma=0.98, Q=(1.0, 0.02), R=(0.02,))
@strict
def pendulum(mass=1.0, length=1.0, gravity=9.81, damping=0.1, noise=0.2, torque_max=5.0, speed_max=8.0) -> Plant:
    """m l² θ'' = m g l sin θ − damping·θ' + torque, and torque noise of `noise` N m per √Hz (N m √s).

    `mass` kg, `length` m, `gravity` m/s², `damping` N m s, bounds in N m and rad/s. θ = 0 is upright and unstable, ±π hangs down.
    Equilibrium: upright at rest, no torque.
    """
    return Plant(
        name="pendulum",
        states=_swing(speed_max),
        inputs=[Signal("torque", "N m", -torque_max, torque_max)],
        drift=lambda x, u, p: ca.vertcat(
            x[1],
            p.gravity / p.length * ca.sin(x[0]) + (u[0] - p.damping * x[1]) / (p.mass * p.length**2),
        ),
        diffusion=lambda x, u, p: ca.vertcat(0, p.noise / (p.mass * p.length**2)),
        params={"mass": mass, "length": length, "gravity": gravity, "damping": damping, "noise": noise},
        units={"mass": "kg", "length": "m", "gravity": "m/s²", "damping": "N m s", "noise": "N m √s"},
        source="Doya, Reinforcement learning in continuous time and space, Neural Computation 12(1), 2000, §5.1",
    )


@task(at=origin(2), dt=0.02, gamma=0.99, Q=(1.0, 0.02), R=(1.0,))
@strict
def pendulum_friction(mass=0.127, length=0.337, gravity=9.81, friction=0.08, noise=0.01, torque_max=0.2, speed_max=20.0) -> Plant:
    """A uniform rod with quadratic friction: θ'' = (m g l sin θ / 2 + torque)/J − friction·θ'|θ'|, J = m l²/3.

    `mass` kg, `length` m, `gravity` m/s², `friction` 1/rad, `noise` N m per √Hz on the torque, bounds in N m and rad/s. The numbers are
    those of a small rotary test stand. Equilibrium: upright at rest, no torque.
    """
    return Plant(
        name="pendulum_friction",
        states=_swing(speed_max),
        inputs=[Signal("torque", "N m", -torque_max, torque_max)],
        drift=lambda x, u, p: ca.vertcat(
            x[1],
            (p.mass * p.gravity * p.length / 2 * ca.sin(x[0]) + u[0]) / (p.mass * p.length**2 / 3) - p.friction * x[1] * ca.fabs(x[1]),
        ),
        diffusion=lambda x, u, p: ca.vertcat(0, p.noise / (p.mass * p.length**2 / 3)),
        params={"mass": mass, "length": length, "gravity": gravity, "friction": friction, "noise": noise},
        units={"mass": "kg", "length": "m", "gravity": "m/s²", "friction": "1/rad", "noise": "N m √s"},
        source="regelum-control, class InvertedPendulumWithFriction, github.com/osinenkop/regelum-control, 2024",
    )


@task(at=origin(3), dt=0.02, gamma=0.99, Q=(1.0, 0.02, 0.0), R=(1.0,))
@strict
def pendulum_motor(
    mass=0.127,
    length=0.337,
    gravity=9.81,
    motor_mass=0.1,
    motor_radius=0.04,
    motor_time=0.05,
    noise=0.01,
    torque_max=0.5,
    speed_max=20.0,
) -> Plant:
    """A uniform rod on a motor that follows its command with a lag: J θ'' = m g l sin θ / 2 + τ, motor_time·τ' = command − τ.

    J = m l²/3 + motor_mass·motor_radius²/2. `mass`, `motor_mass` kg, `length`, `motor_radius` m, `gravity` m/s², `motor_time` s, `noise`
    N m per √Hz on the torque at the rod, bounds in N m (command and torque) and rad/s. Equilibrium: upright at rest, no torque.
    """

    def inertia(p):
        return p.mass * p.length**2 / 3 + p.motor_mass * p.motor_radius**2 / 2

    return Plant(
        name="pendulum_motor",
        states=[*_swing(speed_max), Signal("torque", "N m", -torque_max, torque_max)],
        inputs=[Signal("command", "N m", -torque_max, torque_max)],
        drift=lambda x, u, p: ca.vertcat(
            x[1],
            (p.mass * p.gravity * p.length / 2 * ca.sin(x[0]) + x[2]) / inertia(p),
            (u[0] - x[2]) / p.motor_time,
        ),
        diffusion=lambda x, u, p: ca.vertcat(0, p.noise / inertia(p), 0),
        params={
            "mass": mass,
            "length": length,
            "gravity": gravity,
            "motor_mass": motor_mass,
            "motor_radius": motor_radius,
            "motor_time": motor_time,
            "noise": noise,
        },
        units={
            "mass": "kg",
            "length": "m",
            "gravity": "m/s²",
            "motor_mass": "kg",
            "motor_radius": "m",
            "motor_time": "s",
            "noise": "N m √s",
        },
        source="regelum-control, class InvertedPendulumWithMotor, github.com/osinenkop/regelum-control, 2024",
    )
