"""Options of GridDP against each other, closed forms with kinks and exits, and killed solves that go on."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import casadi as ca
import numpy as np
import pytest

import plants
import rlctrl as rc
from rlctrl import converse
from rlctrl.reference.dp import LevelSolver
from rlctrl.reference.expectation import noise_first, split
from rlctrl.reference.krylov import bicgstab
from rlctrl.reference.policy_iteration import summed
from rlctrl.reference.rows import factors
from rlctrl.reference.sweep import improved, outcomes

RNG = np.random.default_rng


def smooth():
    """A noisy Van der Pol oscillator made backwards from a smooth value."""
    value = lambda x: -(x[0] ** 2 + 0.5 * ca.sin(x[0]) * x[1] + x[1] ** 2) - 0.1 * x[0] ** 4
    return converse.discrete(plants.van_der_pol(), value, lambda x: -x[0] - 2 * x[1], curvature=1.0, gamma=0.95, dt=0.05)


@pytest.fixture(scope="module")
def known():
    """Problem, 2000 states, V there."""
    problem, method = smooth()
    x = RNG(0).uniform([s.low for s in problem.plant.states], [s.high for s in problem.plant.states], (2000, 2))
    return problem, x, rc.solve(problem, method).V(x)


@pytest.mark.parametrize(("order", "nodes", "relative"), [(1, 41, 2e-2), (3, 13, 1e-3), (3, 41, 3e-6), (5, 15, 1e-6), (5, 41, 1e-8)])
def test_smooth_problem_is_as_accurate_as_the_order_promises(known, order, nodes, relative):
    """T2 with V known: the statement covers the true error and is not twenty times it."""
    problem, x, v = known
    found = rc.solve(problem, rc.GridDP(shape=(nodes, nodes), order=order, inputs=11))
    true = np.max(np.abs(found.V(x) - v))
    assert true <= relative * np.ptp(v)
    assert true <= found.error <= 20 * true
    assert set(found.error_terms) == {"contraction", "discretisation", "quadrature", "truncation"}


def test_all_levels_and_what_lies_between_their_nodes_share_what_is_compiled(known):
    """The search is what takes long to compile: once for the linear V to start from, and once for all the rest. What the candidates lead
    to is kept for the linear V alone."""
    compiled = improved, outcomes
    for function in compiled:
        function.clear_cache()
    rc.solve(known[0], rc.GridDP(shape=(25, 27), order=3, inputs=11))
    assert [function._cache_size() for function in compiled] == [2, 1]


@pytest.mark.parametrize(("order", "margin"), [(1, 0.0), (1, 0.1), (1, 0.25), (1, 2.0), (3, 0.0), (3, 0.25), (3, 2.0), (5, 0.1)])
def test_truncation_is_stated_well_where_noise_carries_the_state_out(order, margin):
    """V = cos 2x on R, the box [−1, 1]: a state leaves a margin of 0.1 in one step, and one of 2 hardly within its discount."""
    gamma, dt, noise = np.exp(-0.04), 0.05, 0.7
    states, inputs = [rc.Signal("x", "1", -1, 1)], [rc.Signal("u", "1", -1, 1)]
    plant = rc.Plant("walk", states, inputs, drift=lambda x, u, p: 0 * u[0], diffusion=lambda x, u, p: noise)
    reward = lambda x, u: (1 - gamma * np.exp(-2 * noise**2 * dt)) * ca.cos(2 * x[0]) - u[0] ** 2
    found = rc.solve(rc.Problem(plant, reward, gamma, dt, exit="free"), rc.GridDP(shape=(65,), order=order, inputs=5, margin=margin))
    x = np.linspace(-1, 1, 401)[:, None]
    true = np.max(np.abs(found.V(x) - np.cos(2 * x[:, 0])))
    assert true <= found.error <= 10 * true


def test_between_the_nodes_of_splines_the_residual_bounds_the_error():
    """Half of 15 nodes are too few for quintic splines: the change from there would state three hundred times the true error."""
    value = lambda x: 3 * ca.cos(x[0]) - 0.2 * x[1] ** 2 - 0.3 * x[1] * ca.sin(x[0])
    problem, method = converse.discrete(
        plants.pendulum(noise=0.2), value, lambda x: -2 * ca.sin(x[0]) - x[1], curvature=0.5, gamma=0.97, dt=0.05
    )
    x = RNG(0).uniform([s.low for s in problem.plant.states], [s.high for s in problem.plant.states], (2000, 2))
    found = rc.solve(problem, rc.GridDP(shape=(15, 15), order=5, inputs=11))
    true = np.max(np.abs(found.V(x) - rc.solve(problem, method).V(x)))
    assert true <= found.error <= 10 * true


def test_expectation_at_the_nodes_agrees_with_that_at_every_transition(known):
    problem, x, v = known
    at_nodes, at_transitions = (
        rc.solve(problem, rc.GridDP(shape=(41, 41), order=3, inputs=11, expectation=e)) for e in ("node", "transition")
    )
    gap = np.max(np.abs(at_nodes.V(x) - at_transitions.V(x)))
    assert 0 < gap <= at_nodes.error_terms["discretisation"] + at_transitions.error_terms["discretisation"]
    assert np.max(np.abs(at_transitions.V(x) - v)) <= at_transitions.error


@pytest.mark.parametrize("exit", ["clip", "free"])
def test_expectation_at_the_nodes_converges_to_the_same_value_with_linear_interpolation(exit):  # noqa: A002
    """Projection onto the box bends W beyond it: the grid of W reaches there."""
    plant = plants.pendulum(noise=0.5)
    problem = rc.Problem(plant, lambda x, u: ca.cos(x[0]) - 0.05 * x[1] ** 2 - 0.01 * u[0] ** 2, gamma=0.9, dt=0.05, exit=exit)
    x = RNG(1).uniform([-3, -8], [3, 8], (500, 2))
    gaps = []
    for n in (21, 41, 81):
        one, two = (rc.solve(problem, rc.GridDP(shape=(n, n), inputs=5, expectation=e)).V(x) for e in ("node", "transition"))
        gaps.append(np.max(np.abs(one - two)))
    assert gaps[2] < 0.6 * gaps[1] < 0.36 * gaps[0] * 1.2


@pytest.mark.parametrize("exit", ["clip", "free"])
@pytest.mark.parametrize("moved", [0, 1])
def test_expectation_before_the_maximum_is_exact_at_order_one(exit, moved):  # noqa: A002
    """T V with W from all its bends, and places kept, is T V with V at every transition; axis 0 turns."""
    plant = rc.Plant(
        name="turned",
        states=[rc.Signal("a", "1", -1, 1, periodic=True), rc.Signal("b", "1", -1, 1)],
        inputs=[rc.Signal("u", "1", -1, 1)],
        update=lambda x, u, w, p: 0.9 * x + ca.vertcat(0.7 * u, 0.5 * u) + w * ca.DM(np.eye(2)[moved]),
        noise=rc.Finite([-0.23, 0.0, 0.41], [0.3, 0.5, 0.2]),
    )
    problem = rc.Problem(plant, lambda x, u: -(u[0] ** 2), gamma=0.9, exit=exit)
    method = rc.GridDP(shape=(12, 13), inputs=7)
    solver = LevelSolver(method, problem, method.grids(problem), 0.0)
    plain = solver.bellman(solver.grids[-1])
    exact = split(replace(plain, room=1e6), solver.shifts)
    assert exact.expectation is not None
    assert exact.keeps_outcomes
    values, policy = RNG(0).normal(size=plain.size), np.zeros((plain.size, 1))
    for mode in ("all", "rough", "near", "policy"):
        found, wanted = (bellman.improve(values, policy, mode)[0] for bellman in (exact, plain))
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


MIXED = {"apart": [[0.2, 0.0], [0.0, 0.3]], "one channel": [[0.2], [0.3]], "correlated": [[0.2, 0.1], [0.1, 0.3]]}


def moved_by(spread, exit="clip"):  # noqa: A002
    """Two states, the first of which turns, moved by noise with these factors."""
    plant = rc.Plant(
        name="moved",
        states=[rc.Signal("a", "1", -1, 1, periodic=True), rc.Signal("b", "1", -1, 1)],
        inputs=[rc.Signal("u", "1", -1, 1)],
        update=lambda x, u, w, p: 0.9 * x + u + ca.mtimes(ca.DM(spread), w),
        noise=rc.Gaussian(np.shape(spread)[1]),
    )
    return rc.Problem(plant, lambda x, u: -(u[0] ** 2), gamma=0.9, exit=exit)


@pytest.mark.parametrize("order", [1, 3, 5])
@pytest.mark.parametrize("exit", ["clip", "free"])
@pytest.mark.parametrize("spread", MIXED.values(), ids=MIXED)
def test_expectation_at_the_nodes_is_the_mean_over_the_noise(spread, exit, order):  # noqa: A002
    """W at its nodes against V evaluated at every shifted node."""
    problem = moved_by(spread, exit)
    method = rc.GridDP(shape=(16, 15), order=order, quadrature=4, expectation="node")
    bellman = LevelSolver(method, problem, method.grids(problem), 1e9).bellman(method.grids(problem)[-1])
    assert bellman.expectation is not None
    values = RNG(0).normal(size=bellman.size)
    wide, (nodes, mass) = bellman.expectation.grid, bellman.rule
    after = wide.points()[:, None] + nodes @ np.transpose(spread)
    if exit == "clip":
        after[..., 1] = np.clip(after[..., 1], -1, 1)
    wanted = bellman.grid.evaluate(bellman.grid.fit(values), after) @ mass
    np.testing.assert_allclose(wide.evaluate(bellman.ahead(values), wide.points()), wanted, rtol=0, atol=1e-11)


def test_expectation_at_the_nodes_keeps_to_the_memory():
    """Axes that move together take a matrix, which is not made where there is no room."""
    for name, spread in MIXED.items():
        problem = moved_by(spread)
        method = rc.GridDP(shape=(16, 15), order=3, quadrature=4)
        solver = LevelSolver(method, problem, method.grids(problem), 0.0)
        bellman = solver.bellman(solver.grids[-1])
        assert (bellman.expectation is None) == (name != "apart")
        assert noise_first(replace(bellman, room=1e9), solver.shifts).expectation is not None


@pytest.mark.usefixtures("optimised")
@pytest.mark.slow
def test_five_states_by_cubic_splines():
    """A quadratic V, which cubic splines hold: 100 000 nodes against Riccati."""
    A, B = -0.5 * np.eye(5) + 0.2 * np.eye(5, k=1), np.eye(5)[:, -1:]
    plant = plants.linear(A, B, F=0.1 * B, state_max=1.0, input_max=3.0)
    problem = rc.Problem(plant, rc.quadratic([1.0] * 5, [0.5]), gamma=0.9, dt=0.1, exit="free")
    found = rc.solve(problem, rc.GridDP(shape=(10,) * 5, order=3, inputs=5, quadrature=2, margin=0.0, tolerance=1e-8))
    x = RNG(0).uniform(-1, 1, (500, 5))
    true = np.max(np.abs(found.V(x) - rc.solve(problem, rc.Riccati()).V(x)))
    assert true <= found.error <= 1e-7


@pytest.mark.parametrize("together", [1, 2, 4, 6])
def test_noise_nodes_in_groups_give_the_same_operator(together):
    """With transitions that end among the others: their gain counts once, the reward too."""
    plant = plants.linear(np.eye(2), np.eye(2), F=0.5 * np.eye(2)[:, :1], state_max=1.0, input_max=1.0)
    ends = rc.Problem(plant, rc.quadratic([1.0, 1.0], [1.0, 1.0]), gamma=0.9, dt=0.3, exit="absorb", exit_value=lambda x: 3 - x[0])
    method = rc.GridDP(shape=(10, 11), inputs=3, quadrature=4)
    solver = LevelSolver(method, ends, method.grids(ends), 0.0)
    whole = solver.bellman(solver.grids[-1])
    policy = RNG(0).uniform(-1, 1, (whole.size, 2))
    wanted, found = (bellman.operator(policy) for bellman in (whole, replace(whole, together=together)))
    np.testing.assert_allclose(found.constant, wanted.constant, rtol=0, atol=1e-14)
    np.testing.assert_allclose(found.matrix.whole.toarray(), wanted.matrix.whole.toarray(), rtol=0, atol=1e-15)
    assert np.ptp(wanted.constant) > 1


def test_expectation_at_the_nodes_is_refused_where_noise_is_not_additive():
    plant = plants.linear(np.eye(1), np.eye(1), F=np.eye(1), state_max=1.0, input_max=1.0)
    ends = rc.Problem(plant, rc.quadratic([1.0], [1.0]), gamma=0.9, dt=0.1, exit="absorb")
    with pytest.raises(rc.InputError, match='`expectation` can be "node" only with additive noise and without an end'):
        rc.solve(ends, rc.GridDP(shape=21, expectation="node"))


def test_krylov_and_successive_evaluation_give_the_same_value(known):
    problem, x, _ = known
    found = [rc.solve(problem, rc.GridDP(shape=(31, 31), inputs=5, evaluation=e, tolerance=1e-10)) for e in ("krylov", "successive")]
    bound = sum(f.error_terms["contraction"] for f in found)
    assert np.max(np.abs(found[0].V(x) - found[1].V(x))) <= bound + 1e-12


def test_without_room_for_matrices_the_answer_is_the_same(known):
    problem, x, _ = known
    method = rc.GridDP(shape=(31, 31), inputs=5)
    tight = rc.GridDP(shape=(31, 31), inputs=5, memory=method.estimate_memory(problem) / 2**30 * 1.0001)
    roomy, small = (rc.solve(problem, m) for m in (method, tight))
    bound = roomy.error_terms["contraction"] + small.error_terms["contraction"]
    assert np.max(np.abs(roomy.V(x) - small.V(x))) <= bound + 1e-12


def wide_inputs(most):
    """LQ on R², inputs wide enough to jump over the whole box in a step: a spline far beyond its nodes would promise anything."""
    plant = rc.Plant(
        name="double integrator",
        states=[rc.Signal("x", "m", -1, 1), rc.Signal("v", "m/s", -1, 1)],
        inputs=[rc.Signal("u", "m/s^2", -most, most)],
        drift=lambda x, u, p: ca.vertcat(x[1], u[0]),
        diffusion=lambda x, u, p: ca.vertcat(0, 0.1),
    )
    return rc.Problem(plant, lambda x, u: -0.1 * (ca.sumsqr(x) + 0.1 * u[0] ** 2), gamma=0.95, dt=0.1, exit="free")


@pytest.mark.parametrize("scale", [1e300, 1e-170, 1e-300])
def test_rewards_of_any_size_are_solved(scale):
    """The squares of such residuals are no floats."""
    plant = plants.linear([[1.0]], [[1.0]], F=[[0.5]], discrete=True)
    solve = lambda scale: rc.solve(rc.Problem(plant, lambda x, u: -scale * (x[0] ** 2 + u[0] ** 2), 0.9), rc.GridDP(shape=(21,), inputs=5))
    x, found, one = np.linspace(-1, 1, 9)[:, None], solve(scale), solve(1.0)
    assert np.max(np.abs(found.V(x) / scale - one.V(x))) <= found.error / scale <= 3 * one.error


def test_sweeps_that_overflow_are_said_without_a_warning():
    found = rc.solve(wide_inputs(10), rc.GridDP(shape=(15, 15), order=5, evaluation="successive"), on_failure="return")
    assert not found.converged
    assert found.error == np.inf
    assert "V grows without bound" in found.message


@pytest.mark.parametrize(("order", "most", "nodes"), [(3, 10, 15), (3, 100, 41), (5, 10, 41), (5, 100, 15)])
def test_inputs_that_lead_far_out_of_the_grid_do_no_harm(order, most, nodes):
    problem = wide_inputs(most)
    found, exact = rc.solve(problem, rc.GridDP(shape=(nodes, nodes), order=order)), rc.solve(problem, rc.Riccati())
    x = RNG(0).uniform(-1, 1, (1000, 2))
    true = np.max(np.abs(found.V(x) - exact.V(x)))
    assert true <= 1e-8
    assert true <= found.error


def test_bicgstab_solves_to_the_largest_residual():
    rng = RNG(2)
    A = np.eye(60) + 0.5 * rng.normal(size=(60, 60)) / np.sqrt(60)
    right = rng.normal(size=60)
    x, reached = bicgstab(lambda v: A @ v, right, 1e-11, 200)
    assert reached
    assert np.max(np.abs(A @ x - right)) <= 2e-11
    np.testing.assert_allclose(x, np.linalg.solve(A, right), atol=1e-9)
    assert not bicgstab(lambda v: A @ v, right, 1e-11, 3)[1]


def test_policies_on_few_nodes_are_evaluated_also_where_krylov_steps_stall(known):
    """Splines continued beyond a small grid make 1 − P far from normal; elimination takes over, and gives its inverse."""
    method = rc.GridDP(shape=(15, 15), order=5, inputs=11)
    solver = LevelSolver(method, known[0], method.grids(known[0])[:1], 1e9)
    bellman = solver.bellman(solver.grids[0])
    policy = np.clip(-bellman.points @ np.array([[1.0], [2.0]]), -4, 4)
    operator, right = bellman.operator(policy), RNG(0).normal(size=bellman.size)
    residual = lambda x: np.max(np.abs(x - operator.linear(x) - right))
    stalled, reached = bicgstab(lambda x: x - operator.linear(x), right, 1e-10, bellman.size // 2)
    assert not reached
    assert residual(stalled) > 1e-10
    found, reached = summed(operator, right, 1e-10)
    assert reached
    assert residual(found) <= 1e-10


def test_on_finer_grids_the_second_policy_of_a_smooth_problem_is_the_last(known):
    """How fast residuals fall on the grid below tells how accurately its policy is worth evaluating on the next."""
    found = rc.solve(known[0], rc.GridDP(shape=(57, 57), order=3, inputs=11, tolerance=1e-6))
    assert np.unique(found.history["nodes"], return_counts=True)[1].tolist()[1:] == [2, 2]


def test_splines_that_did_not_settle_on_a_coarser_grid_are_not_believed(known):
    method = rc.GridDP(shape=(15, 15), order=3, inputs=11, tolerance=1e-6, iterations=2)
    found = rc.solve(known[0], method, on_failure="return")
    assert (found.converged, found.error) == (False, np.inf)
    assert found.message.startswith("GridDP stopped after 2 improvements on (12, 12)")


def test_start_from_a_neighbouring_problem_takes_fewer_improvements():
    problem = lambda m: rc.Problem(plants.pendulum(mass=m), lambda x, u: ca.cos(x[0]) - 0.05 * x[1] ** 2, gamma=0.95, dt=0.05)
    near = rc.solve(problem(1.0), rc.GridDP(shape=(31, 31), inputs=5))
    cold, warm = (rc.solve(problem(1.001), rc.GridDP(shape=(31, 31), inputs=5, start=s)) for s in (None, near))
    assert warm.iterations < cold.iterations
    nodes = cold.value.grid.points()
    assert np.max(np.abs(cold.V(nodes) - warm.V(nodes))) <= 1e-5 * np.ptp(cold.V(nodes))  # two searches over inputs of a kinked Q


# --- closed forms ---------------------------------------------------------------------------------------------------------------------

STOP = 52.86545636058919


def car_value(s):
    """C2, Rust 1996 as in known_answers: 200 a mile-unit to run, 1e5 to replace, Exp(½) wear, discount 0.95."""
    c, lam, beta = 200.0, 0.5, 0.95
    gap = STOP - s
    saved = c / (1 - beta) * (gap - beta / (lam * (1 - beta)) * (1 - np.exp(-lam * (1 - beta) * gap)))
    return -c * STOP / (1 - beta) + np.where(s < STOP, saved, 0.0)


def car():
    plant = rc.Plant(
        name="car",
        states=[rc.Signal("s", "1", 0, 100)],
        inputs=[rc.Signal("replace", "1", values=(0, 1))],
        update=lambda x, u, w, p: (1 - u[0]) * x[0] + 2 * w[0],
        noise=rc.Exponential(1),
    )
    return rc.Problem(plant, lambda x, u: ca.if_else(u[0] > 0.5, -1e5, -200 * x[0]), gamma=0.95)


def test_car_replacement_with_finite_inputs_a_kink_and_exponential_noise():
    s = np.linspace(0, 100, 1001)
    errors = []
    for n in (51, 101, 201):
        found = rc.solve(car(), rc.GridDP(shape=n, quadrature=15))
        errors.append(np.max(np.abs(found.V(s[:, None]) - car_value(s))))
        assert errors[-1] <= found.error <= 20 * errors[-1]
    assert np.log2(errors[0] / errors[2]) / 2 >= 0.8
    assert errors[-1] <= 1e-3 * np.ptp(car_value(s))
    switch = s[np.argmax(found.policy(s[:, None])[:, 0] > 0.5)]
    assert abs(switch - STOP) <= 1.0


def test_nodes_gathered_around_the_kink():
    nodes = np.concatenate([np.arange(0, 44, 1.0), np.arange(44, 60, 0.25), np.arange(60, 102, 2.0)])
    s = np.linspace(0, 100, 1001)
    graded, even = (rc.solve(car(), rc.GridDP(shape=(shape,), quadrature=15)) for shape in (nodes, len(nodes)))
    errors = [np.max(np.abs(f.V(s[:, None]) - car_value(s))) for f in (graded, even)]
    assert errors[0] <= graded.error
    assert graded.value.grid.shape == (len(nodes),)
    assert errors[0] < errors[1]
    with pytest.raises(rc.InputError, match=r"`shape` must run from 0.0 to 100.0 for s"):
        rc.solve(car(), rc.GridDP(shape=(np.linspace(0, 99, 30),)))


def test_growth_model_is_exact_on_logarithmic_capital():
    """C1, Brock & Mirman: V is linear in ln k, consumption share 1 − αβ."""
    a, b = 0.65, 0.95
    plant = rc.Plant(
        name="growth",
        states=[rc.Signal("lnk", "1", -3, 1)],
        inputs=[rc.Signal("saved", "1", 0.05, 0.95)],
        update=lambda x, u, w, p: ca.log(u[0]) + a * x[0],
    )
    problem = rc.Problem(plant, lambda x, u: ca.log(1 - u[0]) + a * x[0], gamma=b, exit="free")
    x = np.linspace(-3, 1, 101)[:, None]
    exact = (np.log(1 - a * b) + np.log(a * b) * a * b / (1 - a * b)) / (1 - b) + a / (1 - a * b) * x[:, 0]
    assert exact[75] == pytest.approx(-34.7856075455, abs=1e-9)
    found = rc.solve(problem, rc.GridDP(shape=41))
    assert np.max(np.abs(found.V(x) - exact)) <= 1e-9
    assert np.max(np.abs(found.policy(x) - a * b)) <= 1e-6


def test_two_state_markov_decision_problem():
    """C3, Puterman: v = (−60/7, −20); the states sit at the ends of a line whose middle belongs to the nearer end."""
    plant = rc.Plant(
        name="two_states",
        states=[rc.Signal("s", "1", 0, 1)],
        inputs=[rc.Signal("a", "1", values=(0, 1))],
        update=lambda x, u, w, p: ca.if_else(x[0] < 0.5, ca.if_else(u[0] < 0.5, w[0], 1), ca.if_else(u[0] < 0.5, 1, w[0])),
        noise=rc.Finite([0.0, 1.0], [0.5, 0.5]),
    )
    reward = lambda x, u: ca.if_else(x[0] < 0.5, ca.if_else(u[0] < 0.5, 5, 10), ca.if_else(u[0] < 0.5, -1, -1e9))
    found = rc.solve(rc.Problem(plant, reward, gamma=0.95), rc.GridDP(shape=10, tolerance=1e-12))
    assert found.V([[0.0], [1.0]]) == pytest.approx([-60 / 7, -20], abs=1e-9)


def test_long_undiscounted_walk_is_solved_exactly():
    """E T = (101 − x)(101 + x): a chain that takes 10⁴ steps to end; the bound is the longest expected time times the residual."""
    plant = rc.Plant(
        name="walk",
        states=[rc.Signal("x", "1", -100, 100)],
        inputs=[rc.Signal("idle", "1", values=(0, 1))],
        update=lambda x, u, w, p: x + w,
        noise=rc.Finite([-1.0, 1.0], [0.5, 0.5]),
    )
    found = rc.solve(rc.Problem(plant, lambda x, u: ca.SX(1), gamma=1.0, exit="absorb"), rc.GridDP(shape=201))
    k = np.arange(-100, 101)
    true = np.max(np.abs(found.V(k[:, None]) - (101 - k) * (101 + k)))
    assert true <= min(1e-5, found.error_terms["contraction"])


def test_a_target_that_cannot_be_reached_is_said():
    plant = rc.Plant(
        name="stuck",
        states=[rc.Signal("x", "1", -2, 2)],
        inputs=[rc.Signal("u", "1", -1, 1)],
        update=lambda x, u, w, p: ca.if_else(x[0] > 0, ca.fmax(x[0] + 0.3 * u[0], 0.1), x[0] + 0.3 * u[0]),
    )
    problem = rc.Problem(plant, lambda x, u: ca.SX(-1), gamma=1.0, target=lambda x: x[0] + 1.5)
    with pytest.raises(rc.NotConverged, match="never reaches an end"):
        rc.solve(problem, rc.GridDP(shape=41, iterations=30))


def test_without_discount_a_target_that_no_input_leads_to_is_refused_at_once(monkeypatch):
    """x_+ = x + 0.1 u on [−1, 1]; a target between the nodes is reached by an input all the same."""
    plant = rc.Plant("line", [rc.Signal("x", "m", -1, 1)], [rc.Signal("u", "m", -1, 1)], update=lambda x, u, w, p: x + 0.1 * u)

    def problem(target):
        return rc.Problem(plant, lambda x, u: ca.SX(-1), gamma=1.0, target=target, exit_value=lambda x: x[0])

    near, far = problem(lambda x: ca.fabs(x[0] - 0.05) - 0.02), problem(lambda x: ca.fabs(x[0] - 5) - 0.02)
    assert rc.solve(near, rc.GridDP(shape=21)).V([[0.52]])[0] < -4
    assert rc.solve(problem(lambda x: x[0] - 2), rc.GridDP(shape=21)).V([[0.5]])[0] == pytest.approx(0.5)  # ended everywhere
    still = rc.Plant("still", plant.states, plant.inputs, update=lambda x, u, w, p: 0.9 * x + 0 * u)
    inside = rc.Problem(still, lambda x, u: ca.SX(-1), gamma=1.0, exit="absorb")
    monkeypatch.setattr(LevelSolver, "solve", lambda *_: pytest.fail("solved"))
    for made, named in ((far, "`target` must be where some input leads"), (inside, "`exit` must be where some input leads")):
        with pytest.raises(rc.InputError, match=named):
            rc.solve(made, rc.GridDP(shape=21))


@pytest.mark.parametrize("order", [1, 3])
def test_states_from_which_the_target_is_out_of_reach_are_said_at_a_discount(order):
    """x_+ = 2x + u, |u| ≤ 1: from |x| ≥ 1 nothing comes back."""
    signals = [rc.Signal("x", "m", -3, 3)], [rc.Signal("u", "m", -1, 1)]
    plant = rc.Plant("doubling", *signals, update=lambda x, u, w, p: 2 * x + u)
    problem = rc.Problem(plant, lambda x, u: ca.SX(-1), gamma=0.9, target=lambda x: ca.fabs(x[0]) - 0.21)
    found = rc.solve(problem, rc.GridDP(shape=61, order=order, tolerance=1e-6))
    (said,) = [note for note in found.notes if "never reaches the target" in note]
    assert 60 < float(said.split()[1]) < 69.0  # 42 of 61 nodes, but for those whose cells reach inside
    near = rc.Plant("doubling", [rc.Signal("x", "m", -0.9, 0.9)], signals[1], update=lambda x, u, w, p: 2 * x + u)
    problem = rc.Problem(near, lambda x, u: ca.SX(-1), gamma=0.9, target=lambda x: ca.fabs(x[0]) - 0.21)
    assert not any("never reaches" in note for note in rc.solve(problem, rc.GridDP(shape=61, order=order, tolerance=1e-6)).notes)


def test_where_no_policy_ends_nothing_is_factorised(capfd):
    """A cart on a grid, its walls closed, under a policy drawn by chance: of this 1 − P SuperLU prints, and of others alike it crashes."""
    nodes = np.linspace(-1, 1, 11)
    x, v = (a.ravel() for a in np.meshgrid(nodes, nodes, indexing="ij"))
    u = np.random.default_rng(38).choice([-1.0, 0.0, 1.0], x.size)
    places = [5 * (np.clip(a, -1, 1) + 1) for a in (x + 0.05 * v + 0.00125 * u, v + 0.05 * u)]
    near, far = (np.maximum(0, 1 - np.abs(p[:, None] - np.arange(11))) for p in places)
    assert factors(np.einsum("si,sj->sij", near, far).reshape(121, 121)) is None
    assert capfd.readouterr() == ("", "")


def test_states_that_never_leave_a_set_are_found_before_factorising():
    ring = np.roll(np.eye(4), 1, 1)
    assert factors(ring) is None
    leaking = ring.copy()
    leaking[2] *= 0.9
    np.testing.assert_allclose(factors(leaking).solve(np.ones(4)), np.linalg.solve(np.eye(4) - leaking, np.ones(4)))
    apart = np.block([[leaking, np.zeros((4, 4))], [np.zeros((4, 4)), ring]])  # the second ring leads nowhere
    assert factors(apart) is None
    apart[5, 6], apart[5, 0] = 0.5, 0.5
    assert factors(apart) is not None


def test_the_time_to_a_target_on_a_line_is_the_number_of_steps():
    """The first policies may never arrive, which leaves the progress bar without a bound: no warning comes of it."""
    plant = rc.Plant("line", [rc.Signal("x", "m", -1, 1)], [rc.Signal("v", "m/s", -1, 1)], drift=lambda x, u, p: u[0])
    problem = rc.Problem(plant, lambda x, u: ca.SX(-0.05), gamma=1.0, dt=0.05, target=lambda x: ca.fabs(x[0]) - 0.12)
    found = rc.solve(problem, rc.GridDP(shape=81), progress=True)
    np.testing.assert_allclose(found.V([[0.5], [-0.8], [0.1]]), [-0.4, -0.7, 0.0], atol=1e-9)


def test_a_box_that_is_left_and_a_coarse_quadrature_are_said():
    plant = plants.linear([[0.5]], [[1.0]], F=[[1.5]], state_max=1.0, input_max=0.5)
    reward = lambda x, u: -ca.fabs(x[0])
    rough = rc.solve(rc.Problem(plant, reward, gamma=0.9, dt=0.2), rc.GridDP(shape=61, quadrature=2))
    assert any("The optimal state leaves the box" in note for note in rough.notes)
    assert any("The noise quadrature is too coarse" in note for note in rough.notes)
    calm = plants.linear([[-0.5]], [[1.0]], F=[[0.05]], state_max=1.0, input_max=0.5)
    fine = rc.solve(rc.Problem(calm, lambda x, u: -(x[0] ** 2), gamma=0.9, dt=0.2), rc.GridDP(shape=61, order=3))
    assert len(fine.notes) == 1


# --- checkpoints ------------------------------------------------------------------------------------------------------------------------

SCRIPT = """
import sys, casadi as ca, numpy as np, plants, rlctrl as rc
from rlctrl.reference import checkpoint
checkpoint.INTERVAL = 0.0
problem = rc.Problem(plants.pendulum(), lambda x, u: ca.cos(x[0]) - 0.05 * x[1] ** 2 - 0.01 * u[0] ** 2, gamma=0.98, dt=0.05)
found = rc.solve(problem, rc.GridDP(shape=(41, 41), inputs=11, evaluation="successive", checkpoint=sys.argv[1]))
np.save(sys.argv[2], found.value.coefficients)
"""


def test_a_killed_solve_goes_on_to_the_same_bits(tmp_path):
    """kill −9 once the first state is written; the second process starts there and ends where an uninterrupted one does."""
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    command = lambda state, result: [sys.executable, "-c", SCRIPT, str(tmp_path / state), str(tmp_path / result)]
    killed = subprocess.Popen(command("a.npz", "a.npy"), env=environment)
    while not (tmp_path / "a.npz").exists() and killed.poll() is None:
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "a.npy").exists()
    for names in (("a.npz", "a.npy"), ("b.npz", "b.npy")):
        subprocess.run(command(*names), env=environment, check=True)
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


def test_checkpoints_of_other_solves_and_damaged_ones_are_refused(tmp_path):
    path = tmp_path / "state.npz"
    plant = plants.pendulum()
    problem = lambda gamma, plant=plant: rc.Problem(plant, lambda x, u: ca.cos(x[0]), gamma=gamma, dt=0.05)
    rc.solve(problem(0.9), rc.GridDP(shape=(21, 21), inputs=3, checkpoint=path))
    with pytest.raises(rc.InputError, match="`checkpoint` must belong to this problem and method"):
        rc.solve(problem(0.8), rc.GridDP(shape=(21, 21), inputs=3, checkpoint=path))
    weak = replace(plant, inputs=[replace(plant.inputs[0], low=-0.1, high=0.1)])  # V of the stronger motor is not its V
    with pytest.raises(rc.InputError, match="`checkpoint` must belong to this problem and method"):
        rc.solve(problem(0.9, weak), rc.GridDP(shape=(21, 21), inputs=3, checkpoint=path))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(rc.InputError, match="`checkpoint` must be a file written by GridDP"):
        rc.solve(problem(0.9), rc.GridDP(shape=(21, 21), inputs=3, checkpoint=path))


def test_a_start_of_other_states_is_refused():
    line = rc.Plant("line", [rc.Signal("x", "m", -1, 1)], [rc.Signal("u", "m", -1, 1)], update=lambda x, u, w, p: x / 2 + u)
    start = rc.solve(rc.Problem(line, lambda x, u: -(x[0] ** 2), gamma=0.9), rc.GridDP(shape=11, inputs=3))
    with pytest.raises(rc.InputError, match="`start` must be a reference with as many states"):
        rc.solve(rc.Problem(plants.pendulum(), lambda x, u: ca.cos(x[0]), gamma=0.9, dt=0.05), rc.GridDP(shape=(21, 21), start=start))


def test_states_without_a_value_are_named():
    """ln k has no value at k ≤ 0, which the margin around the box reaches."""
    problem = rc.Problem(**plants.defaults("growth"))
    with pytest.raises(rc.NotConverged, match=r"no number: `reward` is no finite number at x = -.*lower `margin`"):
        rc.solve(problem, rc.GridDP(shape=41))


@pytest.mark.parametrize(("order", "nodes"), [(1, 161), (3, 41), (3, 161)])
def test_between_nodes_far_apart_where_value_is_steep_the_statement_holds(order, nodes):
    """C1 on plain capital: V = c1 + c2 ln k bends most between the first two nodes, where no node sees it."""
    problem, save = rc.Problem(**plants.defaults("growth")), 0.65 * 0.95
    found = rc.solve(problem, rc.GridDP(shape=nodes, order=order, margin=0.0))
    k = np.linspace(0.01, 1, 400)
    exact = (np.log(1 - save) + 0.65 * 0.95 / (1 - save) * np.log(save)) / 0.05 + 0.65 / (1 - save) * np.log(k)
    true = np.max(np.abs(found.V(k[:, None]) - exact))
    assert true <= found.error <= 20 * true
