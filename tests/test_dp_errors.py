"""What GridDP states where the nodes do not see V's jumps and bends, and where inputs lead beyond a grid of splines."""

from dataclasses import replace

import casadi as ca
import numpy as np
import pytest

import plants
import rlctrl as rc
from rlctrl import converse
from rlctrl.grid import box_grid, corners
from rlctrl.reference import dp
from rlctrl.reference.policy_iteration import policy_iteration

RNG = np.random.default_rng


def judge(problem, method, exact, x):
    """The true error of a solve at x, stated within a factor 20 above it."""
    found = rc.solve(problem, method)
    true = float(np.max(np.abs(found.V(x) - exact)))
    assert true <= found.error <= 20 * true, (true, found.error, found.error_terms)
    return true


# ---- Between the nodes -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [1.0, 0.95])
@pytest.mark.parametrize(("low", "high"), [(-0.23, 0.31), (-0.26, 0.2), (-0.251, 0.2499)])
def test_steps_to_an_interval_between_the_nodes(low, high, gamma):
    """A staircase as wide as the cells of 41 nodes: linear interpolation of 41 and 21 nodes agrees, both are off by a step between them."""
    plant = rc.Plant("line", [rc.Signal("x", "1", -1, 1)], [rc.Signal("u", "1", -1, 1)], update=lambda x, u, w, p: x + 0.05 * u)
    target = lambda x: (x[0] - low) * (x[0] - high)
    problem = rc.Problem(plant, lambda x, u: ca.SX(-0.05), gamma, target=target)
    x = np.linspace(-1, 1, 8001)
    steps = np.ceil(np.maximum(np.maximum(x - high, low - x), 0) / 0.05 - 1e-9)
    exact = -0.05 * (steps if gamma == 1 else (1 - gamma**steps) / (1 - gamma))
    for nodes in (41, 81):
        judge(problem, rc.GridDP(shape=nodes), exact, x[:, None])


@pytest.mark.parametrize("order", [1, 3])
def test_cells_of_very_different_width(order):
    """C1 on plain capital, the nodes scattered: coarser grids keep the ends of the widest cells."""
    nodes = np.sort(np.concatenate([[0.01, 1.0], RNG(3).uniform(0.01, 1, 59)]))
    problem, save = rc.Problem(**plants.defaults("growth", noise=0.0)), 0.65 * 0.95
    k = np.linspace(0.01, 1, 2001)
    exact = (np.log(1 - save) + save / (1 - save) * np.log(save)) / 0.05 + 0.65 / (1 - save) * np.log(k)
    judge(problem, rc.GridDP(shape=(nodes,), order=order, margin=0.0), exact, k[:, None])


def kinked(rate, offset):
    """A problem whose V has a kink along the diagonal of the cells, and V at 20 000 states; the plant falls to 0 at a rate."""
    plant = plants.linear(rate * np.eye(2), np.eye(2), state_max=1.0, input_max=1.0)
    value = lambda x: ca.sin(x[0] + 2 * x[1]) - 0.5 * ca.fabs(x[0] - x[1] - offset / 12)
    problem, method = converse.discrete(plant, value, lambda x: 0.3 * x, curvature=np.eye(2), gamma=0.5, dt=0.1)
    x = RNG(0).uniform(-1, 1, (20_000, 2))
    return problem, x, rc.solve(problem, method).V(x)


@pytest.mark.parametrize("order", [3, 5])
@pytest.mark.parametrize("offset", [0.25, 0.5, 1.0])
def test_a_kink_along_the_diagonal_of_the_cells(order, offset):
    """It passes the middles of all cells at the same distance."""
    problem, x, exact = kinked(-5.0, offset)
    judge(problem, rc.GridDP(shape=(25, 25), order=order, inputs=5), exact, x)


@pytest.mark.parametrize("order", [3, 5])
@pytest.mark.parametrize("kink", [0.004, 0.015, 0.03])
def test_a_kink_that_the_state_stays_beside_for_long(kink, order):
    """γ = 0.999: what splines get wrong there sums to half of V's range, hardly less on finer grids, so that levels differ by little."""
    plant = plants.linear([[-2.0]], [[1.0]], state_max=1.0, input_max=1.0)
    value = lambda x: ca.sin(2 * x[0] + 1) - 0.5 * ca.fabs(x[0] - kink)
    problem, method = converse.discrete(plant, value, lambda x: 0.3 * x, curvature=1.0, gamma=0.999, dt=0.1)
    x = np.linspace(-1, 1, 2001)[:, None]
    judge(problem, rc.GridDP(shape=49, order=order, inputs=11), rc.solve(problem, method).V(x), x)


