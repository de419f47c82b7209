"""Error statement of grid dynamic programming: the sum of

contraction     the bound on |V − fixed point of the finite problem| with which the iteration stopped, twice that for splines, and rounding
discretisation  |V_h − V_2h| on the fine nodes, extrapolated with the order that the levels h, 2h, 4h show, at most that of the scheme,
                plus the Bellman residual R between the nodes, which shows what no node sees (V bends or jumps there, or the cell is the
                widest); for splines where V is smooth no more than R/(1 − γ), nor than what |R| sums to along the way, as half of the
                nodes may be too few; for splines no less than twice what R sums to along the way, with its signs where V is smooth
quadrature      the change of the value of the final policy inside the box when the noise gets twice the nodes
truncation      (`exit="free"`) the change of the value of the final policy inside the box when the margin around it is halved; where that
                is not small beside the other terms and V's range, or levels of splines do not agree ever better, what `refinement` makes of
                changes of V as the margin grows, on the level 2h where the finest is large
"""

import functools
import itertools
from dataclasses import replace

import numpy as np

from rlctrl.grid import corners, nearest_nodes
from rlctrl.reference.policy_iteration import fixed_policy, horizon_of, summed
from rlctrl.reference.refinement import NARROW, PARTS, SAFETY, SMALL, left_by, truncation

BETWEEN = {1: 2.0, 3: 1.25, 5: 1.25}  # by order, the largest residual in a cell relative to that in its middle: of a jump, of smooth V
SMOOTH = {3: 1 / 8, 5: 1 / 32}  # by order, the factor by which V changes less per halving of h where it is smooth: one order is lost
LEBESGUE = 2.0  # of spline interpolation: how far values between the nodes may differ, relative to how far those at the nodes do
LOOSE = 2.0  # above the least that is stated: a discretisation worth a closer look
ROUNDING = 1e-15  # of a backup, relative to V
AGREEING = 0.5  # factor by which finer levels of splines differ less at least, if a change by half the margin may count as small
SLIGHT = 1e-3  # relative to V's range: a change by half the margin that may count as small
LARGE = 5000  # nodes of the finest level above which wider margins are tried on the level 2h
WRONG = 0.1  # relative to V's range: a truncation that is not believed where sweeps diverge
GROWING = 100  # sweeps after which it shows, and over which
ACCURACY = 0.01  # relative to themselves or to other terms, of values under another operator, and of sums over the horizon


def error_terms(solver, levels, left) -> dict[str, float]:
    """The terms by name; `left`: share of the transitions from the finest grid that leave the box."""
    fine = levels[-1]
    if fine.diverged:
        return {"contraction": fine.bound}
    gamma, rounding = float(fine.bellman.kernel.gamma), ROUNDING * float(np.max(np.abs(fine.values)))
    contraction = fine.bound * (LEBESGUE if fine.bellman.grid.order > 1 else 1.0) + (rounding / (1 - gamma) if gamma < 1 else rounding)
    changes = [_difference(coarse, fine) for coarse, fine in itertools.pairwise(levels)]
    terms = {"contraction": contraction, "discretisation": _discretisation(solver, levels, changes)}
    terms["quadrature"] = _quadrature(solver, fine, ACCURACY * sum(terms.values()))
    if solver.problem.exit == "free":
        terms["truncation"] = _truncation(solver, levels, changes, terms) if left else 0.0
    return terms


def _difference(coarse, fine):
    """Largest difference of two levels on the nodes of the finer one inside the box."""
    gap = coarse.bellman.grid.resample(coarse.values, fine.bellman.grid) - fine.values
    return float(np.max(np.abs(gap[fine.bellman.judged])))


def _discretisation(solver, levels, changes):
    fine, order, gamma = levels[-1], solver.method.order, float(levels[-1].bellman.kernel.gamma)
    if order > 1 and not all(level.converged for level in levels[:-1]):  # on this grid they may have settled on a wrong V
        return float("inf")
    middles, defect = _between(solver, fine)
    between = BETWEEN[order] * float(np.max(np.abs(defect)))
    found = left_by(changes, order + 1) + between
    if order == 1:
        return found
    nodes = np.stack(corners(fine.bellman.grid, middles))  # (2, cells)
    mean = lambda right: np.bincount(nodes.ravel(), np.tile(right / 2, 2), fine.bellman.size)
    if not all(b <= SMOOTH[order] * a for a, b in itertools.pairwise(changes)):
        largest = np.zeros(fine.bellman.size)
        for corner in nodes:  # one at a time: NumPy 2.4 reads beyond values that `at` would have to repeat
            np.maximum.at(largest, corner, np.abs(defect))
        return max(found, SAFETY * _carried(solver, fine, largest, ACCURACY * found / SAFETY))
    found = min(found, between / (1 - gamma)) if gamma < 1 else found
    least = SAFETY * _carried(solver, fine, mean(defect), ACCURACY * found / SAFETY)  # what one cell misses the next may make up for
    if found > LOOSE * least:
        found = min(found, BETWEEN[order] * _carried(solver, fine, mean(np.abs(defect)), ACCURACY * found))
    return max(found, least)


