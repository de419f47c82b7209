"""Sums of Chebyshev products on a box: value, derivatives, basis matrices and collocation points.

T_k(s) = cos(k arccos s) on [−1, 1]. Derivatives come from T' = T D with D the matrix of the derivative in this basis (Trefethen 2013,
Approximation Theory and Approximation Practice). Beyond the box each T_k is continued by its second-order Taylor sum.
"""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.tree import record


@record(arrays=("coefficients", "index", "middle", "half"), static=("degree",))
@dataclass(frozen=True, eq=False)
class ChebyshevValue:
    """V(x) = Σ_k c_k Π_i T_{index[k,i]}(s_i), s = (x − middle)/half; `index` (K, n), `degree` its largest entry."""

    coefficients: Any
    index: Any
    middle: Any
    half: Any
    degree: int

    def at(self, x):
        """V (...) at x (..., n)."""
        return self.partial(x)

    def partial(self, x, *axes):
        """V differentiated along each of `axes` (at most twice along one), (...) at x (..., n)."""
        index, half, product = jnp.asarray(self.index), jnp.asarray(self.half), jnp.asarray(self.coefficients)
        s = (x - self.middle) / half
        for i in range(s.shape[-1]):
            order = axes.count(i)
            product = product * _continued(s[..., i], self.degree, order)[..., index[:, i]] / half[i] ** order
        return jnp.sum(product, -1)


def _continued(s, degree, order):
    """The derivative of that order of T_0 … T_degree at s (...), (..., degree+1), with the Taylor sum beyond [−1, 1]."""
    inside = jnp.clip(s, -1.0, 1.0)
    table, far, D = _inner(inside, degree), (s - inside)[..., None], derivative_matrix(degree)
    derivatives = [table, table @ D, table @ D @ D]
    return functools.reduce(jnp.add, (part * far**k / max(k, 1) for k, part in enumerate(derivatives[order:])))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _inner(s, degree):
    return jnp.cos(jnp.arange(degree + 1) * jnp.arccos(s)[..., None])


@_inner.defjvp
def _inner_jvp(degree, primals, tangents):
    table = _inner(primals[0], degree)
    return table, (table @ derivative_matrix(degree)) * tangents[0][..., None]


@functools.lru_cache(maxsize=64)
def derivative_matrix(degree) -> np.ndarray:
    """D (degree+1, degree+1): column k holds T'_k in the basis T_0, T_1, …"""
    D = np.zeros((degree + 1, degree + 1))
    for k in range(degree + 1):
        D[(k + 1) % 2 : k : 2, k] = 2 * k
    D[0] /= 2
    return D


def indices(n, degree, total) -> np.ndarray:
    """Degrees in each of n states (K, n) of the basis functions, the constant first; of at most `degree` each, or in `total`."""
    grid = np.stack(np.meshgrid(*[np.arange(degree + 1)] * n, indexing="ij"), -1).reshape(-1, n)
    return grid[grid.sum(1) <= degree] if total else grid


def tables(s, degree) -> np.ndarray:
    """T_k, T'_k, T''_k at s (P, n) in [−1, 1]: (3, n, P, degree+1)."""
    first, D = np.cos(np.arange(degree + 1) * np.arccos(s.T)[..., None]), derivative_matrix(degree)
    return np.stack([first, first @ D, first @ D @ D])


def products(table, index, *axes) -> np.ndarray:
    """The basis functions at the points of the tables, differentiated in s along `axes`, (P, K)."""
    return functools.reduce(np.multiply, (table[axes.count(i), i][:, index[:, i]] for i in range(index.shape[1])))


def nodes(index, total, ratio) -> np.ndarray:
    """At least `ratio` collocation points per basis function in [−1, 1]^n: a Chebyshev tensor grid, or a Kronecker sequence of the same
    density."""
    n = index.shape[1]
    if total and n > 1:
        step = np.max(np.real(np.roots([1, *[0] * (n - 1), -1, -1]))) ** -np.arange(1.0, n + 1)  # powers of a generalised golden ratio
        return np.cos(np.pi * np.mod(0.5 + step * np.arange(np.ceil(ratio * len(index)))[:, None], 1.0))
    side = int(np.ceil(ratio ** (1 / n) * (index.max() + 1)))
    axis = np.cos(np.pi * (np.arange(side) + 0.5) / side)
    return np.stack(np.meshgrid(*[axis] * n, indexing="ij"), -1).reshape(-1, n)


def judges(n, count):
    """`count` random points of [−1, 1]^n, the corners among them; the last third lies on its faces, whose outward normals (count // 3, n)
    come second."""
    rng, faces = np.random.default_rng(1), count // 3
    s, axis, side = rng.uniform(-1, 1, (count, n)), rng.integers(n, size=faces), rng.choice([-1.0, 1.0], faces)
    s[: 2**n] = np.stack(np.meshgrid(*[[-1.0, 1.0]] * n, indexing="ij"), -1).reshape(-1, n)
    s[np.arange(count - faces, count), axis] = side
    return s, side[:, None] * np.eye(n)[axis]
