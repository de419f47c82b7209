"""Linear-quadratic problems: discounted, affine, with additive and multiplicative noise (B1 of the known answers).

    ξ_+ = Aξ + Bυ + c + Σ_j (C_j ξ + D_j υ + F_j) w_j,   cost = ξᵀQξ + υᵀRυ + 2ξᵀNυ + 2qᵀξ + 2ρᵀυ + κ = −r,   (ξ, υ) = (x − x0, u − u0)
    M = R + γ(BᵀPB + Σ D_jᵀPD_j),  L = Nᵀ + γ(BᵀPA + Σ D_jᵀPC_j),  P = Q + γ(AᵀPA + Σ C_jᵀPC_j) − LᵀM⁻¹L,  K = M⁻¹L,
    V = −(ξᵀPξ + 2pᵀξ + s),   υ* = −Kξ − M⁻¹l,   Q* = V − (υ − υ*)ᵀM(υ − υ*).

The noise enters with its covariance Σ_w; its channels are rotated so that Σ_w = I. P comes from SciPy's `solve_discrete_are` with
(√γA, √γB), followed by Newton–Kleinman steps, which also account for multiplicative noise.
"""

from dataclasses import dataclass
from typing import Any

import casadi as ca
import jax
import jax.numpy as jnp
import numpy as np
from scipy import linalg

from rlctrl.errors import InputError, require, strict
from rlctrl.plant import box, finite_box
from rlctrl.policy import LinearPolicy, wrapped
from rlctrl.reference.base import Reference
from rlctrl.tree import record

NEWTON_STEPS = 50


@record(arrays=("P", "p", "s", "x0", "period"))
@dataclass(frozen=True, eq=False)
class QuadraticValue:
    """V(x) = −(ξᵀPξ + 2pᵀξ + s), ξ = x − x0."""

    P: Any
    p: Any
    s: Any
    x0: Any
    period: Any

    def at(self, x):
        """V (...) at x (..., n)."""
        xi = wrapped(x - self.x0, self.period)
        return -(jnp.einsum("...i,ij,...j->...", xi, self.P, xi) + 2 * xi @ jnp.asarray(self.p) + self.s)


@record(arrays=("value", "policy", "M"))
@dataclass(frozen=True, eq=False)
class QuadraticQ:
    """Q(x, u) = V(x) − (u − u*)ᵀM(u − u*), u* the unclipped optimal input."""

    value: QuadraticValue
    policy: LinearPolicy
    M: Any

    def at(self, x, u):
        """Q (...) at x (..., n), u (..., m)."""
        gap = u - self.policy.act(x)
        return self.value.at(x) - jnp.einsum("...i,ij,...j->...", gap, self.M, gap)


@dataclass(frozen=True)
class _LQ:
    """The linear-quadratic data, in the symbols of the module's docstring; C (q, n, n), D (q, n, m), F (q, n)."""

    A: np.ndarray
    B: np.ndarray
    c: np.ndarray
    C: np.ndarray
    D: np.ndarray
    F: np.ndarray
    Q: np.ndarray
    R: np.ndarray
    N: np.ndarray
    q: np.ndarray
    rho: np.ndarray
    kappa: float
    gamma: float

    def blocks(self, P):
        """M, L and the state block γ(AᵀPA + Σ CᵀPC) + Q."""
        g = self.gamma
        M = self.R + g * (self.B.T @ P @ self.B + np.einsum("kia,ij,kjb->ab", self.D, P, self.D))
        L = self.N.T + g * (self.B.T @ P @ self.A + np.einsum("kia,ij,kjb->ab", self.D, P, self.C))
        state = self.Q + g * (self.A.T @ P @ self.A + np.einsum("kia,ij,kjb->ab", self.C, P, self.C))
        return M, L, state

    def residual(self, P):
        """Right side of the Riccati equation minus P."""
        M, L, state = self.blocks(P)
        return state - L.T @ np.linalg.solve(M, L) - P


