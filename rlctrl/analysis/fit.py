"""ω*: the weights that represent Q* best, by Levenberg–Marquardt least squares from many starts at once; and which ω* is meant.

ω* is not unique (T12): permuting hidden units, and flipping signs where φ1 is odd or even, leaves Q̂ unchanged. `nearest_equivalent`
picks, by an assignment problem, the equivalent one nearest to given weights.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.analysis.transitions import values
from rlctrl.critic.features import ACTIVATIONS
from rlctrl.critic.least_squares import attempt, first_damping

BLOCK = 2**28  # bytes of derivatives at once: as many starts together as fit
LAWSON, ROUNDS = 24, 4  # reweightings of a sup-norm fit, and steps in each


@functools.partial(jax.jit, static_argnames="iterations")
def levenberg_marquardt(network, omega, z, target, iterations, weight=1.0):
    """Minimise the mean of weight·(Q̂^ω(z) − target)² from `omega`; returns ω and that mean."""
    phi = network.features(z)
    root = jnp.sqrt(weight)

    def residual(omega):
        return root * (network.layers(omega, phi)[0] - target)

    def model(omega):
        J, r = network.derivative(omega, phi) * (root[:, None] if jnp.ndim(root) else root), residual(omega)
        return J.T @ J, J.T @ r, r @ r

    def step(carry):
        k, omega, (H, slope, loss), damping, _ = carry
        tried = attempt(omega, H, slope, loss, lambda trial: jnp.sum(residual(trial) ** 2), damping)
        state = jax.lax.cond(tried.better, lambda: (tried.omega, model(tried.omega)), lambda: (omega, (H, slope, loss)))
        return k + 1, *state, tried.damping, jnp.where(tried.better, tried.gained / loss, 1.0)

    def unfinished(carry):
        k, _, (_, _, loss), damping, gain = carry
        return (k < iterations) & (gain > 1e-9) & (loss > 1e-28 * len(target)) & (damping.value < 1e12)

    start = (0, omega, model(omega), first_damping(), jnp.asarray(1.0))
    _, omega, (_, _, loss), *_ = jax.lax.while_loop(unfinished, step, start)
    return omega, loss / len(target)


_together = jax.jit(
    lambda network, starts, z, target, iterations: jax.vmap(lambda w: levenberg_marquardt(network, w, z, target, iterations))(starts),
    static_argnums=4,
)


@jax.jit
def with_fitted_output(network, omega, z, target):
    """ω with its output layer ω1 replaced by the (slightly damped) linear least-squares fit: a start at the scale of the target."""
    h = network.layers(omega, network.features(z))[1][0]
    width = h.shape[-1]
    output = jnp.linalg.solve(h.T @ h + 1e-4 * len(z) * jnp.eye(width), h.T @ target)
    return omega.at[:width].set(output)


def best_fit(network, starts, z, target, iterations, report=lambda fraction, text: None):
    """Least squares from every start (S, p), many at once; returns all fitted weights (S, p) and their root mean squares (S,)."""
    starts = jnp.stack(starts)
    group = int(np.clip(BLOCK // (8 * len(z) * network.size), 1, len(starts)))
    fitted, errors = [], []
    for first in range(0, len(starts), group):
        omegas, losses = _together(network, starts[first : first + group], z, target, iterations)
        fitted.append(np.asarray(omegas))
        errors.append(np.sqrt(np.asarray(losses)))
        report((first + len(omegas)) / len(starts), f"best fit {min(e.min() for e in errors):.3e}")
    return np.concatenate(fitted), np.concatenate(errors)


def sup_norm_fit(network, omega, z, target):
    """Weights of (nearly) least max |Q̂ − target|, from a least-squares fit `omega`: Lawson's reweighting, w ← w|e|, each followed by a few
    damped steps (Lawson 1961; Rice & Usow 1968). Returns the best found and its sup error."""
    error = lambda w: np.abs(np.asarray(values(network, w, z)) - target)
    best, least, weight = omega, float(error(omega).max()), np.ones(len(z))
    for _ in range(LAWSON):
        weight = weight * error(omega)
        weight = weight / weight.mean()
        omega, _ = levenberg_marquardt(network, omega, z, target, ROUNDS, jnp.asarray(weight))
        if (size := float(error(omega).max())) < least:
            best, least = np.asarray(omega), size
    return best, least


def nearest_equivalent(network, omega_star, omega):
    """The weights equivalent to ω* (units permuted, signs flipped) nearest to ω; two layers, otherwise ω* itself."""
    if len(network.hidden) != 1:
        return omega_star
    rows, wanted = (_units(network, w) for w in (omega_star, omega))
    parity = ACTIVATIONS[network.activation].parity
    flipped = rows * np.concatenate([[-1.0 if parity < 0 else 1.0], -np.ones(rows.shape[1] - 1)]) if parity else rows
    distance = [np.sum((wanted[:, None] - r[None]) ** 2, -1) for r in (rows, flipped)]
    from scipy.optimize import linear_sum_assignment  # slow to import, and not for importing rlctrl

    slots, units = linear_sum_assignment(np.minimum(*distance))
    chosen = np.where((distance[0] <= distance[1])[slots, units, None], rows[units], flipped[units])
    return np.concatenate([chosen[:, 0], chosen[:, 1:].ravel()])


def _units(network, omega):
    """One row per hidden unit: its output weight, then its input weights."""
    output, hidden = (np.asarray(part) for part in network.unpack(omega))
    return np.column_stack([output, hidden])
