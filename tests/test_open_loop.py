"""Multiple shooting against exact values: LQR, published discrete-time values, bounded inputs; and what it must refuse or name."""

import re

import casadi as ca
import numpy as np
import pytest
from scipy import linalg

import plants
import rlctrl as rc
from rlctrl.plant import box
from rlctrl.reference.open_loop import OpenLoop
from rlctrl.reference.shooting import answer


def signals(name, count, reach):
    return [rc.Signal(f"{name}{i + 1}", "1", -reach, reach) for i in range(count)]


def map_of(update, n, m=1, box=1.0, reach=50.0, noise=None):
    return rc.Plant("example", signals("x", n, box), signals("u", m, reach), update=update, noise=noise)


def linear(n, gamma, m=1, **options):
    rng = np.random.default_rng(0)
    A, B = 0.4 * rng.normal(size=(n, n)) + 0.5 * np.eye(n), rng.normal(size=(n, m))
    plant = map_of(lambda x, u, w, p: ca.DM(A) @ x + ca.DM(B) @ u, n, m)
    return rc.Problem(plant, rc.quadratic(np.eye(n), np.eye(m)), gamma, **{"exit": "free", **options})


@pytest.mark.parametrize(("n", "m", "gamma"), [(2, 1, 0.95), (6, 2, 1.0)])
def test_linear_quadratic(n, m, gamma, tmp_path):
    problem = linear(n, gamma, m)
    exact, ref = rc.solve(problem, rc.Riccati()), rc.solve(problem, OpenLoop())
    rng = np.random.default_rng(1)
    x, u = rng.uniform(-1, 1, (4, n)), rng.uniform(-1, 1, (4, m))
    close = {"rtol": 1e-7, "atol": 1e-7}
    np.testing.assert_allclose(ref.V(x), exact.V(x), **close)
    np.testing.assert_allclose(ref.Q(x, u), exact.Q(x, u), **close)
    np.testing.assert_allclose(ref.Q(x[0], u[:, None]), exact.Q(x[0], u[:, None]), **close)
    np.testing.assert_allclose(ref.policy(x), exact.policy(x), atol=1e-5)  # V is flat where it is greatest
    np.testing.assert_allclose(ref.gradient(x), exact.gradient(x), atol=1e-5)
    assert np.max(np.abs(ref.V(x) - exact.V(x))) <= ref.error < 1e-6
    assert ref.residual < 1e-6
    again = rc.Reference.load(ref.save(tmp_path / "open_loop"))
    np.testing.assert_array_equal(again.V(x[:1]), ref.V(x[:1]))


def test_published_values_of_a_nonlinear_map():
    """Al-Tamimi, Lewis & Abu-Khalaf 2008: x_+ = (0.2 x1 exp(x2²), 0.3 x2³ − 0.2u), cost x'x + u², undiscounted."""
    plant = map_of(lambda x, u, w, p: ca.vertcat(0.2 * x[0] * ca.exp(x[1] ** 2), 0.3 * x[1] ** 3 - 0.2 * u), 2)
    ref = rc.solve(rc.Problem(plant, rc.quadratic([1, 1], [1]), 1.0), OpenLoop(horizon=10))
    x = np.array([[1, 0.5], [0.5, 1], [1, 1], [-1, 0.8], [0.7, -0.7]])
    exact = np.array([1.32005604, 1.41411488, 2.39669255, 1.81281359, 1.04462358])
    np.testing.assert_allclose(ref.V(x), -exact, rtol=0, atol=1e-6)
    assert np.max(np.abs(ref.V(x) + exact)) <= ref.error + 1e-8  # the values are given to eight decimals


