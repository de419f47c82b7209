"""The finite problem behind GridDP as plain tables, for solvers of Markov decision problems (QuantEcon, pymdptoolbox, madupite)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from rlctrl.errors import require, strict
from rlctrl.reference.dp import GridDP, LevelSolver


@dataclass(frozen=True, eq=False)
class FiniteProblem:
    """States (S, n), inputs (A, m), rewards (S, A), and transitions, a sparse matrix (S·A, S) whose row s·A + a is the law of the next
    state. A row sums to less than one where the problem can end; what the end is worth, γ times, is in the reward."""

    states: np.ndarray
    inputs: np.ndarray
    rewards: np.ndarray
    transitions: sparse.csr_array
    gamma: float


@strict
def finite_problem(problem, method) -> FiniteProblem:
    """The tables of a problem on the finest grid of a `GridDP` method of order 1, with the candidates of its inputs (not refined).

    Needs S·A·K·2^n numbers, K noise nodes. Raises `InputError` for splines, which are no probabilities.
    """
    require(isinstance(method, GridDP), "method", "must be an rc.GridDP", method, "Pass rc.GridDP(shape=…).")
    require(method.order == 1, "order", "must be 1: weights of splines can be negative", method.order, "Use order=1.")
    solver = LevelSolver(method, problem, method.grids(problem), float("inf"))
    bellman = solver.bellman(solver.grids[-1])
    operators = [bellman.operator(np.tile(u, (bellman.size, 1))) for u in bellman.inputs.candidates]
    count, gamma = len(operators), float(problem.gamma)
    stacked: Any = sparse.csr_array(sparse.vstack([operator.matrix.whole for operator in operators]))
    order = np.arange(bellman.size * count).reshape(count, bellman.size).T.ravel()
    rewards = np.stack([operator.constant for operator in operators], 1)
    transitions = stacked[order] / gamma
    transitions.sum_duplicates()
    transitions.data = np.maximum(transitions.data, 0.0)  # a point on a node may lie 1e-16 beyond it
    return FiniteProblem(bellman.points, np.asarray(bellman.inputs.candidates), rewards, transitions, gamma)
