"""T10–T12, T16, T17: every identity to round-off, every term against its own definition; policies compared on the same noise."""

from dataclasses import replace

import casadi as ca
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import plants
import rlctrl as rc
from rlctrl.analysis.fit import levenberg_marquardt, nearest_equivalent
from rlctrl.analysis.lyapunov import _judged
from rlctrl.analysis.points import measured_points, spread
from rlctrl.critic.td import data_vector


def trained(problem, policy, critic, memory=64, steps=2000):
    return rc.train(problem, critic, policy, rc.ReplayTD(memory=memory, exploration=0.4, restart=20, snapshots=10), steps=steps)


@pytest.fixture(scope="module")
def integrator():
    problem = rc.Problem(plants.double_integrator(noise=0.1), rc.quadratic([0.1, 0.01], [0.01]), gamma=0.95, dt=0.1, exit="free")
    lqr = rc.solve(problem, rc.Riccati())
    run = trained(problem, lqr.policy, rc.Critic(hidden=6, features="affine"))
    return run, lqr, rc.decompose(run, lqr, points=512, starts=1, iterations=40)


@pytest.fixture(scope="module")
def pendulum():
    reward = lambda x, u: -(1 - ca.cos(x[0]) + 0.01 * x[1] ** 2 + 0.01 * u[0] ** 2)
    problem = rc.Problem(plants.pendulum(), reward, gamma=0.98, dt=0.05)
    dp = rc.solve(problem, rc.GridDP(shape=(41, 41)))
    run = trained(problem, dp.policy, rc.Critic(hidden=16))
    return run, dp, rc.decompose(run, dp, points=512, starts=1, iterations=40)


@pytest.fixture(params=["integrator", "pendulum"])
def case(request):
    return request.getfixturevalue(request.param)


def test_identity_t12_holds_to_round_off(case):
    assert case[2].identity_residual <= 1e-10


def test_step_identity_t17_and_gradient_t15_hold_to_round_off(case):
    assert case[2].step_identity_residual <= 1e-10
    assert np.max(case[2].terms.gradient_gap) <= 1e-10


def test_remainder_is_of_second_order(case):
    assert 1.9 <= case[2].remainder_slope <= 2.1


def test_e_star_is_its_definition_and_splits_exactly(case):
    run, reference, parts = case
    memory, n = run.snapshots.memory, run.problem.plant.n
    q, q_next = (reference.Q(z[..., :n], z[..., n:]) for z in (memory.z, memory.z_next[:, :, 0]))
    direct = q - memory.t.r[..., 0] - memory.t.gamma[..., 0] * q_next
    scale = np.max(np.abs(q))
    assert np.max(np.abs(parts.e_star - direct)) <= 1e-13 * scale
    assert np.max(np.abs(parts.e_star - parts.e_star_noise - parts.e_star_policy)) <= 1e-13 * scale


def test_e_td_is_the_td_error_of_the_snapshot_weights(case):
    run, _, parts = case
    memory, n = run.snapshots.memory, run.problem.plant.n
    k = len(parts.step) - 1
    q, q_next = (run.network.value(run.snapshots.omega[k], z[k]) for z in (memory.z, memory.z_next[:, :, 0]))
    assert np.allclose(parts.e_td[k], q - memory.t.r[k, :, 0] - memory.t.gamma[k, :, 0] * q_next, rtol=0, atol=1e-12)
    assert memory.z.shape[-1] == n + run.problem.plant.m


def test_spectrum_rank_and_share_are_those_of_the_explicit_matrix(case):
    run, _, parts = case
    k = len(parts.step) - 1
    t = jax.tree.map(lambda a: a[k], run.snapshots.memory.t)
    d = np.asarray(data_vector(run.network, run.snapshots.omega[k], t))
    A = (d / ((d**2).sum(1, keepdims=True) + 1) ** 2).T @ d
    values, vectors = np.linalg.eigh(A)
    kept = values[::-1][: parts.terms.spectrum.shape[1]]
    assert np.max(np.abs(parts.terms.spectrum[k] - np.maximum(kept, 0))) <= 1e-12 * values[-1]
    assert values[-1] <= run.scheme.memory / 4  # T16
    tilde = run.snapshots.omega[k] - parts.omega_star
    strong = vectors[:, values > 1e-4 * values[-1]]
    assert np.sum((strong.T @ tilde) ** 2) / (tilde @ tilde) <= parts.terms.excited_share[k] + 1e-9 <= 1 + 2e-9


def test_too_few_samples_give_no_excitation_and_it_is_said(pendulum):
    _, _, parts = pendulum
    assert np.all(parts.min_eigenvalue == 0)
    assert "M = 64 < p = 96" in parts.verdict


