"""Every term of T12, T15, T16 and T17 at one snapshot (ω_k, R_k, ω_{k+1}), given e_Q and e* of its transitions."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rlctrl.critic.td import data_vector, td_error

RANK_TOLERANCE = 1e-9  # an eigenvalue of A below this fraction of the largest counts as not excited


class SnapshotTerms(NamedTuple):
    """Per transition (M,): e_td, d_dot = dᵀω̃, remainder R. Per snapshot: the terms of T17 and the spectrum of A (T16)."""

    e_td: Any
    d_dot: Any
    remainder: Any
    omega_norm: Any  # ‖ω̃_k‖
    decrease: Any  # ‖ω̃_{k+1}‖² − ‖ω̃_k‖²
    term_excitation: Any  # −2λ ω̃ᵀAω̃
    term_bias: Any  # −2λ ω̃ᵀb
    term_remainder: Any  # −2λ ω̃ᵀq
    term_square: Any  # λ²‖Aω̃ + b + q‖²
    gradient_gap: Any  # |∇J_c − (Aω̃ + b + q)|/(|∇J_c| + …), T15
    spectrum: Any  # eigenvalues of A, largest first, (min(M, p),)
    excited_share: Any  # part of ‖ω̃‖² in the span of the excited eigenvectors


def snapshot_terms(network, rate, omega_star, omega, omega_next, t, e_q, e_q_next, e_star) -> SnapshotTerms:
    """All terms for one R_k = t; e_q, e_q_next, e_star (M,) belong to its transitions."""
    tilde = omega - omega_star
    d = data_vector(network, omega, t)
    e_td, e_best = td_error(network, omega, t), td_error(network, omega_star, t)
    d_dot = d @ tilde
    remainder = e_td - e_best - d_dot
    mass = t.weight / (jnp.sum(d**2, -1) + 1) ** 2
    parts = [(mass * s) @ d for s in (d_dot, t.gamma * e_q_next - e_q + e_star, remainder)]  # Aω̃, b, q
    total, gradient = sum(parts), (mass * e_td) @ d
    following = omega_next - omega_star
    spectrum, share = _excitation(jnp.sqrt(mass)[:, None] * d, tilde)
    return SnapshotTerms(
        e_td=e_td,
        d_dot=d_dot,
        remainder=remainder,
        omega_norm=jnp.linalg.norm(tilde),
        decrease=(following - tilde) @ (following + tilde),
        term_excitation=-2 * rate * tilde @ parts[0],
        term_bias=-2 * rate * tilde @ parts[1],
        term_remainder=-2 * rate * tilde @ parts[2],
        term_square=rate**2 * total @ total,
        gradient_gap=jnp.linalg.norm(gradient - total) / sum(jnp.linalg.norm(p) for p in parts),
        spectrum=spectrum,
        excited_share=share,
    )


def _excitation(rows, tilde):
    """Spectrum of A = rowsᵀrows (its nonzero part, from the smaller Gram matrix) and the share of ω̃ in the excited subspace."""
    count, p = rows.shape
    if count < p:
        values, vectors = jnp.linalg.eigh(rows @ rows.T)
        along = vectors.T @ (rows @ tilde)
        energy = along**2 / jnp.maximum(values, 1e-300)
    else:
        values, vectors = jnp.linalg.eigh(rows.T @ rows)
        energy = (vectors.T @ tilde) ** 2
    excited = values > RANK_TOLERANCE * values[-1]
    return jnp.maximum(values, 0.0)[::-1], jnp.sum(jnp.where(excited, energy, 0.0)) / (tilde @ tilde)


all_snapshots = jax.jit(
    lambda network, rate, omega_star, omega, omega_next, t, e_q, e_q_next, e_star: jax.lax.map(
        lambda row: snapshot_terms(network, rate, omega_star, *row), (omega, omega_next, t, e_q, e_q_next, e_star)
    )
)


@jax.jit
def remainder_norms(network, omega_star, direction, sizes, t):
    """Root mean square of R on transitions t at ω = ω* + size·direction, for each size."""

    def at(size):
        omega = omega_star + size * direction
        R = td_error(network, omega, t) - td_error(network, omega_star, t) - data_vector(network, omega, t) @ (size * direction)
        return jnp.sqrt(jnp.sum(t.weight * R**2) / jnp.sum(t.weight))

    return jax.lax.map(at, sizes)
