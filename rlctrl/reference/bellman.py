"""The Bellman operator of a problem on a grid (T2): algorithms are short loops over it.

`improve` applies T (maximum over the inputs) and returns the maximising policy; `operator` fixes a policy and gives its linear T^π as a
sparse matrix. JAX evaluates the plant on blocks of nodes, one compiled function for the grids of all levels (their arrays are padded to
`capacity`); sparse products are SciPy's. Node values are NumPy arrays (S,), policies (S, m).

Where noise is additive, the expectation may be applied to V once, W(y) = E V(y + Γw), instead of once per input: `noise_first` interpolates
W on the grid; `split` finds it exactly where V is linear between nodes and noise moves one axis, since W is then linear between the nodes
less the shifts of the noise.
"""

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from rlctrl.grid import Grid
from rlctrl.kernel import Kernel
from rlctrl.maximise import InputSet
from rlctrl.policy import LookaheadPolicy
from rlctrl.reference.expectation import Expectation, Split
from rlctrl.reference.rows import Rows
from rlctrl.reference.sweep import GridValue, improved, landing, mass_leaving, outcomes
from rlctrl.reference.two_level import Correction
from rlctrl.threads import THREADS, in_threads

BLOCK = 5000  # backups per block of `improve`: the working set stays in cache, and few nodes wait for one whose maximum is hard to find
LEAST = 2000  # backups that are not worth two compiled calls
TABLE_BLOCK = 4096  # nodes per block of `operator`


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
    the detour is smaller). `coarse`: of a coarser grid, for `precondition`. `together`: noise nodes that one compiled call of `operator`
    takes (None: all), so that rules with multiples of them share it.
    """

    kernel: Kernel
    grid: Grid
    inputs: InputSet
    rule: tuple
    capacity: tuple[int, ...]
    room: float = 0.0
    expectation: Expectation | Split | None = None
    coarse: Correction | None = None
    together: int | None = None

    @functools.cached_property
    def points(self) -> np.ndarray:
        """The nodes, (S, n)."""
        return self.grid.points()

    def _numbers(self, at=None) -> Grid:
        """The nodes, or those of another grid `at`, in arrays for the largest grid; of order 1, so that all share what is compiled."""
        return (at or self.grid).with_order(1).padded(self.capacity)

    @property
    def size(self) -> int:
        """Number of nodes."""
        return self.grid.size

    def value(self, values) -> GridValue:
        """Node values as a function."""
        return GridValue(self.grid, self.grid.fit(np.asarray(values)))

    def ahead(self, values):
        """Coefficients of what the transitions lead to: V, or W = E V where noise comes first."""
        values = np.asarray(values)
        return self.grid.fit(values) if self.expectation is None else self.expectation.apply(values)

    def improve(self, values, policy, mode="all", at=None):
        """T V at the nodes (S,), or at those of another grid `at` (with no more nodes a side than `capacity`), and the maximising inputs
        (S, m); never worse than the given `policy` (S, m; of candidates, for inputs that have finitely many values), so that iterations
        cannot cycle. `mode`: search from "all" candidates, take the best of them as it is ("rough"), search only "near" the given policy,
        or take the "policy" as it is (T^π V)."""
        tried = 3 if mode == "near" else len(self.inputs.candidates)
        block = self._block(tried)
        room = math.prod(self.capacity) + block
        policy = np.concatenate([policy, np.zeros((room - len(policy), policy.shape[1]))])
        kernel, grid, rule = self._transitions
        coefficients = self._landing.embed(self.ahead(values), self._landing_capacity)
        numbers, size = self._numbers(at), (at or self.grid).size
        pieces = _pieces(block, size)
        known = self._outcomes if mode in ("all", "rough") and self.keeps_outcomes else [None] * len(pieces)

        def run(piece, known):
            return jax.block_until_ready(
                improved(kernel, numbers, grid, self.inputs, rule, coefficients, policy, *piece, known, block, mode)
            )

        found = in_threads(run, pieces, known)
        parts = [[np.asarray(a)[first:last] for a in pair] for pair, (first, last) in zip(found, pieces, strict=True)]
        best, chosen = (np.concatenate(part) for part in zip(*parts, strict=True))
        return best, chosen

    def _block(self, tried):
        """Nodes per block, with so many inputs tried at each: a core's share of the largest grid, if that is neither too much nor too
        little."""
        nodes = math.prod(self.capacity)
        return max(1, min(BLOCK // tried, TABLE_BLOCK, nodes, max(LEAST // tried, -(-nodes // THREADS))))

    @property
    def keeps_outcomes(self) -> bool:
        """Whether the places to which the candidates lead, and their rewards, are kept: one place a candidate, order 1 (splines take few
        sweeps, whose interpolations cost more than the rest), and room for them."""
        alone = len(self._transitions[2][1]) == 1 and self.grid.order == 1 and not self.kernel.can_end
        return alone and self.outcome_bytes() <= self.room

    def outcome_bytes(self) -> float:
        """Bytes of these places and rewards."""
        return 8.0 * math.prod(self.capacity) * len(self.inputs.candidates) * (len(self.grid.axes) + 1)

    @functools.cached_property
    def _outcomes(self):
        """Where all candidates lead from the nodes, and rewards, in arrays for the largest grid, for every core."""
        kernel, grid, (nodes, _) = self._transitions
        block = self._block(len(self.inputs.candidates))
        count = -(-math.prod(self.capacity) // (block * THREADS)) * block
        numbers, candidates = self._numbers(), np.asarray(self.inputs.candidates)
        run = lambda piece: jax.block_until_ready(outcomes(kernel, numbers, grid, candidates, nodes[0], *piece, count, block))
        return in_threads(run, _pieces(block, self.size))

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

    @functools.cached_property
    def judged(self) -> np.ndarray:
        """Which nodes lie inside the stated box (a margin may reach beyond it), (S,)."""
        low, high = np.asarray(self.kernel.low), np.asarray(self.kernel.high)
        slack = 1e-12 * (high - low)
        return np.all((self.points >= low - slack) & (self.points <= high + slack), -1)

    @functools.cached_property
    def plain(self) -> "Bellman":
        """The same operator without expectation in advance."""
        return replace(self, expectation=None)

    @functools.cached_property
    def precondition(self):
        """b → (1 − P^π)⁻¹b on node values, roughly, for any policy."""
        return self.coarse.on(self.grid) if self.coarse else lambda b: b

    def operator_bytes(self) -> float:
        """Bytes that `operator` needs."""
        return 12.0 * self.size * len(self._transitions[2][1]) * (self.grid.order + 1) ** len(self.grid.axes)

    def operator(self, policy, at=None) -> PolicyOperator:
        """T^π as a sparse matrix on the coefficients, for the nodes or those of another grid `at` (as `improve`)."""
        if isinstance(self.expectation, Split):
            return self.plain.operator(policy, at)
        kernel, grid, rule = self._transitions
        nodes, mass = map(np.asarray, rule)
        here, size = self._numbers(at), len(policy)
        shape = (size, len(mass), (self.grid.order + 1) ** len(self.grid.axes))
        constant, index, weight = np.empty(size), np.empty(shape, np.int32), np.empty(shape)
        block, step = min(TABLE_BLOCK, math.prod(self.capacity)), math.gcd(len(mass), self.together or len(mass))

        def fill(first):
            last = min(first + block, size)
            inputs = np.zeros((block, policy.shape[1]))
            inputs[: last - first] = policy[first:last]
            constant[first:last] = 0.0
            for k in range(0, len(mass), step):
                found = landing(kernel, here, grid, first, last, inputs, nodes[k : k + step], mass[k : k + step])
                reward, ending, columns, weights = (np.asarray(a)[: last - first] for a in found)
                constant[first:last] += ending if k else reward + ending
                index[first:last, k : k + step], weight[first:last, k : k + step] = columns, weights

        in_threads(fill, range(0, size, block))
        tables = index.reshape(size, -1), weight.reshape(size, -1)
        return PolicyOperator(self, constant, Rows.of(*tables, self._landing.size))

    def lookahead(self, values, policy) -> LookaheadPolicy:
        """argmax_u r + γ E V(X_+) as a function of any x, searched from the given policy (S, m) of the nodes; where W is exact, by W."""
        bellman = self if isinstance(self.expectation, Split) else replace(self, expectation=None)
        kernel, _, rule = bellman._transitions
        ahead = GridValue(bellman._landing, bellman.ahead(values))
        return LookaheadPolicy(kernel, ahead, rule, self.grid.with_order(1), policy, self.inputs)

    def share_leaving(self, policy) -> float:
        """Share of the transitions from the nodes under a policy that leave the box, by probability."""
        block = min(TABLE_BLOCK, math.prod(self.capacity))
        parts = [np.resize(a[k : k + block], (block, a.shape[1])) for k in range(0, self.size, block) for a in (self.points, policy)]
        found = [np.asarray(mass_leaving(self.kernel, x, u, self.rule)) for x, u in zip(parts[::2], parts[1::2], strict=True)]
        return float(np.concatenate(found)[: self.size].mean())


def _pieces(block, size):
    """Numbers (first, beyond the last) of `size` nodes for every core, in whole blocks."""
    share = -(-size // (block * THREADS)) * block
    return [(first, min(first + share, size)) for first in range(0, size, share)]
