"""Chebyshev collocation for the HJB equation ρV = max_u {ℓ + ∇V·b + ½ tr(σσᵀ∇²V)} (T4) of a smooth diffusion problem.

V is a sum of Chebyshev products on the box of the states. Policy iteration (Kleinman 1968; Beard, Saridis & Wen 1997): for a policy u the
equation is linear in the coefficients and is solved by least squares at more points than coefficients; then u maximises the Hamiltonian
at the points. That is Gauss–Newton on the HJB residual, so a step that raises the residual is halved. No boundary condition is set: the box is
a window on R^n, and V is the smooth solution there. Without discount V = 0 at the equilibrium.

Error statement, estimated: the residual off the points times a time constant (1/ρ, or without discount the slowest one of the linearised
closed loop); the change from degree d−2 to d, extrapolated with the rate q at which residual/σ_min fell; rounding/σ_min, where σ_min is the
smallest singular value of the least squares. A small σ_min means that the equation does not single out V on this box, which
happens where noise crosses its boundary and the degree is high enough for the solutions that explode outside.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import casadi as ca
import jax
import jax.numpy as jnp
import numpy as np
from scipy import linalg, optimize
from scipy.stats import qmc

from rlctrl.errors import InputError, require, strict
from rlctrl.maximise import InputSet, input_set, maximise
from rlctrl.plant import box
from rlctrl.policy import LinearPolicy, Policy, as_policy
from rlctrl.progress import Progress
from rlctrl.reference.base import Reference
from rlctrl.tree import record

BASES = ("tensor", "total")
JUDGES = 1500  # random points off the nodes, a third of them on the faces of the box
MOST = 1.5e8  # numbers in the collocation matrices, 1.2 GB
SETTLED = 1e-11  # change of V, relative to its range, at which policy iteration has arrived
HALVINGS = 10  # of a Gauss–Newton step
SWEEPS = 20  # of coordinate ascent, where several bounded inputs leave their box
EPS = float(np.finfo(float).eps)


@record(arrays=("coefficients", "index", "middle", "half"), static=("degree",))
@dataclass(frozen=True, eq=False)
class ChebyshevValue:
    """V(x) = Σ_k c_k Π_i T_{index[k,i]}(s_i), s = (x − middle)/half; beyond the box each T is continued by its second-order Taylor sum."""

    coefficients: Any
    index: Any
    middle: Any
    half: Any
    degree: int

    def at(self, x):
        """V (...) at x (..., n)."""
        s = (x - self.middle) / jnp.asarray(self.half)
        table = _continued(s, self.degree)
        index = jnp.asarray(self.index)
        product = jnp.asarray(self.coefficients)
        for i in range(s.shape[-1]):
            product = product * table[..., i, :][..., index[:, i]]
        return jnp.sum(product, -1)


def _continued(s, degree):
    """T_0 … T_degree at s (...), (..., degree+1), with T(±1) + T'(±1)d + ½T''(±1)d² at distance d outside [−1, 1]."""
    inside = jnp.where(jnp.abs(s) > 1, jnp.sign(s), s)
    rows = [jnp.ones_like(s), inside]
    for _ in range(degree - 1):
        rows.append(2 * inside * rows[-1] - rows[-2])
    side, k = jnp.where(s < 0, -1.0, 1.0)[..., None], jnp.arange(degree + 1)
    far = (jnp.abs(s) - 1)[..., None]  # distance outward: by symmetry T_k(±(1+d)) = (±1)^k T_k(1+d)
    outward = 1 + k**2 * far + k**2 * (k**2 - 1) / 6 * far**2
    return jnp.where(far > 0, side**k * outward, jnp.stack(rows[: degree + 1], -1))


@record(arrays=("generator", "value", "inputs"), static=("pairs", "quadratic"))
@dataclass(frozen=True, eq=False)
class HamiltonianPolicy(Policy):
    """argmax over u of ℓ + ∇V·b + ½ tr(σσᵀ∇²V): in closed form where that is quadratic in u, else by search over `inputs`."""

    generator: Any
    value: Any
    inputs: InputSet
    pairs: tuple
    quadratic: bool

    def act(self, x):
        flat = jnp.reshape(x, (-1, x.shape[-1]))
        p = jax.vmap(jax.grad(self.value.at))(flat)
        hessian = jax.vmap(jax.hessian(self.value.at))(flat) if self.pairs else None
        s = jnp.stack([hessian[:, i, j] for i, j in self.pairs], -1) if self.pairs else jnp.zeros((len(flat), 0))
        u, _ = _maximum(self.generator, self.pairs, self.quadratic, self.inputs, flat, p, s)
        return u.reshape(*x.shape[:-1], u.shape[-1])


def _hamiltonian(generator, pairs, x, u, p, s):
    """ℓ + p·b + ½ tr(σσᵀS), S given by its entries s (..., len(pairs)) in the upper triangle."""
    total = generator.reward_rate(x, u) + jnp.sum(generator.drift(x, u) * p, -1)
    if not pairs:
        return total
    return total + jnp.sum(_spread(generator, pairs, x, u) * s, -1)


