"""The kernel of a problem: sampling, moments, density, reward, exit rules, simulation, and what is refused."""

import itertools
import math
import re
from dataclasses import replace

import casadi as ca
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, linalg, stats

import plants
import rlctrl as rc
from rlctrl.problem import _step
from rlctrl.reference.grid_hamiltonian import best_input, parts
from rlctrl.reference.sweep import improved, landing
from rlctrl.simulate import _rollout, half_width
from rlctrl.traced import Traced

ZERO = lambda x, u: 0 * x[0]
STILL = lambda x: 0 * x[..., :1]
RNG = np.random.default_rng


def pendulum(dt=0.05, noise=0.0, **options):
    return rc.Problem(plants.pendulum(noise=noise), ZERO, gamma=0.9, dt=dt, exit="free", **options)


def pendulum_by_hand(_, x, u=1.0):
    return [x[1], 9.81 * np.sin(x[0]) + u - 0.1 * x[1]]


def slopes(errors):
    return np.log2(np.divide(errors[:-1], errors[1:]))


def scalar(drift=lambda x, u, p: -x + u, *, low=-1.0, high=1.0, periodic=False, **options):
    """A plant with one state and one input."""
    signals = {"states": [rc.Signal("x", "1", low, high, periodic=periodic)], "inputs": [rc.Signal("u", "1", -1, 1)]}
    return rc.Plant(name="scalar", drift=drift, **signals, **options)


def discrete(update, noise=None, n=1):
    states = [rc.Signal(f"x{k}", "1", -1, 1) for k in range(n)]
    return rc.Plant(name="map", states=states, inputs=[rc.Signal("u", "1", -1, 1)], update=update, noise=noise)


# --- sampling -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scheme", "order", "counts"), [("rk4", 4, (10, 20, 40)), ("euler", 1, (100, 200, 400))])
def test_sampling_converges_to_solve_ivp_at_the_order_of_the_scheme(scheme, order, counts):
    exact = integrate.solve_ivp(pendulum_by_hand, (0, 1), [0.5, -1.0], method="DOP853", rtol=1e-13, atol=1e-13).y[:, -1]
    errors = []
    for count in counts:
        problem, x = pendulum(1 / count, scheme=scheme), np.array([0.5, -1.0])
        for _ in range(count):
            x = problem.transition(x, [1.0], [0.0])
        errors.append(np.abs(x - exact).max())
    assert np.all(np.abs(slopes(errors) - order) <= 0.2)
    assert errors[-1] < (1e-5 if order == 4 else 2e-2)


@pytest.mark.parametrize("scheme", ["rk4", "euler"])
def test_substeps_are_shorter_steps_with_the_input_held(scheme):
    x, u = np.array([0.5, -1.0]), np.array([2.0])
    want = x
    for _ in range(3):
        want = pendulum(0.02, scheme=scheme).transition(want, u, [0.0])
    np.testing.assert_allclose(pendulum(0.06, scheme=scheme, substeps=3).transition(x, u, [0.0]), want, rtol=1e-14)


def linear_step(dt, scheme):
    """One step of a linear plant, and the block matrix [[A, B, c], [0, 0, 0]] that generates it."""
    rng = RNG(5)
    A, B, c = rng.normal(size=(3, 3)), rng.normal(size=(3, 2)), rng.normal(size=3)
    problem = rc.Problem(plants.linear(A, B, c=c), ZERO, gamma=0.9, dt=dt, exit="free", scheme=scheme)
    z = np.concatenate([rng.normal(size=5), [1.0]])
    return problem.transition(z[:3], z[3:5], []), np.vstack([np.column_stack([A, B, c]), np.zeros((3, 6))]), z


@pytest.mark.parametrize(("scheme", "order"), [("rk4", 4), ("euler", 1)])
def test_step_of_a_linear_plant_is_the_exponential_series_up_to_the_order_of_the_scheme(scheme, order):
    got, block, z = linear_step(0.3, scheme)
    series = sum(np.linalg.matrix_power(0.3 * block, k) / math.factorial(k) for k in range(order + 1))
    np.testing.assert_allclose(got, (series @ z)[:3], rtol=1e-13)


@pytest.mark.parametrize(("scheme", "order"), [("rk4", 4), ("euler", 1)])
def test_step_of_a_linear_plant_tends_to_the_matrix_exponential(scheme, order):
    errors = []
    for dt in (0.08, 0.04, 0.02):
        got, block, z = linear_step(dt, scheme)
        errors.append(np.abs(got - (linalg.expm(dt * block) @ z)[:3]).max())
    assert np.all(np.abs(slopes(errors) - (order + 1)) <= 0.15)


def test_noise_enters_with_the_root_of_the_step():
    rng = RNG(0)
    plant = plants.linear(rng.normal(size=(2, 2)), rng.normal(size=(2, 1)), F := rng.normal(size=(2, 3)))
    problem = rc.Problem(plant, ZERO, gamma=0.9, dt=0.04, exit="free")
    x, u, w = rng.normal(size=(10, 2)), rng.normal(size=(10, 1)), rng.normal(size=(10, 3))
    np.testing.assert_allclose(problem.transition(x, u, w) - problem.transition(x, u, 0 * w), 0.2 * w @ F.T, rtol=1e-12)


def test_discrete_map_needs_no_dt_and_is_taken_as_it_is():
    problem = rc.Problem(discrete(lambda x, u, w, p: x * w + u, rc.Uniform(1)), ZERO, gamma=0.9, exit="free")
    assert problem.dt is None
    assert problem.transition([0.5], [0.25], [-0.5]).tolist() == [0.0]
    assert rc.simulate(problem, lambda x: 0 * x, [0.5], steps=3).t.tolist() == [0, 1, 2, 3]


def test_leading_axes_of_x_u_and_w_broadcast():
    problem = pendulum(noise=0.2)
    rng = RNG(0)
    x, u, w = rng.normal(size=(4, 1, 1, 2)), rng.normal(size=(3, 1, 1)), rng.normal(size=(5, 1))
    got = problem.transition(x, u, w)
    assert got.shape == (4, 3, 5, 2)
    for i, j, k in itertools.product(range(4), range(3), range(5)):
        np.testing.assert_allclose(got[i, j, k], problem.transition(x[i, 0, 0], u[j, 0], w[k]), rtol=1e-14)
    assert problem.reward(x[:, :, 0], u[:, 0]).shape == (4, 3)


