"""The TD error, its data vector and the replay objective (T6–T9, T13) on transitions given by features.

A transition holds φ2(z), φ2(z_+), the reward r, and γ_+: γ while the problem goes on, 0 where it ended (then r carries γ·exit value).
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

from rlctrl.critic.features import ACTIVATIONS


class Transitions(NamedTuple):
    """A batch of transitions, leading axis M: φ2(z), φ2(z_+) (M, N_C1), r, γ_+, weight (M,) (0 for a slot not yet filled)."""

    phi: Any
    phi_next: Any
    r: Any
    gamma: Any
    weight: Any


def td_error(network, omega, t: Transitions):
    """(T6) e = Q̂(z) − r − γ_+ Q̂(z_+), (M,)."""
    return network.layers(omega, t.phi)[0] - t.r - t.gamma * network.layers(omega, t.phi_next)[0]


def g(network, omega, t: Transitions):
    """(T7) g = φ1(ω2ᵀφ2(z)) − γ_+ φ1(ω2ᵀφ2(z_+)), (M, N_C2); two layers."""
    _, w2 = network.unpack(omega)
    phi1 = ACTIVATIONS[network.activation].function
    return phi1(t.phi @ w2.T) - t.gamma[:, None] * phi1(t.phi_next @ w2.T)


def G(network, omega, t: Transitions):
    """(T8) G: column l is ∇_{vec ω2} g_l, (M, N_C1·N_C2, N_C2); block l of column l is φ1'(s_l)φ2(z) − γ_+ φ1'(s_l')φ2(z_+), the rest is
    0."""
    _, w2 = network.unpack(omega)
    slope = ACTIVATIONS[network.activation].derivative
    now, then = slope(t.phi @ w2.T), slope(t.phi_next @ w2.T)
    blocks = now[..., None] * t.phi[:, None, :] - (t.gamma[:, None] * then)[..., None] * t.phi_next[:, None, :]
    count, units, width = blocks.shape
    columns = jnp.zeros((count, units, width, units))
    unit = jnp.arange(units)
    return columns.at[:, unit, :, unit].set(jnp.moveaxis(blocks, 1, 0)).reshape(count, units * width, units)


def data_vector(network, omega, t: Transitions):
    """(T9) d = ∇_{vec ω} e, (M, p); for two layers it is (g; G ω1)."""
    parts = []
    now, then = network.layers(omega, t.phi), network.layers(omega, t.phi_next)
    parts.append(now[1][0] - t.gamma[:, None] * then[1][0])
    for h, delta, h_next, delta_next in zip(now[1][1:], now[2], then[1][1:], then[2], strict=True):
        outer = delta[:, :, None] * h[:, None, :] - t.gamma[:, None, None] * delta_next[:, :, None] * h_next[:, None, :]
        parts.append(outer.reshape(len(t.r), -1))
    return jnp.concatenate(parts, -1)


def replay_gradient(network, omega, t: Transitions):
    """(T13) ∇J_c = Σ d e/(dᵀd + 1)² with the normaliser held constant, (p,), and the TD errors (M,).

    d itself is never formed: dᵀd and Σ s_j d_j come from each layer's inputs h and sensitivities δ, since the part of d in a layer is
    h δᵀ − γ_+ h_+ δ_+ᵀ.
    """
    q, inputs, deltas = network.layers(omega, t.phi)
    q_next, inputs_next, deltas_next = network.layers(omega, t.phi_next)
    e = q - t.r - t.gamma * q_next
    first = inputs[0] - t.gamma[:, None] * inputs_next[0]
    square = jnp.sum(first**2, -1)
    for h, delta, h_next, delta_next in zip(inputs[1:], deltas, inputs_next[1:], deltas_next, strict=True):
        cross = jnp.sum(delta * delta_next, -1) * jnp.sum(h * h_next, -1)
        then = jnp.sum(delta_next**2, -1) * jnp.sum(h_next**2, -1)
        square = square + jnp.sum(delta**2, -1) * jnp.sum(h**2, -1) - 2 * t.gamma * cross + t.gamma**2 * then
    s = t.weight * e / (square + 1) ** 2
    back = -t.gamma * s
    parts = [s @ first]
    for h, delta, h_next, delta_next in zip(inputs[1:], deltas, inputs_next[1:], deltas_next, strict=True):
        parts.append(((s[:, None] * delta).T @ h + (back[:, None] * delta_next).T @ h_next).ravel())
    return jnp.concatenate(parts), e
