"""Targets, update rules, data, actor and checkpoints of a training: identities, slow loops written out, bias where theory says so."""

import copy
import re
import subprocess
import sys
import time
from dataclasses import replace

import casadi as ca
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import plants
import rlctrl as rc
from rlctrl.casadi_jax import JaxFunction
from rlctrl.critic.actor import first_actor_state, improved
from rlctrl.critic.checkpoint import Checkpoint
from rlctrl.critic.features import feature_map
from rlctrl.critic.loop import advance
from rlctrl.critic.network import CriticQ
from rlctrl.critic.rules import normal_equations
from rlctrl.critic.td import Objective, Transitions, data_vector, mean_coefficients, replay_gradient, td_errors
from rlctrl.critic.train import _loop
from rlctrl.interop.casadi_export import as_casadi
from rlctrl.maximise import input_set
from rlctrl.policy import GreedyPolicy
from rlctrl.reference.exact import ClosedPolicy

PLANT, SPRING = plants.pendulum(), plants.double_integrator()
SIGNALS = PLANT.states + PLANT.inputs


def problem(noise=0.3, **options):
    return rc.Problem(plants.double_integrator(noise=noise), rc.quadratic([0.1, 0.01], [0.01]), gamma=0.95, dt=0.1, exit="free", **options)


@pytest.fixture(scope="module")
def lqr():
    return rc.solve(problem(), rc.Riccati())


def batch(successors=2, hidden=5, count=7, seed=0):
    network = rc.Critic(hidden=hidden).network(PLANT)
    rng = np.random.default_rng(seed)
    z = rng.uniform(-3, 3, (count, 1 + successors, 3))
    share = rng.dirichlet(np.ones(successors), count) if successors != 2 else np.full((count, 2), 0.5)
    gamma = rng.uniform(0, 1, (count, successors))
    t = Transitions(network.features(z), rng.normal(size=(count, successors)), gamma, share, np.ones(count))
    return network, network.initial(jax.random.key(1), 1.0), t


# --- gradients ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [2, 1, 0])
@pytest.mark.parametrize("semi", [False, True])
@pytest.mark.parametrize("successors", [1, 2, 3, 6])
def test_gradient_of_the_mean_error_is_the_slow_sum(exponent, semi, successors):
    network, omega, t = batch(successors)
    mean = lambda w, j: jnp.sum(t.share[j] * td_errors(network, w, t)[j])
    value = lambda w, j: network.layers(w, t.phi[j, 0])[0]
    slow = 0
    for j in range(len(t.weight)):
        v = jax.grad(value if semi else mean)(omega, j)
        slow = slow + v * mean(omega, j) / (v @ v + 1) ** exponent
    fast, _ = replay_gradient(network, omega, t, Objective(semi, False, exponent))
    assert np.max(np.abs(fast - slow)) <= 1e-12 * np.max(np.abs(slow))


@pytest.mark.parametrize("hidden", [5, (4, 3), ()])
def test_double_sample_gradient_is_that_of_the_product(hidden):
    network, omega, t = batch(2, hidden)
    product = lambda w: 0.5 * jnp.sum(jnp.prod(td_errors(network, w, t), -1))
    fast, _ = replay_gradient(network, omega, t, Objective(False, True, 0))
    assert np.allclose(fast, jax.grad(product)(omega), rtol=1e-12, atol=1e-12)


def test_held_weights_enter_the_successors_only():
    network, omega, t = batch(1)
    held = omega + 0.1
    fast, e = replay_gradient(network, omega, t, Objective(True, False, 0), held)
    q, ahead = network.layers(omega, t.phi[:, 0])[0], network.layers(held, t.phi[:, 1])[0]
    expected = q - t.r[:, 0] - t.gamma[:, 0] * ahead
    assert np.allclose(e, expected, atol=1e-13)
    assert np.allclose(fast, network.derivative(omega, t.phi[:, 0]).T @ expected, atol=1e-12)


def test_data_vector_is_the_combination_of_slopes():
    network, omega, t = batch(3)
    slopes = network.derivative(omega, t.phi)
    assert np.allclose(data_vector(network, omega, t), jnp.einsum("mk,mkp->mp", mean_coefficients(t), slopes), atol=1e-12)


# --- features -----------------------------------------------------------------------------------------------------------------------------


def test_fourier_features_are_waves_periodic_in_the_angle():
    phi = feature_map("fourier", 2, SIGNALS)
    z = np.array([0.7, 3.0, -1.0])
    assert phi(z).shape == (phi.size,)
    assert np.allclose(phi(z), phi(z + np.array([2 * np.pi, 0, 0])), atol=1e-12)
    assert float(phi(z)[0]) == 1.0  # the constant
    rng = np.random.default_rng(0)
    values = np.asarray(phi(rng.uniform([-np.pi, -8, -5], [np.pi, 8, 5], (4000, 3))))
    assert np.linalg.matrix_rank(values) == phi.size  # no two alike


def test_user_features_are_used_and_refused_by_name():
    mine = lambda z: jnp.stack([jnp.ones_like(z[..., 0]), z[..., 1] ** 2], -1)
    network = rc.Critic(hidden=(), features=mine).network(PLANT)
    assert float(network.value(jnp.array([2.0, 3.0]), np.array([0.0, 2.0, 0.0]))) == 14.0
    with pytest.raises(rc.InputError, match="`features`"):
        rc.Critic(hidden=3, features=lambda z: float(z[0])).network(PLANT)


