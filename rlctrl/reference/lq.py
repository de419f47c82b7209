"""Linear-quadratic problems in discrete time: discounted, affine, with additive and multiplicative noise (B1 of the known answers).

    ξ_+ = Aξ + Bυ + c + Σ_j (C_j ξ + D_j υ + F_j) w_j,   cost = ξᵀQξ + υᵀRυ + 2ξᵀNυ + 2qᵀξ + 2ρᵀυ + κ = −r,   (ξ, υ) = (x − x0, u − u0)
    M = R + γ(BᵀPB + Σ D_jᵀPD_j),  L = Nᵀ + γ(BᵀPA + Σ D_jᵀPC_j),  P = Q + γ(AᵀPA + Σ C_jᵀPC_j) − LᵀM⁻¹L,  K = M⁻¹L,
    V = −(ξᵀPξ + 2pᵀξ + s),   υ* = −Kξ − M⁻¹l,   Q* = V − (υ − υ*)ᵀM(υ − υ*).

The noise enters with its covariance Σ_w; its channels are rotated so that Σ_w = I. P comes from SciPy's `solve_discrete_are` with
(√γA, √γB), followed by Newton–Kleinman steps, which also account for multiplicative noise.
"""

from dataclasses import dataclass
from typing import NamedTuple

import casadi as ca
import numpy as np
from scipy import linalg

from rlctrl.errors import InputError, require, require_numbers
from rlctrl.plant import finite_box

NEWTON_STEPS = 50
VALUE_ITERATIONS = 20_000


class Solution(NamedTuple):
    """V = −(ξᵀPξ + 2pᵀξ + s), υ* = −Kξ − shift, advantage −(υ − υ*)ᵀM(υ − υ*); `residual` matrix of the Riccati equation, and `total`: the
    solution X of the closed loop's Lyapunov equation for the identity, which turns a residual into an error."""

    P: np.ndarray
    p: np.ndarray
    s: float
    K: np.ndarray
    shift: np.ndarray
    M: np.ndarray
    residual: np.ndarray
    total: np.ndarray
    total_constant: float
    steps: int


def quadratic_forms(a, P, b):
    """Σ_j a_jᵀ P b_j over noise channels, (rows of a, rows of b)."""
    return np.einsum("kia,ij,kjb->ab", a, P, b)


