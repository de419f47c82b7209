"""The TD error, its data vector and the replay objective (T6–T9, T13) on transitions given by features.

A transition starts at z and has K successors z_1 … z_K with shares ρ_k that sum to 1: one drawn as in the notes, two independent ones, or
the nodes of a quadrature over the noise. With r_k the discounted rewards on the way to z_k and γ_k = γ^n (0 where the problem ended; then
r_k carries the discounted exit value)
    e_k = Q̂(z) − r_k − γ_k Q̂(z_k),   e = Σ ρ_k e_k,   d = ∇_{vec ω} e.
Every gradient here is a combination Σ_k a_k ∇Q̂(z_k) over z_0 = z and the successors, so one sweep through the network serves all.

For n-step successors T11 and T12 hold as they stand with γ^n for γ: the one-step e* telescope,
    e*_n = Q*(z) − Σ_{i<n} γ^i r_i − γ^n Q*(z_n) = Σ_{i<n} γ^i e*(z_i, z_{i+1}),
and so do their two parts; e^ω = dᵀω̃ − e_Q(z) + γ^n e_Q(z_n) + e*_n + R.
"""

import functools
import itertools
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax.custom_batching import sequential_vmap

from rlctrl.critic.features import ACTIVATIONS


class Transitions(NamedTuple):
    """A batch, leading axis M: φ2 at z and its successors (M, 1+K, N_C1), r_k, γ_k, ρ_k (M, K), weight (M,) (0 for a slot not yet
    filled)."""

    phi: Any
    r: Any
    gamma: Any
    share: Any
    weight: Any


class Objective(NamedTuple):
    """Which gradient of which error: `semi` (successors held constant) or full; `double` (the product of two independent errors) or the
    square of their mean; `exponent` of the normaliser dᵀd + 1 (T13: 2)."""

    semi: bool = False
    double: bool = False
    exponent: int = 2


T13 = Objective()
FEW = 4  # successors: of more, d itself is cheaper than the products of all pairs, and compiles at once


def td_errors(network, omega, t: Transitions, target=None):
    """(T6) e_k for every successor, (M, K); `target`: other weights for Q̂(z_k)."""
    if target is not None:
        return network.layers(omega, t.phi[:, 0])[0][:, None] - held_target(network, target, t)
    q = network.layers(omega, t.phi)[0]
    return q[:, :1] - t.r - t.gamma * q[:, 1:]


def held_target(network, target, t: Transitions):
    """r_k + γ_k Q̂(z_k) at the weights `target`, (M, K)."""
    return t.r + t.gamma * network.layers(target, t.phi[:, 1:])[0]


def td_error(network, omega, t: Transitions, target=None):
    """(T6) e = Σ ρ_k e_k, (M,)."""
    return jnp.sum(t.share * td_errors(network, omega, t, target), -1)


def g(network, omega, t: Transitions):
    """(T7) g = φ1(ω2ᵀφ2(z)) − Σ ρ_k γ_k φ1(ω2ᵀφ2(z_k)), (M, N_C2); two layers."""
    _, w2 = network.unpack(omega)
    hidden = ACTIVATIONS[network.activation].function(t.phi @ w2.T)
    return jnp.einsum("mk,mkh->mh", mean_coefficients(t), hidden)


def G(network, omega, t: Transitions):
    """(T8) G: column l is ∇_{vec ω2} g_l, (M, N_C1·N_C2, N_C2); block l of column l is φ1'(s_l)φ2(z) − Σ ρ_k γ_k φ1'(s_l)φ2(z_k), the rest
    is 0."""
    _, w2 = network.unpack(omega)
    slope = ACTIVATIONS[network.activation].derivative(t.phi @ w2.T)
    blocks = jnp.einsum("mk,mkh,mkf->mhf", mean_coefficients(t), slope, t.phi)
    count, units, width = blocks.shape
    columns = jnp.zeros((count, units, width, units))
    unit = jnp.arange(units)
    return columns.at[:, unit, :, unit].set(jnp.moveaxis(blocks, 1, 0)).reshape(count, units * width, units)


def mean_coefficients(t: Transitions):
    """(1, −ρ_1γ_1, …): d is this combination of ∇Q̂ at z and its successors (M, 1+K)."""
    return jnp.concatenate([jnp.ones_like(t.r[:, :1]), -t.share * t.gamma], -1)


def data_coefficients(t: Transitions, objective: Objective):
    """Those of the vector in the normaliser: d, or ∇Q̂(z) alone for a semi-gradient."""
    a = mean_coefficients(t)
    return a * (jnp.arange(a.shape[-1]) == 0) if objective.semi else a