# --- targets ------------------------------------------------------------------------------------------------------------------------------


def trained(lqr, steps=60, policy=None, hidden=6, seed=0, **scheme):
    scheme = {"memory": 40, "snapshots": 5, "exploration": 0.4, "restart": 10, **scheme}
    critic = rc.Critic(hidden=hidden, features="affine")
    return rc.train(problem(), critic, policy or lqr.policy, rc.ReplayTD(**scheme), steps=steps, seed=seed)


SCHEMES = {
    "notes": {},
    "double": {"target": "double"},
    "expected, three steps": {"target": "expected", "horizon": 3, "quadrature": 3},
    "semi, five steps": {"gradient": "semi", "refresh": 4, "horizon": 5},
    "antithetic, three steps": {"target": "antithetic", "horizon": 3},
    "double semi": {"target": "double", "gradient": "semi", "normaliser": 1, "rate": 0.01},
    "batch without normaliser": {"batch": 16, "sampling": "prioritised", "normaliser": 0, "rate": 1e-3},
    "measured, parallel and uniform": {"rate": "measured", "plants": 4, "uniform": 0.5},
}


@pytest.mark.parametrize("name", list(SCHEMES))
def test_every_identity_holds_for_every_scheme(name, lqr):
    """T12, T15, T17 and the budget to 1e-10; e* is its definition; n-step errors telescope."""
    run = trained(lqr, **SCHEMES[name])
    d = rc.decompose(run, lqr, points=128, starts=0, iterations=10)
    assert d.identity_residual <= 1e-10
    assert d.step_identity_residual <= 1e-10
    assert np.max(d.terms.gradient_gap) <= 1e-10
    assert d.budget.residual <= 1e-10
    assert d.budget.rms["remainder"] <= 1e-8 * max(d.budget.rms.values())
    assert sum(d.budget.shares.values()) == pytest.approx(1, abs=1e-6)
    assert np.max(np.abs(d.e_star_policy)) <= 1e-12  # p^θ = π*, however many steps


def test_n_step_return_is_the_discounted_sum_along_the_way(lqr):
    run = trained(lqr, horizon=4, steps=5)
    memory, p = run.snapshots.memory, run.problem
    z, path, t = memory.z[-1, 0], memory.path[-1, 0, 0], memory.t
    points = np.vstack([z, path])
    rewards = [p.reward(point[:2], point[2:]) for point in points[:-1]]
    assert float(t.r[-1, 0, 0]) == pytest.approx(sum(0.95**k * r for k, r in enumerate(rewards)), rel=1e-13)
    assert float(t.gamma[-1, 0, 0]) == pytest.approx(0.95**4)
    assert np.allclose(path[:, 2:], lqr.policy(path[:, :2]), atol=1e-13)  # only the first input is explored


def test_expected_target_has_no_noise_term(lqr):
    run = trained(lqr, target="expected")
    d = rc.decompose(run, lqr, points=64, starts=0, iterations=3)
    assert np.max(np.abs(d.e_star_noise)) <= 1e-10  # quadratic V*, so five nodes are exact
    assert np.max(np.abs(rc.decompose(trained(lqr), lqr, points=64, starts=0, iterations=3).e_star_noise)) > 1e-2


def test_full_gradient_is_biased_by_noise_where_expected_is_not():
    """min E e² = (E e)² + Var e: with sampled targets the critic flattens Q̂, with expected ones it finds Q*."""
    basis = lambda z: jnp.stack([jnp.ones_like(z[..., 0]), *(z[..., i] * z[..., j] for i in range(3) for j in range(i, 3))], -1)
    base = {"memory": 4000, "renew": 4000, "normaliser": 0, "snapshots": 2, "restart": 10, "exploration": 0.4}
    noisy = problem(noise=1.0)
    reference = rc.solve(noisy, rc.Riccati())
    error = {}
    for name, scheme in {
        "sample": {"update": "gauss-newton"},
        "expected": {"update": "gauss-newton", "target": "expected"},
    }.items():
        run = rc.train(noisy, rc.Critic(hidden=(), features=basis), reference.policy, rc.ReplayTD(**base, **scheme), steps=60)
        z = np.random.default_rng(0).uniform(-1, 1, (500, 3))
        gap = run.Q(z[:, :2], z[:, 2:]) - reference.Q(z[:, :2], z[:, 2:])
        error[name] = float(np.std(gap) / np.std(reference.Q(z[:, :2], z[:, 2:])))
    assert error["expected"] <= 1e-6
    assert error["sample"] >= 0.02


# --- update rules -------------------------------------------------------------------------------------------------------------------------


def test_gauss_newton_solves_a_linear_critic_at_once():
    basis = lambda z: jnp.stack([jnp.ones_like(z[..., 0]), *(z[..., i] * z[..., j] for i in range(3) for j in range(i, 3))], -1)
    scheme = rc.ReplayTD(memory=200, renew=200, normaliser=0, update="gauss-newton", snapshots=60)
    quiet = problem(noise=0.0)
    reference = rc.solve(quiet, rc.Riccati())
    run = rc.train(quiet, rc.Critic(hidden=(), features=basis), reference.policy, scheme, steps=60)
    t = jax.tree.map(lambda a: a[-1], run.snapshots.memory.t)
    d = t.phi[:, 0] - t.gamma * t.phi[:, 1]
    direct = np.linalg.lstsq(d, t.r[:, 0], rcond=None)[0]
    assert np.max(np.abs(run.weights - direct)) <= 1e-7 * np.max(np.abs(direct))
    assert run.snapshots.accepted[0] == 1