def _spread(generator, pairs, x, u):
    """Factors of ∂²V/∂x_i∂x_j in ½ tr(σσᵀ∇²V), (..., len(pairs))."""
    a = generator.covariance(x, u)
    factors = [(0.5 if i == j else 1.0) * a[..., i, j] for i, j in pairs]
    return jnp.stack(factors, -1) if pairs else jnp.zeros((*a.shape[:-2], 0))


def _maximum(generator, pairs, quadratic, inputs, x, p, s):
    """argmax (N, m) and max (N,) over u of the Hamiltonian at N points."""
    if quadratic:
        u = jax.vmap(lambda x, p, s: _vertex(lambda u: _hamiltonian(generator, pairs, x, u, p, s), inputs))(x, p, s)
        return u, _hamiltonian(generator, pairs, x, u, p, s)
    wide = (x[:, None, :], p[:, None, :], s[:, None, :])
    return maximise(lambda u: _hamiltonian(generator, pairs, wide[0], u, *wide[1:]), inputs)


def _vertex(h, inputs):
    """argmax over the box of a concave quadratic h(u): its vertex, clipped; then coordinate ascent, exact on a box."""
    zero = jnp.zeros(jnp.shape(inputs.low))
    slope, curvature = jax.grad(h)(zero), -jax.hessian(h)(zero)
    factor = jax.scipy.linalg.cho_factor(curvature)
    u = jnp.clip(jax.scipy.linalg.cho_solve(factor, slope), inputs.low, inputs.high)
    if len(zero) == 1:
        return u

    def sweep(_, u):
        for j in range(len(zero)):
            best = u[j] + (slope[j] - curvature[j] @ u) / curvature[j, j]
            u = u.at[j].set(jnp.clip(best, inputs.low[j], inputs.high[j]))
        return u

    return jax.lax.fori_loop(0, SWEEPS, sweep, u)


_best = jax.jit(_maximum, static_argnums=(1, 2))


@partial(jax.jit, static_argnums=1)
def _rates(generator, pairs, x, u):
    return generator.reward_rate(x, u), generator.drift(x, u), _spread(generator, pairs, x, u)


@dataclass(frozen=True)
class _Form:
    """What the equation looks like: entries of σσᵀ that can differ from 0, whether u moves them, whether it is quadratic in u, inputs."""

    pairs: tuple
    noise_in_input: bool
    quadratic: bool
    inputs: InputSet


def _form(problem, candidates) -> _Form:
    x, u, p = problem.plant.symbols()
    drift, sigma = problem.plant.drift_function(x, u, p), problem.plant.diffusion_function(x, u, p)
    xs, us, _, ps, _, reward = problem.symbolic()
    curvature = ca.Function("curvature", [xs, us, ps], [ca.hessian(-reward, us)[0]])
    cov = ca.sparsify(sigma @ sigma.T) if sigma.numel() else ca.SX(problem.plant.n, problem.plant.n)
    rows, columns = cov.sparsity().get_triplet()
    pairs = tuple((i, j) for i, j in zip(rows, columns, strict=True) if i <= j)
    affine = ca.is_linear(drift, u) and ca.is_quadratic(reward, us) and (not sigma.numel() or ca.is_linear(sigma, u))
    finite = any(s.values for s in problem.plant.inputs)
    quadratic = affine and not finite and _concave(problem, curvature)
    low, high = box(problem.plant.inputs)
    m = problem.plant.m
    inputs = InputSet(np.zeros((1, m)), np.zeros(m), low, high) if quadratic else input_set(problem.plant.inputs, candidates)
    return _Form(pairs, bool(pairs) and ca.depends_on(cov, u), quadratic, inputs)


def _concave(problem, curvature):
    """Whether −∂²r/∂u² is positive definite at random points of the box."""
    low, high = box(problem.plant.states)
    points = np.random.default_rng(0).uniform(low, high, (20, len(low)))
    u = np.zeros(problem.plant.m)
    return all(np.min(linalg.eigvalsh(np.array(curvature(x, u, problem.plant.parameter_vector)))) > 0 for x in points)


def _indices(n, degree, total):
    """Exponents of the basis, the constant first."""
    if n == 0:
        yield ()
        return
    for k in range(degree + 1):
        for rest in _indices(n - 1, degree - k if total else degree, total):
            yield (k, *rest)


def _tables(s, degree):
    """T_k, T'_k, T''_k at s (P, n): three arrays (n, P, degree+1)."""
    t = np.zeros((3, *s.T.shape, degree + 1))
    t[0, ..., 0], t[0, ..., 1], t[1, ..., 1] = 1.0, s.T, 1.0
    for k in range(1, degree):
        for order in range(3):
            t[order, ..., k + 1] = 2 * s.T * t[order, ..., k] - t[order, ..., k - 1]
            if order:
                t[order, ..., k + 1] += 2 * order * t[order - 1, ..., k]
    return t


