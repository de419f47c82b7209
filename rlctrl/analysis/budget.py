"""The error budget: which cause makes which part of Q* − Q̂^ω.

Slopes are averaged over the way from ω* to ω, ∇̄ = ∫₀¹ ∇(ω* + sω̃) ds: by the fundamental theorem of calculus nothing is then left over,
    Q*(z) − Q̂^ω(z) = e_Q(z) − ∇̄Q̂(z)ᵀω̃,     e^ω = d̄ᵀω̃ − e_Q + γe_Q' + e*,
while slopes at ω alone leave remainders that far from ω* dwarf the error and cancel (R of T12, and its like for Q̂). So T15 reads
Āω̃ = ∇J − b − h with Ā = Σ c v d̄ᵀ, and the part of ω̃ in the excited directions of Ā is Ā⁺(∇J − b_Q − b_noise − b_policy − h): what
training left undone, what e_Q, noise and policy put into the targets, what held weights lag. The rest of ω̃ lies where the data say
nothing. The parts add up to the error at every z, with the transitions and held weights of whichever snapshot Ā is made of.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.analysis.terms import FLOOR, parts_of, pull
from rlctrl.analysis.transitions import values
from rlctrl.critic.td import replay_gradient

WAY = 64  # Gauss–Legendre nodes on the way from ω* to ω
EXCITED = 1e-5  # singular values of Ā below this fraction of the largest count as silent in the budget: the parts then add up to 1e-10
CAUSES = {
    "representation": "e_Q: what the network cannot represent",
    "not_excited": "directions of ω̃ in which the data say nothing",
    "unfinished": "∇J: what training left undone",
    "targets": "e_Q in the targets",
    "noise": "e*_noise: what the noise adds",
    "policy": "e*_policy: what the policy adds",
    "held": "lag of held weights",
    "remainder": "what the quadrature on the way from ω* to ω leaves",
}


@dataclass(frozen=True, eq=False)
class Budget:
    """The error Q* − Q̂^ω of the trained weights at the points of a decomposition (N,), and its `parts` {cause: (N,)}, which add up to it:
    what the transitions and held weights of the last snapshot say about ω. `rank`: excited directions of Ā, of `weights`. `size`: the
    largest |Q*| on the points."""

    error: np.ndarray
    parts: dict[str, np.ndarray]
    rank: int
    weights: int
    size: float

    @property
    def rms(self) -> dict[str, float]:
        """Root mean square of every part."""
        return {cause: float(np.sqrt(np.mean(part**2))) for cause, part in self.parts.items()}

    @property
    def shares(self) -> dict[str, float]:
        """Signed share of every part in the mean square error: mean(part·error)/mean(error²); they add up to 1 (all are 0 where there is
        no error)."""
        whole = float(np.mean(self.error**2))
        return {cause: float(np.mean(part * self.error)) / whole if whole else 0.0 for cause, part in self.parts.items()}

    @property
    def residual(self) -> float:
        """Sup of |error − sum of the parts|, relative to the largest part, or to 1e-4 of `size` if that is more."""
        largest = max(FLOOR * self.size, *(np.max(np.abs(part)) for part in self.parts.values()))
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


def error_budget(network, objective, omega_star, row, e_star_policy, z, q_star) -> Budget:
    """The budget of the weights of one row at points z (N, n+m) with their Q* (N,), given the policy's part of the row's e* (M, S)."""
    A, pulls, slopes, moved = _linear(network, objective, omega_star, row, e_star_policy, z)
    tilde, e_q = row.omega - omega_star, q_star - np.asarray(values(network, omega_star, z))
    left, size, right = np.linalg.svd(np.asarray(A))
    rank = int(np.sum(size > EXCITED * size[0]))
    inverse = lambda vector: right[:rank].T @ ((left[:, :rank].T @ np.asarray(vector)) / size[:rank])
    silent = tilde - right[:rank].T @ (right[:rank] @ tilde)
    slopes, moved = np.asarray(slopes), np.asarray(moved)
    parts = {"representation": e_q, "not_excited": -slopes @ silent, "unfinished": -slopes @ inverse(pulls["gradient"])}
    parts |= {cause: slopes @ inverse(pulls[cause]) for cause in ("targets", "noise", "policy", "held")}
    parts["remainder"] = slopes @ inverse(pulls["remainder"]) + slopes @ tilde - moved
    return Budget(e_q - moved, parts, rank, len(tilde), float(np.max(np.abs(q_star))))


@partial(jax.jit, static_argnames="objective")
def _linear(network, objective, omega_star, row, e_star_policy, z):
    """Ā, the pulls of every cause, and at z the slopes ∇̄Q̂ and the move Q̂^ω − Q̂^{ω*}."""
    t, parts = row.t, parts_of(network, objective, omega_star, row)
    ahead = _on_the_way(network, omega_star, row.omega, t.phi)
    d = ahead[:, :1] - t.gamma[..., None] * ahead[:, 1:]
    if objective.double and not objective.semi:
        A = 0.5 * jnp.einsum("m,mkp,mkq->pq", parts.mass, parts.d[:, ::-1], d)
    else:
        A = (parts.mass[:, None] * parts.v).T @ jnp.einsum("mk,mkp->mp", t.share, d)
    errors = {"targets": parts.e_q, "noise": parts.e_star - e_star_policy, "policy": e_star_policy}
    errors |= {"remainder": parts.d_dot + parts.remainder - d @ (row.omega - omega_star), "held": parts.lag}
    pulls = {cause: pull(objective, t, parts, e) for cause, e in errors.items()}
    pulls["gradient"] = replay_gradient(network, row.omega, t, objective, row.held if objective.semi else None)[0]
    moved = network.value(row.omega, z) - network.value(omega_star, z)
    return A, pulls, _on_the_way(network, omega_star, row.omega, network.features(z)), moved


def _on_the_way(network, start, end, phi):
    """Mean of ∇Q̂ at features phi (..., N_C1) over the weights between two vectors, (..., p)."""
    nodes, mass = map(jnp.asarray, np.polynomial.legendre.leggauss(WAY))
    at = lambda k: start + 0.5 * (1 + nodes[k]) * (end - start)
    add = lambda k, total: total + 0.5 * mass[k] * network.derivative(at(k), phi)
    return jax.lax.fori_loop(0, WAY, add, jnp.zeros((*phi.shape[:-1], network.size)))
