"""Classic-control tasks of Gymnasium as discrete-time maps: equal to its environments step by step, noise apart.

Gymnasium rounds what it returns (and MountainCarContinuous its state) to single precision; these keep doubles.
"""

import casadi as ca
import numpy as np

from plants.cart_pole import accelerations
from plants.task import origin, task
from rlctrl.errors import strict
from rlctrl.noise import Gaussian
from rlctrl.plant import Plant, Signal

SOURCE = "Towers et al., Gymnasium: a standard interface for reinforcement learning environments, 2024, environment "


def _clip(value, bound):
    return ca.fmax(-bound, ca.fmin(bound, value))


@task(
    at=origin(2),
    dt=0.05,
    gamma=0.98,
    reward=lambda x, u, p: -(x[0] ** 2 + 0.1 * x[1] ** 2 + 0.001 * u[0] ** 2),
)
@strict
def gym_pendulum(mass=1.0, length=1.0, gravity=10.0, step=0.05, noise=0.0, torque_max=2.0, speed_max=8.0) -> Plant:
    """Pendulum-v1: a uniform rod, ω₊ = clip(ω + step·(3g/(2l) sin θ + 3/(m l²)·(torque + noise·w))), θ₊ = θ + step·ω₊.

    `mass` kg, `length` m, `gravity` m/s², `step` s, `noise` N m (standard deviation of the torque per step), bounds in N m and rad/s.
    Equilibrium: upright (θ = 0) at rest, no torque.
    """

    def update(x, u, w, p):
        push = 3 * p.gravity / (2 * p.length) * ca.sin(x[0]) + 3 / (p.mass * p.length**2) * (u[0] + p.noise * w[0])
        omega = _clip(x[1] + p.step * push, speed_max)
        return ca.vertcat(x[0] + p.step * omega, omega)

    return Plant(
        name="gym_pendulum",
        states=[Signal("theta", "rad", -np.pi, np.pi, periodic=True), Signal("omega", "rad/s", -speed_max, speed_max)],
        inputs=[Signal("torque", "N m", -torque_max, torque_max)],
        update=update,
        noise=Gaussian(1),
        params={"mass": mass, "length": length, "gravity": gravity, "step": step, "noise": noise},
        units={"mass": "kg", "length": "m", "gravity": "m/s²", "step": "s", "noise": "N m"},
        source=SOURCE + "Pendulum-v1",
    )


@task(
    at=lambda p: ([-np.pi / 6, 0.0], [0.0]),
    dt=1.0,
    gamma=0.999,
    reward=lambda x, u, p: -0.1 * u[0] ** 2,
    target=lambda x, p: ca.fmax(0.45 - x[0], -x[1]),
    exit_value=lambda x, p: 100 / 0.999,  # Gymnasium pays 100 in the step that arrives, before the discount
)
@strict
def gym_mountain_car(power=0.0015, slope=0.0025, noise=0.0, force_max=1.0, speed_max=0.07) -> Plant:
    """MountainCarContinuous-v0: v₊ = clip(v + power·(force + noise·w) − slope·cos 3x), x₊ = clip(x + v₊), stopped at the left wall.

    `power`, `slope` per step², `noise` the standard deviation of the force per step; one step is the unit of time. The goal is x ≥ 0.45
    with v ≥ 0. Equilibrium: at rest in the valley, x = −π/6, no force.
    """

    def update(x, u, w, p):
        speed = _clip(x[1] + p.power * (u[0] + p.noise * w[0]) - p.slope * ca.cos(3 * x[0]), speed_max)
        position = ca.fmax(-1.2, ca.fmin(0.6, x[0] + speed))
        return ca.vertcat(position, ca.if_else(position <= -1.2, ca.fmax(speed, 0), speed))

    return Plant(
        name="gym_mountain_car",
        states=[Signal("position", "1", -1.2, 0.6), Signal("velocity", "1", -speed_max, speed_max)],
        inputs=[Signal("force", "1", -force_max, force_max)],
        update=update,
        noise=Gaussian(1),
        params={"power": power, "slope": slope, "noise": noise},
        units={"power": "1/step²", "slope": "1/step²", "noise": "1"},
        source=SOURCE + "MountainCarContinuous-v0 (after Moore, PhD thesis, Cambridge, 1990)",
    )


@task(
    at=origin(4),
    dt=0.02,
    gamma=0.99,
    reward=lambda x, u, p: 1.0,
    target=lambda x, p: ca.fmin(2.4 - ca.fabs(x[0]), np.pi / 15 - ca.fabs(x[2])),
)
@strict
def gym_cart_pole(
    cart_mass=1.0, pole_mass=0.1, half_length=0.5, gravity=9.8, step=0.02, noise=0.0, force=10.0, speed_max=10.0, spin_max=10.0
) -> Plant:
    """CartPole-v1: one explicit Euler step of the cart-pole, pushed left or right by `force` N, with `noise` N (standard deviation).

    `cart_mass`, `pole_mass` kg, `half_length` m, `gravity` m/s², `step` s; bounds in m/s and rad/s (Gymnasium has none). It ends beyond
    2.4 m or 12°; the box is twice that. Equilibrium: the pole upright, the cart at rest, force zero, which the input cannot take.
    """

    def update(x, u, w, p):
        pushed, turned = accelerations(x, u[0] + p.noise * w[0], p)
        return x + p.step * ca.vertcat(x[1], pushed, x[3], turned)

    return Plant(
        name="gym_cart_pole",
        states=[
            Signal("position", "m", -4.8, 4.8),
            Signal("speed", "m/s", -speed_max, speed_max),
            Signal("theta", "rad", -2 * np.pi / 15, 2 * np.pi / 15),
            Signal("omega", "rad/s", -spin_max, spin_max),
        ],
        inputs=[Signal("force", "N", values=(-force, force))],
        update=update,
        noise=Gaussian(1),
        params={
            "cart_mass": cart_mass,
            "pole_mass": pole_mass,
            "half_length": half_length,
            "gravity": gravity,
            "step": step,
            "noise": noise,
        },
        units={"cart_mass": "kg", "pole_mass": "kg", "half_length": "m", "gravity": "m/s²", "step": "s", "noise": "N"},
        source=SOURCE + "CartPole-v1",
    )
