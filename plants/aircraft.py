"""Short-period motion of the F-16 as used in adaptive dynamic programming: continuous, and the sampled model of the zero-sum papers."""

import casadi as ca

from plants.task import origin, task
from rlctrl.errors import strict
from rlctrl.noise import Gaussian
from rlctrl.plant import Plant, Signal

SHORT_PERIOD = ((-1.01887, 0.90506, -0.00215), (0.82225, -1.07741, -0.17555), (0.0, 0.0, -1.0))
SAMPLED = ((0.906488, 0.0816012, -0.0005), (0.0741349, 0.90121, -0.000708383), (0.0, 0.0, 0.132655))
SAMPLED_INPUT = (-0.00150808, -0.0096, 0.867345)
SAMPLED_GUST = (0.00951892, 0.00038373, 0.0)


def _states(angle_max, rate_max, elevator_max):
    return [
        Signal("alpha", "rad", -angle_max, angle_max),
        Signal("pitch_rate", "rad/s", -rate_max, rate_max),
        Signal("elevator", "deg", -elevator_max, elevator_max),
    ]


@task(at=origin(3), dt=0.05, gamma=1.0, Q=(1.0, 1.0, 1.0), R=(1.0,))
@strict
def f16(A=SHORT_PERIOD, noise=0.0, angle_max=2.0, rate_max=2.0, elevator_max=2.0, command_max=5.0) -> Plant:
    """x' = A x + (0, 0, 1)ᵀ u: angle of attack, pitch rate, elevator, the command passing a first-order actuator of 1 s.

    `A` (3, 3) per s; `noise` rad per √s on the angle of attack (gusts); bounds in rad, rad/s, deg. Without discount and noise the cost
    ∫ x'x + u² dt has the value x'Px, P = (1.424522 1.168193 −.135232; · 1.434940 −.150103; · · .432928). Equilibrium: the origin, u = 0.
    """
    return Plant(
        name="f16",
        states=_states(angle_max, rate_max, elevator_max),
        inputs=[Signal("command", "deg", -command_max, command_max)],
        drift=lambda x, u, p: p.A @ x + ca.vertcat(0, 0, u[0]),
        diffusion=lambda x, u, p: ca.vertcat(p.noise, 0, 0),
        params={"A": A, "noise": noise},
        units={"A": "1/s", "noise": "rad/√s"},
        source="Vamvoudakis & Lewis, Online actor-critic algorithm, Automatica 46(5), 2010, §5.1; Stevens & Lewis, Aircraft Control "
        "and Simulation, 2003",
    )


@task(at=origin(3), dt=0.1, gamma=1.0, Q=(1.0, 1.0, 1.0), R=(1.0,))
@strict
def f16_discrete(
    A=SAMPLED, B=SAMPLED_INPUT, E=SAMPLED_GUST, noise=0.0, angle_max=2.0, rate_max=2.0, elevator_max=2.0, command_max=5.0
) -> Plant:
    """X₊ = A X + B u + noise·E w: the short-period motion every 0.1 s with a gust, actuator of 20.2 rad/s.

    `A` (3, 3), `B` (3,), `E` (3,) as printed; `noise` is the standard deviation of the gust per step, without unit; bounds in rad, rad/s,
    deg. Printed A[1, 2] and B[0] are not those of the sampled continuous model (−.00704 and −.00044 there); the rest is, to rounding.
    Equilibrium: the origin, u = 0.
    """
    return Plant(
        name="f16_discrete",
        states=_states(angle_max, rate_max, elevator_max),
        inputs=[Signal("command", "deg", -command_max, command_max)],
        update=lambda x, u, w, p: p.A @ x + p.B * u[0] + p.noise * p.E * w[0],
        noise=Gaussian(1),
        params={"A": A, "B": B, "E": E, "noise": noise},
        units={"A": "1", "B": "1", "E": "1", "noise": "1"},
        source="Al-Tamimi, Lewis & Abu-Khalaf, Model-free Q-learning designs for linear discrete-time zero-sum games with application "
        "to H-infinity control, Automatica 43(3), 2007",
    )