@pytest.mark.parametrize("rule", ["momentum", "adam"])
def test_momentum_and_adam_are_their_recursions(rule, lqr):
    run = trained(lqr, update=rule, rate=0.01, snapshots=30, steps=30, exploration=0.0)
    s = run.snapshots
    first = second = 0
    for k in range(30):
        gradient = np.asarray(replay_gradient(run.network, s.omega[k], jax.tree.map(lambda a, k=k: a[k], s.memory.t))[0])
        if rule == "momentum":
            first = 0.9 * first + gradient
            step = first
        else:
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            step = first / (1 - 0.9 ** (k + 1)) / (np.sqrt(second / (1 - 0.999 ** (k + 1))) + 1e-8)
        assert np.max(np.abs(s.omega[k] - 0.01 * step - s.omega_next[k])) <= 1e-12


def test_measured_rate_is_the_inverse_of_the_largest_eigenvalue(lqr):
    run = trained(lqr, rate="measured")
    s = run.snapshots
    assert s.rate[0] == 4 / 40
    for k in range(len(s.step) - 1):
        t = jax.tree.map(lambda a, k=k: a[k], s.memory.t)
        d = np.asarray(data_vector(run.network, s.omega_next[k], t))
        A = (t.weight[:, None] * d / ((d**2).sum(1, keepdims=True) + 1) ** 2).T @ d
        assert s.rate[k + 1] == pytest.approx(1 / np.linalg.eigvalsh(A)[-1], rel=1e-10)


# --- data ---------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [[3], [3, 5, 8, 13]])
def test_several_seeds_are_the_single_ones(lqr, seeds):
    together = trained(lqr, seed=seeds)
    assert len(together) == len(seeds)
    for run, seed in zip(together, seeds, strict=True):
        assert np.allclose(run.weights, trained(lqr, seed=seed).weights, rtol=0, atol=1e-10)


def test_every_seed_begins_with_an_actor_of_its_own(lqr):
    actor = rc.Actor(hidden=4, improve="gradient")
    together = trained(lqr, policy=actor, seed=[3, 5])
    for run, seed in zip(together, (3, 5), strict=True):
        assert np.allclose(run.policy.theta, trained(lqr, policy=actor, seed=seed).policy.theta, rtol=0, atol=1e-8)
    first, second = (run.snapshots.theta[0] for run in together)
    assert np.max(np.abs(first - second)) > 0.01


def test_uniform_share_and_parallel_plants_fill_the_memory(lqr):
    run = trained(lqr, plants=5, uniform=1.0, steps=8)
    assert run.snapshots.memory.t.weight[-1].sum() == 40
    assert np.abs(run.snapshots.memory.z[-1][:, 2]).max() > 4  # inputs from all of the box ±5
    drawn = trained(lqr, renew=10, steps=20)
    assert drawn.snapshots.memory.t.weight.min() == 1


def test_prioritised_sampling_prefers_large_errors_and_weighs_them_down(lqr):
    run = trained(lqr, batch=500, memory=100, sampling="prioritised", steps=300, rate=1e-3)
    t = jax.tree.map(lambda a: a[-1], run.snapshots.memory.t)
    e = np.abs(np.sum(t.share * np.asarray(td_errors(run.network, run.snapshots.omega[-1], t)), -1))
    plain = trained(lqr, batch=500, memory=100, steps=300, rate=1e-3)
    tp = jax.tree.map(lambda a: a[-1], plain.snapshots.memory.t)
    ep = np.abs(np.sum(tp.share * np.asarray(td_errors(plain.network, plain.snapshots.omega[-1], tp)), -1))
    assert e.mean() > 1.1 * ep.mean()
    assert np.corrcoef(e, t.weight)[0, 1] < 0
    assert t.weight.mean() == pytest.approx(1, abs=0.25)


def test_policies_are_not_clipped_without_exploration():
    steep = lambda x: -40.0 * x[..., :1]
    run = rc.train(problem(), rc.Critic(hidden=3), steep, rc.ReplayTD(memory=40, exploration=0.0), steps=40)
    assert np.abs(run.snapshots.memory.z[-1][:, 2]).max() > 5


# --- theory -------------------------------------------------------------------------------------------------------------------------------


def test_shallow_critic_never_violates_t18_and_has_no_outer_radius():
    basis = lambda z: jnp.stack([0.4 * z[..., 0], 0.4 * z[..., 1], 0.4 * z[..., 2]], -1)
    quiet = problem(noise=0.05)
    reference = rc.solve(quiet, rc.Riccati())
    run = rc.train(quiet, rc.Critic(hidden=(), features=basis), reference.policy, rc.ReplayTD(memory=64, snapshots=50), steps=2000)
    b = rc.decompose(run, reference, starts=0, points=256).bounds
    assert b.violations == 0
    assert b.kappa == 0
    assert np.all(b.r_out == np.inf)
    assert np.all(b.change <= b.allowed_measured + 1e-12)
    assert np.all(b.c_theory > 0)