def test_corners_of_cells():
    grid = box_grid([0, 0], [3, 4], (4, 4), (False, True))
    low, high = corners(grid, grid.middles(np.zeros(2), np.array([3, 4])))
    nodes = grid.points()
    np.testing.assert_allclose(nodes[low][:5], [[0, 0], [0, 1], [0, 2], [0, 3], [1, 0]])
    np.testing.assert_allclose(nodes[high][:5], [[1, 1], [1, 2], [1, 3], [1, 0], [2, 1]])


# ---- Beyond the grid -------------------------------------------------------------------------------------------------------------------

A, B = np.array([[1.0907, 0.1641], [-0.2675, 0.8010]]), np.array([0.1, 0.4])
C, D = np.array([[0.0310, -0.1275], [-0.0522, -0.1121]]), np.array([-0.1903, -0.0527])


@pytest.mark.parametrize("nodes", [15, 21])
def test_noise_with_state_and_input_carries_far_beyond_splines(nodes):
    """A quadratic V, which cubic splines hold; from the corners of the margin the best input leads two cells beyond the grid and more."""
    plant = rc.Plant(
        "carried",
        [rc.Signal("x", "1", -1, 1), rc.Signal("y", "1", -1, 1)],
        [rc.Signal("u", "1", -4.5, 4.5)],
        update=lambda x, u, w, p: ca.mtimes(ca.DM(A), x) + B * u[0] + ca.mtimes(ca.DM(C), x) * w[0] + D * u[0] * w[1],
        noise=rc.Gaussian(2),
    )
    problem = rc.Problem(plant, rc.quadratic([1.0, 1.0], [0.5]), gamma=0.95, exit="free")
    found = rc.solve(problem, rc.GridDP(shape=(nodes, nodes), order=3, quadrature=3, inputs=11))
    x = RNG(0).uniform(-1, 1, (2000, 2))
    true = np.max(np.abs(found.V(x) - rc.solve(problem, rc.Riccati()).V(x)))
    assert true <= found.error <= 1e-6


@pytest.mark.parametrize("order", [1, 3, 5])
def test_an_input_that_ends_far_beyond_the_grid(order):
    """Stopping leads to the target at x = 50; both inputs are optimal somewhere, and V = 2 + sin x."""
    value = lambda x: 2 + ca.sin(x)
    stops = lambda u: u[0] > 0.5
    plant = rc.Plant(
        "stopped",
        [rc.Signal("x", "1", -2, 2)],
        [rc.Signal("stop", "1", values=(0, 1))],
        update=lambda x, u, w, p: ca.if_else(stops(u), 50.0, 0.5 * x[0]),
    )
    going = lambda x: value(x) - ca.fmax(-x, 0) - 0.9 * value(0.5 * x)
    reward = lambda x, u: ca.if_else(stops(u), value(x[0]) - ca.fmax(x[0], 0), going(x[0]))
    problem = rc.Problem(plant, reward, gamma=0.9, exit="free", target=lambda x: 20 - x[0])
    x = np.linspace(-2, 2, 1001)[:, None]
    judge(problem, rc.GridDP(shape=33, order=order), 2 + np.sin(x[:, 0]), x)


def test_grids_above_one_that_diverged_are_not_tried(monkeypatch):
    """Finer grids would start from garbage, and take long to no avail."""
    tried = []

    def diverging(bellman, *arguments):
        tried.append(bellman.grid.shape)
        lost = {"bound": np.inf, "residual": np.inf, "converged": False, "message": "GridDP diverged.", "diverged": True}
        return replace(policy_iteration(bellman, *arguments), **lost)

    monkeypatch.setattr(dp, "policy_iteration", diverging)
    problem, *_ = kinked(0.0, 0.25)
    found = rc.solve(problem, rc.GridDP(shape=(25, 25), inputs=5), on_failure="return")
    assert (found.converged, found.error, found.message) == (False, np.inf, "GridDP diverged.")
    assert len(tried) == 1


@pytest.mark.parametrize("nodes", [41, 81])
@pytest.mark.parametrize("value", [lambda d: -ca.fabs(d), lambda d: -ca.fabs(d) * d], ids=["bends", "bends in its slope"])
def test_error_statement_of_splines_counts_what_a_kink_costs_along_the_way(value, nodes):
    """γ near 1 and a kink that the levels happen to agree about: their changes fall by factors of 24 and 28."""
    line, thrust = rc.Signal("x", "1", -1, 1), rc.Signal("u", "1", -1, 1)
    plant = rc.Plant("line", [line], [thrust], update=lambda x, u, w, p: 0.6 * x + 0.2 * u + 0.1 * w, noise=rc.Uniform(1))
    problem, method = converse.discrete(plant, lambda x: value(x[0] - 0.137), lambda x: -1.5 * x, 0.7, 0.9999, quadrature=5)
    exact, x = rc.solve(problem, method), np.linspace(-1, 1, 4001)[:, None]
    ref = rc.solve(problem, rc.GridDP(shape=(nodes,), order=5, quadrature=5))
    assert np.max(np.abs(ref.V(x) - exact.V(x))) <= ref.error


