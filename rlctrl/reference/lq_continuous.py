"""Linear-quadratic problems in continuous time (B2), and their exact zero-order-hold sampling (B3).

    dξ = (Aξ + Bυ + c) dt + Σ_j (C_j ξ + D_j υ + F_j) dW_j,   cost rate ξᵀQξ + υᵀRυ + 2ξᵀNυ + 2qᵀξ + 2ρᵀυ + κ,   discount rate β
    M = R + Σ D_jᵀPD_j,  L = Nᵀ + BᵀP + Σ D_jᵀPC_j,  0 = Q + AᵀP + PA − βP + Σ C_jᵀPC_j − LᵀM⁻¹L.

Sampling: with the input held over h, transition, noise covariance, running cost and what the noise costs within the step come from matrix
exponentials (Van Loan 1978), the discount acting inside the step too.
"""

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from rlctrl.errors import require
from rlctrl.reference.lq import (
    LQ,
    Solution,
    check_seen,
    check_stabilisable,
    checked_gain,
    dare_or_refusal,
    derivatives,
    newton_kleinman,
    quadratic_forms,
)


@dataclass(frozen=True)
class ContinuousLQ:
    """The data of the module's docstring; C (q, n, n), D (q, n, m), F (q, n); `beta` is the discount rate."""

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
    beta: float

    def blocks(self, P):
        """M, L and the state block Q + AᵀP + PA − βP + Σ CᵀPC."""
        M = self.R + quadratic_forms(self.D, P, self.D)
        L = self.N.T + self.B.T @ P + quadratic_forms(self.D, P, self.C)
        return M, L, self.Q + self.A.T @ P + P @ self.A - self.beta * P + quadratic_forms(self.C, P, self.C)

    def residual(self, P):
        """Right side of the Riccati equation."""
        M, L, state = self.blocks(P)
        return state - L.T @ np.linalg.solve(M, L)

    def lyapunov(self, K, cost):
        """0 = cost + aᵀX + Xa − βX + Σ c_jᵀXc_j of the closed loop, as a linear system."""
        a, n = self.A - self.B @ K, len(self.A)
        eye = np.eye(n)
        channels = [C - D @ K for C, D in zip(self.C, self.D, strict=True)]
        operator = self.beta * np.eye(n * n) - np.kron(a.T, eye) - np.kron(eye, a.T) - sum(np.kron(s.T, s.T) for s in channels)
        out = np.linalg.solve(operator, cost.ravel()).reshape(n, n)
        return 0.5 * (out + out.T)

    def gain_cost(self, K):
        """Cost rate matrix of the gain K."""
        return self.Q - self.N @ K - K.T @ self.N.T + K.T @ self.R @ K

    def start(self):
        """P without multiplicative noise, by SciPy."""
        shifted = self.A - 0.5 * self.beta * np.eye(len(self.A))
        check_stabilisable(shifted, self.B, 0.0, np.real, "λ − β/2")
        check_seen(shifted, self.B, self.Q, self.R, self.N, 0.0, np.real, "λ − β/2")
        return dare_or_refusal(linalg.solve_continuous_are, shifted, self.B, self.Q, self.R, self.N)

    def solve(self) -> Solution:
        """P by Newton–Kleinman, then the affine and constant parts."""
        P, steps = newton_kleinman(self)
        M, n = self.blocks(P)[0], len(P)
        K = checked_gain(self, P)
        cross = np.einsum("kia,ij,kj->a", self.C, P, self.F), np.einsum("kia,ij,kj->a", self.D, P, self.F)
        side = self.q - K.T @ self.rho + P @ self.c + cross[0] - K.T @ cross[1]
        p = np.linalg.solve(self.beta * np.eye(n) - (self.A - self.B @ K).T, side)
        ell = self.rho + self.B.T @ p + cross[1]
        shift = np.linalg.solve(M, ell)
        total = self.lyapunov(K, np.eye(n))
        parts = (self.kappa, 2 * p @ self.c, np.einsum("ki,ij,kj->", self.F, P, self.F), -ell @ shift)
        constant = np.einsum("ki,ij,kj->", self.F, total, self.F)
        s = self._for_ever(sum(parts), sum(map(abs, parts)))
        return Solution(P, p, s, K, shift, M, self.residual(P), total, constant / self.beta if self.beta > 0 else 0.0, steps)

    def _for_ever(self, running, size):
        if self.beta > 0:
            return running / self.beta
        way_out = "Use a discount: the value is infinite."
        require(abs(running) <= 1e-13 * size, "discount_rate", "must be positive when noise or offsets cost for ever", self.beta, way_out)
        return 0.0

    def spectral_radius(self, K):
        """Of the closed loop over one second without discount: above 1 means unstable."""
        return float(np.exp(np.max(np.real(linalg.eigvals(self.A - self.B @ K)))))

    def sampled(self, h) -> LQ:
        """The exact discrete-time problem for an input held over h seconds; needs additive noise only."""
        additive = not np.any(self.C) and not np.any(self.D)
        require(additive, "plant", "must have additive noise for exact sampling", "noise that depends on x or u", 'Use time="sampled".')
        n, m = self.B.shape
        flow = _flow(self.A, self.B, self.c)
        rate = np.block([
            [self.Q, self.N, self.q[:, None]],
            [self.N.T, self.R, self.rho[:, None]],
            [self.q[None], self.rho[None], np.array([[self.kappa]])],
        ])  # fmt: skip
        cost = _accumulated(flow - 0.5 * self.beta * np.eye(n + m + 1), rate, h)
        A, B, c, F = held(self.A, self.B, self.c, self.F.T, h)
        return LQ(
            A=A, B=B, c=c, C=np.zeros((n, n, n)), D=np.zeros((n, n, m)), F=F.T,
            Q=cost[:n, :n], R=cost[n:-1, n:-1], N=cost[:n, n:-1], q=cost[:n, -1], rho=cost[n:-1, -1],
            kappa=cost[-1, -1] + self._noise_within(h), gamma=float(np.exp(-self.beta * h)),
        )  # fmt: skip

    def _noise_within(self, h):
        """∫_0^h e^{−βs} tr(Q Σ(s)) ds, Σ(s) the covariance grown since the sample: one exponential of (e^{−βs} vec Σ, e^{−βs},
        integral)."""
        n = len(self.A)
        eye, size = np.eye(n), n * n
        big = np.zeros((size + 2, size + 2))
        big[:size, :size] = np.kron(self.A, eye) + np.kron(eye, self.A) - self.beta * np.eye(size)
        big[:size, size] = (self.F.T @ self.F).ravel()
        big[size, size] = -self.beta
        big[-1, :size] = self.Q.ravel()
        return float(linalg.expm(big * h)[-1, size])


