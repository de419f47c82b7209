"""Multiple shooting against exact values: LQR, published discrete-time values, bounded inputs; and what it must refuse or name."""

import casadi as ca
import numpy as np
import pytest

import rlctrl as rc
from rlctrl.reference.open_loop import OpenLoop, _casadi


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


def test_bounded_input_agrees_with_the_grid():
    plant = rc.Plant(
        "cart", signals("x", 2, 1.5), signals("u", 1, 0.5), drift=lambda x, u, p: ca.vertcat(x[1], 0.8 * ca.sin(x[0]) - 0.5 * x[1] + u[0])
    )
    problem = rc.Problem(plant, rc.quadratic([1, 0.1], [0.01]), 0.9, 0.2, exit="free")
    grid, ref = rc.solve(problem, rc.GridDP(shape=(61, 61), inputs=11), on_failure="return"), rc.solve(problem, OpenLoop())
    x = np.random.default_rng(3).uniform(-0.8, 0.8, (8, 2))
    assert np.max(np.abs(ref.V(x) - grid.V(x))) <= grid.error
    u = ref.policy(x)
    assert np.max(np.abs(u)) <= 0.5 + 1e-9
    assert np.any(np.abs(u) > 0.499)
    np.testing.assert_allclose(ref.Q(x, u), ref.V(x), atol=1e-7)
    assert np.all(ref.Q(x, -u) <= ref.V(x) + 1e-7)


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


def test_failures_are_named():
    """Undiscounted cost for ever: no horizon suffices. Leaving the box under exit="clip": not this problem's optimum."""
    stuck = rc.Problem(map_of(lambda x, u, w, p: x + 0.0 * u, 1), rc.quadratic([1], [1]), 1.0, exit="free")
    with pytest.raises(rc.NotConverged, match=r"at \[.*raise `horizon`"):
        rc.solve(stuck, OpenLoop(horizon=2))
    drifting = rc.Problem(map_of(lambda x, u, w, p: x + 0.5 + 0.0 * u, 1), rc.quadratic([1], [1]), 0.5)
    ref = rc.solve(drifting, OpenLoop(horizon=20), on_failure="return")
    assert not ref.converged
    assert 'exit="free"' in ref.message
    with pytest.raises(Exception, match=r"failed at 1 of 1 points, at \[0\.9\]: the optimal path leaves the box at step 1"):
        ref.V([0.9])


def test_tapes_become_casadi_again():
    x, p = ca.SX.sym("x", 2), ca.SX.sym("p", 1)
    expression = ca.vertcat(ca.atan2(x[0], x[1]) + p * ca.sqrt(x[1] ** 2 + 1), ca.if_else(x[0] > 0, ca.exp(x[1]), 2.0))
    original = ca.Function("f", [x, p], [expression])
    again = ca.Function("g", [x, p], [_casadi(rc.casadi_jax.JaxFunction(original, (2,)), x, p)])
    for point in np.random.default_rng(0).normal(size=(5, 2)):
        np.testing.assert_array_equal(np.array(again(point, 0.3)), np.array(original(point, 0.3)))
