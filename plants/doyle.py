"""Oscillator with a known optimal value that is no polynomial (A4)."""

import casadi as ca
import numpy as np

from plants.task import origin, task
from rlctrl.errors import strict
from rlctrl.plant import Plant, Signal


@task(at=origin(2), dt=0.01, gamma=1.0, Q=(0.0, 1.0), R=(1.0,))
@strict
def doyle(noise=0.0, state_max=2.0, input_max=8.0) -> Plant:
    """x1' = x2, x2' = −x1·(π/2 + atan 5x1) − 5x1²/(2(1 + 25x1²)) + 4x2 + 3u, with `noise` per √s on x2. Dimensionless.

    Without noise and discount, the cost ∫ x2² + u² dt has the value x1²·(π/2 + atan 5x1) + x2² and the optimal input −3x2.
    Equilibrium: the origin, u = 0.
    """

    def drift(x, u, _):
        spring = x[0] * (np.pi / 2 + ca.atan(5 * x[0])) + 5 * x[0] ** 2 / (2 * (1 + 25 * x[0] ** 2))
        return ca.vertcat(x[1], -spring + 4 * x[1] + 3 * u[0])

    return Plant(
        name="doyle",
        states=[Signal("x1", "1", -state_max, state_max), Signal("x2", "1", -state_max, state_max)],
        inputs=[Signal("u", "1", -input_max, input_max)],
        drift=drift,
        diffusion=lambda x, u, p: ca.vertcat(0, p.noise),
        params={"noise": noise},
        units={"noise": "1/√s"},
        source="Doyle, Primbs, Shapiro & Nevistić, Nonlinear games: examples and counterexamples, IEEE CDC, 1996",
    )
