"""Problems made backwards from a chosen V*, so that everything about them is known (converse optimality).

Each recipe returns (problem, method): `rc.solve(problem, method)` verifies V* by its residual before it hands out the exact `Reference`.

- `discrete`: any discrete-time kernel, bounded inputs, any V. With A(x,u) = −½[(u−μ)ᵀM(u−μ) − (clip μ−μ)ᵀM(clip μ−μ)] ≤ 0 the reward
  r = V + A − γ E V(X_+) has Q* = V + A and the optimal input clip(μ), if M is diagonal or no bound is active.
- `continuous`: continuous time, control-affine, cost q(x) + uᵀRu with q = ρV_c + … from a chosen cost-to-go V_c (Doyle, Primbs,
Shapiro & Nevistić 1996).
- `stochastic`: s_+ = H^{-1/2} S(s) (P − Q)^{1/2} s + G a + w with V = −sᵀPs − γ/(1−γ) tr(PΣ) for any orthogonal S(s)
  (Ibrahim, Ouerdane, Salloum, Ouerdane, Streif & Osinenko 2026, arXiv 2603.17631).
"""

from collections.abc import Callable, Sequence

import casadi as ca
import numpy as np
from scipy import linalg

from rlctrl.errors import InputError, first_line, require, require_number, require_numbers, require_room, require_whole, strict
from rlctrl.noise import Gaussian
from rlctrl.plant import Plant, Signal, as_matrix, box, closed
from rlctrl.problem import Problem
from rlctrl.reference.exact import Exact


@strict
def discrete(plant: Plant, V: Callable, policy: Callable, curvature, gamma, dt=None, quadrature=9, **options):
    """Problem and `Exact` method with the value `V(x)`, the unclipped policy `policy(x)` (m expressions) and the advantage curvature
    `curvature` (m, m).

    The expectation in the reward is the quadrature of that order per channel: exact for polynomial V, else choose it high. `options` go
    to `Problem`. The exit rule must be "free" (the default here) and there may be no target: a clipped state, or an end, would change the
    expectation. `curvature` must be diagonal where inputs have bounds, which are then kept one by one. Raises `InputError` otherwise, and
    for inputs of finitely many values.
    """
    _check_exit(options)
    M = _matrix("curvature", curvature, (plant.m, plant.m), definite=True)
    apart = np.array_equal(M, np.diag(np.diag(M))) or not np.any(np.isfinite(box(plant.inputs)))
    require(apart, "curvature", "must be diagonal where inputs have bounds", M.tolist(), "Use a diagonal, or inputs without bounds.")
    finite = [s.name for s in plant.inputs if s.values]
    require(not finite, "plant", "must have continuous inputs", finite, "Give them bounds instead of values.")
    ends = sorted({"target", "exit_value"}.intersection(options))
    require(not ends, "options", "must not let the problem end", ends, "Leave them out.")
    for argument, function, size in (("V", V, 1), ("policy", policy, plant.m)):
        _expressions(argument, function, plant.symbols()[0], (size, 1))
    low, high = box(plant.inputs)
    bare = Problem(plant, lambda x, u: 0 * x[0] * u[0], gamma, dt, exit="free", **options)
    symbols = bare.symbolic()
    step = ca.Function("step", list(symbols[:4]), [symbols[4]])
    nodes, weights = plant.law.quadrature(quadrature)

    def clipped(x):
        return ca.fmin(ca.fmax(ca.vertcat(*_column(policy(x))), low), high)

    def advantage(x, u):
        mu = ca.vertcat(*_column(policy(x)))
        gap, rest = u - mu, clipped(x) - mu
        return -0.5 * (gap.T @ M @ gap - rest.T @ M @ rest)

    def reward(x, u, p):
        expected = sum(weight * V(step(x, u, node, p.vector)) for node, weight in zip(nodes, weights, strict=True))
        return V(x) + advantage(x, u) - gamma * expected

    problem = Problem(plant, reward, gamma, dt, exit="free", **options)
    return problem, Exact(V=V, policy=clipped, Q=lambda x, u: V(x) + advantage(x, u), quadrature=quadrature)


