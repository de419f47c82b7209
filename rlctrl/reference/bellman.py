"""The Bellman operator of a problem on a grid (T2): algorithms are short loops over it.

`improve` applies T (maximum over the inputs) and returns the maximising policy; `operator` fixes a policy and gives its linear T^π as a
sparse matrix. JAX evaluates the plant on blocks of nodes, one compiled function for the grids of all levels (their arrays are padded to
`capacity`); sparse products are SciPy's. Node values are NumPy arrays (S,), policies (S, m).

Where noise is additive, the expectation may be applied to V once, W(y) = E V(y + Γw), instead of once per input: `noise_first` interpolates
W on the grid; `split` finds it exactly where V is linear between nodes and noise moves one axis, since W is then linear between the nodes
less the shifts of the noise.
"""

import functools
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy import sparse

from rlctrl.grid import Grid, continued, make_axis
from rlctrl.kernel import Kernel
from rlctrl.maximise import ROUNDS, InputSet, maximise
from rlctrl.tree import record

BLOCK = 20_000  # backups per block of `improve`: the working set stays in cache
PARALLEL = 5e6  # entries of a matrix from which its products are worth two threads
TABLE_BLOCK = 4096  # nodes per block of `operator`
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@record(arrays=("grid", "coefficients"))
@dataclass(frozen=True, eq=False)
class GridValue:
    """V(x) by interpolation."""

    grid: Grid
    coefficients: Any

    def at(self, x):
        """V (...) at x (..., n)."""
        return self.grid.evaluate(self.coefficients, x)


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


@dataclass(frozen=True, eq=False)
class Rows:
    """A sparse matrix with equally many entries in every row, cut into one piece a core."""

    pieces: tuple

    @classmethod
    def of(cls, index, weight, columns):
        """From column numbers and entries, both (S, k), which are kept, not copied."""
        size, width = index.shape
        cuts = np.linspace(0, size, THREADS + 1 if size * width > PARALLEL else 2).astype(int)
        pieces = []
        for a, b in itertools.pairwise(cuts):
            start = np.arange(0, width * (b - a) + 1, width, dtype=np.int32 if width * (b - a) < 2**31 else np.int64)
            pieces.append(sparse.csr_array((weight[a:b].reshape(-1), index[a:b].reshape(-1), start), shape=(b - a, columns)))
        return cls(tuple(pieces))

    def __matmul__(self, vector):
        return np.concatenate(in_threads(lambda piece: piece @ vector, self.pieces))

    @property
    def whole(self):
        """The matrix in one piece."""
        return sparse.vstack(self.pieces)


@dataclass(frozen=True, eq=False)
class PolicyOperator:
    """T^π V = constant + matrix·(coefficients of V, or of W where noise comes first)."""

    bellman: "Bellman"
    constant: np.ndarray
    matrix: Any

    def apply(self, values) -> np.ndarray:
        """T^π V (S,)."""
        return self.constant + self.linear(values)

    def linear(self, values) -> np.ndarray:
        """The part of T^π V that is linear in V: γ times the expected value of what does not end."""
        return self.matrix @ self.bellman.ahead(values)