def test_policy_term_vanishes_under_the_optimal_policy_and_not_under_another(integrator):
    run, lqr, parts = integrator
    assert np.max(np.abs(parts.e_star_policy)) <= 1e-12
    detuned = trained(run.problem, lambda x: -0.3 * x[..., :1], rc.Critic(hidden=6, features="affine"), steps=200)
    other = rc.decompose(detuned, lqr, points=64, starts=0, iterations=5)
    assert np.min(other.e_star_policy) >= -1e-12
    assert np.mean(other.e_star_policy[other.counted]) > 1e-3


def test_noise_term_has_mean_zero_given_z(integrator):
    run, lqr, _ = integrator
    x, u = np.array([0.4, -0.3]), np.array([0.5])
    ahead = run.problem.sample(x, u, seed=5, size=20_000)
    noise = lqr.Q(x, u) - run.problem.reward(x, u) - 0.95 * lqr.V(ahead)
    assert abs(noise.mean()) <= 4 * noise.std() / np.sqrt(len(noise))
    assert noise.std() > 1e-3


def test_e_q_is_reference_minus_best_fit(case):
    run, reference, parts = case
    n = run.problem.plant.n
    x, u = parts.z[:, :n], parts.z[:, n:]
    assert np.allclose(parts.e_q, parts.e_Q(x, u), rtol=0, atol=1e-12)
    assert np.allclose(parts.q_star, reference.Q(x, u))
    assert parts.best_fit_relative_error <= parts.relative_error


@pytest.mark.parametrize("activation", ["tanh", "square", "softplus"])
def test_nearest_equivalent_undoes_a_permutation_and_signs(activation):
    plant = plants.double_integrator()
    network = rc.Critic(hidden=7, activation=activation).network(plant)
    omega = np.asarray(network.initial(jax.random.key(2), 1.0))
    rng = np.random.default_rng(3)
    order, signs = rng.permutation(7), rng.choice([-1.0, 1.0], 7)
    w1, w2 = omega[:7][order], omega[7:].reshape(7, -1)[order]
    if activation == "tanh":
        w1, w2 = signs * w1, signs[:, None] * w2
    if activation == "square":
        w2 = signs[:, None] * w2
    shuffled = np.concatenate([w1, w2.ravel()])
    z = rng.uniform(-1, 1, (20, 3))
    assert np.allclose(network.value(shuffled, z), network.value(omega, z), atol=1e-13)
    assert np.array_equal(nearest_equivalent(network, shuffled, omega), omega)
    other = rng.normal(size=omega.shape)
    found = nearest_equivalent(network, shuffled, other)
    assert np.linalg.norm(found - other) <= np.linalg.norm(shuffled - other)
    assert np.allclose(network.value(found, z), network.value(omega, z), atol=1e-13)


def test_least_squares_recovers_a_planted_network():
    network = rc.Critic(hidden=3).network(plants.double_integrator())
    planted = np.asarray(network.initial(jax.random.key(4), 1.0))
    z = np.random.default_rng(5).uniform(-2, 2, (400, 3))
    start = planted + 0.1 * np.random.default_rng(6).normal(size=planted.shape)
    found, loss = levenberg_marquardt(network, start, z, network.value(planted, z), 100)
    assert loss <= 1e-24
    assert np.max(np.abs(nearest_equivalent(network, np.asarray(found), planted) - planted)) <= 1e-8


def test_a_reference_of_another_problem_is_refused(integrator):
    run, _, _ = integrator
    other = rc.solve(run.problem.with_params(mass=2.0), rc.Riccati())
    with pytest.raises(rc.InputError, match="`reference` must be of the problem"):
        rc.decompose(run, other)
    plant = run.problem.plant
    weak = replace(plant, inputs=[replace(plant.inputs[0], low=-0.1, high=0.1)])
    with pytest.raises(rc.InputError, match="`reference` must be of the problem"):
        rc.decompose(run, rc.solve(run.problem._with_plant(weak), rc.Riccati()))


@pytest.mark.parametrize("measure", ["visited", "array"])
def test_other_measures(integrator, measure):
    run, lqr, _ = integrator
    given = np.random.default_rng(7).uniform(-1, 1, (200, 3)) if measure == "array" else measure
    parts = rc.decompose(run, lqr, measure=given, points=100, starts=0, iterations=20)
    assert parts.z.shape == (100, 3)
    assert parts.best_fit_relative_error < 1


def test_policies_meet_the_same_noise(integrator):
    run, lqr, _ = integrator
    table = rc.compare(run.problem, {"a": lqr.policy, "b": lqr.policy, "c": lambda x: 0.9 * lqr.policy(x)}, [1.0, 0.0], steps=60, paths=200)
    assert np.array_equal(table.returns["a"].samples, table.returns["b"].samples)
    gap, width = table.difference("a", "c")
    assert width < 0.3 * table.returns["a"].ci95
    assert gap > width  # the optimal gain is better, and the pairing shows it
    path = table.trajectories["a"]
    by_hand = sum(0.95**k * path.r[:, k] for k in range(60))
    assert np.allclose(by_hand, table.returns["a"].samples, rtol=0, atol=1e-12)


