"""Grid dynamic programming against exact answers: Riccati, a slow plain-NumPy value iteration, a random walk, Monte Carlo."""

import casadi as ca
import numpy as np
import pytest

import plants
import rlctrl as rc


def lq_problem(**options):
    """Double integrator whose inputs are wide enough for LQR to be optimal on the box."""
    plant = plants.double_integrator(noise=0.1, force_max=12.0)
    return rc.Problem(plant, rc.quadratic([1.0, 0.1], [0.1]), gamma=0.97, dt=0.1, exit="free", **options)


@pytest.fixture(scope="module")
def refined():
    """LQR, and the grid solutions on 21, 41 and 81 nodes a side."""
    problem = lq_problem()
    return rc.solve(problem, rc.Riccati()), {n: rc.solve(problem, rc.GridDP(shape=(n, n))) for n in (21, 41, 81)}


def test_grid_converges_to_riccati_at_second_order_inside_the_box(refined):
    exact, grids = refined
    x = np.random.default_rng(0).uniform(-1, 1, (2000, 2))
    errors = [np.max(np.abs(grids[n].V(x) - exact.V(x))) for n in (21, 41, 81)]
    assert np.log2(errors[1] / errors[2]) >= 1.8
    assert errors[0] > errors[1] > errors[2]


def test_the_policy_looks_ahead_as_the_q_function_does(refined):
    """By whatever route the expectation goes: at the order at which V is linear between nodes it is exact, and no input is better."""
    grid = refined[1][41]
    x = np.random.default_rng(4).uniform(-2, 2, (300, 2))
    candidates = np.linspace(-12, 12, 2001)[:, None, None]
    best = np.max(grid.Q(x, np.broadcast_to(candidates, (2001, 300, 1))), 0)
    assert np.max(best - grid.Q(x, grid.policy(x))) <= 1e-5 * np.ptp(best)


def test_the_policy_of_a_swing_up_takes_the_better_side_of_a_switch():
    """Where inputs at the nodes around a state lie at both ends of the box: against all inputs, 2001 of them."""
    grid = rc.solve(rc.Problem(**plants.defaults("pendulum")), rc.GridDP(shape=(41, 41)))
    x = np.random.default_rng(5).uniform((-np.pi, -8), (np.pi, 8), (1000, 2))
    best = np.max(grid.Q(x, np.broadcast_to(np.linspace(-5, 5, 2001)[:, None, None], (2001, 1000, 1))), 0)
    missed = (best - grid.Q(x, grid.policy(x))) / np.ptp(best)
    assert np.max(missed) <= 3e-4
    assert np.quantile(missed, 0.99) <= 3e-6


def test_the_policy_takes_finite_inputs_as_they_are_beside_continuous_ones():
    """The gear costs nothing: that of −1, 0 and 1 is best which leaves the least to the force."""
    states = [rc.Signal("x", "1", -2, 2)]
    inputs = [rc.Signal("gear", "1", -1, 1, values=(-1.0, 0.0, 1.0)), rc.Signal("force", "1", -2, 2)]
    plant = rc.Plant("geared", states, inputs, update=lambda x, u, w, p: x[0] + u[0] + u[1] + 0.05 * w[0], noise=rc.Gaussian(1))
    problem = rc.Problem(plant, lambda x, u: -(x[0] ** 2) - u[1] ** 2, gamma=0.5)
    x = np.linspace(-1.91, 1.91, 77)
    gear, force = rc.solve(problem, rc.GridDP(shape=(41,), order=3)).policy(x[:, None]).T
    assert set(np.unique(gear)) == {-1.0, 0.0, 1.0}
    clear = np.abs(np.abs(x) - 0.5) > 0.1  # a cell or more from where two gears are as good
    assert np.array_equal(gear[clear], -np.round(np.clip(x[clear], -1, 1)))
    assert np.max(np.abs(force)) <= 0.3


def test_stated_error_covers_the_true_one_in_the_whole_box(refined):
    exact, grids = refined
    x = np.random.default_rng(1).uniform(-2, 2, (4000, 2))
    for grid in grids.values():
        true = np.max(np.abs(grid.V(x) - exact.V(x)))
        assert true <= grid.error <= 20 * true
        assert grid.error_terms["discretisation"] > 0
        assert grid.error_kind == "estimated"
        assert grid.error == pytest.approx(sum(grid.error_terms.values()))


def test_greedy_policy_of_the_grid_is_the_lqr_gain(refined):
    exact, grids = refined
    x = np.random.default_rng(2).uniform(-0.8, 0.8, (500, 2))
    assert np.max(np.abs(grids[81].policy(x) - exact.policy(x))) <= 0.05 * np.max(np.abs(exact.policy(x)))