@dataclass(frozen=True)
class LQ:
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
        M = self.R + g * (self.B.T @ P @ self.B + quadratic_forms(self.D, P, self.D))
        L = self.N.T + g * (self.B.T @ P @ self.A + quadratic_forms(self.D, P, self.C))
        state = self.Q + g * (self.A.T @ P @ self.A + quadratic_forms(self.C, P, self.C))
        return M, L, state

    def residual(self, P):
        """Right side of the Riccati equation minus P."""
        M, L, state = self.blocks(P)
        return state - L.T @ np.linalg.solve(M, L) - P

    def lyapunov(self, K, cost):
        """X = cost + γ Σ aᵀXa over the closed-loop maps a of the gain K, as a linear system."""
        maps = [self.A - self.B @ K, *(C - D @ K for C, D in zip(self.C, self.D, strict=True))]
        n = len(self.A)
        operator = np.eye(n * n) - self.gamma * sum(np.kron(a.T, a.T) for a in maps)
        out = np.linalg.solve(operator, cost.ravel()).reshape(n, n)
        return 0.5 * (out + out.T)

    def gain_cost(self, K):
        """Stage cost matrix of the gain K."""
        return self.Q - self.N @ K - K.T @ self.N.T + K.T @ self.R @ K

    def start(self):
        """P without multiplicative noise, by SciPy; refuses what has no stabilising solution."""
        root = np.sqrt(self.gamma)
        check_stabilisable(root * self.A, root * self.B, 1.0, np.abs, "√γ·λ")
        check_seen(root * self.A, root * self.B, self.Q, self.R, self.N, 1.0, np.abs, "√γ·λ")
        if np.any(self.C) or np.any(self.D):
            return self._by_value_iteration()
        return dare_or_refusal(linalg.solve_discrete_are, root * self.A, root * self.B, self.Q, self.R, self.N)

    def _by_value_iteration(self):
        """P ← its Riccati map from 0 until its gain stabilises in the mean square, which Newton's method must start from."""
        P = np.zeros_like(self.A)
        for k in range(VALUE_ITERATIONS):
            M, L, state = self.blocks(P)
            P = state - L.T @ np.linalg.solve(M, L)
            if k % 10 == 9 and np.all(np.isfinite(P)):
                if np.max(np.abs(P)) > 1e15:
                    break
                K = np.linalg.solve(*self.blocks(P)[:2])
                if stabilises(self, K):
                    return P
        raise no_value(self)

    def solve(self) -> Solution:
        """P by Newton–Kleinman from `start`, then the affine and constant parts."""
        P, steps = newton_kleinman(self)
        M, g = self.blocks(P)[0], self.gamma
        K = checked_gain(self, P)
        closed, n = self.A - self.B @ K, len(P)
        cross = np.einsum("kia,ij,kj->a", self.C, P, self.F), np.einsum("kia,ij,kj->a", self.D, P, self.F)
        side = self.q - K.T @ self.rho + g * (closed.T @ P @ self.c + cross[0] - K.T @ cross[1])
        p = np.linalg.solve(np.eye(n) - g * closed.T, side)
        ell = self.rho + g * (self.B.T @ (P @ self.c + p) + cross[1])
        shift = np.linalg.solve(M, ell)
        gain = self.c @ P @ self.c + 2 * p @ self.c + np.einsum("ki,ij,kj->", self.F, P, self.F)
        total = self.lyapunov(K, np.eye(n))
        constant = np.einsum("ki,ij,kj->", self.F, total, self.F) + self.c @ total @ self.c
        s = self._for_ever(self.kappa + g * gain - ell @ shift, abs(self.kappa) + abs(gain) + abs(ell @ shift))
        return Solution(P, p, s, K, shift, M, self.residual(P), total, g * constant / (1 - g) if g < 1 else 0.0, steps)

    def _for_ever(self, running, size):
        """The discounted sum of a constant running cost, made of terms of that size."""
        if self.gamma < 1:
            return running / (1 - self.gamma)
        finite = abs(running) <= 1e-13 * size
        way_out = "Use gamma < 1: the value is infinite."
        require(finite, "gamma", "must be below 1 when noise or offsets cost something for ever", self.gamma, way_out)
        return 0.0

    def spectral_radius(self, K):
        """Of the closed loop without discount."""
        return float(np.max(np.abs(linalg.eigvals(self.A - self.B @ K))))


def newton_kleinman(lq):
    """P from `lq.start()` by Newton's method: each step is the cost of the gain that is optimal for the last P. Works for any data with
    `blocks`, `residual`, `lyapunov` and `gain_cost`."""
    P = lq.start()
    for step in range(NEWTON_STEPS):
        M, L, _ = lq.blocks(P)
        smallest = float(np.min(linalg.eigvalsh(M)))
        rule = "must have a maximum over u: R + γBᵀPB positive definite"
        require(smallest > 0, "reward", rule, f"eigenvalue {smallest:.3g}", "Penalise every input.")
        size = np.max(np.abs(lq.residual(P))) / (1 + np.max(np.abs(P)))
        if size <= 1e-15:
            return P, step
        K = np.linalg.solve(M, L)
        better = lq.lyapunov(K, lq.gain_cost(K))
        new_size = np.max(np.abs(lq.residual(better))) / (1 + np.max(np.abs(better)))
        if new_size >= 0.5 * size and size <= 1e-11:
            return (better if new_size < size else P), step
        P = better
    raise no_value(lq)


