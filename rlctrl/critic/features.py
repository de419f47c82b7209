"""Feature maps φ2 of z = (x, u) and activations φ1 (T5). A constant is always among the features."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.errors import nearest, require
from rlctrl.plant import box
from rlctrl.tree import record

FEATURES = ("affine", "sincos", "polynomial")


@record(arrays=("centre", "scale"), static=("periodic", "exponents"))
@dataclass(frozen=True, eq=False)
class FeatureMap:
    """φ2(z): coordinates (z − centre)/scale, turning ones as sine and cosine, then monomials with the given exponents (rows)."""

    centre: Any
    scale: Any
    periodic: tuple[bool, ...]
    exponents: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """N_C1."""
        return len(self.exponents)

    def __call__(self, z):
        """(..., n+m) → (..., N_C1)."""
        straight = (z - self.centre) / self.scale
        columns = []
        for k, turns in enumerate(self.periodic):
            angle = jnp.pi * straight[..., k]
            columns += [jnp.sin(angle), jnp.cos(angle)] if turns else [straight[..., k]]
        monomials = []
        for row in self.exponents:
            factors = [columns[k] if power == 1 else columns[k] ** power for k, power in enumerate(row) if power]
            monomials.append(
                jnp.prod(jnp.stack(factors, -1), -1) if len(factors) > 1 else factors[0] if factors else jnp.ones(z.shape[:-1])
            )
        return jnp.stack(monomials, -1)


def feature_map(name, degree, plant) -> FeatureMap:
    """The named map for a plant: "affine" (1 and every coordinate normalised to its box), "sincos" (periodic states as sine and cosine),
    "polynomial" (all monomials of the sincos coordinates up to `degree`). Unbounded coordinates are not normalised."""
    require(name in FEATURES, "features", f"must be one of {FEATURES}", name, nearest(name, FEATURES))
    signals = plant.states + plant.inputs
    low, high = box(signals)
    bounded = np.isfinite(high - low)
    centre = np.where(bounded, 0.5 * (np.where(bounded, low, 0) + np.where(bounded, high, 0)), 0.0)
    scale = np.where(bounded, 0.5 * (np.where(bounded, high, 1) - np.where(bounded, low, -1)), 1.0)
    periodic = tuple(s.periodic and name != "affine" for s in signals)
    count = len(signals) + sum(periodic)
    degree = degree if name == "polynomial" else 1
    rows = [r for r in itertools.product(range(degree + 1), repeat=count) if sum(r) <= degree]
    rows.sort(key=lambda r: (sum(r), tuple(-e for e in r)))
    return FeatureMap(centre, scale, periodic, tuple(rows))


@dataclass(frozen=True)
class Activation:
    """φ1 and its derivative; `parity` is −1 (odd), +1 (even) or 0: the sign changes of a unit that leave Q̂ unchanged (T12)."""

    function: Callable
    derivative: Callable
    parity: int


ACTIVATIONS = {
    "tanh": Activation(jnp.tanh, lambda s: 1 - jnp.tanh(s) ** 2, -1),
    "softplus": Activation(jax.nn.softplus, jax.nn.sigmoid, 0),
    "square": Activation(jnp.square, lambda s: 2 * s, 1),
    "identity": Activation(lambda s: s, jnp.ones_like, -1),
    "sigmoid": Activation(jax.nn.sigmoid, lambda s: jax.nn.sigmoid(s) * jax.nn.sigmoid(-s), 0),
    "sin": Activation(jnp.sin, jnp.cos, -1),
    "gauss": Activation(lambda s: jnp.exp(-s * s), lambda s: -2 * s * jnp.exp(-s * s), 1),
    "relu": Activation(jax.nn.relu, lambda s: jnp.where(s > 0, 1.0, 0.0), 0),
}