def test_deep_critic_without_full_rank_never_violates_t18():
    """R sees the silent part of ω̃ too. Q* is a square of two units here, without noise: nothing but R is left to violate it."""
    quiet = problem(noise=0.0)
    reference = rc.solve(quiet, rc.Riccati())
    critic, scheme = rc.Critic(hidden=4, activation="square", features="affine", scale=0.5), rc.ReplayTD(memory=1, rate=1.0, snapshots=150)
    for run in rc.train(quiet, critic, reference.policy, scheme, steps=300, seed=range(3)):
        d = rc.decompose(run, reference, points=64, starts=2, iterations=200)
        assert d.best_fit_relative_error <= 1e-10
        assert d.bounds.violations == 0
        between = (d.bounds.norm > d.bounds.r_in) & (d.bounds.norm < d.bounds.r_out)
        assert np.all(d.bounds.change[between] <= 0)


def test_t18_with_nothing_left_over_contracts_at_the_measured_rate():
    """Exact basis, no noise, π*: b = q = 0, so ‖ω̃‖² falls at least by c."""
    quiet = problem(noise=0.0)
    reference = rc.solve(quiet, rc.Riccati())
    basis = lambda z: jnp.stack([z[..., i] * z[..., j] for i in range(3) for j in range(i, 3)], -1)
    run = rc.train(quiet, rc.Critic(hidden=(), features=basis), reference.policy, rc.ReplayTD(memory=64, snapshots=40), steps=400)
    b = rc.decompose(run, reference, starts=0, points=256).bounds
    assert b.error_sup <= 1e-9
    full = b.rank == 6
    assert full.any()
    assert np.all(b.c_observed[full] >= b.c_measured[full] * (1 - 1e-6))


def test_rows_that_count_for_more_count_in_the_bounds(lqr):
    """Importance weights may add up to more than M: T18's M is their sum."""
    run = trained(lqr, batch=3, memory=200, sampling="prioritised", steps=300)
    mass = run.snapshots.memory.t.weight.sum(1)
    assert mass.max() > 3.2
    b = rc.decompose(run, lqr, points=64, starts=0, iterations=5).bounds
    np.testing.assert_allclose(b.c_theory, run.snapshots.rate * b.epsilon * (2 - run.snapshots.rate * mass / 4), rtol=1e-12)


# --- checkpoint and divergence ------------------------------------------------------------------------------------------------------------


def test_resumed_training_equals_the_uninterrupted_one_bit_for_bit(tmp_path, lqr, monkeypatch):
    monkeypatch.setattr("rlctrl.critic.checkpoint.INTERVAL", 0.0)
    kept = tmp_path / "run.npz"
    whole = trained(lqr, policy=rc.Actor(hidden=4), steps=60)

    class Killed(Exception):
        pass

    write, calls = Checkpoint.write, []

    def dying(self):
        write(self)
        calls.append(1)
        if len(calls) == 2:
            raise Killed

    monkeypatch.setattr(Checkpoint, "write", dying)
    critic, scheme = whole.critic, whole.scheme
    train = lambda: rc.train(problem(), critic, rc.Actor(hidden=4), scheme, steps=60, checkpoint=kept)
    with pytest.raises(Killed):
        train()
    monkeypatch.setattr(Checkpoint, "write", write)
    again = train()
    assert np.array_equal(again.weights, whole.weights)
    for a, b in zip(jax.tree.leaves(vars(again.snapshots)), jax.tree.leaves(vars(whole.snapshots)), strict=True):
        assert np.array_equal(a, b)
    with pytest.raises(rc.InputError, match="`checkpoint` must belong to this run"):
        rc.train(problem(), critic, rc.Actor(hidden=4), scheme, steps=60, checkpoint=kept, seed=[0])
    with pytest.raises(rc.InputError, match="`checkpoint` must belong to this run"):
        rc.train(problem(), critic, rc.Actor(hidden=5), scheme, steps=60, checkpoint=kept)
    plant = problem().plant
    weak = replace(plant, inputs=[replace(plant.inputs[0], low=-0.1, high=0.1)])
    with pytest.raises(rc.InputError, match="`checkpoint` must belong to this run"):
        rc.train(problem()._with_plant(weak), critic, rc.Actor(hidden=4), scheme, steps=60, checkpoint=kept)


def law(expression):
    """A policy as a CasADi expression of x."""
    x = ca.SX.sym("x", 2)
    return ClosedPolicy(JaxFunction(ca.Function("law", [x], [expression(x)]), (1,)))


def gained(gain):
    """A policy as a function of Python."""
    return lambda x: gain * x[..., :1]


FIRST, SECOND = (law(lambda x, k=k: -x[k]) for k in (0, 1))
GREEDY = [
    GreedyPolicy(CriticQ(rc.Critic(hidden=2, activation=name).network(SPRING), np.ones(10)), input_set(SPRING.inputs, 3))
    for name in ("tanh", "softplus")
]


@pytest.mark.parametrize(
    ("policy", "other"),
    [
        (FIRST, SECOND),
        (law(lambda x: -2 * x[0]), law(lambda x: -3 * x[0])),
        (FIRST.clipped(-1, 1), SECOND.clipped(-1, 1)),
        GREEDY,
        (gained(-1.0), gained(-2.0)),
    ],
)
def test_a_checkpoint_belongs_to_all_of_its_policy(tmp_path, policy, other):
    """Made anew, as in another process, it is the same policy; another structure or constant makes another."""
    train = lambda policy: rc.train(problem(), rc.Critic(hidden=3), policy, rc.ReplayTD(memory=4), steps=4, checkpoint=tmp_path / "run.npz")
    train(policy)
    train(copy.deepcopy(policy))
    with pytest.raises(rc.InputError, match="`checkpoint` must belong to this run"):
        train(other)


