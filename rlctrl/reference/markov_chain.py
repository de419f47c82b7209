"""Finite differences of the HJB operator (T4) as a controlled Markov chain on a grid (Kushner & Dupuis 2001, ch. 5), and second-order twins.

    b·∇V + ½ tr(a∇²V) ≈ Σ_j c_j(x,u)·(O_j V)(x),  c_j ≥ 0 for the monotone terms; the matrices O_j do not depend on u.

Terms: b_k⁺ and b_k⁻ times one-sided differences along the drift; then, with noise, the monotone cross stencil (second differences of the
axes, diagonal neighbours by the sign of a_kl); then the same diffusion by central differences, which needs no diagonal dominance but is
not monotone. `low` is the monotone choice (first order), `high` the second-order one (three nodes along the drift). Exit rules at the
walls: "clip" no flux out; "absorb" an exit at `EXIT_RATE` times the rate of one cell; "free" one-sided differences pointing inwards, that is
linear (high: quadratic) extrapolation; "stop" no motion across.
"""

import itertools
from dataclasses import dataclass
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from rlctrl.generator import Generator
from rlctrl.maximise import InputSet, maximise
from rlctrl.tree import record

EXIT_RATE = 1e7  # per crossing time of a cell: V there is the exit value to about seven digits


def coefficients(generator, steps, noisy, x, u):
    """c_j(x, u), (..., J): drift up and down per axis, and with noise the monotone and the full diffusion."""
    b = generator.drift(x, u)
    parts = [jnp.maximum(b, 0), jnp.maximum(-b, 0)]
    if noisy:
        a = generator.covariance(x, u)
        kept = kept_correlation(a, steps)
        axis = jnp.diagonal(a, axis1=-2, axis2=-1) / 2
        taken = jnp.sum(jnp.abs(kept) / steps, -1) * steps / 2
        cross = [kept[..., k, i] for k, i in _pairs(len(steps))]
        full = [a[..., k, i] for k, i in _pairs(len(steps))]
        parts += [jnp.maximum(axis - taken, 0), *(jnp.maximum(s * c, 0)[..., None] for c in cross for s in (1, -1)), axis]
        parts += [c[..., None] for c in full]
    return jnp.concatenate(parts, -1)


def kept_correlation(a, steps):
    """Off-diagonal part of a, reduced where a (in cells) is not diagonally dominant: the nearest that the cross stencil can carry."""
    n = len(steps)
    scaled = a / (steps[:, None] * steps)
    off = jnp.where(jnp.eye(n, dtype=bool), 0.0, scaled)
    diagonal, load = jnp.diagonal(scaled, axis1=-2, axis2=-1), jnp.sum(jnp.abs(off), -1)
    share = jnp.where(load > diagonal, diagonal / jnp.where(load > 0, load, 1.0), 1.0)
    return off * jnp.minimum(share[..., :, None], share[..., None, :]) * (steps[:, None] * steps)


def _pairs(n):
    return list(itertools.combinations(range(n), 2))


@record(arrays=("generator", "steps", "inputs"), static=("noisy", "affine"))
@dataclass(frozen=True, eq=False)
class Hamiltonian:
    """H_u − (−ρV) at a node as a function of the differences g = (O_j V)(x)."""

    generator: Generator
    steps: Any
    inputs: InputSet
    noisy: bool
    affine: bool

    def at(self, x, u, g):
        """ℓ(x,u) + Σ_j c_j(x,u) g_j."""
        return self.generator.reward_rate(x, u) + jnp.sum(coefficients(self.generator, self.steps, self.noisy, x, u) * g, -1)

    def starts(self, x, old, g):
        """Where the search for the maximum begins: the old input and the candidates, or the vertices of the pieces of H."""
        if not self.affine:
            candidates = jnp.asarray(self.inputs.candidates)
            return jnp.concatenate([jnp.broadcast_to(candidates, (len(x), *candidates.shape)), old[:, None]], 1)
        return jnp.concatenate([jnp.clip(self._vertices(x, g), self.inputs.low, self.inputs.high), old[:, None]], 1)

    def _vertices(self, x, g):
        """Control-affine drift, quadratic reward rate: H is a concave quadratic on each set of signs of the drift; one input: also b_k = 0."""
        n, middle = x.shape[-1], 0.5 * (self.inputs.low + self.inputs.high)
        b, gain, slope, bend = jax.vmap(lambda y: self._derivatives(y, middle))(x)
        signs = np.array(list(itertools.product((True, False), repeat=n)))
        p = jnp.where(signs, g[:, None, :n], -g[:, None, n : 2 * n])
        rise = slope[:, None] + jnp.einsum("cpn,cnm->cpm", p, gain)
        if gain.shape[-1] > 1:
            return middle - jnp.linalg.solve(bend[:, None], rise[..., None])[..., 0]
        moves = gain != 0
        still = jnp.where(moves, middle - b[..., None] / jnp.where(moves, gain, 1.0), middle)
        return jnp.concatenate([middle - rise / bend, still], 1)

    def _derivatives(self, x, u):
        def rate(v):
            return self.generator.reward_rate(x, v)

        def drift(v):
            return self.generator.drift(x, v)

        return drift(u), jax.jacfwd(drift)(u), jax.grad(rate)(u), jax.hessian(rate)(u)

    @jax.jit
    def is_affine(self, x, u, other):
        """Whether, at pairs of inputs, drift is affine, covariance constant, and the reward rate quadratic and strictly concave."""
        middle, drift, a = 0.5 * (u + other), self.generator.drift, self.generator.covariance
        bends = [jax.vmap(lambda y, w: self._derivatives(y, w)[3])(x, v) for v in (u, other)]
        gaps = [drift(x, u) + drift(x, other) - 2 * drift(x, middle), a(x, u) - a(x, other), bends[0] - bends[1]]
        scales = [drift(x, u), a(x, u), bends[0]]
        same = [jnp.all(jnp.abs(gap) <= 1e-9 * (1e-300 + jnp.max(jnp.abs(s), initial=0))) for gap, s in zip(gaps, scales, strict=True)]
        top = jnp.linalg.eigvalsh(bends[0])[:, -1]
        return jnp.all(jnp.stack(same)) & jnp.all(top < -1e-9 * jnp.max(jnp.abs(bends[0])))


