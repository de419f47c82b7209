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


def test_a_value_that_is_undefined_somewhere_is_refused_as_such(made):
    problem, method = made
    undefined = rc.Exact(V=lambda x: V(x) + ca.sqrt(2.9 - x[0]), policy=method.policy)
    with pytest.raises(rc.InputError, match=r"`V` must be finite, and so must policy and Q; at x=.*Mend the expressions, or move"):
        rc.solve(problem, undefined)


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


@pytest.mark.usefixtures("optimised")
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


LINE, INPUT, SMALL = rc.Signal("x", "1", -1, 1), rc.Signal("u", "1", -9, 9), rc.Signal("u", "1", -1, 1)
GROWING = rc.Plant("growing", states=[LINE], inputs=[INPUT], drift=lambda x, u, p: x + u)
MOVER = rc.Plant("mover", states=[LINE], inputs=[SMALL], drift=lambda x, u, p: u)
BROWNIAN = rc.Plant("brownian", states=[LINE], inputs=[SMALL], drift=lambda x, u, p: 0 * u, diffusion=lambda x, u, p: 0.7)
squares, clock = lambda x, u: -(x[0] ** 2) - u[0] ** 2, lambda x, u: -1.0
rates = lambda plant, rate, rho, walls, **options: rc.Problem.from_rates(plant, rate, rho, 0.01, exit=walls, **options)
at_exit = lambda x: 2 * x[0]
width = 1 / np.sqrt(0.245)
damped = rates(BROWNIAN, squares, 1.0, "clip")
leaving = rates(BROWNIAN, lambda x, u: -1 - u[0] ** 2, 0.0, "absorb", exit_value=at_exit)
nothing, outwards = lambda x: 0 * x, lambda x: ca.sign(x[0])
root = lambda rho, sign: (2 - rho + sign * np.sqrt((2 - rho) ** 2 + 4)) / 2
quadratic = lambda P, constant=0.0: (lambda x: constant - P * x[0] ** 2, lambda x: -P * x)

RIGHT = {
    "regulator": (rates(GROWING, squares, 0.0, "free"), *quadratic(root(0, 1))),
    "discounted regulator": (rates(GROWING, squares, 0.5, "free"), *quadratic(root(0.5, 1))),
    "shortest time": (rates(MOVER, clock, 0.0, "absorb"), lambda x: ca.fabs(x[0]) - 1, outwards),
    "discounted time": (rates(MOVER, clock, 1.0, "absorb"), lambda x: ca.exp(ca.fabs(x[0]) - 1) - 1, outwards),
    "exit of Brownian motion": (leaving, lambda x: (x[0] ** 2 - 1) / 0.49 + at_exit(x), nothing),
    "reflected": (damped, lambda x: -(x[0] ** 2) - 0.49 + 2 / width / np.sinh(width) * ca.cosh(width * x[0]), nothing),
}
WRONG = {
    "unstable root": (RIGHT["regulator"][0], *quadratic(root(0, -1)), "what the policy earns"),
    "discounted unstable root": (RIGHT["discounted regulator"][0], *quadratic(root(0.5, -1)), "what the policy earns"),
    "constant added": (RIGHT["regulator"][0], *quadratic(root(0, 1), 7.0), "but 7 of it is still to come"),
    "other value at the walls": (RIGHT["shortest time"][0], lambda x: ca.fabs(x[0]) - 1.5, outwards, "HJB equation"),
    "other slope at the exit": (leaving, lambda x: (x[0] ** 2 - 1) / 0.49 + 3 * x[0], nothing, "HJB equation"),
    "flow through a reflecting wall": (damped, lambda x: -(x[0] ** 2) - 0.49, nothing, "HJB equation"),
    "inputs out of bounds": (RIGHT["shortest time"][0], lambda x: (ca.fabs(x[0]) - 1) / 2, lambda x: 2 * outwards(x), "must keep u within"),
}


@pytest.mark.parametrize("name", RIGHT)
def test_solutions_of_the_hjb_equation_are_accepted_at_corners_ends_and_walls(name):
    problem, value, policy = RIGHT[name]
    found = rc.solve(problem, rc.Exact(V=value, policy=policy, hjb=True))
    assert found.error <= 1e-8


@pytest.mark.parametrize("name", WRONG)
def test_other_solutions_of_the_same_equation_are_refused(name):
    problem, value, policy, words = WRONG[name]
    with pytest.raises(rc.InputError, match=words):
        rc.solve(problem, rc.Exact(V=value, policy=policy, hjb=True))


def test_a_better_input_far_from_the_policy_is_found():
    """ℓ has two peaks in u; each makes a solution of the equation without the maximum."""
    peaks = np.roots([-4, 0, 4, 0.25])
    low, high = np.min(peaks), np.max(peaks)
    gain = lambda u: -((u**2 - 1) ** 2) + 0.25 * u
    plant = rc.Plant("peaks", states=[LINE], inputs=[rc.Signal("u", "1", -2, 2)], drift=lambda x, u, p: -x + 0 * u)
    problem = rates(plant, lambda x, u: gain(u[0]) - x[0] ** 2, 1.0, "free")
    exact = lambda u: rc.Exact(V=lambda x: gain(u) - x[0] ** 2 / 3, policy=lambda x: u + 0 * x, hjb=True)
    assert rc.solve(problem, exact(high)).residual <= 1e-12
    with pytest.raises(rc.InputError, match="HJB"):
        rc.solve(problem, exact(low))


