"""One axis of a grid: node positions, and splines through values at them."""

import functools
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rlctrl.errors import require
from rlctrl.tree import record

ORDERS = (1, 3, 5)


@record(arrays=("first", "low", "pitch", "depth"))
@dataclass(frozen=True, eq=False)
class Guide:
    """Finds the interval of a point among unequal ones: `first` interval by bucket of width `pitch` from `low`, at most `depth` further."""

    first: Any
    low: Any
    pitch: Any
    depth: Any

    @classmethod
    def of(cls, nodes, high):
        """Four buckets a node up to `high`."""
        count = 4 * len(nodes)
        pitch = (high - nodes[0]) / count
        ends = nodes[0] + pitch * (np.arange(count + 1) + np.array([[-1e-6], [1e-6]]))  # a point may round into the bucket beside
        lowest, highest = np.maximum(np.searchsorted(nodes, ends, side="right") - 1, 0)
        return cls(lowest[:-1].astype(np.int32), nodes[0], pitch, np.int32(np.max(highest[1:] - lowest[:-1])))

    def interval(self, nodes, x):
        """Number of the interval of x, traced by JAX."""
        first = jnp.asarray(self.first)
        place = jnp.clip(jnp.floor((x - self.low) / self.pitch), 0, len(first) - 1).astype(np.int32)
        further = lambda _, i: i + (x >= jnp.asarray(nodes)[i + 1]).astype(np.int32)
        return lax.fori_loop(0, self.depth, further, first[place])


@record(arrays=("nodes", "middles", "widths", "pieces", "starts", "inverse", "count", "guide"), static=("order", "period"))
@dataclass(frozen=True, eq=False)
class Axis:
    """One axis: node positions, and for each interval the polynomial pieces of the order+1 B-splines alive on it.

    On interval i, with s = (x − middle_i)/width_i, weight j is Σ_l pieces[i, j, l] s^l and belongs to coefficient starts[i]+j
    (modulo the number of nodes if periodic). `inverse` maps node values to coefficients (empty at order 1, where they are the same).
    `count` is the number of nodes; the arrays may be longer (`padded`), so that grids of several sizes share one compiled function.
    `guide`: where nodes are not equally spaced. NumPy arrays in, NumPy arrays out.
    """

    nodes: Any
    middles: Any
    widths: Any
    pieces: Any
    starts: Any
    inverse: Any
    count: Any
    guide: Guide | None
    order: int
    period: float | None

    @property
    def size(self):
        """Length of the arrays: the number of nodes, or more."""
        return self.nodes.shape[0]

    def padded(self, size) -> "Axis":
        """The same axis in JAX's arrays for `size` nodes, without `inverse`."""
        return _padded(self, size)

    def matrix(self, x, mass=1.0) -> np.ndarray:
        """Values at coordinates x (k,) from node values: (k, nodes); of x (j, k) the sums over j with weights `mass` (j, 1)."""
        rows = np.zeros((x.shape[-1], self.size))
        index, weight = self.stencil(self.place(x))
        np.add.at(rows, (np.arange(len(rows))[:, None], index), weight * np.expand_dims(mass, -1))
        return rows if self.order == 1 else rows @ self.inverse

    def terms(self, place):
        """The pairs of `stencil` one by one, arrays (...): in this form XLA sums them faster. The weights of cubic splines are made one by
        one as well; those of quintic ones are so many that compiling would take a third longer."""
        if self.order == 5:
            index, weight = self.stencil(place)
            return [(index[..., j], weight[..., j]) for j in range(self.order + 1)]
        i, s = self._within(place)
        if self.order == 1:
            return [(i, 0.5 - s), (self._turned(i + 1), 0.5 + s)]
        pieces, side, start = jnp.asarray(self.pieces).reshape(-1), self.order + 1, entries(self.starts, i)
        weights = []
        for row in range(side):
            powers = [entries(pieces, (i * side + row) * side + power) for power in range(side)]
            weights.append(functools.reduce(lambda weight, c: weight * s + c, reversed(powers)))
        return [(self._turned(start + j), weight) for j, weight in enumerate(weights)]

    def stencil(self, place):
        """Coefficient indices and weights, (..., order+1), at a `place` (...)."""
        xp = module_of(self.nodes, place)
        i, s = self._within(place)
        s = s[..., None]
        if self.order == 1:
            weight = 0.5 + s * np.array([-1.0, 1.0])
        else:
            pieces = entries(xp.asarray(self.pieces), i)
            weight = pieces[..., -1]
            for power in range(self.order - 1, -1, -1):
                weight = weight * s + pieces[..., power]
            i = entries(xp.asarray(self.starts), i)
        return self._turned(i[..., None] + np.arange(self.order + 1, dtype=np.int32)), weight

    def _within(self, place):
        """Interval of a place, and how far from its middle, relative to its width."""
        xp = module_of(self.nodes, place)
        i = xp.clip(xp.floor(place), 0, self._last).astype(np.int32)
        return i, place - i - 0.5

    def _turned(self, index):
        """On a periodic axis the coefficients after the last are the first again."""
        return index if self.period is None else module_of(index).where(index >= self.count, index - self.count, index)

    def place(self, x):
        """Interval of coordinates x (...) plus the part of it that lies below x (outside [0, 1] beyond the grid)."""
        xp = module_of(self.nodes, x)
        if self.guide is None:
            place = (x - self.nodes[0]) * (1 / xp.asarray(self.widths)[0])
            return place if self.period is None else place - self.count * xp.floor(place * (1 / self.count))
        x = x if self.period is None else self.nodes[0] + xp.mod(x - self.nodes[0], self.period)
        i = np.searchsorted(self.nodes, x, side="right") - 1 if xp is np else self.guide.interval(self.nodes, lax.stop_gradient(x))
        i = xp.clip(i, 0, self._last)
        return i + 0.5 + (x - entries(xp.asarray(self.middles), i)) / entries(xp.asarray(self.widths), i)

    @property
    def _last(self):
        """Number of the last interval."""
        return self.count - (2 if self.period is None else 1)


