"""Every term of T12, T15, T16 and T17 at one snapshot (ω_k, R_k, ω_{k+1}), given e_Q and e* of its transitions.

With v the vector that the scheme multiplies errors with (d; ∇Q̂(z) for a semi-gradient) and c the normaliser,
    ∇J_c = Σ c v e = Aω̃ + b + q + h,   A = Σ c v dᵀ,  b = Σ c v (γe_Q' − e_Q + e*),  q = Σ c v R,
where h = Σ c v γ(Q̂^ω(z_+) − Q̂^{held}(z_+)) is the lag of held weights (0 in the notes). Two independent errors, multiplied, give
½ Σ c (d_1 e_2 + d_2 e_1) for Σ c v e in each of these.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rlctrl.critic.td import data_vector, normaliser, replay_gradient, td_error, td_errors

FLOOR = 1e-4  # of the numbers whose differences they are: what vanishing terms are compared with, lest round-off look like an error
RANK_TOLERANCE = 1e-9  # an eigenvalue of A below this fraction of the largest counts as not excited


class Row(NamedTuple):
    """A snapshot: λ, ω_k, ω_{k+1}, held weights, transitions, e_Q(z) (M,), e_Q and e* of every successor (M, K)."""

    rate: Any
    omega: Any
    omega_next: Any
    held: Any
    t: Any
    e_q: Any
    e_q_ahead: Any
    e_star: Any


class Parts(NamedTuple):
    """The error's linear part dᵀω̃, γe_Q' − e_Q, e*, R and the lag of held weights, for every successor (M, K); the gradients d_k by
    successor (M, K, p), the normaliser c (M,), and v (M, p)."""

    d_dot: Any
    e_q: Any
    e_star: Any
    remainder: Any
    lag: Any
    d: Any
    mass: Any
    v: Any


class SnapshotTerms(NamedTuple):
    """Per transition (M,): e_td, d_dot = dᵀω̃, remainder R. Per snapshot: the terms of T17 (nan unless the update is T14's) and the spectrum
    of A (T16)."""

    e_td: Any
    d_dot: Any
    remainder: Any
    omega_norm: Any  # ‖ω̃_k‖
    decrease: Any  # ‖ω̃_{k+1}‖² − ‖ω̃_k‖²
    term_excitation: Any  # −2λ ω̃ᵀAω̃
    term_bias: Any  # −2λ ω̃ᵀb
    term_remainder: Any  # −2λ ω̃ᵀq
    term_lag: Any  # −2λ ω̃ᵀh
    term_square: Any  # λ²‖Aω̃ + b + q + h‖²
    gradient_gap: Any  # |∇J_c − (Aω̃ + b + q + h)|/(|Aω̃| + |b| + |q| + |h|), T15; at the least by 1e-4 Σ c|v| max|Q̂|
    bias_norm: Any  # ‖b‖
    remainder_norm: Any  # ‖q + h‖
    excited_norm: Any  # ‖ω̃‖ in the excited subspace
    spectrum: Any  # eigenvalues of Σ c v vᵀ, largest first, (min(M, p),)
    excited_share: Any  # part of ‖ω̃‖² in the span of the excited eigenvectors, 1 at ω*


def parts_of(network, objective, omega_star, row: Row) -> Parts:
    """What the scheme's gradient is made of."""
    t, tilde = row.t, row.omega - omega_star
    slopes = network.derivative(row.omega, t.phi)
    d = slopes[:, :1] - t.gamma[..., None] * slopes[:, 1:]
    d_dot = d @ tilde
    e = td_errors(network, row.omega, t)
    lag = td_errors(network, row.omega, t, row.held) - e if objective.semi else jnp.zeros_like(e)
    v = data_vector(network, row.omega, t, objective)
    return Parts(
        d_dot=d_dot,
        e_q=t.gamma * row.e_q_ahead - row.e_q[:, None],
        e_star=row.e_star,
        remainder=e - td_errors(network, omega_star, t) - d_dot,
        lag=lag,
        d=d,
        mass=normaliser(v, t, objective),
        v=v,
    )


def pull(objective, t, parts: Parts, errors):
    """Σ c v e (p,) of errors (M, K), as the scheme forms it."""
    if objective.double and not objective.semi:
        return 0.5 * jnp.einsum("m,mk,mkp->p", parts.mass, errors[:, ::-1], parts.d)
    return (parts.mass * jnp.sum(t.share * errors, -1)) @ parts.v


def snapshot_terms(network, objective, plain, omega_star, row: Row) -> SnapshotTerms:
    """All terms of one snapshot; `plain`: the update was T14's."""
    t, tilde = row.t, row.omega - omega_star
    parts = parts_of(network, objective, omega_star, row)
    pulls = [pull(objective, t, parts, a) for a in (parts.d_dot, parts.e_q + parts.e_star, parts.remainder, parts.lag)]
    total = sum(pulls)
    gradient, _ = replay_gradient(network, row.omega, t, objective, row.held if objective.semi else None)
    spectrum, excited = _excitation(jnp.sqrt(parts.mass)[:, None] * parts.v, tilde)
    size = jnp.sum(parts.mass * jnp.linalg.norm(parts.v, axis=1)) * jnp.max(jnp.abs(network.layers(row.omega, t.phi)[0]))
    following, mean = row.omega_next - omega_star, lambda a: jnp.sum(t.share * a, -1)
    term = lambda value: value if plain else jnp.full_like(value, jnp.nan)
    return SnapshotTerms(
        e_td=td_error(network, row.omega, t),
        d_dot=mean(parts.d_dot),
        remainder=mean(parts.remainder),
        omega_norm=jnp.linalg.norm(tilde),
        decrease=(following - tilde) @ (following + tilde),
        term_excitation=term(-2 * row.rate * tilde @ pulls[0]),
        term_bias=term(-2 * row.rate * tilde @ pulls[1]),
        term_remainder=term(-2 * row.rate * tilde @ pulls[2]),
        term_lag=term(-2 * row.rate * tilde @ pulls[3]),
        term_square=term(row.rate**2 * total @ total),
        gradient_gap=jnp.linalg.norm(gradient - total) / jnp.maximum(sum(jnp.linalg.norm(p) for p in pulls), FLOOR * size),
        bias_norm=jnp.linalg.norm(pulls[1]),
        remainder_norm=jnp.linalg.norm(pulls[2] + pulls[3]),
        excited_norm=jnp.sqrt(excited),
        spectrum=spectrum,
        excited_share=jnp.where(tilde @ tilde > 0, excited / (tilde @ tilde), 1.0),
    )


def _excitation(rows, tilde):
    """Spectrum of rowsᵀrows (its nonzero part, from the smaller Gram matrix) and the square of ω̃ in the excited subspace."""
    count, p = rows.shape
    if count < p:
        values, vectors = jnp.linalg.eigh(rows @ rows.T)
        along = vectors.T @ (rows @ tilde)
        energy = along**2 / jnp.maximum(values, 1e-300)
    else:
        values, vectors = jnp.linalg.eigh(rows.T @ rows)
        energy = (vectors.T @ tilde) ** 2
    excited = values > RANK_TOLERANCE * values[-1]
    return jnp.maximum(values, 0.0)[::-1], jnp.minimum(jnp.sum(jnp.where(excited, energy, 0.0)), tilde @ tilde)


@partial(jax.jit, static_argnames=("objective", "plain"))
def all_snapshots(network, objective, plain, omega_star, rows: Row) -> SnapshotTerms:
    """The terms of every snapshot, leading axis K."""
    return jax.lax.map(lambda row: snapshot_terms(network, objective, plain, omega_star, row), rows)


@jax.jit
def remainder_norms(network, omega_star, direction, sizes, t):
    """Root mean square of R on transitions t at ω = ω* + size·direction, for each size; 0 for a critic linear in its weights."""
    if not network.hidden:
        return jnp.zeros_like(sizes)

    def at(size):
        omega = omega_star + size * direction
        R = td_error(network, omega, t) - td_error(network, omega_star, t) - data_vector(network, omega, t) @ (size * direction)
        return jnp.sqrt(jnp.sum(t.weight * R**2) / jnp.sum(t.weight))

    return jax.lax.map(at, sizes)
