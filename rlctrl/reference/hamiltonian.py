"""The Hamiltonian H(x, u, p, S) = ℓ + p·b + ½ tr(σσᵀS) of a diffusion (T4) and its maximum over the inputs."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import casadi as ca
import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.maximise import InputSet, finite_values, input_set, maximise
from rlctrl.plant import box, finite_box
from rlctrl.policy import Policy
from rlctrl.tree import record

SWEEPS = 20  # of coordinate ascent, where several bounded inputs leave their box
REFINEMENTS = 4  # of the search for an input without closed form


@record(arrays=("generator", "inputs"), static=("pairs", "noise_in_input", "quadratic"))
@dataclass(frozen=True, eq=False)
class Hamiltonian:
    """H of a problem, with what its equation looks like.

    `pairs`: the entries (i ≤ j) of σσᵀ that can differ from 0; `noise_in_input`: whether u moves them; `quadratic`: whether H is a concave
    quadratic in u, so that its maximum has a closed form; `inputs`: the box of u, with candidates if it is to be searched.
    """

    generator: Any
    inputs: InputSet
    pairs: tuple
    noise_in_input: bool
    quadratic: bool

    @classmethod
    def of(cls, problem, candidates):
        """From a problem whose plant is a diffusion; `candidates` per input that has to be searched for."""
        plant = problem.plant
        x, u, p = plant.symbols()
        drift, sigma, reward = plant.drift_function(x, u, p), plant.diffusion_function(x, u, p), problem.reward_of(x, u, p)
        covariance = covariance_of(plant, x, u)
        affine = ca.is_linear(drift, u) and ca.is_linear(sigma, u) and ca.is_quadratic(reward, u)
        curvature = ca.Function("curvature", [x, u, p], [ca.hessian(-reward, u)[0]])
        quadratic = affine and not any(s.values for s in plant.inputs) and _concave(plant, curvature)
        zero = np.zeros(plant.m)
        whole = InputSet(zero[None, :], zero, *box(plant.inputs), finite_values(plant.inputs))
        inputs = whole if quadratic else input_set(plant.inputs, candidates)
        return cls(problem.generator, inputs, noise_entries(plant), covariance.nnz() > 0 and ca.depends_on(covariance, u), quadratic)

    def without_noise(self):
        """The same with σ = 0."""
        return replace(self, pairs=(), noise_in_input=False)

    def spread(self, x, u):
        """Factors of ∂²V/∂x_i∂x_j in ½ tr(σσᵀ∇²V) for the pairs, (..., len(pairs))."""
        if not self.pairs:
            return jnp.zeros((*jnp.broadcast_shapes(x.shape[:-1], u.shape[:-1]), 0))
        a = self.generator.covariance(x, u)
        return jnp.stack([(0.5 if i == j else 1.0) * a[..., i, j] for i, j in self.pairs], -1)

    def at(self, x, u, p, s):
        """H (...) at x, u, slope p (..., n) and the curvatures s (..., len(pairs))."""
        g = self.generator
        return g.reward_rate(x, u) + jnp.sum(g.drift(x, u) * p, -1) + jnp.sum(self.spread(x, u) * s, -1)

    def maximum(self, x, p, s):
        """argmax (N, m) and max (N,) over u at N points."""
        if self.quadratic:
            u = jax.vmap(lambda x, p, s: vertex(lambda u: self.at(x, u, p, s), self.inputs))(x, p, s)
            return u, self.at(x, u, p, s)

        def q(u):
            return self.at(x[:, None, :], u, p[:, None, :], s[:, None, :])

        def finer(k, best):
            return maximise(q, replace(self.inputs, step=self.inputs.step * 0.2**k), best[0][:, None, :])

        return jax.lax.fori_loop(0, REFINEMENTS, finer, maximise(q, self.inputs))


@record(arrays=("hamiltonian", "value"))
@dataclass(frozen=True, eq=False)
class HamiltonianPolicy(Policy):
    """argmax over u of H(x, u, ∇V, ∇²V), for a value like `ChebyshevValue`."""

    hamiltonian: Hamiltonian
    value: Any

    @property
    def n(self):
        return len(self.value.middle)

    def act(self, x):
        flat = jnp.reshape(x, (-1, x.shape[-1]))
        p = jnp.stack([self.value.partial(flat, i) for i in range(x.shape[-1])], -1)
        s = [self.value.partial(flat, *pair) for pair in self.hamiltonian.pairs]
        u, _ = self.hamiltonian.maximum(flat, p, jnp.stack(s, -1) if s else jnp.zeros((len(flat), 0)))
        return u.reshape(*x.shape[:-1], u.shape[-1])


def covariance_of(plant, x, u):
    """σσᵀ as CasADi expressions of x and u, without the entries that are 0 for the plant's parameters."""
    if not plant.law.q:
        return ca.SX(plant.n, plant.n)
    sigma = plant.diffusion_function(x, u, ca.DM(plant.parameter_vector))
    return ca.sparsify(sigma @ sigma.T)


def noise_entries(plant):
    """The pairs (i ≤ j) of its entries, those of the axes first."""
    x, u, _ = plant.symbols()
    found = [(i, j) for i, j in zip(*covariance_of(plant, x, u).sparsity().get_triplet(), strict=True) if i <= j]
    return tuple(sorted(found, key=lambda pair: (pair[0] != pair[1], pair)))


def _concave(plant, curvature):
    """Whether −∂²r/∂u² is positive definite at random points of the box."""
    points = np.random.default_rng(0).uniform(*finite_box(plant.states), (20, plant.n))
    return all(np.min(np.linalg.eigvalsh(np.array(curvature(x, np.zeros(plant.m), plant.parameter_vector)))) > 0 for x in points)


def vertex(h, inputs):
    """argmax over the box of a concave quadratic h(u): its vertex, clipped; then coordinate ascent, exact on a box."""
    zero = jnp.zeros(jnp.shape(inputs.low))
    slope, curvature = jax.grad(h)(zero), -jax.hessian(h)(zero)
    u = jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(curvature), slope)

    def sweep(_, u):
        for j in range(len(zero)):
            best = u[j] + (slope[j] - curvature[j] @ u) / curvature[j, j]
            u = u.at[j].set(jnp.clip(best, inputs.low[j], inputs.high[j]))
        return u

    return jax.lax.fori_loop(0, SWEEPS if len(zero) > 1 else 1, sweep, jnp.clip(u, inputs.low, inputs.high))


best_inputs = jax.jit(Hamiltonian.maximum)


@partial(jax.jit)
def rates(hamiltonian, x, u):
    """Reward rate (N,), drift (N, n) and `spread` (N, len(pairs)) at N points."""
    g = hamiltonian.generator
    return g.reward_rate(x, u), g.drift(x, u), hamiltonian.spread(x, u)