@pytest.mark.parametrize(
    ("A", "B", "P"),
    [
        (  # F-16 of Al-Tamimi, Lewis & Abu-Khalaf 2007
            [[0.906488, 0.0816012, -0.0005], [0.0741349, 0.90121, -0.000708383], [0, 0, 0.132655]],
            [-0.00150808, -0.0096, 0.867345],
            [14.947129, 11.855280, -0.007180, 15.057603, -0.006314, 1.010104],
        ),
        ([[0, 0.1], [0.3, -1]], [0, 0.5], [1.144156, -0.489323, 2.671496]),  # Liu & Wei 2014, example 1
    ],
)
def test_published_linear_plants(A, B, P):
    n, (i, j) = len(A), np.triu_indices(len(A))
    plant = map_of(lambda x, u, w, p: ca.DM(A) @ x + ca.DM(B) @ u, n)
    ref = rc.solve(rc.Problem(plant, rc.quadratic(np.eye(n), [1]), 1.0, exit="free"), OpenLoop())
    exact = linalg.solve_discrete_are(np.array(A), np.array(B)[:, None], np.eye(n), np.eye(1))
    np.testing.assert_allclose(exact[i, j], P, rtol=0, atol=6e-7)
    x = np.random.default_rng(1).uniform(-1, 1, (4, n))
    error = np.max(np.abs(ref.V(x) + np.einsum("ki,ij,kj->k", x, exact, x)))
    assert error < 1e-10
    assert error <= ref.error < 1e-9


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_bounded_input_in_closed_form(gamma):
    """x_+ = x + u, |u| ≤ 1, cost x²: V = −Σ_j γ^j max(|x| − j, 0)²."""
    plant = rc.Plant("integrator", signals("x", 1, 4), signals("u", 1, 1), update=lambda x, u, w, p: x + u)
    ref = rc.solve(rc.Problem(plant, lambda x, u: -(x[0] ** 2), gamma, exit="free"), OpenLoop(horizon=10))
    x, j = np.array([[3.7], [-2.2], [0.4]]), np.arange(6)
    left = np.maximum(np.abs(x) - j, 0)
    error = np.max(np.abs(ref.V(x) + np.sum(gamma**j * left**2, 1)))
    assert error < 1e-9
    assert error <= ref.error < 1e-9
    np.testing.assert_allclose(ref.gradient(x)[:, 0], -np.sign(x[:, 0]) * np.sum(2 * gamma**j * left, 1), atol=1e-6)
    np.testing.assert_allclose(ref.policy(x), np.clip(-x, -1, 1), atol=1e-6)


def test_growth():
    """C1, Brock & Mirman: capital k, of whose yield k^0.65 the share s is kept; V = c1 + c2 ln k, s = αβ."""
    plant = rc.Plant("growth", [rc.Signal("k", "1", 0.05, 0.6)], [rc.Signal("s", "1", 0.01, 0.99)], update=lambda k, s, w, p: s * k**0.65)
    problem = rc.Problem(plant, lambda k, s: ca.log((1 - s[0]) * k[0] ** 0.65), 0.95, exit="free")
    ref, k = rc.solve(problem, OpenLoop()), np.array([[0.05], [0.6]])
    error = np.max(np.abs(ref.V(k) + 34.7856075455 - 1.6993464052 * np.log(k[:, 0])))
    assert error < 1e-8
    assert error <= ref.error < 1e-6
    np.testing.assert_allclose(ref.policy(k), 0.65 * 0.95, atol=1e-5)
    with pytest.raises(rc.NotConverged, match=r"at \[-0\.1\]: IPOPT ended with: .*undefined there"):  # no k^0.65 there
        ref.V([[-0.1]])


def test_the_tail_is_covered_where_the_horizon_is_too_short():
    """Tolerances so loose that the horizon, not IPOPT, limits: true ≤ stated ≤ 20 true."""
    problem = linear(2, 0.98)
    exact, x = rc.solve(problem, rc.Riccati()), np.random.default_rng(0).uniform(-1, 1, (5, 2))
    for tolerance in (1e-1, 1e-2, 1e-3):
        ref = rc.solve(problem, OpenLoop(tolerance=tolerance, horizon=1))
        error = np.max(np.abs(ref.V(x) - exact.V(x)))
        assert error <= ref.error <= 20 * error


def cart():
    plant = rc.Plant(
        "cart", signals("x", 2, 1.5), signals("u", 1, 0.5), drift=lambda x, u, p: ca.vertcat(x[1], 0.8 * ca.sin(x[0]) - 0.5 * x[1] + u[0])
    )
    return rc.Problem(plant, rc.quadratic([1, 0.1], [0.01]), 0.9, 0.2, exit="free")