def test_interval_covers_the_value_about_95_times_in_100(integrator):
    run, lqr, _ = integrator
    hits = 0
    for seed in range(100):
        found = rc.monte_carlo(run.problem, lqr.policy, [[1.0, 0.0], [0.0, 0.5]], steps=150, paths=50, seed=seed, tail=lqr.V)
        hits += abs(found.mean - np.mean(lqr.V([[1.0, 0.0], [0.0, 0.5]]))) <= found.ci95
    assert 88 <= hits <= 100  # a binomial(100, 0.95) falls below 88 once in a thousand


def test_sup_norm_refit_lowers_the_largest_error_and_fits_are_reported(integrator):
    run, lqr, parts = integrator
    sharp = rc.decompose(run, lqr, points=512, starts=1, iterations=40, norm="sup")
    assert np.max(np.abs(sharp.e_q)) < 0.9 * np.max(np.abs(parts.e_q))
    near = rc.decompose(run, lqr, points=512, starts=1, iterations=40, omega_star="nearest")
    assert np.linalg.norm(near.omega_tilde) == pytest.approx(parts.fit_distance.min())
    assert np.linalg.norm(parts.omega_tilde) == pytest.approx(parts.fit_distance[np.argmin(parts.fit_rms)])


def test_budget_has_no_remainder_however_far_from_the_best_fit(case):
    """Its slopes are means over the way from ω*; those at ω alone leave the R of T12, which is large there."""
    d = case[2]
    size = np.sqrt(np.mean(d.budget.error**2))
    assert np.sqrt(np.mean(d.remainder[-1] ** 2)) > 0.01 * size
    assert d.budget.rms["remainder"] <= 1e-7 * size


def test_budget_of_an_untrained_direction_is_not_excited():
    """Data on one plane of Z: what they leave free makes the error, and the budget says so."""
    plant = plants.linear([[0.5, 0.0], [0.0, 0.5]], [[0.0], [0.0]], discrete=True, state_max=1.0)
    problem = rc.Problem(plant, rc.quadratic([1.0, 1.0], [1.0]), gamma=0.9, exit="free")
    lqr = rc.solve(problem, rc.Riccati())
    still = lambda x: 0 * x[..., :1]
    run = rc.train(
        problem, rc.Critic(hidden=(), features=lambda z: z * z), still, rc.ReplayTD(memory=32, exploration=0.0, restart=2), steps=5000
    )
    parts = rc.decompose(run, lqr, starts=0, points=256).budget
    assert parts.rank == 2  # the input never moves
    assert parts.shares["not_excited"] > 0.99


def test_budget_is_of_the_trained_weights(case):
    d = case[2]
    error = d.q_star - d.q_trained
    assert np.max(np.abs(sum(d.budget.parts.values()) - error)) <= 1e-10 * np.max(np.abs(error))
    assert np.max(np.abs(d.budget.error - error)) <= 1e-12 * np.max(np.abs(d.q_star))


def test_visited_points_are_judged_where_nothing_was_fitted(integrator):
    """Snapshots nearer together than the memory is long share transitions."""
    run, *_ = integrator
    memory = run.snapshots.memory
    twice = lambda a: np.concatenate([a, a])
    shared = replace(run.snapshots, memory=replace(memory, z=twice(memory.z), t=memory.t._replace(weight=twice(memory.t.weight))))
    fitted, judged, _ = measured_points(replace(run, snapshots=shared), "visited", 300, 0)
    assert not set(map(bytes, fitted)) & set(map(bytes, judged))
    assert len(np.unique(judged, axis=0)) == len(judged) == 300


@pytest.fixture(scope="module", params=[{"rate": "measured"}, {"update": "gauss-newton"}], ids=["T14", "gauss-newton"])
def exact(request):
    """What the theory calls success: ω* itself, linear in its weights, without noise."""
    plant = plants.linear([[1.0, 0.1], [0.0, 0.95]], [[0.0], [0.1]], discrete=True, state_max=1.0, input_max=2.0)
    problem = rc.Problem(plant, rc.quadratic([0.1, 0.1], [0.1]), gamma=0.5, exit="free")
    reference = rc.solve(problem, rc.Riccati())
    products = lambda z: 3 * jnp.stack([z[..., i] * z[..., j] for i in range(3) for j in range(i, 3)], -1)
    scheme = rc.ReplayTD(memory=50, uniform=0.5, **request.param)
    run = rc.train(problem, rc.Critic(hidden=(), features=products), reference.policy, scheme, steps=3000)
    return rc.decompose(run, reference, points=64, starts=0)