@jax.jit
def best_input(hamiltonian, x, old, g):
    """argmax and max over the inputs at nodes x, from the `old` inputs and the differences g."""
    starts, exact = hamiltonian.starts(x, old, g), hamiltonian.affine and old.shape[-1] == 1

    def at(u):
        return hamiltonian.at(x[:, None], u, g[:, None])

    if not exact:
        return maximise(at, hamiltonian.inputs, starts)
    values = at(starts)
    best = jnp.argmax(values, -1)[:, None]
    return jnp.take_along_axis(starts, best[..., None], 1)[:, 0], jnp.take_along_axis(values, best, 1)[:, 0]


@jax.jit
def parts(hamiltonian, x, u):
    """Coefficients c, reward rate ℓ, and whether the cross stencil carries all of the correlation."""
    generator, steps = hamiltonian.generator, hamiltonian.steps
    c = coefficients(generator, steps, hamiltonian.noisy, x, u)
    whole = jnp.ones(len(x), bool)
    if hamiltonian.noisy:
        a = generator.covariance(x, u)
        lost = jnp.abs(a * ~jnp.eye(len(steps), dtype=bool) - kept_correlation(a, steps))
        whole = jnp.all(lost <= 1e-9 * jnp.max(jnp.abs(a), (-2, -1), keepdims=True), (-2, -1))
    return c, generator.reward_rate(x, u), whole


def in_chunks(function, size, *arrays):
    """Apply a compiled function to rows in blocks of one size (the last one filled up), so that it compiles once."""
    count, found = len(arrays[0]), []
    for first in range(0, count, size):
        block = [a[first : first + size] for a in arrays]
        missing = size - len(block[0])
        filled = [np.concatenate([b, np.repeat(b[-1:], missing, 0)]) for b in block] if missing else block
        found.append([np.asarray(v)[: size - missing] for v in function(*filled)])
    return [np.concatenate(column) for column in zip(*found, strict=True)]


@dataclass(frozen=True)
class Differences:
    """All O_j as one list of entries (row, column, term), each with a low and a high value; the `exit` factors (S, J) multiply the exit value."""

    rows: Any
    columns: Any
    terms: Any
    low: Any
    high: Any
    low_exit: Any
    high_exit: Any

    def blended(self, share) -> "Blend":
        """O_j with the share (S,) of the high order at each node."""
        values = self.low * (1 - share[self.rows]) + self.high * share[self.rows]
        used = values != 0
        out = self.low_exit * (1 - share[:, None]) + self.high_exit * share[:, None]
        return Blend(self.rows[used], self.columns[used], self.terms[used], values[used], out)


@dataclass(frozen=True)
class Blend:
    """Entries of the operators in use, and the factors (S, J) of the exit value."""

    rows: Any
    columns: Any
    terms: Any
    values: Any
    out: Any

    def apply(self, v, exit_value):
        """(O_j v)(x_i), (S, J)."""
        shape = self.out.shape
        flat = np.bincount(self.rows * shape[1] + self.terms, self.values * v[self.columns], shape[0] * shape[1])
        return flat.reshape(shape) + self.out * exit_value[:, None]

    def matrix(self, c):
        """Σ_j diag(c_j) O_j as a sparse matrix."""
        values = self.values * c[self.rows, self.terms]
        used = values != 0
        size = len(self.out)
        return sparse.csr_matrix((values[used], (self.rows[used], self.columns[used])), (size, size))