def test_bellman_residual_off_the_nodes_falls_with_refinement(refined):
    _, grids = refined
    certified = [grids[n].certify(points=500) for n in (21, 41, 81)]
    assert certified[0] > 2 * certified[1] > 4 * certified[2] * 0.9


def test_cubic_splines_beat_linear_interpolation_by_orders_of_magnitude(refined):
    exact, grids = refined
    cubic = rc.solve(lq_problem(), rc.GridDP(shape=(17, 17), order=3))
    x = np.random.default_rng(3).uniform(-2, 2, (2000, 2))
    true = np.max(np.abs(cubic.V(x) - exact.V(x)))
    assert true <= 1e-4 * np.max(np.abs(grids[81].V(x) - exact.V(x)))
    assert true <= cubic.error


def slow_value_iteration(problem, nodes, modes, noise, gamma, sweeps):
    """T applied over and over with np.interp, one state at a time: 1-D state, finite inputs, finite noise."""
    values = np.zeros(len(nodes))
    for _ in range(sweeps):
        new = []
        for x in nodes:
            options = []
            for u in modes:
                ahead = [problem.transition([x], [u], [w])[0] for w in noise.nodes[:, 0]]
                expected = float(np.dot(noise.probabilities, np.interp(ahead, nodes, values)))
                options.append(float(problem.reward([x], [u])) + gamma * expected)
            new.append(max(options))
        values = np.array(new)
    return values


def test_small_finite_problem_equals_slow_value_iteration():
    noise = rc.Finite([-0.2, 0.0, 0.3], [0.3, 0.5, 0.2])
    plant = rc.Plant(
        name="walk",
        states=[rc.Signal("x", "1", -1, 1)],
        inputs=[rc.Signal("mode", "1", values=(-1, 0, 1))],
        update=lambda x, u, w, p: 0.9 * x + 0.25 * u + w,
        noise=noise,
    )
    problem = rc.Problem(plant, lambda x, u: -ca.fabs(x[0] - 0.3) - 0.1 * u[0] ** 2, gamma=0.8)
    nodes = np.linspace(-1, 1, 13)
    slow = slow_value_iteration(problem, nodes, (-1, 0, 1), noise, 0.8, 60)
    found = rc.solve(problem, rc.GridDP(shape=(13,), tolerance=1e-10))
    assert np.max(np.abs(found.V(nodes[:, None]) - slow)) <= 1e-5  # 0.8^60 = 1.5e-6 of the range
    assert set(np.unique(found.policy(nodes[:, None]))) <= {-1.0, 0.0, 1.0}


def random_walk(**options):
    """±1 steps on −5 … 5 with one unit of reward per step, ending outside."""
    plant = rc.Plant(
        name="random_walk",
        states=[rc.Signal("x", "1", -5.5, 5.5)],
        inputs=[rc.Signal("idle", "1", values=(0, 1))],
        update=lambda x, u, w, p: x + w,
        noise=rc.Finite([-1.0, 1.0], [0.5, 0.5]),
    )
    return rc.Problem(plant, lambda x, u: ca.SX(1), gamma=1.0, **options)


def test_undiscounted_exit_time_of_a_random_walk_is_quadratic():
    """E T = (6 − x)(6 + x) for a walk that ends at ±6; the grid of 12 nodes at half-integers holds the chain of x = k + 1/2 exactly."""
    problem = random_walk(exit="absorb")
    found = rc.solve(problem, rc.GridDP(shape=(12,), tolerance=1e-10))
    x = np.arange(-5.5, 6)
    chain = np.eye(12) - 0.5 * np.eye(12, k=1) - 0.5 * np.eye(12, k=-1)
    assert np.max(np.abs(found.V(x[:, None]) - np.linalg.solve(chain, np.ones(12)))) <= 1e-6


def test_exit_value_and_target_set():
    """With exit value 10 beyond the right end and a target on the left worth 0: probability of leaving right, by the gambler's ruin."""
    problem = rc.Problem(
        random_walk(exit="absorb").plant, lambda x, u: ca.SX(0), gamma=1.0, exit="absorb",
        exit_value=lambda x: ca.if_else(x[0] > 0, 10.0, 0.0), target=lambda x: x[0] + 4.4,
    )  # fmt: skip
    found = rc.solve(problem, rc.GridDP(shape=(12,), tolerance=1e-10))
    x = np.arange(-4.5, 6)
    assert np.max(np.abs(found.V(x[:, None]) - 10 * (x + 4.5) / 11)) <= 1e-6


