"""What HJB states where a target's boundary runs between the nodes, and where the optimal state leaves the box for good."""

import casadi as ca
import numpy as np
import pytest
from test_hjb import judge, make, v

import rlctrl as rc
from rlctrl.reference.hjb import box_grid
from rlctrl.reference.level import boundary
from rlctrl.reference.refinement import BEYOND, truncation, vague

AROUND = {"bound": np.pi, "exit": "clip", "box": (-1, 1)}
ALONG = {"states": ("x",), "bound": 1.0, "exit": "clip", "box": (-1, 1)}


def heading(a, b, target, discount=0.0):
    """Speed a along x, b along y, heading as input, cost 1 per second."""
    drift = lambda x, u: v(a * ca.cos(u[0]), b * ca.sin(u[0]))
    return make(drift, lambda x, u: -1.0, target=target, discount=discount, **AROUND)


# ---- Targets between the nodes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("radius", "discount"), [(0.3, 0.0), (0.317, 0.0), (0.317, 1.0), (0.45, 0.0)])
def test_a_disc(radius, discount, order):
    """V = −distance, or (exp(−ρ·distance) − 1)/ρ."""
    far = lambda x: np.maximum(np.hypot(x[:, 0] - 0.13, x[:, 1] + 0.07) - radius, 0)
    problem = heading(1, 1, lambda x: (x[0] - 0.13) ** 2 + (x[1] + 0.07) ** 2 - radius**2, discount)
    judge(problem, lambda x: np.expm1(-discount * far(x)) / discount if discount else -far(x), [(25, 25), (41, 41)], order=order)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("a", "b"), [(0.5, 0.3), (0.27, 0.61)])
def test_an_ellipse(a, b, order):
    """The speeds are those that make it a disc."""
    problem = heading(a, b, lambda x: (x[0] / a) ** 2 + (x[1] / b) ** 2 - 1)
    _, found = judge(problem, lambda x: -np.maximum(np.hypot(x[:, 0] / a, x[:, 1] / b) - 1, 0), [(25, 25), (41, 41)], order=order)
    assert found.error_terms["target"] >= 0.02


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("discount", [0.0, 1.0])
@pytest.mark.parametrize(("low", "high"), [(-0.23, 0.31), (-0.26, 0.2), (-0.275, 0.275)])
def test_an_interval(low, high, discount, order):
    """Where the levels h and 2h miss the same of it, their difference shows nothing."""
    far = lambda x: np.maximum(np.maximum(x[:, 0] - high, low - x[:, 0]), 0)
    problem = make(lambda x, u: u[0], lambda x, u: -1.0, discount=discount, target=lambda x: (x[0] - low) * (x[0] - high), **ALONG)
    judge(problem, lambda x: np.expm1(-discount * far(x)) / discount if discount else -far(x), [(41,), (81,), (161,)], order=order)


@pytest.mark.parametrize("order", [1, 2])
def test_an_interval_reached_by_noise(order):
    """ρV = −1 + σ²V''/2 between the target and reflecting walls."""
    low, high, discount, noise = -0.23, 0.31, 1.0, 0.5
    k = np.sqrt(2 * discount) / noise
    side = lambda x, edge: np.where(x > edge, np.cosh(k * (1 - x)) / np.cosh(k * (1 - edge)) - 1, 0) / discount
    rate, options = lambda x, u: -1.0 - u[0] ** 2, {"target": lambda x: (x[0] - low) * (x[0] - high), "noise": lambda x, u: noise}
    problem = make(lambda x, u: 0 * u[0], rate, discount=discount, **options, **ALONG)
    judge(problem, lambda x: side(x[:, 0], high) + side(-x[:, 0], -low), [(41,), (81,), (161,)], order=order)


