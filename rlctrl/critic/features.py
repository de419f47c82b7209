"""Feature maps φ2 of z = (x, u) and activations φ1 (T5). A constant is always among the features."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.errors import InputError, first_line, require, require_room
from rlctrl.plant import box
from rlctrl.traced import Traced
from rlctrl.tree import record

FEATURES = ("affine", "sincos", "polynomial", "fourier")


@record(arrays=("centre", "scale"), static=("periodic", "exponents"))
@dataclass(frozen=True, eq=False)
class Monomials:
    """φ2(z): coordinates (z − centre)/scale, turning ones as sine and cosine, then monomials with the given exponents (rows)."""

    centre: Any
    scale: Any
    periodic: tuple[bool, ...]
    exponents: tuple[tuple[int, ...], ...]

    @property
    def width(self) -> int:
        """Coordinates of z."""
        return len(self.centre)

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
        return jnp.stack([_monomial(columns, row, z.shape[:-1]) for row in self.exponents], -1)


def _monomial(columns, row, batch):
    factors = [columns[k] if power == 1 else columns[k] ** power for k, power in enumerate(row) if power]
    return jnp.prod(jnp.stack(factors, -1), -1) if len(factors) > 1 else factors[0] if factors else jnp.ones(batch)


@record(arrays=("centre", "scale", "straight", "turning"), static=("sines",))
@dataclass(frozen=True, eq=False)
class Fourier:
    """φ2(z): per row a product of half waves cos(π straight_k t_k) (Konidaris, Osentoski & Thomas 2011) and cos(π turning·t), then, for the
    rows `sines`, the same with sin(π turning·t); t = (z − centre)/scale."""

    centre: Any
    scale: Any
    straight: Any
    turning: Any
    sines: tuple[int, ...]

    @property
    def width(self) -> int:
        """Coordinates of z."""
        return len(self.centre)

    @property
    def size(self) -> int:
        """N_C1."""
        return len(self.straight) + len(self.sines)

    def __call__(self, z):
        """(..., n+m) → (..., N_C1)."""
        t = jnp.pi * (z - self.centre) / self.scale
        standing = jnp.prod(jnp.cos(t[..., None, :] * self.straight), -1)
        angle, rows = t @ jnp.asarray(self.turning).T, jnp.array(self.sines, int)
        return jnp.concatenate([standing * jnp.cos(angle), standing[..., rows] * jnp.sin(angle[..., rows])], -1)


@record(static=("traced", "size", "width"))
@dataclass(frozen=True, eq=False)
class UserFeatures:
    """A user's φ2: a function (..., n+m) → (..., N_C1) that JAX can trace. Files cannot hold it."""

    traced: Traced
    size: int
    width: int

    def __call__(self, z):
        """(..., n+m) → (..., N_C1)."""
        return self.traced.function(z)


def feature_map(name, degree, signals):
    """φ2 of the values of some signals: "affine" (1 and every coordinate normalised to its box), "sincos" (periodic ones as sine and
    cosine), "polynomial" (all monomials of the sincos coordinates up to `degree`), "fourier" (products of waves, each up to `degree`), or a
    function of z. Unbounded coordinates are not normalised."""
    if callable(name):
        return _user_features(name, len(signals))
    low, high = box(signals)
    bounded = np.isfinite(high - low)
    centre = np.where(bounded, 0.5 * (np.where(bounded, low, 0) + np.where(bounded, high, 0)), 0.0)
    scale = np.where(bounded, 0.5 * (np.where(bounded, high, 1) - np.where(bounded, low, -1)), 1.0)
    if name == "fourier":
        return _fourier(signals, centre, scale, degree)
    periodic = tuple(s.periodic and name != "affine" for s in signals)
    return Monomials(centre, scale, periodic, _exponents(len(signals) + sum(periodic), degree if name == "polynomial" else 1))


def _exponents(count, degree):
    """Exponents of all monomials of `count` coordinates up to a degree, lower degrees first."""
    _check_room(math.comb(count + degree, degree), count, degree)
    chosen = (c for total in range(degree + 1) for c in itertools.combinations_with_replacement(range(count), total))
    return tuple(tuple(c.count(k) for k in range(count)) for c in chosen)


def _check_room(features, coordinates, degree):
    """Raise `InputError` unless there is memory for so many rows of numbers, held as Python does."""
    require_room("degree", features * (coordinates + 8), degree)


def _fourier(signals, centre, scale, degree):
    ranges = [range(-degree, degree + 1) if s.periodic else range(degree + 1) for s in signals]
    turning = np.array([s.periodic for s in signals])
    _check_room(math.prod(map(len, ranges)), len(signals), degree)
    rows = np.array([r for r in itertools.product(*ranges) if _leading(np.array(r)[turning]) >= 0], float)
    sines = tuple(k for k, row in enumerate(rows) if np.any(row[turning] != 0))
    shift, width = np.where(turning, centre, centre - scale), np.where(turning, scale, 2 * scale)
    return Fourier(shift, width, np.where(turning, 0.0, rows), np.where(turning, rows, 0.0), sines)


def _leading(row):
    """First entry that is not zero: of two opposite waves one is enough."""
    return next((r for r in row if r), 0)


def _user_features(function, width):
    probes = [jax.ShapeDtypeStruct((*batch, width), jnp.float64) for batch in ((2,), (2, width + 1))]
    try:
        shapes = [jax.eval_shape(function, probe).shape for probe in probes]
    except Exception as error:
        raise InputError(
            f"`features` must be a function of z (..., {width}) that JAX can trace; it raised {type(error).__name__}: {first_line(error)}. "
            "Use jax.numpy and the last axis: z[..., 0]."
        ) from None
    size = (shapes[0] or (0,))[-1]
    fits = size > 0 and shapes == [(*probe.shape[:-1], size) for probe in probes]
    rule = f"must map (..., {width}) to (..., N_C1), N_C1 ≥ 1, here {' and '.join(str(probe.shape) for probe in probes)}"
    require(fits, "features", rule, tuple(shapes), "Stack features on the last axis, of coordinates z[..., 0].")
    return UserFeatures(Traced.of(function, probes[0])[0], size, width)


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
