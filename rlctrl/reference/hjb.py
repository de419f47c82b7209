"""The HJB equation ρV = max_u {ℓ + ∇V·b + ½ tr(σσᵀ∇²V)} (T4) on a grid: Markov-chain approximation and policy iteration.

Symbols: S nodes, H_u(V) = ℓ + Σ_j c_j(·,u) O_j V − ρV with the differences of `markov_chain`, h the mesh width. Policy iteration (Howard 1960):
u ← argmax H_u(V) at every node, then H_u(V) = 0 as a sparse linear system. scheme="upwind" is monotone (Kushner & Dupuis 2001): converges to
the viscosity solution, order 1. scheme="filtered" (Froese & Oberman 2013) uses the second-order differences at the nodes where they differ
from the monotone ones by less than a bound of order √h, and blends towards the monotone ones where they differ by more.

V is that of the continuous-time problem; it differs from the V of the sampled problem (inputs held over dt) by O(dt).

Stopping rule: −M⁻¹|max_u H_u(V)|, the change the next policy could make (M the last linear operator; for the monotone scheme a bound), below
`tolerance`·range of V. Error statement, estimated: that; the levels h, 2h, 4h extrapolated with their observed order; correlation
that the cross stencil had to drop; for `exit="free"` the truncation (box margin halved on the 2h level).
"""

import itertools
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize, sparse
from scipy.interpolate import make_interp_spline
from scipy.sparse import linalg

from rlctrl.errors import require, strict
from rlctrl.grid import Grid, box_grid, make_axis
from rlctrl.maximise import input_set
from rlctrl.plant import box
from rlctrl.policy import LookaheadPolicy
from rlctrl.progress import Progress
from rlctrl.reference.base import Reference
from rlctrl.reference.bellman import GridValue
from rlctrl.reference.markov_chain import Hamiltonian, best_input, differences, in_chunks, parts

SCHEMES = ("upwind", "filtered")
FILTER = 1.0  # bound of the filter, relative to the mean size of the terms of the equation, times √(1/nodes a side)
DAMPING = 0.65  # of steps with the monotone operator: contracts every mode of the second-order differences along the drift
SAFETY, LEAST_ORDER = 2.0, 0.5  # on estimates from an observed order; what is assumed where the levels show none
BLOCK, CHUNK = 2048, 400_000  # nodes per compiled call, and pairs (node, candidate) per call of the maximisation


