"""Sources of the critic's error, coverage of the data, e_Q by width, e* by policy: each against a known answer."""

from dataclasses import replace

import casadi as ca
import jax
import numpy as np
import pytest

import plants
import rlctrl as rc
from rlctrl.analysis.coverage import _worst, coverage, occupancy
from rlctrl.analysis.points import uniform_points
from rlctrl.analysis.score import score
from rlctrl.analysis.sources import sources
from rlctrl.analysis.studies import _widened, e_star, width_study


def integrator(noise, **options):
    problem = {"reward": rc.quadratic([0.1, 0.01], [0.01]), "gamma": 0.95, "dt": 0.1, "exit": "free"} | options
    return rc.Problem(plants.double_integrator(noise=noise), **problem)


def trained(problem, policy):
    scheme = rc.ReplayTD(memory=64, exploration=0.4, restart=20, snapshots=3)
    return rc.train(problem, rc.Critic(hidden=6, features="affine"), policy, scheme, steps=300)


@pytest.fixture(scope="module")
def lqr():
    """A critic under the optimal policy, whose Q^θ is Q*: (training, reference)."""
    problem = integrator(0.1)
    reference = rc.solve(problem, rc.Riccati())
    return trained(problem, reference.policy), reference


Z0 = [1.0, -0.5], [0.7]


def test_residuals_along_the_policy_add_up_to_the_error(lqr):
    run, reference = lqr
    gap = run.Q(*Z0) - reference.Q(*Z0)
    found = [sources(run, *Z0, paths=400, seed=seed) for seed in range(20)]
    assert sum(abs(s.total - gap) <= s.ci95 + s.tail for s in found) >= 16  # a binomial(20, 0.95) falls below 16 thrice in a thousand
    assert max(s.ci95 for s in found) < 0.2 * abs(gap)
    assert found[0].contribution.mean(0).sum() == pytest.approx(found[0].total)
    assert found[0].q_policy == pytest.approx(float(run.Q(*Z0)) - found[0].total)


def test_without_noise_they_do_so_exactly():
    problem = integrator(0.0)
    reference = rc.solve(problem, rc.Riccati())
    run = trained(problem, reference.policy)
    gap = float(run.Q(*Z0) - reference.Q(*Z0))
    found = sources(run, *Z0, steps=500, paths=2)
    assert found.tail <= 1e-8
    assert abs(found.total - gap) <= found.tail + 1e-9 * abs(gap)
    short = sources(run, *Z0, steps=60, paths=2)
    assert 1e-6 < abs(short.total - gap) <= short.tail  # the bound of a short horizon


def test_where_the_problem_ends_the_exit_value_counts_and_nothing_after():
    """Pushed out of the box: the return is a finite sum with the exit value, known to round-off."""
    problem = integrator(0.0, exit="absorb", exit_value=lambda x: -3 - x[0])
    run = trained(problem, lambda x: 1.0 + 0 * x[..., :1])
    path = rc.simulate(problem, lambda x: 1.0 + 0 * x[..., :1], [0.5, 0.5], 100)
    assert not path.alive[0, -1]
    found = sources(run, [0.5, 0.5], [1.0], steps=100, paths=2)
    assert found.tail == 0
    assert found.total == pytest.approx(float(run.Q([0.5, 0.5], [1.0])) - path.returns[0], abs=1e-10)
    np.testing.assert_array_equal(found.alive[0], path.alive[0, :-1])
    assert np.all(found.contribution[~found.alive] == 0)
    with pytest.raises(rc.InputError, match="`x` must be a state in which the problem goes on"):
        sources(run, [50.0, 0.0], [1.0])


def test_the_residual_is_that_of_the_kernel(lqr):
    run, _ = lqr
    found = sources(run, *Z0, steps=4, paths=3)
    x, u = found.x[1, 2], found.u[1, 2]
    nodes, weights = run.problem.plant.law.quadrature(9)
    ahead = run.problem.transition(x, u, nodes)
    expected = run.Q(x, u) - run.problem.reward(x, u) - 0.95 * weights @ run.Q(ahead, run.policy(ahead))
    assert found.residual[1, 2] == pytest.approx(expected, abs=1e-12)
    assert found.contribution[1, 2] == pytest.approx(0.95**2 * found.residual[1, 2])


@pytest.mark.parametrize("bad", [{"steps": 1}, {"paths": 0}, {"x": [[1.0, 0.0]]}])
def test_bad_input_is_refused_by_name(lqr, bad):
    with pytest.raises(rc.InputError, match=f"`{next(iter(bad))}`"):
        sources(lqr[0], **({"x": Z0[0], "u": Z0[1]} | bad))


