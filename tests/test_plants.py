"""What every plant of the registry promises, and the exact facts known about some of them."""

import inspect
import re

import casadi as ca
import numpy as np
import pytest
from plant_tools import box_points, stepper

import plants
import rlctrl as rc

every = pytest.mark.parametrize("name", plants.names())


def noisy(name):
    """The default problem, with some noise where there is none by default."""
    options = {"F": [[0.1, 0.0], [0.2, 0.3]]} if name == "linear" else {} if plants.get(name).params.get("noise", 1) else {"noise": 0.05}
    return rc.Problem(**plants.defaults(name, **options))


def value(function, *arguments):
    return np.array(function(*arguments))


def dynamics(plant):
    """The plant's functions of (x, u, parameter vector); a map at w = 0.7."""
    if plant.update_function is None:
        return plant.drift_function, plant.diffusion_function
    return (lambda x, u, p: plant.update_function(x, u, np.full(plant.law.q, 0.7), p),)


def at_mean(plant, x, u):
    """Drift, or the update at the mean of w, as an array (n,)."""
    p = plant.parameter_vector
    found = plant.drift_function(x, u, p) if plant.update_function is None else plant.update_function(x, u, plant.law.mean, p)
    return np.array(found)[:, 0]


# --- the contract -------------------------------------------------------------------------------------------------------------------------


@every
def test_shapes_and_finite_dynamics_over_the_box(name):
    plant = plants.get(name)
    x, u = box_points(plant)
    drifts = np.array([at_mean(plant, a, b) for a, b in zip(x, u, strict=True)])
    assert drifts.shape == (200, plant.n)
    assert np.all(np.isfinite(drifts))
    assert np.ptp(drifts) > 0
    if plant.diffusion_function is not None:
        assert plant.diffusion_function.size_out(0) == (plant.n, plant.law.q)
        assert np.all(np.isfinite([value(plant.diffusion_function, a, b, plant.parameter_vector) for a, b in zip(x, u, strict=True)]))


@every
def test_signals_have_units_and_finite_boxes_and_the_plant_a_dated_source(name):
    plant = plants.get(name)
    assert plant.name == name
    for signal in (*plant.states, *plant.inputs):
        assert signal.unit.strip()
        assert signal.label == f"{signal.name} [{signal.unit}]"
        assert np.isfinite(signal.high - signal.low)
    assert re.search(r"\b(19|20)\d\d\b", plant.source)


@pytest.mark.parametrize("name", [name for name in plants.names() if name != "linear"])  # the matrices of which follow the user's signals
def test_every_parameter_has_a_unit_which_files_keep(name, tmp_path):
    plant = plants.get(name)
    assert list(plant.units) == list(plant.params)
    assert rc.Plant.load(plant.save(tmp_path / "plant.json")).units == plant.units


@every
def test_docstring_names_every_parameter_and_the_equilibrium(name):
    text = plants.PLANTS[name].__doc__
    assert "quilibrium" in text
    for parameter in plants.get(name).params:
        assert re.search(rf"(?<!\w){parameter}(?!\w)", text), parameter


@every
def test_noise_moves_the_plant_and_a_run_stays_finite(name):
    """Linear plants take their noise as a matrix F, the car its wear; all others have the keyword `noise`."""
    keywords = inspect.signature(plants.PLANTS[name]).parameters
    assert {"linear": "F", "car_replacement": "wear"}.get(name, "noise") in keywords
    problem = noisy(name)
    *symbols, following, _ = problem.symbolic()
    step = ca.Function("step", symbols, [following])
    low, high = np.array([(s.low, s.high) for s in problem.plant.states]).T
    w = np.random.default_rng(3).exponential(size=(100, problem.plant.law.q))  # positive, as some laws are
    x, u = plants.equilibrium(name)
    path = [x]
    for k in w:
        path.append(np.clip(value(step, path[-1], u, k, problem.plant.parameter_vector)[:, 0], low, high))
    assert np.all(np.isfinite(path))
    assert len({tuple(y) for y in path[:4]}) == 4


