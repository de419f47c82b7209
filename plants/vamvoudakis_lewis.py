"""Nonlinear benchmark of adaptive dynamic programming with a known optimal value (A1)."""

import casadi as ca

from plants.task import origin, task
from rlctrl.errors import strict
from rlctrl.plant import Plant, Signal


@task(at=origin(2), dt=0.01, gamma=1.0, Q=(1.0, 1.0), R=(1.0,))
@strict
def vamvoudakis_lewis(noise=0.0, state_max=2.0, input_max=10.0) -> Plant:
    """x1' = −x1 + x2, x2' = −x1/2 − x2/2·(1 − (cos 2x1 + 2)²) + (cos 2x1 + 2)·u, with `noise` per √s on x2.

    Without noise and discount, the cost ∫ x1² + x2² + u² dt has the value x1²/2 + x2² and the optimal input −(cos 2x1 + 2)·x2.
    Dimensionless. Equilibrium: the origin, u = 0.
    """

    def drift(x, u, _):
        gain = ca.cos(2 * x[0]) + 2
        return ca.vertcat(-x[0] + x[1], -0.5 * x[0] - 0.5 * x[1] * (1 - gain**2) + gain * u[0])

    return Plant(
        name="vamvoudakis_lewis",
        states=[Signal("x1", "1", -state_max, state_max), Signal("x2", "1", -state_max, state_max)],
        inputs=[Signal("u", "1", -input_max, input_max)],
        drift=drift,
        diffusion=lambda x, u, p: ca.vertcat(0, p.noise),
        params={"noise": noise},
        units={"noise": "1/√s"},
        source="Vamvoudakis & Lewis, Online actor-critic algorithm to solve the continuous-time infinite horizon optimal control "
        "problem, Automatica 46(5), 2010, §5.2",
    )
