"""Two benchmarks of integral reinforcement learning with known optimal values (A2); the second is not quadratic."""

import casadi as ca

from plants.task import origin, task
from rlctrl.errors import strict
from rlctrl.plant import Plant, Signal

SOURCE = "Vrabie & Lewis, Neural network approach to continuous-time direct adaptive optimal control, Neural Networks 22(3), 2009, §6"


def _plant(name, drift, noise, state_max, input_max):
    return Plant(
        name=name,
        states=[Signal("x1", "1", -state_max, state_max), Signal("x2", "1", -state_max, state_max)],
        inputs=[Signal("u", "1", -input_max, input_max)],
        drift=drift,
        diffusion=lambda x, u, p: ca.vertcat(0, p.noise),
        params={"noise": noise},
        units={"noise": "1/√s"},
        source=SOURCE,
    )


@task(at=origin(2), dt=0.01, gamma=1.0, Q=(1.0, 1.0), R=(1.0,))
@strict
def vrabie_lewis_easy(noise=0.0, state_max=2.0, input_max=5.0) -> Plant:
    """x1' = −x1 + x2, x2' = −(x1 + x2)/2 + x2/2·sin² x1 + sin x1·u, with `noise` per √s on x2. Dimensionless.

    Without noise and discount, the cost ∫ x1² + x2² + u² dt has the value x1²/2 + x2² and the optimal input −sin x1·x2.
    Equilibrium: the origin, u = 0.
    """

    def drift(x, u, _):
        gain = ca.sin(x[0])
        return ca.vertcat(-x[0] + x[1], -0.5 * (x[0] + x[1]) + 0.5 * x[1] * gain**2 + gain * u[0])

    return _plant("vrabie_lewis_easy", drift, noise, state_max, input_max)


@task(
    at=origin(2),
    dt=0.01,
    gamma=1.0,
    reward=lambda x, u, p: -(x[0] ** 2 + x[1] ** 2 + 2 * x[1] ** 4 + u[0] ** 2),
)
@strict
def vrabie_lewis_hard(noise=0.0, state_max=2.0, input_max=20.0) -> Plant:
    """x1' = −x1 + x2 + 2x2³, x2' = −(x1 + x2)/2 + x2/2·(1 + 2x2²) sin² x1 + sin x1·u, with `noise` per √s on x2. Dimensionless.

    Without noise and discount, the cost ∫ x1² + x2² + 2x2⁴ + u² dt has the value x1²/2 + x2² + x2⁴ and the optimal input
    −sin x1·(x2 + 2x2³). Equilibrium: the origin, u = 0.
    """

    def drift(x, u, _):
        gain = ca.sin(x[0])
        stiff = 1 + 2 * x[1] ** 2
        return ca.vertcat(-x[0] + x[1] * stiff, -0.5 * (x[0] + x[1]) + 0.5 * x[1] * stiff * gain**2 + gain * u[0])

    return _plant("vrabie_lewis_hard", drift, noise, state_max, input_max)