def test_inputs_are_refined_beyond_their_candidates():
    problem = lq_problem()
    few, many = (rc.solve(problem, rc.GridDP(shape=(31, 31), inputs=k)) for k in (5, 81))
    x = np.random.default_rng(4).uniform(-1, 1, (500, 2))
    assert np.max(np.abs(few.V(x) - many.V(x))) <= 1e-4


def test_contraction_bound_covers_an_early_stop():
    problem = lq_problem()
    loose, tight = (rc.solve(problem, rc.GridDP(shape=(21, 21), tolerance=t)) for t in (1e-2, 1e-10))
    nodes = loose.value.grid.points()
    gap = np.max(np.abs(loose.V(nodes) - tight.V(nodes)))
    assert 0 < gap <= loose.error_terms["contraction"] + tight.error_terms["contraction"]


def test_three_states_and_one_state_run():
    chain = plants.linear(np.diag([-1.0, -0.5, -2.0]), np.ones((3, 1)), F=0.1 * np.eye(3), state_max=1.0, input_max=3.0)
    problem = rc.Problem(chain, rc.quadratic(np.eye(3), [0.1]), gamma=0.9, dt=0.1, exit="free")
    grid, exact = rc.solve(problem, rc.GridDP(shape=(11, 11, 11), inputs=7, quadrature=2)), rc.solve(problem, rc.Riccati())
    x = np.random.default_rng(5).uniform(-1, 1, (300, 3))
    assert np.max(np.abs(grid.V(x) - exact.V(x))) <= grid.error <= 20 * np.max(np.abs(grid.V(x) - exact.V(x)))


def test_monte_carlo_of_the_dp_policy_lies_in_its_interval_widened_by_the_stated_error():
    problem = rc.Problem(
        plants.pendulum(noise=0.2), lambda x, u: -(1 - ca.cos(x[0]) + 0.01 * x[1] ** 2 + 0.01 * u[0] ** 2), gamma=0.98, dt=0.05
    )
    dp = rc.solve(problem, rc.GridDP(shape=(81, 81)))
    for x0 in ([np.pi, 0.0], [0.5, -1.0]):
        found = rc.monte_carlo(problem, dp.policy, x0, steps=400, paths=400, tail=dp.V, seed=1)
        assert abs(found.mean - dp.V(x0)) <= found.ci95 + dp.error


def test_two_solves_give_the_same_bits():
    first, second = (rc.solve(lq_problem(), rc.GridDP(shape=(21, 21))) for _ in range(2))
    assert np.array_equal(first.value.coefficients, second.value.coefficients)


def test_too_much_memory_is_refused_with_the_number():
    with pytest.raises(rc.InputError, match=r"`shape` needs about [\d.]+ GiB, the limit is 0\.50 GiB"):
        rc.solve(lq_problem(), rc.GridDP(shape=(3001, 3001), memory=0.5))


def test_unbounded_states_and_endless_undiscounted_problems_are_refused():
    free = plants.linear(state_max=np.inf)
    with pytest.raises(rc.InputError, match="`states` must be bounded"):
        rc.solve(rc.Problem(free, rc.quadratic(np.eye(2), [1.0]), gamma=0.9, dt=0.1), rc.GridDP(shape=(21, 21)))
    endless = rc.Problem(plants.pendulum(), rc.quadratic(np.eye(2), [1.0]), gamma=1.0, dt=0.1)
    with pytest.raises(rc.InputError, match="`gamma` must be below 1"):
        rc.solve(endless, rc.GridDP(shape=(21, 21)))


def test_stopping_short_is_said():
    with pytest.raises(rc.NotConverged, match="stopped after 1 improvement"):
        rc.solve(lq_problem(), rc.GridDP(shape=(21, 21), iterations=1))
    kept = rc.solve(lq_problem(), rc.GridDP(shape=(21, 21), iterations=1), on_failure="return")
    assert not kept.converged
    assert "stopped after 1 improvement" in kept.message


def test_saved_reference_gives_the_same_bits(tmp_path, refined):
    grid = refined[1][21]
    again = rc.Reference.load(grid.save(tmp_path / "dp"))
    x = np.random.default_rng(6).uniform(-2, 2, (100, 2))
    assert np.array_equal(again.V(x), grid.V(x))
    assert np.array_equal(again.Q(x, x[:, :1]), grid.Q(x, x[:, :1]))
    assert np.array_equal(again.policy(x), grid.policy(x))
    assert again.error_terms == grid.error_terms