# --- moments ------------------------------------------------------------------------------------------------------------------------------

CURVED = discrete(lambda x, u, w, p: 0.5 * x + u + w**2 + x * w, rc.Gaussian(1))
DISCS = rc.Finite([[-1.0, 0.0], [0.5, 1.0], [2.0, -1.0]], [0.2, 0.5, 0.3])
STATE_NOISE = scalar(diffusion=lambda x, u, p: ca.horzcat(0.1 + x[0] ** 2, 0.3 * u[0]))
MOMENTS = {
    "pendulum": pendulum(noise=0.5),
    "state-dependent diffusion": rc.Problem(STATE_NOISE, ZERO, 0.9, 0.1, exit="free"),
    "Gaussian, not affine": rc.Problem(CURVED, ZERO, 0.9, exit="free"),
    "Finite, affine": rc.Problem(discrete(lambda x, u, w, p: 0.3 * x + u[0] * w, DISCS, n=2), ZERO, 0.9, exit="free"),
}


@pytest.mark.parametrize("problem", MOMENTS.values(), ids=MOMENTS)
def test_moments_lie_in_the_monte_carlo_intervals_of_the_samples(problem):
    x, u = np.array([0.4, -0.2])[: problem.plant.n], np.array([0.7])
    mean, covariance = problem.moments(x, u)
    draws = problem.sample(x, u, seed=1, size=20_000)
    gap = draws - mean
    products = gap[:, :, None] * gap[:, None, :]
    root = np.sqrt(len(draws))
    np.testing.assert_array_less(np.abs(gap.mean(0)), 4 * draws.std(0) / root + 1e-12)
    np.testing.assert_array_less(np.abs(products.mean(0) - covariance), 4 * products.std(0) / root + 1e-12)


def test_moments_equal_closed_forms():
    x, u = np.array([[0.4], [-1.0]]), np.array([0.7])
    mean, covariance = MOMENTS["Gaussian, not affine"].moments(x, u)
    np.testing.assert_allclose(mean, 0.5 * x + 0.7 + 1, rtol=1e-12)
    np.testing.assert_allclose(covariance[..., 0], 2 + x**2, rtol=1e-12)
    mean, covariance = MOMENTS["state-dependent diffusion"].moments(x, u)
    e = sum((-0.1) ** k / math.factorial(k) for k in range(5))  # RK4 on x' = -x + u
    np.testing.assert_allclose(mean, 0.7 + (x - 0.7) * e, rtol=1e-14)
    np.testing.assert_allclose(covariance[..., 0], 0.1 * ((0.1 + x**2) ** 2 + 0.21**2), rtol=1e-14)
    mean, covariance = MOMENTS["Finite, affine"].moments([0.4, -0.2], u)
    np.testing.assert_allclose(mean, 0.3 * np.array([0.4, -0.2]) + 0.7 * DISCS.mean, rtol=1e-14)
    np.testing.assert_allclose(covariance, 0.49 * DISCS.covariance, rtol=1e-14)


def test_kernel_backup_is_reward_plus_discounted_expectation():
    problem = rc.Problem(plants.linear(F=[[0.1], [0.4]]), rc.quadratic([1, 2], [3]), gamma=0.9, dt=0.1, exit="free")
    rng = RNG(0)
    x, u, P = rng.normal(size=(7, 2)), rng.normal(size=(7, 1)), np.array([[2.0, 0.5], [0.5, 1.0]])
    mean, covariance = problem.moments(x, u)
    want = -(x**2 @ [1, 2]) - 3 * u[:, 0] ** 2 + 0.9 * (np.einsum("bi,ij,bj->b", mean, P, mean) + np.einsum("bij,ij->b", covariance, P))
    got = problem.kernel.backup(lambda y: ((y @ P) * y).sum(-1), x, u, problem.plant.law.quadrature(3))
    np.testing.assert_allclose(got, want, rtol=1e-12)


# --- samples and density ------------------------------------------------------------------------------------------------------------------


def test_sample_shape_and_seed():
    problem = pendulum(noise=0.5)
    x, u = np.zeros((4, 1, 2)), np.zeros((3, 1))
    draw = lambda seed: problem.sample(x, u, seed=seed, size=(6, 2))
    assert draw(0).shape == (6, 2, 4, 3, 2)
    np.testing.assert_array_equal(draw(3), draw(3))
    assert np.any(draw(3) != draw(4))
    assert len(np.unique(draw(0)[..., 1])) == 6 * 2 * 4 * 3
    assert problem.sample(x[0, 0], u[0], size=5).shape == (5, 2)


@pytest.mark.parametrize("low", [-1.0, -np.inf])
def test_density_of_one_state_integrates_to_one(low):
    problem = rc.Problem(scalar(diffusion=lambda x, u, p: 0.3 + x[0] ** 2, low=low), ZERO, gamma=0.9, dt=0.1, exit="free")
    mean, variance = problem.moments([0.7], [0.2])
    sd = float(np.sqrt(variance[0, 0]))
    density = lambda y: float(np.exp(problem.logpdf([y], [0.7], [0.2])))
    total, error = integrate.quad(density, mean[0] - 12 * sd, mean[0] + 12 * sd, epsabs=1e-11)
    assert error < 1e-10
    assert total == pytest.approx(1, abs=1e-10)


def test_density_of_full_rank_noise_equals_scipy():
    rng = RNG(0)
    F = rng.normal(size=(3, 3))
    problem = rc.Problem(plants.linear(rng.normal(size=(3, 3)), rng.normal(size=(3, 1)), F), ZERO, gamma=0.9, dt=0.25, exit="free")
    x, u, y = rng.normal(size=(3, 3)), rng.normal(size=(3, 1)), rng.normal(size=(20, 3, 3))
    mean, _ = problem.moments(x, u)
    want = [stats.multivariate_normal(m, 0.25 * F @ F.T).logpdf(y[:, k]) for k, m in enumerate(mean)]
    np.testing.assert_allclose(problem.logpdf(y, x, u), np.stack(want, 1), rtol=1e-10)


def test_density_lives_on_the_affine_set_that_the_noise_reaches():
    problem = pendulum(dt=0.1, noise=0.5)
    x, u = np.array([0.3, 1.0]), np.array([2.0])
    mean, covariance = problem.moments(x, u)
    assert covariance[0, 0] == 0
    w = np.linspace(-3, 3, 7)
    reached = mean + np.stack([0 * w, w], -1)
    want = stats.norm(mean[1], 0.5 * np.sqrt(0.1)).logpdf(reached[:, 1])
    np.testing.assert_allclose(problem.logpdf(reached, x, u), want, rtol=1e-11)
    assert np.all(problem.logpdf(reached + np.array([1e-6, 0]), x, u) == -np.inf)


