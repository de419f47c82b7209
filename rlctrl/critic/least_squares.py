"""One Levenberg–Marquardt step, for the scheme's Gauss–Newton updates, for actors and for best fits alike.

Damping by a multiple of the identity (Levenberg: short steps where the data are silent, so weights stay small) with Nielsen's update of
the damping from the ratio of actual to predicted decrease (Madsen, Nielsen & Tingleff 2004, alg. 3.16).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

SILENT = 1e-16  # least damping, relative to the largest diagonal entry
CALM = 0.1  # most damping that a new problem is begun with


class Damping(NamedTuple):
    """Damping relative to the largest diagonal entry of H, and its growth at the next refusal."""

    value: Any
    growth: Any


class Attempt(NamedTuple):
    """The weights tried, whether they are better, the sum of squares gained, and the next damping."""

    omega: Any
    better: Any
    gained: Any
    damping: Damping


def first_damping(value=1e-3) -> Damping:
    """Where a solve starts."""
    return Damping(jnp.asarray(value), jnp.asarray(2.0))


def calmed(damping: Damping, new) -> Damping:
    """The same, or where the problem is `new` no more than CALM: refusals of the one before say nothing about it."""
    return Damping(jnp.where(new, jnp.minimum(damping.value, CALM), damping.value), jnp.where(new, 2.0, damping.growth))


def attempt(omega, H, slope, loss, cost, damping: Damping) -> Attempt:
    """Try ω − (H + μI)⁻¹ slope, where H = Σ v vᵀ, slope = Σ v e, loss = Σ e², and `cost`(ω) is that sum at other weights."""
    shift = damping.value * jnp.max(jnp.diag(H))
    step = -jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(H + shift * jnp.eye(len(omega))), slope)
    gained = loss - cost(omega + step)
    better = gained > 0  # False for NaN, so a failed factorisation only raises the damping
    ratio = gained / (step @ (shift * step - slope))
    factor = jnp.where(better, jnp.maximum(1 / 3, 1 - (2 * ratio - 1) ** 3), damping.growth)
    value = jnp.clip(damping.value * factor, SILENT, 1 / SILENT)
    return Attempt(omega + step, better, gained, Damping(value, jnp.where(better, 2.0, 2 * damping.growth)))
