"""(T5) Q̂^ω(z) = ω1ᵀ φ1(ω2ᵀ φ2(z)), and deeper: ω1ᵀ φ1(ω2ᵀ φ1(ω3ᵀ … φ2(z))). Layers are numbered from the output, as in the notes.

The weights are one vector vec(ω) = (ω1, vec ω2, …), matrices stacked column by column; column l of ω2 belongs to hidden unit l.
Matrices are therefore kept transposed, (N_C2, N_C1), so that row-major order is vec's order.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.critic.features import ACTIVATIONS, FEATURES, feature_map
from rlctrl.errors import nearest, require, require_number, require_room, require_whole, strict
from rlctrl.kinds import Counts
from rlctrl.tree import record, saved


@strict
@saved
@dataclass(frozen=True)
class Critic:
    """Architecture of a critic (T5): `hidden` units N_C2 (a tuple for several layers, from the output inwards; () for a shallow critic
    ω1ᵀφ2(z)), `activation` φ1 ("tanh", "softplus", "square", "identity", "sigmoid", "sin", "gauss", "relu"), `features` φ2 ("affine",
    "sincos", "polynomial" or "fourier" of `degree`, or a function z (..., n+m) → (..., N_C1) in jax.numpy), `scale`: standard deviation of
    the initial hidden pre-activations (of a shallow critic, the norm of its first weights). Raises `InputError` for unknown names or sizes.
    """

    hidden: Counts = 32
    activation: str = "tanh"
    features: Any = "sincos"
    degree: int = 2
    scale: float = 1.0

    def __post_init__(self):
        hidden = (self.hidden,) if np.ndim(self.hidden) == 0 else tuple(self.hidden)
        for units in hidden:
            require_whole("hidden", units, 1, "Use e.g. 32 units.")
        object.__setattr__(self, "hidden", tuple(int(h) for h in hidden))
        require_whole("degree", self.degree, 1, "Use 2.")
        require_number("scale", self.scale, "must be a positive number", "Use 1.", low=1e-300)
        object.__setattr__(self, "scale", float(self.scale))
        known = isinstance(self.activation, str) and self.activation in ACTIVATIONS
        require(known, "activation", f"must be one of {tuple(ACTIVATIONS)}", self.activation, nearest(self.activation, ACTIVATIONS))
        fits = callable(self.features) or (isinstance(self.features, str) and self.features in FEATURES)
        require(fits, "features", f"must be one of {FEATURES} or a function", self.features, nearest(self.features, FEATURES))

    def network(self, plant) -> "Network":
        """The architecture for a plant's states and inputs."""
        return Network(feature_map(self.features, self.degree, plant.states + plant.inputs), self.hidden, self.activation)


@record(arrays=("features",), static=("hidden", "activation"))
@dataclass(frozen=True, eq=False)
class Network:
    """T5 without its weights: every function takes vec(ω), shape (p,)."""

    features: Any
    hidden: tuple[int, ...]
    activation: str

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of ω1, ω2ᵀ, ω3ᵀ, …"""
        widths = (*self.hidden, self.features.size)
        return ((widths[0],), *itertools.pairwise(widths))

    @property
    def size(self) -> int:
        """p, the number of weights."""
        return sum(map(math.prod, self.shapes))

    def unpack(self, omega):
        """vec(ω) → [ω1, ω2ᵀ, …]."""
        ends = np.cumsum([int(np.prod(s)) for s in self.shapes])[:-1]
        return [part.reshape(s) for part, s in zip(jnp.split(omega, ends), self.shapes, strict=True)]

    def initial(self, key, scale):
        """Random weights: pre-activations of standard deviation about `scale`, ω1 of norm about 1 (`scale` for a shallow critic)."""
        require_room("hidden", self.size, self.hidden)
        first = 1.0 if self.hidden else scale
        keys = jax.random.split(key, len(self.shapes))
        parts = [
            jax.random.normal(k, s) / np.sqrt(s[-1]) * (scale if i else first)
            for i, (k, s) in enumerate(zip(keys, self.shapes, strict=True))
        ]
        return jnp.concatenate([part.ravel() for part in parts])

    def layers(self, omega, phi):
        """Forward and backward sweep for features phi (..., N_C1).

        Returns Q̂ (...), and for each layer from the output its input h (..., width) and the sensitivity δ (..., units) = ∂Q̂/∂s of the
        units it feeds: the gradient by ω1 is h_1, the gradient by ω_k is h_k δ_kᵀ. Everything the scheme needs is made of these (T9).
        """
        output, *hidden = self.unpack(omega)
        phi1 = ACTIVATIONS[self.activation]
        inputs, slopes = [phi], []
        for matrix in reversed(hidden):
            s = inputs[-1] @ matrix.T
            slopes.append(phi1.derivative(s))
            inputs.append(phi1.function(s))
        q = inputs[-1] @ output
        deltas = []
        back = jnp.broadcast_to(output, inputs[-1].shape)
        for matrix, slope in zip(hidden, reversed(slopes), strict=True):
            deltas.append(back * slope)
            back = deltas[-1] @ matrix
        return q, list(reversed(inputs)), deltas

    def value(self, omega, z):
        """Q̂^ω(z) (...) at z (..., n+m)."""
        output, *hidden = self.unpack(omega)
        h = self.features(z)
        for matrix in reversed(hidden):
            h = ACTIVATIONS[self.activation].function(h @ matrix.T)
        return h @ output

    def gradient(self, omega, z):
        """∇_{vec ω} Q̂^ω(z), (..., p), at z (..., n+m)."""
        return self.derivative(omega, self.features(z))

    def derivative(self, omega, phi):
        """The same at features phi (..., N_C1)."""
        _, inputs, deltas = self.layers(omega, phi)
        parts = [inputs[0], *(delta[..., :, None] * h[..., None, :] for h, delta in zip(inputs[1:], deltas, strict=True))]
        batch = phi.shape[:-1]
        return jnp.concatenate([part.reshape(*batch, -1) for part in parts], -1)


@record(arrays=("network", "omega"))
@dataclass(frozen=True, eq=False)
class CriticQ:
    """A network with weights, as a Q-function."""

    network: Network
    omega: Any

    def at(self, x, u):
        """Q̂^ω (...) at x (..., n), u (..., m); leading axes broadcast."""
        batch = jnp.broadcast_shapes(x.shape[:-1], u.shape[:-1])
        z = jnp.concatenate([jnp.broadcast_to(a, (*batch, a.shape[-1])) for a in (x, u)], -1)
        return self.network.value(self.omega, z)