def test_density_on_a_slanted_line_is_per_unit_length():
    problem = rc.Problem(plants.linear(F=[[3.0], [4.0]]), ZERO, gamma=0.9, dt=1.0, exit="free", scheme="euler")
    y = problem.transition([0.1, 0.2], [0.0], [[0.5], [-1.0]])
    np.testing.assert_allclose(problem.logpdf(y, [0.1, 0.2], [0.0]), stats.norm(0, 5).logpdf([2.5, -5.0]), rtol=1e-12)


def wheel(speed, sd):
    plant = scalar(lambda x, u, p: speed + 0 * x, diffusion=lambda x, u, p: ca.SX(sd), low=-np.pi, high=np.pi, periodic=True)
    return rc.Problem(plant, ZERO, gamma=0.9, dt=1.0)


def wrapped_normal(y, mean, sd):
    turns = 2 * np.pi * np.arange(-20, 21)
    return stats.norm(mean, sd).pdf(np.asarray(y)[..., None] + turns).sum(-1)


@pytest.mark.parametrize("start", [0.0, 3.0, -3.1])
def test_density_on_a_circle_is_the_wrapped_normal_and_integrates_to_one(start):
    problem = wheel(speed=1.0, sd=0.8)
    y = np.linspace(-np.pi, np.pi, 401)
    got = np.exp(problem.logpdf(y[:, None], [start], [0.0]))
    np.testing.assert_allclose(got, wrapped_normal(y, start + 1.0, 0.8), rtol=1e-6)
    assert integrate.trapezoid(got, y) == pytest.approx(1, abs=1e-9)  # spectrally accurate on a circle


@pytest.mark.parametrize("speed", [10.0, -15.0])
def test_density_on_a_circle_survives_several_turns_per_step(speed):
    problem = wheel(speed, sd=0.5)
    y = np.linspace(-np.pi, np.pi, 401)
    np.testing.assert_allclose(np.exp(problem.logpdf(y[:, None], [0.0], [0.0])), wrapped_normal(y, speed, 0.5), atol=1e-9)


@pytest.mark.parametrize("law", [rc.Uniform(2), DISCS], ids=["Uniform", "Finite"])
def test_density_of_other_laws(law):
    F = np.array([[1.0, 2.0], [0.5, -1.0]])
    problem = rc.Problem(discrete(lambda x, u, w, p: 0.5 * x + F @ w, law, n=2), ZERO, gamma=0.9, exit="free")
    w = np.array([[-1.0, 0.0], [0.5, 1.0], [2.0, -1.0], [0.3, 0.2]])
    y = problem.transition([0.2, 0.4], [0.0], w)
    got = problem.logpdf(y, [0.2, 0.4], [0.0])
    if isinstance(law, rc.Uniform):  # -1 and 1 lie on the edge of the cube, where round-off decides
        np.testing.assert_allclose(got[2:], [-np.inf, -np.log(4) - np.log(2)], rtol=1e-14)
    else:
        np.testing.assert_allclose(got, np.log([0.2, 0.5, 0.3, 0.0], where=[True, True, True, False], out=np.full(4, -np.inf)), rtol=1e-14)


def test_density_needs_noise_that_enters_affinely_and_with_full_rank():
    with pytest.raises(rc.InputError, match=r"`update` must be affine in w for a density; got 'map'\. Use sample"):
        MOMENTS["Gaussian, not affine"].logpdf([0.0], [0.0], [0.0])
    dead = rc.Problem(scalar(diffusion=lambda x, u, p: 0 * x), ZERO, gamma=0.9, dt=0.1)
    with pytest.raises(rc.InputError, match=r"`diffusion` must have full column rank for a density; got \(1, 1\)\. Give every"):
        dead.logpdf([0.0], [0.0], [0.0])


def test_density_with_more_channels_than_states_is_right_or_refused():
    problem = rc.Problem(plants.linear(F=RNG(0).normal(size=(2, 3))), ZERO, gamma=0.9, dt=1.0, exit="free", scheme="euler")
    for F in RNG(1).normal(size=(20, 2, 3)):
        changed = problem.with_params(F=F)
        law = stats.multivariate_normal(*changed.moments([0.0, 0.0], [0.0]))
        try:
            got = changed.logpdf([0.3, -0.4], [0.0, 0.0], [0.0])
        except rc.InputError:
            continue
        assert got == pytest.approx(law.logpdf([0.3, -0.4]), rel=1e-9)


# --- rewards and parameters ---------------------------------------------------------------------------------------------------------------


def test_quadratic_reward_equals_numpy_with_cross_weight_and_offsets():
    rng = RNG(1)
    Q, R, N = rng.normal(size=(3, 3)), rng.normal(size=(2, 2)), rng.normal(size=(3, 2))
    Q, R, x0, u0 = Q + Q.T, R + R.T, rng.normal(size=3), rng.normal(size=2)
    plant = plants.linear(np.eye(3), np.ones((3, 2)))
    problem = rc.Problem(plant, rc.quadratic(Q, R, N, x0=x0, u0=u0), gamma=0.9, dt=0.1)
    x, u = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    want = [-(a @ Q @ a + b @ R @ b + 2 * a @ N @ b) for a, b in zip(x - x0, u - u0, strict=True)]
    np.testing.assert_allclose(problem.reward(x, u), want, rtol=1e-12, atol=1e-12)


def test_quadratic_weights_as_vectors_are_diagonals_and_numbers_are_one_by_one():
    plant = plants.linear()
    problems = [rc.Problem(plant, rc.quadratic(*w), gamma=0.9, dt=0.1) for w in (([1, 2], 3), (np.diag([1, 2]), [[3]]))]
    x, u = RNG(0).normal(size=(5, 2)), RNG(1).normal(size=(5, 1))
    for problem in problems:
        np.testing.assert_allclose(problem.reward(x, u), -(x**2 @ [1, 2]) - 3 * u[:, 0] ** 2, rtol=1e-14)