@every
def test_the_stated_equilibrium_is_one_and_lies_in_the_box(name):
    plant, (x, u) = plants.get(name), plants.equilibrium(name)
    found = at_mean(plant, x, u) - (0 if plant.update_function is None else x)
    assert np.abs(found).max() <= 1e-12
    low, high = np.array([(s.low, s.high) for s in (*plant.states, *plant.inputs)]).T
    assert np.all(np.concatenate([x, u]) >= low)
    assert np.all(np.concatenate([x, u]) <= high)


@every
def test_the_default_problem_is_finite_over_the_box_and_regulators_peak_at_the_equilibrium(name):
    default = plants.default(name)
    problem = rc.Problem(**plants.defaults(name))
    assert (problem.gamma, problem.dt, problem.exit) == (default.gamma, default.dt, default.exit)
    x, u, p = problem.plant.symbols()
    reward = ca.Function("reward", [x, u, p], [problem.reward_of(x, u, p)])
    values = np.array([float(reward(a, b, problem.plant.parameter_vector)) for a, b in zip(*box_points(problem.plant), strict=True)])
    assert np.all(np.isfinite(values))
    states, inputs = box_points(problem.plant, 500)
    noise = np.random.default_rng(4).exponential(size=(500, problem.plant.law.q))
    assert np.all(np.isfinite(stepper(problem)(states, inputs, noise)))
    if plants.TASKS[name].Q is not None:
        assert abs(float(reward(*default.equilibrium, problem.plant.parameter_vector))) <= 1e-15
        assert np.all(values < 0)


def test_equilibrium_and_reward_follow_the_parameters():
    default = plants.default("quadrotor", mass=2.0)
    assert default.equilibrium[1].tolist() == [2 * 9.81, 0, 0, 0]
    assert float(default.reward(ca.SX(12, 1), ca.SX([2 * 9.81 + 3, 0, 0, 0]))) == pytest.approx(-0.02 * 0.02 * 9, rel=1e-12)
    assert plants.equilibrium("linear", A=[[0.5]], B=[[1.0]], c=[1.0], discrete=True)[0] == pytest.approx([2.0])
    assert plants.equilibrium("linear", A=[[0.5]], B=[[1.0]], c=[1.0])[0] == pytest.approx([-2.0])


def test_default_rewards_are_per_step_and_turn_with_angles():
    """A diffusion's weights are per second, a map's per step; 2(1 − cos θ) for θ²."""
    reward = plants.default("pendulum").reward
    assert float(reward(ca.SX([np.pi, 2.0]), ca.SX([3.0]))) == pytest.approx(-0.05 * (4 + 0.02 * 4 + 0.02 * 9), rel=1e-12)
    reward = plants.default("f16_discrete").reward
    assert float(reward(ca.SX([1.0, 2.0, 3.0]), ca.SX([4.0]))) == pytest.approx(-30, rel=1e-12)


def test_systems_of_regelum_control_and_rcognita_are_there_with_their_dimensions():
    """Classes of regelum/system.py and rcognita/systems.py: states, inputs."""
    known = {
        "kinematic_point": (2, 2),
        "pendulum": (2, 1),
        "pendulum_friction": (2, 1),
        "pendulum_motor": (3, 1),
        "three_wheeled_robot": (3, 2),
        "three_wheeled_robot_dynamic": (5, 2),
        "two_tank": (2, 1),
        "cart_pole": (4, 1),
        "lunar_lander": (6, 2),
    }
    assert {name: (plants.get(name).n, plants.get(name).m) for name in known} == known


@every
def test_jacobian_equals_central_finite_differences(name):
    plant = plants.get(name)
    f = lambda z: at_mean(plant, z[: plant.n], z[plant.n :])
    for x, u in zip(*box_points(plant, 10, seed=1), strict=True):
        A, B = plant.jacobian(x, u)
        assert A.shape == (plant.n, plant.n)
        assert B.shape == (plant.n, plant.m)
        z = np.concatenate([x, u])
        steps = 1e-5 * (1 + np.abs(z)) * np.eye(len(z))
        want = np.stack([(f(z + h) - f(z - h)) / (2 * h.sum()) for h in steps], -1)
        np.testing.assert_allclose(np.hstack([A, B]), want, rtol=1e-6, atol=1e-7 * (1 + np.abs(want).max()))


