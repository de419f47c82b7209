"""The expectation over additive noise applied to V once, W(y) = E V(y + Γw), instead of once per input."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from scipy import sparse

from rlctrl.axis import make_axis
from rlctrl.grid import Grid, continued
from rlctrl.reference.rows import Rows


@dataclass(frozen=True, eq=False)
class Expectation:
    """E over additive noise on node values: W = Σ_k mass_k V(constrained(y + shift_k)) at the nodes of `grid`."""

    grid: Grid
    matrix: Any

    def apply(self, coefficients):
        """Coefficients of W on its grid from those of V."""
        return self.grid.fit(self.matrix @ coefficients)


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


def noise_first(bellman):
    """The operator with the expectation over additive noise applied once per sweep."""
    kernel, grid, (nodes, mass) = bellman.kernel, bellman.grid, bellman.rule
    shifts = _shifts(kernel, nodes, bellman.inputs.candidates[0])
    extended = _extended(grid, np.abs(shifts).max(0), kernel)
    points = extended.points()
    found = [grid.stencil(np.asarray(_settled(kernel, points + shift))) for shift in shifts]
    index = np.concatenate([i for i, _ in found], -1)
    weight = np.concatenate([p * w for p, (_, w) in zip(np.asarray(mass), found, strict=True)], -1)
    start = np.arange(0, index.size + 1, index.shape[1])
    matrix = sparse.csr_array((weight.reshape(-1), index.reshape(-1), start), shape=(len(points), bellman.size))
    matrix.sum_duplicates()
    return replace(bellman, expectation=Expectation(extended, matrix))


def split(bellman):
    """The operator of order 1 with W found exactly, if noise moves one axis and there are inputs enough; else as it was."""
    shifts, mass = _shifts(bellman.kernel, bellman.rule[0], bellman.inputs.candidates[0]), np.asarray(bellman.rule[1])
    moved = np.flatnonzero(np.any(shifts != 0, 0))
    if len(moved) != 1 or 2 * len(mass) > len(bellman.inputs.candidates):
        return bellman
    k, kernel, grid = int(moved[0]), bellman.kernel, bellman.grid
    axis = grid.axes[k]
    bends = _bends(axis, shifts[:, k])
    after = np.add.outer(bends, shifts[:, k])
    if kernel.exit == "clip" and axis.period is None:
        after = np.clip(after, float(kernel.low[k]), float(kernel.high[k]))
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


@jax.jit
def _settled(kernel, x):
    return kernel.constrained(kernel.wrap(x))


def _extended(grid, reach, kernel):
    """The grid with whole cells added beyond its ends, where projection makes W differ from what extrapolation gives."""
    beyond = [kernel.exit == "clip" and axis.period is None for axis in grid.axes]
    parts = zip(grid.axes, reach, beyond, strict=True)
    return Grid(tuple(make_axis(continued(a.nodes, far, 1), a.order) if more else a for a, far, more in parts))


def _shifts(kernel, nodes, u):
    """Γw for every noise node, (K, n), of additive noise."""
    x, p = 0.5 * (np.asarray(kernel.low) + np.asarray(kernel.high)), np.asarray(kernel.p)
    rest, *moved = kernel.update.numbers(x, u, np.concatenate([np.zeros_like(nodes[:1]), nodes]), p)
    return np.array(moved) - rest
