"""Two links in a vertical plane: the acrobot (a double pendulum with a motor at the elbow) and the arm with two motors.

θ1 is measured from the upright, θ2 from the first link. M(θ) θ'' = torque − damping·θ' − C(θ, θ') − G(θ).
"""

import casadi as ca
import numpy as np

from plants.task import origin, task
from rlctrl.errors import strict
from rlctrl.plant import Plant, Signal

SHAPE = ("mass1", "mass2", "length1", "centre1", "centre2", "inertia1", "inertia2", "gravity", "damping", "noise")
UNITS: dict[str, str] = dict(zip(SHAPE, ("kg", "kg", "m", "m", "m", "kg m²", "kg m²", "m/s²", "N m s", "N m √s"), strict=True))


def gravity_torque(x, p):
    """G = ∂U/∂θ of the potential energy U = (m1 c1 + m2 l1) g cos θ1 + m2 c2 g cos(θ1 + θ2)."""
    elbow = -p.mass2 * p.centre2 * p.gravity * ca.sin(x[0] + x[1])
    return [elbow - (p.mass1 * p.centre1 + p.mass2 * p.length1) * p.gravity * ca.sin(x[0]), elbow]


def mass_matrix(x, p):
    """M11, M12, M22 about the joints."""
    m22 = p.inertia2 + p.mass2 * p.centre2**2
    m12 = m22 + p.mass2 * p.length1 * p.centre2 * ca.cos(x[1])
    m11 = p.inertia1 + p.mass1 * p.centre1**2 + p.mass2 * p.length1**2 + 2 * m12 - m22
    return m11, m12, m22


def _solve(x, torque, p):
    """M⁻¹ torque."""
    m11, m12, m22 = mass_matrix(x, p)
    determinant = m11 * m22 - m12**2
    return ca.vertcat(m22 * torque[0] - m12 * torque[1], m11 * torque[1] - m12 * torque[0]) / determinant


def _drift(x, torque, p):
    weight = gravity_torque(x, p)
    whirl = p.mass2 * p.length1 * p.centre2 * ca.sin(x[1])
    spin = (-whirl * x[3] * (2 * x[2] + x[3]), whirl * x[2] ** 2)
    left = [torque[k] - p.damping * x[2 + k] - spin[k] - weight[k] for k in (0, 1)]
    return ca.vertcat(x[2], x[3], _solve(x, left, p))


def _states(spin1_max, spin2_max):
    return [
        Signal("theta1", "rad", -np.pi, np.pi, periodic=True),
        Signal("theta2", "rad", -np.pi, np.pi, periodic=True),
        Signal("omega1", "rad/s", -spin1_max, spin1_max),
        Signal("omega2", "rad/s", -spin2_max, spin2_max),
    ]


@task(at=origin(4), dt=0.02, gamma=0.99, Q=(1.0, 1.0, 0.05, 0.05), R=(0.05,))
@strict
def acrobot(
    mass1=1.0,
    mass2=1.0,
    length1=1.0,
    centre1=0.5,
    centre2=0.5,
    inertia1=1.0,
    inertia2=1.0,
    gravity=9.8,
    damping=0.0,
    noise=0.1,
    torque_max=1.0,
    spin1_max=4 * np.pi,
    spin2_max=9 * np.pi,
) -> Plant:
    """Double pendulum with a motor at the elbow; the default numbers are those of Gymnasium's Acrobot-v1.

    `mass1`, `mass2` kg; `length1` m; `centre1`, `centre2` m from joint to centre of mass; `inertia1`, `inertia2` kg m² about the centres;
    `gravity` m/s²; `damping` N m s at both joints; `noise` N m per √Hz on the motor; bounds in N m, rad/s.
    Equilibrium: both links upright at rest, no torque.
    """
    numbers = (mass1, mass2, length1, centre1, centre2, inertia1, inertia2, gravity, damping, noise)
    return Plant(
        name="acrobot",
        states=_states(spin1_max, spin2_max),
        inputs=[Signal("torque", "N m", -torque_max, torque_max)],
        drift=lambda x, u, p: _drift(x, (0, u[0]), p),
        diffusion=lambda x, u, p: p.noise * ca.vertcat(0, 0, _solve(x, (0, 1), p)),
        params=dict(zip(SHAPE, numbers, strict=True)),
        units=UNITS,
        source="Sutton & Barto, Reinforcement Learning, 1998, §11.3; Spong, The swing up control problem for the acrobot, 1995",
    )


def _reaching(p, posture=(np.pi / 4, np.pi / 2, 0.0, 0.0)):
    """Rest at 45° with the elbow at a right angle: the motors carry the weight."""
    return posture, gravity_torque(posture, p)


@task(at=_reaching, dt=0.02, gamma=0.99, Q=(1.0, 1.0, 0.05, 0.05), R=(0.001, 0.001))
@strict
def two_link_arm(
    mass1=1.0,
    mass2=1.0,
    length1=1.0,
    centre1=0.5,
    centre2=0.5,
    inertia1=1 / 12,
    inertia2=1 / 12,
    gravity=9.81,
    damping=0.1,
    noise=0.5,
    torque1_max=40.0,
    torque2_max=20.0,
    spin_max=10.0,
) -> Plant:
    """Arm of two uniform rods with a motor at each joint.

    `mass1`, `mass2` kg; `length1` m; `centre1`, `centre2` m from joint to centre of mass; `inertia1`, `inertia2` kg m² about the centres;
    `gravity` m/s²; `damping` N m s at both joints; `noise` N m per √Hz on each motor; bounds in N m, rad/s.
    Equilibrium: θ = (45°, 90°) at rest, the motors carrying the weight.
    """
    numbers = (mass1, mass2, length1, centre1, centre2, inertia1, inertia2, gravity, damping, noise)
    return Plant(
        name="two_link_arm",
        states=_states(spin_max, spin_max),
        inputs=[Signal("torque1", "N m", -torque1_max, torque1_max), Signal("torque2", "N m", -torque2_max, torque2_max)],
        drift=_drift,
        diffusion=lambda x, u, p: p.noise * ca.vertcat(ca.SX(2, 2), ca.horzcat(_solve(x, (1, 0), p), _solve(x, (0, 1), p))),
        params=dict(zip(SHAPE, numbers, strict=True)),
        units=UNITS,
        source="Spong, Hutchinson & Vidyasagar, Robot Modeling and Control, 2006, §7.3",
    )