def test_functions_written_anew_compile_nothing_unless_their_numbers_changed():
    def weights(scale):
        critic = rc.Critic(hidden=(), features=lambda z: scale * jnp.concatenate([z, z**2], -1))
        return rc.train(problem(), critic, gained(-scale), rc.ReplayTD(memory=4), steps=4).weights

    found, compiled = [], []
    for scale in (1.0, 1.0, 2.0):
        found.append(weights(scale))
        compiled.append(advance._cache_size())
    assert compiled[0] == compiled[1] < compiled[2]
    np.testing.assert_array_equal(found[0], found[1])
    assert np.max(np.abs(found[2] - found[0])) > 1e-3


KILLED = """
import sys, rlctrl as rc, plants
import rlctrl.critic.checkpoint as c
c.INTERVAL = 0.0
problem = rc.Problem(plants.double_integrator(noise=0.3), rc.quadratic([0.1, 0.01], [0.01]), gamma=0.95, dt=0.1, exit="free")
scheme = rc.ReplayTD(memory=40, snapshots=50)
run = rc.train(problem, rc.Critic(hidden=6), lambda x: -x[..., :1], scheme, steps=20_000, checkpoint=sys.argv[1])
print(run.weights.sum().hex())
"""


@pytest.mark.slow
def test_a_killed_training_leaves_a_readable_file_and_goes_on(tmp_path):
    first, second = tmp_path / "a.npz", tmp_path / "b.npz"
    whole = subprocess.run([sys.executable, "-c", KILLED, str(first)], capture_output=True, text=True, check=True).stdout
    for wait in (0.05, 0.3):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(second)], stdout=subprocess.DEVNULL)
        while not second.exists() and process.poll() is None:
            time.sleep(0.02)
        time.sleep(wait)
        process.kill()
        process.wait()
        with np.load(second) as stored:
            assert int(stored["rows"]) >= 1
    resumed = subprocess.run([sys.executable, "-c", KILLED, str(second)], capture_output=True, text=True, check=True).stdout
    assert resumed == whole


def test_divergence_stops_at_once_with_the_last_good_weights(lqr):
    with pytest.raises(rc.NotConverged, match="Training diverged in step") as caught:
        trained(lqr, rate=1e150, steps=200)
    partial = caught.value.partial
    assert np.all(np.isfinite(partial.weights))
    assert not partial.finished
    assert "exceeds 8/M" in partial.message


def test_a_run_that_diverged_does_not_go_on(lqr, tmp_path):
    scheme = rc.ReplayTD(memory=40, rate=1e150)
    seen = []
    for _ in range(2):
        with pytest.raises(rc.NotConverged) as caught:
            rc.train(problem(), rc.Critic(hidden=6), lqr.policy, scheme, steps=200, checkpoint=tmp_path / "run.npz")
        seen.append(caught.value.partial.snapshots.step)
    assert np.array_equal(*seen)


def test_of_several_seeds_all_are_kept_when_one_diverges(lqr):
    with pytest.raises(rc.NotConverged) as caught:
        trained(lqr, rate=1e150, steps=200, seed=[1, 2])
    assert [run.seed for run in caught.value.partial] == [1, 2]
    assert not any(run.finished for run in caught.value.partial)


def test_a_sound_training_that_stops_with_another_seed_says_so():
    """At λ = 1 of eight seeds one diverges."""
    plant = rc.Plant(
        "drift", [rc.Signal("x", "1", -2, 2)], [rc.Signal("u", "1", -1, 1)], drift=lambda x, u, p: -x + u, diffusion=lambda x, u, p: 0.3
    )
    noisy = rc.Problem(plant, lambda x, u: -(x[0] ** 2 + 0.1 * u[0] ** 2), gamma=0.9, dt=0.1)
    with pytest.raises(rc.NotConverged, match=r"Seed \d: Training diverged") as caught:
        rc.train(noisy, rc.Critic(hidden=4), lambda x: -0.5 * x, rc.ReplayTD(memory=64, rate=1.0), steps=4000, seed=range(8))
    said = [run.message for run in caught.value.partial if not run.message.startswith("Training diverged")]
    assert said
    assert all(re.match(r"Stopped after step \d+, as the training of seed \d had to", message) for message in said)


@pytest.mark.parametrize("kind", ["clipped", "mlp"])
@pytest.mark.parametrize("improve", ["greedy", "gradient"])
def test_an_actor_of_an_input_with_one_bound_leaves_it(kind, improve):
    plant = rc.Plant("flow", [rc.Signal("x", "1", -2, 2)], [rc.Signal("u", "1", 1, np.inf)], drift=lambda x, u, p: -x + u)
    goal = rc.Problem(plant, lambda x, u: -((x[0] - 1.5) ** 2) - 0.05 * (u[0] - 1.5) ** 2, gamma=0.9, dt=0.1)
    scheme = rc.ReplayTD(renew=25, memory=128, update="gauss-newton", horizon=5, gradient="semi", refresh=5)
    run = rc.train(goal, rc.Critic(hidden=(), features="polynomial"), rc.Actor(kind, improve=improve, hidden=4), scheme, steps=200)
    u = run.policy(np.linspace(-2, 2, 21)[:, None])
    assert np.min(u) >= 1
    assert np.max(u) > 1.2