def test_inputs_of_finitely_many_values_are_compared_with_those_alone():
    """The reward peaks between the values."""
    plant = rc.Plant(
        "switch", [LINE], [rc.Signal("u", "1", values=(-1, 1))], update=lambda x, u, w, p: x / 2 + u / 10 + w / 20, noise=rc.Uniform(1)
    )
    ahead = lambda x, u: (x[0] / 2 + u[0] / 10) ** 2 + 0.05**2 / 3
    reward = lambda x, u: -(x[0] ** 2) - (u[0] - 0.4) ** 2 + 0.36 + 0.9 * ahead(x, u)
    problem = rc.Problem(plant, reward, gamma=0.9, exit="free")
    assert rc.solve(problem, rc.Exact(V=lambda x: -(x[0] ** 2), policy=lambda x: 1 + 0 * x)).error <= 1e-12
    with pytest.raises(rc.InputError, match=r"`policy` must keep u within \(-1.0, 1.0\)"):
        rc.solve(problem, rc.Exact(V=lambda x: -(x[0] ** 2), policy=lambda x: 0.4 + 0 * x))


def test_inside_a_target_the_value_is_the_exit_value():
    plant = rc.Plant("steps", [LINE], [rc.Signal("u", "1", -0.1, 0.1)], update=lambda x, u, w, p: x + u)
    problem = rc.Problem(plant, clock, gamma=0.9, target=lambda x: ca.fabs(x[0]) - 0.2, exit_value=lambda x: 3.0)
    left = lambda x: 0.9 ** ca.fmax(ca.ceil((ca.fabs(x[0]) - 0.2) / 0.1), 0)
    known = lambda inside: rc.Exact(V=lambda x: ca.if_else(left(x) == 1, inside, 13 * left(x) - 10), policy=lambda x: -0.1 * ca.sign(x))
    assert rc.solve(problem, known(3.0)).error <= 1e-12
    with pytest.raises(rc.InputError, match="Bellman"):
        rc.solve(problem, known(2.0))


def test_the_residual_of_ended_states_is_that_of_the_exit_value():
    plant = rc.Plant("fall", [rc.Signal("x", "m", -1, 1)], [rc.Signal("u", "1", -1, 1)], update=lambda x, u, w, p: 0.5 * x)
    reward = lambda x, u: -0.775 * x[0] ** 2 - u[0] ** 2
    problem = rc.Problem(plant, reward, 0.9, target=lambda x: x[0], exit_value=lambda x: -3 * x[0])
    ref = rc.solve(problem, rc.Exact(V=lambda x: ca.if_else(x[0] <= 0, -3 * x[0], -(x[0] ** 2)), policy=lambda x: 0 * x))
    assert ref.certify() <= 1e-12


@pytest.mark.parametrize(("options", "said"), [
    ({"curvature": [[1.0, 0.9], [0.9, 1.0]]}, "`curvature` must be diagonal where inputs have bounds"),
    ({"target": lambda x: x[0]}, r"`options` must not let the problem end; got \['target'\]"),
    ({"values": (-1, 1)}, "`plant` must have continuous inputs"),
])  # fmt: skip
def test_problems_of_which_the_recipe_does_not_hold_are_refused(options, said):
    options = {"curvature": np.eye(2)} | options
    inputs = [rc.Signal("u", "1", -1, 1), rc.Signal("v", "1", -1, 1, values=options.pop("values", None))]
    plant = rc.Plant("two", [rc.Signal("x", "m", -1, 1)], inputs, update=lambda x, u, w, p: 0.5 * x + 0.1 * (u[0] + u[1]))
    with pytest.raises(rc.InputError, match=said):
        converse.discrete(plant, lambda x: -(x[0] ** 2), lambda x: ca.vertcat(2 * x[0], -x[0]), options.pop("curvature"), 0.95, **options)


def test_with_hjb_q_is_the_backup():
    with pytest.raises(rc.InputError, match="`Q` must be left out with hjb=True"):
        rc.Exact(V=lambda x: x[0], policy=nothing, Q=lambda x, u: x[0], hjb=True)


def test_undiscounted_bellman_equations_too():
    """P² = 1.44 P + 1 for x_+ = 1.2 x + u."""
    plant = rc.Plant("steps", [LINE], [INPUT], update=lambda x, u, w, p: 1.2 * x + u)
    problem = rc.Problem(plant, squares, gamma=1.0, exit="free")
    exact = lambda P, c=0.0: rc.Exact(V=lambda x: c - P * x[0] ** 2, policy=lambda x: -1.2 * P / (1 + P) * x)
    right, wrong = 0.72 + np.sqrt(0.72**2 + 1), 0.72 - np.sqrt(0.72**2 + 1)
    assert rc.solve(problem, exact(right)).error <= 1e-8
    for method in (exact(wrong), exact(right, 3.0)):
        with pytest.raises(rc.InputError, match="what the policy earns"):
            rc.solve(problem, method)
