"""One solved grid of the HJB equation: V and the feedback as functions, and what the error statement of `hjb` is made of."""

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy import sparse

from rlctrl.grid import Grid
from rlctrl.maximise import InputSet
from rlctrl.policy import Policy
from rlctrl.reference.base import evaluate_value
from rlctrl.reference.chunks import in_chunks
from rlctrl.reference.howard import BLOCK, Scheme, State, beside_walls, counting, ends
from rlctrl.reference.refinement import SAFETY, left_by
from rlctrl.reference.rows import reaching
from rlctrl.reference.sweep import GridValue
from rlctrl.tree import record

LEAVES = 0.5  # part of the rates at a node of a wall from which the state counts as leaving at once
HALVINGS = 30  # of the edges that cross the boundary of the target


@record(arrays=("grid", "table", "inputs"))
@dataclass(frozen=True, eq=False)
class GridPolicy(Policy):
    """u = π(x) interpolated from `table`, coefficients (nodes, m) on a grid; an input with finitely many values is that of the nearest
    node (on a grid of order 1)."""

    grid: Grid
    table: Any
    inputs: InputSet

    @property
    def n(self):
        return len(self.grid.axes)

    def act(self, x):
        index, weight = self.grid.stencil(x)
        around = jnp.asarray(self.table)[index]
        smooth = jnp.clip(jnp.sum(weight[..., None] * around, -2), self.inputs.low, self.inputs.high)
        nearest = jnp.take_along_axis(around, jnp.argmax(weight, -1)[..., None, None], -2)[..., 0, :]
        return jnp.where(jnp.asarray(self.inputs.step) > 0, smooth, nearest)


@dataclass(frozen=True)
class Level:
    """A solved level: the state of the scheme asked for, that of the monotone one, and the share of second-order differences per node."""

    scheme: Scheme
    state: State
    low: State
    share: Any
    smooth: bool

    @property
    def grid(self):
        return self.scheme.grid

    @cached_property
    def splines(self):
        """The grid for interpolation: cubic with the second-order scheme unless V jumps, else linear."""
        cubic = self.grid.with_order(3)
        return cubic if self.smooth and not self._jumps(cubic) else self.grid

    def _jumps(self, cubic):
        """Whether cubic splines overshoot the nodes beside by more than 2 % of V's range."""
        table = self.state.values.reshape(self.grid.shape)
        for k, (axis, spline) in enumerate(zip(self.grid.axes, cubic.axes, strict=True)):
            middle = np.moveaxis(_interpolated(table, spline, k, axis.middles), k, 0)
            here, ahead = (np.moveaxis(_interpolated(table, axis, k, axis.middles + a * axis.widths), k, 0) for a in (-0.5, 0.5))
            beyond = np.maximum(middle - np.maximum(here, ahead), np.minimum(here, ahead) - middle)
            if np.max(beyond) > 0.02 * np.ptp(table):
                return True
        return False

    @property
    def solver_error(self):
        """Bound of the policy iteration, and what the trace of discount in an undiscounted problem takes from V."""
        trace = self.scheme.rho - float(self.scheme.hamiltonian.generator.rho)
        lost = np.abs(self.state.inverse(np.abs(self.state.values))) if trace > 0 and self.state.inverse else np.zeros(1)
        return self.state.bound + trace * float(np.max(lost))

    def function(self):
        """V as a function."""
        return GridValue(self.splines, np.asarray(self.splines.fit(self.state.values)))

    def policy(self):
        """The feedback as a function."""
        inputs = self.scheme.hamiltonian.inputs
        grid = self.splines if np.all(inputs.step > 0) else self.grid
        table = self.state.policy.reshape(*grid.shape, -1)
        if self.scheme.hamiltonian.generator.exit != "free":  # on walls that end or reflect, inputs that push outwards are all alike
            table = beside_walls(table, grid)
        columns = [np.asarray(grid.fit(column)) for column in table.reshape(-1, table.shape[-1]).T]
        return GridPolicy(grid, np.stack(columns, -1), inputs)

    @cached_property
    def endless(self):
        """Share of the nodes from which the policy never ends though V needs it to: without discount V is infinite there."""
        trace = self.scheme.rho - float(self.scheme.hamiltonian.generator.rho)
        if trace == 0 or self.state.inverse is None:
            return 0.0
        return float(np.mean(np.abs(self.state.inverse(np.where(self.scheme.fixed, 0.0, 1.0))) * trace > 1e-3))

    @property
    def stranded(self):
        """Share of the nodes from which the policy of the monotone scheme reaches no end."""
        blend, c = self.scheme.blended(0.0), self.low.greedy.c * ~self.scheme.fixed[:, None]
        ends = self.scheme.fixed | (np.sum(c * blend.out, 1) > 0)
        return float(np.mean(~reaching(sparse.csr_array(blend.matrix(c)), ends)))

    @property
    def judged(self):
        """Nodes inside the stated box, axis by axis."""
        generator = self.scheme.hamiltonian.generator
        slack = 1e-9 * (generator.high - generator.low)
        bounds = zip(self.grid.axes, generator.low - slack, generator.high + slack, strict=True)
        return [a.nodes[(a.nodes >= low) & (a.nodes <= high)] for a, low, high in bounds]

    def on(self, nodes, values=None):
        """V (or other node values) interpolated onto the tensor grid of `nodes`, one array per axis."""
        table = (self.state.values if values is None else values).reshape(self.grid.shape)
        for k, (axis, x) in enumerate(zip(self.splines.axes, nodes, strict=True)):
            table = _interpolated(table, axis, k, x)
        return table

    @cached_property
    def leaving(self):
        """Share of the nodes on the walls at which the optimal drift or the noise points out of the grid."""
        c, n, noise = self.scheme.parts(self.state.policy)[0], len(self.grid.axes), self.scheme.hamiltonian.noise
        out, table = np.zeros(self.grid.shape, bool), c.reshape(*self.grid.shape, -1)
        for k, axis in enumerate(self.grid.axes):
            for side, term in ((-1, k), (0, n + k)):
                wall = tuple(side if i == k else slice(None) for i in range(n))
                rate = table[wall][..., term] + (table[wall][..., noise.index((k, k)) - len(noise)] if (k, k) in noise else 0.0)
                out[wall] |= (rate > 1e-9 * np.max(c)) & (axis.period is None)
        return float(np.mean(out.ravel()[self.scheme.edge])) if np.any(self.scheme.edge) else 0.0