def test_reward_may_use_the_parameters():
    problem = rc.Problem(plants.pendulum(), lambda x, u, p: -p.mass * x[1] ** 2, gamma=0.9, dt=0.1)
    assert problem.reward([0.0, 2.0], [0.0]) == -4.0
    assert problem.with_params(mass=3.0).reward([0.0, 2.0], [0.0]) == -12.0


@pytest.mark.parametrize("with_p", [False, True])
def test_rates_become_per_step_quantities(with_p):
    rate = (lambda x, u, p: -p.mass * ca.cos(x[0]) - u[0] ** 2) if with_p else (lambda x, u: -ca.cos(x[0]) - u[0] ** 2)
    problem = rc.Problem.from_rates(plants.pendulum(), rate, discount_rate=0.7, dt=0.04, exit="free", scheme="euler", substeps=2)
    assert problem.gamma == np.exp(-0.7 * 0.04)
    assert problem.reward([0.3, 1.0], [2.0]) == pytest.approx(0.04 * (-np.cos(0.3) - 4), rel=1e-15)
    assert (problem.dt, problem.exit, problem.scheme, problem.substeps) == (0.04, "free", "euler", 2)
    assert rc.Problem.from_rates(plants.pendulum(), rate, discount_rate=0, dt=0.04).gamma == 1.0


def test_changed_parameters_change_the_dynamics_and_compile_nothing():
    problem = pendulum(dt=0.03, noise=0.3)
    paths = [rc.simulate(problem, STILL, [0.5, 0.0], steps=3)]
    steps = [problem.transition([0.5, 0.0], [0.0], [0.0])]
    compiled = _step._cache_size(), _rollout._cache_size()
    for gravity in (5.0, 20.0):
        changed = problem.with_params(gravity=gravity)
        paths.append(rc.simulate(changed, STILL, [0.5, 0.0], steps=3))
        steps.append(changed.transition([0.5, 0.0], [0.0], [0.0]))
        fresh = rc.Problem(plants.pendulum(noise=0.3, gravity=gravity), ZERO, gamma=0.9, dt=0.03, exit="free")
        np.testing.assert_array_equal(steps[-1], fresh.transition([0.5, 0.0], [0.0], [0.0]))
    assert (_step._cache_size(), _rollout._cache_size()) == compiled
    assert steps[1][1] < steps[0][1] < steps[2][1]
    assert paths[1].x[0, -1, 1] < paths[0].x[0, -1, 1] < paths[2].x[0, -1, 1]
    assert problem.plant.params["gravity"] == 9.81


def numbered(weight, dt, torque, values=None):
    """A pendulum whose every number is another one."""
    plant = plants.pendulum(torque_max=torque, noise=0.1 * torque)
    inputs = (rc.Signal("torque", "N m", values=tuple(torque * np.array(values))),) if values else plant.inputs
    plant = replace(plant, inputs=inputs)
    return rc.Problem(plant, lambda x, u: -weight * (1 - ca.cos(x[0])) - 0.3 * weight * x[1] ** 2 - u[0] ** 2 / 7, gamma=0.9 + dt, dt=dt)


@pytest.mark.parametrize(
    ("method", "values"),
    [(rc.GridDP((21, 21), inputs=5), None), (rc.GridDP((21, 21)), (-1, 0, 0.5)), (rc.HJB((21, 21), inputs=5), None)],
)
def test_other_numbers_in_a_problem_compile_nothing(method, values):
    """Weights, sampling time, bounds, finite values and discount are handed to compiled programs, not written into them."""
    programs = (improved, landing, best_input, parts)
    rc.solve(numbered(1.3, 0.05, 2.0, values), method)
    compiled = [program._cache_size() for program in programs]
    changed = rc.solve(numbered(2.6, 0.04, 3.0, values), method)
    assert [program._cache_size() for program in programs] == compiled
    jax.clear_caches()
    np.testing.assert_array_equal(changed.V([0.4, 1.0]), rc.solve(numbered(2.6, 0.04, 3.0, values), method).V([0.4, 1.0]))


def test_changed_parameters_keep_every_other_part_of_the_problem():
    options = {"exit": "absorb", "exit_value": lambda x: x[0], "target": lambda x: x[0], "scheme": "euler", "substeps": 3}
    problem = rc.Problem(plants.pendulum(), ZERO, gamma=0.9, dt=0.1, **options).with_params(mass=2.0)
    assert {k: getattr(problem, k) for k in options} == options
    assert (problem.gamma, problem.dt) == (0.9, 0.1)


# --- exit rules ---------------------------------------------------------------------------------------------------------------------------

A, B, C = np.array([[1.2, -0.2], [0.5, 0.5]]), np.array([0.0, 0.5]), np.array([0.02, -0.01])
GAMMA, STEPS, EDGE = 0.9, 12, 1.0
POLICY = lambda x: 0.4 * x[..., :1] - 0.3


def by_hand(x, *, rule, target):
    """One path as a plain loop: states, rewards, alive, left, return."""
    goal = lambda y: target and y[0] + y[1] <= -0.9
    xs, rs, alive, left, total = [x], [], [True], [], 0.0
    for k in range(STEPS):
        if not alive[-1]:
            xs, rs, alive, left = [*xs, xs[-1]], [*rs, 0.0], [*alive, False], [*left, False]
            continue
        u = 0.4 * x[0] - 0.3
        reward = -(x[0] ** 2) - 2 * u**2 + x[1]
        x = A @ x + B * u + C
        outside = max(abs(x)) > EDGE
        x = np.clip(x, -EDGE, EDGE) if rule == "clip" else x
        total += GAMMA**k * reward
        ends = (rule == "absorb" and outside) or goal(x)
        if ends:
            total += GAMMA ** (k + 1) * (5.0 + x[0])
        xs, rs, alive, left = [*xs, x], [*rs, reward], [*alive, not ends], [*left, outside]
    return xs, rs, alive, left, total


def ruled(rule, target, noise=None):
    plant = plants.linear(A, B, noise, C, discrete=True, state_max=EDGE)
    options = {"target": (lambda x: x[0] + x[1] + 0.9)} if target else {}
    if rule == "absorb" or target:
        options["exit_value"] = lambda x: 5 + x[0]
    return rc.Problem(plant, lambda x, u: -(x[0] ** 2) - 2 * u[0] ** 2 + x[1], gamma=GAMMA, exit=rule, **options)