def with_data(run, z):
    """The training as if its last snapshot held the points z."""
    memory = run.snapshots.memory
    t = memory.t._replace(weight=np.ones((1, len(z))))
    return replace(run, snapshots=replace(run.snapshots, memory=replace(memory, z=z[None], t=t)))


def pendulum():
    reward = lambda x, u: -(1 - ca.cos(x[0]) + 0.01 * x[1] ** 2 + 0.01 * u[0] ** 2)
    problem = rc.Problem(plants.pendulum(noise=0.3), reward, gamma=0.9, dt=0.05)
    return trained(problem, lambda x: -1.0 * x[..., 1:])


@pytest.fixture(scope="module")
def swinging():
    return pendulum()


def drawn(run, count, seed):
    """Independent points of the occupancy: one of each path."""
    z, weight = occupancy(run, count, 66, seed)
    rng, z = np.random.default_rng(seed), z.reshape(count, 66, -1)
    weight = weight[:66] / weight[:66].sum()
    return z[np.arange(count), rng.choice(66, count, p=weight)]


def test_data_drawn_from_the_occupancy_cover_it(swinging):
    found = coverage(with_data(swinging, drawn(swinging, 3000, 7)), paths=500)
    assert 0.03 <= found.share <= 0.07
    assert found.weight.sum() == pytest.approx(1)
    assert "covered" in found.verdict


def test_data_from_a_corner_do_not(swinging):
    corner = np.random.default_rng(0).uniform([2.9, 7.5, 0.9], [3.1, 8.0, 1.0], (500, 3))
    found = coverage(with_data(swinging, corner))
    assert found.share > 0.97
    assert found.share == pytest.approx(found.weight[found.lacks].sum())
    assert "lacks data" in found.verdict


def test_the_way_round_is_the_shorter_one(swinging):
    """Data at θ just below π are near points just above −π, and the verdict names the place that lacks them."""
    z = drawn(swinging, 3000, 7)
    seam = z[np.abs(z[:, 0]) > np.pi - 0.1]
    found = coverage(with_data(swinging, np.where([True, False, False], np.pi - 0.05, seam)), paths=50)
    near = np.abs(found.z[:, 0]) > np.pi - 0.02
    low = near & (found.z[:, 0] < 0)
    assert np.median(found.distance[low]) < 0.1
    half = coverage(with_data(swinging, z[np.abs(z[:, 0]) > 0.8]), paths=100)
    assert half.share > 0.1
    assert "theta near" in half.verdict
    assert np.all(np.abs(half.worst[0, 0]) < 0.8)


def test_the_worst_points_are_well_apart_the_shorter_way_round():
    z = np.array([[0.02, 0.5], [0.98, 0.5], [0.5, 0.5], [0.02, 0.9], [0.5, 0.1]])
    distance = np.array([0.3, 0.29, 0.2, 0.1, 0.0])  # the last has data
    assert _worst(z, np.array([True, False]), distance) == [0, 2, 3]
    assert _worst(z, np.array([False, False]), distance) == [0, 1, 2, 3]


def test_the_worst_points_lack_data(swinging):
    z = drawn(swinging, 3000, 7)
    found = coverage(with_data(swinging, z[np.abs(z[:, 0]) > 0.1]), paths=100)
    places = [np.flatnonzero(np.all(found.z == worst, axis=1))[0] for worst in found.worst]
    assert 1 <= len(places) <= 5
    assert np.all(found.lacks[places])


def test_where_data_cover_all_there_is_no_worst_point(swinging):
    z = occupancy(swinging, 20, 66, 0)[0]
    found = coverage(with_data(swinging, z), paths=20, steps=66)
    assert found.share == 0
    assert found.worst.shape == (0, 3)
    assert len(found.plot()[1]) == 4


def test_shares_are_written_in_full(swinging):
    lost = coverage(with_data(swinging, [[3.1, 7.99, 1.0], [3.1, 8.0, 1.0]] * np.ones((2, 3))), paths=20)
    assert lost.share == pytest.approx(1)
    assert lost.verdict.startswith("100 % of where")


@pytest.mark.parametrize("bad", [{"quantile": 2}, {"paths": 0}, {"steps": 0}])
def test_bad_options_of_coverage_are_refused_by_name(swinging, bad):
    with pytest.raises(rc.InputError, match=f"`{next(iter(bad))}`"):
        coverage(swinging, **bad)


def test_data_of_one_point_are_refused(swinging):
    with pytest.raises(rc.InputError, match="two distinct transitions"):
        coverage(with_data(swinging, np.ones((5, 3))))


