"""A closed form as a `Reference`, verified before it is believed: Bellman (T2) or HJB (T4) residual at random points of the box."""

from collections.abc import Callable
from dataclasses import dataclass

import casadi as ca
import numpy as np

from rlctrl.casadi_jax import JaxFunction
from rlctrl.errors import InputError, require, require_number, require_whole, strict
from rlctrl.plant import as_matrix, closed, finite_box, outside_inputs
from rlctrl.policy import Policy
from rlctrl.reference.base import Backup, Reference, evaluate_q, evaluate_value
from rlctrl.reference.verification import around, bellman_gaps, boundary_gaps, hjb_gaps, left_over
from rlctrl.tree import record
from rlctrl.undefined import undefined


@record(arrays=("function",))
@dataclass(frozen=True, eq=False)
class ClosedValue:
    """V(x) from a CasADi expression."""

    function: JaxFunction

    def at(self, x):
        """V (...) at x (..., n)."""
        return self.function(x)


@record(arrays=("function",))
@dataclass(frozen=True, eq=False)
class ClosedQ:
    """Q(x, u) from a CasADi expression."""

    function: JaxFunction

    def at(self, x, u):
        """Q (...) at x (..., n), u (..., m)."""
        return self.function(x, u)


@record(arrays=("function",))
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

    `solve` accepts it only if the policy keeps to the inputs' bounds and values and the residual at `points` random points of the box stays
    below `tolerance` relative to the range of V there: |max_u Q(x,u) − V(x)| with the inputs' maximum searched for and compared with the
    policy's; with `hjb=True` instead the HJB equation, |ρV − max_u{…}|, and its conditions at walls and ends, for a V of the
    continuous-time problem (then Q is the backup of that V, off by O(dt²) a step). Where the equation alone does not single out V*
    (γ = 1, exit="free", unbounded states) what is left along closed-loop paths must vanish too, γ^k V(x_k) → 0 (see `verification`). Noise
    is integrated at `quadrature` nodes a channel, 9 unless given, 5 beyond three channels. Raises `InputError` with the point where it
    fails.
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
        require(not self.hjb or self.Q is None, "Q", "must be left out with hjb=True, where it is the backup of V", self.Q, "Leave it out.")
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
        residual, terms, scale = self._verify(problem, value, policy, Backup(problem.kernel, value, rule), closed)
        return Reference(
            method="Exact",
            kernel=problem.kernel,
            states=problem.plant.states,
            inputs=problem.plant.inputs,
            value=value,
            policy=policy,
            rule=rule,
            closed_form=closed,
            error=float(sum(terms.values())),
            error_kind="estimated",
            error_terms=terms,
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
        """Largest residual, the terms of the error, and the range of V; refuses what is not a solution."""
        low, high = finite_box((*problem.plant.states, *problem.plant.inputs))
        n = problem.plant.n
        z = np.random.default_rng(0).uniform(low, high, (self.points, len(low)))
        x, u = z[:, :n], policy(z[:, :n])
        v = np.asarray(evaluate_value(value, x))
        scale = float(np.ptp(v) + 1e-4 * np.max(np.abs(v))) + 1e-300  # of a constant V its size counts
        self._check_inputs(problem, x, u)
        inputs = around(problem.plant.inputs)
        if self.hjb:
            gap = np.asarray(hjb_gaps(problem.generator, problem.kernel, value, inputs, x, u))
        else:
            gap = np.asarray(bellman_gaps(backup, value, inputs, x, u))
            if closed is not None:
                off = np.asarray(evaluate_q(closed, x, z[:, n:])) - np.asarray(evaluate_q(backup, x, z[:, n:]))
                gap = np.where(np.abs(off) > np.abs(gap), off, gap)
        residual = self._checked(problem, x, gap, np.stack([u, z[:, n:]], 1), scale)
        if self.hjb:
            places, gap = boundary_gaps(problem, value, policy, x)
            residual = max(residual, self._checked(problem, places, gap, policy(places)[:, None], scale))
        return residual, self._error(problem, value, policy, x, residual, scale), scale

    def _check_inputs(self, problem, x, u):
        """Raise `InputError` unless the policy's inputs u (N, m) at x keep to their bounds and values."""
        odd = np.argwhere(outside_inputs(problem.plant.inputs, u) & np.isfinite(u))
        if len(odd):
            (k, j), signals = odd[0], problem.plant.inputs
            rule = f"must keep {signals[j].name} within {signals[j].values or (signals[j].low, signals[j].high)}"
            require(False, "policy", f"{rule}; at x={x[k].round(4).tolist()} it", float(u[k, j]), "Clip it, or widen the input.")

    def _checked(self, problem, x, gap, inputs, scale):
        """The largest of the gaps (N,) at x, found with inputs (N, A, m) (0 of none); refused if above the tolerance."""
        if not len(gap):
            return 0.0
        worst = int(np.argmax(np.abs(gap)))  # NaN, if there is one
        if not np.isfinite(gap[worst]):
            found = undefined(problem, x, inputs)
            where = f"`V` must be finite, and so must policy and Q; at x={x[worst].round(4).tolist()} the residual is {gap[worst]:.3g}"
            raise InputError(found or f"{where}. Mend the expressions, or move the box to where they are defined.")
        if not abs(gap[worst]) <= self.tolerance * scale:
            raise InputError(
                f"`V` must solve the {self._equation} equation; at x={x[worst].round(4).tolist()} the residual is {gap[worst]:.3g}, "
                f"{abs(gap[worst]) / scale:.1e} of V's range. Check signs (reward is maximised), discount, dt, input box and exit rule."
            )
        return float(abs(gap[worst]))

    def _error(self, problem, value, policy, x, residual, scale):
        """The terms of the error: the residual summed over all steps, and at γ = 1 what is left of V after those that were made."""
        steps, left, vanishes = left_over(problem, value, policy, x, scale, self.tolerance * scale)
        if not vanishes:
            raise InputError(
                f"`V` must be what the policy earns, but {left:.3g} of it is still to come after {steps} steps of closed-loop paths, no "
                "less than before: it solves the equation, but is not the value. Check the policy's stability, and V at rest or at the end."
            )
        step = residual * (problem.dt if self.hjb else 1.0)
        return {"residual": step / (1 - problem.gamma)} if problem.gamma < 1 else {"residual": step * steps, "left": left}