def test_bounded_input_agrees_with_the_grid():
    problem = cart()
    grid, ref = rc.solve(problem, rc.GridDP(shape=(31, 31), inputs=11), on_failure="return"), rc.solve(problem, OpenLoop())
    x = np.random.default_rng(3).uniform(-0.8, 0.8, (8, 2))
    assert np.max(np.abs(ref.V(x) - grid.V(x))) <= grid.error
    u = ref.policy(x)
    assert np.max(np.abs(u)) <= 0.5 + 1e-9
    assert np.any(np.abs(u) > 0.499)


def test_held_on_the_wall_in_closed_form():
    """x_+ = x + ½ projected onto [−1, 1]: the cost x² halves in weight at every step, the wall is reached and never left."""
    ref = rc.solve(rc.Problem(map_of(lambda x, u, w, p: x + 0.5 + 0.0 * u, 1), rc.quadratic([1], [1]), 0.5), OpenLoop())
    x = np.array([0.9, 0.0, -0.75])
    steps = np.minimum(x[:, None] + 0.5 * np.arange(80), 1)
    error = np.max(np.abs(ref.V(x[:, None]) + np.sum(0.5 ** np.arange(80) * steps**2, 1)))
    assert error <= ref.error < 1e-7
    np.testing.assert_allclose(ref.gradient([[0.9]]), [[-1.8]], atol=1e-6)  # the wall hides x from all that follows


def test_pressing_against_the_wall():
    """x_+ = x + u/2 in [−1, 1], cost (u − 0.6)² + x²/10: on the wall u = 0.6 costs nothing and V(1) = −0.1/(1 − γ). How many steps lead
    there is a choice between optima."""
    plant = rc.Plant("pressing", signals("x", 1, 1), signals("u", 1, 1), update=lambda x, u, w, p: x + 0.5 * u)
    problem = rc.Problem(plant, lambda x, u: -((u[0] - 0.6) ** 2) - 0.1 * x[0] ** 2, 0.9)
    ref, grid = rc.solve(problem, OpenLoop()), rc.solve(problem, rc.GridDP(shape=(801,), inputs=201))
    assert abs(ref.V([1.0]) + 1.0) <= ref.error < 1e-7
    np.testing.assert_allclose(ref.policy([[1.0], [0.9]]), 0.6, atol=1e-4)
    x = np.linspace(-1, 1, 9)[:, None]
    assert np.max(np.abs(ref.V(x) - grid.V(x))) <= 1e-5 < grid.error
    start = np.array([-0.8])
    path = rc.simulate(problem, ref.policy, start, steps=12, seed=0)
    onward = 0.9**12 * ref.V(path.x[0, -1])
    np.testing.assert_allclose(path.returns[0] + onward, ref.V(start), atol=1e-7)
    assert path.x[0, -1, 0] == 1.0


def test_a_cart_that_hits_the_wall_agrees_with_the_grid():
    """x' = v, v' = u, |u| ≤ 1: from 0.95 at speed 1 the wall stops the cart, which keeps its speed."""
    plant = rc.Plant("cart", signals("x", 2, 1), signals("u", 1, 1), drift=lambda x, u, p: ca.vertcat(x[1], u[0]))
    problem = rc.Problem(plant, rc.quadratic([1, 0.1], [0.1]), 0.9, 0.2)
    grid, ref = rc.solve(problem, rc.GridDP(shape=(61, 61), inputs=15), on_failure="return"), rc.solve(problem, OpenLoop(tolerance=1e-6))
    x = np.array([[0.9, 0.9], [0.95, 1.0], [-0.8, -0.7], [1.0, 1.0], [0.5, -0.2]])
    assert np.max(np.abs(ref.V(x) - grid.V(x))) <= min(grid.error, 0.02)
    assert ref.residual < 1e-5


def test_the_planar_quadrotor_from_anywhere_in_its_box():
    """Six states; from two of the five probes the optimum runs along walls. No random start of ten found a better path."""
    problem = rc.Problem(**plants.defaults("planar_quadrotor")).with_params(noise=0.0)
    shooting = OpenLoop(tolerance=1e-6)._shooting(problem)
    low, high = box(problem.plant.states)
    for point, value in zip(np.random.default_rng(0).uniform(low, high, (5, 6))[[1, 4]], (-5.0111048, -1.2836011), strict=True):
        found = answer(shooting, tuple(point.tolist()), False)
        assert abs(found.value - value) <= 1e-6 + found.error
        assert found.error < 2e-6