@pytest.mark.parametrize("target", [False, True], ids=["no target", "target"])
@pytest.mark.parametrize("rule", ["clip", "absorb", "free"])
def test_simulation_equals_a_plain_loop(rule, target):
    x0 = RNG(0).uniform(-0.4, EDGE, (20, 2))
    path = rc.simulate(ruled(rule, target), POLICY, x0, steps=STEPS)
    xs, rs, alive, left, totals = (np.array(part) for part in zip(*(by_hand(x, rule=rule, target=target) for x in x0), strict=True))
    assert 0 < left.any(1).sum() < 20
    assert 0 < (~alive[:, -1]).sum() < 20 or (rule != "absorb" and not target)
    np.testing.assert_allclose(path.x, xs, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(path.r, rs, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(path.alive, alive)
    np.testing.assert_array_equal(path.left, left)
    np.testing.assert_allclose(path.u[..., 0], 0.4 * path.x[:, :-1, 0] - 0.3, atol=1e-15)
    np.testing.assert_allclose(path.returns, totals, rtol=1e-12, atol=1e-13)
    ended = ~alive[:, -1]
    np.testing.assert_allclose(path.ending[ended], 5 + xs[ended, -1, 0], rtol=1e-13)


def test_only_absorbing_and_targets_end_a_path():
    x0 = RNG(0).uniform(-0.4, EDGE, (20, 2))
    for rule in ("clip", "free"):
        assert rc.simulate(ruled(rule, False), POLICY, x0, steps=STEPS).alive.all()
    clipped, free = (rc.simulate(ruled(rule, False), POLICY, x0, steps=STEPS).x for rule in ("clip", "free"))
    assert np.abs(clipped).max() == EDGE
    assert np.abs(free).max() > EDGE


def test_transition_clips_only_under_clip():
    raw = A @ [1.0, 0.8] - 0.3 * B + C
    assert raw[0] > EDGE > raw[1]
    for rule, want in (("clip", [EDGE, raw[1]]), ("absorb", raw), ("free", raw)):
        np.testing.assert_allclose(ruled(rule, False).transition([1.0, 0.8], [-0.3], []), want, rtol=1e-14)


def test_state_on_the_bound_has_not_left():
    kernel = ruled("absorb", False).kernel
    edges = np.array([[1.0, 0.0], [-1.0, 1.0], [np.nextafter(1.0, 2), 0.0]])
    assert kernel.outside(edges).tolist() == [False, False, True]
    assert kernel.ended(edges).tolist() == [False, False, True]


@pytest.mark.parametrize("start", [[-0.8, -0.2], [-0.8, -0.1], [0.5, 0.1]], ids=["inside", "on the edge", "outside"])
def test_path_that_starts_in_the_target_is_over_at_once(start):
    path = rc.simulate(ruled("absorb", True), POLICY, start, steps=3)
    ended = start[0] + start[1] + 0.9 <= 0
    assert bool(path.alive[0, 0]) is not ended
    assert (path.r == 0).all() == ended


def test_return_of_a_path_that_starts_in_the_target_is_its_exit_value():
    assert rc.simulate(ruled("absorb", True), POLICY, [-0.8, -0.2], steps=3).returns[0] == pytest.approx(5 - 0.8)


def test_path_that_starts_outside_an_absorbing_box_is_over_at_once():
    path = rc.simulate(ruled("absorb", False), POLICY, [3.0, 0.0], steps=3)
    assert not path.alive.any()
    assert (path.r == 0).all()


def test_periodic_state_turns_and_never_leaves():
    problem = rc.Problem(plants.pendulum(noise=0.0, damping=0.0, speed_max=50.0), ZERO, gamma=0.9, dt=0.02, exit="absorb")
    path = rc.simulate(problem, lambda x: 0 * x[..., :1], [3.0, 9.0], steps=200)
    free = integrate.solve_ivp(lambda _, x: [x[1], 9.81 * np.sin(x[0])], (0, 4), [3.0, 9.0], rtol=1e-12, atol=1e-12, t_eval=path.t).y
    assert path.alive.all()
    assert not path.left.any()
    assert free[0].max() > 20
    assert np.all((path.x[0, :, 0] >= -np.pi) & (path.x[0, :, 0] < np.pi))
    np.testing.assert_allclose(np.exp(1j * path.x[0, :, 0]), np.exp(1j * free[0]), atol=1e-3)
    np.testing.assert_allclose(path.x[0, :, 1], free[1], atol=1e-3)


def test_wrapped_angle_is_below_the_upper_bound():
    angle = np.nextafter(-np.pi, -4)
    assert float(pendulum().kernel.wrap(np.array([angle, 0.0]))[0]) < np.pi


# --- simulation ---------------------------------------------------------------------------------------------------------------------------

SPREAD, MANY = np.array([[0.2, 0.0], [0.1, 0.3]]), np.zeros((300, 2))


def test_noise_of_a_rollout_has_the_stated_law_and_no_memory():
    path = rc.simulate(ruled("free", False, noise=SPREAD), POLICY, MANY, steps=STEPS, seed=3)
    w = np.linalg.solve(SPREAD, (path.x[:, 1:] - path.x[:, :-1] @ A.T - path.u * B - C)[..., None])[..., 0]
    for channel in (0, 1):
        assert stats.kstest(w[..., channel].ravel(), "norm").pvalue > 1e-3
    pairs = [(w[:, 1:], w[:, :-1]), (w[1:], w[:-1]), (w[..., :1], w[..., 1:])]
    for a, b in pairs:
        assert abs(np.mean(a * b)) < 4 / np.sqrt(a.size)


def test_two_policies_meet_the_same_noise():
    problem = ruled("free", False, noise=SPREAD)
    paths = [rc.simulate(problem, policy, MANY, steps=STEPS, seed=3) for policy in (POLICY, lambda x: 0 * x[..., :1] + 1.0)]
    noise = [p.x[:, 1:] - p.x[:, :-1] @ A.T - p.u * B - C for p in paths]
    assert np.any(paths[0].u != paths[1].u)
    np.testing.assert_allclose(noise[0], noise[1], rtol=1e-9, atol=1e-13)


def test_host_function_gives_the_same_path_as_a_traceable_one():
    problem = ruled("free", False, noise=SPREAD)
    paths = [rc.simulate(problem, policy, MANY, steps=STEPS, seed=3) for policy in (POLICY, lambda x: 0.4 * np.array(x)[:, :1] - 0.3)]
    np.testing.assert_allclose(paths[0].x, paths[1].x, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("inside", ["array", "number"])
def test_a_function_whose_numbers_changed_is_followed_by_what_it_computes_now(inside):
    gain = np.array([0.3])
    function = {"array": lambda x: x[..., :1] * gain, "number": lambda x: x[..., :1] * float(gain[0])}[inside]
    paths = []
    for gain[0] in (0.3, -0.2):
        paths.append(rc.simulate(ruled("free", False), function, [1.0, 0.0], steps=2))
    assert paths[0].u[0, 0] == 0.3
    assert paths[1].u[0, 0] == -0.2


def test_a_function_written_anew_for_every_call_is_compiled_once():
    compiled, gains = [], (0.3, -0.2, 0.3)
    for gain in gains:
        path = rc.simulate(ruled("free", False), lambda x, gain=gain: jax.nn.relu(gain * x[..., :1]), [1.0, 0.0], steps=2)
        compiled.append(_rollout._cache_size())
        assert path.u[0, 0] == max(gain, 0.0)
    assert compiled[0] + 1 == compiled[1] == compiled[2]


INSIDE = {
    "jit": lambda f: jax.jit(f),
    "jit in jit": lambda f: jax.jit(lambda x: jax.jit(f)(x) + 1),
    "checkpoint": lambda f: jax.checkpoint(f),
    "vmap": lambda f: jax.vmap(f),
    "scan": lambda f: lambda x: jax.lax.scan(lambda y, _: (f(y), None), x, length=3)[0],
    "cond": lambda f: lambda x: jax.lax.cond(x[0, 0] > 0, jax.jit(f), lambda y: y, x),
    "while": lambda f: lambda x: jax.lax.while_loop(lambda y: y[0, 0] > 0, jax.jit(f), x),
}


@pytest.mark.parametrize("inside", INSIDE.values(), ids=INSIDE)
def test_numbers_deep_inside_a_function_count(inside):
    def traced(number):
        table = np.full(2, number)
        function = inside(lambda x: x @ np.diag(table) - jnp.asarray(table))
        return Traced.of(lambda x: function(x)[..., :1], jax.ShapeDtypeStruct((2, 2), float))[0]

    assert traced(0.3) == traced(0.3)
    assert hash(traced(0.3)) == hash(traced(0.3))
    assert traced(0.3) != traced(0.4)


def test_a_function_that_calls_back_is_itself_alone():
    shape = jax.ShapeDtypeStruct((1, 1), float)
    for gain in (0.3, -0.2):
        back = lambda x, gain=gain: gain * x[:, :1]
        function = lambda x, back=back: jax.pure_callback(back, shape if len(x) == 1 else jax.ShapeDtypeStruct((2, 1), float), x)
        assert rc.simulate(ruled("free", False), function, [1.0, 0.0], steps=2).u[0, 0] == gain


def test_one_start_is_a_batch_of_one_and_time_comes_before_the_coordinate():
    path = rc.simulate(pendulum(0.03, noise=0.3), STILL, [0.1, 0.0], steps=3)
    assert (path.x.shape, path.u.shape, path.r.shape) == ((1, 4, 2), (1, 3, 1), (1, 3))
    np.testing.assert_allclose(path.t, [0, 0.03, 0.06, 0.09])


def test_monte_carlo_return_covers_the_closed_form():
    """r = −x², x_+ = ax + sw: E x_k² = a^2k x² + s² (1 − a^2k)/(1 − a²)."""
    plant = plants.linear([[0.8]], [[1.0]], [[0.5]], discrete=True, state_max=np.inf)
    problem = rc.Problem(plant, lambda x, u: -(x[0] ** 2), gamma=0.9, exit="free")
    exact = lambda x: -(x**2 - 0.25 / 0.36) / (1 - 0.9 * 0.64) - 0.25 / 0.36 / (1 - 0.9)
    estimate = rc.monte_carlo(problem, STILL, [[1.0], [-2.0]], paths=2000, seed=5)
    assert estimate.samples.shape == (4000,)
    assert abs(estimate.mean - np.mean([exact(1.0), exact(2.0)])) < 1.5 * estimate.ci95
    assert estimate.ci95 < 0.2
    tail = rc.monte_carlo(problem, STILL, [1.0], steps=5, paths=8000, seed=6, tail=lambda x: exact(x[:, 0]))
    assert abs(tail.mean - exact(1.0)) < 1.5 * tail.ci95 < 0.2


def test_a_tail_where_the_closed_loop_diverges_is_refused():
    plant = rc.Plant("growing", [rc.Signal("x", "m", -1, 1)], [rc.Signal("u", "m", -1, 1)], update=lambda x, u, w, p: 3 * x + u)
    problem = rc.Problem(plant, lambda x, u: -(x[0] ** 2), gamma=0.9, exit="free")
    ref = rc.solve(problem, rc.Riccati(about=([0], [0])), on_failure="return")
    assert rc.monte_carlo(problem, STILL, [0.5], steps=200, paths=2).mean < -1e100
    said = r"`policy` must keep states within .* for 200 steps where there is a tail; got 1\.3.*e\+95\. The closed loop diverges"
    with pytest.raises(rc.InputError, match=said):
        rc.monte_carlo(problem, STILL, [0.5], steps=200, paths=2, tail=ref.V)


def test_a_tail_that_is_no_number_is_refused_where_a_path_goes_on():
    problem = rc.Problem(
        plants.linear([[0.5]], [[1.0]], discrete=True, state_max=1.0), lambda x, u: -1.0, gamma=0.9, target=lambda x: 0.2 - x[0]
    )
    with pytest.raises(rc.InputError, match=r"`tail` must be a number at the last states of the paths; got 'nan at x = "):
        rc.monte_carlo(problem, STILL, [0.1], steps=2, paths=2, tail=lambda x: np.nan * x[:, 0])
    ended = rc.monte_carlo(problem, STILL, [0.9], steps=2, paths=2, tail=lambda x: np.nan * x[:, 0])
    assert np.isfinite(ended.mean)


def test_half_width_equals_scipy_and_ignores_the_spread_between_starts():
    samples = RNG(0).normal(size=50)
    interval = stats.t.interval(0.95, 49, loc=samples.mean(), scale=stats.sem(samples))
    assert half_width(samples) == pytest.approx((interval[1] - interval[0]) / 2, rel=1e-12)
    shifted = np.concatenate([samples, samples + 100])
    pooled = stats.t.ppf(0.975, 98) * np.sqrt(np.var(samples, ddof=1) / 100)
    assert half_width(shifted, starts=2) == pytest.approx(pooled, rel=1e-12)
    assert half_width([1.0]) == np.inf


# --- bad input ----------------------------------------------------------------------------------------------------------------------------

STATE, INPUT = rc.Signal("x", "1", -1, 1), rc.Signal("u", "1", -1, 1)
GOOD = scalar()
TWO = rc.Problem(plants.linear(), ZERO, gamma=0.9, dt=0.1)


def make_plant(**changes):
    return rc.Plant(**{"name": "p", "states": [STATE], "inputs": [INPUT], "drift": lambda x, u, p: -x + u} | changes)


def make_problem(**changes):
    return rc.Problem(**{"plant": GOOD, "reward": ZERO, "gamma": 0.9, "dt": 0.1} | changes)


def from_rates(**changes):
    return rc.Problem.from_rates(**{"plant": GOOD, "reward_rate": ZERO, "discount_rate": 0.5, "dt": 0.1} | changes)


BAD = [  # call, argument, value as the message shows it
    (lambda: make_plant(drfit=1), "drfit", "1"),
    (lambda: make_problem(gama=1), "gama", "1"),
    (lambda: rc.Signal("x", "1", lo=-1), "lo", "-1"),
    (lambda: from_rates(exits="clip"), "exits", "'clip'"),
    (lambda: rc.quadratic([1], [1], n=3), "n", "3"),
    (lambda: rc.simulate(TWO, POLICY, [0, 0], 3, sed=1), "sed", "1"),
    (lambda: make_plant(drift=lambda x, u, p: ca.vertcat(x, u)), "drift", "'2 × 1'"),
    (lambda: make_plant(drift=lambda x, u, p: ca.sqrt(-1 - x**2)), "drift", "[nan]"),
    (lambda: make_plant(drift=lambda x, u, p: None), "drift", "NoneType"),
    (lambda: make_plant(drift=lambda x, u, p: p.mass * x, params={"masss": 1.0}), "p.mass", "'mass'"),
    (lambda: make_plant(diffusion=lambda x, u, p: ca.vertcat(x, u)), "diffusion", "'2 × 1'"),
    (lambda: make_plant(drift=None), "drift", "(None, None)"),
    (lambda: make_plant(update=lambda x, u, w, p: x), "drift", "(<function"),
    (lambda: make_plant(drift=None, update=lambda x, u, w, p: x, diffusion=lambda x, u, p: x), "diffusion", "<function"),
    (lambda: make_plant(noise=rc.Gaussian(1)), "noise", "Gaussian(q=1)"),
    (lambda: make_plant(states=[]), "states", "[]"),
    (lambda: make_plant(states=["x"]), "states", "['x']"),
    (lambda: make_plant(inputs=[rc.Signal("x", "1", -1, 1)]), "states, inputs", "['x', 'x']"),
    (lambda: make_plant(states=[rc.Signal("x", "1", values=(0, 1))]), "values", "['x']"),
    (lambda: make_plant(params={"a": np.nan}), "params['a']", "nan"),
    (lambda: make_plant(drift=lambda x, u, p: x + ca.SX.sym("x2")), "drift", "the free symbols ['x2']"),
    (lambda: rc.LinearPolicy([[1.0]], [0.0], [0.0], [0.0]).clipped(2, -2), "low", "(2.0, -2.0)"),
    (lambda: rc.LinearPolicy([[1.0]], [0.0], [0.0], [0.0]).clipped([1, 1, 1], [2, 2]), "low", "([1.0, 1.0, 1.0], [2.0, 2.0])"),
    (lambda: make_plant(params={"a": 1.0}).with_params(a=[1, 2]), "a", "(2,)"),
    (lambda: rc.Signal("x", ""), "unit", "''"),
    (lambda: rc.Signal("x", None), "unit", "None"),
    (lambda: rc.Signal("not a name", "1"), "name", "'not a name'"),
    (lambda: rc.Signal("x", "1", 1, 1), "low, high", "(1.0, 1.0)"),
    (lambda: rc.Signal("x", "1", 2, 1), "low, high", "(2.0, 1.0)"),
    (lambda: rc.Signal("x", "1", np.nan, 1), "low, high", "(nan, 1.0)"),
    (lambda: rc.Signal("x", "1", 0, np.inf, periodic=True), "periodic", "(0.0, inf)"),
    (lambda: rc.Signal("x", "1", values=(1, 1)), "values", "(1, 1)"),
    (lambda: rc.Signal("x", "1", values=(1,)), "values", "(1,)"),
    (lambda: make_problem(plant="pendulum"), "plant", "'pendulum'"),
    *[(lambda g=g: make_problem(gamma=g), "gamma", repr(g)) for g in (0, 1.2, np.nan, -0.5, "0.9", [0.9])],
    *[(lambda dt=dt: make_problem(dt=dt), "dt", repr(dt)) for dt in (0, -0.1, np.nan, np.inf, None, [0.1])],
    (lambda: make_problem(exit="stop"), "exit", "'stop'"),
    (lambda: make_problem(scheme="heun"), "scheme", "'heun'"),
    *[(lambda k=k: make_problem(substeps=k), "substeps", repr(k)) for k in (0, 1.5)],
    (lambda: make_problem(reward=3), "reward", "3"),
    (lambda: make_problem(reward=lambda x, u: ca.vertcat(x, u)), "reward", "'2 × 1'"),
    (lambda: make_problem(reward=lambda x, u: ca.log(-1 - x[0] ** 2)), "reward", "nan"),
    (lambda: make_problem(reward=rc.quadratic([1, 1], [1])), "Q", "(2, 2)"),
    (lambda: make_problem(reward=rc.quadratic([1], [1, 1])), "R", "(2, 2)"),
    (lambda: make_problem(exit="absorb", exit_value=lambda x: ca.vertcat(x, x)), "exit_value", "'2 × 1'"),
    (lambda: make_problem(exit="absorb", exit_value=lambda x: ca.log(-1 - x[0] ** 2)), "exit_value", "nan"),
    (lambda: make_problem(exit_value=lambda x: x), "exit_value", "'clip'"),
    (lambda: make_problem(target=lambda x: ca.log(-1 - x[0] ** 2)), "target", "nan"),
    (lambda: make_problem(plant=scalar(low=-np.inf, high=np.inf), exit="absorb"), "exit", "'absorb'"),
    (lambda: rc.quadratic([[1, 2], [0, 1]], [1]), "Q", "[[1.0, 2.0], [0.0, 1.0]]"),
    (lambda: rc.quadratic([1], [[1, 2]]), "R", "[[1.0, 2.0]]"),
    *[(lambda r=r: from_rates(discount_rate=r), "discount_rate", repr(r)) for r in (-1, np.nan)],
    (lambda: from_rates(reward_rate=2), "reward_rate", "2"),
    (lambda: from_rates(reward_rate=lambda x, u: ca.vertcat(x, u)), "reward_rate", "'2 × 1'"),
    (lambda: from_rates(dt=0), "dt", "0"),
    (lambda: TWO.transition([0, 0, 0], [0], []), "x", "(3,)"),
    (lambda: TWO.transition([0, 0], [0, 0], []), "u", "(2,)"),
    (lambda: TWO.transition([0, 0], [0], [1]), "w", "(1,)"),
    (lambda: TWO.reward(0.0, [0]), "x", "()"),
    (lambda: TWO.reward("ab", [0]), "x", "'ab'"),
    (lambda: TWO.logpdf([0], [0, 0], [0]), "x_next", "(1,)"),
    (lambda: rc.simulate(TWO, lambda x: x, [0, 0], 3), "policy", "(2, 2)"),
    (lambda: rc.simulate(TWO, lambda x: x[..., 0], [0, 0], 3), "policy", "(2,)"),
    (lambda: rc.simulate(TWO, 3, [0, 0], 3), "policy", "3"),
    (lambda: rc.simulate(TWO, POLICY, [0, 0, 0], 3), "x0", "(1, 3)"),
    (lambda: rc.simulate(TWO, POLICY, [0, np.nan], 3), "x0", "[[0.0, nan]]"),
    *[(lambda k=k: rc.simulate(TWO, POLICY, [0, 0], k), "steps", repr(k)) for k in (0, 2.5)],
    (lambda: rc.monte_carlo(rc.Problem(GOOD, ZERO, gamma=1.0, dt=0.1), lambda x: 0 * x, [0]), "steps", "None"),
]


@pytest.mark.parametrize(("call", "argument", "value"), BAD, ids=[f"{a}={v}" for _, a, v in BAD])
def test_bad_input_is_refused_with_argument_value_and_way_out(call, argument, value):
    with pytest.raises(rc.InputError, match=rf"`{re.escape(argument)}` .+; got {re.escape(value)}.*\. \S.{{4,}}"):
        call()


ESCAPES = [  # call, argument
    (lambda: make_problem(gamma=None), "gamma"),
    (lambda: make_problem(dt="0.1"), "dt"),
    (lambda: from_rates(dt=None), "dt"),
    (lambda: from_rates(dt=-1.0), "dt"),
    (lambda: from_rates(dt=np.nan), "dt"),
    (lambda: from_rates(discount_rate="0.1"), "discount_rate"),
    (lambda: rc.Signal("x", "1", "a", 1), "low, high"),
    (lambda: make_plant(params={"a": "b"}), "params['a']"),
    (lambda: make_plant(drift=None, update=lambda x, u, w, p: x, noise="normal"), "noise"),
    (lambda: make_plant(drift=lambda x, u, p: ca.SX.sym("z")), "drift"),
    (lambda: make_plant(params={"vector": 2.0}), "params"),
    (lambda: make_plant().jacobian([0, 0, 0], [0]), "x"),
    (lambda: rc.quadratic([1, 1], [1], N=[1, 2, 3]), "N"),
    (lambda: rc.quadratic([1, 1], [1, 1, 1], N=np.ones((3, 2))), "N"),
    (lambda: make_problem(reward=rc.quadratic([1], [1], x0=[1, 2])), "x0"),
    (lambda: rc.simulate(TWO, POLICY, "ab", 3), "x0"),
    (lambda: rc.simulate(TWO, POLICY, [0, 0], 3, seed="a"), "seed"),
    (lambda: TWO.reward(np.zeros((3, 2)), np.zeros((2, 1))), "u"),
    (lambda: rc.Finite(["a"], [1.0]), "nodes"),
]


@pytest.mark.parametrize(("call", "argument"), ESCAPES, ids=[f"{k}-{a}" for k, (_, a) in enumerate(ESCAPES)])
def test_bad_input_that_is_not_refused_properly(call, argument):
    with pytest.raises(rc.InputError, match=re.escape(f"`{argument}`")):
        call()


def test_missing_unit_is_named():
    with pytest.raises(rc.InputError, match=r"missing a required argument: 'unit'\. It takes \(name, unit, "):
        rc.Signal("x")


def test_an_error_inside_the_users_function_names_the_function():
    def broken(*_):
        raise KeyError("inertia")

    with pytest.raises(rc.InputError, match=r"`drift` of plant 'p' failed when called on CasADi symbols: KeyError: 'inertia'\. It must"):
        make_plant(drift=broken)
    with pytest.raises(rc.InputError, match=r"`policy` must map states \(batch, 2\) to inputs; on zeros it raised KeyError"):
        rc.simulate(TWO, lambda x: {}["gain"], [0, 0], 3)


def test_kernel_is_a_pytree_of_its_numbers():
    leaves = jax.tree.leaves(pendulum().kernel)
    assert any(np.array_equal(leaf, pendulum().plant.parameter_vector) for leaf in leaves)


@pytest.mark.parametrize("x", [1e51, -1e300, 1.7e308])
def test_points_farther_than_numbers_carry_are_refused(x):
    """Their squares are no floats any more: refused before anything overflows, with a warning or without."""
    problem = rc.Problem(plants.linear(), rc.quadratic([1.0, 1.0], [1.0]), 0.9, 0.1, exit="free")
    found = rc.solve(problem, rc.Riccati())
    at, zero = [x, 0.0], [0.0]
    calls = [
        lambda: problem.reward(at, zero), lambda: problem.reward([0.0, 0.0], [x]), lambda: problem.sample(at, zero),
        lambda: problem.moments(at, zero), lambda: found.V(at), lambda: found.Q(at, zero), lambda: found.policy(at),
        lambda: found.gradient(at), lambda: rc.simulate(problem, found.policy, at, 2),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(rc.InputError, match=r"`(x|u|x0)` must lie within ±1e\+50; got .*\. Leave such points out\."):
            call()
    assert np.isfinite(found.V([1e50, 0.0]))