def _points(value, basis, ratio):
    """Collocation points in [−1, 1]^n: a Chebyshev tensor grid, or a Halton sequence with Chebyshev density."""
    n = value.index.shape[1]
    if basis == "tensor":
        side = int(np.ceil(ratio ** (1 / n) * (value.degree + 1)))
        axis = np.cos(np.pi * (np.arange(side) + 0.5) / side)
        return np.stack(np.meshgrid(*[axis] * n, indexing="ij"), -1).reshape(-1, n)
    return np.cos(np.pi * qmc.Halton(n, scramble=True, seed=0).random(int(np.ceil(ratio * len(value.index)))))


def _judges(n):
    """Random points of [−1, 1]^n off the nodes; the last third lies on its faces. Returns them and the outward normals of the latter."""
    rng = np.random.default_rng(1)
    s, faces = rng.uniform(-1, 1, (JUDGES, n)), JUDGES // 3
    axis, side = rng.integers(n, size=faces), rng.choice([-1.0, 1.0], faces)
    s[np.arange(JUDGES - faces, JUDGES), axis] = side
    return s, side[:, None] * np.eye(n)[axis]


@dataclass(frozen=True)
class _Collocation:
    """Basis matrices at the nodes (first `count` rows) and at the judging points: values, ∂_i, ∂_i∂_j for the pairs of the form."""

    generator: Any
    form: _Form
    x: np.ndarray
    count: int
    normals: np.ndarray
    phi: np.ndarray
    slopes: np.ndarray
    curvatures: np.ndarray

    @classmethod
    def make(cls, generator, form, value, basis, ratio):
        nodes, (off, normals) = _points(value, basis, ratio), _judges(len(value.half))
        s, n = np.concatenate([nodes, off]), len(value.half)
        needed = float(len(s)) * len(value.index) * (1 + n + len(form.pairs))
        require(needed <= MOST, "degree", f"needs {needed:.1e} numbers, at most {MOST:.1e} are allowed", value.degree, 'Use basis="total".')
        tables = _tables(s, value.degree)

        def product(*axes):
            orders = [axes.count(i) for i in range(n)]
            parts = [tables[order, i][:, value.index[:, i]] / value.half[i] ** order for i, order in enumerate(orders)]
            return np.prod(parts, axis=0)

        slopes = np.stack([product(i) for i in range(n)])
        curvatures = np.stack([product(*pair) for pair in form.pairs]) if form.pairs else np.zeros((0, *slopes.shape[1:]))
        return cls(generator, form, value.middle + value.half * s, len(nodes), normals, product(), slopes, curvatures)

    @property
    def rho(self):
        return float(self.generator.rho)

    def improve(self, c):
        """The maximising inputs and the HJB residual ρV − max_u H at all points."""
        p, s = np.einsum("ipk,k->pi", self.slopes, c), np.einsum("ipk,k->pi", self.curvatures, c)
        u, h = _best(self.generator, self.form.pairs, self.form.quadratic, self.form.inputs, self.x, p, s)
        return np.asarray(u), self.rho * (self.phi @ c) - np.asarray(h)

    def evaluate(self, u, columns):
        """Coefficients of the value of a policy by least squares, and σ_min, σ_max of the (column-normalised) equations."""
        reward, drift, spread = (np.asarray(a)[: self.count] for a in _rates(self.generator, self.form.pairs, self.x, u))
        nodes, chosen = slice(self.count), np.flatnonzero(columns)
        rows = self.rho * self.phi[nodes, chosen]
        for i, slope in enumerate(self.slopes):
            rows -= drift[:, i, None] * slope[nodes, chosen]
        for i, curvature in enumerate(self.curvatures):
            rows -= spread[:, i, None] * curvature[nodes, chosen]
        size = np.maximum(np.linalg.norm(rows, axis=0), 1e-300)
        found, _, _, singular = np.linalg.lstsq(rows / size, reward, rcond=EPS)
        c = np.zeros(len(columns))
        c[chosen] = found / size
        return c, singular[-1] / singular[0]


@dataclass(frozen=True)
class _Rung:
    """Policy iteration at one degree: coefficients, inputs and residual at all points, conditioning, whether it settled."""

    c: np.ndarray
    u: np.ndarray
    residual: np.ndarray
    sigma: float
    settled: bool
    rows: tuple


def _climb(coll, columns, c, u, residual, limit, show) -> _Rung:
    """Gauss–Newton steps (policy iteration) from coefficients c, whose maximising inputs are u, until V no longer changes."""
    rows, merit = [], float(np.sum(residual[: coll.count] ** 2))
    for k in range(limit):
        full, sigma = coll.evaluate(u, columns)
        for t in 0.5 ** np.arange(HALVINGS + 1):
            trial = c + t * (full - c)
            u_new, new = coll.improve(trial)
            merit_new = float(np.sum(new[: coll.count] ** 2))
            if merit_new < merit:
                break
        change, scale = float(np.max(np.abs(coll.phi @ (full - c)))), float(np.ptp(coll.phi @ full))
        rows.append((k, float(np.max(np.abs(residual[coll.count :]))), change, t))
        show(f"change {change:.1e}")
        stalled = not merit_new < merit
        if not stalled:
            c, u, residual, merit = trial, u_new, new, merit_new
        if stalled or change <= SETTLED * scale:
            break
    return _Rung(c, u, residual, sigma, bool(change <= 1e-6 * scale), tuple(rows))
