"""The plants against others' implementations (Gymnasium, SciPy, python-control) and the integrator against exact solutions."""

import types

import casadi as ca
import control
import numpy as np
import pytest
from plant_tools import box_points, inner_start, stepper
from scipy.integrate import solve_ivp

import plants
import rlctrl as rc

DIFFUSIONS = [name for name in plants.names() if plants.get(name).drift is not None]


# --- Gymnasium ----------------------------------------------------------------------------------------------------------------------------


def gym_step(plant, x, u):
    return np.array(plant.update_function(x, u, np.zeros(plant.law.q), plant.parameter_vector))[:, 0]


def test_pendulum_equals_gymnasium_step_by_step():
    gymnasium = pytest.importorskip("gymnasium")
    env, default, rng = gymnasium.make("Pendulum-v1").unwrapped, plants.default("gym_pendulum"), np.random.default_rng(0)
    for start in rng.uniform([-np.pi, -8], [np.pi, 8], (5, 2)):
        env.reset(seed=0)
        env.state = x = start
        for u in rng.uniform(-2, 2, (100, 1)):
            theirs = env.step(u)[1]
            wrapped = (x[0] + np.pi) % (2 * np.pi) - np.pi
            assert float(default.reward(ca.SX([wrapped, x[1]]), ca.SX(u))) == pytest.approx(theirs, abs=1e-11)
            x = gym_step(default.plant, x, u)
            np.testing.assert_allclose(x, env.state, rtol=0, atol=1e-12)


def test_cart_pole_equals_gymnasium_step_by_step():
    gymnasium = pytest.importorskip("gymnasium")
    env, default, rng = gymnasium.make("CartPole-v1").unwrapped, plants.default("gym_cart_pole"), np.random.default_rng(0)
    ended = []
    for start in rng.uniform(-0.05, 0.05, (20, 4)):
        env.reset(seed=0)
        env.state = x = start
        for action in rng.integers(0, 2, 200):
            _, reward, over, *_ = env.step(action)
            x = gym_step(default.plant, x, [20.0 * action - 10.0])
            np.testing.assert_allclose(x, env.state, rtol=0, atol=1e-12)
            assert over == (float(default.target(x)) <= 0)
            assert reward == default.reward(x, None)
            if over:
                break
        ended.append(over)
    assert all(ended)  # a random policy falls


def mountain_car(monkeypatch, double):
    """Gymnasium's environment, which rounds its state to single precision in every step unless `double`."""
    pytest.importorskip("gymnasium")
    from gymnasium.envs.classic_control import continuous_mountain_car as module

    env = module.Continuous_MountainCarEnv()
    env.reset(seed=0)
    if double:
        monkeypatch.setattr(module, "np", types.SimpleNamespace(array=lambda values, dtype: np.array(values, float), float32=None))
    return env


def test_mountain_car_equals_gymnasium_step_by_step(monkeypatch):
    """Bang-bang swings that reach the wall and the goal."""
    env, default = mountain_car(monkeypatch, double=True), plants.default("gym_mountain_car")
    env.state = x = np.array([-0.5, 0.0])
    seen = {"wall": False, "goal": False}
    for k in range(400):
        u = np.array([(1.0 if x[1] >= 0 else -1.0) if k < 250 else np.sin(k)])
        _, reward, over, *_ = env.step(u)
        ours = float(default.reward(ca.SX(x), ca.SX(u)))
        x = gym_step(default.plant, x, u)
        np.testing.assert_allclose(x, env.state, rtol=0, atol=1e-12)
        assert over == (float(default.target(x)) <= 0)
        assert ours + over * default.gamma * default.exit_value(x) == pytest.approx(reward, rel=1e-12)
        seen = {"wall": seen["wall"] or x[0] == -1.2, "goal": seen["goal"] or over}
    assert all(seen.values())


def test_mountain_car_unpatched_agrees_to_single_precision(monkeypatch):
    env, plant = mountain_car(monkeypatch, double=False), plants.get("gym_mountain_car")
    for x, u in zip(*box_points(plant, 200), strict=True):
        env.state = x
        env.step(u)
        np.testing.assert_allclose(gym_step(plant, x, u), env.state, rtol=2e-7, atol=1e-9)


def test_acrobot_has_the_accelerations_of_gymnasium():
    """Its angle is measured from hanging."""
    pytest.importorskip("gymnasium")
    from gymnasium.envs.classic_control.acrobot import AcrobotEnv

    plant, env = plants.get("acrobot"), AcrobotEnv()
    for x, u in zip(*box_points(plant, 50), strict=True):
        theirs = env._dsdt(np.array([x[0] + np.pi, *x[1:], *u]))[:4]
        np.testing.assert_allclose(np.array(plant.drift_function(x, u, plant.parameter_vector))[:, 0], theirs, rtol=1e-11, atol=1e-10)


