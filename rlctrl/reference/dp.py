"""Dynamic programming on a grid: policy iteration with nested grids (Puterman 2005, §6.5; Chow & Tsitsiklis 1991).

Symbols: V node values (S,), T Bellman operator, T^π that of a policy, h mesh width. Each level starts from the coarser level's V and
policy, so the fine grid sees few maximisations. Stopping rule: see `policy_iteration`. Error statement: see `grid_error`.
"""

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rlctrl.axis import ORDERS, make_axis
from rlctrl.errors import InputError, free_memory, require, require_number, require_numbers, require_whole, strict
from rlctrl.grid import Grid, continued, nearest_nodes
from rlctrl.kinds import FilePath, is_list, is_path, is_whole
from rlctrl.maximise import InputSet, input_set
from rlctrl.progress import Progress
from rlctrl.reference.base import Reference
from rlctrl.reference.bellman import Bellman
from rlctrl.reference.checkpoint import Checkpoint
from rlctrl.reference.chunks import in_chunks
from rlctrl.reference.expectation import Shifts, noise_first, split
from rlctrl.reference.grid_error import error_terms
from rlctrl.reference.policy_iteration import PATIENCE, Level, State, evaluate, fixed_policy, horizon_of, policy_iteration, share_endless
from rlctrl.reference.refinement import BEYOND, vague
from rlctrl.reference.sweep import may_end
from rlctrl.reference.two_level import Correction
from rlctrl.undefined import WITHIN, undefined

LEVELS = 3  # grids in a nest
LEAVING, COARSE = 0.01, 0.01  # share of transitions, part of the range of V, from which it is said
FIRST = 0.02  # a policy from the grid below is evaluated until its residual is this part of what it is there
PAIRS = 20_000  # of nodes and inputs looked at together
START = 0.05  # tolerance of the linear V that splines start from
GRAPH = 4  # bytes of a search along the transitions, in matrices of a policy
EXPECTATIONS = ("auto", "transition", "node")
EVALUATIONS = ("krylov", "successive")


