"""The error of a trained critic, split (T10–T12), with excitation (T16) and the step identity (T17) along the run.

    e^ω(z, z_+) = dᵀω̃ − e_Q(z) + γ e_Q(z_+) + e*(z, z_+) + R,     e* = e*_noise + e*_policy.
Each term is computed from its own definition (R from the network alone), so that their sum is a check and not a tautology.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.analysis.budget import Budget, error_budget
from rlctrl.analysis.fit import best_fit, nearest_equivalent, sup_norm_fit, with_fitted_output
from rlctrl.analysis.lyapunov import Bounds, bounds
from rlctrl.analysis.points import measured_points, spread
from rlctrl.analysis.terms import FLOOR, RANK_TOLERANCE, Row, SnapshotTerms, all_snapshots, remainder_norms
from rlctrl.analysis.transitions import along_the_run, values
from rlctrl.critic.network import CriticQ
from rlctrl.critic.train import Training
from rlctrl.errors import require, require_whole, strict
from rlctrl.kinds import Numbers
from rlctrl.progress import Progress
from rlctrl.reference.base import Reference
from rlctrl.result import Result


@dataclass(frozen=True, eq=False, repr=False)
class Decomposition(Result):
    """Everything T10–T12, T16 and T17 name, measured.

    `run`, `reference`: what was compared. On points `z` (N, n+m) of the `measure` over Z: `q_star`, `q_best` (Q̂^{ω*}), `q_trained`,
    `e_q` (N,). On the transitions of the snapshots, (K, M): `e_td`, `e_star` = `e_star_noise` + `e_star_policy`, `e_q_now`, `e_q_next`,
    `d_dot` (dᵀω̃), `remainder`, `gamma_next` (0 where the problem ended) and `counted` (False for slots of the replay memory not yet
    filled); of several successors their mean, of n-step ones the whole way. Along the run, (K,): `step` and the fields of `terms`.
    `omega_star` is the fit chosen as ω*, of its equivalents (permutations and signs of units) the one nearest to the trained weights. Of
    every fit, the one from the trained weights first: `fit_rms` on the fitting points, `fit_distance` to the trained weights. `budget`
    splits the error of the trained weights on the points, `bounds` is the theory (T18–T20) beside what happened. `remainder_rms` is R at
    the distances `remainder_sizes` from ω*. `reference_residual`: sup |V − max_u Q| of the reference on the successors in which the problem
    goes on, which e*_policy inherits.
    """

    run: Any
    reference: Any
    measure: str
    z: np.ndarray
    q_star: np.ndarray
    q_best: np.ndarray
    q_trained: np.ndarray
    omega_star: np.ndarray
    fit_rms: np.ndarray
    fit_distance: np.ndarray
    step: np.ndarray
    counted: np.ndarray
    e_q_now: np.ndarray
    e_q_next: np.ndarray
    e_star_noise: np.ndarray
    e_star_policy: np.ndarray
    gamma_next: np.ndarray
    terms: SnapshotTerms
    remainder_sizes: np.ndarray
    remainder_rms: np.ndarray
    reference_residual: float
    budget: Budget
    bounds: Bounds

    @property
    def e_q(self) -> np.ndarray:
        """(T10) e_Q = Q* − Q̂^{ω*} on the points z, (N,)."""
        return self.q_star - self.q_best

    @property
    def e_star(self) -> np.ndarray:
        """(T11) e* = Q*(z) − r − γQ*(z_+) on the transitions, (K, M)."""
        return self.e_star_noise + self.e_star_policy

    @property
    def e_td(self) -> np.ndarray:
        """(T6) the TD error on the transitions, (K, M)."""
        return self.terms.e_td

    @property
    def d_dot(self) -> np.ndarray:
        """dᵀω̃ on the transitions, (K, M)."""
        return self.terms.d_dot

    @property
    def remainder(self) -> np.ndarray:
        """(T12) R on the transitions, (K, M)."""
        return self.terms.remainder

    @property
    def omega_tilde(self) -> np.ndarray:
        """vec(ω̃) = vec(ω) − vec(ω*) of the trained weights, (p,)."""
        return self.run.weights - self.omega_star

    @cached_property
    def best(self) -> CriticQ:
        """Q̂^{ω*} as a JAX pytree with `at(x, u)`."""
        return CriticQ(self.run.network, self.omega_star)

    @property
    def relative_error(self) -> float:
        """‖Q̂^ω − Q*‖₂/std Q* of the trained critic under the measure (nan where Q* is constant)."""
        return rms(self.q_trained - self.q_star) / spread(self.q_star)

    @property
    def best_fit_relative_error(self) -> float:
        """The same for ω*."""
        return rms(self.e_q) / spread(self.q_star)

    @property
    def identity_residual(self) -> float:
        """Sup of |left − right| of T12, relative to the largest term, or to 1e-4 of the largest |Q*| on the points if that is more."""
        right = self.d_dot - self.e_q_now + self.gamma_next * self.e_q_next + self.e_star + self.remainder
        terms = (self.e_td, self.d_dot, self.e_q_now, self.e_star, self.remainder)
        scale = max(FLOOR * np.max(np.abs(self.q_star)), *(np.max(np.abs(a[self.counted])) for a in terms))
        return float(np.max(np.abs(self.e_td - right)[self.counted]) / scale)

    @property
    def step_identity_residual(self) -> float:
        """Sup over the snapshots of |left − right| of T17, relative to the largest sum of its terms' sizes (0 where all are 0, nan for
        other updates)."""
        t = self.terms
        parts = np.stack([t.term_excitation, t.term_bias, t.term_remainder, t.term_lag, t.term_square])
        scale = float(np.max(np.abs(parts).sum(0)))
        return float(np.max(np.abs(t.decrease - parts.sum(0)))) / scale if scale else 0.0

    @property
    def remainder_slope(self) -> float:
        """Slope of log R over log ‖ω̃‖ as ω → ω*; T12 says 2 (nan if R is 0, as for a critic linear in its weights)."""
        seen = self.remainder_rms > 0
        if seen.sum() < 2:
            return float("nan")
        return float(np.polyfit(np.log(self.remainder_sizes[seen]), np.log(self.remainder_rms[seen]), 1)[0])

    @property
    def min_eigenvalue(self) -> np.ndarray:
        """(T16) ε along the run, (K,): 0 where M < p, since A then has no full rank."""
        full = self.terms.spectrum.shape[1] == len(self.omega_star)
        return self.terms.spectrum[:, -1] if full else np.zeros(len(self.step))

    @property
    def effective_rank(self) -> np.ndarray:
        """Eigenvalues of A above 1e-9 of the largest, (K,)."""
        return (self.terms.spectrum > RANK_TOLERANCE * self.terms.spectrum[:, :1]).sum(1)

    def e_Q(self, x, u) -> np.ndarray:
        """(T10) e_Q at x (..., n), u (..., m)."""
        x, u = self.run.problem.arrays(x, u)
        return self.reference.Q(x, u) - np.asarray(_at(self.best, x, u))

    def summary(self) -> dict:
        """Headline numbers, nested as in summary.json."""
        rows = self.counted
        return {
            "critic": {
                "weights": len(self.omega_star),
                "relative_error": self.relative_error,
                "best_fit_relative_error": self.best_fit_relative_error,
                "td_rms": rms(self.e_td[-1][rows[-1]]),
            },
            "decomposition": {
                "measure": self.measure,
                "e_q_sup": float(np.max(np.abs(self.e_q))),
                "e_q_rms": rms(self.e_q),
                "e_star_rms": rms(self.e_star[rows]),
                "e_star_sup": float(np.max(np.abs(self.e_star[rows]))),
                "e_star_noise_rms": rms(self.e_star_noise[rows]),
                "e_star_policy_rms": rms(self.e_star_policy[rows]),
                "remainder_rms": rms(self.remainder[-1][rows[-1]]),
                "remainder_slope": self.remainder_slope,
                "identity_residual": self.identity_residual,
                "omega_tilde_norm": float(np.linalg.norm(self.omega_tilde)),
                "reference_residual": self.reference_residual,
            },
            "fits": {
                "best_rms": float(self.fit_rms.min()),
                "nearest_rms": float(self.fit_rms[np.argmin(self.fit_distance)]),
                "best_distance": float(self.fit_distance[np.argmin(self.fit_rms)]),
                "nearest_distance": float(self.fit_distance.min()),
            },
            "budget": self.budget.summary(),
            "lyapunov": {
                "identity_residual": self.step_identity_residual,
                "gradient_gap": float(np.max(self.terms.gradient_gap)),
                **self.bounds.summary(),
            },
            "excitation": {
                "min_eigenvalue": float(self.min_eigenvalue[-1]),
                "max_eigenvalue": float(self.terms.spectrum[-1, 0]),
                "effective_rank": int(self.effective_rank[-1]),
                "excited_share": float(self.terms.excited_share[-1]),
                "verdict": self.verdict,
            },
        }

    @property
    def verdict(self) -> str:
        """Persistency of excitation in words (T16)."""
        p, rows, rank = len(self.omega_star), self.run.scheme.rows, int(self.effective_rank[-1])
        share = f"{100 * float(self.terms.excited_share[-1]):.1f} % of ‖ω̃‖² lies in the {rank} excited directions of {p}"
        share = share if self.terms.omega_norm[-1] else f"the weights are ω*, and {rank} directions of {p} are excited"
        if rows < p:
            return f"M = {rows} < p = {p}: A cannot have full rank, ε = 0 and the bound T18 says nothing; {share}."
        epsilon = float(self.min_eigenvalue[-1])
        return f"ε = {epsilon:.2e}; {share}."


@jax.jit
def _at(q, x, u):
    return q.at(x, u)


def rms(values) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


@strict
@np.errstate(over="ignore", invalid="ignore")  # what is not finite in the end is refused by name
def decompose(
    run: Training, reference: Reference, *, points=2048, starts=3, iterations=120, measure: str | Numbers = "uniform",
    omega_star: str = "best", norm: str = "mean", seed=0, progress: bool = False,
) -> Decomposition:  # fmt: skip
    """Split the error of a trained critic (`run`) against a `reference` of the same problem.

    ω* is fitted on `points` low-discrepancy points of Z and judged on as many others; `measure`: "uniform" over the box of states (but
    for those in which the problem has ended) and inputs, "visited" (the distinct points kept in the snapshots), or an array (N, n+m).
    `starts`: random starts of the fit, besides the trained weights; all are improved together. `iterations`: most Levenberg–Marquardt
    steps per start. `omega_star`: the "best" of the fits, or the "nearest" to the trained weights. `norm`: "mean" square, or "sup" to refit
    for the least largest error. `seed` draws points and starts; `progress` shows a bar. Raises `InputError` if the
    reference is of another problem or, under "uniform", if an input is unbounded or the problem has ended everywhere.
    """
    for argument, value, least in (("points", points, 4), ("starts", starts, 0), ("iterations", iterations, 1), ("seed", seed, 0)):
        require_whole(argument, value, least, "Leave it out to use the default.")
    require(omega_star in ("best", "nearest"), "omega_star", 'must be "best" or "nearest"', omega_star, "Use one of these.")
    require(norm in ("mean", "sup"), "norm", 'must be "mean" or "sup"', norm, "Use one of these.")
    require(
        reference.is_of(run.problem),
        "reference",
        "must be of the problem that the critic was trained on",
        reference.method,
        "Solve run.problem.",
    )
    _require_finite(run, run.snapshots.omega**2, run.snapshots.omega_next**2)
    fit_z, z, label = measured_points(run, measure, points, seed)
    n, network = run.problem.plant.n, run.network
    with Progress("decompose", progress) as bar:
        target = reference.Q(fit_z[:, :n], fit_z[:, n:])
        fits, fit_rms = best_fit(network, _starts(run, starts, seed, fit_z, target), fit_z, target, iterations, bar.to)
    fits = [nearest_equivalent(network, fit, run.weights) for fit in fits]
    distance = np.array([np.linalg.norm(fit - run.weights) for fit in fits])
    chosen = fits[int(np.argmin(fit_rms if omega_star == "best" else distance))]
    if norm == "sup":
        chosen = nearest_equivalent(network, sup_norm_fit(network, chosen, fit_z, target)[0], run.weights)
    q_best, q_trained = (np.asarray(values(network, w, z)) for w in (chosen, run.weights))
    measured = {"run": run, "reference": reference, "measure": label, "z": z, "q_star": reference.Q(z[:, :n], z[:, n:])}
    measured |= {"q_best": q_best, "q_trained": q_trained, "omega_star": chosen, "fit_rms": fit_rms, "fit_distance": distance}
    return Decomposition(**measured, **_along(run, reference, chosen, z, measured["q_star"]))


def _starts(run, count, seed, z, target):
    """The trained weights, and random ones with the output layer fitted."""
    keys = jax.random.split(jax.random.key(seed), count) if count else []
    drawn = [with_fitted_output(run.network, run.network.initial(key, run.critic.scale), z, target) for key in keys]
    return [jnp.asarray(run.weights), *drawn]


def _along(run, reference, omega_star, z, q_star):
    """e_Q and e* on the snapshots' transitions, the terms of T12, T15–T17, and what follows from them; at points z with their Q* the
    budget of the trained weights."""
    snapshots, network = run.snapshots, run.network
    t, found = snapshots.memory.t, along_the_run(run, reference, omega_star)
    rows = Row(
        snapshots.rate, snapshots.omega, snapshots.omega_next, snapshots.target, t, found.e_q, found.e_q_ahead, found.e_star
    )  # fmt: skip
    objective, plain = run.scheme.objective, run.scheme.update == "gradient"
    terms = SnapshotTerms(*map(np.asarray, all_snapshots(network, objective, plain, omega_star, rows)))
    _require_finite(run, terms.e_td, terms.omega_norm, terms.spectrum)
    mean = lambda a: np.sum(t.share * a, -1)
    gamma_next, by_policy = mean(t.gamma), mean(found.e_star_policy)
    last, counted = jax.tree.map(lambda a: a[-1], rows), t.weight > 0
    sizes = np.logspace(-5.5, -3.5, 9) * max(float(np.linalg.norm(omega_star)), 1e-3)
    return {
        "step": snapshots.step,
        "counted": counted,
        "e_q_now": found.e_q,
        "e_q_next": mean(t.gamma * found.e_q_ahead) / np.where(gamma_next > 0, gamma_next, 1.0),
        "e_star_noise": mean(found.e_star) - by_policy,
        "e_star_policy": by_policy,
        "gamma_next": gamma_next,
        "terms": terms,
        "remainder_sizes": sizes,
        "remainder_rms": np.asarray(remainder_norms(network, omega_star, _direction(run.weights - omega_star), sizes, last.t)),
        "reference_residual": _residual(reference, snapshots.memory.z_next[..., 0, : run.problem.plant.n][counted][-2048:]),
        "budget": error_budget(network, objective, omega_star, last._replace(omega=run.weights), found.e_star_policy[-1], z, q_star),
        "bounds": bounds(run, terms, rows, omega_star, counted),
    }


def _residual(reference, x):
    """Sup of |V − Q(x, π*(x))| of a reference over those of the states x (N, n) in which its problem goes on; 0 if there is none."""
    x = x[~np.asarray(reference.kernel.ended(x))] if reference.kernel.can_end else x
    return float(np.max(np.abs(reference.Q(x, reference.policy(x)) - reference.V(x)), initial=0.0))


def _require_finite(run, *sizes):
    """Raise `InputError`, with how the run ended, unless these are finite."""
    sound = all(np.all(np.isfinite(a)) for a in sizes)
    require(sound, "run", "must have weights and TD errors whose squares are finite", run.message, "Train again.")


def _direction(tilde):
    length = np.linalg.norm(tilde)
    return tilde / length if length else np.ones_like(tilde) / np.sqrt(len(tilde))