@strict
@dataclass(frozen=True)
class Riccati:
    """Exact solution of a linear-quadratic problem; with `about=(x0, u0)`, of the linearisation at that point.

    The input box and the exit rule are ignored, as LQR does; `notes` says on which part of the state box the gain respects the inputs.
    The error is proven (from the Riccati residual) for an LQ problem; for a linearisation it is estimated: Bellman residual/(1−γ).
    Raises `InputError` if the problem is not LQ (naming the entry that varies), if the maximum does not exist, or if no stabilising
    solution exists.
    """

    about: tuple | None = None

    def solve(self, problem, progress=False):  # noqa: ARG002 - a few matrix operations need no bar
        lq, (x0, u0) = _linearise(problem, self.about)
        P, steps = _stabilising(lq)
        M, L, _ = lq.blocks(P)
        K = np.linalg.solve(M, L)
        g, closed = lq.gamma, lq.A - lq.B @ K
        n = len(P)
        noise = np.einsum("kia,ij,kj->a", lq.C, P, lq.F), np.einsum("kia,ij,kj->a", lq.D, P, lq.F)
        side = lq.q - K.T @ lq.rho + g * (closed.T @ P @ lq.c + noise[0] - K.T @ noise[1])
        p = np.linalg.solve(np.eye(n) - g * closed.T, side)
        ell = lq.rho + g * (lq.B.T @ (P @ lq.c + p) + noise[1])
        spread = np.einsum("ki,ij,kj->", lq.F, P, lq.F)
        gain = lq.c @ P @ lq.c + 2 * p @ lq.c + spread
        shift = np.linalg.solve(M, ell)
        running = lq.kappa + g * gain - ell @ shift
        s = _constant(running, g)
        period = np.array([s.high - s.low if s.periodic else 0.0 for s in problem.plant.states])
        policy = LinearPolicy(K, x0, u0 - shift, period)
        value = QuadraticValue(P, p, s, x0, period)
        residual = float(np.max(np.abs(lq.residual(P))))
        rule = problem.plant.law.quadrature(5)
        exact = self.about is None
        error = _proven(lq, P, K, value, problem) if exact else _linearised(problem, value, policy, rule)
        return Reference(
            method="Riccati" if exact else "Riccati (linearised)",
            kernel=problem.kernel,
            states=problem.plant.states,
            inputs=problem.plant.inputs,
            value=value,
            policy=policy,
            rule=rule,
            closed_form=QuadraticQ(value, policy, M),
            error=error,
            error_kind="proven" if exact else "estimated",
            error_terms={"riccati_residual" if exact else "linearisation": error},
            converged=True,
            residual=residual,
            message=f"Riccati residual {residual:.1e} after {steps} Newton steps.",
            iterations=steps,
            notes=tuple(_notes(problem, lq, K, policy)),
        )


def _constant(running, gamma):
    """s of the value: the discounted sum of the constant running cost."""
    if gamma < 1:
        return running / (1 - gamma)
    finite = abs(running) <= 1e-12
    require(
        finite, "gamma", "must be below 1 when noise or offsets cost something for ever", gamma, "Use gamma < 1: the value is infinite."
    )
    return 0.0


