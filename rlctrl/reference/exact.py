"""A closed form as a `Reference`, verified before it is believed: Bellman (T2) or HJB (T4) residual at random points of the box."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import casadi as ca
import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.casadi_jax import JaxFunction
from rlctrl.errors import InputError, require, require_number, require_whole, strict
from rlctrl.maximise import InputSet, maximise
from rlctrl.plant import as_matrix, box, closed, finite_box
from rlctrl.policy import Policy
from rlctrl.reference.base import Backup, Reference, evaluate_q, evaluate_value
from rlctrl.tree import record
from rlctrl.undefined import undefined


@record(static=("function",))
@dataclass(frozen=True, eq=False)
class ClosedValue:
    """V(x) from a CasADi expression."""

    function: JaxFunction

    def at(self, x):
        """V (...) at x (..., n)."""
        return self.function(x)


@record(static=("function",))
@dataclass(frozen=True, eq=False)
class ClosedQ:
    """Q(x, u) from a CasADi expression."""

    function: JaxFunction

    def at(self, x, u):
        """Q (...) at x (..., n), u (..., m)."""
        return self.function(x, u)


@record(static=("function",))
@dataclass(frozen=True, eq=False)
class ClosedPolicy(Policy):
    """u = π(x) from a CasADi expression."""

    function: JaxFunction

    @property
    def n(self):
        return self.function.sizes[0]

    def act(self, x):
        return self.function(x)


@strict
@dataclass(frozen=True, eq=False)
class Exact:
    """A known V*, as CasADi expressions `V(x)`, `policy(x)` (m expressions) and, if known in closed form, `Q(x, u)` (else the one-step
    backup).

    `solve` accepts it only if the residual at `points` random points of the box stays below `tolerance` relative to the range of V there:
    |max_u Q(x,u) − V(x)| with the inputs' maximum searched for and compared with the policy's; with `hjb=True` instead the HJB
    equation,
    |ρV − max_u{…}|, for a V of the continuous-time problem (then Q is the backup of that V, off by O(dt²) a step). Noise is integrated at
    `quadrature` nodes a channel, 9 unless given, 5 beyond three channels. Raises `InputError` with the point where it fails.
    """

    V: Callable
    policy: Callable
    Q: Callable | None = None
    hjb: bool = False
    tolerance: float = 1e-9
    points: int = 512
    quadrature: int | None = None

    def __post_init__(self):
        for name, needed in (("V", True), ("policy", True), ("Q", False)):
            given = getattr(self, name)
            good = callable(given) or (given is None and not needed)
            require(good, name, "must be a function that returns CasADi expressions", given, "Use a lambda.")
        require(isinstance(self.hjb, bool), "hjb", "must be True or False", self.hjb, "Use True for a V of continuous time.")
        require_number("tolerance", self.tolerance, "must be a positive number", "Use 1e-9.", low=1e-300)
        require_whole("points", self.points, 1, "Use 512.")
        if self.quadrature is not None:
            require_whole("quadrature", self.quadrature, 1, "Leave it out to use the default.")

    def solve(self, problem, progress=False):  # noqa: ARG002 - a few evaluations need no bar
        """The reference, if the residual allows; `rc.solve` calls this."""
        x, u = ca.SX.sym("x", problem.plant.n), ca.SX.sym("u", problem.plant.m)
        value = ClosedValue(self._function(problem, "V", [x], 1))
        policy = ClosedPolicy(self._function(problem, "policy", [x], problem.plant.m))
        rule = problem.plant.law.quadrature(self.quadrature or (9 if problem.plant.law.q <= 3 else 5))
        closed = None if self.Q is None else ClosedQ(self._function(problem, "Q", [x, u], 1))
        residual, scale = self._verify(problem, value, policy, Backup(problem.kernel, value, rule), closed)
        error = residual / (1 - problem.gamma) if problem.gamma < 1 else residual
        return Reference(
            method="Exact",
            kernel=problem.kernel,
            states=problem.plant.states,
            inputs=problem.plant.inputs,
            value=value,
            policy=policy,
            rule=rule,
            closed_form=closed,
            error=error,
            error_kind="estimated",
            error_terms={"residual": error},
            converged=True,
            residual=residual,
            message=f"{self._equation} residual {residual:.1e} (V ranges over {scale:.3g}) at {self.points} points.",
            iterations=0,
        )

    def _function(self, problem, name, symbols, size):
        """One of the functions given, compiled."""
        plain = lambda *a: getattr(self, name)(*a[:-1])  # without the plant's parameters
        value = as_matrix(problem.plant.evaluate(name, plain, *symbols, vector=ca.SX(problem.plant.parameter_vector)), name, (size, 1))
        return JaxFunction(closed(name, symbols, value), () if name in ("V", "Q") else (size,))

    @property
    def _equation(self):
        return "HJB" if self.hjb else "Bellman"

    def _verify(self, problem, value, policy, backup, closed):
        """Largest residual, and the range of V; refuses what is not a solution."""
        low, high = finite_box((*problem.plant.states, *problem.plant.inputs))
        n = problem.plant.n
        z = np.random.default_rng(0).uniform(low, high, (self.points, len(low)))
        x, u = z[:, :n], z[:, n:]
        v = np.asarray(evaluate_value(value, x))
        scale = float(np.ptp(v) + 1e-4 * np.max(np.abs(v))) + 1e-300  # of a constant V its size counts
        if self.hjb:
            gap = np.asarray(_hjb_gap(problem.generator, value, x, policy(x)))
        else:
            gap = np.asarray(evaluate_q(backup, x, policy(x))) - v
            better = np.asarray(_best(backup, _around(problem.plant.inputs), x, policy(x))) - v
            gap = np.where(np.abs(better) > np.abs(gap), better, gap)
            if closed is not None:
                off = np.asarray(evaluate_q(closed, x, u)) - np.asarray(evaluate_q(backup, x, u))
                gap = np.where(np.abs(off) > np.abs(gap), off, gap)
        worst = int(np.argmax(np.abs(gap)))  # NaN, if there is one
        if not np.isfinite(gap[worst]) and (found := undefined(problem, x, policy(x)[:, None], u[:, None])):
            raise InputError(found)
        if not abs(gap[worst]) <= self.tolerance * scale:
            raise InputError(
                f"`V` must solve the {self._equation} equation; at x={x[worst].round(4).tolist()} the residual is {gap[worst]:.3g}, "
                f"{abs(gap[worst]) / scale:.1e} of V's range. Check signs (reward is maximised), discount, dt, input box and exit rule."
            )
        return float(abs(gap[worst])), scale


def _around(signals) -> InputSet:
    """Offsets to look for a better input than the policy's: coarse ones over the box (±1 where it is unbounded), refined from there."""
    low, high = finite_box(signals)
    offsets = np.array(list(itertools.product(*[np.linspace(-1, 1, 5) * (b - a) for a, b in zip(low, high, strict=True)])))
    return InputSet(offsets, (high - low) / 4, *box(signals), ((),) * len(signals))


@jax.jit
def _best(q, inputs, x, u):
    start = jnp.clip(u[:, None, :] + inputs.candidates, inputs.low, inputs.high)
    return maximise(lambda u: q.at(x[:, None, :], u), inputs, start)[1]


@jax.jit
def _hjb_gap(generator, value, x, u):
    """ℓ + ∇V·b + ½ tr(σσᵀ∇²V) − ρV under the policy, and never less than at random other inputs."""
    slope, bend = jax.vmap(jax.grad(value.at))(x), jax.vmap(jax.hessian(value.at))(x)

    def hamiltonian(u):
        flow = jnp.sum(slope * generator.drift(x, u), -1)
        return generator.reward_rate(x, u) + flow + 0.5 * jnp.einsum("kij,kij->k", generator.covariance(x, u), bend)

    best = hamiltonian(u)
    for shift in np.random.default_rng(1).normal(size=(8, u.shape[-1])):
        best = jnp.maximum(best, hamiltonian(u + 0.1 * shift))
    return best - generator.rho * value.at(x)
