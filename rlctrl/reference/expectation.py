"""The expectation over additive noise applied to V once, W(y) = E V(y + Γw), instead of once per input."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse

from rlctrl.axis import make_axis
from rlctrl.grid import Grid, along, continued
from rlctrl.reference.rows import Rows

BLOCK = 10_000_000  # entries of a sparse matrix made at once
ENTRY = 12.0  # bytes of one that is kept


@dataclass(frozen=True, eq=False)
class Expectation:
    """E over additive noise: `apply` makes node values of V coefficients of W on `grid`."""

    grid: Grid
    apply: Callable


@dataclass(frozen=True, eq=False)
class Split:
    """The same without interpolation: `grid` has all places where W bends; `matrix` acts along one axis of the table of V."""

    grid: Grid
    matrix: Any
    shape: tuple[int, ...]
    axis: int

    def apply(self, values):
        """W at its nodes from V at those of its grid."""
        table = np.moveaxis(values.reshape(self.shape), self.axis, 0)
        found = self.matrix @ table.reshape(len(table), -1)
        return np.moveaxis(found.reshape(-1, *table.shape[1:]), 0, self.axis).reshape(-1)


@dataclass(frozen=True, eq=False)
class Shifts:
    """Γw (K, n) of additive noise at its nodes, and their masses (K,)."""

    moved: np.ndarray
    mass: np.ndarray

    @classmethod
    def of(cls, kernel, rule, u):
        """For a rule (nodes, masses), at any input u (m,)."""
        x, p, nodes = 0.5 * (np.asarray(kernel.low) + np.asarray(kernel.high)), np.asarray(kernel.p), rule[0]
        rest, *moved = kernel.update.numbers(x, u, np.concatenate([np.zeros_like(nodes[:1]), nodes]), p)
        return cls(np.array(moved) - rest, np.asarray(rule[1]))

    @functools.cached_property
    def by_axis(self):
        """Per axis the (shifts, masses) of a law under which the axes move independently; None if they do not."""
        scaled = [(column / (np.max(np.abs(column)) or 1.0)).round(12) for column in self.moved.T]
        apart = [np.unique(column, return_index=True, return_inverse=True) for column in scaled]
        counts = [len(values) for values, *_ in apart]
        if math.prod(counts) != len(self.mass):
            return None
        table = np.zeros(counts)
        np.add.at(table, tuple(place for *_, place in apart), self.mass)
        margins = [table.sum(tuple(i for i in range(len(counts)) if i != k)) for k in range(len(counts))]
        if not np.allclose(table, functools.reduce(np.multiply.outer, margins), rtol=0, atol=1e-15):
            return None
        return [(column[first], margin) for column, (_, first, _), margin in zip(self.moved.T, apart, margins, strict=True)]


def noise_first(bellman, shifts):
    """The operator with the expectation over additive noise applied once per sweep; as it was if that would need more than its `room`."""
    kernel, grid, moved = bellman.kernel, bellman.grid, shifts.moved
    extended = _extended(grid, np.abs(moved).max(0), kernel)
    if shifts.by_axis is not None:
        matrices = [_averaged(kernel, grid, extended, k, *law) for k, law in enumerate(shifts.by_axis)]
        return replace(bellman, expectation=Expectation(extended, lambda values: along(values, matrices)))
    width = [min(a.size, a.order + 2 + np.ptp(s) / np.min(a.widths)) for a, s in zip(grid.axes, moved.T, strict=True)]
    if ENTRY * math.prod(extended.shape) * math.prod(width) > bellman.room:
        return bellman
    matrix = _scattered(kernel, grid, extended, moved, shifts.mass)
    return replace(bellman, expectation=Expectation(extended, lambda values: extended.fit(matrix @ grid.fit(values))))


def _averaged(kernel, grid, extended, k, shifts, mass):
    """Along axis k: node values of V → the part of it in the coefficients of W."""
    axis, wide = grid.axes[k], extended.axes[k]
    mean = axis.matrix(_settled(kernel, axis, k, np.add.outer(shifts, wide.nodes)), mass[:, None])
    return mean if wide.order == 1 else wide.inverse @ mean


def _scattered(kernel, grid, extended, shifts, mass):
    """Coefficients of V → node values of W where axes move together, a block of rows at a time."""
    points, pieces = extended.points(), []
    width = len(mass) * (grid.order + 1) ** len(grid.axes)
    for rows in np.array_split(points, max(1, len(points) * width // BLOCK)):
        after = rows[:, None] + shifts
        after = np.stack([_settled(kernel, axis, k, after[..., k]) for k, axis in enumerate(grid.axes)], -1)
        index, weight = grid.stencil(after)
        start = np.arange(0, index.size + 1, width)
        entries = (mass[:, None] * weight).reshape(-1), index.reshape(-1), start
        piece = sparse.csr_array(entries, shape=(len(rows), grid.size))
        piece.sum_duplicates()
        pieces.append(piece)
    return sparse.vstack(pieces, format="csr")


def _settled(kernel, axis, k, y):
    """Coordinates y along axis k after the exit rule (a periodic axis turns them by itself)."""
    return np.clip(y, float(kernel.low[k]), float(kernel.high[k])) if kernel.exit == "clip" and axis.period is None else y


def split(bellman, shifts):
    """The operator of order 1 with W found exactly, if noise moves one axis and there are inputs enough; else as it was."""
    moving, mass = np.flatnonzero(np.any(shifts.moved != 0, 0)), shifts.mass
    if len(moving) != 1 or 2 * len(mass) > len(bellman.inputs.candidates):
        return bellman
    k, kernel, grid = int(moving[0]), bellman.kernel, bellman.grid
    axis, along_k = grid.axes[k], shifts.moved[:, k]
    bends = _bends(axis, along_k)
    after = _settled(kernel, axis, k, np.add.outer(bends, along_k))
    index, weight = Grid((axis,)).stencil(after[..., None])
    matrix = Rows.of(index.reshape(len(bends), -1), (weight * mass[:, None]).reshape(len(bends), -1), axis.size)
    axes = (*grid.axes[:k], make_axis(bends, 1, axis.period), *grid.axes[k + 1 :])
    return replace(bellman, expectation=Split(Grid(axes), matrix, grid.shape, k))


def _bends(axis, shifts):
    """Where Σ V(y + shift) bends along an axis on which V bends at the nodes."""
    places = np.subtract.outer(axis.nodes, shifts).ravel()
    places = np.sort(places if axis.period is None else axis.nodes[0] + np.mod(places - axis.nodes[0], axis.period))
    ends = np.append(places, np.inf if axis.period is None else places[0] + axis.period)
    return places[np.diff(ends) > 1e-14 * np.max(np.abs(places))]


def _extended(grid, reach, kernel):
    """The grid with whole cells added beyond its ends, where projection makes W differ from what extrapolation gives."""
    beyond = [kernel.exit == "clip" and axis.period is None for axis in grid.axes]
    parts = zip(grid.axes, reach, beyond, strict=True)
    return Grid(tuple(make_axis(continued(a.nodes, far, 1), a.order) if more else a for a, far, more in parts))
