"""The finite problem behind GridDP as plain tables, for solvers of Markov decision problems (QuantEcon, pymdptoolbox, madupite)."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from rlctrl.errors import require, strict
from rlctrl.problem import Problem
from rlctrl.reference.dp import GridDP, LevelSolver
from rlctrl.storage import write_whole

PETSC_MATRIX = 1211216  # what a PETSc binary file of a matrix begins with


@dataclass(frozen=True, eq=False)
class FiniteProblem:
    """States (S, n), inputs (A, m), rewards (S, A), and transitions, a sparse matrix (S·A, S) whose row s·A + a is the law of the next
    state. A row sums to less than one where the problem can end; what the end is worth, γ times, is in the reward."""

    states: np.ndarray
    inputs: np.ndarray
    rewards: np.ndarray
    transitions: sparse.csr_array
    gamma: float

    def closed(self) -> "FiniteProblem":
        """The same with rows that sum to one: where the problem can end, one more state (the last, of NaN coordinates) takes what is
        missing and keeps it, at no reward. Some solvers insist on it."""
        missing = 1 - self.transitions @ np.ones(len(self.rewards))
        if np.max(missing, initial=0.0) < 1e-9:
            return self
        (size, count), width = self.rewards.shape, self.states.shape[1]
        column = sparse.csr_array(np.maximum(missing, 0.0)[:, None])
        last = sparse.csr_array((np.ones(count), (np.arange(count), np.full(count, size))), shape=(count, size + 1))
        transitions: Any = sparse.csr_array(sparse.vstack([sparse.hstack([self.transitions, column]), last]))
        states, rewards = np.vstack([self.states, np.full((1, width), np.nan)]), np.vstack([self.rewards, np.zeros((1, count))])
        return replace(self, states=states, rewards=rewards, transitions=transitions)

    def pairs(self):
        """(R, Q, beta, s_indices, a_indices), the arguments of QuantEcon's `DiscreteDP` for state-action pairs."""
        size, count = self.rewards.shape
        states, actions = np.repeat(np.arange(size), count), np.tile(np.arange(count), size)
        return self.rewards.ravel(), sparse.csr_matrix(self.transitions), self.gamma, states, actions

    def save_petsc(self, folder) -> tuple[Path, Path]:
        """Write P.bin (S·A × S, row s·A + a) and g.bin (S × A, stage costs −r, to be minimised) into a folder, closed, in PETSc's binary
        format, which madupite loads. Returns the two paths; the discount factor is `gamma`."""
        whole, folder = self.closed(), Path(folder)
        for name, matrix in (("P.bin", whole.transitions), ("g.bin", sparse.csr_array(-whole.rewards))):
            data = _petsc(matrix)
            write_whole(folder / name, lambda file, data=data: file.write(data))
        return folder / "P.bin", folder / "g.bin"


def _petsc(matrix: Any) -> bytes:
    """A sparse matrix in PETSc's binary format: big-endian header, entries per row, columns, values."""
    matrix = sparse.csr_array(matrix)
    matrix.sort_indices()
    most = max(*matrix.shape, matrix.nnz)
    require(most < 2**31, "folder", "can hold matrices below 2^31 in size only (PETSc's 32-bit indices)", most, "Use a coarser grid.")
    whole = [np.array([PETSC_MATRIX, *matrix.shape, matrix.nnz]), np.diff(matrix.indptr), matrix.indices]
    return b"".join([*(part.astype(">i4").tobytes() for part in whole), matrix.data.astype(">f8").tobytes()])


@strict
def finite_problem(problem: Problem, method) -> FiniteProblem:
    """The tables of a problem on the finest grid of a `GridDP` method of order 1, with the candidates of its inputs (not refined).

    Needs S·A·K·2^n numbers, K noise nodes. Raises `InputError` for what gives no probabilities: splines, and next states beyond the grid
    that exit="free" extrapolates; and where plant or reward is no finite number.
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
    _check(problem, rewards, transitions.data)
    transitions.data = np.maximum(transitions.data, 0.0)  # a point on a node may lie 1e-16 beyond it
    return FiniteProblem(bellman.points, np.asarray(bellman.inputs.candidates), rewards, transitions, gamma)


def _check(problem, rewards, weights):
    odd = int(np.sum(~np.isfinite(rewards)))
    require(
        not odd, "problem", "must have finite rewards and next states at all nodes", f"{odd} others", "Move the box, or lower `margin`."
    )
    least = float(np.min(weights, initial=0.0))
    rule = "must not extrapolate beyond the grid, which takes weights below 0"
    require(least > -1e-9, "exit", rule, f"{problem.exit} ({least:.2g})", 'Use exit="clip" or "absorb", or a wider box.')