# --- SciPy and python-control -------------------------------------------------------------------------------------------------------------

POLYNOMIAL = {"double_integrator", "kinematic_point"}  # with the input held: RK4 is exact


@pytest.mark.parametrize("name", DIFFUSIONS)
def test_the_sampled_drift_converges_to_solve_ivp_at_its_order(name):
    """Euler 1, Runge–Kutta 4, on ten samples without noise; a linear drift without curvature is exact."""
    plant = plants.get(name)
    x, u = inner_start(plant)
    drift, p, horizon = plant.drift_function, plant.parameter_vector, 4 * plants.default(name).dt
    exact = solve_ivp(lambda t, y: np.array(drift(y, u, p))[:, 0], (0, horizon), x, "DOP853", rtol=1e-13, atol=1e-13).y[:, -1]
    scale = 1 + np.abs(exact).max()
    for scheme, order in (("euler", 1), ("rk4", 4)):
        errors = []
        for count in (8, 16, 32):
            problem = rc.Problem(plant, lambda x, u: 0, 1.0, horizon, exit="free", scheme=scheme, substeps=count)
            errors.append(np.abs(stepper(problem)(x[None], u[None], np.zeros((1, plant.law.q)))[0] - exact).max() / scale)
        resolved = [e for e in errors if e > 1e-12]
        assert len(resolved) == 3 or errors[-1] <= 1e-12
        observed = np.log2(np.divide(resolved[:-1], resolved[1:]))
        assert np.all(np.abs(observed - order) <= 0.3), (scheme, errors)


@pytest.mark.parametrize("name", DIFFUSIONS)
def test_one_default_sample_is_integrated_to_a_hundredth_of_the_box(name):
    """The default `dt` is short enough for one Runge–Kutta step, also in the corners."""
    options = plants.defaults(name) | {"reward": lambda x, u: 0}
    plant = options["plant"]
    x, u = box_points(plant, 200)
    once, often = (stepper(rc.Problem(**options, substeps=s))(x, u, np.zeros((200, plant.law.q))) for s in (1, 32))
    assert np.abs((once - often) / [s.high - s.low for s in plant.states]).max() <= 0.01


LINEAR = ("double_integrator", "kinematic_point", "linear", "dc_motor", "f16", "power_system")


@pytest.mark.parametrize("name", LINEAR)
def test_linear_plants_follow_python_control(name):
    default = plants.default(name)
    plant, (x, u) = default.plant, default.equilibrium
    A, B = plant.jacobian(x, u)
    time, rng = default.dt * np.arange(21), np.random.default_rng(2)
    start, inputs = rng.normal(size=plant.n), rng.normal(size=(20, plant.m))
    held = control.c2d(control.ss(A, B, np.eye(plant.n), 0), default.dt)
    theirs = control.forced_response(held, time, np.vstack([inputs, inputs[-1:]]).T, start).outputs.T
    step = stepper(rc.Problem(plant, lambda x, u: 0, 1.0, default.dt, exit="free", substeps=20))
    path = [start]
    for v in inputs:
        path.append(step((x + path[-1])[None], (u + v)[None], np.zeros((1, plant.law.q)))[0] - x)
    np.testing.assert_allclose(path, theirs, rtol=0, atol=1e-7 * np.abs(theirs).max())


def test_published_riccati_solutions_of_the_linear_benchmarks():
    """(A6): F-16 and power system with Q = I, R = 1, by python-control."""
    upper = {
        "f16": [1.424522, 1.168193, -0.135232, 1.434940, -0.150103, 0.432928],
        "power_system": [0.4600, 0.6911, 0.0519, 0.4642, 1.8668, 0.2002, 0.5800, 0.0533, 0.0302, 2.2106],
        "f16_discrete": [14.947129, 11.855280, -0.007180, 15.057603, -0.006314, 1.010104],
    }
    for name, published in upper.items():
        plant = plants.get(name)
        A, B = plant.jacobian(*plants.equilibrium(name))
        design = control.dlqr if plant.drift is None else control.lqr
        P = design(A, B, np.eye(plant.n), np.eye(1))[1]
        digits = 1e-4 if name == "power_system" else 1e-6
        np.testing.assert_allclose(P[np.triu_indices(plant.n)], published, rtol=0, atol=0.51 * digits)