def no_value(lq):
    """The `InputError` where no solution stabilises: too much multiplicative noise if there is any, else a reward that pays for motion."""
    text = "`problem` has no finite value: the generalised Riccati equation has no solution that stabilises in the mean square."
    if np.any(lq.C) or np.any(lq.D):
        return InputError(f"{text} The multiplicative noise is too strong for this discount; reduce it or gamma.")
    least = float(np.min(linalg.eigvalsh(np.block([[lq.Q, lq.N], [lq.N.T, lq.R]]))))
    way_out = "Check the sign of the reward (it is maximised), or lower gamma."
    return InputError(f"{text} The least curvature of the cost −r in (x, u) is {least:.3g}. {way_out}")


def stabilises(lq, K) -> bool:
    """Whether the gain stabilises in the mean square after discounting: the Lyapunov equation for the identity has a positive solution."""
    total = lq.lyapunov(K, np.eye(len(lq.A)))
    return bool(np.all(np.isfinite(total)) and np.min(linalg.eigvalsh(total)) > 0)


def checked_gain(lq, P):
    """The gain of the found P, refused unless it stabilises: Newton's method may have run to a spurious root."""
    K = np.linalg.solve(*lq.blocks(P)[:2])
    if not stabilises(lq, K):
        raise no_value(lq)
    return K


def dare_or_refusal(solver, A, B, Q, R, N):
    """SciPy's algebraic Riccati solver, its failures in the user's words."""
    try:
        return solver(A, B, Q, R, s=N)
    except (np.linalg.LinAlgError, ValueError) as error:
        raise InputError(
            f"`problem` has no stabilising Riccati solution: {error} Check that r is concave in u and that the cost sees every unstable "
            "mode (detectability)."
        ) from None


def check_stabilisable(A, B, limit, size, symbol):
    """Every eigenvalue with size(λ) ≥ limit must be reachable (Popov–Belevitch–Hautus)."""
    for mode in linalg.eigvals(A):
        if size(mode) >= limit:
            rank = np.linalg.matrix_rank(np.hstack([A - mode * np.eye(len(A)), B]), tol=1e-10 * (1 + np.linalg.norm(A)))
            rule = "must be stabilisable after discounting"
            require(rank == len(A), "plant", rule, f"an uncontrollable mode {symbol} = {mode:.6g}", "Lower gamma or add an input.")


def check_seen(A, B, Q, R, N, limit, size, symbol):
    """An eigenvalue of A with size(λ) ≥ limit must cost something (detectability) and earn nothing: else the solution is no value."""
    if not any(size(mode) >= limit for mode in linalg.eigvals(A)):
        return
    inverse = np.linalg.pinv(R)
    free, seen = A - B @ inverse @ N.T, Q - N @ inverse @ N.T
    negative = float(np.min(linalg.eigvalsh(seen)))
    rule = "must not reward an unstable mode: the value may be infinite"
    require(
        negative >= -1e-12 * (1 + np.linalg.norm(Q)),
        "reward",
        rule,
        f"state cost eigenvalue {negative:.3g}",
        "Make r concave or lower gamma.",
    )
    for mode in linalg.eigvals(free):
        if size(mode) >= limit:
            rank = np.linalg.matrix_rank(np.vstack([free - mode * np.eye(len(A)), seen]), tol=1e-10 * (1 + np.linalg.norm(A)))
            rule = "must cost every unstable mode (detectability): the stabilising solution would not be the value"
            require(rank == len(A), "reward", rule, f"an unseen mode {symbol} = {mode:.6g}", "Penalise that state or lower gamma.")