@strict
@dataclass(frozen=True)
class GridDP:
    """Policy iteration on a tensor grid with interpolation, for 1 to 4 (coarsely 6) states.

    `shape`: per state the number of nodes, or their positions (increasing, from bound to bound). `inputs`: candidates per continuous input,
    refined locally well below their spacing. `order`: 1 (monotone, for kinks), 3 or 5 (splines, for smooth V). `quadrature`: nodes per
    noise channel. `tolerance`: on the contraction bound, relative to the range of V. `margin`: with `exit="free"`, how far the
    computational box reaches beyond the stated one, relative to its width. `evaluation` of policies: "krylov" or "successive".
    `expectation`: over the noise at every "transition", or once per sweep at every "node" (additive noise only; one more interpolation);
    "auto" takes the latter above order 1 where noise is additive and the problem never ends and memory allows. `memory`: most
    GiB to use (default: what the machine has free). `iterations`: most improvements per level. `start`: a `Reference` (say, of a similar
    problem) whose V the iteration starts from. `checkpoint`: a file the state is written to as the solve goes; if it exists,
    the solve goes on from there.
    Raises `InputError` for an unbounded box, for γ = 1 without an end, when the estimate of memory exceeds the limit, and for a checkpoint
    of another solve.
    """

    shape: Any
    inputs: Any = 21
    order: int = 1
    quadrature: int = 5
    tolerance: float = 1e-9
    margin: float = 0.25
    evaluation: str = "krylov"
    expectation: str = "auto"
    memory: float | None = None
    iterations: int = 200
    start: Reference | None = None
    checkpoint: FilePath | None = None

    def __post_init__(self):
        require(is_whole(self.order) and self.order in ORDERS, "order", f"must be one of {ORDERS}", self.order, "Use 1 where V has kinks.")
        given = tuple(self.shape) if is_list(self.shape) else (self.shape,)
        shape = tuple(tuple(require_numbers("shape", s).ravel().tolist()) if is_list(s) else s for s in given)
        for axis in shape:
            require_whole(
                "shape", len(axis) if isinstance(axis, tuple) else axis, 2 * (self.order + 2), "Give that many nodes or more per state."
            )
        for count in self.inputs if is_list(self.inputs) else [self.inputs]:
            require_whole("inputs", count, 3, "Use e.g. 21 candidates per continuous input.")
        require_whole("quadrature", self.quadrature, 1, "Use 5 nodes per noise channel.")
        require_whole("iterations", self.iterations, 1, "Use 200.")
        require_number("tolerance", self.tolerance, "must be a positive number", "Use 1e-9.", low=1e-300)
        require_number("margin", self.margin, "must be a number ≥ 0", "Use 0.25.", low=0.0)
        require(self.evaluation in EVALUATIONS, "evaluation", f"must be one of {EVALUATIONS}", self.evaluation, 'Use "krylov".')
        require(self.expectation in EXPECTATIONS, "expectation", f"must be one of {EXPECTATIONS}", self.expectation, 'Use "auto".')
        named = self.checkpoint is None or is_path(self.checkpoint)
        require(named, "checkpoint", "must be the path of a file", self.checkpoint, "Leave it out for none.")
        is_reference = self.start is None or isinstance(self.start, Reference)
        require(is_reference, "start", "must be a Reference", self.start, "Pass what rc.solve returned.")
        if self.memory is not None:
            require_number("memory", self.memory, "must be a positive number of GiB", "Leave it out to use what is free.", low=1e-300)
        object.__setattr__(self, "shape", tuple(s if isinstance(s, tuple) else int(s) for s in shape))

    def solve(self, problem, progress=False):
        """The reference; `rc.solve` calls this."""
        self._check(problem)
        need, limit = self._memory(problem)
        grids = self.grids(problem)
        with Progress(f"GridDP ({need / 2**30:.2f} GiB and matrices)", progress) as bar:
            solver = LevelSolver(self, problem, grids, _table_bytes(need, limit))
            solver.require_end()
            levels = self._climb(solver, bar)
            left = levels[-1].bellman.share_leaving(levels[-1].policy)
            terms = error_terms(solver, levels, left)
        return _reference(solver, levels, terms, left)

    def _climb(self, solver, bar):
        """All levels, from coarse to fine; none above one that diverged."""
        total, done, levels = sum(grid.size for grid in solver.grids), 0.0, []
        checkpoint = Checkpoint.open(self.checkpoint, solver)
        for number, grid in enumerate(solver.grids):
            share = grid.size / total
            note = "×".join(map(str, grid.shape))

            def show(rows, goal, done=done, share=share, note=note):
                bar.to(done + share * _way(rows, goal), f"{note} nodes, bound {rows[-1][2]:.1e} → {goal:.1e}")

            keep = lambda state, number=number: checkpoint.keep(number, state)
            passing = self.order == 1 and grid is not solver.grids[-1]  # splines need good starts
            levels.append(solver.solve(grid, levels[-1] if levels else None, show, keep, checkpoint.state(number), passing))
            checkpoint.write()
            done += share
            if levels[-1].diverged:
                break
        return levels

    def _check(self, problem):
        n = problem.plant.n
        require(len(self.shape) == n, "shape", f"needs one entry per state ({n})", self.shape, "Give nodes per state.")
        states = n if self.start is None else len(self.start.states)
        require(states == n, "start", f"must be a reference with as many states ({n})", states, "Pass that of a similar problem.")
        unbounded = [s.label for s in problem.plant.states if not np.isfinite(s.high - s.low)]
        require(not unbounded, "states", "must be bounded for a grid", unbounded, "Give these signals low and high.")
        for signal, axis in zip(problem.plant.states, self.shape, strict=True):
            last = signal.high if not signal.periodic else None
            fits = not isinstance(axis, tuple) or (
                axis[0] == signal.low and (axis[-1] == last if last is not None else axis[-1] < signal.high)
            )
            rule = f"must run from {signal.low} to {signal.high} for {signal.name} (and stop short of the end where it turns)"
            require(fits, "shape", rule, axis, "Give the bounds as first and last node.")
        coarse = "must leave 5 nodes a side (order + 2 above order 3) when halved, for the error estimate"
        require(len(self.axes(problem)) > 1, "shape", coarse, self.shape, "Refine.")
        ends = problem.kernel.can_end or problem.gamma < 1
        rule = "must be below 1 for a problem that never ends"
        require(ends, "gamma", rule, problem.gamma, 'Lower it, or give exit="absorb" or a target.')
        if self.expectation == "node":
            fits = problem.additive_noise and not problem.kernel.can_end
            require(fits, "expectation", 'can be "node" only with additive noise and without an end', "node", 'Use "transition".')

    def _memory(self, problem):
        """Bytes the solve needs at least, and may use; refuses what does not fit."""
        need, free = self.estimate_memory(problem), free_memory()
        limit = free if self.memory is None else float(self.memory) * 2**30
        rule = f"needs about {need / 2**30:.2f} GiB, the limit is {limit / 2**30:.2f} GiB"
        require(need <= limit, "shape", rule, self.shape, "Use fewer nodes, or a lower order.")
        return need, limit

    def estimate_memory(self, problem) -> float:
        """Bytes the solve needs at its peak besides what it keeps only where that fits into `memory` (matrices of fixed policies, where
        candidates lead and what they pay): node arrays, Krylov vectors, one block of the maximisation."""
        nodes = math.prod(a if isinstance(a, int) else len(a) for a in self.axes(problem)[-1])
        return nodes * 8 * (50 + 2 * problem.plant.n + 4 * problem.plant.m) + 2e8

    def grids(self, problem) -> list[Grid]:
        """The grids from coarse to fine."""
        return [self.grid(problem, axes, self.margin) for axes in self.axes(problem)]

    def grid(self, problem, axes, margin) -> Grid:
        """One grid through the given nodes per state, with nodes beyond the bounds if the state space is R^n."""
        kernel, made = problem.kernel, []
        for axis, signal in zip(axes, problem.plant.states, strict=True):
            nodes = _nodes(axis, signal)
            if not signal.periodic and kernel.exit == "free":
                nodes = continued(nodes, margin * (signal.high - signal.low))
            period = signal.high - signal.low if signal.periodic else None
            made.append(make_axis(nodes, self.order, period))
        return Grid(tuple(made))

    def axes(self, problem):
        """Number or positions of nodes per state, from coarse to fine: halved while every side keeps enough, at most three levels."""
        levels = [list(self.shape)]
        while len(levels) < LEVELS:
            half = [_halved(axis, turns) for axis, turns in zip(levels[0], problem.kernel.periodic, strict=True)]
            if min(axis if isinstance(axis, int) else len(axis) for axis in half) < max(self.order + 2, 5):
                break
            levels.insert(0, half)
        return levels


