"""Chebyshev collocation for the HJB equation ρV = max_u {ℓ + ∇V·b + ½ tr(σσᵀ∇²V)} (T4) of a smooth diffusion problem.

V is a sum of Chebyshev products on the box of the states. Policy iteration (Kleinman 1968; Beard, Saridis & Wen 1997): for a policy u the
equation is linear in the coefficients and is solved by least squares at more points than coefficients; then u maximises the Hamiltonian
at the points. A linear start stabilises at best near the point of rest, so the iteration is run on boxes that grow around it. No boundary
condition is set: the box is a window on R^n, and V is the smooth solution there. Without discount V = 0 at rest.

Error statement, estimated, a sum of: the residual off the points times a time constant (1/ρ; without discount the slowest one of the
closed loop at rest); the change from degree d−2 to d, extrapolated with the root of the factor by which residual/σ_min fell (where the
closed loop leaves the box, V converges more slowly than the residual); rounding/σ_min, σ_min the smallest singular value of the least
squares. A small σ_min says that the equation does not single out V on this box: it happens where noise crosses the boundary and the degree
suffices for solutions that explode outside.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import casadi as ca
import jax
import jax.numpy as jnp
import numpy as np
from scipy import linalg, optimize

from rlctrl.errors import require, strict
from rlctrl.maximise import InputSet, input_set, maximise
from rlctrl.plant import box
from rlctrl.policy import LinearPolicy, Policy, as_policy
from rlctrl.progress import Progress
from rlctrl.reference.base import Reference
from rlctrl.tree import record

BASES = ("tensor", "total")
BOXES = (0.25, 0.5, 1.0)  # sizes of the boxes on which the default start is improved in turn
JUDGES = 1500  # random points off the nodes, a third of them on the faces of the box
MOST = 1.5e8  # numbers in the collocation matrices, 1.2 GB
SETTLED = 1e-11  # change of V, relative to its range, at which policy iteration has arrived
PATIENCE = 8  # policy iterations without a smaller residual before giving up
SWEEPS = 20  # of coordinate ascent, where several bounded inputs leave their box
REFINEMENTS = 4  # of the search for an input without closed form
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
        index, product = jnp.asarray(self.index), jnp.asarray(self.coefficients)
        for i in range(s.shape[-1]):
            product = product * table[..., i, :][..., index[:, i]]
        return jnp.sum(product, -1)


def _continued(s, degree):
    """T_0 … T_degree at s (...), (..., degree+1); at distance d outside [−1, 1]: (±1)^k (T_k(1) + T'_k(1)d + ½T''_k(1)d²)."""
    inside, side = jnp.where(jnp.abs(s) > 1, jnp.sign(s), s), jnp.where(s < 0, -1.0, 1.0)[..., None]
    rows = [jnp.ones_like(s), inside]
    for _ in range(degree - 1):
        rows.append(2 * inside * rows[-1] - rows[-2])
    k, far = jnp.arange(degree + 1), (jnp.abs(s) - 1)[..., None]
    outward = 1 + k**2 * far + k**2 * (k**2 - 1) / 6 * far**2
    return jnp.where(far > 0, side**k * outward, jnp.stack(rows, -1))


@record(arrays=("generator", "value", "inputs"), static=("pairs", "quadratic"))
@dataclass(frozen=True, eq=False)
class HamiltonianPolicy(Policy):
    """argmax over u of ℓ + ∇V·b + ½ tr(σσᵀ∇²V): in closed form where that is quadratic in u, else by search over `inputs`.

    `pairs`: the entries of ∇²V that matter for u.
    """

    generator: Any
    value: Any
    inputs: InputSet
    pairs: tuple
    quadratic: bool

    def act(self, x):
        flat = jnp.reshape(x, (-1, x.shape[-1]))
        p, s = jax.vmap(jax.grad(self.value.at))(flat), jnp.zeros((len(flat), 0))
        if self.pairs:
            hessian = jax.vmap(jax.hessian(self.value.at))(flat)
            s = jnp.stack([hessian[:, i, j] for i, j in self.pairs], -1)
        u, _ = _maximum(self.generator, self.pairs, self.quadratic, self.inputs, flat, p, s)
        return u.reshape(*x.shape[:-1], u.shape[-1])


def _hamiltonian(generator, pairs, x, u, p, s):
    """ℓ + p·b + ½ tr(σσᵀS), S given by its entries s (..., len(pairs)) in the upper triangle."""
    return generator.reward_rate(x, u) + jnp.sum(generator.drift(x, u) * p, -1) + jnp.sum(_spread(generator, pairs, x, u) * s, -1)


def _spread(generator, pairs, x, u):
    """Factors of ∂²V/∂x_i∂x_j in ½ tr(σσᵀ∇²V), (..., len(pairs))."""
    if not pairs:
        return jnp.zeros((*x.shape[:-1], 0))
    a = generator.covariance(x, u)
    return jnp.stack([(0.5 if i == j else 1.0) * a[..., i, j] for i, j in pairs], -1)


def _maximum(generator, pairs, quadratic, inputs, x, p, s):
    """argmax (N, m) and max (N,) over u of the Hamiltonian at N points."""
    if quadratic:
        u = jax.vmap(lambda x, p, s: _vertex(lambda u: _hamiltonian(generator, pairs, x, u, p, s), inputs))(x, p, s)
        return u, _hamiltonian(generator, pairs, x, u, p, s)

    def q(u):
        return _hamiltonian(generator, pairs, x[:, None, :], u, p[:, None, :], s[:, None, :])

    def finer(k, best):
        return maximise(q, replace(inputs, step=inputs.step * 0.2**k), best[0][:, None, :])

    return jax.lax.fori_loop(0, REFINEMENTS, finer, maximise(q, inputs))


def _vertex(h, inputs):
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
    plant = problem.plant
    x, u, p = plant.symbols()
    drift, sigma, reward = plant.drift_function(x, u, p), plant.diffusion_function(x, u, p), problem.reward_of(x, u, p)
    covariance = ca.sparsify(sigma @ sigma.T) if plant.law.q else ca.SX(plant.n, plant.n)
    pairs = tuple((i, j) for i, j in zip(*covariance.sparsity().get_triplet(), strict=True) if i <= j)
    affine = ca.is_linear(drift, u) and ca.is_quadratic(reward, u) and (not pairs or ca.is_linear(sigma, u))
    curvature = ca.Function("curvature", [x, u, p], [ca.hessian(-reward, u)[0]])
    quadratic = affine and not any(s.values for s in plant.inputs) and _concave(plant, curvature)
    zero = np.zeros(plant.m)
    inputs = InputSet(zero[None, :], zero, *box(plant.inputs)) if quadratic else input_set(plant.inputs, candidates)
    return _Form(pairs, bool(pairs) and ca.depends_on(covariance, u), quadratic, inputs)


def _concave(plant, curvature):
    """Whether −∂²r/∂u² is positive definite at random points of the box."""
    points = np.random.default_rng(0).uniform(*box(plant.states), (20, plant.n))
    return all(np.min(linalg.eigvalsh(np.array(curvature(x, np.zeros(plant.m), plant.parameter_vector)))) > 0 for x in points)


def _indices(n, degree, total):
    """Degrees in each state of the basis functions, the constant first."""
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
        t[..., k + 1] = 2 * s.T * t[..., k] - t[..., k - 1]
        t[1:, ..., k + 1] += 2 * np.array([1, 2])[:, None, None] * t[:-1, ..., k]
    return t


def _products(tables, index, *axes):
    """The basis functions at the points of the tables, differentiated along `axes`, (P, K)."""
    return np.prod([tables[axes.count(i), i][:, index[:, i]] for i in range(index.shape[1])], axis=0)


def _nodes(index, basis, ratio):
    """Collocation points in [−1, 1]^n: a Chebyshev tensor grid, or a Kronecker sequence with Chebyshev density."""
    n = index.shape[1]
    if basis == "total" and n > 1:
        step = np.max(np.real(np.roots([1, *[0] * (n - 1), -1, -1]))) ** -np.arange(1.0, n + 1)  # powers of a generalised golden ratio
        return np.cos(np.pi * np.mod(0.5 + step * np.arange(np.ceil(ratio * len(index)))[:, None], 1.0))
    side = int(np.ceil(ratio ** (1 / n) * (index.max() + 1)))
    axis = np.cos(np.pi * (np.arange(side) + 0.5) / side)
    return np.stack(np.meshgrid(*[axis] * n, indexing="ij"), -1).reshape(-1, n)


def _judges(n):
    """Random points of [−1, 1]^n off the nodes; the last third lies on its faces, whose outward normals come second."""
    rng = np.random.default_rng(1)
    s, faces = rng.uniform(-1, 1, (JUDGES, n)), JUDGES // 3
    axis, side = rng.integers(n, size=faces), rng.choice([-1.0, 1.0], faces)
    s[np.arange(JUDGES - faces, JUDGES), axis] = side
    return s, side[:, None] * np.eye(n)[axis]


@dataclass(frozen=True)
class _Collocation:
    """Points (the first `count` are nodes) and there: the basis, its ∂/∂s_i, and its ∂²/∂s_i∂s_j for the pairs of the form."""

    generator: Any
    form: _Form
    value: ChebyshevValue
    s: np.ndarray
    count: int
    normals: np.ndarray
    phi: np.ndarray
    slopes: np.ndarray
    curvatures: np.ndarray

    @classmethod
    def make(cls, generator, form, value, basis, ratio):
        nodes, (off, normals) = _nodes(value.index, basis, ratio), _judges(len(value.half))
        s, n = np.concatenate([nodes, off]), len(value.half)
        needed = float(len(s)) * len(value.index) * (1 + n + len(form.pairs))
        require(needed <= MOST, "degree", f"needs {needed:.1e} numbers, at most {MOST:.1e} are allowed", value.degree, 'Use basis="total".')
        tables = _tables(s, value.degree)

        slopes = np.stack([_products(tables, value.index, i) for i in range(n)])
        curvatures = np.reshape([_products(tables, value.index, *pair) for pair in form.pairs], (-1, *slopes.shape[1:]))
        return cls(generator, form, value, s, len(nodes), normals, _products(tables, value.index), slopes, curvatures)

    @property
    def x(self):
        """The points in the coordinates of the states."""
        return self.value.middle + self.value.half * self.s

    @property
    def scale(self):
        """half_i·half_j for the pairs of the form."""
        return np.array([self.value.half[i] * self.value.half[j] for i, j in self.form.pairs])

    def improve(self, c):
        """The maximising inputs and the HJB residual ρV − max_u H at all points."""
        p, s = (self.slopes @ c).T / self.value.half, (self.curvatures @ c).T / self.scale
        u, h = _best(self.generator, self.form.pairs, self.form.quadratic, self.form.inputs, self.x, p, s)
        return np.asarray(u), self.generator.rho * (self.phi @ c) - np.asarray(h)

    def evaluate(self, u, columns):
        """Coefficients of the value of a policy by least squares, and the triangular factor of its column-normalised equations."""
        reward, drift, spread = (np.asarray(a)[: self.count] for a in _rates(self.generator, self.form.pairs, self.x, u))
        drift, spread = drift / self.value.half, spread / self.scale
        rows = self.generator.rho * self.phi[: self.count, columns]
        for i, slope in enumerate(self.slopes):
            rows -= drift[:, i, None] * slope[: self.count, columns]
        for i, curvature in enumerate(self.curvatures):
            rows -= spread[:, i, None] * curvature[: self.count, columns]
        size = np.maximum(np.linalg.norm(rows, axis=0), 1e-300)
        R, c, k = np.asarray(np.linalg.qr(np.column_stack([rows / size, reward]), mode="r")), np.zeros(len(columns)), len(size)
        try:
            c[columns] = linalg.solve_triangular(R[:k, :k], R[:k, k], check_finite=False) / size
        except np.linalg.LinAlgError:
            c[columns] = np.nan
        return c, R[:k, :k]


@dataclass(frozen=True)
class _Run:
    """Policy iteration at one degree: coefficients, inputs and residual at all points, conditioning, whether it settled, history."""

    c: np.ndarray
    u: np.ndarray
    residual: np.ndarray
    sigma: float
    settled: bool
    rows: tuple


def _iterate(coll, columns, u, limit, show) -> _Run:
    """Policy iteration from the inputs u until V no longer changes; the iterate with the smallest residual at the nodes."""
    c, rows, merits, best = None, [], [], None
    for k in range(limit):
        previous, (c, R) = c, coll.evaluate(u, columns)
        u, residual = coll.improve(c)
        merits.append(float(np.linalg.norm(residual[: coll.count])))
        if not np.isfinite(merits[-1]):
            break
        if merits[-1] == min(merits):
            best = (c, u, residual, R)
        change, scale = np.inf if previous is None else float(np.max(np.abs(coll.phi @ (c - previous)))), float(np.ptp(coll.phi @ c))
        rows.append((k, float(np.max(np.abs(residual[coll.count :]))), change))
        show(f"residual {rows[-1][1]:.1e}")
        if change <= SETTLED * scale or np.argmin(merits) < k - PATIENCE:
            break
    if best is None:
        return _Run(np.zeros(len(columns)), np.zeros_like(u), np.full(len(u), np.inf), 1.0, False, ())
    c, u, residual, R = best
    singular = linalg.svdvals(R)
    return _Run(c, u, residual, singular[-1] / singular[0], bool(np.isfinite(merits[-1]) and change <= 1e-6 * scale), tuple(rows))


def _local(problem):
    """CasADi function z = (x, u) → ℓ, ∇ℓ, ∇²ℓ, b, ∂b/∂z."""
    x, u, p = problem.plant.symbols()
    z, rate, drift = ca.vertcat(x, u), problem.reward_of(x, u, p) / problem.generator.dt, problem.plant.drift_function(x, u, p)
    parts = [rate, ca.gradient(rate, z), ca.hessian(rate, z)[0], drift, ca.jacobian(drift, z)]
    function = ca.Function("local", [z, p], [ca.densify(part) for part in parts])
    return lambda z: [np.array(part) for part in function(z, problem.plant.parameter_vector)]


def _rest(problem, local):
    """z = (x, u) in the boxes with b = 0 where ℓ is greatest, searched from the point nearest to 0; None if none is found."""
    low, high = box((*problem.plant.states, *problem.plant.inputs))
    rule = {"type": "eq", "fun": lambda z: local(z)[3][:, 0], "jac": lambda z: local(z)[4]}
    loss = lambda z: (-float(local(z)[0][0, 0]), -local(z)[1][:, 0])
    start, bounds = np.clip(np.zeros(len(low)), low, high), list(zip(low, high, strict=True))
    z = optimize.minimize(loss, start, jac=True, bounds=bounds, constraints=[rule], method="SLSQP", options={"ftol": 1e-15}).x
    return z if np.all(np.isfinite(z)) and np.max(np.abs(local(z)[3])) < 1e-8 else None


def _lqr(problem, local, z):
    """Linear feedback of the linearisation at z: LQR with A − ρ/2·I and weights −½∇²ℓ made positive definite."""
    n, m = problem.plant.n, problem.plant.m
    values, vectors = np.linalg.eigh(-0.5 * local(z)[2])
    W = (vectors * np.maximum(values, 1e-3 * max(values[-1], 1e-3))) @ vectors.T
    A, B = np.split(local(z)[4], [n], axis=1)
    try:
        P = linalg.solve_continuous_are(A - 0.5 * problem.generator.rho * np.eye(n), B, W[:n, :n], W[n:, n:], s=W[:n, n:])
        K = np.linalg.solve(W[n:, n:], B.T @ P + W[n:, :n])
    except np.linalg.LinAlgError:
        K = np.zeros((m, n))
    return LinearPolicy(K, z[:n], z[n:], np.zeros(n)).clipped(*box(problem.plant.inputs))


def _time_constant(problem, local, policy, z, shape):
    """1/ρ; without discount the slowest time constant of the closed loop at rest, infinite if that is not stable."""
    if problem.generator.rho > 0:
        return 1 / problem.generator.rho
    n, steps = problem.plant.n, 1e-5 * np.subtract(*box(problem.plant.states)[::-1])
    moved = z[:n] + np.concatenate([np.diag(steps), -np.diag(steps)])
    ahead, back = np.split(policy(np.resize(moved, shape))[: 2 * n], 2)  # `shape` is one the policy is compiled for
    K = (ahead - back) / (2 * steps[:, None])
    A, B = np.split(local(z)[4], [n], axis=1)
    growth = float(np.max(np.real(np.linalg.eigvals(A + B @ K.T))))
    return -1 / growth if growth < 0 else float("inf")


@strict
@dataclass(frozen=True)
class Spectral:
    """Chebyshev collocation by policy iteration: V smooth, plant a diffusion, 1 to 6 states.

    `degree` of the Chebyshev sum, per state (`basis="tensor"`) or in total (`basis="total"`). `start`: a policy to begin with, which should
    stabilise the plant on the whole box (default: LQR of the linearisation at rest, on growing boxes). `points`: collocation points per
    coefficient. `iterations`: most policy iterations per box. `inputs`: candidates per input where no closed form exists. `tolerance`:
    largest HJB residual off the points, relative to the largest |ℓ|, that counts as solved.
    V is that of continuous time; Q is the one-step backup of the sampled problem, whose own V differs by O(dt).
    Raises `InputError` for a plant without drift, an unbounded or periodic state, a target, or γ = 1 without a free point of rest.
    """

    degree: int = 12
    basis: str = "tensor"
    start: Any = None
    points: float = 2.5
    iterations: int = 50
    inputs: int = 21
    tolerance: float = 1e-3

    def __post_init__(self):
        whole = isinstance(self.degree, int | np.integer) and self.degree >= 2
        require(whole, "degree", "must be a whole number ≥ 2", self.degree, "Use 12.")
        require(self.basis in BASES, "basis", f"must be one of {BASES}", self.basis, 'Use "total" from four states on.')
        require(self.points > 1, "points", "must exceed 1 per coefficient", self.points, "Use 2.5.")
        require(self.iterations >= 1, "iterations", "must be at least 1", self.iterations, "Use 50.")
        require(self.tolerance > 0, "tolerance", "must be positive", self.tolerance, "Use 1e-3.")

    def solve(self, problem, progress=False):
        generator, low, high = problem.generator, *box(problem.plant.states)
        _check(problem)
        local = _local(problem)
        rest = _rest(problem, local)
        _check_rest(problem, rest, local)
        index = np.array(list(_indices(len(low), int(self.degree), self.basis == "total")))
        value = ChebyshevValue(np.zeros(len(index)), index, 0.5 * (low + high), 0.5 * (high - low), int(self.degree))
        coll = _Collocation.make(generator, _form(problem, self.inputs), value, self.basis, self.points)
        with Progress("Spectral", progress) as bar:
            fine, coarse = self._runs(problem, coll, rest, local, bar)
        if generator.rho == 0:
            assert rest is not None  # _check_rest
            s = (rest[: len(low)] - value.middle) / value.half
            fine.c[0] -= float(_products(_tables(s[None], value.degree), index)[0] @ fine.c)
        return self._reference(problem, coll, (coarse, fine), replace(value, coefficients=fine.c), local, rest)

    def _runs(self, problem, coll, rest, local, bar):
        """Policy iteration at the full degree on growing boxes, then from there at degree − 2."""
        n, bounds = problem.plant.n, box(problem.plant.inputs)
        z = np.concatenate([coll.value.middle, np.clip(np.zeros(problem.plant.m), *bounds)]) if rest is None else rest
        sizes = BOXES if self.start is None else (1.0,)
        policy: Any = _lqr(problem, local, z) if self.start is None else as_policy(self.start, problem)
        quiet = replace(coll, form=replace(coll.form, pairs=()), curvatures=coll.curvatures[:0])  # noise would cross a small box
        index = coll.value.index
        degrees = index.sum(1) if self.basis == "total" else index.max(1)
        columns = (degrees > 0) | (problem.generator.rho > 0)
        for k, size in enumerate(sizes):
            middle = (1 - size) * z[:n] + size * coll.value.middle
            part = replace(coll if size == 1 else quiet, value=replace(coll.value, middle=middle, half=size * coll.value.half))
            run = _iterate(part, columns, policy(part.x), self.iterations, lambda text: bar.to((k + 0.5) / 4, text))  # noqa: B023
            policy = _policy(part, replace(part.value, coefficients=run.c))
        coarse = _iterate(coll, columns & (degrees <= max(self.degree - 2, 1)), run.u, self.iterations, lambda text: bar.to(0.9, text))
        return run, coarse

    def _reference(self, problem, coll, runs, value, local, rest):
        fine, policy = runs[1], _policy(coll, value)
        reward = float(np.max(np.abs(_rates(coll.generator, coll.form.pairs, coll.x, fine.u)[0])))
        residual = float(np.max(np.abs(fine.residual[coll.count :])))
        terms = _error_terms(coll, runs, _time_constant(problem, local, policy, rest, coll.x.shape))
        outward = _outward(coll, fine.u)
        faults = list(self._faults(problem, fine, residual / reward, terms, float(np.ptp(coll.phi @ fine.c)), outward))
        names = ("iteration", "residual", "change")
        return Reference(
            method="Spectral",
            kernel=problem.kernel,
            states=problem.plant.states,
            inputs=problem.plant.inputs,
            value=value,
            policy=policy,
            rule=problem.plant.law.quadrature(5),
            error=float(sum(terms.values())),
            error_kind="estimated",
            error_terms=terms,
            converged=not faults,
            residual=residual,
            message=" ".join(faults) or f"HJB residual {residual:.2e} per second off the nodes, {residual / reward:.1e} of max |ℓ|.",
            iterations=len(fine.rows),
            notes=tuple(_notes(outward)),
            history={name: np.array([row[k] for row in fine.rows]) for k, name in enumerate(names)},
        )

    def _faults(self, problem, fine, relative, terms, scale, outward):
        """Sentences saying why the result is not to be trusted."""
        stable = "give a `start` that stabilises the box"
        if not relative <= self.tolerance:
            yield (
                f"The HJB residual is {relative:.1e} of max |ℓ|, above {self.tolerance:.0e}: raise `degree`, shrink the box or {stable}; "
                "a V with kinks needs rc.GridDP."
            )
        if not fine.settled:
            yield f"Policy iteration did not settle in {len(fine.rows)} steps: raise `iterations` or {stable}."
        if not terms["rounding"] <= self.tolerance * scale:
            yield "The equation does not single out V on this box, as where noise crosses its faces: lower `degree` or enlarge the box."
        if not np.isfinite(terms["residual"]):
            yield f"The closed loop found is not stable at rest, so this is not the optimal solution: {stable}."
        if problem.exit != "free" and outward > 0:
            yield f'The closed loop leaves {100 * outward:.0f} % of the faces, where exit="{problem.exit}" would act: use exit="free".'


def _policy(coll, value):
    form = coll.form
    return HamiltonianPolicy(coll.generator, value, form.inputs, form.pairs if form.noise_in_input else (), form.quadratic)


def _check(problem):
    for s in problem.plant.states:
        require(np.isfinite(s.high - s.low), s.name, "needs finite bounds for Chebyshev points", (s.low, s.high), "Give low and high.")
        require(not s.periodic, s.name, "must not be periodic: Chebyshev sums do not turn", s.label, "Use rc.GridDP.")
    require(problem.target is None, "target", "is not known to Spectral", problem.target, "Use rc.GridDP.")


def _check_rest(problem, rest, local):
    """Without discount the value is finite only if rest is free of cost and noise."""
    if problem.generator.rho > 0:
        return
    way_out, n = "Use gamma < 1.", problem.plant.n
    require(rest is not None, "gamma", "must be below 1 without a point of rest in the box", problem.gamma, way_out)
    sigma = np.array(problem.plant.diffusion_function(rest[:n], rest[n:], problem.plant.parameter_vector))
    cost, noise = abs(float(local(rest)[0][0, 0])), np.max(np.abs(sigma), initial=0.0)
    require(cost < 1e-8, "gamma", f"must be below 1 where rest costs {cost:.1e} per second", problem.gamma, way_out)
    require(noise < 1e-8, "gamma", "must be below 1 where noise acts at rest", problem.gamma, way_out)


def _error_terms(coll, runs, time):
    """The three parts of the error statement of the module's docstring."""
    coarse, fine = runs
    sup = [float(np.max(np.abs(run.residual[coll.count :]))) / run.sigma for run in runs]
    change = float(np.max(np.abs(coll.phi[:, 1:] @ (fine.c - coarse.c)[1:])))
    fall = min(np.sqrt(sup[1] / sup[0]), 0.9) if sup[0] > 0 else 0.9
    rounding = EPS * float(np.linalg.norm(coll.phi @ fine.c)) / fine.sigma
    return {"residual": time * sup[1] * fine.sigma, "degree": change * fall / (1 - fall), "rounding": rounding}


def _outward(coll, u):
    """Share of the judging points on the faces through which the closed loop, or its noise, leaves the box."""
    faces = slice(-len(coll.normals), None)
    _, drift, spread = (np.asarray(a)[faces] for a in _rates(coll.generator, coll.form.pairs, coll.x, u))
    noise = np.zeros(len(drift))
    for k, (i, j) in enumerate(coll.form.pairs):
        noise += spread[:, k] * np.abs(coll.normals[:, i]) * (i == j)
    return float(np.mean((np.sum(drift * coll.normals, -1) > 0) | (noise > 0)))


def _notes(outward):
    yield "V is that of continuous time; Q is the one-step backup of the sampled problem, whose own V differs by O(dt)."
    if outward > 0:
        yield f"The closed loop leaves through {100 * outward:.0f} % of the faces: there V rests on its smooth continuation from inside."
