"""Van der Pol oscillator with a known optimal value (A3)."""

import casadi as ca

from plants.task import origin, task
from rlctrl.errors import strict
from rlctrl.plant import Plant, Signal


@task(at=origin(2), dt=0.01, gamma=1.0, Q=(0.0, 1.0), R=(1.0,))
@strict
def nevistic_primbs(noise=0.0, state_max=2.0, input_max=5.0) -> Plant:
    """x1' = x2, x2' = −x1 − x2/2·(1 − x1²) + x1·u, with `noise` per √s on x2. Dimensionless.

    Without noise and discount, the cost ∫ x2² + u² dt has the value x1² + x2² and the optimal input −x1·x2.
    Equilibrium: the origin, u = 0.
    """
    return Plant(
        name="nevistic_primbs",
        states=[Signal("x1", "1", -state_max, state_max), Signal("x2", "1", -state_max, state_max)],
        inputs=[Signal("u", "1", -input_max, input_max)],
        drift=lambda x, u, p: ca.vertcat(x[1], -x[0] - 0.5 * x[1] * (1 - x[0] ** 2) + x[0] * u[0]),
        diffusion=lambda x, u, p: ca.vertcat(0, p.noise),
        params={"noise": noise},
        units={"noise": "1/√s"},
        source="Nevistić & Primbs, Constrained nonlinear optimal control: a converse HJB approach, Caltech CIT-CDS 96-021, 1996",
    )