def test_q_is_one_step_and_then_the_value():
    problem = cart()
    ref, rng = rc.solve(problem, OpenLoop()), np.random.default_rng(3)
    x, u = rng.uniform(-0.8, 0.8, (4, 2)), rng.uniform(-0.5, 0.5, (4, 1))
    onward = problem.reward(x, u) + problem.gamma * ref.V(problem.transition(x, u, np.zeros((4, 0))))
    np.testing.assert_allclose(ref.Q(x, u), onward, atol=1e-7)
    assert np.all(ref.Q(x, u) <= ref.V(x) + 1e-8)
    np.testing.assert_allclose(ref.Q(x, ref.policy(x)), ref.V(x), atol=1e-7)
    steps = 1e-4 * np.eye(2)
    ahead, back = ref.V(x[:, None] + steps), ref.V(x[:, None] - steps)
    np.testing.assert_allclose(ref.gradient(x), (ahead - back) / 2e-4, atol=1e-5)


def test_policy_runs_in_a_comparison():
    problem = linear(2, 0.95)
    ref, lqr = rc.solve(problem, OpenLoop()), rc.solve(problem, rc.Riccati())
    x0 = np.array([[0.5, -0.5], [1.0, 0.3]])
    paths = [rc.simulate(problem, policy, x0, steps=10, seed=0).x for policy in (ref.policy, lqr.policy)]
    np.testing.assert_allclose(*paths, atol=1e-5)
    table = rc.compare(problem, {"open loop": ref.policy, "lqr": lqr.policy}, x0, steps=10, seed=0)
    assert "open loop" in str(table)


def test_the_better_of_two_extremals_is_found():
    """Van der Pol of A7 from (−1, 2): the extremal that goes straight back costs 25.676, the one round the cycle 17.917 (BVP)."""
    plant = rc.Plant(
        "oscillator",
        signals("x", 2, 2),
        signals("u", 1, 100),
        drift=lambda x, u, p: ca.vertcat(x[1], 2 * (1 - x[0] ** 2) * x[1] - x[0] + u[0]),
    )
    reward = lambda x, u: -(0.5 * x.T @ x + 2 * u[0] ** 2)
    V = [
        float(
            rc.solve(rc.Problem.from_rates(plant, reward, 0.0, dt, exit="free"), OpenLoop(horizon=round(8 / dt), tolerance=1e-6)).V(
                [-1.0, 2.0]
            )
        )
        for dt in (0.2, 0.1, 0.05)
    ]
    np.testing.assert_allclose((V[0] - 6 * V[1] + 8 * V[2]) / 3, -17.917177, atol=2e-3)  # dt → 0, error O(dt³)


def test_a_state_that_turns():
    plant = rc.Plant(
        "turning",
        [rc.Signal("angle", "rad", -np.pi, np.pi, periodic=True)],
        [rc.Signal("u", "1", -1, 1)],
        drift=lambda x, u, p: ca.sin(x[0]) + u[0],
    )
    reward = lambda x, u: -(1 - ca.cos(x[0]) + u[0] ** 2)
    ref = rc.solve(rc.Problem(plant, reward, 0.9, 0.1), OpenLoop())
    np.testing.assert_allclose(ref.V([[3.0]]), ref.V([[3.0 - 2 * np.pi]]), atol=1e-7)
    np.testing.assert_allclose(ref.Q([[3.0]], [[0.5]]), ref.Q([[3.0 + 40 * np.pi]], [[0.5]]), atol=1e-7)
    with pytest.raises(rc.InputError, match="one turn"):
        rc.solve(rc.Problem(plant, rc.quadratic([1], [1]), 0.9, 0.1), OpenLoop())