def make_axis(nodes, order=1, period=None) -> Axis:
    """Axis through the given increasing nodes; with a period the interval closes from the last node to nodes[0]+period."""
    nodes = np.asarray(nodes, float)
    require(nodes.ndim == 1, "axis", "must be a list of node positions", nodes.shape, "Give one axis at a time.")
    return _axis(nodes.tobytes(), order, period)


@functools.lru_cache(32)
def _axis(nodes, order, period):
    """The same from the bytes of the nodes; kept, since one solve asks for the same axes again and again."""
    nodes = np.frombuffer(nodes)
    require(order in ORDERS, "order", f"must be one of {ORDERS}", order, "Use 1 where V has kinks, 3 or 5 where it is smooth.")
    require(np.all(np.diff(nodes) > 0), "axis", "must be increasing node positions", nodes, "Sort them.")
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
    widths, middles = _cells(ends)
    guide = None if np.ptp(widths) <= 1e-9 * widths[0] else Guide.of(nodes, ends[-1])
    starts, pieces, inverse = _linear(widths) if order == 1 else _splines(nodes, order, period)
    return Axis(nodes, middles, widths, pieces, starts.astype(np.int32), inverse, len(nodes), guide, order, period)


@functools.lru_cache(32)
def _padded(axis, size):
    """`Axis.padded`; kept, as axes are."""
    more = size - axis.size
    last = lambda a: np.concatenate([a, np.repeat(a[-1:], more, 0)])
    arrays = {name: last(getattr(axis, name)) for name in ("nodes", "middles", "widths", "pieces", "starts")}
    guide = axis.guide and replace(axis.guide, first=np.pad(axis.guide.first, (0, 4 * more), mode="edge"))
    return jax.device_put(replace(axis, inverse=np.zeros((0, 0)), guide=guide, **arrays))


def _cells(ends):
    """Widths and middles of the cells between the ends."""
    return np.diff(ends), 0.5 * (ends[1:] + ends[:-1])


def _linear(widths):
    """starts, pieces and inverse of order 1, where coefficients are node values."""
    return np.arange(len(widths)), np.tile([[0.5, -1.0], [0.5, 1.0]], (len(widths), 1, 1)), np.zeros((0, 0))


def _splines(nodes, order, period):
    """The same of any order."""
    widths, middles = _cells(np.append(nodes, nodes[0] + period) if period else nodes)
    knots = knots_of(nodes, order, period)
    span = np.clip(np.searchsorted(knots, middles, side="right") - 1, order, len(knots) - order - 2)
    starts = span - order
    from scipy.interpolate import BSpline  # slow to import, and not for importing rlctrl

    basis = BSpline(knots, np.eye(len(knots) - order - 1), order)
    powers = [basis.derivative(k)(middles) if k else basis(middles) for k in range(order + 1)]
    scale = [widths**k / np.prod(np.arange(1, k + 1)) for k in range(order + 1)]
    alive = starts[:, None] + np.arange(order + 1)
    pieces = np.stack([np.take_along_axis(p, alive, 1) * s[:, None] for p, s in zip(powers, scale, strict=True)], -1)
    collocation = np.zeros((len(nodes), len(nodes)))
    rows = basis(nodes)
    for column in range(rows.shape[1]):  # on a periodic axis the splines beyond one turn are the first ones again
        collocation[:, column % len(nodes)] += rows[:, column]
    return starts, pieces, np.linalg.inv(collocation)


def knots_of(nodes, order, period):
    """Knots of the splines through nodes; on a periodic axis those of a turn either side too, where coefficients repeat."""
    if not period:
        inner = nodes[(order + 1) // 2 : -((order + 1) // 2)]
        return np.concatenate([np.repeat(nodes[0], order + 1), inner, np.repeat(nodes[-1], order + 1)])
    turns = np.concatenate([nodes - period, nodes, nodes + period, [nodes[0] + 2 * period]])
    first = len(nodes) - order
    return turns[first : 2 * len(nodes) + order + 1]


def entries(table, index):
    """table[index], with numbers that are known to lie in the table: XLA need not make sure of it at every one."""
    if isinstance(table, np.ndarray) and isinstance(index, np.ndarray):
        return table[index]
    return jnp.asarray(table).at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)


def module_of(*arrays):
    """NumPy if all arrays are NumPy's, else JAX's."""
    return np if all(isinstance(a, np.ndarray) for a in arrays) else jnp
