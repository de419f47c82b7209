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
from scipy.stats import qmc

from rlctrl.analysis.fit import best_fit, nearest_equivalent, with_fitted_output
from rlctrl.analysis.terms import RANK_TOLERANCE, SnapshotTerms, all_snapshots, remainder_norms
from rlctrl.critic.network import CriticQ
from rlctrl.errors import InputError, require, require_whole, strict
from rlctrl.plant import box
from rlctrl.progress import Progress
from rlctrl.result import Result
from rlctrl.storage import fingerprint


@dataclass(frozen=True, eq=False)
class Decomposition(Result):
    """Everything T10–T12, T16 and T17 name, measured.

    `run`, `reference`: what was compared. On points `z` (N, n+m) of the `measure` over Z: `q_star`, `q_best` (Q̂^{ω*}), `q_trained`,
    `e_q` (N,). On the transitions of the snapshots, (K, M): `e_td`, `e_star` = `e_star_noise` + `e_star_policy`, `e_q_now`, `e_q_next`,
    `d_dot` (dᵀω̃), `remainder`, `gamma_next` (0 where the problem ended) and `counted` (False for slots of the replay memory not yet
    filled). Along the run, (K,): `step` and the fields of `terms`. `omega_star` is the best fit, of its equivalents (permutations and
    signs of units) the one nearest to the trained weights; `fit_rms` are the root mean squares of all starts on the fitting points.
    `remainder_rms` is R at the distances `remainder_sizes` from ω*. `reference_residual`: sup |V − max_u Q| of the reference on the
    successors, which e*_policy inherits.
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
        """‖Q̂^ω − Q*‖₂/std Q* of the trained critic under the measure."""
        return float(rms(self.q_trained - self.q_star) / np.std(self.q_star))

    @property
    def best_fit_relative_error(self) -> float:
        """The same for ω*."""
        return float(rms(self.e_q) / np.std(self.q_star))

    @property
    def identity_residual(self) -> float:
        """Sup of |left − right| of T12, relative to the largest term."""
        right = self.d_dot - self.e_q_now + self.gamma_next * self.e_q_next + self.e_star + self.remainder
        terms = (self.e_td, self.d_dot, self.e_q_now, self.e_star, self.remainder)
        scale = max(float(np.max(np.abs(a[self.counted]))) for a in terms)
        return float(np.max(np.abs(self.e_td - right)[self.counted]) / scale)

    @property
    def step_identity_residual(self) -> float:
        """Sup over the snapshots of |left − right| of T17, relative to the largest sum of its terms' sizes."""
        t = self.terms
        parts = np.stack([t.term_excitation, t.term_bias, t.term_remainder, t.term_square])
        return float(np.max(np.abs(t.decrease - parts.sum(0))) / np.max(np.abs(parts).sum(0)))

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
            "lyapunov": {"identity_residual": self.step_identity_residual, "gradient_gap": float(np.max(self.terms.gradient_gap))},
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
        p, memory, rank = len(self.omega_star), self.run.scheme.memory, int(self.effective_rank[-1])
        share = f"{100 * float(self.terms.excited_share[-1]):.1f} % of ‖ω̃‖² lies in the {rank} excited directions of {p}"
        if memory < p:
            return f"M = {memory} < p = {p}: A cannot have full rank, ε = 0 and the bound T18 says nothing; {share}."
        epsilon = float(self.min_eigenvalue[-1])
        return f"ε = {epsilon:.2e}; {share}."


@jax.jit
def _at(q, x, u):
    return q.at(x, u)


def rms(values) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


@strict
def decompose(run, reference, *, points=2048, starts=3, iterations=120, measure="uniform", seed=0, progress=False) -> Decomposition:
    """Split the error of a trained critic (`run`) against a `reference` of the same problem.

    ω* is fitted on `points` low-discrepancy points of Z and judged on as many others; `measure`: "uniform" over the box of states and
    inputs, "visited" (the transitions kept in the snapshots), or an array (N, n+m). `starts`: random starts of the fit, besides the
    trained weights. `iterations`: most Levenberg–Marquardt steps per start. `seed` draws points and starts; `progress` shows a bar.
    Raises `InputError` if the reference is of another problem or an input is unbounded under "uniform".
    """
    for argument, value, least in (("points", points, 4), ("starts", starts, 0), ("iterations", iterations, 1), ("seed", seed, 0)):
        require_whole(argument, value, least, "Leave it out to use the default.")
    same = fingerprint(reference.kernel) == fingerprint(run.problem.kernel)
    require(same, "reference", "must be of the problem that the critic was trained on", reference.method, "Solve run.problem.")
    fit_z, z, label = _points(run, measure, points, seed)
    n = run.problem.plant.n
    network = run.network
    with Progress("decompose", progress) as bar:
        target = reference.Q(fit_z[:, :n], fit_z[:, n:])
        omegas, fit_rms = best_fit(network, _starts(run, starts, seed, fit_z, target), fit_z, target, iterations, bar.to)
    omega_star = nearest_equivalent(network, omegas[np.argmin(fit_rms)], run.weights)
    q_best, q_trained = (np.asarray(_values(network, w, z)) for w in (omega_star, run.weights))
    return Decomposition(
        run=run,
        reference=reference,
        measure=label,
        z=z,
        q_star=reference.Q(z[:, :n], z[:, n:]),
        q_best=q_best,
        q_trained=q_trained,
        omega_star=omega_star,
        fit_rms=fit_rms,
        step=run.snapshots.step,
        **_along_the_run(run, reference, omega_star),
    )