@strict
def continuous(plant: Plant, cost_to_go: Callable, R, discount_rate: float = 0.0, dt=0.01, **options):
    """Problem and `Exact(hjb=True)` of a control-affine diffusion b = f(x) + g(x)u with σ free of u, cost rate q(x) + uᵀRu and the given
    cost-to-go V_c(x) (so V* = −V_c): q = ρV_c − ∇V_c·f − ½ tr(σσᵀ∇²V_c) + ¼ ∇V_cᵀ g R⁻¹ gᵀ ∇V_c, u* = −½R⁻¹gᵀ∇V_c. Inputs must be wide
    enough for u*."""
    _check_exit(options)
    R = _matrix("R", R, (plant.m, plant.m), definite=True)
    x, u, p = plant.symbols()
    require(plant.drift_function is not None, "plant", "must have a drift", plant.name, "Use discrete.")
    drift, sigma = (function(x, u, p) for function in (plant.drift_function, plant.diffusion_function) if function is not None)
    gain = ca.jacobian(drift, u)
    affine = not ca.depends_on(gain, u) and not ca.depends_on(sigma, u)
    require(affine, "plant", "must be affine in u with noise free of u", plant.name, "Use discrete.")
    value = _expressions("cost_to_go", cost_to_go, x, (1, 1))
    slope, bend = ca.gradient(value, x), ca.hessian(value, x)[0]
    free = ca.substitute(drift, u, ca.DM.zeros(u.shape))
    best = -0.5 * np.linalg.inv(R) @ (gain.T @ slope)
    cost = discount_rate * value - slope.T @ free - 0.5 * ca.trace(sigma @ sigma.T @ bend) + best.T @ R @ best
    cost_function, policy = ca.Function("q", [x, p], [cost]), ca.Function("policy", [x, p], [best])

    def rate(x, u, p):
        return -(cost_function(x, p.vector) + u.T @ R @ u)

    problem = Problem.from_rates(plant, rate, discount_rate, dt, exit="free", **options)
    vector = plant.parameter_vector
    return problem, Exact(V=lambda x: -as_matrix(cost_to_go(x), "cost_to_go", (1, 1)), policy=lambda x: policy(x, vector), hjb=True)


@strict
def stochastic(
    P, Q, R, G, covariance, rotation: Callable, gamma, *, name="converse", states: Sequence | None = None, inputs: Sequence | None = None
):
    """Problem (exit "free") and `Exact` method of the stochastic construction: cost sᵀQs + aᵀRa, P ⪰ Q, `rotation(s)` an orthogonal matrix
    of CasADi expressions, w ~ N(0, `covariance`). V* = −sᵀPs − γ/(1−γ)·tr(P·covariance). `states`, `inputs`: Signals; by default
    dimensionless states within ±3 and unbounded inputs."""
    G = np.atleast_2d(require_numbers("G", G))
    G = _matrix("G", G, G.shape)
    n, m = G.shape
    P, R = _matrix("P", P, (n, n), definite=True), _matrix("R", R, (m, m), definite=True)
    Q, covariance = _matrix("Q", Q, (n, n)), _matrix("covariance", covariance, (n, n))
    require_number("gamma", gamma, "must lie in (0, 1)", "Use e.g. 0.98.", low=1e-300, high=1 - 1e-12)
    noise = np.allclose(covariance, covariance.T) and bool(np.all(linalg.eigvalsh(covariance) >= -1e-12 * np.max(np.abs(covariance))))
    require(noise, "covariance", "must be symmetric and positive semidefinite", covariance.tolist(), "Use e.g. np.diag of variances.")
    below = np.allclose(Q, Q.T) and bool(np.all(linalg.eigvalsh(P - Q) >= -1e-12))
    require(below, "Q", "must be symmetric and not exceed P", Q.tolist(), "Scale Q down.")
    _check_rotation(rotation, n)
    H = gamma * np.linalg.inv(np.linalg.inv(P) + gamma * G @ np.linalg.solve(R, G.T))
    left, right = np.linalg.inv(_root(H)), _root(P - Q)
    spread = _factor(covariance)
    gain = gamma * np.linalg.solve(R + gamma * G.T @ P @ G, G.T @ P)
    constant = gamma / (1 - gamma) * np.trace(P @ spread @ spread.T)

    def free(s):
        return left @ as_matrix(rotation(s), "rotation", (n, n)) @ (right @ s)

    plant = Plant(
        name=name,
        states=states if states is not None else [Signal(f"s{k}", "1", -3, 3) for k in range(n)],
        inputs=inputs if inputs is not None else [Signal(f"a{k}", "1") for k in range(m)],
        update=lambda s, a, w, p: free(s) + G @ a + spread @ w,
        noise=Gaussian(spread.shape[1]),
        source="Ibrahim, Ouerdane, Salloum, Ouerdane, Streif & Osinenko 2026, arXiv 2603.17631",
    )
    problem = Problem(plant, lambda s, a: -(s.T @ Q @ s + a.T @ R @ a), gamma, exit="free")
    return problem, Exact(V=lambda s: -(s.T @ P @ s) - constant, policy=lambda s: -gain @ free(s))


def unicycle():
    """S1 of that paper: dynamic unicycle, states x, y (m), heading (rad), speed (m/s), turn rate (rad/s); γ = 0.98, dt = 0.1 s."""
    P = np.diag([1 / 9, 1 / 9, 1, 1, 1])
    G = np.zeros((5, 2))
    G[3, 0] = G[4, 1] = 0.1

    def rotation(s):
        angle = 0.28 * ca.tanh(1.2 * s[2])
        turn = givens(5, 3, 4, 0.25 * ca.tanh(1.5 * s[3] * s[4])) @ givens(5, 1, 3, angle)
        return turn @ givens(5, 0, 3, angle) @ givens(5, 0, 1, s[2])

    noise = np.diag([1e-4, 1e-4, 2.5e-5, 4e-4, 4e-4])
    bounds = (("x", "m", 3), ("y", "m", 3), ("heading", "rad", 1), ("speed", "m/s", 1), ("turn_rate", "rad/s", 1))
    states = [Signal(name, unit, -size, size) for name, unit, size in bounds]
    inputs = [Signal("acceleration", "m/s^2"), Signal("turn_acceleration", "rad/s^2")]
    return stochastic(P, 0.63 * P, 0.00390625 * np.eye(2), G, noise, rotation, 0.98, name="unicycle", states=states, inputs=inputs)