@pytest.mark.parametrize("order", [1, 2])
def test_a_disc_reached_by_noise(order):
    """V = min(R² − r², 0), exact on the walls of the box: 0 = ℓ + σ²ΔV/2."""
    radius, noise = 0.317, 0.5
    value = lambda x, least=ca.fmin: least(radius**2 - x[0] ** 2 - x[1] ** 2, 0)
    options = {"exit": "absorb", "exit_value": value, "target": lambda x: x[0] ** 2 + x[1] ** 2 - radius**2, "box": (-1, 1), "bound": 1.0}
    rate, diffusion = lambda x, u: 2 * noise**2 - u[0] ** 2, lambda x, u: noise * ca.DM.eye(2)
    problem = make(lambda x, u: v(0 * u[0], 0), rate, noise=diffusion, **options)
    judge(problem, lambda x: value(x.T, np.minimum), [(25, 25), (41, 41)], order=order)


def test_where_the_boundary_runs_through_nodes_nothing_is_missed():
    problem = make(lambda x, u: u[0], lambda x, u: -1.0, target=lambda x: ca.fabs(x[0]) - 0.25, **ALONG)
    _, found = judge(problem, lambda x: -np.maximum(np.abs(x[:, 0]) - 0.25, 0), [(81,)], order=1)
    assert found.error_terms["target"] <= 1e-12


@pytest.mark.parametrize("order", [1, 2])
def test_a_part_of_the_target_without_a_node_is_missed(order):
    """[0.76, 0.79] lies between the nodes 0.75 and 0.8."""
    target = lambda x: ca.fmin(ca.fabs(x[0]) - 0.2, ca.fabs(x[0] - 0.775) - 0.015)
    far = lambda x: np.maximum(np.minimum(np.abs(x[:, 0]) - 0.2, np.abs(x[:, 0] - 0.775) - 0.015), 0)
    judge(make(lambda x, u: u[0], lambda x, u: -1.0, target=target, **ALONG), lambda x: -far(x), [(41,)], order=order)


def test_points_where_edges_leave_the_target_lie_on_its_boundary():
    """A disc across the end of an axis that turns; a half-plane cut by the walls."""
    plant = rc.Plant(
        "ring",
        [rc.Signal("a", "rad", -1, 1, periodic=True), rc.Signal("b", "1", -1, 1)],
        [rc.Signal("u", "1", -1, 1)],
        drift=lambda x, u, p: v(u[0], 0),
    )
    ring = lambda x, sin: sin(0.5 * np.pi * (x[0] - 0.75)) ** 2 + (x[1] - 0.1) ** 2 - 0.3**2
    problem = rc.Problem.from_rates(plant, lambda x, u: -1.0, 1.0, 0.01, target=lambda x: ring(x, ca.sin))
    points = boundary(problem.kernel, box_grid([-1, -1], [1, 1], (20, 21), (True, False)))
    assert np.max(np.abs(ring(points.T, np.sin))) <= 1e-7
    assert np.any(points[:, 0] > 0.9)
    assert len(np.unique(points.round(6), axis=0)) == len(points) >= 10
    half = make(lambda x, u: v(u[0], 0), lambda x, u: -1.0, target=lambda x: 0.33 - x[0], **AROUND)
    points = boundary(half.kernel, box_grid([-1, -1], [1, 1], (21, 9), (False, False)))
    assert points[:, 0] == pytest.approx(np.full(9, 0.33), abs=1e-9)


# ---- The optimal state leaves the box for good ---------------------------------------------------------------------------------------


def merton(aversion, low, exit="free"):  # noqa: A002
    """Dividing W between a stock, a bank and spending: problem and V = K·W^(1 − aversion), the wealth anywhere on (0, ∞)."""
    r, mu, sigma, rho, g = 0.02, 0.07, 0.2, 0.2, aversion
    share = (mu - r) / (g * sigma**2)
    spent = (rho - (1 - g) * (r + (mu - r) ** 2 / (2 * g * sigma**2))) / g
    value = lambda w: spent**-g / (1 - g) * w ** (1 - g)
    plant = rc.Plant(
        "merton",
        [rc.Signal("W", "1", low, 2.0)],
        [rc.Signal("share", "1", 0, 1.5 * share), rc.Signal("spent", "1/s", 0.2 * spent, 3 * spent)],
        drift=lambda x, u, p: (r + u[0] * (mu - r) - u[1]) * x[0],
        diffusion=lambda x, u, p: sigma * u[0] * x[0],
    )
    utility = lambda x, u: (u[1] * x[0]) ** (1 - g) / (1 - g)
    ends = {"exit_value": lambda x: value(x[0])} if exit == "absorb" else {}
    return rc.Problem.from_rates(plant, utility, rho, 0.01, exit=exit, **ends), lambda x: value(x[:, 0])


