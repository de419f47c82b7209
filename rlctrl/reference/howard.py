"""Policy iteration (Howard 1960) for the discrete HJB equation max_u {ℓ + Σ_j c_j(·,u) O_j V} = ρV on one grid.

u ← argmax H_u(V) at every node, then H_u(V) = 0 as a sparse linear system. The monotone scheme always settles (Bokanowski, Maroso & Zidani
2009). `refine` then solves the filtered scheme (Froese & Oberman 2013): second-order differences where they differ from the monotone
ones by less than a bound of order √h, blending into the monotone ones where they differ by more.

Stopping rule: M⁻¹|max_u H_u(V)|, the change the next policy could make (M the last linear operator, an M-matrix for the monotone scheme,
where it is a bound), below `tolerance`·range of V.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from rlctrl.errors import require
from rlctrl.reference.chunks import in_chunks
from rlctrl.reference.grid_hamiltonian import GridHamiltonian, best_input, parts
from rlctrl.reference.inverse import Inverse, dissection
from rlctrl.reference.markov_chain import differences

FILTER = 1.0  # bound of the filter, relative to the size of the terms of the equation, times √(1/cells a side)
DAMPING, SWEEPS = 0.65, 3  # of steps with the monotone operator: contracts every mode of the second-order differences along the drift
TRACE = (
    1e-11  # discount of an undiscounted problem, per crossing of the grid: a policy that never ends gets a huge value, no singular matrix
)
INEXACT = 1e-3  # residual with which one of many policies is evaluated, relative to that before, where an iteration evaluates it
SIMILAR = 0.2  # factor by which the bound falls from one policy to the next where the factors of the one serve for the other
BLOCK, LEAST = 4096, 64  # most and fewest nodes per compiled call
CHUNK = 400_000  # pairs (node, candidate) per call of the maximisation


@dataclass(frozen=True)
class Scheme:
    """The discrete equation on one grid; `fixed` marks nodes whose value is given (`given`): the target, or the rest state. `block`: nodes
    per compiled call."""

    hamiltonian: GridHamiltonian
    grid: Any
    points: Any
    differences: Any
    end: Any
    fixed: Any
    given: Any
    block: int

    @classmethod
    def make(cls, problem, hamiltonian, grid, rest, walls, block):
        points = grid.points()
        operators = differences(grid, walls, hamiltonian.noise)
        end, fixed = ends(problem.kernel, points)
        end = counting(points, end, fixed | np.any(operators.low.out, 1))
        given = np.where(fixed, end, 0.0)
        if rest is not None:
            fixed[np.argmin(np.sum(((points - rest) / hamiltonian.steps) ** 2, 1))] = True
        return cls(hamiltonian, grid, points, operators, end, fixed, given, block)

    @property
    def rho(self):
        return max(float(self.hamiltonian.generator.rho), TRACE * self.rate)

    @cached_property
    def rate(self):
        """One over the time in which the fastest drift crosses the grid: where implicit time steps begin."""
        n = len(self.grid.axes)
        c = self.parts(np.repeat(self.hamiltonian.inputs.candidates[-1:], len(self.points), 0))[0]
        return float(np.max(np.max(c[:, : 2 * n], 0) / np.tile(self.hamiltonian.steps * self.grid.shape, 2))) + 1e-300

    @cached_property
    def expansion(self):
        """Of the Hamiltonian in the inputs, at the nodes."""
        return in_chunks(self.hamiltonian.expansion, self.points, size=self.block)

    @cached_property
    def order(self):
        """Of elimination."""
        return dissection(self.grid.shape, [a.period is not None for a in self.grid.axes])

    @cached_property
    def edge(self):
        """Nodes on the walls of the grid."""
        sides = np.meshgrid(*[(np.arange(a.size) % (a.size - 1) == 0) & (a.period is None) for a in self.grid.axes], indexing="ij")
        return np.any(sides, 0).ravel()

    def blended(self, share):
        """The differences with that share of the second-order ones, a number or one per node."""
        return self.differences.blended(np.broadcast_to(share, len(self.points)))

    def improve(self, blend, values, policy) -> "Greedy":
        """The best inputs, searched from those of `policy`."""
        width = 16 + len(self.hamiltonian.inputs.candidates) * (not self.hamiltonian.affine)
        size = int(np.clip(CHUNK // width, LEAST, self.block))
        g = blend.apply(values, self.end)
        policy, best, c, rate = in_chunks(lambda *a: best_input(self.hamiltonian, *a), self.points, policy, g, *self.expansion, size=size)
        slack = np.where(self.fixed, 0.0, best - self.rho * values)
        return Greedy(policy, slack, slack / (self.rho + np.sum(c * np.abs(blend.stay), 1)), c, rate)

    def parts(self, policy):
        """Coefficients, reward rate, and whether the monotone stencil carries the correlation, per node under a policy."""
        return in_chunks(lambda *a: parts(self.hamiltonian, *a), self.points, policy, size=self.block)

    def terms(self, policy, values):
        """c_j O_j V, (S, J), with the monotone and with the second-order differences."""
        c = self.parts(policy)[0]
        return [c * self.blended(share).apply(values, self.end) for share in (0.0, 1.0)]

    def evaluate(self, blend, greedy, values, shift=0.0, near=None):
        """The inverse of the linear operator of a policy and the solution of H_u(V) = shift·(V − values); NaN where it is singular.
        `near`: the inverse for a policy that is nearly the same; with a discount its factors serve for this one too."""
        free = ~self.fixed
        matrix = sparse.diags(np.where(free, self.rho + shift, 1.0)) - blend.matrix(greedy.c * free[:, None])
        right = np.where(free, greedy.rate + np.sum(greedy.c * blend.out, 1) * self.end + shift * values, self.given)
        try:
            if near is None or len(self.grid.axes) == 3 or self.rho > float(self.hamiltonian.generator.rho):
                inverse = Inverse.of(matrix, self.order, len(self.grid.axes) == 3)
                return inverse, inverse(right)
            inverse = near.adapted(matrix)
            return inverse, values + inverse(right - matrix @ values, INEXACT)
        except RuntimeError:  # exactly singular, or not finite
            return lambda b, *_: np.zeros_like(b), np.full(len(values), np.nan)


@dataclass(frozen=True)
class Greedy:
    """argmax_u H_u(V) per node, max_u H_u(V) (0 where V is given), the change of V if the node alone followed it, coefficients and reward
    rate there."""

    policy: Any
    slack: Any
    change: Any
    c: Any
    rate: Any


def block_for(nodes):
    """Nodes per compiled call where the finest grid has so many."""
    return int(np.clip(2 ** np.ceil(np.log2(nodes)), LEAST, BLOCK))


def ends(kernel, points):
    """Exit value (S,), and whether the points lie in the target (S,); refused where that is NaN."""
    end, target = in_chunks(lambda x: _ends(kernel, x), points, size=BLOCK)
    odd = np.flatnonzero(np.isnan(target))
    where = f"must be a number; at x={points[odd[:1]].ravel().round(6).tolist()} it"
    require(not len(odd), "target", where, target[odd[:1]].tolist(), "Mend the expression or move the box.")
    return end, target <= 0


def counting(points, end, counts):
    """The exit value where it counts, 0 elsewhere; refused where it counts and is no finite number."""
    odd = np.flatnonzero(counts & ~np.isfinite(end))
    where = f"must be finite where the problem ends; at x={points[odd[:1]].ravel().round(6).tolist()} it"
    require(not len(odd), "exit_value", where, end[odd[:1]].tolist(), "Mend the expression or move the box.")
    return np.where(counts, end, 0.0)


@jax.jit
def _ends(kernel, x):
    target = kernel.target_function
    return kernel.exit_value(x), jnp.ones(len(x)) if target is None else target(x, kernel.p)


@dataclass(frozen=True)
class State:
    """Where a policy iteration stands; `inverse` is that of its last linear operator, `rows` are (iteration, residual, bound)."""

    values: Any
    greedy: "Greedy"
    inverse: Any
    bound: float
    rows: tuple
    converged: bool

    @property
    def policy(self):
        return self.greedy.policy


def _goal(values, tolerance):
    return tolerance * max(float(np.ptp(values)), 1e-6 * float(np.max(np.abs(values))), 1e-12)


def _bound(inverse, greedy, goal):
    """M⁻¹|max_u H_u(V)|, roughly unless it meets the goal."""
    rough = float(np.max(np.abs(inverse(np.abs(greedy.slack), INEXACT))))
    return rough if rough > goal or not np.isfinite(rough) else float(np.max(np.abs(inverse(np.abs(greedy.slack)))))


def howard(scheme, blend, values, policy, tolerance, most, show) -> State:
    """Policy iteration. Where a policy has no finite value (no discount, and it never ends) implicit time steps lead to one that has."""
    inverse, rows, bound, shift, greedy = None, [], np.inf, 0.0, scheme.improve(blend, values, policy)
    for k in range(most + 1):
        goal, residual = _goal(values, tolerance), float(np.max(np.abs(greedy.slack)))
        if inverse is not None and not shift:
            bound = _bound(inverse, greedy, goal)
        rows.append((k, residual, bound))
        show(k, bound, goal)
        if bound <= goal or not np.isfinite(residual) or k == most:
            break
        similar = inverse if not shift and k > 1 and bound < SIMILAR * rows[-2][2] < np.inf else None
        shift /= 10 if shift > 1e-4 * scheme.rate else np.inf
        inverse, new = scheme.evaluate(blend, greedy, values, shift, similar)
        if not np.all(np.isfinite(new)) or np.ptp(new) > 1e4 * (np.ptp(values) + float(np.max(np.abs(greedy.rate))) / scheme.rate):
            shift = max(10 * shift, scheme.rate)
            inverse, new = scheme.evaluate(blend, greedy, values, shift)
        values = new
        greedy = scheme.improve(blend, values, greedy.policy)
    return State(values, greedy, inverse, bound, tuple(rows), bool(bound <= goal))


def refine(scheme, share, low, values, tolerance, most, show) -> State:
    """The equation with second-order differences: Newton steps (policy iteration) where they halve the change still due, else a few steps
    with the monotone operator of the policy as preconditioner, stable where the second-order differences along the drift are."""
    blend, monotone, rows, bound, sweeps = scheme.blended(share), scheme.blended(0.0), [], np.inf, 0
    greedy, inverse = scheme.improve(blend, values, low.policy), low.inverse
    similar = low.inverse
    limit = 10 * float(np.ptp(low.values)) + 1e-12
    for k in range(most):
        goal = _goal(values, tolerance)
        if not sweeps:
            newton, new = scheme.evaluate(blend, greedy, values, near=similar)
            found = scheme.improve(blend, new, greedy.policy)
            if np.ptp(new) <= limit and np.sum(np.abs(found.change)) <= 0.5 * np.sum(np.abs(greedy.change)):
                values, greedy, inverse = new, found, newton
            else:
                sweeps = SWEEPS
        if sweeps:
            sweeps -= 1
            inverse = scheme.evaluate(monotone, greedy, values)[0]
            values = values + DAMPING * inverse(greedy.slack)
            greedy = scheme.improve(blend, values, greedy.policy)
        bound = _bound(inverse, greedy, goal)
        similar = inverse if rows and not sweeps and bound < SIMILAR * rows[-1][2] else None
        rows.append((k, float(np.max(np.abs(greedy.slack))), bound))
        show(k, bound, goal)
        if bound <= goal or not np.ptp(values) <= limit:
            break
    return State(values, greedy, inverse, bound, tuple(rows), bool(bound <= goal))


def high_share(scheme, policy, values):
    """Share (S,) of the second-order differences: 1 where they stay within the filter's bound of the monotone ones, 0 at twice that."""
    low, high = scheme.terms(policy, values)
    drift, shape = 2 * scheme.points.shape[1], scheme.grid.shape
    gap = np.abs(np.sum((high - low)[:, :drift], 1)) + scheme.parts(policy)[2] * np.abs(np.sum((high - low)[:, drift:], 1))
    size = np.sum(np.abs(low), 1)
    bound = FILTER * (size + np.mean(size)) / np.sqrt(max(shape) - 1)
    share = np.clip(2 - gap / (bound + 1e-300), 0.0, 1.0).reshape(shape)
    return (beside_walls(share, scheme.grid) if scheme.hamiltonian.generator.exit == "free" else share).ravel()


def beside_walls(table, grid):
    """A table (shape of the grid, …) whose walls repeat the nodes before them."""
    for k, axis in enumerate(grid.axes):
        if axis.period is None:
            table = np.take(table, np.clip(np.arange(axis.size), 1, axis.size - 2), k)
    return table