def test_wider_networks_leave_less():
    problem = rc.Problem(plants.pendulum(), lambda x, u: -(1 - ca.cos(x[0]) + 0.01 * x[1] ** 2 + 0.1 * u[0] ** 2), gamma=0.9, dt=0.05)
    reference = rc.solve(problem, rc.GridDP(shape=(31, 31)))
    found = width_study(reference, rc.Critic(), widths=(2, 4, 8, 16), points=512, starts=1, iterations=30)
    assert np.all(found.rms[1:] <= 1.05 * found.rms[:-1])
    assert np.all(np.diff(found.fit_rms) <= 0)
    assert np.all(found.sup >= found.rms)
    assert found.rms[-1] < 0.1 * found.spread
    assert 0.3 < found.rate < 3
    np.testing.assert_array_equal(found.weights, found.widths * 6)  # affine in sin θ, cos θ, ω, τ, 1, and an output weight


def test_a_widened_network_is_the_same_function():
    plant = plants.double_integrator()
    narrow, wide = (rc.Critic(hidden=h).network(plant) for h in (3, 5))
    omega, fresh = (np.asarray(net.initial(jax.random.key(1), 1.0)) for net in (narrow, wide))
    z = np.random.default_rng(0).uniform(-1, 1, (20, 3))
    np.testing.assert_allclose(wide.value(_widened(wide, omega, fresh), z), narrow.value(omega, z), atol=1e-14)


def test_a_network_that_holds_q_star_has_no_rate():
    reference = rc.solve(integrator(0.1), rc.Riccati())
    found = width_study(reference, rc.Critic(activation="square", features="affine"), widths=(4, 8), points=128, starts=2, iterations=60)
    assert np.all(found.rms <= 1e-9 * found.spread)
    assert np.isnan(found.rate)


@pytest.mark.parametrize(
    "bad", [{"widths": (8, 4)}, {"widths": (2.5, 4)}, {"widths": (2.0,)}, {"points": 2}, {"critic": rc.Critic(hidden=())}]
)
def test_bad_widths_are_refused_by_name(lqr, bad):
    with pytest.raises(rc.InputError, match=f"`{next(iter(bad))}`"):
        width_study(lqr[1], **({"critic": rc.Critic()} | bad))


def test_e_star_of_the_lqr_is_its_closed_form():
    """Policy u = −Kx + δ: γ(V* − Q*) = γ δᵀ(R + γBᵀPB)δ. Noise: V* is quadratic, X_+ normal."""
    problem = integrator(0.1)
    reference = rc.solve(problem, rc.Riccati())
    found = e_star(reference, {"π*": reference.policy, "shifted": lambda x: reference.policy(x) + 0.3}, points=256)
    P = -0.5 * hessian(reference.V, 2)
    curvature = -0.5 * hessian(lambda z: reference.Q(z[..., :2], z[..., 2:]), 3)[2, 2]
    assert np.max(np.abs(found.policy["π*"])) <= 1e-12 + found.residual
    assert found.residual <= 1e-12
    np.testing.assert_allclose(found.policy["shifted"], 0.95 * curvature * 0.3**2, rtol=1e-9)
    mean, covariance = problem.moments(found.z[:, :2], found.z[:, 2:])
    S = P @ covariance[0]
    square = 4 * np.einsum("ni,ij,nj->n", mean, S @ P, mean) + 2 * np.trace(S @ S)
    np.testing.assert_allclose(found.noise, 0.95 * np.sqrt(square), rtol=1e-9)


def hessian(function, size):
    """Of a quadratic function, exactly: second differences with steps of 1."""
    e = np.eye(size)
    f = lambda *steps: function(np.sum([np.zeros(size), *steps], axis=0))
    return np.array([[f(a, b) - f(a) - f(b) + f() for b in e] for a in e])


def test_e_star_of_a_grid_is_zero_for_its_own_policy_up_to_its_residual(swinging):
    reference = rc.solve(swinging.problem, rc.GridDP(shape=(31, 31)))
    found = e_star(reference, {"π*": reference.policy, "trained": swinging.policy}, points=128)
    assert np.max(np.abs(found.policy["π*"])) <= found.residual
    assert np.min(found.policy["trained"]) >= -found.residual
    assert found.summary()["policy trained"]["rms"] > 3 * found.summary()["policy π*"]["rms"]
    assert "policy trained" in found.table()