@pytest.mark.parametrize(("hidden", "scheme", "said"), [
    (6, {"rate": 8.1 / 40 * 1e150}, "exceeds 8/M"),
    (6, {"rate": 1e3, "normaliser": 0}, "(update 'gradient', gradient 'full', normaliser 0, rate 1000)"),
    (6, {"rate": 1e150, "gradient": "semi"}, "(update 'gradient', gradient 'semi', normaliser 2, rate 1e+150)"),
])  # fmt: skip
def test_divergence_is_put_down_to_t18_where_it_speaks_of_the_scheme(hidden, scheme, said, lqr):
    with pytest.raises(rc.NotConverged) as caught:
        trained(lqr, hidden=hidden, steps=200, **scheme)
    assert said in caught.value.partial.message


def test_gauss_newton_on_a_policy_without_bound_stops_when_its_errors_overflow():
    """Every successor is the upper wall, so the fit of γQ̂ there by a multiple of x grows without end."""
    plant = rc.Plant("out", [rc.Signal("x", "1", 0, 1)], [rc.Signal("u", "1", -1, 1)], update=lambda x, u, w, p: 1e9 * x + 0 * u)
    upward, critic = rc.Problem(plant, lambda x, u: -x[0], gamma=0.99), rc.Critic(hidden=(), features=lambda z: z[..., :1])
    scheme = rc.ReplayTD(memory=64, renew=8, restart=1, update="gauss-newton", gradient="semi", normaliser=0)
    with pytest.raises(rc.NotConverged, match="squared TD errors are not finite"):
        rc.train(upward, critic, lambda x: 0 * x, scheme, steps=3000)


def test_the_verdict_on_a_run_that_diverged_says_so(lqr):
    with pytest.raises(rc.NotConverged) as caught:
        trained(lqr, policy=rc.Actor(kind="linear", improve="gradient", rate=1e308, every=3))
    d = rc.decompose(caught.value.partial, lqr, points=32, starts=1, iterations=3)
    assert d.bounds.verdict.startswith("Training diverged in step")


@pytest.mark.parametrize("scheme", [{"rate": 1e150}, {"rate": 1e3, "normaliser": 0}])
def test_norms_beyond_the_floats_are_refused_in_words(scheme, lqr):
    with pytest.raises(rc.NotConverged) as caught:
        trained(lqr, steps=200, **scheme)
    with pytest.raises(rc.InputError, match=r"`run` must have weights .*whose squares are finite.*Training diverged in step"):
        rc.decompose(caught.value.partial, lqr, points=32, starts=1, iterations=3)


def test_no_update_hides_errors_that_are_no_numbers():
    """Gauss–Newton refuses steps to NaN: the weights stay finite, and the training must stop all the same."""
    undefined = rc.Problem(plants.double_integrator(noise=0.3), lambda x, u: ca.sqrt(x[0] + 1) - u[0] ** 2, gamma=0.95, dt=0.1, exit="free")
    scheme = rc.ReplayTD(memory=40, update="gauss-newton")
    with pytest.raises(rc.NotConverged, match=r"Training stopped in step .*`reward` is no finite number"):
        rc.train(undefined, rc.Critic(hidden=6), lambda x: 0 * x[..., :1], scheme, steps=60)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_an_actor_that_diverges_is_named_and_its_last_good_weights_kept(kind):
    actor = rc.Actor(kind=kind, hidden=4, improve="gradient", rate=1e308, every=3)
    with pytest.raises(rc.NotConverged, match=r"Training diverged in step \d+: the actor's weights are not finite") as caught:
        trained(None, policy=actor)
    partial = caught.value.partial
    assert np.all(np.isfinite(partial.policy.theta))
    assert np.all(np.isfinite(partial.snapshots.theta))
    assert np.all(np.isfinite(partial.weights))


# --- policies -----------------------------------------------------------------------------------------------------------------------------


def test_functions_of_a_batch_are_given_one(lqr):
    """x[:, :1] is as good as x[..., :1], traced or on the host."""
    host = lambda x: np.asarray(x).reshape(-1, 2)[:, :1] * -float(np.ones(1)[0])
    runs = [trained(lqr, policy=policy, plants=3) for policy in (lambda x: -x[:, :1], lambda x: -x[..., :1], host)]
    for run in runs[1:]:
        np.testing.assert_allclose(run.weights, runs[0].weights, rtol=1e-12)


@pytest.mark.parametrize("policy", ["lqr", "critic", "actor"])
def test_a_policy_of_another_plant_is_refused(policy, lqr):
    run = trained(lqr, policy=rc.Actor(hidden=4), steps=20)
    other = rc.Problem(plants.get("acrobot"), rc.quadratic(np.ones(4), [1.0]), gamma=0.9, dt=0.1)
    given = {"lqr": lqr.policy, "critic": run.greedy, "actor": run.policy}[policy]
    for use in (rc.simulate, lambda problem, policy, x0, steps: rc.train(problem, rc.Critic(hidden=3), policy, steps=steps)):
        with pytest.raises(rc.InputError, match=r"`policy` must map states \(batch, 4\) to inputs \(batch, \d\); got 'a \w+Policy of"):
            use(other, given, np.zeros(4), 3)


