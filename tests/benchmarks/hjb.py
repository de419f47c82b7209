"""Stationary HJB of a noise-free discounted pendulum on 201² against marching hj_reachability (WENO and upwind) to the same residual.

hj_reachability's own answer to a stationary problem is to march V_t = H − ρV until nothing changes; its Hamiltonian may use V, so the
discount needs no trick. Both work on the same periodic grid; ours also solves the two coarser grids of its error statement.
"""

from importlib.util import find_spec

import casadi as ca
import numpy as np

import plants
import rlctrl as rc
from tests.benchmarks.timing import median, once

RATE = 0.5  # discount per second


def problem(noise=0.0):
    plant = plants.pendulum(noise=noise)
    rate = lambda x, u: -(1 - ca.cos(x[0])) - 0.01 * x[1] ** 2 - 0.05 * u[0] ** 2
    return rc.Problem.from_rates(plant, rate, RATE, 0.01)


def ours(n, order):
    return rc.solve(problem(), rc.HJB(shape=(n, n), order=order, tolerance=1e-6))


def marching(n, accuracy, change, most=60.0):
    """(V, seconds marched) by hj_reachability until V changes by less than `change` per second."""
    import hj_reachability as hj
    import jax.numpy as jnp

    made = problem()
    parameters = made.plant.params
    gain, drag = 1 / (parameters["mass"] * parameters["length"] ** 2), parameters["damping"]

    class Pendulum(hj.ControlAndDisturbanceAffineDynamics):
        """θ' = ω, ω' = g/l sin θ − drag ω + torque; H = max over the torque of ℓ + ∇V·f, less ρV."""

        def __init__(self):
            bound = made.plant.inputs[0].high
            super().__init__("max", "min", hj.sets.Box(jnp.array([-bound]), jnp.array([bound])), hj.sets.Box(jnp.zeros(1), jnp.zeros(1)))

        def open_loop_dynamics(self, state, time):  # noqa: ARG002
            return jnp.array([state[1], parameters["gravity"] / parameters["length"] * jnp.sin(state[0]) - gain * drag * state[1]])

        def control_jacobian(self, state, time):  # noqa: ARG002
            return jnp.array([[0.0], [gain]])

        def disturbance_jacobian(self, state, time):  # noqa: ARG002
            return jnp.zeros((2, 1))

        def hamiltonian(self, state, time, value, grad_value):
            u = jnp.clip(gain * grad_value[1] / 0.1, self.control_space.lo, self.control_space.hi)
            cost = (1 - jnp.cos(state[0])) + 0.01 * state[1] ** 2 + 0.05 * u[0] ** 2
            flow = grad_value @ (self.open_loop_dynamics(state, time) + self.control_jacobian(state, time) @ u)
            return flow - cost - RATE * value  # marched backwards in time: V_t + H = 0

        def partial_max_magnitudes(self, state, time, value, grad_value_box):  # noqa: ARG002
            high = self.control_space.hi
            return jnp.abs(self.open_loop_dynamics(state, time)) + jnp.abs(self.control_jacobian(state, time)) @ high

    states = made.plant.states
    box = hj.sets.Box(np.array([s.low for s in states]), np.array([s.high for s in states]))
    grid = hj.Grid.from_lattice_parameters_and_boundary_conditions(box, (n - 1, n), periodic_dims=0)
    settings, dynamics, values = hj.SolverSettings.with_accuracy(accuracy), Pendulum(), jnp.zeros((n - 1, n))
    marched = 0
    for marched in range(1, int(most) + 1):  # noqa: B007
        new = hj.step(settings, dynamics, grid, 0.0, values, -1.0, progress_bar=False)
        moved, values = float(jnp.max(jnp.abs(new - values))), new
        if moved <= change:
            break
    return np.asarray(values), marched


def rows(repeat, n=201):
    for order, accuracy in ((1, "low"), (2, "very_high")):
        once(lambda order=order: ours(n, order))
        seconds, reference = median(lambda order=order: ours(n, order), repeat)
        row = {"grid": f"{n}²", "order": order, "seconds": seconds, "stated": reference.error, "residual": reference.residual}
        if not find_spec("hj_reachability"):
            yield row | {"hj_reachability": "not installed"}
            continue
        change = max(reference.residual, 1e-7)  # of V per second of marching: the same residual of T4
        once(lambda accuracy=accuracy: marching(n, accuracy, 1.0, most=1))
        theirs, (values, marched) = once(lambda accuracy=accuracy, change=change: marching(n, accuracy, change))
        angle = np.linspace(-np.pi, np.pi, n)[: n - 1]
        speed = np.linspace(-8, 8, n)
        gap = np.abs(reference.V(np.stack(np.meshgrid(angle, speed, indexing="ij"), -1)) - values)
        inner = np.abs(speed) <= 4
        row |= {"hj_reachability_s": theirs, "marched_s": marched, "ratio": theirs / seconds}
        yield row | {"V_differs_by_inside": float(gap[:, inner].max()), "mean_difference": float(gap.mean())}
