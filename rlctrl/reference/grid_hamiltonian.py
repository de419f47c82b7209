"""The Hamiltonian of T4 on a grid as JAX functions: coefficients of the differences of `markov_chain`, and the maximum over the inputs.

    b·∇V + ½ tr(a∇²V) ≈ Σ_j c_j(x,u)·g_j,  g_j = (O_j V)(x)

Terms j: b_k⁺ and b_k⁻ for one-sided differences along the drift; then, with noise, the monotone cross stencil (second differences of the
axes, diagonal neighbours by the sign of a_kl: Kushner & Dupuis 2001, §5.3; c_j ≥ 0); then the same diffusion for central differences,
which needs no diagonal dominance but is not monotone. `markov_chain` blends the two: their weights sum to one. Only entries of a that
can differ from 0 have terms: `noise` lists them as pairs (k ≤ i), those of the axes first.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.generator import Generator
from rlctrl.maximise import InputSet, maximise
from rlctrl.tree import record


def coefficients(generator, steps, noise, x, u):
    """c_j(x, u), (..., J): drift up and down per axis, and with noise the monotone and the full diffusion."""
    return jnp.stack(_columns(generator, steps, noise, x, u), -1)


def _columns(generator, steps, noise, x, u):
    """The c_j one by one."""
    n, b = len(steps), generator.drift(x, u)
    found = [jnp.maximum(sign * b[..., k], 0) for sign in (1, -1) for k in range(n)]
    if not noise:
        return found
    a = generator.covariance(x, u)
    kept = kept_correlation(a, steps)
    axis = jnp.diagonal(a, axis1=-2, axis2=-1) / 2
    taken = jnp.sum(jnp.abs(kept) / steps, -1) * steps / 2
    found += [jnp.maximum(axis[..., k] - taken[..., k], 0) for k, i in noise if k == i]
    found += [jnp.maximum(sign * kept[..., k, i], 0) for k, i in noise if k != i for sign in (1, -1)]
    return found + [axis[..., k] if k == i else a[..., k, i] for k, i in noise]


def kept_correlation(a, steps):
    """Off-diagonal part of a, reduced where a (in cells) is not diagonally dominant: the nearest that the cross stencil can carry."""
    n = len(steps)
    scaled = a / (steps[:, None] * steps)
    off = jnp.where(jnp.eye(n, dtype=bool), 0.0, scaled)
    diagonal, load = jnp.diagonal(scaled, axis1=-2, axis2=-1), jnp.sum(jnp.abs(off), -1)
    share = jnp.where(load > diagonal, diagonal / jnp.where(load > 0, load, 1.0), 1.0)
    return off * jnp.minimum(share[..., :, None], share[..., None, :]) * (steps[:, None] * steps)


@record(arrays=("generator", "steps", "inputs"), static=("noise", "affine"))
@dataclass(frozen=True, eq=False)
class GridHamiltonian:
    """H_u − (−ρV) at a node as a function of the differences g = (O_j V)(x)."""

    generator: Generator
    steps: Any
    inputs: InputSet
    noise: tuple
    affine: bool

    def at(self, x, u, g):
        """ℓ(x,u) + Σ_j c_j(x,u) g_j."""
        terms = _columns(self.generator, self.steps, self.noise, x, u)
        return self.generator.reward_rate(x, u) + sum(c * g[..., j] for j, c in enumerate(terms))

    @property
    def middle(self):
        """The input about which drift and reward rate are expanded."""
        return jnp.mean(jnp.asarray(self.inputs.candidates), 0)

    @jax.jit
    def expansion(self, x):
        """At nodes x: drift and its slope, slope and curvature of the reward rate, in u at the middle (empty where not affine)."""
        return jax.vmap(lambda y: self._derivatives(y, self.middle))(x) if self.affine else ()

    def changing(self, expansion, u, g):
        """The part of H that changes with u, for inputs u (S, C, m), an affine drift and a quadratic reward rate."""
        b, gain, slope, bend = expansion
        n, m = gain.shape[-2:]
        step = [u[..., j] - self.middle[j] for j in range(m)]
        moved = [b[:, None, k] + sum(gain[:, None, k, j] * step[j] for j in range(m)) for k in range(n)]
        flow = sum(jnp.maximum(v, 0) * g[:, None, k] + jnp.maximum(-v, 0) * g[:, None, n + k] for k, v in enumerate(moved))
        pulls = [slope[:, None, i] + 0.5 * sum(bend[:, None, i, j] * step[j] for j in range(m)) for i in range(m)]
        return flow + sum(step[i] * pull for i, pull in enumerate(pulls))

    def starts(self, expansion, old, g):
        """Where the search for the maximum begins: the old input and the candidates, or the vertices of the pieces of H."""
        if not self.affine:
            candidates = jnp.asarray(self.inputs.candidates)
            return jnp.concatenate([jnp.broadcast_to(candidates, (len(old), *candidates.shape)), old[:, None]], 1)
        return jnp.concatenate([jnp.clip(self._vertices(expansion, g), self.inputs.low, self.inputs.high), old[:, None]], 1)

    def _vertices(self, expansion, g):
        """Affine drift, quadratic reward rate: H is a concave quadratic for each set of signs of the drift; one input: also b_k = 0."""
        b, gain, slope, bend = expansion
        n, middle = b.shape[-1], self.middle
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
def best_input(hamiltonian, x, old, g, *expansion):
    """The best input u at nodes x, from the `old` inputs, the differences g and the expansion: u, ℓ + Σ_j c_j g_j, c and ℓ there."""
    starts, exact = hamiltonian.starts(expansion, old, g), hamiltonian.affine and old.shape[-1] == 1

    def at(u):
        return hamiltonian.changing(expansion, u, g) if hamiltonian.affine else hamiltonian.at(x[:, None], u, g[:, None])

    if exact:
        best = jnp.argmax(at(starts), -1)[:, None, None]
        u = jnp.take_along_axis(starts, best, 1)[:, 0]
    else:
        u = maximise(at, hamiltonian.inputs, starts)[0]
    c, rate = coefficients(hamiltonian.generator, hamiltonian.steps, hamiltonian.noise, x, u), hamiltonian.generator.reward_rate(x, u)
    return u, rate + jnp.sum(c * g, -1), c, rate


@jax.jit
def parts(hamiltonian, x, u):
    """Coefficients c, reward rate ℓ, and whether the cross stencil carries all of the correlation."""
    generator, steps = hamiltonian.generator, hamiltonian.steps
    c = coefficients(generator, steps, hamiltonian.noise, x, u)
    whole = jnp.ones(len(x), bool)
    if hamiltonian.noise:
        a = generator.covariance(x, u)
        lost = jnp.abs(a * ~jnp.eye(len(steps), dtype=bool) - kept_correlation(a, steps))
        whole = jnp.all(lost <= 1e-9 * jnp.max(jnp.abs(a), (-2, -1), keepdims=True), (-2, -1))
    return c, generator.reward_rate(x, u), whole
