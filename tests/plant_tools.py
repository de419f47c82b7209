"""What the tests of plants share: points of the box, and the sampled problem as a NumPy function (no XLA)."""

import casadi as ca
import numpy as np


def box_points(plant, count=200, seed=0):
    """Random states and inputs of the box."""
    rng = np.random.default_rng(seed)
    return tuple(
        rng.uniform(*np.array([(s.low, s.high) for s in signals]).T, (count, len(signals))) for signals in (plant.states, plant.inputs)
    )


def inner_start(plant):
    """A state and an input that the box surrounds on all sides."""
    x, u = (np.array([(s.low, s.high) for s in signals]) for signals in (plant.states, plant.inputs))
    return x @ [0.45, 0.55], u @ [0.45, 0.55]


def stepper(problem):
    """(x, u, w) → next state of the sampled problem before its exit rule, arrays (rows, …)."""
    x, u, w, p, following, _ = problem.symbolic()
    step = ca.Function("step", [x, u, w, p], [following])
    return lambda x, u, w: np.array(step(x.T, u.T, w.T, problem.plant.parameter_vector)).T
