"""Riccati equations as a reference: sampled, exactly sampled, or continuous time (B1–B3; data and solvers in `lq`, `lq_continuous`)."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.errors import require, strict
from rlctrl.plant import box, periods
from rlctrl.policy import LinearPolicy, wrapped
from rlctrl.reference.base import Reference
from rlctrl.reference.lq import lq_of
from rlctrl.reference.lq_continuous import continuous_lq_of
from rlctrl.tree import record

TIMES = ("sampled", "exact", "continuous")


@record(arrays=("P", "p", "s", "x0", "period"))
@dataclass(frozen=True, eq=False)
class QuadraticValue:
    """V(x) = −(ξᵀPξ + 2pᵀξ + s), ξ = x − x0."""

    P: Any
    p: Any
    s: Any
    x0: Any
    period: Any

    def at(self, x):
        """V (...) at x (..., n)."""
        xi = wrapped(x - self.x0, self.period)
        return -(jnp.einsum("...i,ij,...j->...", xi, self.P, xi) + 2 * xi @ jnp.asarray(self.p) + self.s)


@record(arrays=("value", "policy", "M"))
@dataclass(frozen=True, eq=False)
class QuadraticQ:
    """Q(x, u) = V(x) − (u − u*)ᵀM(u − u*), u* the unclipped optimal input."""

    value: QuadraticValue
    policy: LinearPolicy
    M: Any

    def at(self, x, u):
        """Q (...) at x (..., n), u (..., m)."""
        gap = u - self.policy.act(x)
        return self.value.at(x) - jnp.einsum("...i,ij,...j->...", gap, self.M, gap)


@strict
@dataclass(frozen=True)
class Riccati:
    """Exact solution of a linear-quadratic problem; with `about=(x0, u0)`, of the linearisation at that point.

    `time="sampled"` solves the problem as its kernel samples it. For a diffusion, `time="continuous"` solves the continuous-time problem,
    and `time="exact"` the problem sampled exactly with the input held (transition, noise, discount and running cost integrated over
    `dt`); their V differ from the sampled one by what Euler–Maruyama and r = ℓ·dt leave out. Additive and multiplicative noise, affine
    drift, linear and cross terms are all included. The input box and the exit rule are ignored, as LQR does; `notes` says on which part
    of the state box the gain respects the inputs. The error is proven (from the Riccati residual) for an LQ problem; for a linearisation
    it is estimated: sup of |T^K V − V|/(1−γ). For a problem that ends, or inputs of finitely many values, it is infinite: nothing is
    known of it. Raises `InputError` if the problem is not LQ (naming the entry that varies), if the maximum does not exist, or if no
    stabilising solution exists.
    """

    about: tuple | None = None
    time: str = "sampled"

    def __post_init__(self):
        require(self.time in TIMES, "time", f"must be one of {TIMES}", self.time, 'Use "sampled".')

    def _data(self, problem):
        if self.time == "sampled":
            return lq_of(problem, self.about)
        continuous, point = continuous_lq_of(problem, self.about)
        return (continuous.sampled(problem.dt) if self.time == "exact" else continuous), point

    def solve(self, problem, progress=False):  # noqa: ARG002 - a few matrix operations need no bar
        """The reference; `rc.solve` calls this."""
        lq, (x0, u0) = self._data(problem)
        found = lq.solve()
        period = periods(problem.plant.states)
        policy = LinearPolicy(found.K, x0, u0 - found.shift, period)
        value = QuadraticValue(found.P, found.p, found.s, x0, period)
        residual = float(np.max(np.abs(found.residual)))
        rule = problem.plant.law.quadrature(5)
        proven = self.about is None and not _unknown(problem)
        terms = {"riccati_residual": _proven(found, problem)} if proven else _estimated(problem, value, policy, rule)
        return Reference(
            method="Riccati" if self.about is None else "Riccati (linearised)",
            kernel=problem.kernel,
            states=problem.plant.states,
            inputs=problem.plant.inputs,
            value=value,
            policy=policy,
            rule=rule,
            closed_form=None if self.time == "continuous" else QuadraticQ(value, policy, found.M),
            error=sum(terms.values()),
            error_kind="proven" if proven else "estimated",
            error_terms=terms,
            converged=True,
            residual=residual,
            message=f"Riccati residual {residual:.1e} after {found.steps} Newton steps.",
            iterations=found.steps,
            notes=tuple(_notes(problem, lq.spectral_radius(found.K), policy)),
        )


def _proven(found, problem):
    """Bound on |V − V*| over the box (|x_i| ≤ 1 where unbounded) from the Riccati residual: the residual summed along the closed loop."""
    P, n, eps = found.P, len(found.P), np.finfo(float).eps
    size = np.linalg.norm(found.residual, 2) + 8 * eps * np.max(np.abs(P)) * n
    low, high = box(problem.plant.states)
    reach = np.where(np.isfinite(high - low), np.maximum(np.abs(low), np.abs(high)), 1.0)
    rounding = 8 * eps * (abs(float(found.s)) + reach @ np.abs(P) @ reach)
    return float(2 * size * (np.linalg.norm(found.total, 2) * reach @ reach + found.total_constant) + rounding)


def _estimated(problem, value, policy, rule):
    """Infinite where something is unknown to Riccati. Else that of the linearisation: the sup over the box of |T^K V − V|/(1−γ), inputs
    clipped to their box, which is how far the value is from consistent."""
    if unknown := _unknown(problem):
        return dict.fromkeys(unknown, float("inf"))
    (low, high), (u_low, u_high) = box(problem.plant.states), box(problem.plant.inputs)
    if problem.gamma == 1 or not np.all(np.isfinite(high - low)):
        return {"linearisation": float("inf")}
    x = np.random.default_rng(0).uniform(low, high, (4096, problem.plant.n))
    gap = _consistency(problem.kernel, value, policy.clipped(u_low, u_high), rule, x)
    return {"linearisation": float(np.max(np.abs(gap)) / (1 - problem.gamma))}


def _unknown(problem) -> dict[str, str]:
    """What of a problem Riccati does not know, so that no error is stated: {term: note}. To end may pay more than V says, and inputs of
    finitely many values allow less."""
    found = {}
    if problem.kernel.can_end:
        found["ends"] = "no end: V and the gain are those of the problem that goes on for ever. Ends may pay more"
    if names := [s.name for s in problem.plant.inputs if s.values]:
        found["finite_inputs"] = f"no inputs of finitely many values ({', '.join(names)}): the gain gives others"
    return {term: f"Riccati knows {said}: no error is stated." for term, said in found.items()}


@jax.jit
def _consistency(kernel, value, policy, rule, x):
    return kernel.backup(value.at, x, policy.act(x), rule) - value.at(x)


def _notes(problem, radius, policy):
    unknown = _unknown(problem)
    yield from unknown.values()
    if radius >= 1:
        yield f"The optimal closed loop is unstable without discount: spectral radius {radius:.6g} ≥ 1."
    (low, high), (u_low, u_high) = box(problem.plant.states), box(problem.plant.inputs)
    if np.all(np.isfinite(high - low)) and np.any(np.isfinite([u_low, u_high])) and "finite_inputs" not in unknown:
        u = policy(np.random.default_rng(0).uniform(low, high, (20_000, len(low))))
        share = float(np.mean(np.all((u >= u_low) & (u <= u_high), -1)))
        yield f"The gain respects the input box on {100 * share:.1f} % of the state box; the box itself is ignored."
