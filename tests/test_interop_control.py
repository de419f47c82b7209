"""Exchange with python-control, exact discretisation, and what is refused."""

import control
import numpy as np
import pytest
from scipy import linalg
from scipy.integrate import solve_ivp

import plants
import rlctrl as rc

OSCILLATOR = {"A": [[0.0, 1.0], [-1.0, -0.4]], "B": [[0.0], [1.0]], "F": [[0.1, 0.0], [0.2, 0.3]], "c": [0.3, -0.1]}


def test_nlsys_has_the_names_and_answers_like_scipy():
    plant = plants.pendulum()
    system = plant.to_control()
    assert (system.state_labels, system.input_labels, system.output_labels) == (["theta", "omega"], ["torque"], ["theta", "omega"])
    assert system.isctime(strict=True)
    time = np.linspace(0, 1, 21)
    ours = control.input_output_response(system, time, 0.3 * np.ones(21), [0.5, 0.0], solve_ivp_kwargs={"rtol": 1e-10, "atol": 1e-10})
    drift = lambda _, x: np.array(plant.drift_function(x, 0.3, plant.parameter_vector))[:, 0]
    outside = solve_ivp(drift, (0, 1), [0.5, 0.0], t_eval=time, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(ours.states, outside.y, atol=1e-8)


def test_parameters_of_the_nlsys_can_be_changed():
    system, heavy = plants.pendulum().to_control(), plants.pendulum(mass=2.0)
    changed = system.dynamics(0, [0.4, 0.1], [1.0], params={"mass": 2.0})
    np.testing.assert_allclose(changed, np.array(heavy.drift_function([0.4, 0.1], 1.0, heavy.parameter_vector))[:, 0], rtol=1e-15)


def test_array_parameters_and_maps_reach_the_nlsys():
    plant = plants.linear(**OSCILLATOR, discrete=True)
    system = plant.to_control(dt=0.1)
    assert system.dt == 0.1
    np.testing.assert_allclose(system.dynamics(0, [1.0, 2.0], [3.0]), plant.params["A"] @ [1, 2] + [0, 3] + plant.params["c"])


def test_sampled_nlsys_takes_the_steps_of_the_problem_without_noise():
    problem = rc.Problem(**plants.defaults("pendulum", noise=0.0))
    system = problem.plant.to_control(problem.dt)
    np.testing.assert_allclose(system.dynamics(0, [0.4, 0.1], [1.0]), problem.transition([0.4, 0.1], [1.0], [0.0]), rtol=1e-14)


def test_linearisation_has_the_names_and_the_jacobian():
    plant = plants.pendulum()
    system = plant.linearize([np.pi, 0.0], [0.0])
    np.testing.assert_allclose(system.A, [[0, 1], [-9.81, -0.1]], atol=1e-12)
    np.testing.assert_allclose(system.B, [[0], [1]])
    assert (system.state_labels, system.input_labels) == (["theta", "omega"], ["torque"])
    again = control.linearize(plant.to_control(), [np.pi, 0.0], [0.0])
    np.testing.assert_allclose(system.A, again.A, atol=1e-4)


def test_linearisation_of_a_map_rests_where_the_map_does():
    assert plants.get("gym_mountain_car").linearize(*plants.equilibrium("gym_mountain_car")).isdtime(strict=True)
    with pytest.raises(rc.InputError, match=r"`x, u` must be a point of rest: at x=\[0.0, 0.0\].*change per step"):
        plants.get("gym_mountain_car").linearize()


def test_linearisation_away_from_rest_is_refused():
    with pytest.raises(rc.InputError, match=r"`x, u` must be a point of rest.*Give x and u"):
        plants.pendulum().linearize([0.5, 0.0])


@pytest.mark.parametrize("dt", [0, 0.1])
def test_state_space_there_and_back(dt):
    rng = np.random.default_rng(0)
    system = control.ss(rng.normal(size=(3, 3)), rng.normal(size=(3, 2)), rng.normal(size=(2, 3)), np.zeros((2, 2)), dt)
    plant = rc.Plant.from_control(system)
    back = plant.linearize()
    np.testing.assert_array_equal(back.A, system.A)
    np.testing.assert_array_equal(back.B, system.B)
    assert back.isdtime(strict=True) == bool(dt)
    assert [s.name for s in plant.states] == ["x0", "x1", "x2"]
    assert np.isinf(plant.states[0].high)


def test_signals_and_noise_of_an_imported_system_are_those_given():
    states = [rc.Signal("level", "m", -1, 1)]
    plant = rc.Plant.from_control(control.ss(-1, 2, 1, 0), states=states, noise=0.5, name="tank", source="a book")
    assert (plant.name, plant.source, plant.states) == ("tank", "a book", tuple(states))
    problem = rc.Problem(plant, lambda x, u: -(x[0] ** 2), gamma=0.9, dt=0.1, scheme="euler")
    np.testing.assert_allclose(problem.moments([1.0], [0.5])[1], [[0.025]])
    assert plant.with_params(A=[[-2.0]]).jacobian([0.0], [0.0])[0] == -2.0


def test_affine_nlsys_is_read_and_a_curved_one_refused():
    linear = plants.linear(**OSCILLATOR)
    read = rc.Plant.from_control(linear.to_control())
    np.testing.assert_allclose(read.params["A"], linear.params["A"], atol=1e-15)
    np.testing.assert_allclose(read.params["c"], linear.params["c"], atol=1e-15)
    with pytest.raises(rc.InputError, match="`sys` must be linear and independent of time; at t="):
        rc.Plant.from_control(plants.pendulum().to_control())


def test_a_system_that_depends_on_time_or_saturates_far_out_is_refused():
    for update in (lambda t, x, u, p: -x + np.sin(t) * u, lambda t, x, u, p: -x + np.clip(u, -100, 100)):
        system = control.nlsys(update, None, inputs=1, outputs=1, states=1)
        with pytest.raises(rc.InputError, match="`sys` must be linear and independent of time"):
            rc.Plant.from_control(system)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"sys": 3}, "`sys` must be a StateSpace or an nlsys"),
        ({"sys": control.tf([1], [1, 1])}, "Use control.ss"),
        ({"sys": control.ss(-1, 1, 1, 0), "states": []}, "`states` must name the 1"),
        ({"sys": control.ss(-np.eye(2), np.eye(2), np.eye(2), 0), "noise": [1, 2, 3]}, "`noise` must have 2 rows"),
        ({"sys": control.nlsys(lambda t, x, u, p: p["k"] * x, None, inputs=1, outputs=1, states=1)}, "`sys` must have an update"),
    ],
)
def test_what_is_no_linear_system_is_refused(arguments, said):
    with pytest.raises(rc.InputError, match=said):
        rc.Plant.from_control(**arguments)


