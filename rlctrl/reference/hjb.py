"""The HJB equation ρV = max_u {ℓ + ∇V·b + ½ tr(σσᵀ∇²V)} (T4) on nested grids: Markov-chain approximation, policy iteration (`howard`).

Order 1 is monotone (Kushner & Dupuis 2001): it converges to the viscosity solution. Order 2 is filtered (Froese & Oberman 2013):
second-order differences where V is smooth, monotone ones near kinks. Each level starts from the coarser one.

V is that of the continuous-time problem; the V of the sampled problem (inputs held over dt, r = ℓ·dt) differs by O(dt): `notes` bounds it.

Error statement, estimated: the bound of the policy iteration; the levels h, 2h, 4h extrapolated with their observed order; correlation that
the monotone stencil had to drop; what the nodes in the target miss of it; how far V at walls that end the problem is from the exit value,
as its rate is finite there; for `exit="free"` the truncation (on the level 2h, from the changes of V as a margin around the box grows by
quarters, taken to go on like a geometric series). Where a margin changes V by more than its range there is no statement: `NotConverged`.
"""

import functools
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.errors import require, require_number, require_whole, strict
from rlctrl.grid import box_grid, nearest_nodes
from rlctrl.kinds import Counts, is_whole
from rlctrl.maximise import InputSet, input_set
from rlctrl.plant import box, finite_box
from rlctrl.progress import Progress
from rlctrl.reference.base import Reference
from rlctrl.reference.grid_hamiltonian import GridHamiltonian
from rlctrl.reference.hamiltonian import noise_entries
from rlctrl.reference.howard import Scheme, block_for, ends, high_share, howard, refine
from rlctrl.reference.level import Level, correlation, discretisation, target, walls
from rlctrl.reference.refinement import BEYOND, SMALL, truncation, vague
from rlctrl.reference.sampling import sampled_distance
from rlctrl.undefined import WITHIN, undefined

LEAST_NODES = 9  # a side, on the coarsest level
MARGIN = 0.25  # beyond a box that the optimal state leaves, relative to its width