@pytest.mark.parametrize("name", ["pendulum", "linear", "car_replacement", "gym_mountain_car", "merton"])  # one of each kind of noise
def test_same_seed_same_path_bit_for_bit_and_another_seed_differs(name):
    problem = noisy(name)
    x, u = plants.equilibrium(name)
    paths = [rc.simulate(problem, lambda z: u + 0 * z[..., :1], np.tile(x, (3, 1)), steps=30, seed=seed) for seed in (7, 7, 8)]
    for field in ("x", "u", "r"):
        np.testing.assert_array_equal(getattr(paths[0], field), getattr(paths[1], field))
    assert np.any(paths[0].x != paths[2].x)


@every
def test_digest_is_stable_and_changed_by_every_numeric_parameter(name):
    plant = plants.get(name)
    assert plant.digest == plants.get(name).digest
    assert re.fullmatch("[0-9a-f]{16}", plant.digest)
    changed = [plant.with_params(**{k: np.asarray(v) + 0.25}).digest for k, v in plant.params.items()]
    assert len({plant.digest, *changed}) == 1 + len(plant.params)


@every
def test_digest_is_changed_by_the_signals(name):
    plant = plants.get(name)
    bounds = {k: q.default for k, q in inspect.signature(plants.PLANTS[name]).parameters.items() if k.endswith("_max")}
    assert bounds
    assert len({plant.digest, *(plants.get(name, **{k: 0.9 * v}).digest for k, v in bounds.items())}) == 1 + len(bounds)


def test_digests_of_different_plants_differ():
    assert len({plants.get(name).digest for name in plants.names()}) == len(plants.names()) >= 36


@every
def test_unknown_parameter_is_refused_with_the_nearest_name(name):
    known = next(k for k in inspect.signature(plants.PLANTS[name]).parameters if k.endswith("_max"))
    typo = known.replace("_max", "_maxx")
    with pytest.raises(rc.InputError, match=rf"`{typo}` is not a keyword of {name}; got 1\.0\. Did you mean `{known}`\?"):
        plants.get(name, **{typo: 1.0})
    parameter = next(iter(plants.get(name).params))
    with pytest.raises(rc.InputError, match=rf"`{parameter}x` is not a parameter of plant '{name}'; got 1\.0\. (Did|Known)"):
        plants.get(name).with_params(**{f"{parameter}x": 1.0})


@every
def test_every_parameter_reaches_the_dynamics(name):
    """A parameter that changes neither drift nor diffusion is a dead knob."""
    plant = noisy(name).plant
    (x,), (u,) = box_points(plant, 1)
    stack = lambda q: np.concatenate([value(f, x, u, q.parameter_vector).ravel() for f in dynamics(q)])
    for parameter, number in plant.params.items():
        changed = plant.with_params(**{parameter: 1.1 * np.asarray(number) + 0.01})
        assert np.any(stack(changed) != stack(plant)), parameter


def test_names_are_sorted_and_reachable_as_attributes():
    assert plants.names() == sorted(plants.PLANTS)
    assert all(getattr(plants, name) is plants.PLANTS[name] for name in plants.names())


def test_every_plant_is_exported_by_name():
    assert set(plants.PLANTS) <= set(plants.__all__)


def test_unknown_plant_is_refused_with_the_nearest_name():
    with pytest.raises(rc.InputError, match=r"`name` must be one of the plants; got 'pendulm'\. Did you mean `pendulum`\?"):
        plants.get("pendulm")


def test_digest_sees_the_law_of_the_noise():
    update = lambda x, u, w, p: 0.5 * x + u + w
    make = lambda noise: rc.Plant(name="d", states=[SIGNAL("x")], inputs=[SIGNAL("u")], update=update, noise=noise)
    assert len({make(law).digest for law in (rc.Gaussian(1), rc.Uniform(1), rc.Finite([-1, 1], [0.5, 0.5]))}) == 3