def test_exact_discretisation_agrees_with_python_control_and_a_fine_sum():
    plant = plants.linear(**OSCILLATOR)
    sampled, dt = plant.discretize(0.2), 0.2
    outside = control.sample_system(control.ss(plant.params["A"], plant.params["B"], np.eye(2), np.zeros((2, 1))), dt)
    np.testing.assert_allclose(sampled.params["A"], outside.A, atol=1e-14)
    np.testing.assert_allclose(sampled.params["B"], outside.B, atol=1e-14)
    nodes, weights = np.polynomial.legendre.leggauss(12)
    flows = [linalg.expm(plant.params["A"] * s) for s in dt / 2 * (nodes + 1)]
    F = plant.params["F"]
    covariance = dt / 2 * sum(w * e @ F @ F.T @ e.T for w, e in zip(weights, flows, strict=True))
    np.testing.assert_allclose(sampled.params["F"] @ sampled.params["F"].T, covariance, atol=1e-15)
    np.testing.assert_allclose(sampled.params["c"], dt / 2 * sum(w * e @ OSCILLATOR["c"] for w, e in zip(weights, flows, strict=True)))
    assert (sampled.states, sampled.inputs, sampled.update is not None) == (plant.states, plant.inputs, True)


def test_two_half_steps_are_one_step():
    plant = plants.get("dc_motor")
    whole, half = plant.discretize(0.02), plant.discretize(0.01)
    A, F = half.params["A"], half.params["F"]
    np.testing.assert_allclose(whole.params["A"], A @ A, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(whole.params["F"] @ whole.params["F"].T, A @ F @ F.T @ A.T + F @ F.T, rtol=1e-9, atol=1e-14)


def test_discretisation_of_a_plant_without_noise_has_none():
    assert plants.linear().discretize(0.1).law.q == 0


def scalar(periodic=False, diffusion=None):
    box = [rc.Signal("x", "1", -1, 1, periodic=periodic)], [rc.Signal("u", "1", -1, 1)]
    return rc.Plant("scalar", *box, drift=lambda x, u, p: u[0] - x[0], diffusion=diffusion)


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (plants.pendulum(), r"must be linear in \(x, u\).*'pendulum' is not in; got \['omega'\]"),
        (plants.linear(discrete=True), "must have a drift"),
        (scalar(diffusion=lambda x, u, p: x[0]), "must have noise that does not depend"),
        (scalar(periodic=True), "must not depend on an angle that wraps"),
    ],
)
def test_discretisation_refuses_with_the_reason(plant, said):
    with pytest.raises(rc.InputError, match=said):
        plant.discretize(0.1)
    with pytest.raises(rc.InputError, match="`dt` must be a positive number"):
        plant.discretize(-1)


@pytest.mark.parametrize("batch", [1, 3])
def test_trajectory_becomes_a_time_response(batch):
    problem = rc.Problem(**plants.defaults("linear"))
    path = rc.simulate(problem, lambda x: -x[..., :1], np.ones((batch, 2)), 5)
    response = path.to_control()
    first = (lambda a: a) if batch == 1 else (lambda a: a[:, 0])
    np.testing.assert_array_equal(first(response.states), path.x[0].T)
    np.testing.assert_array_equal(first(response.inputs)[:, :-1], path.u[0].T)
    assert response.inputs.shape[-1] == len(response.time) == 6
    assert (response.state_labels, response.input_labels) == (["x1", "x2"], ["u1"])
    assert response.ntraces == (0 if batch == 1 else 3)
