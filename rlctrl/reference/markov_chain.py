"""Finite differences of T4 as a controlled Markov chain on a grid (Kushner & Dupuis 2001, ch. 5), and their second-order twins.

b·∇V + ½ tr(a∇²V) ≈ Σ_j c_j(x,u)·(O_j V)(x): the c_j are those of `grid_hamiltonian`, the matrices O_j do not depend on u. `low` is the
monotone choice (first order), `high` the second-order one (three nodes along the drift, central second differences).

Exit rules at the walls: "clip" no flux out (reflection); "absorb" an exit at `EXIT_RATE` times the rate of one cell; "free" linear (low)
or quadratic (high) extrapolation, which is not monotone; "stop" no motion across.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

EXIT_RATE = 1e7  # per crossing time of a cell: V there is the exit value to about seven digits


@dataclass(frozen=True)
class Differences:
    """All O_j of low and of high order."""

    low: "Operators"
    high: "Operators"

    def blended(self, share) -> "Operators":
        """O_j with the share (S,) of the high order at each node."""
        if not np.any(share):
            return self.low
        parts = self.low.times(1 - share), self.high.times(share)
        places, columns, values = (np.concatenate([getattr(a, name) for a in parts]) for name in ("places", "columns", "values"))
        return Operators(places, columns, values, parts[0].out + parts[1].out)


@dataclass(frozen=True)
class Operators:
    """O_j as one list of entries: `places` (row·J + j), columns, values (equal places add up); `out` factors (S, J) of the exit value."""

    places: Any
    columns: Any
    values: Any
    out: Any

    def times(self, factor) -> "Operators":
        """The rows times a factor (S,)."""
        values = self.values * factor[self.rows]
        used = values != 0
        return Operators(self.places[used], self.columns[used], values[used], self.out * factor[:, None])

    @cached_property
    def rows(self):
        return self.places // self.out.shape[1]

    @cached_property
    def stay(self):
        """Minus the factors (S, J) of the node itself."""
        own = self.rows == self.columns
        return np.bincount(self.places[own], -self.values[own], self.out.size).reshape(self.out.shape)

    def apply(self, v, exit_value):
        """(O_j v)(x_i), (S, J)."""
        flat = np.bincount(self.places, self.values * v[self.columns], self.out.size)
        return flat.reshape(self.out.shape) + self.out * exit_value[:, None]

    def matrix(self, c):
        """Σ_j diag(c_j) O_j as a sparse matrix."""
        values = self.values * c.ravel()[self.places]
        used = values != 0
        size = len(self.out)
        return sparse.csr_matrix((values[used], (self.rows[used], self.columns[used])), (size, size))


def differences(grid, exit_rule, noise) -> Differences:
    """The operators of a uniform grid, in the order of `coefficients`, for noise with the entries `noise` of σσᵀ."""
    axes = [_Axis.make(a.size, float(a.widths[0]), a.period is not None, exit_rule) for a in grid.axes]
    turns, own, crossed = (1, -1), [k for k, i in noise if k == i], [pair for pair in noise if pair[0] != pair[1]]
    low = [_along(axes, k, a.up[::t, ::t], a.up_exit[::t]) for t in turns for k, a in enumerate(axes)]
    high = [_along(axes, k, a.up_high[::t, ::t], a.up_exit[::t]) for t in turns for k, a in enumerate(axes)]
    if noise:
        second = [_along(axes, k, axes[k].second, axes[k].second_exit) for k in own]
        sides = [_diagonal(axes, k, i, t, exit_rule) for k, i in crossed for t in turns]
        full = [_along(axes, k, axes[k].second_high, axes[k].second_exit) for k in own]
        cross = [(*_lift(axes, {k: axes[k].central, i: axes[i].central}), 0.0) for k, i in crossed]
        unused = (*np.zeros((2, 0), int), np.zeros(0), 0.0)
        low += second + sides + [unused] * len(full + cross)
        high += [unused] * len(second + sides) + full + cross
    return Differences(*(_collect(operators, grid.size) for operators in (low, high)))


@dataclass(frozen=True)
class _Axis:
    """Matrices of one axis: forward difference, second and (for mixed derivatives) central difference, shift; `exit` factors per node."""

    up: Any
    up_high: Any
    up_exit: Any
    second: Any
    second_high: Any
    second_exit: Any
    central: Any
    shift: Any
    step: float

    @classmethod
    def make(cls, size, h, turns, exit_rule):
        """Periodic matrices; on an axis that does not turn the rows at the walls are then overwritten."""
        one = np.eye(size)
        ahead, twice = np.roll(one, 1, 1), np.roll(one, 2, 1)
        up, up_high = (ahead - one) / h, (4 * ahead - 3 * one - twice) / (2 * h)
        second, central = (ahead - 2 * one + ahead.T) / h**2, (ahead - ahead.T) / (2 * h)
        up_exit, second_exit, second_high = np.zeros(size), np.zeros(size), second.copy()
        if turns:
            return cls(up, up_high, up_exit, second, second_high, second_exit, central, ahead, h)
        up_high[-2] = central[-2]
        up[-1] = up_high[-1] = ahead[-1] = second[-1] = second[0] = central[-1] = central[0] = 0.0
        if exit_rule == "clip":
            ahead[-1, -2] = 1.0
            second[-1, -2:], second[0, :2] = np.array([2.0, -2.0]) / h**2, np.array([-2.0, 2.0]) / h**2
        elif exit_rule == "absorb":
            up_exit[-1], second_exit[[0, -1]] = EXIT_RATE / h, EXIT_RATE / h**2
            up[-1, -1] = up_high[-1, -1] = -EXIT_RATE / h
            second[[0, -1], [0, -1]] = -EXIT_RATE / h**2
        elif exit_rule == "free":
            up[-1, -2:] = np.array([-1.0, 1.0]) / h
            up_high[-1, -3:] = central[-1, -3:] = np.array([1.0, -4.0, 3.0]) / (2 * h)
            central[0, :3] = np.array([-3.0, 4.0, -1.0]) / (2 * h)
        second_high[[0, -1]] = second_high[[1, -2]] if exit_rule == "free" else second[[0, -1]]
        return cls(up, up_high, up_exit, second, second_high, second_exit, central, ahead, h)


def _along(axes, k, matrix, out):
    """An operator of one axis on the whole grid, with its exit factors."""
    shape = [1] * len(axes)
    shape[k] = -1
    return *_lift(axes, {k: matrix}), np.broadcast_to(out.reshape(shape), [len(a.up) for a in axes]).ravel()


def _lift(axes, matrices):
    """Rows, columns and values of the Kronecker product with identities on the other axes."""
    rows, columns, values = np.zeros(1, int), np.zeros(1, int), np.ones(1)
    for k, axis in enumerate(axes):
        size = len(axis.up)
        row, column = np.nonzero(matrices[k]) if k in matrices else [np.arange(size)] * 2
        rows, columns = (np.add.outer(whole * size, part).ravel() for whole, part in ((rows, row), (columns, column)))
        values = np.multiply.outer(values, matrices[k][row, column] if k in matrices else np.ones(size)).ravel()
    return rows, columns, values


def _diagonal(axes, k, i, sign, exit_rule):
    """(V(++) + V(−−) − 2V)/2 per area, or with `sign` −1 the other diagonal. Walls: "absorb" exits at the rate of `EXIT_RATE` in place of
    each neighbour beyond, all others nothing if one is."""
    ahead, beside = axes[k].shift, axes[i].shift[::sign, ::sign]
    both = _lift(axes, {k: ahead, i: beside}), _lift(axes, {k: ahead[::-1, ::-1], i: beside[::-1, ::-1]})
    size = int(np.prod([len(a.up) for a in axes]))
    own = np.arange(size)
    rows, columns, values = (np.concatenate(parts) for parts in zip(*both, (own, own, np.full(size, -2.0)), strict=True))
    missing, absorbs = -np.bincount(rows, values, size), exit_rule == "absorb"
    values[-size:] -= (EXIT_RATE - 1) * missing
    scale = np.where((missing > 0) & (not absorbs), 0.0, 1.0) / (2 * axes[k].step * axes[i].step)
    return rows, columns, scale[rows] * values, EXIT_RATE * scale * missing


def _collect(operators, size) -> Operators:
    """One list of entries out of (rows, columns, values, exit factors)."""
    out, count = np.zeros((size, len(operators))), len(operators)
    for term, (*_, factor) in enumerate(operators):
        out[:, term] = factor
    places = np.concatenate([rows * count + term for term, (rows, *_) in enumerate(operators)])
    columns, values = (np.concatenate([operator[part] for operator in operators]) for part in (1, 2))
    return Operators(places, columns, values, out)
