"""Error statement of grid dynamic programming: the sum of

contraction     the bound on |V − fixed point of the finite problem| with which the iteration stopped
discretisation  |V_h − V_2h| on the fine nodes, extrapolated with the order that the levels h, 2h, 4h show, at most that of the scheme;
                above order 1, where few nodes do and half of them may be too few, plus the Bellman residual R between the nodes, and no
                more than R/(1 − γ)
quadrature      the change of the value of the final policy inside the box when the noise gets twice the nodes
truncation      (`exit="free"`) the change of the value of the final policy inside the box when the margin around it is halved; where that
                is not small beside the other terms, what `refinement` makes of changes of V on the level 2h as the margin grows
"""

import functools
import itertools
from dataclasses import replace

import numpy as np

from rlctrl.grid import nearest_nodes
from rlctrl.reference.refinement import SMALL, left_by, truncation

BETWEEN = 1.25  # the largest error of a spline between two nodes, in the end cells too, relative to that in the middle
MARGIN = 0.25  # to begin with where there is none
ACCURACY = 0.01  # relative, of values under another operator


def error_terms(solver, levels) -> dict[str, float]:
    """The terms by name."""
    fine = levels[-1]
    terms = {"contraction": fine.bound, "discretisation": _discretisation(levels), "quadrature": _quadrature(solver, fine)}
    if solver.problem.exit == "free":
        terms["truncation"] = _truncation(solver, levels, terms["contraction"] + SMALL * sum(terms.values()))
    return terms


def _difference(coarse, fine):
    """Largest difference of two levels on the nodes of the finer one inside the box."""
    gap = coarse.bellman.grid.resample(coarse.values, fine.bellman.grid) - fine.values
    return float(np.max(np.abs(gap[fine.bellman.judged()])))


def _discretisation(levels):
    changes, order = [_difference(coarse, fine) for coarse, fine in itertools.pairwise(levels)], levels[-1].bellman.grid.order
    nested = left_by(changes, order + 1)
    if order == 1:
        return nested
    between, gamma = _between(levels[-1]), float(levels[-1].bellman.kernel.gamma)
    return min(nested + between, between / (1 - gamma) if gamma < 1 else np.inf)


def _between(fine):
    """|TV − V| from the middles of the cells inside the box, T without interpolating expectations."""
    bellman = fine.bellman
    middles = bellman.grid.middles(np.asarray(bellman.kernel.low), np.asarray(bellman.kernel.high))
    policy = fine.policy[nearest_nodes(bellman.grid, middles)]
    gap = bellman.plain.improve(fine.values, policy, at=middles)[0] - bellman.grid.resample(fine.values, middles)
    return BETWEEN * float(np.max(np.abs(gap)))


def _quadrature(solver, fine):
    method = solver.method
    more = replace(solver, method=replace(method, quadrature=2 * method.quadrature)).bellman(fine.bellman.grid)
    more = replace(more, coarse=fine.bellman.coarse, together=len(fine.bellman.rule[1]))
    if len(more.rule[1]) == len(fine.bellman.rule[1]):
        return 0.0
    gap = solver.revalued(more, fine.policy, fine.values, ACCURACY) - fine.values
    return float(np.max(np.abs(gap[fine.bellman.judged()])))


def _truncation(solver, levels, small):
    """Change inside the box of the value of the final policy with half the margin around it, if `small`; else by wider margins."""
    fine, margin = levels[-1], solver.method.margin
    if fine.bellman.share_leaving(fine.policy) == 0:
        return 0.0
    halved = _halved(solver, fine) if margin else np.inf
    return halved if halved <= small else _widened(solver, levels[-2], margin or MARGIN, small, halved)


def _halved(solver, fine):
    method, problem = solver.method, solver.problem
    grid = method.grid(problem, method.axes(problem)[-1], 0.5 * method.margin)
    kept = nearest_nodes(fine.bellman.grid, grid)
    less, values = solver.bellman(grid), fine.values[kept]
    gap = solver.revalued(less, fine.policy[kept], values, ACCURACY) - values
    return float(np.max(np.abs(gap[less.judged()])))


def _widened(solver, level, margin, small, halved):
    """By margins of the level 2h; less by as much as half of the margin changes more there than on the fine grid (`halved`), which is its
    discretisation."""
    method, problem = solver.method, solver.problem
    inside = lambda found: found.values[found.bellman.judged()]

    @functools.cache
    def solved(width):
        grid = method.grid(problem, method.axes(problem)[-2], width)
        found = replace(solver, grids=[*solver.grids, grid]).solve(grid, level)
        return inside(found) if found.converged else np.nan

    found = truncation(inside(level), solved, margin, small, problem.plant.n, method.order)
    change = float(np.max(np.abs(solved(0.5 * margin) - solved(margin))))
    return found * float(np.fmin(1.0, halved / (change + 1e-300)))