def arm():
    """S2 of that paper: two-link arm, states two angles (rad) and two rates (rad/s); γ = 0.99, dt = 0.05 s."""
    P = np.diag([1 / np.pi**2, 1 / np.pi**2, 1, 1])
    G = np.zeros((4, 2))
    G[2, 0] = G[3, 1] = 0.05

    def rotation(s):
        turn = givens(4, 2, 3, 0.3 * ca.tanh(s[1] - s[0])) @ givens(4, 1, 3, 0.35 * ca.tanh(s[1] * s[3]) + 0.5 * ca.sin(s[1]))
        return turn @ givens(4, 0, 2, 0.35 * ca.tanh(s[0] * s[2]) + 0.5 * ca.sin(s[0]))

    bounds = (("angle1", "rad", np.pi), ("angle2", "rad", np.pi), ("rate1", "rad/s", 1), ("rate2", "rad/s", 1))
    states = [Signal(name, unit, -size, size) for name, unit, size in bounds]
    inputs = [Signal("torque1", "N m"), Signal("torque2", "N m")]
    noise = np.diag([0, 0, 2e-4, 2e-4])
    return stochastic(P, 0.5265 * P, 0.0009 * np.eye(2), G, noise, rotation, 0.99, name="arm", states=states, inputs=inputs)


@strict
def givens(n, i, j, angle):
    """The n×n Givens rotation by `angle` in the plane of axes i, j (zero-based), +sin in entry (j, i)."""
    require_whole("n", n, 2, "Use the number of states.")
    require_room("n", 100 * int(n), n)
    for name, axis in (("i", i), ("j", j)):
        require_whole(name, axis, 0, "Axes are counted from 0.")
        require(axis < n, name, f"must be below n = {n}", axis, "Axes are counted from 0.")
    require(i != j, "j", "must differ from i", j, "Give two axes.")
    angle = as_matrix(angle, "angle", (1, 1))
    n, i, j = int(n), int(i), int(j)
    out = ca.SX.eye(n)
    out[i, i], out[j, j], out[i, j], out[j, i] = ca.cos(angle), ca.cos(angle), -ca.sin(angle), ca.sin(angle)
    return out


def _check_exit(options):
    """The recipes hold for "free" alone."""
    require("exit" not in options, "exit", 'must be left out: it is "free" here', options.get("exit"), "Use rc.Exact with other rules.")


def _check_rotation(rotation, n):
    """Raise `InputError` unless it gives orthogonal matrices (n, n)."""
    s = ca.SX.sym("s", n)
    at = closed("rotation", [s], _expressions("rotation", rotation, s, (n, n)))
    for point in np.random.default_rng(0).uniform(-1, 1, (8, n)):
        S = np.array(at(point))
        orthogonal = bool(np.all(np.isfinite(S))) and np.allclose(S @ S.T, np.eye(n), atol=1e-9)
        require(orthogonal, "rotation", f"must be orthogonal; at s={point.round(4).tolist()} it", S.tolist(), "Use converse.givens.")


def _expressions(argument, function, symbols, shape):
    """What one of the user's functions makes of symbols, in that shape; refused by name otherwise."""
    require(callable(function), argument, "must be a function that returns CasADi expressions", function, "Use a lambda.")
    try:
        value = function(symbols)
    except InputError:
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"`{argument}` failed when called on CasADi symbols: {text}. Use casadi functions such as ca.sin.") from error
    value = as_matrix(value, argument, shape)
    closed(argument, [symbols], value)
    return value


def _matrix(argument, value, shape, definite=False):
    """A matrix of that shape, positive definite if asked for; refused otherwise."""
    a = np.atleast_2d(require_numbers(argument, value))
    fits = (
        a.ndim == 2 and a.size > 0 and len(shape) <= 2 and a.shape == np.atleast_2d(np.empty(shape)).shape and bool(np.all(np.isfinite(a)))
    )
    require(fits, argument, f"must be a finite matrix of shape {shape}", a.tolist(), "Give one row per state or input.")
    positive = not definite or (np.allclose(a, a.T) and bool(np.all(linalg.eigvalsh(a) > 0)))
    require(positive, argument, "must be symmetric and positive definite", a.tolist(), "Use e.g. np.eye(n).")
    return a


def _column(value):
    return [value[k] for k in range(value.shape[0])] if isinstance(value, ca.SX) else list(np.atleast_1d(value))


def _root(a):
    return np.real(linalg.sqrtm(a))


def _factor(covariance):
    """A full-rank factor F of a covariance: FFᵀ = covariance, one column per noisy direction."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > 1e-15 * max(values.max(), 1e-300)
    return vectors[:, kept] * np.sqrt(values[kept])
