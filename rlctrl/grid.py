"""Tensor-product grids: geometry and spline interpolation, no values inside.

Order 1 is multilinear interpolation (monotone, a contraction). Orders 3 and 5 are interpolating splines with not-a-knot ends
(de Boor 2001, ch. XIII), periodic where the axis is. A table of node values becomes coefficients by `fit`; `evaluate` is then a local
sum of (order+1)^d terms. Beyond the last node the end piece is continued: extrapolation at the order of the scheme.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.interpolate import BSpline

from rlctrl.errors import require
from rlctrl.tree import record

ORDERS = (1, 3, 5)


@record(arrays=("nodes", "middles", "widths", "pieces", "starts", "inverse"), static=("order", "period", "uniform"))
@dataclass(frozen=True, eq=False)
class Axis:
    """One axis: node positions, and for each interval the polynomial pieces of the order+1 B-splines alive on it.

    On interval i, with s = (x − middle_i)/width_i, weight j is Σ_l pieces[i, j, l] s^l and belongs to coefficient starts[i]+j
    (modulo the number of nodes if periodic). `inverse` maps node values to coefficients.
    """

    nodes: Any
    middles: Any
    widths: Any
    pieces: Any
    starts: Any
    inverse: Any
    order: int
    period: float | None
    uniform: bool

    @property
    def size(self):
        return self.nodes.shape[0]

    def stencil(self, x):
        """Coefficient indices and weights (..., order+1) for coordinates x (...)."""
        x = x if self.period is None else self.nodes[0] + jnp.mod(x - self.nodes[0], self.period)
        i = self._interval(x)
        s = (x - jnp.asarray(self.middles)[i]) / (self.widths[0] if self.uniform else jnp.asarray(self.widths)[i])
        if self.order == 1:
            weights = jnp.stack([0.5 - s, 0.5 + s], -1)
        else:
            pieces = jnp.asarray(self.pieces)[i]
            weights = pieces[..., -1]
            for power in range(self.order - 1, -1, -1):
                weights = weights * s[..., None] + pieces[..., power]
        index = jnp.asarray(self.starts)[i][..., None] + jnp.arange(self.order + 1)
        return (index if self.period is None else jnp.mod(index, self.size)), weights

    def _interval(self, x):
        last = self.middles.shape[0] - 1
        if self.uniform:
            i = jnp.floor((x - self.nodes[0]) / self.widths[0]).astype(jnp.int32)
        else:
            i = (jnp.searchsorted(jnp.asarray(self.nodes), x, side="right") - 1).astype(jnp.int32)
        return jnp.clip(i, 0, last)


def make_axis(nodes, order=1, period=None) -> Axis:
    """Axis through the given increasing nodes; with a period the interval closes from the last node to nodes[0]+period."""
    nodes = np.asarray(nodes, float)
    require(order in ORDERS, "order", f"must be one of {ORDERS}", order, "Use 1 where V has kinks, 3 or 5 where it is smooth.")
    increasing = nodes.ndim == 1 and np.all(np.diff(nodes) > 0)
    require(increasing, "axis", "must be increasing node positions", nodes, "Sort them.")
    require(len(nodes) >= order + 2, "shape", f"needs at least {order + 2} nodes a side at order {order}", len(nodes), "Refine the grid.")
    long_enough = not period or period > nodes[-1] - nodes[0]
    require(
        long_enough,
        "period",
        "must exceed the distance between the first and the last node",
        period,
        "The axis closes after its last node.",
    )
    ends = np.append(nodes, nodes[0] + period) if period else nodes
    widths, middles = np.diff(ends), 0.5 * (ends[1:] + ends[:-1])
    uniform = bool(np.ptp(widths) <= 1e-9 * widths[0])
    knots = _knots(nodes, order, period)
    span = np.clip(np.searchsorted(knots, middles, side="right") - 1, order, len(knots) - order - 2)
    starts = span - order
    basis = BSpline(knots, np.eye(len(knots) - order - 1), order)
    powers = [basis.derivative(k)(middles) if k else basis(middles) for k in range(order + 1)]
    scale = [widths**k / np.prod(np.arange(1, k + 1)) for k in range(order + 1)]
    alive = starts[:, None] + np.arange(order + 1)
    pieces = np.stack([np.take_along_axis(p, alive, 1) * s[:, None] for p, s in zip(powers, scale, strict=True)], -1)
    collocation = np.zeros((len(nodes), len(nodes)))
    rows = basis(nodes)
    for column in range(rows.shape[1]):  # on a periodic axis the splines beyond one turn are the first ones again
        collocation[:, column % len(nodes)] += rows[:, column]
    return Axis(nodes, middles, widths, pieces, starts.astype(np.int32), np.linalg.inv(collocation), order, period, uniform)


def _knots(nodes, order, period):
    if not period:
        inner = nodes[(order + 1) // 2 : -((order + 1) // 2)]
        return np.concatenate([np.repeat(nodes[0], order + 1), inner, np.repeat(nodes[-1], order + 1)])
    turns = np.concatenate([nodes - period, nodes, nodes + period, [nodes[0] + 2 * period]])
    first = len(nodes) - order
    return turns[first : 2 * len(nodes) + order + 1]


@record(arrays=("axes",))
@dataclass(frozen=True, eq=False)
class Grid:
    """Tensor product of axes."""

    axes: tuple[Axis, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(a.size for a in self.axes)

    @property
    def order(self) -> int:
        return self.axes[0].order

    def points(self) -> np.ndarray:
        """All nodes, (prod(shape), d), last axis fastest."""
        mesh = np.meshgrid(*[np.asarray(a.nodes) for a in self.axes], indexing="ij")
        return np.stack([c.ravel() for c in mesh], -1)

    def fit(self, values):
        """Coefficients (prod(shape),) that interpolate node values (prod(shape),)."""
        if self.order == 1:
            return values
        table = values.reshape(self.shape)
        for k, axis in enumerate(self.axes):
            table = jnp.moveaxis(jnp.tensordot(jnp.asarray(axis.inverse), table, axes=(1, k)), 0, k)
        return table.reshape(-1)

    def stencil(self, x):
        """Flat coefficient indices and weights (..., (order+1)^d) for points x (..., d): precompute once, sum often."""
        pairs = [axis.stencil(x[..., k]) for k, axis in enumerate(self.axes)]
        index, weight = pairs[0]
        for (i, w), axis in zip(pairs[1:], self.axes[1:], strict=True):
            index = (index[..., :, None] * axis.size + i[..., None, :]).reshape(*x.shape[:-1], -1)
            weight = (weight[..., :, None] * w[..., None, :]).reshape(*x.shape[:-1], -1)
        return index, weight

    def evaluate(self, coefficients, x):
        """Interpolated value (...) at points x (..., d); trailing axes of `coefficients` beyond the first are carried along."""
        pairs = [axis.stencil(x[..., k]) for k, axis in enumerate(self.axes)]
        table = jnp.asarray(coefficients)
        extra = (None,) * (table.ndim - 1)
        total = jnp.zeros(())
        for corner in itertools.product(*(range(a.order + 1) for a in self.axes)):
            index, weight = 0, jnp.ones(())
            for (i, w), axis, j in zip(pairs, self.axes, corner, strict=True):
                index = index * axis.size + i[..., j]
                weight = weight * w[..., j]
            total = total + weight[(..., *extra)] * table[index]
        return total


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