def _interpolated(table, axis, k, x):
    """A table of node values interpolated along its axis k to coordinates x, by the splines of `axis`."""
    return np.moveaxis(np.tensordot(axis.matrix(np.asarray(x)), table, (1, k)), 0, k)


def discretisation(levels):
    """|V_h − V_2h|, at the nodes of both, extrapolated with the order that the last three levels show (at most 2, and 1 where the filter
    acts)."""
    order = 2 if all(np.all(level.share == 1) for level in levels) else 1
    changes = [_distance(a, b) for a, b in itertools.pairwise(levels)]
    if not changes or not np.all(np.isfinite(changes)):
        return float("inf")
    return left_by(changes, order)


def _distance(a, b):
    """The sup of |V_a − V_b| at the nodes of both: a kink between the nodes of one shows at those of the other."""
    nodes = [np.union1d(x, y) for x, y in zip(a.judged, b.judged, strict=True)]
    return float(np.max(np.abs(a.on(nodes) - b.on(nodes))))


def correlation(level):
    """What the part of the noise's correlation that the monotone stencil dropped could change in V."""
    scheme, state = level.scheme, level.state
    whole = scheme.parts(state.policy)[2]
    if np.all(whole) or state.inverse is None:
        return {}
    low, high = scheme.terms(state.policy, state.values)
    defect = np.where(whole, 0.0, (1 - level.share) * np.abs(np.sum((high - low)[:, 2 * len(level.grid.axes) :], 1)))
    return {"correlation": float(np.max(np.abs(state.inverse(defect))))} if np.any(defect) else {}


def walls(level):
    """How far V is from the exit value at the nodes of walls that end the problem (at a rate that is finite), where the state leaves at
    once; by the maximum principle that puts V off by no more elsewhere."""
    scheme, state, blend = level.scheme, level.state, level.scheme.blended(level.share)
    out, whole = (np.sum(state.greedy.c * part, 1) for part in (blend.out, np.abs(blend.stay)))
    leaves = ~scheme.fixed & (out > LEAVES * (scheme.rho + whole))
    return {"walls": float(np.max(np.abs(state.values - scheme.end)[leaves]))} if np.any(leaves) else {}


def target(kernel, level):
    """What the nodes in the target miss of it: |V − exit value| at points of the target between them, where V should be that value. By the
    maximum principle they put V off by no more elsewhere. Next to nothing where the target's boundary runs through nodes."""
    if kernel.target_function is None:
        return {}
    everywhere = np.full(len(level.grid.axes), np.inf)
    middles = level.grid.middles(-everywhere, everywhere).points()
    points = np.concatenate([boundary(kernel, level.grid), middles[ends(kernel, middles)[1]]])
    if not len(points):
        return {"target": 0.0}
    value, end = level.function(), counting(points, ends(kernel, points)[0], np.ones(len(points), bool))
    found = in_chunks(lambda x: evaluate_value(value, x), points, size=BLOCK)
    return {"target": SAFETY * float(np.max(np.abs(found - end)))}


def boundary(kernel, grid):
    """Points (k, n) of the target where the edges between neighbouring nodes leave it, by bisection."""
    nodes, inside = grid.points().reshape(*grid.shape, -1), ends(kernel, grid.points())[1].reshape(grid.shape)
    starts, ways = [np.zeros((0, len(grid.axes)))], [np.zeros((0, len(grid.axes)))]
    for k, axis in enumerate(grid.axes):
        for sign in (1, -1):
            leaves = inside & ~np.roll(inside, -sign, k)
            if axis.period is None:
                np.moveaxis(leaves, k, 0)[-1 if sign == 1 else 0] = False
            starts.append(nodes[leaves])
            ways.append(np.broadcast_to(sign * axis.widths[0] * np.eye(len(grid.axes))[k], starts[-1].shape))
    start, way = np.concatenate(starts), np.concatenate(ways)
    within = np.zeros((len(start), 1))
    for step in 0.5 ** np.arange(1, HALVINGS + 1) if len(start) else ():
        within += step * ends(kernel, start + (within + step) * way)[1][:, None]
    return np.asarray(kernel.wrap(start + within * way))