def test_the_discrete_f16_samples_the_continuous_one_but_for_two_printed_entries():
    """Actuator of 20.2 rad/s, 0.1 s. This settles A[1, 0] = 0.0741349, which one public copy has as 0.074349."""
    fast = np.array(plants.f16().params["A"])
    fast[2, 2] = -20.2
    held = control.c2d(control.ss(fast, [[0], [0], [20.2]], np.eye(3), 0), 0.1)
    plant = plants.f16_discrete()
    gap = np.abs(np.hstack([held.A - plant.params["A"], held.B - plant.params["B"][:, None]]))
    rounding = np.array([[1e-6, 1e-7, 5e-6, np.inf], [1e-7, 1e-6, np.inf, 5e-5], [1e-12, 1e-12, 1e-6, 1e-6]])
    assert np.all(gap <= rounding)
    assert gap[1, 2] == pytest.approx(0.00633, abs=1e-5)
    assert gap[0, 3] == pytest.approx(0.00106, abs=1e-5)


def test_quadruple_tank_and_reactor_rest_where_they_are_published_to():
    """Johansson's time constants 62, 90, 23, 30 s (and 63, 91, 39, 56); Henson & Seborg's 0.5 mol/l, 350 K, 300 K, unstable."""
    other = {"pump1": 3.14, "pump2": 3.29, "split1": 0.43, "split2": 0.34}
    assert sorted(time_constants()) == pytest.approx([23, 30, 62, 90], abs=1)
    x, _ = plants.equilibrium("quadruple_tank")
    np.testing.assert_allclose(x, [12.4, 12.7, 1.8, 1.4], atol=0.2)  # measured on the rig
    zeros = [
        control.ss(*plants.quadruple_tank(**o).jacobian(*plants.equilibrium("quadruple_tank", **o)), np.eye(2, 4), 0).zeros()
        for o in ({}, other)
    ]
    assert [bool(np.any(z.real > 0)) for z in zeros] == [False, True]
    x, u = plants.equilibrium("cstr")
    assert [*x, *u] == pytest.approx([0.5, 350, 300], rel=1e-4)
    assert np.linalg.eigvals(plants.cstr().jacobian(x, u)[0]).real.max() > 0


def time_constants():
    plant = plants.quadruple_tank()
    return -1 / np.diag(plant.jacobian(*plants.equilibrium("quadruple_tank"))[0])


# --- strong order of the stochastic integrator --------------------------------------------------------------------------------------------


PATHS, FINE = 4000, 512
COUNTS = (8, 16, 32, 64)  # steps up to time 1


def strong_order(problem_of, u, exact, increments):
    """Slope of log₂ E|X_N − X(1)| over halved steps, from increments (FINE, PATHS) of one Brownian motion and X(0) = 1."""
    errors = []
    for count in COUNTS:
        step, x = stepper(problem_of(1 / count)), np.ones((PATHS, 1))
        for gained in increments.reshape(count, FINE // count, PATHS).sum(1):
            x = step(x, np.tile(u, (PATHS, 1)), np.sqrt(count) * gained[:, None])
        errors.append(np.mean(np.abs(x[:, 0] - exact)))
    return -np.polyfit(np.log2(COUNTS), np.log2(errors), 1)[0]


@pytest.mark.parametrize("scheme", ["euler", "rk4"])
def test_strong_order_is_a_half_where_the_noise_multiplies(scheme):
    """Wealth with all in the stock is geometric Brownian motion: W(1) = exp(growth − spent − noise²/2 + noise·B(1))."""
    plant = plants.merton(growth=0.3, noise=0.5)
    increments = np.random.default_rng(0).normal(scale=FINE**-0.5, size=(FINE, PATHS))
    exact = np.exp(0.3 - 0.1 - 0.125 + 0.5 * increments.sum(0))
    problem = lambda dt: rc.Problem(plant, lambda x, u: 0, 1.0, dt, exit="free", scheme=scheme)
    assert strong_order(problem, [1.0, 0.1], exact, increments) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("scheme", ["euler", "rk4"])
def test_strong_order_is_one_where_the_noise_adds(scheme):
    """Ornstein–Uhlenbeck: X(1) = e^(−a) + s ∫ e^(−a(1−t)) dB, each fine step's integral drawn jointly with its increment."""
    a, s, h = 2.0, 0.5, 1 / FINE
    plant = plants.linear([[-a]], [[1.0]], F=[[s]])
    cross, own = (1 - np.exp(-a * h)) / a, (1 - np.exp(-2 * a * h)) / (2 * a)
    root = np.linalg.cholesky([[h, cross], [cross, own]])
    increments, integrals = np.einsum("ij,jkl->ikl", root, np.random.default_rng(1).normal(size=(2, FINE, PATHS)))
    exact = np.exp(-a) + s * np.exp(-a * (1 - h * np.arange(1, FINE + 1))) @ integrals
    problem = lambda dt: rc.Problem(plant, lambda x, u: 0, 1.0, dt, exit="free", scheme=scheme)
    assert strong_order(problem, [0.0], exact, increments) == pytest.approx(1.0, abs=0.1)
