"""Dynamic programming on a grid: modified policy iteration with nested grids (Puterman 2005, §6.5; Chow & Tsitsiklis 1991).

Symbols: V node values (S,), T Bellman operator, T^π that of a policy, h mesh width. Each level starts from the coarser level's V, so the
fine grid sees few maximisations. Stopping rule: MacQueen's bounds TV + γ/(1−γ)·[min, max](TV − V) enclose the fixed point of the finite
problem (T monotone, order 1); stop when half their distance is below `tolerance`·range of V, and return their middle.

Error statement, the sum of: the contraction bound; the discretisation estimated from the levels h, 2h, 4h with their observed order;
the quadrature (the final policy evaluated at the doubled order); for `exit="free"` the truncation (box margin halved on the 2h level).
"""

import itertools
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from rlctrl.errors import require, require_number, require_whole, strict
from rlctrl.grid import ORDERS, box_grid
from rlctrl.maximise import input_set
from rlctrl.plant import box
from rlctrl.policy import LookaheadPolicy
from rlctrl.progress import Progress
from rlctrl.reference.base import Reference, evaluate_value
from rlctrl.reference.bellman import Bellman, sweeps

SAFETY = 2.0  # on estimates from an observed order
LEAST_ORDER = 0.5  # assumed where the levels show none


@dataclass(frozen=True)
class _Level:
    """A solved level: its operator, values, policy, and how the iteration went."""

    bellman: Bellman
    values: Any
    policy: Any
    bound: float
    residual: float
    rows: tuple
    converged: bool
    message: str