def data_vector(network, omega, t: Transitions, objective: Objective = T13):
    """(T9) d = ∇_{vec ω} e, (M, p), for two layers (g; G ω1); the semi-gradient's v = ∇Q̂(z) if asked for."""
    if objective.semi:
        return network.derivative(omega, t.phi[:, 0])
    _, inputs, deltas = network.layers(omega, t.phi)
    a = mean_coefficients(t)
    parts = [jnp.einsum("mk,mkf->mf", a, inputs[0])]
    for h, delta in zip(inputs[1:], deltas, strict=True):
        parts.append(jnp.einsum("mku,mkf->muf", a[..., None] * delta, h).reshape(len(t.r), -1))
    return jnp.concatenate(parts, -1)


def normaliser(v, t: Transitions, objective: Objective):
    """weight/(vᵀv + 1)^exponent of every transition (M,), v (M, p) its data vector."""
    return t.weight / (jnp.sum(v**2, -1) + 1) ** objective.exponent


def replay_gradient(network, omega, t: Transitions, objective: Objective = T13, target=None):
    """(T13) ∇J_c = Σ d e/(dᵀd + 1)² with the normaliser held constant, (p,), and the TD errors (M,).

    For FEW successors d itself is never formed: dᵀd and Σ s_j d_j come from each layer's inputs h and sensitivities δ, since the part of
    ∇Q̂(z_k) in a layer is h_k δ_kᵀ. Under vmap, runs take turns: the arrays of one stay in the cache.
    """
    by = _replay_gradient if t.r.shape[-1] <= FEW else _by_data_vectors
    return sequential_vmap(functools.partial(by, network, objective))(omega, t, target)


def _by_data_vectors(network, objective, omega, t, target):
    e, v = td_error(network, omega, t, target), data_vector(network, omega, t, objective)
    return (normaliser(v, t, objective) * e) @ v, e


def _replay_gradient(network, objective, omega, t, target):
    sweeps = [network.layers(omega, t.phi[:, k]) for k in range(t.phi.shape[1])]
    values = sweeps[1:] if target is None else [network.layers(target, t.phi[:, k]) for k in range(1, t.phi.shape[1])]
    errors = sweeps[0][0][:, None] - t.r - t.gamma * jnp.stack([q for q, *_ in values], -1)
    a, used = data_coefficients(t, objective), sweeps[:1] if objective.semi else sweeps
    first = _total(a[:, k, None] * inputs[0] for k, (_, inputs, _) in enumerate(used))  # g (T7), of the data vector
    mass = t.weight / (_square(a, first, used) + 1) ** objective.exponent
    e = jnp.sum(t.share * errors, -1)
    s = mass[:, None] * _pull(errors, e, a, t, objective)
    parts = [_total(s[:, k] @ inputs[0] for k, (_, inputs, _) in enumerate(used)) if objective.double else (mass * e) @ first]
    for layer in range(len(network.hidden)):
        sums = _total((s[:, k, None] * inputs[1 + layer]).T @ deltas[layer] for k, (_, inputs, deltas) in enumerate(used))
        parts.append(sums.T.ravel())
    return jnp.concatenate(parts), e


def _total(parts):
    """Their sum, without starting from 0."""
    return functools.reduce(jnp.add, parts)


def _pull(errors, e, a, t, objective):
    """Coefficients (M, 1+K) of ∇Q̂ at z and its successors in e·d, or in ½(e_1 d_2 + e_2 d_1)."""
    if not objective.double:
        return e[:, None] * a
    middle = 0.5 * jnp.sum(errors, -1, keepdims=True)
    both = jnp.concatenate([middle, -0.5 * t.gamma * errors[:, ::-1]], -1)
    return both * (jnp.arange(3) == 0) if objective.semi else both


def _square(a, first, sweeps):
    """|Σ_k a_k ∇Q̂(z_k)|² (M,), layer by layer, from its part `first` by ω1 and the sweeps at z and its successors."""
    dot = lambda x, y: jnp.sum(x * y, -1)
    total = dot(first, first)
    for (k, one), (i, other) in itertools.combinations_with_replacement(enumerate(sweeps), 2):
        share = (1 if i == k else 2) * a[:, k] * a[:, i]
        for h, delta, h_i, delta_i in zip(one[1][1:], one[2], other[1][1:], other[2], strict=True):
            total = total + share * dot(delta, delta_i) * dot(h, h_i)
    return total