def factor(covariance):
    """Symmetric square root of a covariance, which may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def lq_of(problem, about) -> tuple[LQ, tuple[np.ndarray, np.ndarray]]:
    """LQ data of the sampled problem from CasADi's derivatives at `about` = (x0, u0); without it they must be constant over the box."""
    law, n = problem.plant.law, problem.plant.n
    x, u, w, p, following, reward = problem.symbolic()
    root = factor(law.covariance) if law.q else np.zeros((0, 0))
    spread = ca.densify(ca.jacobian(following, w) @ root) if law.q else ca.SX(n, 0)
    affine = ca.is_linear(following, w) or about is not None
    require(affine, "update", "must be affine in the noise w for Riccati", problem.plant.name, "Use rc.GridDP, or Riccati(about=…).")
    following, spread = (ca.substitute(e, w, ca.DM(law.mean)) for e in (following, spread))
    at, (x0, u0) = derivatives(problem, x, u, p, following, spread, reward, about, "x_+")
    (jac, by_channel, half), (following, spread, slope, reward) = at
    lq = LQ(
        A=jac[:, :n], B=jac[:, n:], c=following - x0, C=by_channel[..., :n], D=by_channel[..., n:], F=spread.T,
        Q=half[:n, :n], R=half[n:, n:], N=half[:n, n:], q=-0.5 * slope[:n], rho=-0.5 * slope[n:], kappa=-reward, gamma=problem.gamma,
    )  # fmt: skip
    return lq, (x0, u0)


def derivatives(problem, x, u, p, map_, spread, reward, about, symbol):
    """((Jacobian of the map, of each noise channel, −½ Hessian of r), (map, spread, ∇r, r)) at the point, and the point."""
    plant, z = problem.plant, ca.vertcat(x, u)
    parts = [ca.jacobian(map_, z), ca.jacobian(ca.vec(spread), z), ca.hessian(reward, z)[0], map_, spread, ca.gradient(reward, z), reward]
    function = ca.Function("lq", [x, u, p], [ca.densify(e) for e in parts])
    names = (f"∂{symbol}/∂(x,u)", f"∂²{symbol}/∂w∂(x,u)", "∂²r/∂(x,u)²")

    def at(x, u):
        return [np.array(v) for v in function(x, u, plant.parameter_vector)]

    if about is None:
        x0, u0 = np.zeros(plant.n), np.zeros(plant.m)
        _check_constant(at, problem, names)
    else:
        require(
            isinstance(about, tuple | list) and len(about) == 2,
            "about",
            "must be (x0, u0)",
            about,
            "Give the state and the input to linearise at.",
        )
        x0, u0 = (require_numbers("about", a) for a in about)
        point = x0.shape == (plant.n,) and u0.shape == (plant.m,) and bool(np.all(np.isfinite([*x0, *u0])))
        require(point, "about", f"must be one state of {plant.n} and one input of {plant.m} finite numbers", about, "Give one point.")
    jac, jac_spread, curvature, value, spread, slope, r = at(x0, u0)
    channels = spread.shape[1]
    by_channel = jac_spread.reshape(channels, plant.n, -1) if channels else np.zeros((0, plant.n, plant.n + plant.m))
    if about is not None:
        by_channel = np.zeros_like(by_channel)  # LQR of a linearisation: the noise at the point
    return ((jac, by_channel, -0.5 * curvature), (value[:, 0], spread, slope[:, 0], float(r[0, 0]))), (x0, u0)


def _check_constant(at, problem, names):
    """Compare the derivatives that must be constant at a few points."""
    low, high = finite_box((*problem.plant.states, *problem.plant.inputs))
    n = problem.plant.n
    points = low + (high - low) * np.random.default_rng(0).random((6, len(low)))
    first = at(points[0, :n], points[0, n:])
    for z in points[1:]:
        for name, now, then in zip(names, at(z[:n], z[n:]), first, strict=False):
            change = np.abs(now - then)
            if np.any(change > 1e-8 * (1 + np.abs(then))):
                where = np.unravel_index(np.argmax(change), change.shape)
                entry = f"entry {tuple(int(i) for i in where)} of {name} changes by {change[where]:.3g} over the box"
                raise InputError(
                    f"`problem` must be linear-quadratic for Riccati(); {entry} of plant '{problem.plant.name}'. "
                    "Linearise with rc.Riccati(about=(x0, u0)) or use rc.GridDP."
                )