@jax.jit
def _values(network, omega, z):
    return network.value(omega, z)


def _starts(run, count, seed, z, target):
    """The trained weights, and random ones with the output layer fitted."""
    keys = jax.random.split(jax.random.key(seed), count) if count else []
    drawn = [with_fitted_output(run.network, run.network.initial(key, run.critic.scale), z, target) for key in keys]
    return [jnp.asarray(run.weights), *drawn]


def _points(run, measure, count, seed):
    """Fitting points, judging points (N, n+m) and the name of the measure."""
    plant = run.problem.plant
    if isinstance(measure, str):
        require(measure in ("uniform", "visited"), "measure", 'must be "uniform", "visited" or an array', measure, "Use one of these.")
        if measure == "uniform":
            return (*(_uniform(plant, count, seed + k) for k in (0, 1)), "uniform over the box of states and inputs")
        memory = run.snapshots.memory
        z = memory.z[memory.t.weight > 0]
        label = "transitions kept in the snapshots"
    else:
        z, label = np.asarray(measure, float), "given points"
    width = plant.n + plant.m
    require(
        z.ndim == 2 and z.shape[1] == width and len(z) >= 4, "measure", f"must have shape (N, {width})", np.shape(z), "States, then inputs."
    )
    z = np.random.default_rng(seed).permutation(z)[: 2 * count]
    return z[::2], z[1::2], label


def _uniform(plant, count, seed):
    """Scrambled Sobol points of the box; finite inputs take their values."""
    signals = plant.states + plant.inputs
    low, high = box(signals)
    unbounded = [s.label for s in signals if not np.isfinite(s.high - s.low)]
    require(
        not unbounded, "measure", '"uniform" needs a bounded box', unbounded, 'Give these signals low and high, or use measure="visited".'
    )
    power = int(np.ceil(np.log2(count)))
    unit = qmc.Sobol(len(signals), rng=seed).random_base2(power)[:count]
    z = low + (high - low) * unit
    for k, signal in enumerate(signals):
        if signal.values:
            z[:, k] = np.asarray(signal.values)[(unit[:, k] * len(signal.values)).astype(int)]
    return z


def _along_the_run(run, reference, omega_star):
    """e_Q and e* on the snapshots' transitions, and the terms of T12, T15–T17."""
    memory, network, n = run.snapshots.memory, run.network, run.problem.plant.n
    t = memory.t
    q_now, q_next = (reference.Q(z[..., :n], z[..., n:]) for z in (memory.z, memory.z_next))
    best_now, best_next = (np.asarray(_values(network, omega_star, z)) for z in (memory.z, memory.z_next))
    v_next = reference.V(memory.z_next[..., :n])
    noise = q_now - t.r - t.gamma * v_next
    policy = t.gamma * (v_next - q_next)
    e_q, e_q_next = q_now - best_now, q_next - best_next
    snapshots = run.snapshots
    terms = all_snapshots(network, run.scheme.rate, omega_star, snapshots.omega, snapshots.omega_next, t, e_q, e_q_next, noise + policy)
    terms = SnapshotTerms(*(np.asarray(a) for a in terms))
    direction = run.weights - omega_star
    length = np.linalg.norm(direction)
    if length == 0:
        direction, length = np.ones_like(direction), np.sqrt(len(direction))
    sizes = np.logspace(-5.5, -3.5, 9) * max(float(np.linalg.norm(omega_star)), 1e-3)
    last = jax.tree.map(lambda a: a[-1], t)
    counted = t.weight > 0
    states = memory.z_next[..., :n][counted][-2048:]
    if not np.all(np.isfinite(terms.e_td)):
        raise InputError("`run` must have finite weights; got snapshots that are not. Train again with a smaller rate.")
    return {
        "counted": counted,
        "e_q_now": e_q,
        "e_q_next": e_q_next,
        "e_star_noise": noise,
        "e_star_policy": policy,
        "gamma_next": t.gamma,
        "terms": terms,
        "remainder_sizes": sizes,
        "remainder_rms": np.asarray(remainder_norms(network, omega_star, direction / length, sizes, last)),
        "reference_residual": float(np.max(np.abs(reference.Q(states, reference.policy(states)) - reference.V(states)))),
    }
