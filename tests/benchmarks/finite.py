"""The stochastic pendulum, n² states × 41 inputs × 5 noise nodes, to 1e-6: from Problem to V.

Our own solve also gives the coarser grids, the error statement and a policy; the peers get the same transitions, built by vectorised
CasADi and NumPy, and solve the finite problem alone. V agrees to 1e-5 or the row fails.
"""

import os
import tempfile
from dataclasses import replace
from importlib.util import find_spec

import casadi as ca
import numpy as np
from scipy import sparse

import plants
import rlctrl as rc
from tests.benchmarks.timing import in_fresh_process, median, once

INPUTS, NOISE, GAMMA = 41, 5, 0.98


def problem():
    plant = plants.pendulum()
    torque = plant.inputs[0]
    values = tuple(np.linspace(torque.low, torque.high, INPUTS))
    plant = replace(plant, inputs=(rc.Signal(torque.name, torque.unit, values=values),))
    return rc.Problem(plant, lambda x, u: -(1 - ca.cos(x[0])) - 0.01 * x[1] ** 2 - 0.01 * u[0] ** 2, gamma=GAMMA, dt=0.05)


def ours(n):
    return rc.solve(problem(), rc.GridDP(shape=(n, n), quadrature=NOISE, tolerance=2e-8))


def tables(n):
    """(rewards (S·A,), transitions (S·A, S)) as a peer's user would build them."""
    made = problem()
    grid = rc.GridDP(shape=(n, n)).grids(made)[-1]
    states, values = grid.points(), np.array(made.plant.inputs[0].values)
    x, u = np.repeat(states, INPUTS, 0), np.tile(values, len(states))[:, None]
    xs, us, ws, ps, following, reward = made.symbolic()
    step = ca.Function("step", [xs, us, ws, ps], [following, reward])
    low, high = (np.array([getattr(s, side) for s in made.plant.states]) for side in ("low", "high"))
    rows, columns, weights, gain = [], [], [], None
    for node, mass in zip(*made.plant.law.quadrature(NOISE), strict=True):
        after, gain = step(x.T, u.T, np.tile(node[:, None], (1, len(x))), made.plant.parameter_vector)
        after = np.array(after).T
        after[:, 0] = low[0] + np.mod(after[:, 0] - low[0], high[0] - low[0])
        after[:, 1] = np.clip(after[:, 1], low[1], high[1])
        index, weight = grid.stencil(after)
        rows.append(np.repeat(np.arange(len(x)), 4))
        columns.append(index.ravel())
        weights.append(mass * weight.ravel())
    parts = np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))
    return np.array(gain).ravel(), sparse.csr_matrix(parts, shape=(len(x), len(states)))


def quantecon(n, method):
    from quantecon.markov import DiscreteDP

    reward, transitions = tables(n)
    size = transitions.shape[1]
    found = DiscreteDP(reward, transitions, GAMMA, np.repeat(np.arange(size), INPUTS), np.tile(np.arange(INPUTS), size))
    return found.solve(method=method, **({"epsilon": 1e-6} if method != "policy_iteration" else {})).v


def toolbox(n):
    from mdptoolbox.mdp import PolicyIterationModified

    reward, transitions = tables(n)
    size = transitions.shape[1]
    P = [transitions[a::INPUTS] for a in range(INPUTS)]
    found = PolicyIterationModified(P, reward.reshape(size, INPUTS), GAMMA, epsilon=1e-6)
    found.run()
    return np.array(found.V)


SET_UP = "from tests.benchmarks import finite; from tests.benchmarks.timing import growth_gib, once; "
MEMORY = SET_UP + "print(growth_gib(lambda: finite.{call}))"
COLD = SET_UP + "print(once(lambda: finite.ours({n}))[0])"


def rows(repeat):
    for n in (101, 201):
        with tempfile.TemporaryDirectory() as empty:
            fresh = {**os.environ, "JAX_COMPILATION_CACHE_DIR": empty, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
            (cold,) = in_fresh_process(COLD.format(n=n), fresh)
            (second,) = in_fresh_process(COLD.format(n=n), fresh)
        once(lambda n=n: ours(n))
        warm, reference = median(lambda n=n: ours(n), repeat)
        (memory,) = in_fresh_process(MEMORY.format(call=f"ours({n})"))
        row = {"grid": f"{n}²", "cold_s": cold, "second_process_s": second, "warm_s": warm, "memory_gib": memory}
        if not find_spec("quantecon"):
            yield row | {"quantecon": "not installed"}
            continue
        seconds = {m: median(lambda n=n, m=m: quantecon(n, m), repeat) for m in ("modified_policy_iteration", "policy_iteration")}
        gaps = [float(np.max(np.abs(v - np.asarray(reference.value.coefficients)))) for _, v in seconds.values()]
        if max(gaps) > 1e-5:
            raise AssertionError(f"V differs by {max(gaps)}")
        peer = min(s for s, _ in seconds.values())
        (theirs,) = in_fresh_process(MEMORY.format(call=f"quantecon({n}, 'modified_policy_iteration')"))
        row |= {"quantecon_s": peer, "ratio_warm": peer / warm, "ratio_second_process": peer / second, "ratio_cold": peer / cold}
        row |= {"quantecon_memory_gib": theirs, "memory_ratio": theirs / memory, "V_differs_by": max(gaps)}
        if find_spec("mdptoolbox") and n == 101:
            slow, _ = once(lambda n=n: toolbox(n))
            row |= {"pymdptoolbox_s": slow, "ratio_pymdptoolbox": slow / warm}
        yield row
