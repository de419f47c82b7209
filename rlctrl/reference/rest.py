"""The point of rest of a diffusion problem, the linear feedback there, and the time constant of a policy there."""

import casadi as ca
import numpy as np
from scipy import linalg

from rlctrl.errors import require
from rlctrl.plant import box
from rlctrl.policy import LinearPolicy

FREE = 1e-8  # cost per second and noise at rest that count as none


def local_functions(problem):
    """z = (x, u) → ℓ, ∇ℓ, ∇²ℓ, b, ∂b/∂z as NumPy arrays, by CasADi."""
    x, u, p = problem.plant.symbols()
    z, rate, drift = ca.vertcat(x, u), problem.reward_of(x, u, p) / problem.generator.dt, problem.plant.drift_function(x, u, p)
    parts = [rate, ca.gradient(rate, z), ca.hessian(rate, z)[0], drift, ca.jacobian(drift, z)]
    function = ca.Function("local", [z, p], [ca.densify(part) for part in parts])
    return lambda z: [np.array(part) for part in function(z, problem.plant.parameter_vector)]


def point_of_rest(problem, local):
    """z = (x, u) in the boxes with b = 0 where ℓ is greatest, searched from the point nearest to 0; None if none is found."""
    low, high = box((*problem.plant.states, *problem.plant.inputs))
    rule = {"type": "eq", "fun": lambda z: local(z)[3][:, 0], "jac": lambda z: local(z)[4]}
    loss = lambda z: (-float(local(z)[0][0, 0]), -local(z)[1][:, 0])
    start, bounds = np.clip(np.zeros(len(low)), low, high), list(zip(low, high, strict=True))
    from scipy import optimize  # slow to import, and not for importing rlctrl

    z = optimize.minimize(loss, start, jac=True, bounds=bounds, constraints=[rule], method="SLSQP", options={"ftol": 1e-15}).x
    return z if np.all(np.isfinite(z)) and np.max(np.abs(local(z)[3])) < 1e-8 else None


def check_rest(problem, rest, local):
    """Without discount the value is finite only if rest is free of cost and noise."""
    if problem.generator.rho > 0:
        return
    way_out = 'Use gamma < 1, or exit="absorb".'
    require(rest is not None, "gamma", "must be below 1 without a point of rest in the box", problem.gamma, way_out)
    cost, noise = _unrest(problem, rest, local)
    require(cost < FREE, "gamma", f"must be below 1 where rest costs {cost:.1e} per second", problem.gamma, way_out)
    require(noise < FREE, "gamma", "must be below 1 where noise acts at rest", problem.gamma, way_out)


def is_free(problem, rest, local):
    """Whether there is a point of rest, free of cost and noise."""
    return rest is not None and max(_unrest(problem, rest, local)) < FREE


def _unrest(problem, rest, local):
    """|ℓ| per second and the largest |σ| at rest."""
    n = problem.plant.n
    sigma = np.array(problem.plant.diffusion_function(rest[:n], rest[n:], problem.plant.parameter_vector))
    return abs(float(local(rest)[0][0, 0])), float(np.max(np.abs(sigma), initial=0.0))


def linear_feedback(problem, local, z):
    """LQR of the linearisation at z, with A − ρ/2·I and weights −½∇²ℓ made positive definite, clipped to the input box."""
    n, m = problem.plant.n, problem.plant.m
    values, vectors = np.linalg.eigh(-0.5 * local(z)[2])
    W = (vectors * np.maximum(values, 1e-3 * max(values[-1], 1e-3))) @ vectors.T
    A, B = np.split(local(z)[4], [n], axis=1)
    try:
        P = linalg.solve_continuous_are(A - 0.5 * problem.generator.rho * np.eye(n), B, W[:n, :n], W[n:, n:], s=W[:n, n:])
        K = np.linalg.solve(W[n:, n:], B.T @ P + W[n:, :n])
    except np.linalg.LinAlgError:
        K = np.zeros((m, n))
    return LinearPolicy(K, z[:n], z[n:], np.zeros(n)).clipped(*box(problem.plant.inputs))


def is_stable(problem, local, policy, z):
    """Whether the closed loop of a policy, a function of states (N, n), is asymptotically stable at rest z, by its linearisation."""
    n, steps = problem.plant.n, 1e-5 * np.subtract(*box(problem.plant.states)[::-1])
    ahead, back = np.split(policy(z[:n] + np.concatenate([np.diag(steps), -np.diag(steps)])), 2)
    K = (ahead - back) / (2 * steps[:, None])
    A, B = np.split(local(z)[4], [n], axis=1)
    return bool(np.max(np.real(np.linalg.eigvals(A + B @ K.T))) < 0)