def test_where_the_problem_ends_no_policy_errs():
    problem = integrator(0.0, exit="absorb", exit_value=lambda x: -3 - x[0])
    reference = rc.solve(problem, rc.GridDP(shape=(41, 41)), on_failure="return")
    found = e_star(reference, {"zero": lambda x: 0 * x[..., :1]}, points=256)
    x, u = found.z[:, :2], found.z[:, 2:]
    ends = np.asarray(problem.kernel.ended(problem.transition(x, u, np.zeros((256, problem.plant.law.q)))))
    assert ends.any()
    assert np.all(found.policy["zero"][ends] == 0)
    assert np.max(found.noise) <= 1e-12


@pytest.mark.parametrize("policies", [{1: lambda x: 0 * x[:, :1]}, {}, [lambda x: 0 * x[:, :1]]])
def test_policies_of_e_star_must_have_names(lqr, policies):
    with pytest.raises(rc.InputError, match="`policies` must be a dictionary"):
        e_star(lqr[1], policies)


def walk(reward, target=lambda x: 0.8 - x[0]):
    plant = rc.Plant(
        "walk",
        [rc.Signal("x", "m", -1, 1)],
        [rc.Signal("u", "1", -1, 1)],
        update=lambda x, u, w, p: x + 0.15 * u + 0.1 * w,
        noise=rc.Uniform(1),
    )
    return rc.Problem(plant, reward, gamma=0.5, target=target, exit_value=lambda x: -2 + 0 * x[0])


def test_what_ended_states_would_have_paid_changes_nothing():
    """The reward at x ≥ 0.8 is never received, so nothing measured may depend on it."""
    found = []
    for extra in (1, 9):  # of one structure, so compiled once
        problem = walk(lambda x, u, extra=extra: -1 - extra * (x[0] >= 0.8) - 0.1 * u[0] ** 2)
        reference = rc.solve(problem, rc.GridDP(shape=(41,)))
        run = rc.train(problem, rc.Critic(hidden=2), reference.policy, rc.ReplayTD(memory=40, uniform=0.5, snapshots=3), steps=100)
        parts = rc.decompose(run, reference, points=64, starts=0, iterations=10)
        widths = width_study(reference, rc.Critic(), widths=(2,), points=64, starts=1, iterations=5)
        star = e_star(reference, {"still": lambda x: 0 * x}, points=64)
        scored = score(problem, reference, run.Q, run.policy, points=32, steps=4, paths=1, inputs=3)
        assert np.all(parts.z[:, 0] < 0.8)
        assert len(parts.z) == 64
        numbers = [parts.relative_error, parts.reference_residual, *parts.e_q, *widths.rms, *star.policy["still"], star.residual]
        found.append([*numbers, *scored.uniform.values(), *scored.visited.values()])
    np.testing.assert_array_equal(*found)


def test_points_without_ends_are_those_of_sobol(lqr):
    from scipy.stats import qmc

    problem = lqr[0].problem
    signals = (*problem.plant.states, *problem.plant.inputs)
    unit = qmc.Sobol(3, rng=4).random_base2(5)[:20]
    low, high = np.array([[s.low, s.high] for s in signals]).T
    np.testing.assert_array_equal(uniform_points(signals, problem.kernel, 20, 4), low + (high - low) * unit)


def test_living_points_are_drawn_on_until_there_are_enough():
    problem = walk(lambda x, u: -1 - u[0] ** 2, target=lambda x: x[0] + 0.9)  # a twentieth of the box goes on
    signals = (*problem.plant.states, *problem.plant.inputs)
    z = uniform_points(signals, walk(lambda x, u: -1 - u[0] ** 2, target=lambda x: 0.9 - x[0]).kernel, 100, 0)
    assert z.shape == (100, 2)
    assert np.all(z[:, 0] < 0.9)
    z = uniform_points(signals, walk(lambda x, u: -1 - u[0] ** 2, target=lambda x: -0.9 - x[0]).kernel, 100, 0)
    assert z.shape == (100, 2)
    assert np.all(z[:, 0] < -0.9)
    with pytest.raises(rc.InputError, match="`target` must leave states of the box in which the problem goes on"):
        uniform_points(signals, walk(lambda x, u: -1 - u[0] ** 2, target=lambda x: -1 + 0 * x[0]).kernel, 100, 0)


def test_e_q_of_a_constant_q_star_has_no_rate():
    problem = rc.Problem(walk(lambda x, u: 0 * x[0]).plant, lambda x, u: -1 + 0 * x[0], gamma=0.5)
    found = width_study(rc.solve(problem, rc.GridDP(shape=(11,))), rc.Critic(), widths=(1, 2), points=16, starts=1, iterations=3)
    assert np.isnan(found.spread)
    assert np.isnan(found.rate)
    assert "nan" in found.table()
    found.plot()