@strict
@dataclass(frozen=True)
class HJB:
    """The HJB equation of a diffusion problem on a grid, for 1 to 3 states; V is the value of the continuous-time problem.

    `shape`: nodes per state. `order`: 2 is of second order where V is smooth and monotone near kinks, 1 is monotone everywhere. `inputs`:
    candidates per continuous input, refined locally well below their spacing; with a control-affine drift and a quadratic reward rate the
    maximum is in closed form (one input) and inputs may be unbounded. `tolerance`: on the solver's bound, relative to the range of V.
    `iterations`: most policies per level. `margin`: with `exit="free"`, how far the grid reaches beyond the stated box, relative to its
    width (default: 0.25, or 0 if nothing leaves the box).

    Exit rules: "clip" reflects (no flux out), "absorb" ends with the exit value, "free" extrapolates at the far walls (order 1: allows no
    motion across them). Nodes with target ≤ 0 carry the exit value. Without discount and end, V = 0 is set at the node nearest the rest
    state (reward rate, drift and noise zero). Raises `InputError` for an unbounded box, a discrete-time plant, more than three states, a
    target between the nodes, unbounded inputs without closed form, and a problem without discount, end and rest state.
    """

    shape: Counts
    order: int = 2
    inputs: Any = 21
    tolerance: float = 1e-8
    iterations: int = 60
    margin: float | None = None

    def __post_init__(self):
        shape = (self.shape,) if np.ndim(self.shape) == 0 else tuple(self.shape)
        for size in shape:
            require_whole("shape", size, 2 * LEAST_NODES - 1, "Refine: the error estimate halves the grid.")
        require(
            is_whole(self.order) and self.order in (1, 2), "order", "must be 1 or 2", self.order, "Use 2, or 1 for the monotone scheme."
        )
        require_number("tolerance", self.tolerance, "must be a positive number", "Use 1e-8.", low=1e-300)
        require_whole("iterations", self.iterations, 1, "Use 60.")
        if self.margin is not None:
            require_number("margin", self.margin, "must be a number ≥ 0", "Use 0.25.", low=0.0)
        object.__setattr__(self, "shape", tuple(int(s) for s in shape))

    def solve(self, problem, progress=False):
        """The reference; `rc.solve` calls this."""
        inputs = self._check(problem)
        rest = _rest_state(problem.generator, inputs) if float(problem.generator.rho) == 0 and not problem.kernel.can_end else None
        shapes, margin = self._levels(problem), self.margin or 0.0
        with Progress("HJB", progress) as bar:
            if problem.exit == "free" and self.margin is None and self._solve_level(problem, inputs, shapes[0], 0.0, rest, None).leaving:
                margin = MARGIN
            levels = self._nested(problem, inputs, shapes, margin, rest, bar)
            if problem.exit == "free" and self.margin is None and not margin and levels[-1].leaving:
                margin = MARGIN
                levels = self._nested(problem, inputs, shapes, margin, rest, bar)
            fine = levels[-1]
            terms = {"solver": fine.solver_error, "discretisation": discretisation(levels)}
            terms |= correlation(fine) | target(problem.kernel, fine) | walls(fine)
            if problem.exit == "free" and (margin or fine.leaving):
                small = terms["solver"] + SMALL * terms["discretisation"]
                terms["truncation"] = self._truncation(problem, inputs, shapes[-2], margin or MARGIN, rest, levels[-2], small)
        return self._reference(problem, levels, terms, rest)

    def _check(self, problem) -> InputSet:
        """The input set; raises `InputError` for what the method cannot do."""
        plant = problem.plant
        require(plant.n <= 3, "plant", "must have at most 3 states", plant.n, "Use rc.GridDP or a critic.")
        require(len(self.shape) == plant.n, "shape", f"needs one number per state ({plant.n})", self.shape, "Give nodes per state.")
        unbounded = [s.name for s in plant.states if not np.isfinite(s.high - s.low)]
        require(not unbounded, "states", "must be bounded for a grid", unbounded, "Give these signals low and high.")
        require(
            len(self._levels(problem)) > 1, "target", "must contain a node of the grid with half the nodes a side", self.shape, "Refine."
        )
        low, high = finite_box(plant.inputs)
        bounded = [s if s.values else replace(s, low=a, high=b) for s, a, b in zip(plant.inputs, low, high, strict=True)]
        found = input_set(bounded, self.inputs)
        rule = "must be bounded unless the drift is affine and the reward rate concave and quadratic in it"
        endless = [s.name for s in plant.inputs if not np.isfinite(s.high - s.low)]
        require(not endless or _is_affine(problem, found), "inputs", rule, endless, "Give these signals low and high.")
        return replace(found, low=box(plant.inputs)[0], high=box(plant.inputs)[1])

    def _levels(self, problem):
        """Shapes from coarse to fine: halved while every side keeps enough nodes and one hits the target, at most three."""
        shapes = [self.shape]
        while len(shapes) < 3:
            half = tuple(s // 2 if s_.periodic else (s + 1) // 2 for s, s_ in zip(shapes[0], problem.plant.states, strict=True))
            if min(half) < LEAST_NODES or not _hits_target(problem, half):
                break
            shapes.insert(0, half)
        return shapes

    def _nested(self, problem, inputs, shapes, margin, rest, bar):
        levels: list[Level] = []
        total, done = sum(np.prod(s) for s in shapes), 0.0
        for shape in shapes:
            show = _shower(bar, done / total, np.prod(shape) / total, shape)
            levels.append(self._solve_level(problem, inputs, shape, margin, rest, levels[-1] if levels else None, show))
            done += np.prod(shape)
        return levels

    def _truncation(self, problem, inputs, shape, margin, rest, level, small):
        """What still wider margins would change in the box, on this `level`; see `refinement`."""

        @functools.cache
        def solved(width):
            found = self._solve_level(problem, inputs, shape, width, rest, level)
            solves = found.state.converged and (width <= margin or found.smooth == level.smooth)
            return found.on(level.judged) if solves else np.nan

        return truncation(level.on(level.judged), solved, margin, small, problem.plant.n, self.order)

    def _solve_level(self, problem, inputs, shape, margin, rest, start, show=lambda *_: None) -> Level:
        """One level. For exit="free" first without motion across the walls, then extrapolating there; the former if that fails."""
        grid = box_grid(*box(problem.plant.states), shape, problem.kernel.periodic, 1, margin)
        steps = np.array([float(a.widths[0]) for a in grid.axes])
        hamiltonian = GridHamiltonian(problem.generator, steps, inputs, noise_entries(problem.plant), _is_affine(problem, inputs))
        block = block_for(np.prod(self.shape))
        schemes = {walls: Scheme.make(problem, hamiltonian, grid, rest, walls, block) for walls in _walls(problem)}
        if len(schemes) == 2 and start is None:
            start = replace(self, order=1, tolerance=1e-3)._on_grid(schemes["stop"], None, show)
        level = self._on_grid(schemes[problem.exit], start, show)
        return level if level.state.converged or len(schemes) == 1 else self._on_grid(schemes["stop"], start, show)

    def _on_grid(self, scheme, start, show) -> Level:
        """The monotone scheme, then the filtered one from it; the monotone one to the end if the filtered one does not settle."""
        monotone, tolerance = scheme.blended(0.0), max(1e-3, self.tolerance) if self.order == 2 else self.tolerance
        state = howard(scheme, monotone, *_first(scheme, start), tolerance, self.iterations, show)
        if self.order == 2 and state.converged:
            level = self._filtered(scheme, state, start, show)
            if level is not None:
                return level
            state = howard(scheme, monotone, state.values, state.policy, self.tolerance, self.iterations, show)
        return Level(scheme, state, state, np.zeros(len(scheme.points)), False)

    def _filtered(self, scheme, low, start, show):
        """The filtered scheme from the monotone solution; nodes where the residual stays become monotone. None if it does not settle."""
        share = high_share(scheme, low.policy, low.values)
        nodes = [a.nodes for a in scheme.grid.axes]
        values = np.where(scheme.fixed, scheme.given, start.on(nodes).ravel()) if start and start.smooth else low.values
        for _ in range(3):
            state = refine(scheme, share, low, values, self.tolerance, self.iterations, show)
            if state.converged:
                return Level(scheme, state, low, share, True)
            if not np.all(np.isfinite(state.values)):
                return None
            change = np.abs(state.greedy.change)
            stuck = scheme.edge if np.any(share[scheme.edge]) else change > 0.1 * np.max(change)
            share, values = np.where(stuck, 0.0, share), low.values
        return None

    def _reference(self, problem, levels, terms, rest):
        fine = levels[-1]
        rows = [(len(a.scheme.points), *row) for a in levels for row in (*a.low.rows, *(a.state.rows if a.state is not a.low else ()))]
        found = Reference(
            method="HJB",
            kernel=problem.kernel,
            states=problem.plant.states,
            inputs=problem.plant.inputs,
            value=fine.function(),
            policy=fine.policy(),
            rule=problem.plant.law.quadrature(5),
            error=float(sum(terms.values())),
            error_kind="estimated",
            error_terms=terms,
            converged=fine.state.converged and not fine.endless and bool(np.all(np.isfinite(list(terms.values())))),
            residual=float(np.max(np.abs(fine.state.greedy.slack))),
            message=_message(problem, fine, terms),
            iterations=len(rows),
            history={name: np.array([row[k] for row in rows]) for k, name in enumerate(("nodes", "iteration", "residual", "bound"))},
        )
        return replace(found, notes=tuple(_notes(problem, fine, rest, found, self.order)))


def _shower(bar, done, share, shape):
    note = "×".join(map(str, shape))

    def show(k, bound, goal):
        bar.to(done + share * (1 - 0.7**k), f"{note} nodes, bound {bound:.1e} → {goal:.1e}")

    return show


def _is_affine(problem, inputs):
    """Whether the maximum has a closed form: continuous inputs, affine drift, noise without inputs, concave quadratic reward rate."""
    rng, n = np.random.default_rng(0), problem.plant.n
    x, u, other = (a + (b - a) * rng.random((64, len(a))) for a, b in [box(problem.plant.states)] + [finite_box(problem.plant.inputs)] * 2)
    hamiltonian = GridHamiltonian(problem.generator, np.ones(n), inputs, noise_entries(problem.plant), False)
    return bool(np.all(np.asarray(inputs.step) > 0)) and bool(hamiltonian.is_affine(x, u, other))


def _hits_target(problem, shape):
    """Whether a node of the grid lies in the target, if there is one."""
    grid = box_grid(*box(problem.plant.states), shape, problem.kernel.periodic)
    return problem.target is None or bool(np.any(ends(problem.kernel, grid.points())[1]))


def _walls(problem):
    return ("free", "stop") if problem.exit == "free" else (problem.exit,)


def _first(scheme, start):
    """(values, policy) to begin with: nothing known, or those of a coarser or smaller level, the policy from its nearest node. V is that
    of second order where that acts everywhere: that of the monotone scheme, carried on beyond the walls, may lead to another solution."""
    if start is None:
        return scheme.given, np.repeat(scheme.hamiltonian.inputs.candidates[:1], len(scheme.points), 0)
    values = start.on([a.nodes for a in scheme.grid.axes], (start.state if np.all(start.share == 1) else start.low).values)
    return np.where(scheme.fixed, scheme.given, values.ravel()), start.state.policy[nearest_nodes(start.grid, scheme.grid)]


def _message(problem, level, terms):
    shape, state = "×".join(map(str, level.grid.shape)), level.state
    way_out = "Give a discount, a reachable target, wider inputs or another box."
    odd = np.flatnonzero(~np.isfinite(state.greedy.slack))
    finite = bool(np.all(np.isfinite(state.values)))
    inputs = level.scheme.hamiltonian.inputs.candidates
    failed = len(odd) > 0 or not finite
    found = undefined(problem, level.scheme.points, state.policy[:, None], inputs, way_out=WITHIN) if failed else None
    if len(odd) and finite:
        x, u = (a[odd[0]].round(6).tolist() for a in (level.scheme.points, state.policy))
        why = found or "Mend reward, drift and noise there, or move the box or the inputs' bounds to where they are defined."
        return f"HJB found no finite number for its equation at {len(odd)} of {len(state.values)} nodes, first at x = {x}, u = {u}. {why}"
    if found:
        return f"HJB found no number: {found}"
    if not (finite and np.isfinite(state.bound)):
        why = "from some, going on for ever pays, or nothing reaches the end or the rest state"
        return f"HJB found no policy of finite value on {shape} nodes: {why}. {way_out}"
    if level.endless:
        where = f"From {100 * level.endless:.1f} % of the {shape} nodes no policy reaches the end or the rest state"
        return f"{where}: without discount V is infinite there. {way_out}"
    if not state.converged:
        return (
            f"HJB stopped after {len(state.rows) - 1} policies on {shape} nodes with bound {state.bound:.1e}. Raise `iterations` or refine."
        )
    if np.isinf(terms.get("truncation", 0.0)):
        return BEYOND
    return f"Bound of the policy iteration {state.bound:.1e} after {len(state.rows) - 1} policies on {shape} nodes."


def _sampling_note(problem, found):
    if problem.gamma == 1 or not found.converged:
        return f"V is that of continuous time; the sampled problem's differs by O(dt), dt = {problem.dt:g} s."
    distance = sampled_distance(found)
    bound = f"at dt = {problem.dt:g} s the sampled problem's is within {distance:.2g} of it (Bellman residual/(1 − γ))"
    return f"V is that of continuous time; {bound}."


def _notes(problem, level, rest, found, order):
    scheme = level.scheme
    yield _sampling_note(problem, found)
    if found.converged:
        yield from vague(found.error, level.on(level.judged))
    if order == 2 and not level.smooth:
        yield "The filtered scheme did not settle: this is the monotone solution, of first order."
    elif order == 2:
        yield f"Second-order differences at {100 * np.mean(level.share):.2f} % of the nodes."
    if problem.kernel.exit != "absorb" and level.leaving:
        effect = "it is reflected there" if problem.exit == "clip" else "V beyond is extrapolated, see the error term `truncation`"
        yield f"On {100 * level.leaving:.1f} % of the nodes of the grid's walls the optimal state leaves the grid: {effect}."
    if problem.target is not None and problem.gamma < 1 and (share := level.stranded):
        yield f"From {100 * share:.1f} % of the nodes of the grid the optimal policy never reaches the target or another end."
    if rest is not None:
        pinned = scheme.points[np.argmax(scheme.fixed)]
        yield f"V = 0 was set at x = {pinned.round(6).tolist()}, the node nearest the rest state {rest.round(6).tolist()}."
    whole = scheme.parts(level.state.policy)[2]
    if not np.all(whole):
        lost = np.mean(~whole)
        yield f"At {100 * lost:.2f} % of the nodes the noise is too correlated for the monotone stencil: it takes the nearest it can."


def _rest_state(generator, inputs):
    """A state where reward rate, drift and noise vanish for some input, or `InputError`."""
    finite = np.asarray(inputs.candidates)
    low, high = (np.concatenate([np.asarray(a), b]) for a, b in ((generator.low, finite.min(0)), (generator.high, finite.max(0))))
    n = len(np.asarray(generator.low))

    @jax.jit
    @jax.value_and_grad
    def unrest(z):
        x, u = z[:n], z[n:]
        return jnp.abs(generator.reward_rate(x, u)) + jnp.sum(generator.drift(x, u) ** 2) + jnp.trace(generator.covariance(x, u))

    rng = np.random.default_rng(0)
    starts = [0.5 * (low + high), *(low + (high - low) * rng.random((8, len(low))))]
    bounds, options = list(zip(low, high, strict=True)), {"ftol": 1e-16}
    from scipy import optimize  # slow to import, and not for importing rlctrl

    found = [optimize.minimize(unrest, z, jac=True, method="L-BFGS-B", bounds=bounds, options=options) for z in starts]
    best = min(found, key=lambda f: f.fun)
    scale = max(float(unrest(z)[0]) for z in starts)
    rule = "must be below 1 for a problem that never ends and has no rest state (reward rate, drift and noise zero)"
    require(best.fun <= 1e-7 * scale, "gamma", rule, 1.0, 'Lower it, or give exit="absorb" or a target.')
    return best.x[:n]
