"""Stochastic cart-pole swing-up, four states, 41⁴ nodes × 21 inputs × 5 noise nodes, within 6 GiB."""

import casadi as ca

import plants
import rlctrl as rc
from tests.benchmarks.timing import once, peak_gib


def rows(repeat, nodes=41):  # noqa: ARG001 - minutes: once is enough
    reward = lambda x, u: -(0.1 * x[0] ** 2 + 0.01 * x[1] ** 2 + 1 - ca.cos(x[2]) + 0.01 * x[3] ** 2 + 0.001 * u[0] ** 2)
    problem = rc.Problem(plants.cart_pole(), reward, gamma=0.98, dt=0.05)
    method = rc.GridDP(shape=(nodes,) * 4, inputs=21, quadrature=5, tolerance=1e-4, memory=6.0)
    seconds, found = once(lambda: rc.solve(problem, method))
    yield {"grid": f"{nodes}⁴", "seconds": seconds, "memory_gib": peak_gib(), "stated": found.error, "message": found.message}
