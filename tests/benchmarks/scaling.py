"""Warm time of GridDP against grid size, number of states and noise nodes: the exponents of fitted power laws."""

import numpy as np

import plants
import rlctrl as rc
from tests.benchmarks.timing import median, once


def chain(n):
    """n first-order lags in a row, driven at the first."""
    A = -np.eye(n) + 0.5 * np.eye(n, k=-1)
    plant = plants.linear(A, np.eye(n)[:, :1], F=0.2 * np.eye(n)[:, :1], state_max=1.0, input_max=2.0)
    return rc.Problem(plant, rc.quadratic(np.ones(n), [0.1]), gamma=0.95, dt=0.1)


def timed(problem, repeat, **options):
    solve = lambda: rc.solve(problem, rc.GridDP(tolerance=1e-6, **options))
    once(solve)
    return median(solve, repeat)[0]


def exponent(sizes, seconds):
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def rows(repeat):
    sides = (51, 101, 201, 401)
    seconds = [timed(chain(2), repeat, shape=(n, n)) for n in sides]
    yield {
        "against": "nodes (two states)",
        "sizes": [n * n for n in sides],
        "seconds": seconds,
        "exponent": exponent(np.square(sides), seconds),
    }
    seconds = [timed(chain(d), repeat, shape=(15,) * d) for d in (1, 2, 3, 4)]
    yield {
        "against": "states (15 nodes each)",
        "sizes": [1, 2, 3, 4],
        "seconds": seconds,
        "factor_of_the_last_state": seconds[-1] / seconds[-2],
    }
    counts = (3, 6, 12, 24)
    seconds = [timed(chain(2), repeat, shape=(201, 201), quadrature=k) for k in counts]
    yield {"against": "noise nodes", "sizes": list(counts), "seconds": seconds, "exponent": exponent(counts, seconds)}