def test_digest_sees_the_numbers_of_a_finite_law():
    update = lambda x, u, w, p: 0.5 * x + u + w
    make = lambda *law: rc.Plant(name="d", states=[SIGNAL("x")], inputs=[SIGNAL("u")], update=update, noise=rc.Finite(*law))
    assert make([-1, 1], [0.5, 0.5]).digest != make([-2, 1], [0.5, 0.5]).digest
    assert make([-1, 1], [0.5, 0.5]).digest != make([-1, 1], [0.1, 0.9]).digest


def SIGNAL(name):
    return rc.Signal(name, "1", -1, 1)


# --- exact facts --------------------------------------------------------------------------------------------------------------------------


def test_vamvoudakis_lewis_value_solves_the_hjb_equation():
    """T4 without discount and noise: 0 = min_u { x1² + x2² + u² + ∇V·f }, V = x1²/2 + x2², u = −(cos 2x1 + 2) x2."""
    plant = plants.vamvoudakis_lewis()
    x, u = ca.SX.sym("x", 2), ca.SX.sym("u")
    hamiltonian = ca.sumsqr(x) + u**2 + ca.gradient(x[0] ** 2 / 2 + x[1] ** 2, x).T @ plant.drift_function(x, u, plant.parameter_vector)
    best = -(ca.cos(2 * x[0]) + 2) * x[1]
    slope = ca.jacobian(hamiltonian, u)
    optimal = ca.Function("optimal", [x], [ca.substitute(e, u, best) for e in (hamiltonian, slope, ca.jacobian(slope, u))])
    for point in box_points(plant)[0]:
        residual, first, second = (float(v) for v in optimal(point))
        assert abs(residual) <= 1e-12
        assert abs(first) <= 1e-12
        assert second == 2.0


def test_vamvoudakis_lewis_optimal_input_respects_the_input_box():
    plant = plants.vamvoudakis_lewis()
    assert 3 * plant.states[1].high <= plant.inputs[0].high


def energy_drift(dt, steps):
    """Largest change of the energy of a free pendulum over a fixed time, per J."""
    plant = plants.pendulum(mass=1.3, length=0.7, damping=0.0, noise=0.0)
    problem = rc.Problem(plant, rc.quadratic([1, 1], [1]), gamma=1.0, dt=dt, exit="free")
    path = rc.simulate(problem, lambda x: 0 * x[..., :1], [2.0, 0.5], steps=steps)
    m, length, g = 1.3, 0.7, 9.81
    energy = m * length**2 / 2 * path.x[0, :, 1] ** 2 + m * g * length * np.cos(path.x[0, :, 0])
    return np.abs(energy - energy[0]).max()


def test_pendulum_conserves_energy_to_the_order_of_rk4():
    errors = [energy_drift(2 / steps, steps) for steps in (100, 200, 400)]
    assert errors[-1] < 1e-5
    assert np.all(np.log2(np.divide(errors[:-1], errors[1:])) >= 3.8)


def test_pendulum_loses_energy_at_the_rate_of_its_damping_and_gains_it_at_that_of_the_torque():
    plant = plants.pendulum(mass=1.3, length=0.7, damping=0.2)
    for x, u in zip(*box_points(plant, 50), strict=True):
        acceleration = value(plant.drift_function, x, u, plant.parameter_vector)[1, 0]
        power = x[1] * (1.3 * 0.7**2 * acceleration - 1.3 * 9.81 * 0.7 * np.sin(x[0]))
        assert power == pytest.approx(x[1] * u[0] - 0.2 * x[1] ** 2, rel=1e-12, abs=1e-12)


def test_pendulum_is_unstable_upright_and_stable_hanging():
    plant = plants.pendulum()
    top, bottom = (np.linalg.eigvals(plant.jacobian([angle, 0.0], [0.0])[0]) for angle in (0.0, np.pi))
    np.testing.assert_allclose(np.sort(top.real), [-0.05 - np.sqrt(0.05**2 + 9.81), -0.05 + np.sqrt(0.05**2 + 9.81)], rtol=1e-14)
    assert bottom.real.max() == pytest.approx(-0.05, rel=1e-12)