# --- actor --------------------------------------------------------------------------------------------------------------------------------


def test_actor_kinds_respect_their_saturation():
    key = jax.random.key(0)
    x = np.random.default_rng(0).uniform([-3, -8], [3, 8], (50, 2))
    steep = rc.Actor(kind="clipped", gain=[[100.0, 0.0]]).policy(PLANT, key)
    assert np.allclose(np.abs(steep(x)), np.minimum(5, np.abs(100 * x[:, :1])))
    assert np.allclose(rc.Actor(kind="linear", gain=[[2.0, 1.0]]).policy(PLANT, key)(x), -(x @ [[2.0], [1.0]]))
    assert np.all(np.abs(rc.Actor().policy(PLANT, key)(x)) < 5)


@pytest.mark.parametrize("kind", ["clipped", "mlp"])
def test_an_actor_keeps_the_bounds_that_its_inputs_have(kind):
    """A box, one bound, none: values, slopes and the CasADi export."""
    bounds = [(-0.1, 0.1), (0.0, np.inf), (-np.inf, np.inf)]
    inputs = [rc.Signal(f"u{k}", "1", *sides) for k, sides in enumerate(bounds)]
    plant = rc.Plant(
        "mixed", [rc.Signal("a", "1", -1, 1), rc.Signal("b", "1", -2, 2)], inputs, drift=lambda x, u, p: x + u[0] + u[1] * u[2]
    )
    policy = rc.Actor(kind=kind, hidden=3, **({"gain": np.ones((3, 2))} if kind == "clipped" else {})).policy(plant, jax.random.key(0))
    policy = policy.at(30 * policy.theta)
    x = np.random.default_rng(0).uniform([-1, -2], [1, 2], (200, 2))
    u = policy(x)
    for k, (low, high) in enumerate(bounds):
        assert np.all((u[:, k] >= low) & (u[:, k] <= high))
    assert np.ptp(u[:, 0]) > 0.15
    assert np.max(np.abs(u[:, 1:])) > 1
    v = np.linspace(-2, 2, 10)
    for k in range(3):
        np.testing.assert_allclose(policy.slope(v, k), jax.vmap(jax.grad(lambda v, k=k: policy.saturated(v, k)))(v), atol=1e-15)
    np.testing.assert_allclose(np.array(as_casadi(policy)(x.T)).T, u, atol=1e-12)


def test_the_actor_sees_all_of_a_large_memory():
    """The best input changes its sign at |x| = 0.35, which x = 0.9^k x0 passes: rows are kept in the order of time."""
    far = lambda x: x[..., :1] ** 2 > 0.1225
    plant = rc.Plant("fall", [rc.Signal("x", "1", -1, 1)], [rc.Signal("u", "1", -1, 1)], update=lambda x, u, w, p: 0.9 * x)
    goal = rc.Problem(plant, lambda x, u: -((u[0] - ca.if_else(x[0] ** 2 > 0.1225, 0.5, -0.5)) ** 2), gamma=0.5)
    basis = lambda z: jnp.concatenate([jnp.ones_like(z[..., :1]), z[..., 1:], z[..., 1:] ** 2, 1.0 * far(z), z[..., 1:] * far(z)], -1)
    scheme = rc.ReplayTD(memory=8192, renew=5, restart=40, update="gauss-newton", normaliser=0, exploration=0.4)
    run = rc.train(goal, rc.Critic(hidden=(), features=basis), rc.Actor("linear"), scheme, steps=20)
    z = run.snapshots.memory.z[-1]
    fit = np.linalg.lstsq(np.column_stack([np.ones(len(z)), z[:, 0]]), np.where(far(z)[:, 0], 0.5, -0.5), rcond=None)[0]
    assert abs(run.policy([0.0])[0] - fit[0]) <= 0.03


def test_gauss_newton_learns_anew_when_the_policy_changes():
    """Fitted to round-off, every step is refused; the damping of that must not hold back what the next policy asks for."""
    quiet = problem()._with_plant(plants.double_integrator(noise=0.0, force_max=50.0))
    best = rc.solve(quiet, rc.Riccati())
    scheme = rc.ReplayTD(memory=64, update="gauss-newton", normaliser=0, exploration=0.3, restart=20)
    actor = rc.Actor("linear", gain=[[1.0, 1.0]], every=150)
    run = rc.train(quiet, rc.Critic(hidden=(), features="polynomial"), actor, scheme, steps=900)
    assert np.max(np.abs(run.policy(np.eye(2)) - best.policy(np.eye(2)))) <= 1e-6