@pytest.mark.parametrize(("aversion", "low"), [(0.5, 0.5), (0.5, 1.0), (4.0, 0.5)])
def test_a_value_that_hangs_on_what_lies_beyond_the_box_is_refused(aversion, low):
    """The grid's margin cannot hold a wealth that grows or falls for ever: off by up to V's range, which no margin shows."""
    problem, _ = merton(aversion, low)
    for order in (1, 2):
        with pytest.raises(rc.NotConverged, match="V inside the box depends on what lies beyond it"):
            rc.solve(problem, rc.HJB(shape=(41,), order=order, inputs=9))


def by_griddp(utility, order):
    """The sampled problem at an aversion of 0.5 with a reward rate utility·√spending, solved on a grid; its value for comparison."""
    problem, value = merton(0.5, 1.0)
    problem = rc.Problem.from_rates(problem.plant, lambda x, u: utility * (u[1] * x[0]) ** 0.5, 0.2, 0.25, exit="free")
    found = rc.solve(problem, rc.GridDP(shape=(41,), order=order, inputs=9), on_failure="return")
    return found, lambda x: utility / 2 * value(x)


def test_griddp_refuses_it_too():
    found, _ = by_griddp(2.0, 1)
    assert (found.converged, found.error, found.message) == (False, np.inf, BEYOND)


@pytest.mark.parametrize("utility", [1.9428571, 1.9999, 2.0, 2.0000001, 2.1])
def test_griddp_with_splines_states_as_much_as_it_misses(utility):
    """With splines the iteration is no contraction: here rounding decides whether it settles, and on what. None may look usable."""
    found, value = by_griddp(utility, 3)
    x = np.linspace(1, 2, 200)[:, None]
    assert found.error >= max(np.max(np.abs(found.V(x) - value(x))), np.ptp(value(x)))
    assert not found.converged or any("above the range of V" in note for note in found.notes)


def test_statement_above_the_range_of_v_is_said():
    values = np.linspace(-3, -1, 5)
    assert [len(list(vague(error, values))) for error in (0.1, 1.9, 2.1, np.inf)] == [0, 0, 1, 1]
    assert not list(vague(1e-12, np.full(5, -7.0)))
    plant = rc.Plant("slow", [rc.Signal("x", "m", -1, 1)], [rc.Signal("u", "m/s", -1, 1)], drift=lambda x, u, p: u)
    problem = rc.Problem(plant, lambda x, u: ca.sin(40 * x[0]), gamma=0.9, dt=0.1)
    coarse, fine = (rc.solve(problem, rc.GridDP(shape=(n,), inputs=5)) for n in (11, 161))
    assert ["above the range" in " ".join(found.notes) for found in (coarse, fine)] == [True, False]


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("aversion", [0.5, 4.0])
def test_with_the_value_at_the_walls_it_is_solved(aversion, order):
    """The way out that the refusal names."""
    problem, value = merton(aversion, 1.0, "absorb")
    judge(problem, value, [(41,), (81,)], order=order)


def widened(change, reach=np.inf):
    """`truncation` of V = (0, 1) plus what a margin changes, from the margin 0.25 in one dimension; no solution beyond `reach`."""
    values = lambda width: np.array([0.0, 1.0]) + change(width) if width <= reach else np.nan
    return truncation(values(0.25), values, 0.25, 1e-6, 1, 1)


def test_truncation_is_stated_where_it_falls_and_infinite_where_it_grows_or_is_lost():
    left = 0.3 * np.exp(-6 * 0.25)
    assert left <= widened(lambda width: 0.3 * np.exp(-6 * width)) <= 5 * left
    assert widened(lambda width: 2 * width) == np.inf
    assert widened(lambda width: 0.5 * width, reach=0.3) == np.inf
    assert 0.01 * np.exp(-3) <= widened(lambda width: 0.01 * np.exp(-12 * width), reach=0.3) <= 0.1
