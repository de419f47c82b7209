"""Problems made backwards from a chosen V*, so that everything about them is known (converse optimality).

Each recipe returns (problem, method): `rc.solve(problem, method)` verifies V* by its residual before it hands out the exact `Reference`.

- `converse_reward`: any discrete-time kernel, bounded inputs, any V. With A(x,u) = −½[(u−μ)ᵀM(u−μ) − (clip μ−μ)ᵀM(clip μ−μ)] ≤ 0 the reward
  r = V + A − γ E V(X_+) has Q* = V + A and the optimal input clip(μ).
- `converse_rate`: continuous time, control-affine, cost q(x) + uᵀRu with q = ρV_c + … from a chosen cost-to-go V_c (Doyle, Primbs,
Shapiro & Nevistić 1996).
- `converse_optimal`: s_+ = H^{-1/2} S(s) (P − Q)^{1/2} s + G a + w with V = −sᵀPs − γ/(1−γ) tr(PΣ) for any orthogonal S(s)
  (Ibrahim, Ouerdane, Salloum, Ouerdane, Streif & Osinenko 2026, arXiv 2603.17631).
"""

import casadi as ca
import numpy as np
from scipy import linalg

from rlctrl.errors import require, strict
from rlctrl.noise import Gaussian
from rlctrl.plant import Plant, Signal, box
from rlctrl.problem import Problem
from rlctrl.reference.exact import Exact


@strict
def converse_reward(plant, V, policy, curvature, gamma, dt=None, quadrature=9, **options):
    """Problem and `Exact` method with the value `V(x)`, the unclipped policy `policy(x)` (m expressions) and the advantage curvature
    `curvature` (m, m).

    The expectation in the reward is the quadrature of that order per channel: exact for polynomial V, else choose it high. `options` go
    to `Problem`.
    The exit rule must be "free" (the default here): a clipped state would change the expectation.
    """
    M = np.atleast_2d(np.asarray(curvature, float))
    positive = M.shape == (plant.m, plant.m) and bool(np.all(linalg.eigvalsh(M) > 0))
    require(positive, "curvature", f"must be positive definite, {plant.m} × {plant.m}", M.tolist(), "Use np.eye(m).")
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
def converse_rate(plant, cost_to_go, R, discount_rate=0.0, dt=0.01, **options):
    """Problem and `Exact(continuous=True)` of a control-affine diffusion b = f(x) + g(x)u with σ free of u, cost rate q(x) + uᵀRu and the
    given
    cost-to-go V_c(x) (so V* = −V_c): q = ρV_c − ∇V_c·f − ½ tr(σσᵀ∇²V_c) + ¼ ∇V_cᵀ g R⁻¹ gᵀ ∇V_c, u* = −½R⁻¹gᵀ∇V_c. Inputs must be wide
    enough for u*."""
    R = np.atleast_2d(np.asarray(R, float))
    x, u, p = plant.symbols()
    drift, sigma = plant.drift_function(x, u, p), plant.diffusion_function(x, u, p)
    gain = ca.jacobian(drift, u)
    affine = not ca.depends_on(gain, u) and not ca.depends_on(sigma, u)
    require(affine, "plant", "must be affine in u with noise free of u", plant.name, "Use converse_reward.")
    value = cost_to_go(x)
    slope, bend = ca.gradient(value, x), ca.hessian(value, x)[0]
    free = ca.substitute(drift, u, ca.DM.zeros(u.shape))
    best = -0.5 * np.linalg.inv(R) @ (gain.T @ slope)
    cost = discount_rate * value - slope.T @ free - 0.5 * ca.trace(sigma @ sigma.T @ bend) + best.T @ R @ best
    cost_function, policy = ca.Function("q", [x, p], [cost]), ca.Function("policy", [x, p], [best])

    def rate(x, u, p):
        return -(cost_function(x, p.vector) + u.T @ R @ u)

    problem = Problem.from_rates(plant, rate, discount_rate, dt, exit="free", **options)
    vector = plant.parameter_vector
    return problem, Exact(V=lambda x: -cost_to_go(x), policy=lambda x: policy(x, vector), continuous=True)


@strict
def converse_optimal(P, Q, R, G, covariance, rotation, gamma, *, name="converse", states=None, inputs=None, state_max=3.0, input_max=np.inf):
    """Problem (exit "free") and `Exact` method of the stochastic construction: cost sᵀQs + aᵀRa, P ⪰ Q, `rotation(s)` an orthogonal
    matrix of CasADi
    expressions, w ~ N(0, `covariance`). V* = −sᵀPs − γ/(1−γ)·tr(P·covariance)."""
    P, Q, R, G = (np.atleast_2d(np.asarray(a, float)) for a in (P, Q, R, G))
    n, m = G.shape
    require(bool(np.all(linalg.eigvalsh(P - Q) >= -1e-12)), "Q", "must not exceed P", Q.tolist(), "Scale Q down.")
    H = gamma * np.linalg.inv(np.linalg.inv(P) + gamma * G @ np.linalg.solve(R, G.T))
    left, right = np.linalg.inv(_root(H)), _root(P - Q)
    spread = _factor(np.asarray(covariance, float))
    gain = gamma * np.linalg.solve(R + gamma * G.T @ P @ G, G.T @ P)
    constant = gamma / (1 - gamma) * np.trace(P @ spread @ spread.T)

    def free(s):
        return left @ rotation(s) @ (right @ s)

    plant = Plant(
        name=name,
        states=states or [Signal(f"s{k}", "1", -state_max, state_max) for k in range(n)],
        inputs=inputs or [Signal(f"a{k}", "1", -input_max, input_max) for k in range(m)],
        update=lambda s, a, w, p: free(s) + G @ a + spread @ w,
        noise=Gaussian(spread.shape[1]),
        source="Ibrahim, Ouerdane, Salloum, Ouerdane, Streif & Osinenko 2026, arXiv 2603.17631",
    )
    problem = Problem(plant, lambda s, a: -(s.T @ Q @ s + a.T @ R @ a), gamma, exit="free")
    return problem, Exact(V=lambda s: -(s.T @ P @ s) - constant, policy=lambda s: -gain @ free(s))


def givens(n, i, j, angle):
    """The n×n Givens rotation by `angle` in the plane of axes i, j (zero-based), +sin in entry (j, i)."""
    out = ca.SX.eye(n)
    out[i, i], out[j, j], out[i, j], out[j, i] = ca.cos(angle), ca.cos(angle), -ca.sin(angle), ca.sin(angle)
    return out


def _column(value):
    return [value[k] for k in range(value.shape[0])] if isinstance(value, ca.SX) else list(np.atleast_1d(value))


def _root(a):
    return np.real(linalg.sqrtm(a))


def _factor(covariance):
    """A full-rank factor F of a covariance: FFᵀ = covariance, one column per noisy direction."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > 1e-15 * max(values.max(), 1e-300)
    return vectors[:, kept] * np.sqrt(values[kept])