@dataclass(frozen=True)
class LevelSolver:
    """Solves single grids of one problem by one method; `capacity` is the shape its compiled functions are made for."""

    method: GridDP
    problem: Any
    grids: list
    table_bytes: float

    @property
    def capacity(self):
        """Nodes a side of the largest grid."""
        return tuple(int(s) for s in np.max([grid.shape for grid in self.grids], 0))

    def bellman(self, grid) -> Bellman:
        """The Bellman operator on one of the grids."""
        expectation, several = self.method.expectation, self.method.order > 1 and len(self.rule[1]) > 1
        bellman = Bellman(self.problem.kernel, grid, self.inputs, self.rule, self.capacity, 0.5 * self.table_bytes)
        first = expectation == "node" or (expectation == "auto" and several and self.additive)
        return noise_first(bellman, self.shifts) if first else bellman

    @functools.cached_property
    def inputs(self) -> InputSet:
        """The candidates."""
        return input_set(self.problem.plant.inputs, self.method.inputs)

    @functools.cached_property
    def rule(self):
        """Nodes and masses of the noise."""
        return self.problem.plant.law.quadrature(self.method.quadrature)

    @functools.cached_property
    def additive(self):
        """Whether the expectation may come before the maximum."""
        return self.problem.additive_noise and not self.problem.kernel.can_end

    @functools.cached_property
    def shifts(self):
        """By how much additive noise moves the next state, and how likely."""
        return Shifts.of(self.problem.kernel, self.rule, self.inputs.candidates[0])

    def require_end(self):
        """Raise `InputError` if γ = 1 and no candidate leads to an end from any node where the problem goes on: V would be infinite."""
        problem, candidates, noises = self.problem, self.inputs.candidates, self.rule[0]
        if problem.gamma < 1:
            return
        size = max(1, PAIRS // len(candidates))
        for grid in self.grids:
            over, near = in_chunks(lambda x: may_end(problem.kernel, x, candidates, noises), grid.points(), size=size)
            if np.all(over) or np.any(near):
                return
        if undefined(problem, self.grids[0].points(), candidates):
            return  # which the solve says
        name, nodes = "exit" if problem.target is None else "target", "×".join(map(str, self.capacity))
        rule = "must be where some input leads from some node: without discount V is infinite otherwise"
        raise InputError(f"`{name}` {rule}; none does from {nodes} nodes. Check its sign and the box, widen it, or take gamma below 1.")

    def solve(self, grid, below, show=lambda *_: None, keep=lambda _: None, state=None, passing=False) -> Level:
        """Policy iteration on a grid, from a state, the level below, or nothing; `passing`: on the way to a finer grid."""
        bellman = self.bellman(grid)
        bellman = split(bellman, self.shifts) if self.additive and self.method.order == 1 and bellman.expectation is None else bellman
        bellman = replace(bellman, coarse=below and (below.bellman.coarse or Correction.of(below.bellman, below.policy)))
        state = state or self._start(bellman, below)
        kept = bellman.outcome_bytes() if bellman.keeps_outcomes else 0.0
        start = below.bellman.grid.resample(below.values, grid) if below and passing else None
        before = below.rows if below and self.method.order > 1 else ()  # a first linear grid begins with nothing
        level = policy_iteration(bellman, state, self.method, self.table_bytes - kept, show, keep, start, before)
        if level.diverged:
            found = undefined(self.problem, bellman.points, bellman.inputs.candidates, level.policy[:, None], way_out=WITHIN)
            level = replace(level, message=f"GridDP found no number: {found}" if found else level.message)
        return replace(level, bellman=replace(bellman))  # without what it kept from one sweep to the next

    def _start(self, bellman, below) -> State:
        if below is None:
            policy = np.broadcast_to(bellman.inputs.candidates[0], (bellman.size, self.problem.plant.m))
            values = np.zeros(bellman.size)
        else:
            policy = below.policy[nearest_nodes(below.bellman.grid, bellman.grid)]
            values = below.bellman.grid.resample(below.values, bellman.grid)
            if self.method.order == 1:  # splines bring V from the grid below better than its policy
                values = self.revalued(bellman, policy, values, FIRST)
        if self.method.start is not None:
            values = self.method.start.V(bellman.points)
        elif below is None and self.method.order > 1:  # a monotone scheme finds the way from nothing, splines may not
            linear = replace(self.method, order=1, expectation="auto", tolerance=max(START, self.method.tolerance))
            grid = bellman.grid.with_order(1)
            found = replace(self, method=linear, grids=[grid]).solve(grid, None)
            values, policy = found.values, found.policy
        return State(values, np.asarray(policy))

    def revalued(self, bellman, policy, values, part, enough=None) -> np.ndarray:
        """The value (S,) of a policy, from `values`, until its residual is that part of theirs, or, given what is `enough`, until what it
        sums to is that part of theirs or so little."""
        operator = fixed_policy(bellman, policy, self.table_bytes)
        after, horizon = operator.apply(values), horizon_of(operator)
        accuracy = part * float(np.max(np.abs(after - values)))
        accuracy = accuracy if enough is None else max(accuracy, enough) / min(horizon, PATIENCE)
        return evaluate(operator, after, accuracy + 1e-15 * float(np.ptp(values)), self.method.evaluation, horizon)


def _reference(solver, levels, terms, left):
    problem, fine = solver.problem, levels[-1]
    bellman, value = fine.bellman, fine.bellman.value(fine.values)
    rows = [(level.bellman.size, *row) for level in levels for row in level.rows]
    good = all(np.isfinite(v) for v in terms.values())
    return Reference(
        method="GridDP",
        kernel=problem.kernel,
        states=problem.plant.states,
        inputs=problem.plant.inputs,
        value=value,
        policy=bellman.lookahead(fine.values, fine.policy),
        rule=bellman.rule,
        error=float(sum(terms.values())),
        error_kind="estimated",
        error_terms=terms,
        converged=fine.converged and good,
        residual=fine.residual,
        message=_message(levels, terms),
        iterations=sum(len(level.rows) for level in levels),
        notes=tuple(_notes(solver, fine, left, terms)) if fine.converged else (),
        history={name: np.array([row[k] for row in rows]) for k, name in enumerate(("nodes", "iteration", "residual", "bound"))},
    )


def _message(levels, terms):
    """How the finest level ended, or why it cannot be trusted."""
    unsettled = [level.message for level in levels[-1:] + levels if not level.converged]
    if np.isinf(terms.get("truncation", 0.0)) and levels[-1].converged:
        return BEYOND
    return unsettled[0] if unsettled and np.isinf(sum(terms.values())) else levels[-1].message


def _notes(solver, fine, left, terms):
    spread, exit_rule = float(np.ptp(fine.values)), solver.problem.exit
    yield f"{100 * left:.2f} % of the transitions from the nodes under the optimal policy left the box."
    if left > LEAVING and exit_rule == "clip":
        yield 'The optimal state leaves the box, where it is projected back: enlarge the box, or pass exit="free" or "absorb".'
    if terms["quadrature"] > COARSE * spread:
        yield f"The noise quadrature is too coarse: doubling it changes V by {terms['quadrature']:.2g}. Raise `quadrature`."
    yield from vague(sum(terms.values()), fine.values[fine.bellman.judged])
    bellman = replace(fine.bellman, grid=fine.bellman.grid.with_order(1))  # splines reach beyond the cell that a transition leads to
    if solver.problem.target is not None and GRAPH * bellman.operator_bytes() <= solver.table_bytes:
        endless = share_endless(bellman.operator(fine.policy))
        if endless > 0:
            yield f"From {100 * endless:.1f} % of the nodes in the box the optimal policy never reaches the target or another end."


def _nodes(axis, signal):
    """Positions of the nodes; a number of them is spread evenly."""
    if isinstance(axis, tuple):
        return np.array(axis)
    return np.linspace(signal.low, signal.high, axis, endpoint=not signal.periodic)


def _halved(axis, turns):
    """Half as many nodes; of given positions every second, and the last one where the axis does not turn."""
    if isinstance(axis, tuple):
        return axis[::2] if turns or len(axis) % 2 else (*axis[:-1:2], axis[-1])
    return axis // 2 if turns else (axis + 1) // 2


def _way(rows, goal):
    """The part of the way to the goal that lies behind, by the logarithm of the bound; without discount there may be no bound at first."""
    known = [bound for *_, bound in rows if np.isfinite(bound)] or [10 * goal]
    first = max(known[0], 10 * goal)
    return np.log(first / max(known[-1], goal)) / np.log(first / goal)


def _table_bytes(need, limit):
    """What the matrix of a fixed policy may take: the rest, less some room for its making."""
    return max(0.0, limit - need) / 1.3