@dataclass(frozen=True, eq=False)
class Bellman:
    """T and T^π on the node values (S,) of `grid`, for one quadrature `rule` of the noise; `kernel` carries γ.

    `capacity`: shape to which the arrays of the grid are padded. `room`: bytes that may be kept from one sweep to the next. `expectation`:
    given where noise comes first; then the transitions are those of the mean (of `operator` only if W is interpolated: a matrix without
    the detour is smaller).
    """

    kernel: Kernel
    grid: Grid
    inputs: InputSet
    rule: tuple
    capacity: tuple[int, ...]
    room: float = 0.0
    expectation: Expectation | Split | None = None

    @functools.cached_property
    def points(self) -> np.ndarray:
        """The nodes, (S, n)."""
        return self.grid.points()

    @property
    def size(self) -> int:
        """Number of nodes."""
        return int(np.prod(self.grid.shape))

    def value(self, values) -> GridValue:
        """Node values as a function."""
        return GridValue(self.grid, self.grid.fit(np.asarray(values)))

    def ahead(self, values):
        """Coefficients of what the transitions lead to: V, or W = E V where noise comes first."""
        coefficients = self.grid.fit(np.asarray(values))
        return coefficients if self.expectation is None else self.expectation.apply(coefficients)

    def improve(self, values, policy, mode="all"):
        """T V at the nodes (S,) and the maximising inputs (S, m); never worse than the given `policy` (S, m; of candidates, for inputs that
        have finitely many values), so that iterations cannot cycle. `mode`: search from "all" candidates, take the best of them as it is
        ("rough"), search only "near" the given policy, or take the "policy" as it is (T^π V)."""
        tried = 3 if mode == "near" else len(self.inputs.candidates)
        block = int(np.clip(BLOCK // tried, 1, 4096))
        room = int(np.prod(self.capacity)) + block
        policy = np.concatenate([policy, np.zeros((room - self.size, policy.shape[1]))])
        kernel, grid, rule = self._transitions
        coefficients = self._landing.embed(self.ahead(values), self._landing_capacity)
        numbers = self.grid.padded(self.capacity)
        pieces = self._pieces(block)
        known = self._landings if mode in ("all", "rough") and self.keeps_landings else [None] * len(pieces)

        def run(piece, known):
            return jax.block_until_ready(
                _improve(kernel, numbers, grid, self.inputs, rule, coefficients, policy, *piece, known, block, mode)
            )

        found = in_threads(run, pieces, known)
        parts = [[np.asarray(a)[first:last] for a in pair] for pair, (first, last) in zip(found, pieces, strict=True)]
        best, chosen = (np.concatenate(part) for part in zip(*parts, strict=True))
        return best, chosen

    def _pieces(self, block):
        """Node numbers (first, beyond the last) for every core."""
        share = -(-self.size // (block * THREADS)) * block
        return [(first, min(first + share, self.size)) for first in range(0, self.size, share)]

    @property
    def keeps_landings(self) -> bool:
        """Whether the places to which the candidates lead are kept: one of them a candidate, and room for them."""
        alone = len(self._transitions[2][1]) == 1 and not self.kernel.can_end
        return alone and self.landing_bytes() <= self.room

    def landing_bytes(self) -> float:
        """Bytes of these places."""
        return 8.0 * float(np.prod(self.capacity)) * len(self.inputs.candidates) * len(self.grid.axes)

    @functools.cached_property
    def _landings(self):
        """These places by node and candidate, in arrays for the largest grid, for every core."""
        kernel, grid, (nodes, _) = self._transitions
        block = int(np.clip(BLOCK // len(self.inputs.candidates), 1, 4096))
        count = -(-int(np.prod(self.capacity)) // (block * THREADS)) * block
        numbers, candidates = self.grid.padded(self.capacity), np.asarray(self.inputs.candidates)
        run = lambda piece: jax.block_until_ready(_places(kernel, numbers, grid, candidates, nodes[0], *piece, count, block))
        return in_threads(run, self._pieces(block))

    @property
    def _landing(self) -> Grid:
        """The grid that the transitions are interpolated on."""
        return self.grid if self.expectation is None else self.expectation.grid

    @property
    def _landing_capacity(self):
        if isinstance(self.expectation, Split):
            return tuple(c * -(-b // a) for a, b, c in zip(self.grid.shape, self._landing.shape, self.capacity, strict=True))
        extra = [b - a for a, b in zip(self.grid.shape, self._landing.shape, strict=True)]
        return tuple(c + e for c, e in zip(self.capacity, extra, strict=True))

    @functools.cached_property
    def _transitions(self):
        """Kernel, padded landing grid and noise rule of the transitions: of the mean where noise comes first."""
        grid = self._landing.padded(self._landing_capacity)
        if self.expectation is None:
            return self.kernel, grid, self.rule
        ends = [(a.nodes[0], a.nodes[-1]) for a in self._landing.axes]
        low, high = (
            np.where(self.kernel.periodic, given, [end[k] for end in ends]) for k, given in enumerate((self.kernel.low, self.kernel.high))
        )
        mean = (np.zeros((1, np.shape(self.rule[0])[1])), np.ones(1))
        return replace(self.kernel, low=low, high=high), grid, mean

    def judged(self):
        """Which nodes lie inside the stated box (a margin may reach beyond it), (S,)."""
        low, high = np.asarray(self.kernel.low), np.asarray(self.kernel.high)
        slack = 1e-12 * (high - low)
        return np.all((self.points >= low - slack) & (self.points <= high + slack), -1)

    def operator_bytes(self) -> float:
        """Bytes that `operator` needs."""
        return 12.0 * self.size * len(self._transitions[2][1]) * (self.grid.order + 1) ** len(self.grid.axes)

    def operator(self, policy) -> PolicyOperator:
        """T^π as a sparse matrix on the coefficients."""
        if isinstance(self.expectation, Split):
            return replace(self, expectation=None).operator(policy)
        kernel, grid, (nodes, mass) = self._transitions
        numbers, landing = self.grid.padded(self.capacity), self._landing
        width = len(mass) * (self.grid.order + 1) ** len(self.grid.axes)
        constant = np.empty(self.size)
        index, weight = np.empty((self.size, width), np.int32), np.empty((self.size, width))

        def fill(first):
            last = min(first + TABLE_BLOCK, self.size)
            inputs = np.zeros((TABLE_BLOCK, policy.shape[1]))
            inputs[: last - first] = policy[first:last]
            reward, mass_there, places = _landing_of(kernel, numbers, grid, first, last, inputs, np.asarray(nodes), np.asarray(mass))
            columns, weights = landing.stencil_at([np.asarray(p)[: last - first] for p in places])
            constant[first:last] = np.asarray(reward)[: last - first]
            index[first:last] = columns.reshape(-1, width)
            np.multiply(weights, np.asarray(mass_there)[: last - first, :, None], out=weight[first:last].reshape(weights.shape))

        in_threads(fill, range(0, self.size, TABLE_BLOCK))
        return PolicyOperator(self, constant, Rows.of(index, weight, int(np.prod(landing.shape))))

    def share_leaving(self, policy) -> float:
        """Share of the transitions from the nodes under a policy that leave the box, by probability."""
        blocks = range(0, self.size, TABLE_BLOCK)
        parts = [np.resize(a[k : k + TABLE_BLOCK], (TABLE_BLOCK, a.shape[1])) for k in blocks for a in (self.points, policy)]
        found = [np.asarray(_mass_leaving(self.kernel, x, u, self.rule)) for x, u in zip(parts[::2], parts[1::2], strict=True)]
        return float(np.concatenate(found)[: self.size].mean())


def in_threads(work, *pieces) -> list:
    """work(*piece) for all pieces, as many at once as the machine has cores: JAX and NumPy let go of the interpreter while they compute."""
    pieces = list(zip(*pieces, strict=True))
    if len(pieces) == 1:
        return [work(*pieces[0])]
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda piece: work(*piece), pieces))


def noise_first(bellman) -> Bellman:
    """The operator with the expectation over additive noise applied once per sweep."""
    kernel, grid, (nodes, mass) = bellman.kernel, bellman.grid, bellman.rule
    shifts = np.asarray(_shifts(kernel, nodes))
    extended = _extended(grid, np.abs(shifts).max(0), kernel)
    points = extended.points()
    terms = (grid.order + 1) ** len(grid.axes)
    matrix = sparse.csr_array((len(points), bellman.size))
    start = np.arange(0, terms * len(points) + 1, terms)
    for shift, probability in zip(shifts, np.asarray(mass), strict=True):
        index, weight = grid.stencil(np.asarray(_settled(kernel, points + shift)))
        row = sparse.csr_array((probability * weight.reshape(-1), index.reshape(-1), start), shape=matrix.shape)
        matrix = matrix + row
    return replace(bellman, expectation=Expectation(extended, matrix))


def split(bellman) -> Bellman:
    """The operator with W found exactly, where that pays; else as it was."""
    shifts, mass = np.asarray(_shifts(bellman.kernel, bellman.rule[0])), np.asarray(bellman.rule[1])
    moved = np.flatnonzero(np.any(shifts != 0, 0))
    if len(moved) != 1 or 2 * len(mass) > len(bellman.inputs.candidates):
        return bellman
    k, grid = int(moved[0]), bellman.grid
    axis, (low, high) = grid.axes[k], (float(np.asarray(side)[moved[0]]) for side in (bellman.kernel.low, bellman.kernel.high))
    bends = _bends(axis, shifts[:, k])
    after = np.add.outer(bends, shifts[:, k])
    after = np.clip(after, low, high) if bellman.kernel.exit == "clip" and axis.period is None else after
    index, weight = Grid((axis,)).stencil(after[..., None])
    matrix = Rows.of(index.reshape(len(bends), -1), (weight * mass[:, None]).reshape(len(bends), -1), axis.size)
    axes = (*grid.axes[:k], make_axis(bends, 1, axis.period), *grid.axes[k + 1 :])
    return replace(bellman, expectation=Split(Grid(axes), matrix, grid.shape, k))


def _bends(axis, shifts):
    """Where Σ V(y + shift) bends along an axis on which V bends at the nodes."""
    places = np.subtract.outer(axis.nodes, shifts).ravel()
    places = np.sort(places if axis.period is None else axis.nodes[0] + np.mod(places - axis.nodes[0], axis.period))
    rounding = 1e-14 * np.max(np.abs(places))
    return places[np.append(True, np.diff(places) > rounding)]


@jax.jit
def _settled(kernel, x):
    return kernel.constrained(kernel.wrap(x))


def _extended(grid, reach, kernel):
    """The grid with whole cells added beyond its ends, where projection makes W differ from what extrapolation gives."""
    beyond = [kernel.exit == "clip" and axis.period is None for axis in grid.axes]
    parts = zip(grid.axes, reach, beyond, strict=True)
    return Grid(tuple(make_axis(continued(a.nodes, far, 1), a.order) if more else a for a, far, more in parts))


@jax.jit
def _shifts(kernel, nodes):
    """Γw for every noise node, (K, n), of additive noise."""
    x = 0.5 * (jnp.asarray(kernel.low) + jnp.asarray(kernel.high))
    following = kernel.update.partly(x, jnp.zeros(kernel.update.sizes[1]), None, kernel.p)
    return following(jnp.asarray(nodes)) - following(jnp.zeros(nodes.shape[1]))


@functools.partial(jax.jit, static_argnames=("block", "mode"))
def _improve(kernel, numbers, grid, inputs, rule, coefficients, policy, first, last, known, block, mode):
    """Best value and input at the nodes first … last−1 (of the padded grid `numbers`), in arrays as long as `policy`; `known`: their
    `_places`."""
    value, candidates = GridValue(grid, coefficients), jnp.asarray(inputs.candidates)
    rounds, finite = (0 if mode == "rough" else ROUNDS), not inputs.continuous

    def one(k, out):
        here = first + k * block
        x = numbers.node(jnp.minimum(here + jnp.arange(block), last - 1))
        old = lax.dynamic_slice_in_dim(jnp.asarray(policy), here, block)
        q = lambda u: kernel.backup(value.at, x[:, None], u, rule)
        start = jnp.broadcast_to(candidates, (block, *candidates.shape))
        start = start if finite else jnp.concatenate([start, old[:, None]], 1)
        if mode == "policy":
            u, v = old, q(old[:, None])[:, 0]
        elif mode == "near":
            u, v = maximise(q, inputs, inputs.beside(old))
        elif known is None:
            u, v = maximise(q, inputs, start, rounds)
        else:
            places = [lax.dynamic_slice_in_dim(p, k * block, block) for p in known]
            values = kernel.reward(x[:, None], candidates) + kernel.gamma * grid.evaluate_at(coefficients, places)
            values = values if finite else jnp.concatenate([values, q(old[:, None])], 1)
            u, v = maximise(q, inputs, start, rounds, values)
        if kernel.can_end:
            v = jnp.where(kernel.ended(x), kernel.exit_value(x), v)
        return tuple(lax.dynamic_update_slice_in_dim(a, b, here, 0) for a, b in zip(out, (v, u), strict=True))

    start = (jnp.zeros(len(policy)), jnp.zeros(jnp.shape(policy)))
    return lax.fori_loop(0, (last - first + block - 1) // block, one, start)


@functools.partial(jax.jit, static_argnames=("count", "block"))
def _places(kernel, numbers, grid, candidates, noise, first, last, count, block):
    """Where all candidates (A, m) lead from the nodes first … last−1: places on `grid`, arrays (count, A)."""

    def one(k, out):
        x = numbers.node(jnp.minimum(first + k * block + jnp.arange(block), last - 1))
        places = grid.places(lax.optimization_barrier(kernel.step(x[:, None], candidates, noise)[0]))
        return [lax.dynamic_update_slice_in_dim(a, p, k * block, 0) for a, p in zip(out, places, strict=True)]

    start = [jnp.zeros((count, len(candidates))) for _ in grid.axes]
    return lax.fori_loop(0, (last - first + block - 1) // block, one, start)


@jax.jit
def _landing_of(kernel, numbers, grid, first, last, policy, nodes, mass):
    """At a block of nodes (B,), for K noise nodes: reward (or exit value) and what the ending transitions give, the discounted mass (B, K)
    of the others, and the places on `grid` they lead to."""
    x = numbers.node(jnp.minimum(first + jnp.arange(len(policy)), last - 1))
    x_next = lax.optimization_barrier(kernel.step(x[:, None], policy[:, None], nodes)[0])
    reward, mass = kernel.reward(x, policy), kernel.gamma * mass * jnp.ones((len(policy), 1))
    if kernel.can_end:
        over, end = kernel.ended(x), kernel.ended(x_next)
        ending = jnp.sum(jnp.where(end & ~over[:, None], mass * kernel.exit_value(x_next), 0.0), -1)
        reward = jnp.where(over, kernel.exit_value(x), reward + ending)
        mass = jnp.where(end | over[:, None], 0.0, mass)
        x_next = jnp.where(end[..., None], kernel.clip(x_next), x_next)
    return reward, mass, grid.places(x_next)


@jax.jit
def ended(kernel, x):
    """Whether the problem has ended in x (S, n), compiled."""
    return kernel.ended(x)


@jax.jit
def _mass_leaving(kernel, x, u, rule):
    nodes, mass = map(jnp.asarray, rule)
    return lax.fori_loop(0, len(mass), lambda k, total: total + mass[k] * kernel.step(x, u, nodes[k])[1], jnp.zeros(len(x)))
