"""Laws of the noise w that drives a plant: sample, log-density, quadrature.

Every law states its `mean` and `covariance`, so that linear-quadratic formulas need no quadrature. Quadrature rules: Gauss–Hermite for
the normal law, Gauss–Legendre for the uniform one, Gauss–Laguerre for the exponential one (Golub & Welsch 1969), as tensor products.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.errors import require, require_numbers, strict
from rlctrl.kinds import Kind, Numbers, is_whole
from rlctrl.tree import record

ORDER, NODES = 180, 1e7  # most nodes of a quadrature per channel (beyond, weights underflow) and in all
Key = Annotated[Any, Kind("a key made by jax.random.key", lambda key: getattr(key, "dtype", None) in (jax.random.key(0).dtype, jnp.uint32))]


@functools.cache
def _gauss(family, order):
    """Nodes (order,) and masses of a Gauss rule: a function of `numpy.polynomial`."""
    nodes, weights = family(order)
    return nodes, weights / weights.sum()


def _tensor(rule, q):
    """Tensor product of a one-dimensional rule (nodes, masses): nodes (k^q, q), masses (k^q,)."""
    nodes, weights = rule
    points = np.array(list(itertools.product(nodes, repeat=q))).reshape(len(nodes) ** q, q)
    mass = np.array([np.prod(w) for w in itertools.product(weights, repeat=q)])
    return points, mass / mass.sum()


def _channels(w, q):
    """w (..., q) in JAX, or `InputError`."""
    w = w if isinstance(w, jax.Array) else jnp.asarray(require_numbers("w", w))
    require(w.ndim > 0 and w.shape[-1] == q, "w", f"must have last axis {q}", w.shape, "One column per channel.")
    return w


def _check_order(order, q):
    whole = is_whole(order) and 1 <= order <= ORDER
    require(whole, "order", f"of a quadrature must be a whole number from 1 to {ORDER}", order, "Use e.g. 5 nodes per channel.")
    rule = f"of a quadrature over {q} channels may make at most {NODES:.0e} nodes"
    require(q * math.log(order) <= math.log(NODES), "order", rule, order, "Use fewer nodes per channel.")


def _check_size(q):
    require(is_whole(q) and q >= 0, "q", "must be a whole number ≥ 0", q, "Use the number of noise channels.")


@strict
@record(static=("q",))
@dataclass(frozen=True)
class Gaussian:
    """Standard normal law on R^q: zero mean, identity covariance. `q` is the number of noise channels."""

    q: int

    @property
    def symmetric(self) -> bool:
        """Whether 2·mean − w has the same law as w."""
        return True

    def __post_init__(self):
        _check_size(self.q)

    @property
    def mean(self):
        """Zero, (q,)."""
        return np.zeros(self.q)

    @property
    def covariance(self):
        """The identity, (q, q)."""
        return np.eye(self.q)

    @strict
    def sample(self, key: Key, shape: Sequence[int] = ()):
        """Draws of shape (*shape, q) from a JAX random key."""
        return jax.random.normal(key, (*shape, self.q))

    @strict
    def logpdf(self, w: Numbers):
        """Log-density at w (..., q)."""
        w = _channels(w, self.q)
        return -0.5 * jnp.sum(jnp.square(w), -1) - 0.5 * self.q * jnp.log(2 * jnp.pi)

    @strict
    def quadrature(self, order):
        """Gauss–Hermite nodes (order^q, q) and weights, exact for polynomials of degree 2·order−1 in each channel."""
        _check_order(order, self.q)
        return _tensor(_gauss(np.polynomial.hermite_e.hermegauss, order), self.q)


@strict
@record(static=("q",))
@dataclass(frozen=True)
class Uniform:
    """Uniform law on [-1, 1]^q."""

    q: int

    @property
    def symmetric(self) -> bool:
        """Whether 2·mean − w has the same law as w."""
        return True

    def __post_init__(self):
        _check_size(self.q)

    @property
    def mean(self):
        """Zero, (q,)."""
        return np.zeros(self.q)

    @property
    def covariance(self):
        """A third of the identity, (q, q)."""
        return np.eye(self.q) / 3

    @strict
    def sample(self, key: Key, shape: Sequence[int] = ()):
        """Draws of shape (*shape, q) from a JAX random key."""
        return jax.random.uniform(key, (*shape, self.q), minval=-1.0, maxval=1.0)

    @strict
    def logpdf(self, w: Numbers):
        """Log-density at w (..., q): −q·log 2 inside the cube, −∞ outside."""
        inside = jnp.all(jnp.abs(_channels(w, self.q)) <= 1, -1)
        return jnp.where(inside, -self.q * jnp.log(2.0), -jnp.inf)

    @strict
    def quadrature(self, order):
        """Gauss–Legendre nodes (order^q, q) and weights."""
        _check_order(order, self.q)
        return _tensor(_gauss(np.polynomial.legendre.leggauss, order), self.q)


@strict
@record(static=("q",))
@dataclass(frozen=True)
class Exponential:
    """Independent exponential channels on [0, ∞)^q: mean 1, covariance the identity. Scale them in the plant."""

    q: int

    @property
    def symmetric(self) -> bool:
        """Whether 2·mean − w has the same law as w."""
        return False

    def __post_init__(self):
        _check_size(self.q)

    @property
    def mean(self):
        """Ones, (q,)."""
        return np.ones(self.q)

    @property
    def covariance(self):
        """The identity, (q, q)."""
        return np.eye(self.q)

    @strict
    def sample(self, key: Key, shape: Sequence[int] = ()):
        """Draws of shape (*shape, q) from a JAX random key."""
        return jax.random.exponential(key, (*shape, self.q))

    @strict
    def logpdf(self, w: Numbers):
        """Log-density at w (..., q): −Σw where w ≥ 0, −∞ elsewhere."""
        w = _channels(w, self.q)
        return jnp.where(jnp.all(w >= 0, -1), -jnp.sum(w, -1), -jnp.inf)

    @strict
    def quadrature(self, order):
        """Gauss–Laguerre nodes (order^q, q) and weights."""
        _check_order(order, self.q)
        return _tensor(_gauss(np.polynomial.laguerre.laggauss, order), self.q)


@strict
@record(arrays=("nodes", "probabilities"))
@dataclass(frozen=True, eq=False)
class Finite:
    """Finitely many values: `nodes` (k, q), `probabilities` (k,) that sum to one. Quadrature is exact."""

    nodes: Numbers
    probabilities: Numbers

    def __post_init__(self):
        nodes, mass = require_numbers("nodes", self.nodes), require_numbers("probabilities", self.probabilities)
        nodes = nodes[:, None] if nodes.ndim == 1 else nodes
        require(nodes.ndim == 2 and len(nodes) > 0, "nodes", "must have shape (k, q)", nodes.shape, "List one row per value of w.")
        require(bool(np.all(np.isfinite(nodes))), "nodes", "must be finite", nodes.tolist(), "Leave such values out.")
        require(mass.shape == nodes.shape[:1], "probabilities", f"must have shape ({len(nodes)},)", mass.shape, "Give one per node.")
        good = np.all(mass >= 0) and abs(mass.sum() - 1) <= 1e-9
        require(good, "probabilities", "must be ≥ 0 and sum to 1", mass, "Divide them by their sum.")
        object.__setattr__(self, "nodes", nodes)
        object.__setattr__(self, "probabilities", mass / mass.sum())

    @property
    def q(self):
        """Number of noise channels."""
        return self.nodes.shape[1]

    @property
    def symmetric(self) -> bool:
        """Whether 2·mean − w has the same law as w."""
        table = np.column_stack([self.nodes - self.mean, self.probabilities])
        mirrored = table * np.append(-np.ones(self.q), 1)
        order = lambda rows: rows[np.lexsort(np.round(rows, 9).T)]
        return bool(np.allclose(order(table), order(mirrored), rtol=0, atol=1e-9))

    @property
    def mean(self):
        """E w, (q,)."""
        return self.probabilities @ self.nodes

    @property
    def covariance(self):
        """E (w − mean)(w − mean)ᵀ, (q, q)."""
        centred = self.nodes - self.mean
        return (self.probabilities[:, None] * centred).T @ centred

    @strict
    def sample(self, key: Key, shape: Sequence[int] = ()):
        """Draws of shape (*shape, q) from a JAX random key."""
        index = jax.random.choice(key, len(self.probabilities), tuple(shape), p=jnp.asarray(self.probabilities))
        return jnp.asarray(self.nodes)[index]

    @strict
    def logpdf(self, w: Numbers):
        """Log-probability of w (..., q): −∞ where w is none of the nodes."""
        hit = jnp.all(jnp.abs(_channels(w, self.q)[..., None, :] - self.nodes) <= 1e-9, -1)
        return jnp.log(jnp.sum(hit * self.probabilities, -1))

    @strict
    def quadrature(self, order):
        """The nodes and probabilities themselves."""
        _check_order(order, 0)
        return self.nodes, self.probabilities
