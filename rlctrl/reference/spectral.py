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


def _equilibrium(problem, generator):
    """(x, u) in the boxes with b = 0 where ℓ is greatest, searched from the point nearest to 0; None if none is found."""
    low, high = box((*problem.plant.states, *problem.plant.inputs))
    n = problem.plant.n
    start = np.clip(np.zeros(len(low)), low, high)
    loss = jax.jit(jax.value_and_grad(lambda z: -generator.reward_rate(z[:n], z[n:])))
    drift = jax.jit(lambda z: generator.drift(z[:n], z[n:]))
    rule = {"type": "eq", "fun": lambda z: np.asarray(drift(z)), "jac": lambda z: np.asarray(jax.jacfwd(drift)(z))}
    fun = lambda z: tuple(np.asarray(a) for a in loss(z))
    found = optimize.minimize(fun, start, jac=True, bounds=list(zip(low, high, strict=True)), constraints=[rule], options={"ftol": 1e-15})
    good = np.all(np.isfinite(found.x)) and np.max(np.abs(drift(found.x))) < 1e-8
    return (found.x[:n], found.x[n:]) if good else None


def _lqr(problem, generator, rest):
    """Linear feedback of the linearisation at rest: LQR with A − ρ/2·I and weights −½∇²ℓ made positive definite."""
    n, m = problem.plant.n, problem.plant.m
    low, high = box(problem.plant.inputs)
    x0, u0 = rest if rest else (0.5 * (np.asarray(generator.low) + np.asarray(generator.high)), np.clip(np.zeros(m), low, high))
    hessian = jax.jit(jax.hessian(lambda z: -0.5 * generator.reward_rate(z[:n], z[n:])))
    values, vectors = np.linalg.eigh(np.asarray(hessian(np.concatenate([x0, u0]))))
    W = (vectors * np.maximum(values, 1e-3 * max(values[-1], 1e-3))) @ vectors.T
    A, B = problem.plant.jacobian(x0, u0)
    try:
        P = linalg.solve_continuous_are(A - 0.5 * generator.rho * np.eye(n), B, W[:n, :n], W[n:, n:], s=W[:n, n:])
        K = np.linalg.solve(W[n:, n:], B.T @ P + W[n:, :n])
    except np.linalg.LinAlgError:
        K = np.zeros((m, n))
    return LinearPolicy(K, x0, u0, np.zeros(n)).clipped(low, high)


def _slowest(generator, policy, rest):
    """Time constant of the closed loop linearised at rest; infinite if it is not stable."""
    x0 = rest[0]
    steps = 1e-5 * (np.asarray(generator.high) - np.asarray(generator.low))
    rate = lambda x: np.asarray(generator.drift(x, policy(x)))
    A = np.stack([(rate(x0 + h) - rate(x0 - h)) / (2 * np.sum(h)) for h in np.diag(steps)], -1)
    growth = float(np.max(np.real(np.linalg.eigvals(A))))
    return -1 / growth if growth < 0 else float("inf")


