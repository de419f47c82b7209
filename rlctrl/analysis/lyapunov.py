"""The convergence theory beside what happened (T16–T20), for the update T14.

With A ⪯ L·I and s = b + q the bias,
    ‖ω̃_{k+1}‖² − ‖ω̃_k‖² ≤ −λ(2 − λL) ω̃ᵀAω̃ + 2λ(1 + λL)‖s‖‖ω̃‖ + λ²‖s‖².
M is the sum of the rows' weights: their number, unless prioritised sampling makes some count for more. The notes take L = M/4, which gives
T18 with c = λε(2 − λM/4). Since ‖d‖/(1 + ‖d‖²)² ≤ 3√3/16 =: μ and |R| ≤ κ‖ω̃‖²,
    ‖s‖ ≤ B_0 + B_2‖ω̃‖²,  B_0 = Mμ sup|γe_Q' − e_Q + e*|,  B_2 = Mμκ,
    β1 = 2λ(1 + λL)B_0,  β3 = 2λ(1 + λL)B_2,  β0 = λ²B_0²,  higher orders λ²(2B_0B_2‖ω̃‖² + B_2²‖ω̃‖⁴).
d, b and q lie in the excited subspace, so where A has no full rank all this holds for ρ, the excited part of ‖ω̃‖, with ε the least excited
eigenvalue. But R sees the silent part σ too, ‖ω̃‖² = ρ² + σ²: it adds B_2σ² to B_0.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.analysis.terms import RANK_TOLERANCE
from rlctrl.critic.td import data_vector, td_error

MU = 3 * np.sqrt(3) / 16


@dataclass(frozen=True, eq=False)
class Bounds:
    """The constants of T18–T20 on the run's own sample, and what they promise. Per snapshot (K,):

    `epsilon` least excited eigenvalue of A, `largest` its largest, `rank` excited directions; `c_theory` = λε(2 − λM/4) and `c_measured`
    = λε(2 − λλ_max(A)); `allowed` and `allowed_measured`: the right side of T18 with the worst-case constants, and with ‖b‖, ‖q‖ and λ_max
    as they were; `change` what happened to ‖ω̃‖²; `norm` the excited part of ‖ω̃‖; `r_in`, `r_out` the radii of T19 for it, with the silent
    part as it was (inf: none), `r_in_measured` with ‖b‖ and λ_max as they were too. `error_sup` = sup|γe_Q' − e_Q + e*| and `kappa` =
    sup |R|/‖ω̃‖² over `sample` transitions. `applies`: the theory speaks of this scheme (T14 with the notes' objective); `verdict` says it
    all in words.
    """

    epsilon: np.ndarray
    largest: np.ndarray
    rank: np.ndarray
    c_theory: np.ndarray
    c_measured: np.ndarray
    allowed: np.ndarray
    allowed_measured: np.ndarray
    change: np.ndarray
    norm: np.ndarray
    r_in: np.ndarray
    r_out: np.ndarray
    r_in_measured: np.ndarray
    error_sup: float
    kappa: float
    sample: int
    applies: bool
    verdict: str

    @property
    def c_observed(self) -> np.ndarray:
        """−change/‖ω̃‖² of the excited part, per step (nan at ω*)."""
        return -self.change / np.where(self.norm > 0, self.norm, np.nan) ** 2

    @property
    def violations(self) -> int:
        """Snapshots at which the weights grew by more than T18 allows, beyond round-off."""
        slack = 1e-9 * (np.abs(self.allowed) + np.abs(self.change)) + 1e-12 * self.norm**2
        return int(np.sum(self.change > self.allowed + slack)) if self.applies else 0

    def summary(self) -> dict:
        """Headline numbers, of the last snapshot."""
        names = ("epsilon", "c_theory", "c_measured", "c_observed", "r_in", "r_out", "r_in_measured")
        out = {name: float(getattr(self, name)[-1]) for name in names}
        out |= {name: getattr(self, name) for name in ("error_sup", "kappa", "sample", "violations")}
        return out | {"verdict": self.verdict}


def bounds(run, terms, rows, omega_star, counted) -> Bounds:
    """All constants from a run's snapshots."""
    scheme, rate, count = run.scheme, np.asarray(rows.rate), rows.t.weight.sum(1)
    objective = scheme.objective
    applies = scheme.update == "gradient" and objective == type(objective)()
    spectrum = terms.spectrum
    rank = (spectrum > RANK_TOLERANCE * spectrum[:, :1]).sum(1)
    epsilon, largest, norm = spectrum[np.arange(len(rank)), rank - 1], spectrum[:, 0], terms.excited_norm
    error_sup = float(np.max(np.abs(_mean_bias(rows))[counted]))
    kappa = _kappa(run.network, omega_star, rows, counted)
    b2 = count * MU * kappa
    by_silent = b2 * np.maximum(terms.omega_norm**2 - norm**2, 0.0)
    worst = [_constants(*row) for row in zip(count * MU * error_sup + by_silent, b2, rate, epsilon, count / 4, strict=True)]
    seen = [_constants(*row) for row in zip(terms.bias_norm + by_silent, b2, rate, epsilon, largest, strict=True)]
    allowed = np.array([_right_side(*row, rho) for row, rho in zip(worst, norm, strict=True)])
    radii, measured = (np.array([_radii(*row) for row in found]) for found in (worst, seen))
    s = terms.bias_norm + terms.remainder_norm
    tight = (
        -rate * (2 - rate * largest) * epsilon * norm**2 + 2 * rate * (1 + rate * largest) * s * norm + rate**2 * s**2
    )  # fmt: skip
    found = {
        "epsilon": epsilon, "largest": largest, "rank": rank, "c_theory": rate * epsilon * (2 - rate * count / 4),
        "c_measured": rate * epsilon * (2 - rate * largest), "allowed": allowed, "allowed_measured": tight, "change": terms.decrease,
        "norm": norm, "r_in": radii[:, 0], "r_out": radii[:, 1], "r_in_measured": measured[:, 0], "error_sup": error_sup, "kappa": kappa,
        "sample": int(counted.sum()), "applies": applies,
    }  # fmt: skip
    return Bounds(**found, verdict=_verdict(run, found, terms))


def _mean_bias(rows):
    """γe_Q' − e_Q + e* of every transition, (K, M)."""
    t = rows.t
    return np.sum(t.share * (t.gamma * rows.e_q_ahead - rows.e_q[..., None] + rows.e_star), -1)


def _constants(b0, b2, rate, epsilon, L):
    """Coefficients of ρ⁰ … ρ⁴ on the right of T18."""
    if not 0 <= rate * L < 2:
        return np.array([np.inf, 0, 0, 0, 0])
    cross, c = 2 * rate * (1 + rate * L), rate * epsilon * (2 - rate * L)
    return rate**2 * b0**2, cross * b0, -c + 2 * rate**2 * b0 * b2, cross * b2, rate**2 * b2**2


def _right_side(*coefficients_and_rho):
    *coefficients, rho = coefficients_and_rho
    return np.inf if np.isinf(coefficients[0]) else float(np.polynomial.polynomial.polyval(rho, coefficients))


def _radii(*coefficients):
    """(r_in, r_out): the interval in which the right side is negative; (inf, inf) if there is none, r_out = inf if it has no end."""
    if np.isinf(coefficients[0]) or coefficients[2] >= 0:
        return float("inf"), float("inf")
    if coefficients[3] == 0 and coefficients[4] == 0:
        free, linear, square = coefficients[:3]
        return float((linear + np.sqrt(linear**2 - 4 * square * free)) / (-2 * square)), float("inf")
    if coefficients[1] == 0:  # no bias: ρ² times a quadratic
        square, cubic, quartic = coefficients[2:]
        return 0.0, float(-2 * square / (cubic + np.sqrt(cubic**2 - 4 * square * quartic)))
    unit = coefficients[1] / -coefficients[2]  # the radius of T19 to first order: keeps the polynomial well scaled
    scaled = np.array(coefficients) * unit ** np.arange(5)
    roots = np.roots(np.trim_zeros(scaled[::-1] / np.abs(scaled).max(), "f"))
    real = np.sort(unit * roots.real[(np.abs(roots.imag) < 1e-9 * np.abs(roots)) & (roots.real > 0)])
    return (float(real[0]), float(real[1])) if len(real) > 1 else (float("inf"), float("inf"))


@jax.jit
def _curvatures(network, omega_star, omega, t):
    """|R|/‖ω̃‖² of every transition (M,)."""
    tilde = omega - omega_star
    R = td_error(network, omega, t) - td_error(network, omega_star, t) - data_vector(network, omega, t) @ tilde
    return jnp.abs(R) / (tilde @ tilde)


def _kappa(network, omega_star, rows, counted) -> float:
    """sup |R|/‖ω̃‖², along the run and at random weights as far from ω* as the run went; 0 where that is round-off."""
    last: Any = jax.tree.map(lambda a: a[-1], rows.t)
    reach = float(np.max(np.linalg.norm(np.asarray(rows.omega) - omega_star, axis=1)))
    if reach == 0 or not network.hidden:
        return 0.0
    directions = np.random.default_rng(0).normal(size=(8, len(omega_star)))
    drawn = omega_star + reach * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    sizes = [_curvatures(network, omega_star, omega, last)[counted[-1]] for omega in drawn]
    sizes += [
        _curvatures(network, omega_star, rows.omega[k], jax.tree.map(lambda a, k=k: a[k], rows.t))[counted[k]] for k in range(len(counted))
    ]
    return float(max(np.max(s) for s in sizes))


def _judged(r_in, r_out, norm) -> str:
    """A distance ‖ω̃‖ against the radii of T19, in words."""
    if norm >= r_out:
        return f"beyond r_out = {r_out:.3g}, where T18 promises nothing"
    if norm > r_in:
        return "not yet reached"
    return f"the theory is loose by {r_in / norm:.2g}" if norm else "reached, at ω* itself"


def _verdict(run, found, terms) -> str:
    """What the theory promises and what happened, in sentences."""
    scheme, weights, rate = run.scheme, len(run.weights), float(run.snapshots.rate[-1])
    words = [] if run.finished else [run.message.rstrip(".")]
    lost = np.flatnonzero(found["rank"] < weights)
    if lost.size:
        k = int(lost[-1])
        words.append(f"excitation lost in k = {int(run.snapshots.step[k])}: {int(found['rank'][k])} of {weights} directions")
    if not found["applies"]:
        words.append(f"the theory speaks of T14 with the notes' objective, not of update {scheme.update!r} with these options")
    elif rate >= 8 / scheme.rows:
        words.append(f"rate λ = {rate:.3g} exceeds 8/M = {8 / scheme.rows:.3g}: T18 promises nothing")
    elif np.isinf(found["r_in"][-1]):
        words.append(f"no radius at which T18 promises a decrease: c = {found['c_theory'][-1]:.2g} is too small against sup|e*| and κ")
    else:
        r_in, r_out, norm = (float(found[name][-1]) for name in ("r_in", "r_out", "norm"))
        whose = "" if found["rank"][-1] == weights else "the excited part of "
        words.append(f"the radius r_in = {r_in:.3g} beside {whose}‖ω̃‖ = {norm:.3g}: {_judged(r_in, r_out, norm)}")
    first, last = float(terms.omega_norm[0]), float(terms.omega_norm[-1])
    words.append(f"‖ω̃‖ went from {first:.3g} to {last:.3g}")
    said = "; ".join(words)
    return f"{said[0].upper()}{said[1:]}."
