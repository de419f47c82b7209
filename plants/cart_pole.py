"""Pole on a cart, the angle measured from the upright."""

import casadi as ca
import numpy as np

from plants.task import origin, task
from rlctrl.errors import strict
from rlctrl.plant import Plant, Signal


def accelerations(x, force, p):
    """(x'', θ'') of the frictionless cart-pole (Barto et al.)."""
    total = p.cart_mass + p.pole_mass
    sine, cosine = ca.sin(x[2]), ca.cos(x[2])
    push = (force + p.pole_mass * p.half_length * x[3] ** 2 * sine) / total
    turn = (p.gravity * sine - cosine * push) / (p.half_length * (4 / 3 - p.pole_mass * cosine**2 / total))
    return push - p.pole_mass * p.half_length * turn * cosine / total, turn


@task(at=origin(4), dt=0.02, gamma=0.99, Q=(0.5, 0.05, 1.0, 0.02), R=(0.01,))
@strict
def cart_pole(
    cart_mass=1.0,
    pole_mass=0.1,
    half_length=0.5,
    gravity=9.8,
    noise=0.5,
    force_max=10.0,
    track=2.4,
    speed_max=4.0,
    angle_max=np.pi,
    spin_max=8.0,
) -> Plant:
    """Frictionless cart-pole (Barto et al.'s equations) pushed by a force, with force noise of `noise` N per √Hz (N √s).

    `cart_mass`, `pole_mass` kg, `half_length` m (to the pole's centre), `gravity` m/s²; `force_max` N, `track` m either side, `speed_max`
    m/s, `angle_max` rad (π: the whole turn, a periodic state), `spin_max` rad/s. θ = 0 is upright and unstable.
    Equilibrium: the pole upright, the cart at rest in the middle, no force.
    """

    def drift(x, u, p):
        pushed, turned = accelerations(x, u[0], p)
        return ca.vertcat(x[1], pushed, x[3], turned)

    def diffusion(x, _, p):
        calm, pushed = accelerations(x, 0, p), accelerations(x, 1, p)
        return ca.vertcat(0, p.noise * (pushed[0] - calm[0]), 0, p.noise * (pushed[1] - calm[1]))

    whole = angle_max >= np.pi
    return Plant(
        name="cart_pole",
        states=[
            Signal("position", "m", -track, track),
            Signal("speed", "m/s", -speed_max, speed_max),
            Signal("theta", "rad", -min(angle_max, np.pi), min(angle_max, np.pi), periodic=bool(whole)),
            Signal("omega", "rad/s", -spin_max, spin_max),
        ],
        inputs=[Signal("force", "N", -force_max, force_max)],
        drift=drift,
        diffusion=diffusion,
        params={"cart_mass": cart_mass, "pole_mass": pole_mass, "half_length": half_length, "gravity": gravity, "noise": noise},
        units={"cart_mass": "kg", "pole_mass": "kg", "half_length": "m", "gravity": "m/s²", "noise": "N √s"},
        source="Barto, Sutton & Anderson, Neuronlike adaptive elements, IEEE Trans. SMC 13(5), 1983, appendix",
    )