def _linearise(problem, about):
    """LQ data at a point from CasADi's derivatives; checks that they are constant unless a point was asked for."""
    plant, law = problem.plant, problem.plant.law
    x, u, w, p, following, reward = problem.symbolic()
    z = ca.vertcat(x, u)
    root = np.real(linalg.sqrtm(law.covariance)) if law.q else np.zeros((0, 0))
    spread = ca.jacobian(following, w) @ root if law.q else ca.SX(plant.n, 0)
    parts = [following, ca.jacobian(following, z), ca.densify(spread), ca.jacobian(ca.vec(ca.densify(spread)), z)]
    parts += [reward, ca.gradient(reward, z), ca.hessian(reward, z)[0]]
    function = ca.Function("lq", [x, u, w, p], [ca.densify(e) for e in parts])
    names = ("next state", "∂x_+/∂(x,u)", "∂x_+/∂w", "∂²x_+/∂w∂(x,u)", "reward", "∂r", "∂²r")

    def at(x, u):
        return [np.array(v) for v in function(x, u, law.mean, plant.parameter_vector)]

    if about is None:
        x0, u0 = np.zeros(plant.n), np.zeros(plant.m)
        _check_lq(at, problem, names)
    else:
        require(len(about) == 2, "about", "must be (x0, u0)", about, "Give the state and the input to linearise at.")
        x0, u0 = (a[()] for a in problem.arrays(*about))
    following, jac, spread, jac_spread, reward, slope, curvature = at(x0, u0)
    n, q = plant.n, law.q
    by_channel = jac_spread.reshape(q, n, -1) if q else np.zeros((0, n, n + plant.m))
    if about is not None:
        by_channel = np.zeros_like(by_channel)  # LQR of a linearisation: noise at the point
    half = -0.5 * curvature
    lq = _LQ(
        A=jac[:, :n], B=jac[:, n:], c=following[:, 0] - x0, C=by_channel[..., :n], D=by_channel[..., n:], F=spread.T,
        Q=half[:n, :n], R=half[n:, n:], N=half[:n, n:], q=-0.5 * slope[:n, 0], rho=-0.5 * slope[n:, 0],
        kappa=-float(reward[0, 0]), gamma=problem.gamma,
    )  # fmt: skip
    return lq, (x0, u0)


def _check_lq(at, problem, names):
    """Compare the derivatives that must be constant at a few points."""
    rng = np.random.default_rng(0)
    low, high = finite_box(problem.plant.states + problem.plant.inputs)
    n = problem.plant.n
    points = low + (high - low) * rng.random((6, len(low)))
    first = at(points[0, :n], points[0, n:])
    for z in points[1:]:
        other = at(z[:n], z[n:])
        for k in (1, 3, 6):
            change = np.abs(other[k] - first[k])
            varies = change > 1e-8 * (1 + np.abs(first[k]))
            if np.any(varies):
                where = np.unravel_index(np.argmax(change), change.shape)
                entry = f"entry {tuple(int(i) for i in where)} of {names[k]} changes by {change[where]:.3g} over the box"
                raise InputError(
                    f"`problem` must be linear-quadratic for Riccati(); {entry} of plant '{problem.plant.name}'. "
                    "Linearise with rc.Riccati(about=(x0, u0)) or use rc.GridDP."
                )


def _stabilising(lq):
    """P by SciPy's DARE, polished by Newton–Kleinman steps that include the multiplicative noise."""
    root = np.sqrt(lq.gamma)
    _check_stabilisable(root * lq.A, root * lq.B)
    try:
        P = linalg.solve_discrete_are(root * lq.A, root * lq.B, lq.Q, lq.R, s=lq.N)
    except (np.linalg.LinAlgError, ValueError) as error:
        raise InputError(
            f"`problem` has no stabilising Riccati solution: {error} Check that r is concave in u and that the cost sees every unstable "
            "mode (detectability)."
        ) from None
    for step in range(NEWTON_STEPS):
        _check_maximum(lq, P)
        size = np.max(np.abs(lq.residual(P))) / (1 + np.max(np.abs(P)))
        if size <= 1e-15:
            return P, step
        better = _newton(lq, P)
        new_size = np.max(np.abs(lq.residual(better))) / (1 + np.max(np.abs(better)))
        if new_size >= 0.5 * size and size <= 1e-11:
            return (better if new_size < size else P), step
        P = better
    raise InputError(
        "`problem` has no finite value: Newton's method on the generalised Riccati equation did not settle. "
        "The multiplicative noise is too strong for this discount; reduce it or gamma."
    )


def _newton(lq, P):
    """Cost matrix of the gain that is optimal for P: a generalised Lyapunov equation, solved as a linear system."""
    M, L, _ = lq.blocks(P)
    K = np.linalg.solve(M, L)
    maps = [lq.A - lq.B @ K, *(C - D @ K for C, D in zip(lq.C, lq.D, strict=True))]
    cost = lq.Q - lq.N @ K - K.T @ lq.N.T + K.T @ lq.R @ K
    n = len(P)
    operator = np.eye(n * n) - lq.gamma * sum(np.kron(a.T, a.T) for a in maps)
    out = np.linalg.solve(operator, cost.ravel()).reshape(n, n)
    return 0.5 * (out + out.T)


