"""The critic: T5–T9 against autodiff, T13–T14 against slow loops, training against its anchors."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import plants
import rlctrl as rc
from rlctrl.critic.features import ACTIVATIONS, feature_map
from rlctrl.critic.td import G, Transitions, data_vector, g, replay_gradient, td_error

PLANT = plants.pendulum()
SIGNALS = PLANT.states + PLANT.inputs


def transitions(network, count=6, successors=1, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.uniform(-3, 3, (count, 1 + successors, 3))
    gamma = np.where(np.arange(count) == 1, 0.0, 0.93)[:, None] * np.ones(successors)  # one that ended
    share = rng.dirichlet(np.ones(successors), count)
    return Transitions(network.features(z), rng.normal(size=(count, successors)), gamma, share, np.ones(count))


def network_and_weights(activation="tanh", features="sincos", hidden=7):
    network = rc.Critic(hidden=hidden, activation=activation, features=features).network(PLANT)
    return network, network.initial(jax.random.key(1), 1.0)


@pytest.mark.parametrize("features", ["affine", "sincos", "polynomial"])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_data_vector_is_the_closed_form_and_the_derivative(activation, features):
    network, omega = network_and_weights(activation, features)
    t = transitions(network)
    derivative = np.asarray(jax.jacrev(lambda w: td_error(network, w, t))(omega))
    closed = np.concatenate([g(network, omega, t), G(network, omega, t) @ network.unpack(omega)[0]], -1)
    scale = np.max(np.abs(derivative))
    assert np.max(np.abs(np.asarray(data_vector(network, omega, t)) - derivative)) <= 1e-13 * scale
    assert np.max(np.abs(closed - derivative)) <= 1e-13 * scale


def test_data_vector_of_a_deeper_critic_is_the_derivative():
    network, omega = network_and_weights(hidden=(8, 5))
    t = transitions(network)
    derivative = np.asarray(jax.jacrev(lambda w: td_error(network, w, t))(omega))
    assert network.size == len(omega) == 8 + 8 * 5 + 5 * network.features.size
    assert np.max(np.abs(np.asarray(data_vector(network, omega, t)) - derivative)) <= 1e-13 * np.max(np.abs(derivative))


def test_td_error_is_linear_in_the_output_weights():
    """(T7) e = ω1ᵀ g − r."""
    network, omega = network_and_weights()
    t = transitions(network)
    linear = g(network, omega, t) @ network.unpack(omega)[0] - t.r[:, 0]
    assert np.allclose(td_error(network, omega, t), linear, rtol=0, atol=1e-14)


@pytest.mark.parametrize("hidden", [7, (6, 4)])
def test_replay_gradient_is_the_slow_sum(hidden):
    """(T13) one sample after the other, the normaliser held constant."""
    network, omega = network_and_weights(hidden=hidden)
    t = transitions(network)._replace(weight=np.array([1.0, 1, 1, 0, 1, 1]))
    d, e = np.asarray(data_vector(network, omega, t)), np.asarray(td_error(network, omega, t))
    slow = sum(w * dj * ej / (dj @ dj + 1) ** 2 for w, dj, ej in zip(t.weight, d, e, strict=True))
    fast, errors = replay_gradient(network, omega, t)
    assert np.max(np.abs(fast - slow)) <= 1e-14 * np.max(np.abs(slow)) * len(e)
    assert np.array_equal(errors, e) or np.allclose(errors, e, rtol=0, atol=1e-14)


def test_weights_are_stacked_column_by_column():
    """vec(ω) = (ω1, columns of ω2 one after the other); Q̂ = ω1ᵀ φ1(ω2ᵀ φ2(z)) written out."""
    network, omega = network_and_weights(hidden=3)
    width = network.features.size
    w1, w2 = np.asarray(omega[:3]), np.asarray(omega[3:]).reshape(width, 3, order="F")
    z = np.array([0.3, -1.0, 2.0])
    assert float(network.value(omega, z)) == pytest.approx(w1 @ np.tanh(w2.T @ np.asarray(network.features(z))), rel=1e-14)


def test_features_are_a_constant_and_coordinates_normalised_to_the_box():
    corner = np.array([np.pi, 8.0, -5.0])
    assert np.allclose(feature_map("affine", 1, SIGNALS)(corner), [1, 1, 1, -1])
    assert np.allclose(feature_map("sincos", 1, SIGNALS)(corner), [1, 0, -1, 1, -1], atol=1e-15)
    quadratic = feature_map("polynomial", 2, SIGNALS)
    assert quadratic.size == 1 + 4 + 10  # four coordinates: sine, cosine, speed, torque
    assert quadratic.exponents[:7] == ((0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (2, 0, 0, 0), (1, 1, 0, 0))


def test_polynomials_of_many_coordinates_are_listed_at_once():
    """The quadrotor has 17 coordinates: of their 3^17 exponents only 171 are of degree two."""
    plant = plants.get("quadrotor")
    start = time.process_time()
    features = feature_map("polynomial", 2, plant.states + plant.inputs)
    assert features.size == 1 + 17 + 17 * 18 // 2
    assert time.process_time() - start < 5


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_activation_has_its_derivative_and_parity(name):
    phi = ACTIVATIONS[name]
    s = np.linspace(-3, 3, 41) + 0.01
    assert np.allclose(phi.derivative(s), jax.vmap(jax.grad(phi.function))(s), rtol=1e-12, atol=1e-14)
    mirrored = {-1: -phi.function(s), 1: phi.function(s)}
    same = [p for p, v in mirrored.items() if np.allclose(phi.function(-s), v, rtol=0, atol=1e-15)]
    assert same == ([phi.parity] if phi.parity else [])


def quiet_problem(**options):
    return rc.Problem(plants.double_integrator(noise=0.0), rc.quadratic([0.1, 0.01], [0.01]), gamma=0.95, dt=0.1, exit="free", **options)


def test_training_equals_a_slow_loop_written_out():
    """T14 on a deterministic plant without exploration or restarts: the whole run again, one transition after the other."""
    problem, steps, memory = quiet_problem(), 12, 5
    policy = rc.solve(problem, rc.Riccati()).policy
    critic, scheme = rc.Critic(hidden=4), rc.ReplayTD(memory=memory, rate=0.3, exploration=0.0, restart=10**6, snapshots=steps)
    run = rc.train(problem, critic, policy, scheme, steps=steps, seed=3)
    z, z_next = run.snapshots.memory.z[-1], run.snapshots.memory.z_next[-1, :, 0]
    newest = (steps - 1) % memory
    x = z[newest, :2]
    assert np.allclose(z[newest, 2:], policy(x), atol=1e-14)
    assert np.allclose(z_next[newest, :2], problem.transition(x, z[newest, 2:], np.zeros(1)), atol=1e-14)
    assert np.allclose(z_next[newest, 2:], policy(z_next[newest, :2]), atol=1e-14)
    network = run.network
    for k in range(len(run.snapshots.step)):
        t = jax.tree.map(lambda a, k=k: a[k], run.snapshots.memory.t)
        step = run.snapshots.omega[k] - 0.3 * np.asarray(replay_gradient(network, run.snapshots.omega[k], t)[0])
        assert np.max(np.abs(step - run.snapshots.omega_next[k])) <= 1e-14
    filled = run.snapshots.memory.t.weight.sum(1)
    assert np.array_equal(filled, np.minimum(run.snapshots.step + 1, memory))


def test_training_repeats_bit_for_bit_and_the_seed_matters():
    problem = rc.Problem(PLANT, lambda x, u: -(x[1] ** 2) / 10, gamma=0.9, dt=0.05)
    runs = [
        rc.train(problem, rc.Critic(hidden=6), lambda x: 0 * x[..., :1], rc.ReplayTD(memory=8), steps=100, seed=s).weights
        for s in (0, 0, 1)
    ]
    assert np.array_equal(runs[0], runs[1])
    assert not np.allclose(runs[0], runs[2])


def test_an_ended_transition_carries_no_successor_and_the_exit_value():
    plant = plants.double_integrator(noise=0.0, position_max=0.2, velocity_max=4.0)
    problem = rc.Problem(plant, lambda x, u: -1 + 0 * x[0], gamma=0.9, dt=0.2, exit="absorb", exit_value=lambda x: -7.0 + 0 * x[0])
    run = rc.train(problem, rc.Critic(hidden=4), lambda x: 0 * x[..., :1], rc.ReplayTD(memory=64), steps=200)
    last = jax.tree.map(lambda a: a[-1], run.snapshots.memory)
    out = np.abs(last.z_next[:, 0, 0]) > 0.2
    assert 0 < out.sum() < 64
    assert np.array_equal(np.asarray(last.t.gamma[:, 0]), np.where(out, 0.0, 0.9))
    assert np.allclose(last.t.r[:, 0], np.where(out, -1 + 0.9 * -7.0, -1.0), atol=1e-14)


def test_a_critic_that_can_represent_q_star_learns_it_without_noise():
    problem = quiet_problem()
    lqr = rc.solve(problem, rc.Riccati())
    critic = rc.Critic(hidden=8, activation="square", features="affine")
    run = rc.train(problem, critic, lqr.policy, rc.ReplayTD(exploration=0.5, restart=20), steps=20_000)
    parts = rc.decompose(run, lqr, points=512, starts=1)
    assert parts.relative_error <= 1e-3
    assert np.max(np.abs(parts.e_q)) <= 1e-9
    assert np.max(np.abs(parts.e_star)) <= 1e-9
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (50, 2))
    assert np.max(np.abs(run.greedy(x) - lqr.policy(x))) <= 1e-2 * np.max(np.abs(lqr.policy(x)))


def test_greedy_policy_maximises_the_critic_over_the_box():
    problem = rc.Problem(PLANT, lambda x, u: -(x[1] ** 2) / 10, gamma=0.9, dt=0.05)
    run = rc.train(problem, rc.Critic(hidden=16), lambda x: 0 * x[..., :1], rc.ReplayTD(memory=32), steps=300)
    x = np.random.default_rng(1).uniform([-3, -8], [3, 8], (40, 2))
    dense = run.Q(x[:, None], np.linspace(-5, 5, 2001)[:, None]).max(1)
    assert np.all(run.Q(x, run.greedy(x)) >= dense - 1e-6 * np.ptp(dense))
    assert np.all(np.abs(run.greedy(x)) <= 5)


def test_divergence_is_said_with_the_limit_of_the_theory():
    critic = rc.Critic(hidden=8, activation="square", features="affine")
    with pytest.raises(rc.NotConverged, match=r"λ = 1e\+200 exceeds 8/M = 0\.5"):
        rc.train(quiet_problem(), critic, lambda x: 0 * x[..., :1], rc.ReplayTD(memory=16, rate=1e200), steps=2000)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: rc.Critic(hidden=0), "hidden"),
        (lambda: rc.Critic(activation="tan"), "activation"),
        (lambda: rc.Critic(features="sinus"), "features"),
        (lambda: rc.ReplayTD(memory=0), "memory"),
        (lambda: rc.ReplayTD(rate=-1.0), "rate"),
        (lambda: rc.ReplayTD(restart=2.5), "restart"),
        (lambda: rc.train(quiet_problem(), rc.Critic(), lambda x: 0 * x[..., :1], steps=1), "steps"),
        (lambda: rc.train(quiet_problem(), "tanh", lambda x: 0 * x[..., :1]), "critic"),
        (lambda: rc.train(quiet_problem(), rc.Critic(), lambda x: x), "policy"),
    ],
)
def test_bad_input_is_refused_by_name(make, argument):
    with pytest.raises(rc.InputError, match=f"`{argument}`"):
        make()


def test_jax_is_in_double_precision():
    assert jnp.zeros(1).dtype == jnp.float64