def test_checks_of_an_exact_critic_are_round_off(exact):
    assert np.linalg.norm(exact.omega_tilde) <= 1e-15
    assert exact.identity_residual <= 1e-10
    assert np.max(exact.terms.gradient_gap) <= 1e-10
    assert exact.budget.residual <= 1e-10
    assert np.isnan(exact.step_identity_residual) if exact.run.scheme.update != "gradient" else exact.step_identity_residual <= 1e-10
    assert exact.terms.excited_share == pytest.approx(1)
    assert ("the weights are ω*" in exact.verdict) == (exact.terms.omega_norm[-1] == 0)


def test_what_vanishes_is_compared_with_what_it_is_a_difference_of(exact):
    tiny, none, size = np.full_like(exact.e_td, 1e-16), np.zeros_like(exact.e_td), np.max(np.abs(exact.q_star))
    parts = {"e_q_now": none, "e_q_next": none, "e_star_noise": none, "e_star_policy": none}
    terms = exact.terms._replace(e_td=tiny, d_dot=none, remainder=none)
    assert replace(exact, terms=terms, **parts).identity_residual == pytest.approx(1e-12 / size)
    budget = replace(exact.budget, error=tiny[0], parts={"noise": none[0]})
    assert budget.residual == pytest.approx(1e-12 / size)
    assert replace(budget, error=none[0]).shares == {"noise": 0.0}
    still = exact.terms._replace(**{name: none[:, 0] for name in exact.terms._fields if name.startswith(("term_", "decrease"))})
    assert replace(exact, terms=still).step_identity_residual == 0


def test_at_the_best_fit_the_verdicts_say_so(exact):
    there = exact.terms._replace(omega_norm=np.zeros_like(exact.terms.omega_norm))
    assert "the weights are ω*, and 6 directions of 6 are excited" in replace(exact, terms=there).verdict


@pytest.mark.parametrize(
    ("norm", "said"),
    [(3.0, "beyond r_out = 2"), (1.0, "not yet reached"), (0.1, "the theory is loose by 5"), (0.0, "reached, at ω* itself")],
)
def test_a_distance_is_judged_by_the_radii(norm, said):
    assert _judged(0.5, 2.0, norm).startswith(said)


def test_a_critic_linear_in_its_weights_leaves_no_remainder(exact):
    assert not exact.remainder_rms.any()
    assert np.isnan(exact.remainder_slope)


def test_a_constant_q_star_has_no_relative_error():
    plant = plants.linear([[0.5]], [[1.0]], discrete=True, state_max=1.0, input_max=1.0)
    problem = rc.Problem(plant, lambda x, u: -1 + 0 * x[0], gamma=0.5)
    reference = rc.solve(problem, rc.GridDP(shape=(11,)))
    found = rc.decompose(trained(problem, lambda x: 0 * x, rc.Critic(hidden=2), steps=100), reference, points=32, starts=0, iterations=5)
    assert np.isnan(found.relative_error)
    assert np.isnan(found.summary()["critic"]["best_fit_relative_error"])
    assert np.isnan(spread(np.full(9, 0.1)))
    assert spread(np.array([1.0, 3.0])) == 1.0


def tank(high):
    """Filled by an input that is bounded below alone if `high` is infinite."""
    plant = rc.Plant("tank", [rc.Signal("h", "m", -1, 1)], [rc.Signal("q", "m³/s", 0, high)], update=lambda x, u, w, p: 0.9 * x + 0.1 * u)
    return rc.Problem(plant, rc.quadratic(1.0, 1.0), gamma=0.9)


@pytest.mark.parametrize("high", [1.0, np.inf])
def test_an_input_on_its_bound_is_not_beyond_it(high):
    policies = {"shut": lambda x: 0 * x, "open": lambda x: 0 * x + 0.1, "drain": lambda x: 0 * x - 0.1}
    found = rc.compare(tank(high), policies, [0.5], steps=5, paths=2)
    assert found.beyond == {"shut": 0.0, "open": 0.0, "drain": 1.0}
    assert found.saturated == {"shut": 1.0, "open": 0.0, "drain": 1.0}


@pytest.mark.parametrize("policies", [{1: lambda x: x}, {}, [lambda x: x]])
def test_policies_to_compare_must_have_names(policies):
    with pytest.raises(rc.InputError, match="`policies` must be a dictionary"):
        rc.compare(tank(1.0), policies, [0.5], steps=5, paths=2)


def test_the_policy_that_is_none_is_named():
    with pytest.raises(rc.InputError, match=r"`policies\['b'\]` must be a function x → u; got 3"):
        rc.compare(tank(1.0), {"a": lambda x: 0 * x, "b": 3}, [0.5], steps=5, paths=2)
