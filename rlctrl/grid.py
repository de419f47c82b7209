"""Tensor-product grids: geometry and spline interpolation, no values inside.

Order 1 is multilinear interpolation (monotone, a contraction). Orders 3 and 5 are interpolating splines with not-a-knot ends
(de Boor 2001, ch. XIII), periodic where the axis is. A table of node values becomes coefficients by `fit`; `evaluate` is then a local
sum of (order+1)^d terms. Beyond the last node the end piece is continued: extrapolation at the order of the scheme.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from rlctrl.axis import Axis, entries, make_axis, module_of
from rlctrl.tree import record

UNROLLED = 64  # terms of an interpolation that are written out; more are looped over


@record(arrays=("axes",))
@dataclass(frozen=True, eq=False)
class Grid:
    """Tensor product of axes."""

    axes: tuple[Axis, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(a.size for a in self.axes)

    @property
    def size(self) -> int:
        """Number of nodes."""
        return math.prod(self.shape)

    @property
    def order(self) -> int:
        return self.axes[0].order

    def points(self) -> np.ndarray:
        """All nodes, (prod(shape), d), last axis fastest."""
        mesh = np.meshgrid(*[np.asarray(a.nodes) for a in self.axes], indexing="ij")
        return np.stack([c.ravel() for c in mesh], -1)

    def node(self, number):
        """Coordinates (..., d) of nodes by their number (...) among the nodes proper, last axis fastest."""
        columns = []
        for axis in reversed(self.axes):
            columns.insert(0, entries(axis.nodes, number % axis.count))
            number = number // axis.count
        return jnp.stack(columns, -1)

    def padded(self, shape) -> "Grid":
        """The same grid in arrays for `shape` nodes a side; `embed` brings coefficients into that shape."""
        return Grid(tuple(axis.padded(size) for axis, size in zip(self.axes, shape, strict=True)))

    def with_order(self, order) -> "Grid":
        """The same nodes for splines of another order."""
        return Grid(tuple(make_axis(axis.nodes, order, axis.period) for axis in self.axes))

    def middles(self, low, high) -> "Grid":
        """The grid of order 1 through the middles of the cells between `low` and `high` (d,)."""
        kept = [a.middles[(a.middles >= lo) & (a.middles <= hi)] for a, lo, hi in zip(self.axes, low, high, strict=True)]
        return Grid(tuple(make_axis(nodes, 1, axis.period) for nodes, axis in zip(kept, self.axes, strict=True)))

    def embed(self, coefficients, shape) -> np.ndarray:
        """Coefficients of this grid as those of `padded(shape)`."""
        table = np.zeros(shape)
        table[tuple(slice(s) for s in self.shape)] = np.reshape(coefficients, self.shape)
        return table.reshape(-1)

    def fit(self, values):
        """Coefficients (prod(shape), ...) that interpolate node values (prod(shape), ...)."""
        return values if self.order == 1 else along(values, [axis.inverse for axis in self.axes])

    def resample(self, values, other) -> np.ndarray:
        """Interpolated values at the nodes of another grid, from node values; by one matrix an axis."""
        return np.asarray(along(np.asarray(values), [a.matrix(b.nodes) for a, b in zip(self.axes, other.axes, strict=True)]))

    def places(self, x):
        """Places (see `Axis.place`) of points x (..., d): one array (...) an axis."""
        return [axis.place(x[..., k]) for k, axis in enumerate(self.axes)]

    def stencil(self, x):
        """Flat coefficient numbers (as of `node`) and weights (..., (order+1)^d) for points x (..., d): precompute once, sum often."""
        index, weight = np.zeros(1, np.int32), np.ones(1)
        for axis, place in zip(self.axes, self.places(x), strict=True):
            i, w = axis.stencil(place)
            shape = (*place.shape, weight.shape[-1] * w.shape[-1])
            index = (index[..., :, None] * axis.count + i[..., None, :]).reshape(shape)
            weight = (weight[..., :, None] * w[..., None, :]).reshape(shape)
        return index, weight

    def evaluate(self, coefficients, x):
        """Interpolated value (...) at points x (..., d); trailing axes of `coefficients` beyond the first are carried along."""
        return self.evaluate_at(coefficients, self.places(x))

    def evaluate_at(self, coefficients, places):
        """The same at `places`."""
        terms = [axis.terms(place) for axis, place in zip(self.axes, places, strict=True)]
        table = jnp.asarray(coefficients)
        extra = (None,) * (table.ndim - 1)

        def added(total, corner):
            index, weight = _corner(corner, self.shape)
            return total + weight[(..., *extra)] * entries(table, index)

        side, start = self.order + 1, jnp.zeros(places[0].shape + table.shape[1:])
        if side ** len(self.axes) <= UNROLLED:
            for corner in itertools.product(*terms):
                start = added(start, corner)
            return start
        stacked = [tuple(map(jnp.stack, zip(*pairs, strict=True))) for pairs in terms[:-1]]

        def leading(number, total):
            corner = []
            for index, weight in reversed(stacked):
                corner.insert(0, (index[number % side], weight[number % side]))
                number = number // side
            for last in terms[-1]:
                total = added(total, (*corner, last))
            return total

        return lax.fori_loop(0, side ** (len(self.axes) - 1), leading, start)


def along(values, matrices):
    """Tables of values (prod(columns), ...) under one matrix (rows, columns) along each axis; each brings the next axis to the front."""
    xp: Any = module_of(values)
    table = values
    for matrix in matrices:
        table = xp.asarray(matrix).dot(table.reshape(matrix.shape[1], -1)).T  # faster than @ for small tables
    return table.reshape(*values.shape[1:], -1).T


def _corner(pairs, sides):
    """Flat index, in a table with that many entries a side, and weight of one pair (index, weight) an axis."""
    index, weight = pairs[0]
    for (i, w), side in zip(pairs[1:], sides[1:], strict=True):
        index, weight = index * side + i, weight * w
    return index, weight


def nearest_nodes(grid, other) -> np.ndarray:
    """For every node of another grid the number of the nearest node (along each axis) of this one."""
    index = [np.abs(np.subtract.outer(b.nodes, a.nodes)).argmin(1) for a, b in zip(grid.axes, other.axes, strict=True)]
    return np.ravel_multi_index(np.meshgrid(*index, indexing="ij"), grid.shape).ravel()


def corners(grid, other) -> tuple[np.ndarray, np.ndarray]:
    """For every node of another grid, not outside this one, the numbers of the first and of the last node of the cell that it lies in."""
    first = [np.searchsorted(a.nodes, b.nodes, "right") - 1 for a, b in zip(grid.axes, other.axes, strict=True)]
    last = [(i + 1) % a.size if a.period is not None else np.minimum(i + 1, a.size - 1) for i, a in zip(first, grid.axes, strict=True)]
    low, high = (np.ravel_multi_index(np.meshgrid(*index, indexing="ij"), grid.shape).ravel() for index in (first, last))
    return low, high


def continued(nodes, reach, extra=0) -> np.ndarray:
    """Nodes with whole cells added on both sides, as wide as the end cells, that cover `reach`, and `extra` more."""
    first, last = nodes[1] - nodes[0], nodes[-1] - nodes[-2]
    count = lambda width: int(np.ceil(reach / width - 1e-9)) + extra
    below, above = first * np.arange(count(first), 0, -1), last * np.arange(1, count(last) + 1)
    return np.concatenate([nodes[0] - below, nodes, nodes[-1] + above])


def box_grid(low, high, shape, periodic, order=1, margin=0.0) -> Grid:
    """Uniform grid on a box, `shape` nodes a side (a periodic axis closes after its last node).

    `margin` adds nodes beyond each bound of the axes that do not turn: that fraction of the width, rounded up to whole cells.
    """
    axes = []
    for lo, hi, size, turns in zip(low, high, shape, periodic, strict=True):
        if turns:
            axes.append(make_axis(lo + (hi - lo) * np.arange(size) / size, order, hi - lo))
            continue
        step = (hi - lo) / (size - 1)
        extra = int(np.ceil(margin * (size - 1)))
        axes.append(make_axis(lo + step * np.arange(-extra, size + extra), order))
    return Grid(tuple(axes))
