"""Time to a given true error on smooth, stochastic, converse-optimal problems whose V* is known (reward-first recipe)."""

import statistics

import casadi as ca
import numpy as np

import plants
import rlctrl as rc
from rlctrl import converse
from tests.benchmarks.timing import median, once

RACE = {1: 577, 3: 15}  # nodes a side that bring either order just below a relative error of 1e-4
GRIDS = {1: (41, 81, 161, 321), 3: (13, 21, 41, 81), 5: (15, 21, 31, 41)}


def plane():
    """Two states: a noisy Van der Pol oscillator."""
    value = lambda x: -(x[0] ** 2 + 0.5 * ca.sin(x[0]) * x[1] + x[1] ** 2) - 0.1 * x[0] ** 4
    return converse.discrete(plants.van_der_pol(), value, lambda x: -x[0] - 2 * x[1], curvature=1.0, gamma=0.95, dt=0.05)


def four():
    """Four states: two coupled oscillators with one input."""
    A = [[0, 1, 0, 0], [-1, -0.5, 0.3, 0], [0, 0, 0, 1], [0.3, 0, -1, -0.5]]
    plant = plants.linear(A, [[0], [1], [0], [0.5]], F=0.1 * np.eye(4)[:, 1:2], state_max=1.0, input_max=3.0)
    value = lambda x: -(x.T @ x) - 0.3 * ca.sin(x[0]) * x[2] - 0.2 * ca.cos(x[1] + x[3])
    return converse.discrete(plant, value, lambda x: -x[1] - 0.5 * x[3], curvature=1.0, gamma=0.9, dt=0.05)


def exact(made):
    """Random states of the box and V* there."""
    problem, method = made
    low, high = np.array([(s.low, s.high) for s in problem.plant.states]).T
    x = np.random.default_rng(0).uniform(low, high, (3000, len(low)))
    return x, rc.solve(problem, method).V(x)


def race(made, x, v, repeat):
    """Linear against cubic interpolation at a relative error of 1e-4, both to a tolerance of 1e-6, in turns: a ratio compares times under
    about the same load."""
    row = {"states": 2, "relative_error": 1e-4}
    works = {
        order: lambda n=n, order=order: rc.solve(made[0], rc.GridDP(shape=(n, n), order=order, inputs=11, tolerance=1e-6))
        for order, n in RACE.items()
    }
    found = {order: work() for order, work in works.items()}
    turns = [{order: median(work, 1)[0] for order, work in works.items()} for _ in range(repeat)]
    for order, reference in found.items():
        row[f"order_{order}_s"] = statistics.median(turn[order] for turn in turns)
        row[f"order_{order}_error"] = float(np.max(np.abs(reference.V(x) - v)) / np.ptp(v))
    return row | {"ratio": row["order_1_s"] / row["order_3_s"]}


def rows(repeat):
    made = plane()
    x, v = exact(made)
    yield race(made, x, v, repeat)
    for order, grids in GRIDS.items():
        for n in grids:
            solve = lambda n=n, order=order: rc.solve(made[0], rc.GridDP(shape=(n, n), order=order, inputs=11))
            cold, _ = once(solve)
            warm, found = median(solve, repeat)
            error = float(np.max(np.abs(found.V(x) - v)) / np.ptp(v))
            stated = found.error / np.ptp(v)
            yield {"states": 2, "order": order, "nodes": n, "relative_error": error, "stated": stated, "warm_s": warm, "first_s": cold}
    made = four()
    x, v = exact(made)
    for order, n in ((1, 13), (1, 17), (3, 13)):
        seconds, found = once(lambda n=n, order=order: rc.solve(made[0], rc.GridDP(shape=(n,) * 4, order=order, inputs=5, quadrature=3)))
        error = float(np.max(np.abs(found.V(x) - v)) / np.ptp(v))
        yield {"states": 4, "order": order, "nodes": n, "relative_error": error, "stated": found.error / np.ptp(v), "first_s": seconds}