@strict
@dataclass(frozen=True)
class Spectral:
    """Chebyshev collocation by policy iteration: V smooth, plant a diffusion, 1 to 6 states.

    `degree` of the Chebyshev sum, per state (`basis="tensor"`) or in total (`basis="total"`). `start`: a policy to begin with, which should
    stabilise the plant on the whole box (default: LQR of the linearisation at rest). `points`: collocation points per coefficient.
    `iterations`: most Gauss–Newton steps per degree. `inputs`: candidates per input where no closed form exists. `tolerance`: largest HJB
    residual off the points, relative to the largest |ℓ|, that counts as solved.
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

    def solve(self, problem, progress=False):
        generator = problem.generator
        _check(problem)
        rest = _equilibrium(problem, generator)
        if generator.rho == 0:
            _check_rest(generator, rest)
        form, value = _form(problem, self.inputs), self._blank(generator)
        coll = _Collocation.make(generator, form, value, self.basis, self.points)
        start = as_policy(self.start, problem) if self.start is not None else _lqr(problem, generator, rest)
        with Progress("Spectral", progress) as bar:
            ladder = self._ladder(coll, value, start, bar)
        c = ladder[-1][1].c.copy()
        if generator.rho == 0:
            c[0] -= float(replace(value, coefficients=c).at(jnp.asarray(rest[0])))
        value = replace(value, coefficients=c)
        policy = HamiltonianPolicy(generator, value, form.inputs, form.pairs if form.noise_in_input else (), form.quadratic)
        return self._reference(problem, coll, ladder, value, policy, rest)

    def _blank(self, generator):
        low, high = np.asarray(generator.low), np.asarray(generator.high)
        index = np.array(list(_indices(len(low), self.degree, self.basis == "total")))
        return ChebyshevValue(np.zeros(len(index)), index, 0.5 * (low + high), 0.5 * (high - low), int(self.degree))

    def _ladder(self, coll, value, start, bar):
        """Solve at degree d−4, d−2, d, each from the one before."""
        size = value.index.sum(1) if self.basis == "total" else value.index.max(1)
        degrees = [d for d in (self.degree - 4, self.degree - 2, self.degree) if d >= 2]
        c = np.zeros(len(size))
        u, residual = coll.improve(c)
        ladder = [(0, _Rung(c, u, residual, 1.0, True, ()))]
        for k, d in enumerate(degrees):
            columns = (size <= d) & ((size > 0) | (coll.rho > 0))
            if k == 0:
                c, _ = coll.evaluate(np.asarray(start(coll.x)), columns)
                u, residual = coll.improve(c)
            rung = _climb(coll, columns, c, u, residual, self.iterations, lambda text: bar.to(k / len(degrees), f"degree {d}, {text}"))
            c, u, residual = rung.c, rung.u, rung.residual
            ladder.append((d, rung))
        return ladder


    def _reference(self, problem, coll, ladder, value, policy, rest):
        generator, fine = coll.generator, ladder[-1][1]
        reward = float(np.max(np.abs(_rates(generator, (), coll.x, fine.u)[0])))
        time = 1 / coll.rho if coll.rho > 0 else _slowest(generator, policy, rest)
        terms = _error_terms(coll, ladder, time)
        residual = float(np.max(np.abs(fine.residual[coll.count :])))
        outward = _outward(coll, fine)
        faults = self._faults(problem, fine, residual / reward, terms, float(np.ptp(coll.phi @ fine.c)), outward)
        rows = [(d, *row) for d, rung in ladder for row in rung.rows]
        names = ("degree", "iteration", "residual", "change", "step")
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
            message=" ".join(faults) or f"HJB residual {residual:.2e} per second off the nodes, {residual / reward:.1e} of the largest |ℓ|.",
            iterations=len(rows),
            notes=tuple(_notes(outward)),
            history={name: np.array([row[k] for row in rows]) for k, name in enumerate(names)},
        )

    def _faults(self, problem, fine, relative, terms, scale, outward):
        """Sentences saying why the result is not to be trusted."""
        if not np.isfinite(relative) or relative > self.tolerance:
            yield_ = f"The HJB residual is {relative:.1e} of the largest |ℓ|, above {self.tolerance:.0e}: V is not smooth enough here for degree"
            return [f"{yield_} {self.degree}, or the start does not stabilise the box; raise `degree`, shrink the box or give `start`."]
        faults = []
        if not fine.settled:
            faults.append(f"Policy iteration did not settle in {len(fine.rows)} steps; raise `iterations` or give a stabilising `start`.")
        if not terms["rounding"] <= self.tolerance * scale:
            faults.append("The equation does not single out V on this box (noise crosses its boundary): lower `degree` or enlarge the box.")
        if not np.isfinite(terms["residual"]):
            faults.append("The closed loop found is not stable at rest, so this is not the optimal solution: give a stabilising `start`.")
        if problem.exit != "free" and outward > 0:
            faults.append(f'The box is left through {100 * outward:.0f} % of its faces, where exit="{problem.exit}" acts: use exit="free".')
        return faults


def _check(problem):
    for s in problem.plant.states:
        require(np.isfinite(s.high - s.low), s.name, "needs finite bounds for Chebyshev points", (s.low, s.high), "Give low and high.")
        require(not s.periodic, s.name, "must not be periodic: Chebyshev sums do not turn", s.label, "Use rc.GridDP.")
    require(problem.target is None, "target", "is not known to Spectral", problem.target, "Use rc.GridDP.")


def _check_rest(generator, rest):
    way_out = "Use gamma < 1."
    require(rest is not None, "gamma", "must be below 1 without a point of rest in the box", 1.0, way_out)
    cost = abs(float(generator.reward_rate(*rest)))
    noise = float(np.max(np.abs(generator.diffusion(*rest)), initial=0.0))
    require(cost < 1e-8 and noise < 1e-8, "gamma", "must be below 1 where rest costs something or is shaken", (cost, noise), way_out)


def _error_terms(coll, ladder, time):
    """The three parts of the error statement of the module's docstring."""
    off, (_, coarse), (_, fine) = slice(coll.count, None), *ladder[-2:]
    sup = [float(np.max(np.abs(rung.residual[off]))) for rung in (coarse, fine)]
    fall = sup[1] / fine.sigma / (sup[0] / coarse.sigma)
    values = [coll.phi[:, 1:] @ rung.c[1:] for rung in (coarse, fine)]
    change = float(np.max(np.abs(values[1] - values[0])))
    rounding = EPS * float(np.linalg.norm(coll.phi @ fine.c)) / fine.sigma
    return {"residual": time * sup[1], "degree": change * min(fall / max(1 - fall, 0.1), 10.0), "rounding": rounding}


def _outward(coll, fine):
    """Share of the judging points on the faces through which the closed loop, or its noise, leaves the box."""
    faces = slice(len(coll.x) - len(coll.normals), None)
    drift = np.asarray(coll.generator.drift(coll.x[faces], fine.u[faces]))
    noise = np.einsum("pi,pij->pj", coll.normals, np.asarray(coll.generator.diffusion(coll.x[faces], fine.u[faces])))
    return float(np.mean((np.sum(drift * coll.normals, -1) > 0) | np.any(np.abs(noise) > 0, -1)))


def _notes(outward):
    yield "V is that of continuous time; Q is the one-step backup of the sampled problem, whose own V differs by O(dt)."
    if outward > 0:
        yield f"The closed loop leaves through {100 * outward:.0f} % of the faces: there V rests on its smooth continuation from inside."
