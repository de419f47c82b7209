"""Closed forms are believed only after their residual; problems made backwards have the value they were made from."""

import casadi as ca
import numpy as np
import pytest
from scipy import integrate

import plants
import rlctrl as rc
from rlctrl import converse
from rlctrl.reference.lq_continuous import continuous_lq_of

V = lambda x: -(x[0] ** 2 + 0.5 * ca.sin(x[0]) * x[1] + x[1] ** 2) - 0.1 * x[0] ** 4


@pytest.fixture(scope="module")
def made():
    """A noisy Van der Pol oscillator with bounded inputs and a chosen value."""
    return converse.discrete(plants.van_der_pol(), V, lambda x: -x[0] - 2 * x[1], curvature=1.0, gamma=0.95, dt=0.05)


def test_reward_first_problem_has_its_value(made):
    problem, method = made
    found = rc.solve(problem, method)
    x = np.random.default_rng(0).uniform([-3, -4], [3, 4], (50, 2))
    assert found.residual <= 1e-12
    assert np.allclose(found.Q(x, found.policy(x)), found.V(x), rtol=0, atol=1e-12)
    assert np.max(np.abs(found.policy(x))) <= 2


@pytest.mark.parametrize("factor", [0.999, 1.001])
def test_a_value_slightly_off_is_refused_with_the_point(made, factor):
    problem, method = made
    with pytest.raises(rc.InputError, match=r"`V` must solve the Bellman equation; at x=\["):
        rc.solve(problem, rc.Exact(V=lambda x: factor * V(x), policy=method.policy))


def test_a_policy_that_is_not_optimal_is_refused(made):
    problem, method = made
    with pytest.raises(rc.InputError, match="Bellman"):
        rc.solve(problem, rc.Exact(V=V, policy=lambda x: 0.5 * method.policy(x)))


def test_a_wrong_closed_form_of_q_is_refused(made):
    problem, method = made
    with pytest.raises(rc.InputError, match="Bellman"):
        rc.solve(problem, rc.Exact(V=V, policy=method.policy, Q=lambda x, u: method.Q(x, u) - 1e-3 * u[0] ** 2))


def test_vamvoudakis_lewis_satisfies_the_hjb_equation_and_the_recipe_gives_its_cost():
    plant = plants.vamvoudakis_lewis()
    problem = rc.Problem.from_rates(plant, lambda x, u: -(x[0] ** 2 + x[1] ** 2 + u[0] ** 2), discount_rate=0.0, dt=0.01, exit="free")
    known = rc.Exact(V=lambda x: -(x[0] ** 2 / 2 + x[1] ** 2), policy=lambda x: -(ca.cos(2 * x[0]) + 2) * x[1], hjb=True)
    assert rc.solve(problem, known).residual <= 1e-12
    backwards, method = converse.continuous(plant, lambda x: x[0] ** 2 / 2 + x[1] ** 2, [[1.0]])
    rng = np.random.default_rng(1)
    x, u = rng.uniform(-2, 2, (20, 2)), rng.uniform(-3, 3, (20, 1))
    assert np.allclose(backwards.reward(x, u), problem.reward(x, u), rtol=0, atol=1e-13)
    assert rc.solve(backwards, method).residual <= 1e-12


@pytest.mark.parametrize(("make", "constant"), [(converse.unicycle, 0.041514), (converse.arm, 0.039600)])
def test_stochastic_converse_instances_have_the_published_constant(make, constant):
    problem, method = make()
    found = rc.solve(problem, method)
    assert -found.V(np.zeros(problem.plant.n)) == pytest.approx(constant, abs=5e-7)
    assert found.residual <= 1e-12


A, B, F, C = np.array([[0, 1], [0.5, -0.3]]), np.array([[0.0], [1]]), np.array([[0.1, 0], [0.05, 0.2]]), np.array([0.1, -0.2])


def rate(x, u):
    return -(x[0] ** 2 + 0.3 * x[1] ** 2 + 0.2 * x[0] * u[0] + 0.5 * u[0] ** 2 + 0.1 * x[1] - 0.2 * u[0] + 0.3)