@dataclass(frozen=True)
class _Scheme:
    """The discrete equation on one grid; `fixed` marks nodes whose value is given (`given`)."""

    hamiltonian: Hamiltonian
    grid: Any
    points: Any
    differences: Any
    end: Any
    fixed: Any
    given: Any

    @classmethod
    def make(cls, problem, hamiltonian, grid, rest, walls):
        points = grid.points()
        end, fixed = in_chunks(lambda x: _ends(problem.kernel, x), BLOCK, points)
        given = np.where(fixed, end, 0.0)
        if rest is not None:
            fixed[np.argmin(np.sum(((points - rest) / hamiltonian.steps) ** 2, 1))] = True
        return cls(hamiltonian, grid, points, differences(grid, walls, hamiltonian.noisy), end, fixed, given)

    @property
    def rho(self):
        """Discount rate; without discount a trace of one, so that a policy that never ends gives a large value instead of a singular matrix."""
        return max(float(self.hamiltonian.generator.rho), 1e-11 * self.rate)

    @cached_property
    def rate(self):
        """One over the time in which the fastest drift crosses the grid: where implicit time steps begin."""
        n = len(self.grid.axes)
        c = self.parts(np.repeat(self.hamiltonian.inputs.candidates[-1:], len(self.points), 0))[0]
        return float(np.max(np.max(c[:, :n] + c[:, n : 2 * n], 0) / (self.hamiltonian.steps * self.grid.shape))) + 1e-300

    def edge(self):
        """Nodes on the walls of the grid."""
        sides = np.meshgrid(*[(np.arange(a.size) % (a.size - 1) == 0) & (a.period is None) for a in self.grid.axes], indexing="ij")
        return np.any(sides, 0).ravel()

    @staticmethod
    def goal(values, tolerance):
        """What the bound must reach."""
        return tolerance * max(float(np.ptp(values)), 1e-6 * float(np.max(np.abs(values))), 1e-12)

    def improve(self, blend, values, policy):
        """argmax_u H_u(V) and max_u H_u(V), 0 where V is given."""
        width = 16 + len(self.hamiltonian.inputs.candidates) * (not self.hamiltonian.affine)
        size = int(np.clip(CHUNK // width, 64, BLOCK))
        g = blend.apply(values, self.end)
        policy, best = in_chunks(lambda *a: best_input(self.hamiltonian, *a), size, self.points, policy, g)
        return policy, np.where(self.fixed, 0.0, best - self.rho * values)

    def parts(self, policy):
        return in_chunks(lambda *a: parts(self.hamiltonian, *a), BLOCK, self.points, policy)

    def linear(self, blend, policy, values, shift):
        """Matrix and right side of H_u(V) = shift·(V − values) for a fixed policy."""
        c, rate, _ = self.parts(policy)
        free = ~self.fixed
        matrix = sparse.diags(np.where(free, self.rho + shift, 1.0)) - blend.matrix(c * free[:, None])
        right = rate + np.sum(c * blend.out, 1) * self.end + shift * values
        return matrix, np.where(free, right, self.given)


@jax.jit
def _ends(kernel, x):
    """Exit value, and whether x lies in the target."""
    target = kernel.target_function
    return kernel.exit_value(x), jnp.zeros(len(x), bool) if target is None else target(x, kernel.p) <= 0


def _factor(matrix, dimensions):
    """A function b → matrix⁻¹b: sparse LU, in three dimensions GMRES with an incomplete LU and LU where that fails."""
    scale = 1 / np.maximum(abs(matrix).max(1).toarray().ravel(), 1e-300)
    scaled = sparse.csc_matrix(sparse.diags(scale) @ matrix)
    if dimensions < 3:
        lu = linalg.splu(scaled)
        return lambda b: lu.solve(scale * b)
    inner = linalg.LinearOperator(scaled.shape, linalg.spilu(scaled, drop_tol=1e-3, fill_factor=10).solve)

    def solve(b):
        found, failed = linalg.gmres(scaled, scale * b, rtol=1e-11, restart=40, maxiter=10, M=inner)
        return linalg.splu(scaled).solve(scale * b) if failed else found

    return solve


@dataclass(frozen=True)
class _State:
    """Where a policy iteration stands; `solve` inverts its last linear operator."""

    values: Any
    policy: Any
    slack: Any
    solve: Any
    bound: float
    rows: tuple
    converged: bool


def _howard(scheme, blend, values, policy, tolerance, most, show=lambda *_: None) -> _State:
    """Policy iteration. Where a policy has no finite value (no discount, and it never ends) implicit time steps lead to one that has."""
    solve, rows, bound, shift = None, [], np.inf, 0.0
    for k in range(most + 1):
        policy, slack = scheme.improve(blend, values, policy)
        goal, residual = scheme.goal(values, tolerance), float(np.max(np.abs(slack)))
        if solve is not None and not shift:
            bound = float(np.max(np.abs(solve(np.abs(slack)))))
        rows.append((k, residual, bound))
        show(k, bound, goal)
        if bound <= goal or not np.isfinite(residual) or k == most:
            break
        shift /= 10 if shift > 1e-4 * scheme.rate else np.inf
        solve, new = _evaluate(scheme, blend, policy, values, shift)
        if not np.all(np.isfinite(new)) or np.ptp(new) > 1e4 * (np.ptp(values) + residual / scheme.rate):
            shift = max(10 * shift, scheme.rate)
            solve, new = _evaluate(scheme, blend, policy, values, shift)
        values = new
    return _State(values, policy, slack, solve, bound, tuple(rows), bool(bound <= goal))


def _evaluate(scheme, blend, policy, values, shift):
    """The inverse of the linear operator of a policy, and its value (NaN where it has none)."""
    matrix, right = scheme.linear(blend, policy, values, shift)
    try:
        if not np.all(np.isfinite(matrix.data)):
            raise RuntimeError("not finite")
        solve = _factor(matrix, len(scheme.grid.axes))
        return solve, solve(right)
    except RuntimeError:  # exactly singular
        return np.zeros_like, np.full(len(values), np.nan)


def _refine(scheme, share, low, values, tolerance, most, show) -> _State:
    """The equation with second-order differences: Newton steps (policy iteration) where they halve the residual, else steps with the monotone
    operator as preconditioner, which converge where the second-order differences along the drift are stable."""
    blend, rows, bound, sweeps = scheme.differences.blended(share), [], np.inf, 0
    policy, slack = scheme.improve(blend, values, low.policy)
    solve, limit = low.solve, 10 * float(np.ptp(low.values)) + 1e-12
    for k in range(most):
        size, goal = np.sum(np.abs(slack)), scheme.goal(values, tolerance)
        if not sweeps:
            solve, new = _evaluate(scheme, blend, policy, values, 0.0)
            found, left = scheme.improve(blend, new, policy)
            if np.sum(np.abs(left)) <= 0.5 * size:
                values, policy, slack = new, found, left
            else:
                solve, sweeps = low.solve, 5
        if sweeps:
            sweeps -= 1
            values = values + DAMPING * solve(slack)
            policy, slack = scheme.improve(blend, values, policy)
        bound = float(np.max(np.abs(solve(np.abs(slack)))))
        rows.append((k, float(np.max(np.abs(slack))), bound))
        show(k, bound, goal)
        if bound <= goal or not np.ptp(values) <= limit:
            break
    return _State(values, policy, slack, solve, bound, tuple(rows), bool(bound <= goal))


def _high_share(scheme, state, strength):
    """Share (S,) of the second-order differences: 1 where they stay within the filter's bound of the monotone ones, 0 at twice that."""
    c, _, whole = scheme.parts(state.policy)
    low, high = (c * scheme.differences.blended(np.full(len(c), s)).apply(state.values, scheme.end) for s in (0.0, 1.0))
    drift, shape = 2 * scheme.points.shape[1], scheme.grid.shape
    gap = np.sum((high - low)[:, :drift], 1) + np.where(whole, np.sum((high - low)[:, drift:], 1), 0.0)
    bound = strength * float(np.mean(np.sum(np.abs(low), 1))) / np.sqrt(max(shape) - 1)
    share = np.clip(2 - np.abs(gap) / (bound + 1e-300), 0.0, 1.0).reshape(shape)
    if scheme.hamiltonian.generator.exit == "free":  # a wall goes with the nodes before it
        for k, axis in enumerate(scheme.grid.axes):
            inner = np.clip(np.arange(axis.size), 1, axis.size - 2) if axis.period is None else np.arange(axis.size)
            share = np.take(share, inner, k)
    return share.ravel()


@dataclass(frozen=True)
class _Level:
    """A solved level: the state of the scheme asked for, that of the monotone one, and the share of second-order differences per node."""

    scheme: _Scheme
    state: _State
    low: _State
    share: Any
    walls: str
    fell_back: bool

    @property
    def order(self):
        """Of the interpolation: cubic where the second-order scheme holds (nearly) everywhere, else linear."""
        return 3 if np.mean(self.share == 1) > 0.999 else 1

    @property
    def value(self):
        """V as a function."""
        grid = Grid(tuple(make_axis(a.nodes, self.order, a.period) for a in self.scheme.grid.axes))
        return GridValue(grid, np.asarray(grid.fit(self.state.values)))

    @property
    def judged(self):
        """Nodes inside the stated box, axis by axis."""
        generator, axes = self.scheme.hamiltonian.generator, self.scheme.grid.axes
        slack = 1e-9 * (generator.high - generator.low)
        bounds = zip(axes, generator.low - slack, generator.high + slack, strict=True)
        return [a.nodes[(a.nodes >= low) & (a.nodes <= high)] for a, low, high in bounds]

    def on(self, nodes, values=None):
        """V (or other node values) interpolated onto the tensor grid of `nodes`, one array per axis."""
        table = (self.state.values if values is None else values).reshape(self.scheme.grid.shape)
        for k, (axis, x) in enumerate(zip(self.scheme.grid.axes, nodes, strict=True)):
            closed = np.append(axis.nodes, axis.nodes[0] + axis.period) if axis.period else axis.nodes
            matrix = np.eye(axis.size)[np.arange(len(closed)) % axis.size]
            ends = "periodic" if axis.period and self.order == 3 else None
            rows = make_interp_spline(closed, matrix, self.order, bc_type=ends)(x)
            table = np.moveaxis(np.tensordot(rows, table, (1, k)), 0, k)
        return table

    def leaks(self):
        """Whether the policy or the noise leads out of the grid."""
        c, n, grid = self.scheme.parts(self.state.policy)[0], len(self.scheme.grid.axes), self.scheme.grid
        for k, axis in enumerate(grid.axes):
            table = c.reshape(*grid.shape, -1)
            upper, lower = np.take(table, -1, k), np.take(table, 0, k)
            out = [upper[..., k], lower[..., n + k]] + [side[..., -n * (n + 1) // 2 + k] for side in (upper, lower)] * (c.shape[1] > 2 * n)
            if axis.period is None and max(np.max(o) for o in out) > 1e-9 * np.max(c):
                return True
        return False


@strict
@dataclass(frozen=True)
class HJB:
    """The HJB equation of a diffusion problem on a grid, for 1 to 3 states (`shape`: nodes per state).

    V is the value of the continuous-time problem: it differs from that of the sampled problem, which holds its input over dt, by O(dt).
    `scheme`: "filtered" is of second order where V is smooth and monotone near kinks; "upwind" is monotone everywhere, of first order.
    `inputs`: candidates per continuous input, refined locally well below their spacing; a control-affine drift with quadratic reward rate
    gets its maximum in closed form. `tolerance`: on the solver's bound, relative to the range of V. `iterations`: most policies per level.
    `margin`: with `exit="free"`, how far the grid reaches beyond the stated box, relative to its width (default: 0.25, or 0 if nothing
    leaves the box).

    Exit rules: "clip" reflects (no flux out), "absorb" ends with the exit value, "free" extrapolates at the far walls ("upwind": allows no
    motion across them). Nodes with target ≤ 0 carry the exit value. Without discount and end, V = 0 is set at the node nearest the rest
    state (reward rate, drift and noise zero). Raises `InputError` for an unbounded box, a discrete-time plant, more than three states, a
    target between the nodes, and a problem without discount, end and rest state.
    """

    shape: Any
    inputs: Any = 21
    scheme: str = "filtered"
    tolerance: float = 1e-8
    iterations: int = 60
    margin: float | None = None

    def __post_init__(self):
        shape = tuple(int(s) for s in np.atleast_1d(self.shape))
        object.__setattr__(self, "shape", shape)
        require(min(shape) >= 10, "shape", "needs at least 10 nodes a side", shape, "Refine.")
        require(self.scheme in SCHEMES, "scheme", f"must be one of {SCHEMES}", self.scheme, "See the docstring of HJB.")
        require(self.tolerance > 0, "tolerance", "must be positive", self.tolerance, "Use 1e-8.")
        require(self.iterations >= 1, "iterations", "must be at least 1", self.iterations, "Use 60.")
        require(self.margin is None or self.margin >= 0, "margin", "must not be negative", self.margin, "Use 0.25.")

    def solve(self, problem, progress=False):
        shapes, rest = self._levels(problem), self._check(problem)
        levels: list[_Level] = []
        with Progress("HJB", progress) as bar:
            margin = self._margin(problem, shapes[0], rest)
            total, done = sum(np.prod(s) for s in shapes), 0.0
            for shape in shapes:
                show = _shower(bar, done / total, np.prod(shape) / total, shape)
                levels.append(self._solve_level(problem, shape, margin, rest, levels[-1] if levels else None, show))
                done += np.prod(shape)
            terms = self._error_terms(problem, levels, margin, rest)
        return self._reference(problem, levels, terms, rest)

    def _check(self, problem):
        """Raises `InputError` for what the method cannot do; returns the rest state if V must be pinned there."""
        plant = problem.plant
        require(plant.n <= 3, "plant", "must have at most 3 states", plant.n, "Use rc.GridDP or a critic.")
        require(len(self.shape) == plant.n, "shape", f"needs one number per state ({plant.n})", self.shape, "Give nodes per state.")
        unbounded = [s.name for s in plant.states if not np.isfinite(s.high - s.low)]
        require(not unbounded, "states", "must be bounded for a grid", unbounded, "Give these signals low and high.")
        inputs, endless = input_set(plant.inputs, self.inputs), not problem.kernel.can_end
        return _rest_state(problem.generator, inputs) if float(problem.generator.rho) == 0 and endless else None

    def _levels(self, problem):
        """Shapes from coarse to fine: halved while every side keeps enough nodes, at most three."""
        require(len(self.shape) == problem.plant.n, "shape", f"needs one number per state ({problem.plant.n})", self.shape, "Count them.")
        require(self._hits_target(problem, self.shape), "target", "must contain a node of the grid", self.shape, "Refine, or enlarge it.")
        shapes = [self.shape]
        while len(shapes) < 3:
            half = tuple(s // 2 if s_.periodic else (s + 1) // 2 for s, s_ in zip(shapes[0], problem.plant.states, strict=True))
            if min(half) < 5 or not self._hits_target(problem, half):
                break
            shapes.insert(0, half)
        return shapes

    @staticmethod
    def _hits_target(problem, shape):
        """Whether a node of the grid lies in the target, if there is one."""
        grid = box_grid(*box(problem.plant.states), shape, problem.kernel.periodic)
        return problem.target is None or bool(np.any(in_chunks(lambda x: _ends(problem.kernel, x), BLOCK, grid.points())[1]))

    def _margin(self, problem, shape, rest):
        """The margin asked for; by default 0.25 of a box that the policy of the coarsest grid leaves."""
        if problem.exit != "free" or self.margin is not None:
            return self.margin or 0.0
        return 0.25 * self._solve_level(problem, shape, 0.0, rest, None, lambda *_: None).leaks()

    def _hamiltonian(self, problem, grid):
        inputs, plant = input_set(problem.plant.inputs, self.inputs), problem.plant
        steps = np.array([float(a.widths[0]) for a in grid.axes])
        hamiltonian = Hamiltonian(problem.generator, steps, inputs, plant.law.q > 0, False)
        rng, (low, high) = np.random.default_rng(0), box(plant.states)
        x, u, other = (a + (b - a) * rng.random((64, len(a))) for a, b in [(low, high)] + [(inputs.low, inputs.high)] * 2)
        return replace(hamiltonian, affine=bool(np.all(inputs.step > 0)) and bool(hamiltonian.is_affine(x, u, other)))

    def _solve_level(self, problem, shape, margin, rest, start, show) -> _Level:
        """One level. exit="free" extrapolates at the walls of the grid, or stops motion across them if that does not settle."""
        low, high = box(problem.plant.states)
        grid = box_grid(low, high, shape, problem.kernel.periodic, 1, margin if problem.exit == "free" else 0.0)
        hamiltonian, level = self._hamiltonian(problem, grid), None
        for walls in ("free", "stop") if problem.exit == "free" else (problem.exit,):
            scheme = _Scheme.make(problem, hamiltonian, grid, rest, walls)
            level = self._on_grid(scheme, start, show, walls)
            if level.state.converged:
                break
        assert level is not None
        return level

    def _on_grid(self, scheme, start, show, walls) -> _Level:
        monotone, filtered = scheme.differences.blended(np.zeros(len(scheme.points))), self.scheme == "filtered"
        first = _first(scheme, start, start and start.low.values)
        tolerance = max(1e-3, self.tolerance) if filtered else self.tolerance
        state = _howard(scheme, monotone, *first, tolerance, self.iterations, show)
        if filtered and state.converged:
            level = self._filtered(scheme, state, start, show, walls)
            if level is not None:
                return level
            state = _howard(scheme, monotone, state.values, state.policy, self.tolerance, self.iterations, show)
        return _Level(scheme, state, state, np.zeros(len(scheme.points)), walls, filtered)

    def _filtered(self, scheme, low, start, show, walls):
        """The filtered scheme from the monotone solution; nodes where the residual stays become monotone. None if it does not settle."""
        share = _high_share(scheme, low, FILTER)
        values = _first(scheme, start, start.state.values)[0] if start and not start.fell_back else low.values
        edge = scheme.edge() if walls == "free" else np.zeros(len(share), bool)
        for _ in range(3):
            state = _refine(scheme, share, low, values, self.tolerance, self.iterations, show)
            if state.converged:
                return _Level(scheme, state, low, share, walls, False)
            if not np.all(np.isfinite(state.values)):
                return None
            slack = np.abs(state.slack)
            stuck = edge if np.any(share[edge]) else slack > 0.1 * np.max(slack)
            share, values = np.where(stuck, 0.0, share), low.values
        return None

    def _error_terms(self, problem, levels, margin, rest):
        fine = levels[-1]
        terms = {"solver": fine.state.bound, "discretisation": _discretisation(levels, 2 if self.scheme == "filtered" else 1)}
        terms |= _correlation(fine)
        if margin:
            level, less = levels[-2], self._solve_level(problem, self._levels(problem)[-2], margin / 2, rest, levels[-2], lambda *_: None)
            terms["truncation"] = float(np.max(np.abs(less.on(level.judged) - level.on(level.judged))))
        return terms

    def _reference(self, problem, levels, terms, rest):
        fine, rule = levels[-1], problem.plant.law.quadrature(5)
        state, scheme = fine.state, fine.scheme
        rows = [(len(a.scheme.points), *row) for a in levels for row in (*a.low.rows, *(a.state.rows if a.state is not a.low else ()))]
        table = LookaheadPolicy(problem.kernel, fine.value, rule, scheme.grid, state.policy, scheme.hamiltonian.inputs)
        return Reference(
            method="HJB",
            kernel=problem.kernel,
            states=problem.plant.states,
            inputs=problem.plant.inputs,
            value=fine.value,
            policy=table,
            rule=rule,
            error=float(sum(terms.values())),
            error_kind="estimated",
            error_terms=terms,
            converged=state.converged and bool(np.all(np.isfinite(list(terms.values())))),
            residual=float(np.max(np.abs(state.slack))),
            message=_message(fine, terms),
            iterations=len(rows),
            notes=tuple(_notes(problem, fine, rest)),
            history={name: np.array([row[k] for row in rows]) for k, name in enumerate(("nodes", "iteration", "residual", "bound"))},
        )


def _shower(bar, done, share, shape):
    note = "×".join(map(str, shape))

    def show(k, bound, goal):
        bar.to(done + share * (1 - 0.7**k), f"{note} nodes, bound {bound:.1e} → {goal:.1e}")

    return show


def _first(scheme, start, values):
    """(values, policy) to begin with: nothing known, or those of a coarser level, the policy from its nearest node."""
    if start is None:
        return scheme.given, np.repeat(scheme.hamiltonian.inputs.candidates[:1], len(scheme.points), 0)
    axes = scheme.grid.axes
    near = [np.argmin(np.abs(a.nodes[:, None] - b.nodes), 1) for a, b in zip(axes, start.scheme.grid.axes, strict=True)]
    policy = start.state.policy.reshape(*start.scheme.grid.shape, -1)[np.ix_(*near)].reshape(len(scheme.points), -1)
    return np.where(scheme.fixed, scheme.given, start.on([a.nodes for a in axes], values).ravel()), policy


def _discretisation(levels, order):
    """|V_h − V_2h| extrapolated with the order that the last three levels show (at most that of the scheme)."""
    changes = [float(np.max(np.abs(a.on(b.judged) - b.on(b.judged)))) for a, b in itertools.pairwise(levels)]
    if not changes or not np.all(np.isfinite(changes)):
        return float("inf")
    observed = np.log2(changes[0] / changes[1]) if len(changes) == 2 and min(changes) > 0 else LEAST_ORDER
    return SAFETY * changes[-1] / (2 ** float(np.clip(observed, LEAST_ORDER, order)) - 1)


def _correlation(level):
    """What the part of the noise's correlation that the cross stencil dropped could change in V."""
    scheme, state = level.scheme, level.state
    if not scheme.hamiltonian.noisy or state.solve is None:
        return {}
    c, _, whole = scheme.parts(state.policy)
    low, high = (c * scheme.differences.blended(np.full(len(c), s)).apply(state.values, scheme.end) for s in (0.0, 1.0))
    drift = 2 * scheme.points.shape[1]
    defect = np.where(whole, 0.0, (1 - level.share) * np.abs(np.sum((high - low)[:, drift:], 1)))
    return {"correlation": float(np.max(np.abs(state.solve(defect))))} if np.any(defect) else {}


def _message(level, terms):
    shape, state = "×".join(map(str, level.scheme.grid.shape)), level.state
    if state.converged:
        return f"Bound of the policy iteration {state.bound:.1e} after {len(state.rows) - 1} policies on {shape} nodes."
    if not np.all(np.isfinite(state.values)):
        return f"HJB found no finite value on {shape} nodes: some policy never ends. Give a discount, a reachable end, or a larger box."
    return f"HJB stopped after {len(state.rows) - 1} policies on {shape} nodes with bound {state.bound:.1e}. Raise `iterations` or refine."


def _notes(problem, level, rest):
    scheme = level.scheme
    yield f"V is that of continuous time; the sampled problem's differs by O(dt), dt = {problem.dt:g} s."
    if np.any(level.share):
        yield f"Second-order differences at {100 * np.mean(level.share):.2f} % of the nodes."
    if level.fell_back:
        yield "The filtered scheme did not settle: this is the monotone solution, of first order."
    if level.walls == "stop":
        yield "Extrapolation at the walls of the grid did not settle: motion across them was stopped, which favours states near them."
    if rest is not None:
        pinned = scheme.points[np.argmax(scheme.fixed)]
        yield f"V = 0 was set at x = {pinned.round(6).tolist()}, the node nearest the rest state {rest.round(6).tolist()}."
    whole = scheme.parts(level.state.policy)[2]
    if not np.all(whole):
        lost = np.mean(~whole)
        yield f"At {100 * lost:.2f} % of the nodes the noise is too correlated for the monotone stencil, which takes the nearest part it can."


def _rest_state(generator, inputs):
    """A state where reward rate, drift and noise vanish for some input, or `InputError`."""
    low, high = (np.concatenate([np.asarray(a), np.asarray(b)]) for a, b in ((generator.low, inputs.low), (generator.high, inputs.high)))
    n = len(np.asarray(generator.low))

    @jax.jit
    @jax.value_and_grad
    def unrest(z):
        x, u = z[:n], z[n:]
        return jnp.abs(generator.reward_rate(x, u)) + jnp.sum(generator.drift(x, u) ** 2) + jnp.trace(generator.covariance(x, u))

    rng = np.random.default_rng(0)
    starts = [0.5 * (low + high), *(low + (high - low) * rng.random((8, len(low))))]
    found = [optimize.minimize(unrest, z, jac=True, method="L-BFGS-B", bounds=list(zip(low, high, strict=True)), options={"ftol": 1e-16}) for z in starts]
    best = min(found, key=lambda f: f.fun)
    scale = max(float(unrest(z)[0]) for z in starts)
    way_out = 'Lower it, or give exit="absorb" or a target.'
    rule = "must be below 1 for a problem that never ends and has no rest state (reward rate, drift and noise zero)"
    require(best.fun <= 1e-7 * scale, "gamma", rule, 1.0, way_out)
    return best.x[:n]