@pytest.mark.parametrize("kind", ["clipped", "mlp"])
@pytest.mark.parametrize("improve", ["greedy", "gradient"])
def test_improvement_through_the_exact_critic_reaches_the_value_of_the_optimum(kind, improve, lqr):
    """Q* of the LQ problem is a polynomial of degree 2, so its critic is exact; within the input box the best input is clip(−Kx)."""
    plant = problem().plant
    network = rc.Critic(hidden=(), features="polynomial").network(plant)
    rng = np.random.default_rng(0)
    z = rng.uniform([-1, -1, -5], [1, 1, 5], (400, 3))
    omega = np.linalg.lstsq(network.features(z), lqr.Q(z[:, :2], z[:, 2:]), rcond=None)[0]
    actor = rc.Actor(kind=kind, improve=improve, hidden=12, rate=0.02, iterations=1000 if improve == "gradient" else 50)
    policy, x = actor.policy(plant, jax.random.key(1)), jnp.asarray(z[:, :2])
    call = jax.jit(
        lambda state: improved(actor, policy, CriticQ(network, omega), x, jnp.ones(400), input_set(plant.inputs, 21), 1.0, state)
    )
    found = policy.at(call(first_actor_state(policy)).theta)
    value = lambda u: lqr.Q(np.asarray(x), u).mean()
    best = value(np.clip(lqr.policy(x), -5, 5))
    assert best - value(np.asarray(found(x))) <= 0.01 * (best - value(policy(x)))


def test_antithetic_successors_of_a_linear_loop_meet_around_the_way_without_noise(lqr):
    """All of X_n that is odd in the noise cancels: in a linear loop, all of it."""
    loop = _loop(problem(), rc.Critic(hidden=3), lqr.policy, rc.ReplayTD(target="antithetic", horizon=4), jax.random.key(0))
    x, u = jnp.array([0.3, -0.2]), jnp.array([0.5])
    row = loop.source.row(lqr.policy, x, u, jax.random.key(1))
    quiet = [problem(noise=0.0).transition(x, u, np.zeros(1))]
    for _ in range(3):
        quiet.append(problem(noise=0.0).transition(quiet[-1], lqr.policy(quiet[-1]), np.zeros(1)))
    np.testing.assert_allclose(np.mean(row.path[:, :, :2], 0), quiet, atol=1e-13)
    assert np.ptp(row.path[:, -1, 0]) > 1e-3


def test_antithetic_targets_need_symmetric_noise():
    plant = rc.Plant(
        name="skew",
        states=[rc.Signal("x", "1", -1, 1)],
        inputs=[rc.Signal("u", "1", -1, 1)],
        update=lambda x, u, w, p: 0.5 * x + u + 0.1 * w,
        noise=rc.Exponential(1),
    )
    skew = rc.Problem(plant, rc.quadratic([1.0], [1.0]), gamma=0.9)
    with pytest.raises(rc.InputError, match=r"`target`.*symmetric"):
        rc.train(skew, rc.Critic(hidden=3), lambda x: -0.1 * x, rc.ReplayTD(target="antithetic"), steps=2)


@pytest.mark.parametrize("count", [7, 2049])
def test_normal_equations_by_blocks_are_the_whole_sums(count):
    network, omega, t = batch(successors=1, count=count)
    t, e = t._replace(weight=np.random.default_rng(1).uniform(0, 2, count)), np.random.default_rng(2).normal(size=count)
    H, slope, mass = normal_equations(network, Objective(), omega, t, e)
    d = np.asarray(data_vector(network, omega, t))
    c = t.weight / (np.sum(d**2, 1) + 1) ** 2
    np.testing.assert_allclose(mass, c, rtol=1e-12)
    np.testing.assert_allclose(H, (c[:, None] * d).T @ d, atol=1e-12 * count)
    np.testing.assert_allclose(slope, (c * e) @ d, atol=1e-12 * count)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: rc.ReplayTD(target="mean"), "target"),
        (lambda: rc.ReplayTD(horizon=0), "horizon"),
        (lambda: rc.ReplayTD(normaliser=3), "normaliser"),
        (lambda: rc.ReplayTD(update="newton"), "update"),
        (lambda: rc.ReplayTD(target="double", update="gauss-newton"), "target"),
        (lambda: rc.ReplayTD(refresh=5), "refresh"),
        (lambda: rc.ReplayTD(uniform=1.5), "uniform"),
        (lambda: rc.ReplayTD(sampling="prioritised"), "sampling"),
        (lambda: rc.ReplayTD(plants=300), "plants"),
        (lambda: rc.ReplayTD(plants=2, renew=10), "plants"),
        (lambda: rc.ReplayTD(rate="measure"), "rate"),
        (lambda: rc.ReplayTD(rate="measured", update="adam"), "rate"),
        (lambda: rc.Actor(kind="cnn"), "kind"),
        (lambda: rc.Actor(gain=[[1.0]]), "gain"),
        (lambda: rc.Actor(kind="linear", gain=[[1.0]]).policy(PLANT, jax.random.key(0)), "gain"),
        (lambda: rc.Actor(improve="best"), "improve"),
        (lambda: rc.Actor(kind="linear", gain=[[np.nan]]), "gain"),
        (lambda: rc.Actor(kind="linear", gain=np.zeros((1, 1, 1))), "gain"),
        (lambda: rc.Actor(iterations=None), "iterations"),
        (lambda: rc.Critic(features=lambda z: z[..., :0]).network(PLANT), "features"),
        (lambda: rc.Critic(features=lambda z: jnp.stack([z[:, 0], z[:, 1]], -1)).network(PLANT), "features"),
        (lambda: rc.Critic(features="polynomial", degree=10**5).network(PLANT), "degree"),
        (lambda: rc.Critic(features="fourier", degree=10**5).network(PLANT), "degree"),
    ],
)
def test_bad_options_are_refused_by_name(make, argument):
    with pytest.raises(rc.InputError, match=f"`{argument}`"):
        make()
