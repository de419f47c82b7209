"""ω*: the weights that represent Q* best, by Levenberg–Marquardt least squares from several starts; and which ω* is meant.

ω* is not unique (T12): permuting hidden units, and flipping signs where φ1 is odd or even, leaves Q̂ unchanged. `nearest_equivalent`
picks, by an assignment problem, the equivalent one nearest to given weights.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from rlctrl.critic.features import ACTIVATIONS


@functools.partial(jax.jit, static_argnames="iterations")
def levenberg_marquardt(network, omega, z, target, iterations):
    """Minimise the mean square of Q̂^ω(z) − target from `omega`; returns ω and its mean square.

    Damping by a multiple of the identity (Levenberg: short steps where the data are silent, so ω stays small) with Nielsen's update
    of the damping from the ratio of actual to predicted decrease (Madsen, Nielsen & Tingleff 2004, alg. 3.16).
    """

    def model(omega):
        J = network.gradient(omega, z)
        r = network.value(omega, z) - target
        return J.T @ J, J.T @ r, jnp.sum(r**2)

    def attempt(carry):
        k, omega, (H, slope, loss), damping, growth, _ = carry
        shift = damping * jnp.max(jnp.diag(H))
        step = -jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(H + shift * jnp.eye(len(omega))), slope)
        trial = omega + step
        gained = loss - jnp.sum((network.value(trial, z) - target) ** 2)
        ratio = gained / (step @ (shift * step - slope))
        better = gained > 0  # False for NaN, so a failed factorisation only raises the damping
        state = jax.lax.cond(better, lambda: (trial, model(trial)), lambda: (omega, (H, slope, loss)))
        damping = jnp.clip(jnp.where(better, damping * jnp.maximum(1 / 3, 1 - (2 * ratio - 1) ** 3), damping * growth), 1e-16, 1e16)
        return k + 1, *state, damping, jnp.where(better, 2.0, 2 * growth), jnp.where(better, gained / loss, 1.0)

    def unfinished(carry):
        k, _, (_, _, loss), damping, _, gain = carry
        return (k < iterations) & (gain > 1e-9) & (loss > 1e-28 * len(target)) & (damping < 1e12)

    start = (0, omega, model(omega), jnp.asarray(1e-3), jnp.asarray(2.0), jnp.asarray(1.0))
    _, omega, (_, _, loss), *_ = jax.lax.while_loop(unfinished, attempt, start)
    return omega, loss / len(target)


@jax.jit
def with_fitted_output(network, omega, z, target):
    """ω with its output layer ω1 replaced by the (slightly damped) linear least-squares fit: a start at the scale of the target."""
    h = network.layers(omega, network.features(z))[1][0]
    width = h.shape[-1]
    output = jnp.linalg.solve(h.T @ h + 1e-4 * len(z) * jnp.eye(width), h.T @ target)
    return omega.at[:width].set(output)


def best_fit(network, starts, z, target, iterations, report=lambda fraction, text: None):
    """Least squares from each start; returns all fitted weights (S, p) and their root mean squares (S,)."""
    fitted, errors = [], []
    for k, start in enumerate(starts):
        omega, loss = levenberg_marquardt(network, start, z, target, iterations)
        fitted.append(np.asarray(omega))
        errors.append(float(np.sqrt(loss)))
        report((k + 1) / len(starts), f"best fit {min(errors):.3e}")
    return np.array(fitted), np.array(errors)


def nearest_equivalent(network, omega_star, omega):
    """The weights equivalent to ω* (units permuted, signs flipped) nearest to ω; two layers, otherwise ω* itself."""
    if len(network.hidden) != 1:
        return omega_star
    rows, wanted = (_units(network, w) for w in (omega_star, omega))
    parity = ACTIVATIONS[network.activation].parity
    flipped = rows * np.concatenate([[-1.0 if parity < 0 else 1.0], -np.ones(rows.shape[1] - 1)]) if parity else rows
    distance = [np.sum((wanted[:, None] - r[None]) ** 2, -1) for r in (rows, flipped)]
    slots, units = linear_sum_assignment(np.minimum(*distance))
    chosen = np.where((distance[0] <= distance[1])[slots, units, None], rows[units], flipped[units])
    return np.concatenate([chosen[:, 0], chosen[:, 1:].ravel()])


def _units(network, omega):
    """One row per hidden unit: its output weight, then its input weights."""
    output, hidden = (np.asarray(part) for part in network.unpack(omega))
    return np.column_stack([output, hidden])