def test_splines_on_axes_that_all_turn():
    """Nothing lies beyond such a grid."""
    angle, thrust = rc.Signal("angle", "rad", -np.pi, np.pi, periodic=True), rc.Signal("u", "1", -1, 1)
    plant = rc.Plant("turning", [angle], [thrust], update=lambda x, u, w, p: x + 0.3 * u + 0.2 * ca.sin(x) + 0.25 * w, noise=rc.Uniform(1))
    value, policy = lambda x: ca.cos(x[0]) + 0.3 * ca.sin(2 * x[0]), lambda x: -1.6 * ca.sin(x)
    problem, method = converse.discrete(plant, value, policy, 0.7, 0.93)
    exact, x = rc.solve(problem, method), np.linspace(-np.pi, 3.1, 1001)[:, None]
    ref = rc.solve(problem, rc.GridDP(shape=(40,), order=5))
    error = np.max(np.abs(ref.V(x) - exact.V(x)))
    assert error <= ref.error <= 20 * error


# ---- Beyond the walls ------------------------------------------------------------------------------------------------------------------


def test_margin_around_few_nodes_of_quintic_splines():
    """Half of 21 nodes are too few to tell what the margin changes: from there a thousand times the true error would be stated."""
    value = lambda x: -(0.332 * x[0] ** 2 - 0.059 * ca.sin(1.171 * x[0]) * x[1] + 1.184 * x[1] ** 2 + 0.0444 * ca.cos(1.231 * x[0]))
    problem, method = converse.discrete(
        plants.double_integrator(), value, lambda x: -0.892 * x[0] - 0.317 * x[1], curvature=1.527, gamma=0.9, dt=0.02
    )
    x = RNG(0).uniform(-2, 2, (2000, 2))
    assert judge(problem, rc.GridDP(shape=(21, 21), order=5, inputs=9), rc.solve(problem, method).V(x), x) <= 1e-7


SPREADING = (
    [[0.15, -0.508], [-0.273, 0.631]],
    [-0.198, 0.268],
    -0.067,
    [[0.558, -0.238], [-0.238, 0.646]],
    [0.882, 0.695],
    0.375,
    [0.23, -1.417],
    0.6,
)
DECAYING = ([[0.1, 0.5], [0.3, -0.9]], [0.6, 0.3], -0.3, [[0.6, 0.1], [0.1, 0.5]], [0.5, 1.9], 0.25, [-1.0, 0.0], 1.0)
ON_A_LINE = ([[-1.62]], [0.16], -0.03, [[0.78]], [1.84], 0.28, [-1.3], 1.0)


@pytest.mark.parametrize(
    ("drawn", "gamma", "order", "nodes", "margin"),
    [(SPREADING, 0.9, 5, 25, 0.25), (DECAYING, 0.95, 3, 13, 0.25), (ON_A_LINE, 0.8, 3, 21, 0.5)],
)
def test_noise_that_carries_the_state_far_beyond_the_margin(drawn, gamma, order, nodes, margin):
    """V = −xᵀQx + a·cos ω·x of a plant with noise of an eighth to a fourth of the box a step. Splines may settle on a wrong V, which half
    of the margin hardly changes: levels that do not agree ever better tell. How V falls within a margin tells less than a wider one."""
    A, B, cubic, Q, frequency, a, feedback, sigma = map(ca.DM, drawn)
    n, dt = A.shape[0], 0.2
    states = [rc.Signal(name, "1", -1, 1) for name in "xy"[:n]]
    ahead, spread = lambda x, u: x + dt * (A @ x + B * u[0] + cubic * x**3), np.sqrt(dt) * sigma
    damped = lambda x, width: (
        -ca.bilin(Q, x, x) - width**2 * ca.trace(Q) + a * ca.cos(ca.dot(frequency, x)) * ca.exp(-0.5 * width**2 * ca.sumsqr(frequency))
    )
    reward = lambda x, u: damped(x, 0) - 0.66 * (u[0] - ca.dot(feedback, x)) ** 2 - gamma * damped(ahead(x, u), spread)
    plant = rc.Plant(
        "drawn", states, [rc.Signal("u", "1", -10, 10)], update=lambda x, u, w, p: ahead(x, u) + spread * w, noise=rc.Gaussian(n)
    )
    problem, x = rc.Problem(plant, reward, gamma, exit="free"), RNG(0).uniform(-1, 1, (3000, n))
    exact = np.array(ca.Function("V", [s := ca.SX.sym("s", n)], [damped(s, 0)])(x.T)).ravel()
    found = rc.solve(problem, rc.GridDP(shape=(nodes,) * n, order=order, inputs=9, margin=margin, quadrature=7))
    true = float(np.max(np.abs(found.V(x) - exact)))
    assert true <= found.error <= 20 * true
    assert found.error_terms["truncation"] > 0.5 * true