def _between(solver, fine):
    """The middles of the cells inside the box, and TV − V there, T without interpolating expectations, if need be by the policy that those
    interpolated give; at order 1 the better of the policies at the first and the last corner of the cell stands for the maximum."""
    bellman = fine.bellman
    middles = bellman.grid.middles(np.asarray(bellman.kernel.low), np.asarray(bellman.kernel.high))
    if bellman.grid.order > 1:
        after, policy = bellman.improve(fine.values, fine.policy[nearest_nodes(bellman.grid, middles)], at=middles)
        if bellman.expectation is not None:
            after = fixed_policy(bellman.plain, policy, solver.table_bytes, middles).apply(fine.values)
    else:
        policies = [fine.policy[corner] for corner in corners(bellman.grid, middles)]
        after = np.maximum(*(fixed_policy(bellman, u, solver.table_bytes, middles).apply(fine.values) for u in policies))
    return middles, after - bellman.grid.resample(fine.values, middles)


def _carried(solver, fine, right, enough):
    """What `right` (S,) at the nodes sums to along the way under the policy found, to within `enough`; its largest value in every step
    where that is not found."""
    operator, largest = fixed_policy(fine.bellman, fine.policy, solver.table_bytes), float(np.max(np.abs(right)))
    horizon = horizon_of(operator)
    sums, found = summed(operator, right, enough / horizon)
    return float(np.max(np.abs(sums[fine.bellman.judged]))) if found else largest * horizon


def _quadrature(solver, fine, enough):
    method = solver.method
    more = replace(solver, method=replace(method, quadrature=2 * method.quadrature)).bellman(fine.bellman.grid)
    more = replace(more, coarse=fine.bellman.coarse, together=len(fine.bellman.rule[1]))
    if len(more.rule[1]) == len(fine.bellman.rule[1]):
        return 0.0
    gap = solver.revalued(more, fine.policy, fine.values, ACCURACY, enough) - fine.values
    return float(np.max(np.abs(gap[fine.bellman.judged])))


def _truncation(solver, levels, changes, terms):
    """Change inside the box of the value of the final policy with half the margin around it, if small beside the other `terms` and V's
    range, and levels of splines agree ever better, or as well as the iteration is accurate (else they may differ by what lies beyond the
    walls); else by wider margins, infinite around a V that was not found."""
    fine, margin, others = levels[-1], solver.method.margin, sum(terms.values())
    small, slight = terms["contraction"] + SMALL * others, SLIGHT * float(np.ptp(fine.values))
    agreeing = solver.method.order == 1 or all(b <= max(AGREEING * a, terms["contraction"]) for a, b in itertools.pairwise(changes))
    halved = _halved(solver, fine, ACCURACY * min(others, slight)) if margin >= NARROW and agreeing else np.inf
    if halved <= min(small, slight):
        return halved
    return _widened(solver, levels, margin or NARROW, small, halved) if fine.converged else np.inf


def _halved(solver, fine, enough):
    grid = _around(solver, -1, 0.5 * solver.method.margin)
    kept = nearest_nodes(fine.bellman.grid, grid)
    less, values = solver.bellman(grid), fine.values[kept]
    gap = solver.revalued(less, fine.policy[kept], values, ACCURACY, enough) - values
    return float(np.max(np.abs(gap[less.judged])))


def _around(solver, number, margin):
    """The grid of a level with that margin."""
    return solver.method.grid(solver.problem, solver.method.axes(solver.problem)[number], margin)


def _told_apart(solver, number, margin):
    """Whether the grids with the four parts of the margin differ along every axis that has one."""
    shapes = np.array([_around(solver, number, part * margin).shape for part in PARTS])
    return all(turns or len(set(axis)) == len(PARTS) for axis, turns in zip(shapes.T, solver.problem.kernel.periodic, strict=True))


def _widened(solver, levels, given, small, halved):
    """By margins of the finest level, or where that is large by those of the level 2h, so wide that their parts differ: twice that, less by
    as much as half of the margin `given` changes more there than on the finest (`halved`). Infinite where it is not small and V under the
    policy found, carried on by splines, grows."""
    method, large, margin = solver.method, levels[-1].bellman.size > LARGE, given
    number = -2 if large else -1
    inside = lambda found: found.values[found.bellman.judged]
    while not _told_apart(solver, number, margin):
        margin = 2 * margin

    @functools.cache
    def solved(width):
        widest = margin * 2.0 ** np.ceil(np.log2(max(width / margin, 1.0)))  # as in `truncation`: one compiled function a doubling
        wide = replace(solver, grids=[*solver.grids, _around(solver, number, widest)])
        found = wide.solve(_around(solver, number, width), levels[number])
        return inside(found) if found.converged else np.nan

    own = inside(levels[number])
    found = truncation(own, solved, margin, small, solver.problem.plant.n, method.order)
    if method.order > 1 and WRONG * float(np.ptp(own)) < found < np.inf and _grows(solver, levels[-1]):
        return np.inf
    if not large:
        return found
    if np.isinf(found) or np.isinf(halved):
        return SAFETY * found
    change = float(np.max(np.abs(solved(0.5 * given) - solved(given))))
    return SAFETY * found * float(np.fmin(1.0, halved / (change + 1e-300)))


@np.errstate(over="ignore", invalid="ignore")
def _grows(solver, fine):
    """Whether sweeps with the policy found diverge, as (P^π)^k V may where splines carry V on far beyond their nodes: then a V that solves
    the Bellman equation need not be what the policy gains."""
    operator, values = fixed_policy(fine.bellman, fine.policy, solver.table_bytes), np.random.default_rng(0).normal(size=fine.bellman.size)
    for _ in range(2):
        values = values / np.max(np.abs(values))
        for _ in range(GROWING):
            values = operator.linear(values)
    return not np.max(np.abs(values)) <= 1.0