def differences(grid, exit_rule, noisy) -> Differences:
    """The operators of a uniform grid, in the order of `coefficients`."""
    axes = [_Axis.make(a.size, float(a.widths[0]), a.period is not None, exit_rule) for a in grid.axes]
    pairs, turns = _pairs(len(axes)), (1, -1)
    low = [_along(axes, k, a.up[::t, ::t], a.up_exit[::t]) for t in turns for k, a in enumerate(axes)]
    high = [_along(axes, k, a.up_high[::t, ::t], a.up_exit[::t]) for t in turns for k, a in enumerate(axes)]
    if noisy:
        second = [_along(axes, k, a.second, a.second_exit) for k, a in enumerate(axes)]
        sides = [_diagonal(axes, k, i, t, exit_rule) for k, i in pairs for t in turns]
        full = [_along(axes, k, a.second_high, a.second_exit) for k, a in enumerate(axes)]
        cross = [(_lift(axes, {k: axes[k].central, i: axes[i].central}), 0.0) for k, i in pairs]
        unused = (sparse.csr_matrix(low[0][0].shape), 0.0)
        low += second + sides + [unused] * len(full + cross)
        high += [unused] * len(second + sides) + full + cross
    return _collect(low, high)


@dataclass(frozen=True)
class _Axis:
    """Matrices of one axis: forward difference, second and (for mixed derivatives) central difference, shift; `exit` factors per node."""

    up: Any
    up_high: Any
    up_exit: Any
    second: Any
    second_high: Any
    second_exit: Any
    central: Any
    shift: Any
    step: float

    @classmethod
    def make(cls, size, h, turns, exit_rule):
        """Periodic matrices; on an axis that does not turn the rows at the walls are then overwritten."""
        one = np.eye(size)
        ahead, twice = np.roll(one, 1, 1), np.roll(one, 2, 1)
        up, up_high = (ahead - one) / h, (4 * ahead - 3 * one - twice) / (2 * h)
        second, central = (ahead - 2 * one + ahead.T) / h**2, (ahead - ahead.T) / (2 * h)
        up_exit, second_exit, second_high = np.zeros(size), np.zeros(size), second.copy()
        if turns:
            return cls(up, up_high, up_exit, second, second_high, second_exit, central, ahead, h)
        up_high[-2] = central[-2]
        up[-1] = up_high[-1] = ahead[-1] = second[-1] = second[0] = central[-1] = central[0] = 0.0
        if exit_rule == "clip":
            ahead[-1, -2] = 1.0
            second[-1, -2:], second[0, :2] = np.array([2.0, -2.0]) / h**2, np.array([-2.0, 2.0]) / h**2
        elif exit_rule == "absorb":
            up_exit[-1], second_exit[[0, -1]] = EXIT_RATE / h, EXIT_RATE / h**2
            up[-1, -1] = up_high[-1, -1] = -EXIT_RATE / h
            second[[0, -1], [0, -1]] = -EXIT_RATE / h**2
        elif exit_rule == "free":
            up[-1, -2:] = np.array([-1.0, 1.0]) / h
            up_high[-1, -3:] = central[-1, -3:] = np.array([1.0, -4.0, 3.0]) / (2 * h)
            central[0, :3] = np.array([-3.0, 4.0, -1.0]) / (2 * h)
        second_high[[0, -1]] = second_high[[1, -2]] if exit_rule == "free" else second[[0, -1]]
        return cls(up, up_high, up_exit, second, second_high, second_exit, central, ahead, h)


def _along(axes, k, matrix, out):
    """An operator of one axis on the whole grid, with its exit factors."""
    shape = [1] * len(axes)
    shape[k] = -1
    return _lift(axes, {k: matrix}), np.broadcast_to(out.reshape(shape), [len(a.up) for a in axes]).ravel()


def _lift(axes, matrices):
    """Kronecker product with identities on the other axes."""
    parts = [sparse.csr_matrix(matrices.get(k, np.eye(len(a.up)))) for k, a in enumerate(axes)]
    return sparse.csr_matrix(reduce(sparse.kron, parts))


def _diagonal(axes, k, i, sign, exit_rule):
    """(V(++) + V(−−) − 2V)/2 per area, or with `sign` −1 the other diagonal. Walls: "free" nothing, "absorb" exits."""
    ahead, beside = axes[k].shift, axes[i].shift[::sign, ::sign]
    both = _lift(axes, {k: ahead, i: beside}) + _lift(axes, {k: ahead[::-1, ::-1], i: beside[::-1, ::-1]})
    missing = 2.0 - np.asarray(both.sum(1)).ravel()
    scale = np.where(missing > 0, EXIT_RATE if exit_rule == "absorb" else 0.0, 1.0) / (2 * axes[k].step * axes[i].step)
    return sparse.diags(scale) @ (both - 2 * sparse.identity(both.shape[0])), scale * missing


def _collect(low, high):
    """One list of entries out of pairs (matrix, exit factors)."""
    size, count = low[0][0].shape[0], len(low)
    found = []
    for order, operators in enumerate((low, high)):
        for term, (matrix, _) in enumerate(operators):
            entries = sparse.coo_matrix(matrix)
            value = np.zeros((2, entries.nnz))
            value[order] = entries.data
            found.append((entries.row, entries.col, np.full(entries.nnz, term), *value))
    out = [np.zeros((size, count)) for _ in range(2)]
    for table, operators in zip(out, (low, high), strict=True):
        for term, (_, factor) in enumerate(operators):
            table[:, term] = factor
    return Differences(*(np.concatenate(column) for column in zip(*found, strict=True)), *out)