def _check_stabilisable(A, B):
    for mode in linalg.eigvals(A):
        if abs(mode) >= 1:
            rank = np.linalg.matrix_rank(np.hstack([A - mode * np.eye(len(A)), B]), tol=1e-10 * (1 + np.linalg.norm(A)))
            rule = "must make (√γA, √γB) stabilisable"
            require(rank == len(A), "plant", rule, f"an uncontrollable mode √γ·λ = {mode:.6g}", "Lower gamma or add an input.")


def _check_maximum(lq, P):
    M = lq.blocks(P)[0]
    smallest = float(np.min(linalg.eigvalsh(M)))
    require(
        smallest > 0,
        "reward",
        "must have a maximum over u: R + γBᵀPB positive definite",
        f"eigenvalue {smallest:.3g}",
        "Penalise every input.",
    )


def _proven(lq, P, K, value, problem):
    """Bound on |V − V*| over the box (|x_i| ≤ 1 where unbounded) from the Riccati residual: the residual summed along the closed loop."""
    g, n = lq.gamma, len(P)
    rounding = 8 * np.finfo(float).eps * np.max(np.abs(P)) * n
    size = np.linalg.norm(lq.residual(P), 2) + rounding
    maps = [lq.A - lq.B @ K, *(C - D @ K for C, D in zip(lq.C, lq.D, strict=True))]
    operator = np.eye(n * n) - g * sum(np.kron(a.T, a.T) for a in maps)
    total = np.linalg.solve(operator, np.eye(n).ravel()).reshape(n, n)
    low, high = box(problem.plant.states + problem.plant.inputs)
    reach = np.where(np.isfinite(high - low), np.maximum(np.abs(low), np.abs(high)), 1.0)[:n]
    constant = np.einsum("ki,ij,kj->", lq.F, total, lq.F) + lq.c @ total @ lq.c
    constant = g / (1 - g) * constant if g < 1 else 0.0
    rounding_of_value = 8 * np.finfo(float).eps * (abs(float(value.s)) + reach @ np.abs(P) @ reach)
    return float(2 * size * (np.linalg.norm(total, 2) * reach @ reach + constant) + rounding_of_value)


def _linearised(problem, value, policy, rule):
    """Sup over the box of |T^K V − V|/(1−γ), inputs clipped to their box: how far the linearised value is from consistent."""
    low, high = box(problem.plant.states + problem.plant.inputs)
    if problem.gamma == 1 or not np.all(np.isfinite(high - low)):
        return float("inf")
    n = problem.plant.n
    x = np.random.default_rng(0).uniform(low[:n], high[:n], (4096, n))
    clipped = policy.clipped(low[n:], high[n:])
    backup = jax.jit(lambda kernel, x: kernel.backup(value.at, x, clipped.act(x), rule) - value.at(x))
    return float(np.max(np.abs(backup(problem.kernel, x))) / (1 - problem.gamma))


def _notes(problem, lq, K, policy):
    radius = float(np.max(np.abs(linalg.eigvals(lq.A - lq.B @ K))))
    if radius >= 1:
        yield f"The optimal closed loop is unstable without discount: spectral radius {radius:.6g} ≥ 1."
    low, high = box(problem.plant.states + problem.plant.inputs)
    n = problem.plant.n
    if np.all(np.isfinite((high - low)[:n])) and np.any(np.isfinite(np.concatenate([low[n:], high[n:]]))):
        x = np.random.default_rng(0).uniform(low[:n], high[:n], (20_000, n))
        u = policy(x)
        share = float(np.mean(np.all((u >= low[n:]) & (u <= high[n:]), -1)))
        yield f"The gain respects the input box on {100 * share:.1f} % of the state box; the box itself is ignored."