@strict
@dataclass(frozen=True)
class GridDP:
    """Value iteration family on a tensor grid with interpolation, for 1 to 3 (coarsely 4) states.

    `shape`: nodes per state. `inputs`: candidates per continuous input, refined locally well below their spacing. `order`: 1 (monotone,
    for kinks), 3 or 5 (splines, for smooth V). `quadrature`: nodes per noise channel. `tolerance`: on the contraction bound, relative to
    the range of V. `margin`: with `exit="free"`, how far the computational box reaches beyond the stated one, relative to its width.
    `memory`: most GiB to use (default: what the machine has free). `iterations`: most improvements per level. Raises `InputError` for an
    unbounded box, for γ = 1 without an end, and when the estimate of memory exceeds the limit.
    """

    shape: Any
    inputs: Any = 21
    order: int = 1
    quadrature: int = 5
    tolerance: float = 1e-9
    margin: float = 0.25
    memory: float | None = None
    iterations: int = 200

    def __post_init__(self):
        shape = (self.shape,) if np.ndim(self.shape) == 0 else tuple(self.shape)
        require(self.order in ORDERS, "order", f"must be one of {ORDERS}", self.order, "Use 1 where V has kinks.")
        for size in shape:
            require_whole("shape", size, 2 * (self.order + 2), "Give that many nodes or more per state.")
        for count in np.atleast_1d(np.asarray(self.inputs, dtype=object)):
            require_whole("inputs", count, 3, "Use e.g. 21 candidates per continuous input.")
        require_whole("quadrature", self.quadrature, 1, "Use 5 nodes per noise channel.")
        require_whole("iterations", self.iterations, 1, "Use 200.")
        require_number("tolerance", self.tolerance, "must be a positive number", "Use 1e-9.", low=1e-300)
        require_number("margin", self.margin, "must be a number ≥ 0", "Use 0.25.", low=0.0)
        if self.memory is not None:
            require_number("memory", self.memory, "must be a positive number of GiB", "Leave it out to use what is free.", low=1e-300)
        object.__setattr__(self, "shape", tuple(int(s) for s in shape))

    def solve(self, problem, progress=False):
        """The reference; `rc.solve` calls this."""
        self._check(problem)
        parts = self._parts(problem)
        shapes = self._levels(problem)
        levels: list[_Level] = []
        with Progress("GridDP", progress) as bar:
            total, done = sum(np.prod(s) for s in shapes), 0.0
            if self.order > 1:
                grid = self._grid(problem, shapes[0], self.margin, order=1)
                levels.append(self._solve_level(parts, grid, None, lambda *_: None))
            for shape in shapes:
                share = np.prod(shape) / total
                grid = self._grid(problem, shape, self.margin)
                start = levels[-1] if levels else None
                note = "×".join(map(str, shape))

                def show(fraction, text, done=done, share=share, note=note):
                    bar.to(done + share * fraction, f"{note} nodes, {text}")

                levels.append(self._solve_level(parts, grid, start, show))
                done += share
            terms = self._error_terms(problem, parts, levels)
        return self._reference(problem, levels, terms)

    def _check(self, problem):
        n = problem.plant.n
        require(len(self.shape) == n, "shape", f"needs one number per state ({n})", self.shape, "Give nodes per state.")
        rule = "must be bounded for a grid"
        unbounded = [s.label for s in problem.plant.states if not np.isfinite(s.high - s.low)]
        require(not unbounded, "states", rule, unbounded, "Give these signals low and high.")
        coarse = "must leave 5 nodes a side (order + 2 above order 3) when halved, for the error estimate"
        require(len(self._levels(problem)) > 1, "shape", coarse, self.shape, "Refine.")
        ends = problem.kernel.can_end or problem.gamma < 1
        require(
            ends, "gamma", "must be below 1 for a problem that never ends", problem.gamma, 'Lower it, or give exit="absorb" or a target.'
        )
        need, free = self.estimate_memory(problem) / 2**30, _free_memory() / 2**30
        limit = free if self.memory is None else self.memory
        require(
            need <= limit,
            "shape",
            f"needs about {need:.2f} GiB, the limit is {limit:.2f} GiB",
            self.shape,
            "Use fewer nodes, inputs or noise nodes.",
        )

    def estimate_memory(self, problem) -> float:
        """Bytes the solve will need at its peak: tables of the fixed-policy operator, node arrays, one chunk of the maximisation."""
        nodes, stencil = np.prod(self.shape, dtype=float), (self.order + 1.0) ** len(self.shape)
        q = problem.plant.law.q
        table = nodes * (2.0 * self.quadrature) ** q * stencil * 12 * 2
        return table + nodes * 8 * (12 + 2 * problem.plant.n + 2 * problem.plant.m) + 2e8

    def _parts(self, problem):
        return problem.kernel, input_set(problem.plant.inputs, self.inputs), problem.plant.law

    def _grid(self, problem, shape, margin, order=None):
        low, high = box(problem.plant.states)
        return box_grid(low, high, shape, problem.kernel.periodic, order or self.order, margin if problem.exit == "free" else 0.0)

    def _levels(self, problem):
        """Shapes from coarse to fine: halved while every side keeps enough nodes, at most three."""
        shapes = [self.shape]
        while len(shapes) < 3:
            half = tuple(s // 2 if p else (s + 1) // 2 for s, p in zip(shapes[0], problem.kernel.periodic, strict=True))
            if min(half) < max(self.order + 2, 5):
                break
            shapes.insert(0, half)
        return shapes

    def _solve_level(self, parts, grid, start, show) -> _Level:
        kernel, inputs, law = parts
        bellman = Bellman.make(kernel, grid, inputs, law.quadrature(self.quadrature))
        values = jnp.zeros(len(bellman.points)) if start is None else evaluate_value(start.bellman.value(start.values), bellman.points)
        return self._iterate(bellman, values, show)

    def _iterate(self, bellman, values, show) -> _Level:
        """Modified policy iteration on one level."""
        gamma, endless = float(bellman.kernel.gamma), not bellman.kernel.can_end
        contraction = gamma / (1 - gamma) if gamma < 1 else 1 / (1 - 0.999)
        rows, first, improved = [], None, values
        policy = jnp.broadcast_to(jnp.asarray(bellman.inputs.candidates[0]), (len(bellman.points), bellman.inputs.candidates.shape[1]))
        for k in range(self.iterations):
            improved, policy = bellman.improve(values, policy)
            change = np.asarray(improved - values)
            low, high = float(change.min()), float(change.max())
            residual = max(abs(low), abs(high))
            bound = contraction * (0.5 * (high - low) if endless else residual)
            middle = 0.5 * contraction * (low + high) if endless else 0.0
            rounding = 1e-13 * float(jnp.max(jnp.abs(improved)))  # a constant V has no range
            goal = max(self.tolerance * float(jnp.ptp(improved)), contraction * rounding, 1e-300)
            rows.append((k, residual, bound))
            first = max(bound, 10 * goal) if first is None else first
            show(np.log(first / max(bound, goal)) / np.log(first / goal), f"bound {bound:.1e} → {goal:.1e}")
            if bound <= goal:
                text = f"Contraction bound {bound:.2e} ≤ {goal:.2e} after {k + 1} improvements on {bellman.grid.shape}."
                return _Level(bellman, improved + middle, policy, bound, residual, tuple(rows), True, text)
            if not np.isfinite(residual) or residual > 1e6 * (1 + rows[0][1]):
                text = f"GridDP diverged on {bellman.grid.shape}: Bellman residual {residual:.2e}. {self._advice(bellman)}"
                return _Level(bellman, improved, policy, float("inf"), residual, tuple(rows), False, text)
            table = bellman.policy_table(policy)
            values, _ = sweeps(bellman.grid, gamma, table, improved, 0.05 * bound, 500, endless and gamma < 1)
        residual, bound = rows[-1][1:]
        text = f"GridDP stopped after {len(rows)} improvements on {bellman.grid.shape}, bound {bound:.2e}. {self._advice(bellman)}"
        return _Level(bellman, improved, policy, bound, residual, tuple(rows), False, text)

    def _advice(self, bellman):
        if self.order > 1:
            return "Splines of order above 1 are no contraction: use order=1."
        if bellman.kernel.exit == "free":
            return 'Extrapolation is no contraction: enlarge the box or use exit="clip".'
        return "Raise `iterations`, or check that every policy reaches an end where gamma is 1."

    def _error_terms(self, problem, parts, levels):
        fine = levels[-1]
        terms = {"contraction": fine.bound, "discretisation": _discretisation(levels, self.order)}
        terms["quadrature"] = self._quadrature_error(parts, fine)
        if problem.exit == "free":
            terms["truncation"] = self._truncation_error(problem, parts, levels)
        return terms

    def _quadrature_error(self, parts, fine):
        """Change of the value of the final policy when the noise gets twice the nodes."""
        _, _, law = parts
        rule = law.quadrature(2 * self.quadrature)
        if len(rule[1]) == len(fine.bellman.rule[1]):
            return 0.0
        found = []
        gamma, endless = float(fine.bellman.kernel.gamma), not fine.bellman.kernel.can_end
        for bellman in (fine.bellman, replace(fine.bellman, rule=rule)):
            table = bellman.policy_table(fine.policy)
            goal = max(fine.bound, 1e-14)
            found.append(sweeps(bellman.grid, gamma, table, fine.values, goal, 5000, endless and gamma < 1)[0])
        return float(jnp.max(jnp.abs(found[0] - found[1])))

    def _truncation_error(self, problem, parts, levels):
        """Change inside the stated box when the margin is halved, on the level below the finest: more than what the full margin still
        lacks."""
        level = levels[-2] if len(levels) > 1 else levels[-1]
        shape = self._levels(problem)[-2 if len(levels) > 1 else -1]
        less = self._solve_level(parts, self._grid(problem, shape, 0.5 * self.margin), level, lambda *_: None)
        inside = level.bellman.judged()
        full = evaluate_value(level.bellman.value(level.values), inside)
        return float(jnp.max(jnp.abs(evaluate_value(less.bellman.value(less.values), inside) - full)))

    def _reference(self, problem, levels, terms):
        fine = levels[-1]
        bellman, value = fine.bellman, fine.bellman.value(fine.values)
        coarse = box_grid(
            [float(a.nodes[0]) for a in bellman.grid.axes],
            [float(a.nodes[-1]) if a.period is None else float(a.nodes[0] + a.period) for a in bellman.grid.axes],
            bellman.grid.shape, bellman.kernel.periodic,
        )  # fmt: skip
        left = float(bellman.share_leaving(fine.policy))
        rows = [(np.prod(level.bellman.grid.shape), *row) for level in levels for row in level.rows]
        good = all(np.isfinite(v) for v in terms.values())
        return Reference(
            method="GridDP",
            kernel=problem.kernel,
            states=problem.plant.states,
            inputs=problem.plant.inputs,
            value=value,
            policy=LookaheadPolicy(bellman.kernel, value, bellman.rule, coarse, fine.policy, bellman.inputs),
            rule=bellman.rule,
            error=float(sum(terms.values())),
            error_kind="estimated",
            error_terms=terms,
            converged=fine.converged and good,
            residual=fine.residual,
            message=fine.message,
            iterations=sum(len(level.rows) for level in levels),
            notes=(f"{100 * left:.2f} % of the transitions from the nodes under the optimal policy left the box.",),
            history={name: np.array([row[k] for row in rows]) for k, name in enumerate(("nodes", "iteration", "residual", "bound"))},
        )


def _discretisation(levels, order):
    """|V_h − V_2h| extrapolated with the order that the last three levels show (at most that of the scheme)."""
    if len(levels) == 1:
        return float("inf")
    changes = []
    for coarse, fine in itertools.pairwise(levels[-3:]):
        points = fine.bellman.judged()
        values = (evaluate_value(level.bellman.value(level.values), points) for level in (coarse, fine))
        changes.append(float(np.max(np.abs(np.subtract(*map(np.asarray, values))))))
    observed = np.log2(changes[0] / changes[1]) if len(changes) == 2 and changes[1] > 0 else LEAST_ORDER
    observed = float(np.clip(observed, LEAST_ORDER, order + 1))
    return SAFETY * changes[-1] / (2**observed - 1)


def _free_memory() -> float:
    """Bytes of memory the machine can still give (infinite where the system does not say)."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return float("inf")