def test_exact_sampling_equals_integrating_the_moments():
    """(B3) transition, covariance, discounted running cost of one held step against `solve_ivp`."""
    h, rho, x, u = 0.4, 0.5, np.array([0.7, -0.4]), np.array([0.6])
    problem = rc.Problem.from_rates(plants.linear(A, B, F=F, c=C), rate, rho, h, exit="free")
    lq = continuous_lq_of(problem, None)[0].sampled(h)

    def moments(t, y):
        mean, spread = y[:2], y[2:6].reshape(2, 2)
        running = -rate(mean, u) + spread[0, 0] + 0.3 * spread[1, 1]
        return [*(A @ mean + B @ u + C), *(A @ spread + spread @ A.T + F @ F.T).ravel(), np.exp(-rho * t) * running]

    y = integrate.solve_ivp(moments, (0, h), [*x, 0, 0, 0, 0, 0], rtol=1e-12, atol=1e-14).y[:, -1]
    cost = x @ lq.Q @ x + u @ lq.R @ u + 2 * x @ lq.N @ u + 2 * lq.q @ x + 2 * lq.rho @ u + lq.kappa
    assert np.allclose(lq.A @ x + lq.B @ u + lq.c, y[:2], rtol=0, atol=1e-12)
    assert np.allclose(lq.F.T @ lq.F, y[2:6].reshape(2, 2), rtol=0, atol=1e-12)
    assert cost == pytest.approx(y[-1], abs=1e-11)


def test_continuous_riccati_satisfies_hjb_with_multiplicative_noise():
    """(B2) noise on state and input, checked by the HJB residual of a closed form."""
    signals = {"states": [rc.Signal("a", "1", -2, 2), rc.Signal("b", "1", -2, 2)], "inputs": [rc.Signal("u", "1", -9, 9)]}
    spread = lambda x, u, p: ca.horzcat(ca.vertcat(0.1 + 0.2 * x[0], 0.3 * x[1] + 0.2 * u[0]), ca.vertcat(0, 0.2))
    plant = rc.Plant("m", **signals, drift=lambda x, u, p: A @ x + B @ u + C, diffusion=spread)
    problem = rc.Problem.from_rates(plant, rate, 0.5, 0.1, exit="free")
    found = rc.solve(problem, rc.Riccati(time="continuous"))
    P, p, s, K = found.value.P, found.value.p, found.value.s, found.policy.K
    closed = rc.Exact(V=lambda x: -(x.T @ P @ x + 2 * ca.dot(ca.DM(p), x) + s), policy=lambda x: found.policy.u0 - K @ x, hjb=True)
    assert rc.solve(problem, closed).residual <= 1e-12


def test_held_input_costs_more_and_its_excess_is_of_second_order_without_noise():
    """(B3) V_h ≤ V_0 and V_h − V_0 = O(h²); Euler sampling with scaled cost is off by O(h)."""
    plant, x = plants.linear(A, B), np.array([0.7, -0.4])
    quiet = lambda x, u: -(x[0] ** 2 + 0.3 * x[1] ** 2 + 0.5 * u[0] ** 2)
    problem = lambda h: rc.Problem.from_rates(plant, quiet, 0.5, h, exit="free", scheme="euler")
    best = rc.solve(problem(0.1), rc.Riccati(time="continuous")).V(x)
    held, euler = (np.array([rc.solve(problem(h), rc.Riccati(time=t)).V(x) - best for h in (0.2, 0.1, 0.05)]) for t in ("exact", "sampled"))
    assert np.all(held < 0)
    assert np.log2(held[:-1] / held[1:]) == pytest.approx([2, 2], abs=0.15)
    assert np.log2(np.abs(euler[:-1] / euler[1:])) == pytest.approx([1, 1], abs=0.25)


def test_a_cost_to_go_is_one_number():
    with pytest.raises(rc.InputError, match="`cost_to_go` must return 1 × 1 expressions"):
        converse.continuous(plants.van_der_pol(), lambda x: x, [[1.0]])


@pytest.mark.parametrize("covariance", [-np.eye(2), [[1.0, 1.0], [0.0, 1.0]]])
def test_a_covariance_is_one(covariance):
    with pytest.raises(rc.InputError, match="`covariance` must be symmetric and positive semidefinite"):
        converse.stochastic(np.eye(2), 0.5 * np.eye(2), [[1.0]], [[0], [1]], covariance, lambda s: ca.SX.eye(2), 0.9)


def test_a_constant_value_is_accepted_up_to_rounding():
    plant = plants.linear(A=[[-1.0]], B=[[1.0]])
    problem, method = converse.continuous(plant, lambda x: 1.0, [[1.0]], 0.1)
    ref = rc.solve(problem, method)
    assert abs(ref.V([0.5]) + 1) <= ref.error <= 1e-11
    with pytest.raises(rc.InputError, match="`V` must solve the HJB equation"):
        rc.solve(problem, rc.Exact(V=lambda x: -1 + 1e-9 + 0 * x[0], policy=lambda x: 0 * x, hjb=True))
