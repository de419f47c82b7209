"""The Bellman operator of a problem on a grid (T2): algorithms are short loops over it.

`improve` applies T (maximum over the inputs) and returns the maximising policy; `operator` fixes a policy and gives its linear T^π as a
sparse matrix. JAX evaluates the plant on blocks of nodes, one compiled function for the grids of all levels (their arrays are padded to
`capacity`); sparse products are SciPy's. Node values are NumPy arrays (S,), policies (S, m).

Where noise is additive, `noise_first` applies the expectation to V once, W(y) = E V(y + Γw) on the grid, instead of once per input.
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

    `capacity`: shape to which the arrays of the grid are padded. `expectation`: given where noise comes first; then the transitions are
    those of the mean.
    """

    kernel: Kernel
    grid: Grid
    inputs: InputSet
    rule: tuple
    capacity: tuple[int, ...]
    expectation: Expectation | None = None

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
        """T V at the nodes (S,) and the maximising inputs (S, m); never worse than the given `policy` (S, m), so that iterations cannot
        cycle. `mode`: search from "all" candidates, take the best of them as it is ("rough"), search only "near" the given policy, or
        take the "policy" as it is (T^π V)."""
        landing = self._landing
        tried = len(self.inputs.candidates) if mode in ("all", "rough") else 3
        block = int(np.clip(BLOCK // tried, 1, 4096))
        room = int(np.prod(self.capacity)) + block
        policy = np.concatenate([policy, np.zeros((room - self.size, policy.shape[1]))])
        kernel, grid, rule = self._transitions
        coefficients = landing.embed(self.ahead(values), self._landing_capacity)
        numbers = self.grid.padded(self.capacity)
        half = -(-self.size // (block * THREADS)) * block
        pieces = [(first, min(first + half, self.size)) for first in range(0, self.size, half)]

        def run(piece):
            return jax.block_until_ready(_improve(kernel, numbers, grid, self.inputs, rule, coefficients, policy, *piece, block, mode))

        found = in_threads(run, pieces)
        parts = [[np.asarray(a)[first:last] for a in pair] for pair, (first, last) in zip(found, pieces, strict=True)]
        best, chosen = (np.concatenate(part) for part in zip(*parts, strict=True))
        return best, chosen

    @property
    def _landing(self) -> Grid:
        """The grid that the transitions are interpolated on."""
        return self.grid if self.expectation is None else self.expectation.grid

    @property
    def _landing_capacity(self):
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
        kernel, grid, (nodes, mass) = self._transitions
        nodes, mass = np.asarray(nodes), np.asarray(mass)
        landing = self._landing
        numbers, count = self.grid.padded(self.capacity), int(np.prod(landing.shape))
        places = landing.embed(np.arange(count), self._landing_capacity).astype(np.int32)  # node number by place in padded arrays
        terms = (self.grid.order + 1) ** len(self.grid.axes)
        constant = np.empty(self.size)
        index, weight = np.empty((self.size, len(mass), terms), np.int32), np.empty((self.size, len(mass), terms))

        def fill(first):
            last = min(first + TABLE_BLOCK, self.size)
            inputs = np.zeros((TABLE_BLOCK, policy.shape[1]))
            inputs[: last - first] = policy[first:last]
            parts = _landing_of(kernel, numbers, grid, first, last, inputs, nodes, mass)
            reward, ending, columns, weights = (np.asarray(a)[: last - first] for a in parts)
            constant[first:last] = reward + ending
            index[first:last], weight[first:last] = places[columns], weights

        in_threads(fill, range(0, self.size, TABLE_BLOCK))
        width = len(mass) * terms
        matrix = Rows.of(index.reshape(self.size, width), weight.reshape(self.size, width), count)
        return PolicyOperator(self, constant, matrix)

    def share_leaving(self, policy) -> float:
        """Share of the transitions from the nodes under a policy that leave the box, by probability."""
        blocks = range(0, self.size, TABLE_BLOCK)
        parts = [np.resize(a[k : k + TABLE_BLOCK], (TABLE_BLOCK, a.shape[1])) for k in blocks for a in (self.points, policy)]
        found = [np.asarray(_mass_leaving(self.kernel, x, u, self.rule)) for x, u in zip(parts[::2], parts[1::2], strict=True)]
        return float(np.concatenate(found)[: self.size].mean())


def in_threads(work, pieces) -> list:
    """work(piece) for all pieces, as many at once as the machine has cores: JAX and NumPy let go of the interpreter while they compute."""
    pieces = list(pieces)
    if len(pieces) == 1:
        return [work(pieces[0])]
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, pieces))


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
def _improve(kernel, numbers, grid, inputs, rule, coefficients, policy, first, last, block, mode):
    """Best value and input at the nodes first … last−1 (of the padded grid `numbers`), in arrays as long as `policy`."""
    value, candidates = GridValue(grid, coefficients), jnp.asarray(inputs.candidates)

    def one(k, out):
        here = first + k * block
        x = numbers.node(jnp.minimum(here + jnp.arange(block), last - 1))
        old = lax.dynamic_slice_in_dim(jnp.asarray(policy), here, block)
        q = lambda u: kernel.backup(value.at, x[:, None], u, rule)
        if mode == "policy":
            u, v = old, q(old[:, None])[:, 0]
        elif mode == "near":
            u, v = maximise(q, inputs, inputs.beside(old))
        else:
            start = jnp.concatenate([jnp.broadcast_to(candidates, (block, *candidates.shape)), old[:, None]], 1)
            u, v = maximise(q, inputs, start, 0 if mode == "rough" else ROUNDS)
        if kernel.can_end:
            v = jnp.where(kernel.ended(x), kernel.exit_value(x), v)
        return tuple(lax.dynamic_update_slice_in_dim(a, b, here, 0) for a, b in zip(out, (v, u), strict=True))

    start = (jnp.zeros(len(policy)), jnp.zeros(jnp.shape(policy)))
    return lax.fori_loop(0, (last - first + block - 1) // block, one, start)


@jax.jit
def _landing_of(kernel, numbers, grid, first, last, policy, nodes, mass):
    """At a block of nodes (B,), for K noise nodes: reward (or exit value), what the ending transitions give, and the weighted stencils
    (B, K, terms) of the others."""
    x = numbers.node(jnp.minimum(first + jnp.arange(len(policy)), last - 1))
    x_next = lax.optimization_barrier(kernel.step(x[:, None], policy[:, None], nodes)[0])
    reward, ending, mass = kernel.reward(x, policy), jnp.zeros(len(policy)), kernel.gamma * mass * jnp.ones((len(policy), 1))
    if kernel.can_end:
        over, end = kernel.ended(x), kernel.ended(x_next)
        reward = jnp.where(over, kernel.exit_value(x), reward)
        ending = jnp.sum(jnp.where(end & ~over[:, None], mass * kernel.exit_value(x_next), 0.0), -1)
        mass = jnp.where(end | over[:, None], 0.0, mass)
        x_next = jnp.where(end[..., None], kernel.clip(x_next), x_next)
    index, weight = grid.stencil(x_next)
    return reward, ending, index, mass[..., None] * weight


@jax.jit
def ended(kernel, x):
    """Whether the problem has ended in x (S, n), compiled."""
    return kernel.ended(x)


@jax.jit
def _mass_leaving(kernel, x, u, rule):
    nodes, mass = map(jnp.asarray, rule)
    return lax.fori_loop(0, len(mass), lambda k, total: total + mass[k] * kernel.step(x, u, nodes[k])[1], jnp.zeros(len(x)))
