"""Plants with known optimal values against their optimality equations, and mechanical ones against their energy."""

import casadi as ca
import numpy as np
import pytest
from plant_tools import box_points, inner_start, stepper

import plants
import rlctrl as rc

# --- exact values -------------------------------------------------------------------------------------------------------------------------

HALF = lambda x: x[0] ** 2 / 2 + x[1] ** 2
KNOWN = {
    "vamvoudakis_lewis": (HALF, lambda x: -(ca.cos(2 * x[0]) + 2) * x[1]),
    "vrabie_lewis_easy": (HALF, lambda x: -ca.sin(x[0]) * x[1]),
    "vrabie_lewis_hard": (lambda x: HALF(x) + x[1] ** 4, lambda x: -ca.sin(x[0]) * (x[1] + 2 * x[1] ** 3)),
    "nevistic_primbs": (lambda x: ca.sumsqr(x), lambda x: -x[0] * x[1]),
    "doyle": (lambda x: x[0] ** 2 * (np.pi / 2 + ca.atan(5 * x[0])) + x[1] ** 2, lambda x: -3 * x[1]),
    "bian_jiang": (lambda x: ca.sumsqr(x), lambda x: -x[1]),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_value_solves_the_hjb_equation_of_the_default_problem(name):
    """(A1–A5) 0 = min_u { ℓ + ∇V·f }: the residual at the stated input, and that no other input of the box is better."""
    default, (value, policy) = plants.default(name), KNOWN[name]
    plant, x, u = default.plant, ca.SX.sym("x", 2), ca.SX.sym("u")
    cost = -default.reward(x, u) / default.dt
    hamiltonian = cost + ca.gradient(value(x), x).T @ plant.drift_function(x, u, plant.parameter_vector)
    at, best = ca.Function("h", [x, u], [hamiltonian]), ca.Function("best", [x], [policy(x)])
    points = box_points(plant, 200)[0]
    inputs = np.array(best(points.T))[0]
    low, high = plant.inputs[0].low, plant.inputs[0].high
    assert np.all((low <= inputs) & (inputs <= high))
    assert np.abs(np.array(at(points.T, inputs[None]))).max() <= 1e-10
    for other in np.linspace(low, high, 21):
        assert np.array(at(points.T, np.full((1, len(points)), other))).min() >= -1e-10


def test_merton_value_solves_its_hjb_equation():
    """(C5) 0 = max { r + dt·(∇V·b + ½σ²V″) } + (γ-rate) at the constant share and rate; the exit value is V."""
    default = plants.default("merton")
    plant, x, u = default.plant, ca.SX.sym("x"), ca.SX.sym("u", 2)
    value = default.exit_value(x)
    slope, bend = ca.gradient(value, x), ca.hessian(value, x)[0]
    p = plant.parameter_vector
    gain = slope * plant.drift_function(x, u, p) + 0.5 * plant.diffusion_function(x, u, p) ** 2 * bend
    residual = ca.Function("h", [x, u], [default.reward(x, u) / default.dt + gain + np.log(default.gamma) / default.dt * value])
    share, rate = 0.05 / (3 * 0.04), (0.05 + 2 * (0.02 + 0.05**2 / (6 * 0.04))) / 3
    assert [share, rate] == pytest.approx([0.416667, 0.036944], abs=5e-7)
    assert float(ca.Function("v", [x], [value])(1.0)) == pytest.approx(-9915.68185, rel=1e-9)
    for wealth in np.linspace(0.5, 2, 7):
        scale = 0.05 * 9915 * wealth**-2
        assert abs(float(residual(wealth, [share, rate]))) <= 1e-11 * scale
        assert float(residual(wealth, [share + 0.1, rate])) < -1e-4 * scale > float(residual(wealth, [share, 1.2 * rate]))


def test_growth_and_car_replacement_have_their_closed_forms():
    """(C1, C2) Bellman's equation V = max { r + γ E V(X₊) } with the law's own quadrature."""
    grown, worn = plants.default("growth", noise=0.3), plants.default("car_replacement")
    slope = 0.65 / (1 - 0.65 * 0.95)
    V = lambda k: -34.7856075455 + slope * np.log(k)
    for k in (0.05, 0.25, 0.9):
        errors = [V(k) - backup(grown, V, k, 0.65 * 0.95 + d, 5) for d in (-0.05, 0.0, 0.05)]
        assert abs(errors[1]) <= 1e-9
        assert min(errors[0], errors[2]) > 1e-3
    for s in (0.0, 30.0, 52.0, 54.0, 80.0):
        keep, replace = (backup(worn, car_value, s, u, 120) for u in (0, 1))
        assert max(keep, replace) == pytest.approx(float(car_value(s)), rel=2e-5)
        assert (keep > replace) == (s < 52.86545636058919)


def backup(default, V, x, u, order):
    """r(x, u) + γ E V(X₊)."""
    nodes, weights = default.plant.law.quadrature(order)
    after = [float(default.plant.update_function(x, u, w, default.plant.parameter_vector)) for w in nodes]
    return float(default.reward(ca.SX([x]), ca.SX([u]))) + default.gamma * weights @ V(np.array(after))


def car_value(s):
    stop, c, beta, rate = 52.86545636058919, 200.0, 0.95, 0.5 * 0.05
    return -c * stop / (1 - beta) + np.where(s < stop, c / (1 - beta) * (stop - s - beta / rate * (1 - np.exp(-rate * (stop - s)))), 0.0)


# --- conserved quantities -----------------------------------------------------------------------------------------------------------------


def _cart(x, p):
    """Kinetic energy of cart and uniform pole, and the pole's weight."""
    pole = p["pole_mass"] * (x[1] * p["half_length"] * x[3] * ca.cos(x[2]) + 2 / 3 * p["half_length"] ** 2 * x[3] ** 2)
    return (p["cart_mass"] + p["pole_mass"]) / 2 * x[1] ** 2 + pole + p["pole_mass"] * p["gravity"] * p["half_length"] * ca.cos(x[2])


def _links(x, p):
    """Energy from the positions of the two centres of mass, differentiated: independent of the plant's mass matrix."""
    first, both = x[0], x[0] + x[1]
    centre1 = p["centre1"] * ca.vertcat(ca.sin(first), ca.cos(first))
    centre2 = p["length1"] * ca.vertcat(ca.sin(first), ca.cos(first)) + p["centre2"] * ca.vertcat(ca.sin(both), ca.cos(both))
    speed = lambda centre: ca.sumsqr(ca.jacobian(centre, x[:2]) @ x[2:])
    spins = p["inertia1"] * x[2] ** 2 + p["inertia2"] * (x[2] + x[3]) ** 2
    moving = (p["mass1"] * speed(centre1) + p["mass2"] * speed(centre2) + spins) / 2
    return moving + p["gravity"] * (p["mass1"] * centre1[1] + p["mass2"] * centre2[1])


def _rod(x, p):
    return p["mass"] * p["length"] ** 2 / 6 * x[1] ** 2 + p["mass"] * p["gravity"] * p["length"] / 2 * ca.cos(x[0])


def _rigid(x, p):
    spins = p["inertia_x"] * x[9] ** 2 + p["inertia_y"] * x[10] ** 2 + p["inertia_z"] * x[11] ** 2
    return p["mass"] * (ca.sumsqr(x[3:6]) / 2 + p["gravity"] * x[2]) + spins / 2


def _flat(x, p):
    return p["mass"] * (ca.sumsqr(x[3:5]) / 2 + p["gravity"] * x[1]) + p["inertia"] * x[5] ** 2 / 2


def _turned(x):
    """Body to world: Rz(yaw) Ry(pitch) Rx(roll)."""
    (a, b, c), (d, e, f) = ([g(x[k]) for k in (6, 7, 8)] for g in (ca.cos, ca.sin))
    roll = [[1, 0, 0], [0, a, -d], [0, d, a]]
    pitch = [[b, 0, e], [0, 1, 0], [-e, 0, b]]
    yaw = [[c, -f, 0], [f, c, 0], [0, 0, 1]]
    first, second, third = (ca.vertcat(*[ca.horzcat(*row) for row in rows]) for rows in (yaw, pitch, roll))
    return first @ second @ third


def _thrust(x, u, _):
    """Power of thrust and torques on a rigid body in space."""
    return u[0] * ca.dot(_turned(x)[:, 2], x[3:6]) + ca.dot(u[1:], x[9:])


def _rod_and_motor(x, p):
    return _rod(x, p) + p["motor_mass"] * p["motor_radius"] ** 2 / 4 * x[1] ** 2


ENERGY = {  # options, energy(x, p), power(x, u, p) of inputs and friction
    "pendulum_friction": ({}, _rod, lambda x, u, p: (u[0] - p["friction"] * p["mass"] * p["length"] ** 2 / 3 * x[1] * abs(x[1])) * x[1]),
    "pendulum_motor": ({}, _rod_and_motor, lambda x, u, p: x[1] * x[2]),
    "cart_pole": ({}, _cart, lambda x, u, p: u[0] * x[1]),
    "acrobot": ({}, _links, lambda x, u, p: u[0] * x[3]),
    "two_link_arm": ({}, _links, lambda x, u, p: ca.dot(u - p["damping"] * x[2:], x[2:])),
    "duffing": (
        {},
        lambda x, p: (x[1] ** 2 + p["stiffness"] * x[0] ** 2 + p["cubic"] * x[0] ** 4 / 2) / 2,
        lambda x, u, p: (u[0] - p["damping"] * x[1]) * x[1],
    ),
    "quadrotor": ({"inertia_y": 0.009}, _rigid, _thrust),
    "planar_quadrotor": (
        {},
        _flat,
        lambda x, u, p: (u[0] + u[1]) * (ca.cos(x[2]) * x[4] - ca.sin(x[2]) * x[3]) + p["arm"] * (u[0] - u[1]) * x[5],
    ),
    "lunar_lander": (
        {},
        _flat,
        lambda x, u, p: (
            u[0] * (ca.cos(x[2]) * x[3] + ca.sin(x[2]) * x[4])
            + u[1] * (ca.cos(x[2]) * x[4] - ca.sin(x[2]) * x[3])
            + p["lever"] * u[0] * x[5]
        ),
    ),
    "three_wheeled_robot_dynamic": (
        {},
        lambda x, p: (p["mass"] * x[3] ** 2 + p["inertia"] * x[4] ** 2) / 2,
        lambda x, u, p: u[0] * x[3] + u[1] * x[4],
    ),
    "dc_motor": (
        {},
        lambda x, p: (p["inertia"] * x[0] ** 2 + p["inductance"] * x[1] ** 2) / 2,
        lambda x, u, p: u[0] * x[1] - p["friction"] * x[0] ** 2 - p["resistance"] * x[1] ** 2,
    ),
}


@pytest.mark.parametrize("name", ENERGY)
def test_energy_changes_by_the_power_of_inputs_and_friction_alone(name):
    options, energy, power = ENERGY[name]
    plant = plants.get(name, **options)
    x, u = ca.SX.sym("x", plant.n), ca.SX.sym("u", plant.m)
    total = energy(x, plant.params)
    gain = ca.gradient(total, x).T @ plant.drift_function(x, u, plant.parameter_vector)
    balance = ca.Function("balance", [x, u], [gain, power(x, u, plant.params)])
    found, want = (np.array(part)[0] for part in balance(*(z.T for z in box_points(plant, 100))))
    assert np.ptp(want) > 0
    np.testing.assert_allclose(found, want, rtol=1e-10, atol=1e-11 * np.abs(want).max())


@pytest.mark.parametrize(
    ("name", "options"), [("cart_pole", {}), ("acrobot", {}), ("two_link_arm", {"damping": 0.0}), ("duffing", {"damping": 0.0})]
)
def test_frictionless_plants_keep_their_energy_to_the_order_of_rk4(name, options):
    plant = plants.get(name, **options)
    x = ca.SX.sym("x", plant.n)
    energy = ca.Function("energy", [x], [ENERGY[name][1](x, plant.params)])
    start, drifts = inner_start(plant)[0], []
    for count in (200, 400):
        step, path = stepper(rc.Problem(plant, lambda x, u: 0, 1.0, 1 / count, exit="free")), [start[None]]
        for _ in range(count):
            path.append(step(path[-1], np.zeros((1, plant.m)), np.zeros((1, plant.law.q))))
        drifts.append(np.ptp(np.array(energy(np.concatenate(path).T))))
    assert drifts[-1] <= 1e-5
    assert np.log2(drifts[0] / drifts[1]) >= 3.7


def test_a_quadrotor_without_torque_keeps_its_angular_momentum_in_the_world():
    plant = plants.quadrotor(inertia_y=0.009)
    x = ca.SX.sym("x", 12)
    momentum = _turned(x) @ (ca.vertcat(0.0075, 0.009, 0.013) * x[9:])
    change = ca.jacobian(momentum, x) @ plant.drift_function(x, [5, 0, 0, 0], plant.parameter_vector)
    found = np.array(ca.Function("change", [x], [change])(box_points(plant, 100)[0].T))
    assert np.abs(found).max() <= 1e-13


FORCED = {  # inputs whose noise the diffusion is, and its size
    "pendulum": ([0], [0.2]),
    "pendulum_friction": ([0], [0.01]),
    "cart_pole": ([0], [0.5]),
    "lunar_lander": ([0, 1], [0.3, 0.3]),
    "acrobot": ([0], [0.1]),
    "two_link_arm": ([0, 1], [0.5, 0.5]),
    "three_wheeled_robot": ([0, 1], [0.05, 0.05]),
    "three_wheeled_robot_dynamic": ([0, 1], [0.5, 0.1]),
    "double_integrator": ([0], [0.1]),
    "duffing": ([0], [0.1]),
    "van_der_pol": ([0], [0.1]),
}


@pytest.mark.parametrize("name", FORCED)
def test_noise_on_an_input_enters_as_the_input_does(name):
    plant, (inputs, sizes) = plants.get(name), FORCED[name]
    for x, u in zip(*box_points(plant, 20), strict=True):
        got = np.array(plant.diffusion_function(x, u, plant.parameter_vector))
        np.testing.assert_allclose(got, plant.jacobian(x, u)[1][:, inputs] * sizes, rtol=1e-10, atol=1e-13)


# --- motions known in closed form ---------------------------------------------------------------------------------------------------------


def flown(name, x, u, time):
    """The plant's state after that time without noise, input held; angles not wrapped."""
    plant = plants.get(name)
    step = stepper(rc.Problem(plant, lambda x, u: 0, 1.0, time, exit="free", substeps=100))
    return step(np.array([x], float), np.array([u], float), np.zeros((1, plant.law.q)))[0]


def test_vehicles_run_on_circles():
    """Radius v/ω; the bicycle's centre turns about a point that all wheels' axles meet in."""
    circle = lambda x, y, heading, radius, turned: [
        x + radius * (np.sin(heading + turned) - np.sin(heading)),
        y - radius * (np.cos(heading + turned) - np.cos(heading)),
    ]
    want = circle(1, -2, 0.3, 1.5 / 0.8, 0.8 * 2)
    np.testing.assert_allclose(flown("three_wheeled_robot", [1, -2, 0.3], [1.5, 0.8], 2.0), [*want, 0.3 + 1.6], atol=1e-7)
    np.testing.assert_allclose(
        flown("three_wheeled_robot_dynamic", [1, -2, 0.3, 1.5, 0.8], [0, 0], 2.0), [*want, 0.3 + 1.6, 1.5, 0.8], atol=1e-7
    )
    front, rear, steering, speed = 1.105, 1.738, 0.4, 6.0
    axle = (front + rear) / np.tan(steering)  # of the rear axle's middle
    radius, slip = np.hypot(axle, rear), np.arctan2(rear, axle)
    turned = 2 * speed / radius
    want = circle(0, 0, 0.3 + slip, radius, turned)
    np.testing.assert_allclose(flown("bicycle", [0, 0, 0.3, speed], [0, steering], 2.0), [*want, 0.3 + turned, speed], atol=1e-6)


def test_pushed_vehicles_gain_speed_and_the_motor_lags_its_command():
    assert flown("three_wheeled_robot_dynamic", [0, 0, 0, 0, 0], [5.0, 0], 2.0) == pytest.approx([1, 0, 0, 1, 0])
    assert flown("three_wheeled_robot_dynamic", [0, 0, 0, 0, 0], [0, 0.5], 2.0) == pytest.approx([0, 0, 1, 0, 1])
    assert flown("bicycle", [0, 0, 0, 1], [0.5, 0], 2.0) == pytest.approx([3, 0, 0, 2])
    assert flown("pendulum_motor", [np.pi, 0, 0.1], [0.3], 0.1)[2] == pytest.approx(0.3 - 0.2 * np.exp(-2), rel=1e-8)


def test_tanks_fill_as_they_drain():
    """An isolated lower tank drains by Torricelli, √h falling linearly; the first of two tanks relaxes exponentially."""
    h = flown("quadruple_tank", [9, 9, 0, 0], [0, 0], 20.0)
    fall = np.array([0.071 / 28, 0.057 / 32]) * np.sqrt(981 / 2) * 20
    np.testing.assert_allclose(h[:2], (3 - fall) ** 2, rtol=1e-3)  # a trickle remains of the empty tanks above
    level1 = 1.3 * 0.5 + (0.2 - 1.3 * 0.5) * np.exp(-10 / 18.4)
    assert flown("two_tank", [0.2, 0.1], [0.5], 10.0)[0] == pytest.approx(level1, rel=1e-9)
