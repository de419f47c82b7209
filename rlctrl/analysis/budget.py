"""The error budget: which cause makes which part of Q* − Q̂^ω.

With S the curvature of Q̂ between ω* and ω, exactly
    Q*(z) − Q̂^ω(z) = e_Q(z) − ∇Q̂^ω(z)ᵀω̃ + S(z).
By T15, Aω̃ = ∇J − b − q − h, so the part of ω̃ in the excited directions of A is A⁺(∇J − b_Q − b_noise − b_policy − q − h): what training
left undone, what e_Q, noise and policy put into the targets, what linearisation hides, what held weights lag. The rest of ω̃ lies where
the data say nothing. The parts add up to the error at every z.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.analysis.terms import parts_of, pull
from rlctrl.critic.td import replay_gradient

EXCITED = 1e-6  # singular values of A below this fraction of the largest count as silent in the budget
CAUSES = {
    "representation": "e_Q: what the network cannot represent",
    "not_excited": "directions of ω̃ in which the data say nothing",
    "unfinished": "∇J: what training left undone",
    "targets": "e_Q in the targets",
    "noise": "e*_noise: what the noise adds",
    "policy": "e*_policy: what the policy adds",
    "remainder": "R: what linearisation hides in the TD error",
    "held": "lag of held weights",
    "curvature": "S: what linearisation hides in Q̂",
}


@dataclass(frozen=True, eq=False)
class Budget:
    """The error Q* − Q̂^ω at the points of a decomposition (N,), and its `parts` {cause: (N,)} at the last snapshot, which add up to it.
    `rank`: excited directions of A, of `weights`."""

    error: np.ndarray
    parts: dict[str, np.ndarray]
    rank: int
    weights: int

    @property
    def rms(self) -> dict[str, float]:
        """Root mean square of every part."""
        return {cause: float(np.sqrt(np.mean(part**2))) for cause, part in self.parts.items()}

    @property
    def shares(self) -> dict[str, float]:
        """Signed share of every part in the mean square error: mean(part·error)/mean(error²); they add up to 1."""
        return {cause: float(np.mean(part * self.error) / np.mean(self.error**2)) for cause, part in self.parts.items()}

    @property
    def residual(self) -> float:
        """Sup of |error − sum of the parts|, relative to the largest part."""
        largest = max(np.max(np.abs(part)) for part in self.parts.values())
        return float(np.max(np.abs(self.error - sum(self.parts.values()))) / largest)

    def summary(self) -> dict:
        """Headline numbers."""
        return {"rms": self.rms, "shares": self.shares, "rank": self.rank, "residual": self.residual}

    def table(self) -> str:
        """The budget as text, largest part first."""
        rms, shares = self.rms, self.shares
        lines = [f"{'part':14}  {'rms':>9}  {'share':>8}   (error: rms {np.sqrt(np.mean(self.error**2)):.3g})"]
        for cause in sorted(rms, key=lambda c: -rms[c]):
            lines.append(f"{cause:14}  {rms[cause]:9.3g}  {100 * shares[cause]:6.1f} %   {CAUSES[cause]}")
        return "\n".join(lines)


def error_budget(network, objective, omega_star, row, e_star_policy, z, e_q) -> Budget:
    """The budget at points z (N, n+m) with their e_Q (N,), from one snapshot and the policy's part of its e* (M, S)."""
    A, pulls, slopes, moved = _linear(network, objective, omega_star, row, e_star_policy, z)
    tilde = row.omega - omega_star
    left, size, right = np.linalg.svd(np.asarray(A))
    rank = int(np.sum(size > EXCITED * size[0]))
    inverse = lambda vector: right[:rank].T @ ((left[:, :rank].T @ np.asarray(vector)) / size[:rank])
    silent = tilde - right[:rank].T @ (right[:rank] @ tilde)
    slopes, moved = np.asarray(slopes), np.asarray(moved)
    parts = {"representation": e_q, "not_excited": -slopes @ silent, "unfinished": -slopes @ inverse(pulls["gradient"])}
    parts |= {cause: slopes @ inverse(pulls[cause]) for cause in ("targets", "noise", "policy", "remainder", "held")}
    parts["curvature"] = slopes @ tilde - moved
    return Budget(e_q - moved, parts, rank, len(tilde))


@partial(jax.jit, static_argnames="objective")
def _linear(network, objective, omega_star, row, e_star_policy, z):
    """A, the pulls of every cause, and at z the slopes ∇Q̂^ω and the move Q̂^ω − Q̂^{ω*}."""
    t, parts = row.t, parts_of(network, objective, omega_star, row)
    if objective.double and not objective.semi:
        A = 0.5 * jnp.einsum("m,mkp,mkq->pq", parts.mass, parts.d[:, ::-1], parts.d)
    else:
        A = (parts.mass[:, None] * parts.v).T @ jnp.einsum("mk,mkp->mp", t.share, parts.d)
    errors = {"targets": parts.e_q, "noise": parts.e_star - e_star_policy, "policy": e_star_policy}
    errors |= {"remainder": parts.remainder, "held": parts.lag}
    pulls = {cause: pull(objective, t, parts, e) for cause, e in errors.items()}
    pulls["gradient"] = replay_gradient(network, row.omega, t, objective, row.held if objective.semi else None)[0]
    moved = network.value(row.omega, z) - network.value(omega_star, z)
    return A, pulls, network.gradient(row.omega, z), moved