def held(A, B, c, F, h):
    """(A, B, c, F) of X_+ = AX + Bu + c + Fw, w standard normal: dX = (AX + Bu + c) dt + F dW sampled exactly with u held over h."""
    n = len(A)
    with np.errstate(over="ignore", invalid="ignore"):  # looked at below
        step, covariance = linalg.expm(_flow(A, B, c) * h), _accumulated(A.T, F @ F.T, h)
    finite = bool(np.all(np.isfinite(step)) and np.all(np.isfinite(covariance)))
    require(finite, "dt", "must be short enough for the plant to stay finite over a sample", h, "Use a smaller dt.")
    values, vectors = np.linalg.eigh(covariance)
    return step[:n, :n], step[:n, n:-1], step[:n, -1], vectors * np.sqrt(np.maximum(values, 0.0))


def _flow(A, B, c):
    """The matrix of the drift of (x, u, 1)."""
    n, m = B.shape
    flow = np.zeros((n + m + 1, n + m + 1))
    flow[:n] = np.column_stack([A, B, c])
    return flow


def _accumulated(a, weight, h):
    """∫_0^h e^{aᵀs} W e^{as} ds (Van Loan 1978)."""
    n = len(a)
    block = np.zeros((2 * n, 2 * n))
    block[:n, :n], block[:n, n:], block[n:, n:] = -a.T, weight, a
    big = linalg.expm(block * h)
    return big[n:, n:].T @ big[:n, n:]


def continuous_lq_of(problem, about) -> tuple[ContinuousLQ, tuple[np.ndarray, np.ndarray]]:
    """The data of a problem whose plant is a diffusion, at `about` = (x0, u0); without it the derivatives must be constant over the box."""
    generator, plant = problem.generator, problem.plant
    x, u, p = plant.symbols()
    drift, spread = plant.drift_function(x, u, p), plant.diffusion_function(x, u, p)
    rate = problem.reward_of(x, u, p) / generator.dt
    at, (x0, u0) = derivatives(problem, x, u, p, drift, spread, rate, about, "b")
    (jac, by_channel, half), (drift, spread, slope, reward) = at
    n = plant.n
    lq = ContinuousLQ(
        A=jac[:, :n], B=jac[:, n:], c=drift, C=by_channel[..., :n], D=by_channel[..., n:], F=spread.T,
        Q=half[:n, :n], R=half[n:, n:], N=half[:n, n:], q=-0.5 * slope[:n], rho=-0.5 * slope[n:], kappa=-reward, beta=float(generator.rho),
    )  # fmt: skip
    return lq, (x0, u0)


def risk_sensitive(A, B, Q, R, S, theta) -> tuple[np.ndarray, np.ndarray, float]:
    """(P, K, rate) of the average of (1/θ) log E exp(θ ∫ xᵀQx + uᵀRu dt) for dx = (Ax + Bu) dt + S dW, minimised (Jacobson 1973).

    AᵀP + PA + Q − P(BR⁻¹Bᵀ − 2θSSᵀ)P = 0, u = −Kx, rate tr(PSSᵀ) per second. `A` (n, n), `B` (n, m), `Q` (n, n), `R` (m, m), `S` (n, q),
    θ > 0 averse to risk, 0 neutral. Raises `InputError` where no stabilising solution P ≥ 0 exists: θ is beyond breakdown.
    """
    A, B, Q, R, S = (np.atleast_2d(np.asarray(a, float)) for a in (A, B, Q, R, S))
    gains = np.hstack([B, S]) if theta else B
    weights = linalg.block_diag(R, -np.eye(S.shape[1]) / (2 * theta)) if theta else R
    try:
        P = linalg.solve_continuous_are(A, gains, Q, weights)
    except np.linalg.LinAlgError:
        P = np.full_like(A, np.nan)
    K = np.linalg.solve(R, B.T @ P)
    stable = bool(np.all(np.isfinite(P))) and np.max(np.real(linalg.eigvals(A - B @ K + 2 * theta * S @ S.T @ P))) < 0
    good = stable and np.min(linalg.eigvalsh(P)) >= -1e-9 * np.linalg.norm(P)
    require(good, "theta", "must be below the breakdown of the risk-sensitive problem", theta, "Lower it.")
    return P, K, float(np.trace(P @ S @ S.T))