def test_refusals():
    noisy = map_of(lambda x, u, w, p: 0.5 * x + u + 0.1 * w, 1, noise=rc.Uniform(1))
    cost = rc.quadratic([1], [1])
    with pytest.raises(rc.InputError, match="without noise"):
        rc.solve(rc.Problem(noisy, cost, 0.9), OpenLoop())
    quiet = map_of(lambda x, u, w, p: 0.5 * x + u + 0.0 * w, 1, noise=rc.Uniform(1))
    assert rc.solve(rc.Problem(quiet, cost, 0.9, exit="free"), OpenLoop(horizon=20)).converged
    with pytest.raises(rc.InputError, match="target"):
        rc.solve(rc.Problem(quiet, cost, 0.9, target=lambda x: x[0]), OpenLoop())
    switch = rc.Plant("switch", signals("x", 1, 1), [rc.Signal("mode", "1", values=(0, 1))], update=lambda x, u, w, p: 0.5 * x + u)
    with pytest.raises(rc.InputError, match="finitely many"):
        rc.solve(rc.Problem(switch, cost, 0.9), OpenLoop())
    for options, word in ({"tolerance": 0.0}, "tolerance"), ({"horizon": 0}, "horizon"), ({"start": 3}, "Did you mean `starts`"):
        with pytest.raises(rc.InputError, match=word):
            OpenLoop(**options)


def test_an_end_that_may_pay_is_refused():
    """x' = x + u on [−1, 1] from 0.9: staying costs 20.6, leaving 0.8 (GridDP, on 201 nodes)."""
    signals = [rc.Signal("x", "m", -1, 1)], [rc.Signal("u", "1", -1, 1)]
    problem = rc.Problem(rc.Plant("away", *signals, drift=lambda x, u, p: x + u), rc.quadratic([1], [1]), 0.95, 0.1, exit="absorb")
    with pytest.raises(rc.InputError, match=r"`exit` must be .* for OpenLoop, which seeks no path that ends; got 'absorb'. Use rc.GridDP"):
        rc.solve(problem, OpenLoop())


def test_an_open_loop_reference_is_shown_in_one_line():
    steady = rc.Problem(map_of(lambda x, u, w, p: 0.5 * x + u, 1), rc.quadratic([1], [1]), 0.9, exit="free")
    assert re.fullmatch(r"Reference\(OpenLoop, converged, error \S+ estimated: .*\)", repr(rc.solve(steady, OpenLoop(starts=1))))


def test_failures_are_named():
    """Undiscounted cost for ever: no horizon suffices."""
    stuck = rc.Problem(map_of(lambda x, u, w, p: x + 0.0 * u, 1), rc.quadratic([1], [1]), 1.0, exit="free")
    with pytest.raises(rc.NotConverged, match=r"at \[.*raise `horizon`"):
        rc.solve(stuck, OpenLoop(horizon=2))
    growing = rc.Problem(map_of(lambda x, u, w, p: 2 * x + u, 1, reach=1.0), lambda x, u: x[0], 1.0, exit="free")
    with pytest.raises(rc.NotConverged, match=r"at \[.*V may be infinite"):
        rc.solve(growing, OpenLoop(horizon=10))


def test_tapes_become_casadi_again():
    x, p = ca.SX.sym("x", 2), ca.SX.sym("p", 1)
    expression = ca.vertcat(ca.atan2(x[0], x[1]) + p * ca.sqrt(x[1] ** 2 + 1), ca.if_else(x[0] > 0, ca.exp(x[1]), 2.0))
    original = ca.Function("f", [x, p], [expression])
    again = ca.Function("g", [x, p], [rc.casadi_jax.JaxFunction(original, (2,)).symbolic(x, p)])
    for point in np.random.default_rng(0).normal(size=(5, 2)):
        np.testing.assert_array_equal(np.array(again(point, 0.3)), np.array(original(point, 0.3)))


def test_axes_that_do_not_broadcast_are_said():
    states = [rc.Signal("x", "m", -1, 1), rc.Signal("v", "m/s", -1, 1)]
    plant = rc.Plant("cart", states, [rc.Signal("a", "m/s^2")], drift=lambda x, u, p: ca.vertcat(x[1], u[0]))
    problem = rc.Problem(plant, rc.quadratic([1, 1], [1]), 0.9, 0.1, exit="free")
    found = rc.solve(problem, rc.OpenLoop())
    with pytest.raises(rc.InputError, match="`u` must have leading axes that broadcast"):
        found.Q(np.zeros((2, 2)), np.zeros((3, 1)))
