"""Plant in which the input enters as a cube, with a known optimal value (A5)."""

import casadi as ca

from plants.task import origin, task
from rlctrl.errors import strict
from rlctrl.plant import Plant, Signal


@task(
    at=origin(2),
    dt=0.01,
    gamma=1.0,
    reward=lambda x, u, p: -(x[0] ** 4 + 2 * (x[0] + x[1]) ** 2 + 0.75 * u[0] ** 4),
)
@strict
def bian_jiang(noise=0.0, state_max=2.0, input_max=3.0) -> Plant:
    """x1' = −x1³/2 − x1 − 2x2, x2' = x2³/8 − x2 + u³/2, with `noise` per √s on x2. Dimensionless.

    Without noise and discount, the cost ∫ x1⁴ + 2(x1 + x2)² + ¾u⁴ dt has the value x1² + x2² and the optimal input −x2.
    Equilibrium: the origin, u = 0.
    """
    return Plant(
        name="bian_jiang",
        states=[Signal("x1", "1", -state_max, state_max), Signal("x2", "1", -state_max, state_max)],
        inputs=[Signal("u", "1", -input_max, input_max)],
        drift=lambda x, u, p: ca.vertcat(-0.5 * x[0] ** 3 - x[0] - 2 * x[1], x[1] ** 3 / 8 - x[1] + 0.5 * u[0] ** 3),
        diffusion=lambda x, u, p: ca.vertcat(0, p.noise),
        params={"noise": noise},
        units={"noise": "1/√s"},
        source="Bian & Jiang, Reinforcement learning and adaptive optimal control for continuous-time nonlinear systems: a value "
        "iteration approach, IEEE Trans. Neural Networks and Learning Systems 33(7), 2022",
    )