def test_double_integrator_is_a_mass_on_a_line():
    plant = plants.double_integrator(mass=2.0, noise=0.3)
    A, B = plant.jacobian([0.3, -1.0], [2.0])
    assert A.tolist() == [[0, 1], [0, 0]]
    assert B.tolist() == [[0], [0.5]]
    assert value(plant.diffusion_function, [0, 0], [0], plant.parameter_vector).tolist() == [[0], [0.3]]


def test_van_der_pol_has_an_unstable_origin_and_the_known_limit_cycle():
    """Amplitude 2.00862 and period 6.66329 of the limit cycle at mu = 1 (Andersen & Geer, SIAM J. Appl. Math. 42(3), 1982)."""
    plant = plants.van_der_pol(mu=1.0, noise=0.0)
    assert np.linalg.eigvals(plant.jacobian([0, 0], [0])[0]).real.tolist() == pytest.approx([0.5, 0.5])
    dt = 0.005
    problem = rc.Problem(plant, rc.quadratic([1, 1], [1]), gamma=1.0, dt=dt, exit="free")
    x = rc.simulate(problem, lambda x: 0 * x[..., :1], [0.5, 0.0], steps=10_000).x[0, 4000:]
    assert np.abs(x[:, 0]).max() == pytest.approx(2.00862, abs=2e-5)
    up = np.flatnonzero((x[:-1, 0] < 0) & (x[1:, 0] >= 0))
    crossings = dt * (up - x[up, 0] / (x[up + 1, 0] - x[up, 0]))
    assert np.diff(crossings).mean() == pytest.approx(6.66329, abs=1e-4)


# --- the linear family --------------------------------------------------------------------------------------------------------------------


def random_matrices(n=3, m=2, q=2):
    rng = np.random.default_rng(5)
    return rng.normal(size=(n, n)), rng.normal(size=(n, m)), rng.normal(size=(n, q)), rng.normal(size=n)


def test_linear_drift_and_diffusion_are_the_matrices_given():
    A, B, F, c = random_matrices()
    plant = plants.linear(A, B, F, c)
    x, u = box_points(plant, 1)
    np.testing.assert_allclose(value(plant.drift_function, x[0], u[0], plant.parameter_vector)[:, 0], A @ x[0] + B @ u[0] + c, rtol=1e-13)
    np.testing.assert_array_equal(value(plant.diffusion_function, x[0], u[0], plant.parameter_vector), F)


def test_linear_discrete_jacobian_is_at_the_mean_of_the_noise():
    A, B, F, c = random_matrices()
    for matrix in (F, None):
        got = plants.linear(A, B, matrix, c, discrete=True).jacobian(np.ones(3), np.ones(2))
        np.testing.assert_array_equal(got[0], A)
        np.testing.assert_array_equal(got[1], B)


def test_linear_takes_bounds_per_signal_and_flat_columns():
    plant = plants.linear(np.eye(2), [1.0, 2.0], [0.1, 0.2], state_max=(3.0, np.inf), input_max=0.5)
    assert [(s.low, s.high) for s in plant.states] == [(-3, 3), (-np.inf, np.inf)]
    assert plant.inputs[0].high == 0.5
    assert plant.params["B"].tolist() == [[1.0], [2.0]]
    assert plant.law.q == 1


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("A", {"A": [[1.0, 2.0]]}),
        ("B", {"A": np.eye(2), "B": [[1.0, 2.0, 3.0]]}),
        ("B", {"A": np.eye(2), "B": np.zeros((2, 0))}),
        ("F", {"F": [[1.0, 2.0, 3.0]]}),
        ("c", {"c": [1.0, 2.0, 3.0]}),
    ],
)
def test_linear_refuses_matrices_that_do_not_fit(argument, options):
    with pytest.raises(rc.InputError, match=rf"`{argument}` must .*; got \(\d.*\)\. Give "):
        plants.linear(**options)
