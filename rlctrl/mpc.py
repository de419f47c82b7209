"""Model predictive control as a policy: at every state the problem without noise over a short horizon, by multiple shooting and IPOPT.

    maximise Σ_{k<N} γ^k r(x_k, u_k) + γ^N V_N(x_N)   subject to   x_{k+1} = Φ(x_k, u_k) at the mean of w,  u_k in its box

and the first input is applied (Rawlings, Mayne & Diehl, Model Predictive Control, 2nd ed. 2017, ch. 2; certainty equivalence). The box
of the states is no constraint: the problem's exit rule is left to the simulation.
"""

from collections.abc import Callable
from typing import NamedTuple

import casadi as ca
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rlctrl.errors import InputError, first_line, require, require_number, require_points, require_whole, strict
from rlctrl.plant import box, closed, periods
from rlctrl.policy import Policy
from rlctrl.problem import Problem

NEAR = 0.1  # of a state's scale: a state this close to the one foreseen continues the old plan


class _Plan(NamedTuple):
    """An optimum, kept to start from: variables, multipliers of bounds and constraints, and the state expected next."""

    z: np.ndarray
    bounds: np.ndarray
    constraints: np.ndarray
    expected: np.ndarray


@strict
class MPC(Policy):
    """Model predictive control of a `problem` as a policy, on the plant without noise.

    `horizon`: steps N looked ahead. `terminal`: V_N, a CasADi expression of x, as `lambda x: -x[0]**2`, or the Reference of
    `rc.Riccati(about=…)`, whose quadratic is taken (e → (T/π) sin(πe/T) on a state of period T); None for none. `tolerance` of IPOPT.
    Every state costs one nonlinear programme, 2–10 ms for twenty steps of a small plant, started from the last plan of the same path,
    moved by one step, where the state is near the one foreseen. `solved` counts programmes, `failed` those IPOPT gave up; there the plan
    it had reached is applied. Raises `InputError` for inputs with finitely many values and a terminal value that is not scalar.
    """

    def __init__(self, problem: Problem, horizon=20, terminal=None, tolerance=1e-6):
        require_whole("horizon", horizon, 1, "Use e.g. 20.")
        require_number("tolerance", tolerance, "must lie in [1e-12, 0.1]", "Use 1e-6.", 1e-12, 0.1)
        finite = [s.name for s in problem.plant.inputs if s.values]
        require(not finite, "problem", "must not have inputs limited to finitely many values", finite, "Use rc.GridDP.")
        self._plant, self._horizon = problem.plant, int(horizon)
        self._step = _step(problem)
        self._solver = _programme(problem, self._step, self._horizon, _terminal(problem, terminal), float(tolerance))
        low, high = box(problem.plant.states)
        self._scale = np.where(np.isfinite(high - low), high - low, 1.0)
        self._plans: list[_Plan | None] = []
        self.solved = self.failed = 0

    @property
    def n(self):
        """How many states it takes."""
        return self._plant.n

    def act(self, x):
        shape = jax.ShapeDtypeStruct((*x.shape[:-1], self._plant.m), jnp.float64)
        return jax.pure_callback(self._inputs, shape, x, vmap_method="expand_dims")

    @strict
    def __call__(self, x):
        return self.act(x) if isinstance(x, Tracer) else self._inputs(x)

    def _inputs(self, x):
        """First inputs (..., m) at x (..., n); row k of a batch continues the plan of row k of the batch before."""
        x = require_points("x", x, self.n)
        require(x.size > 0, "x", "must hold at least one state", x.shape, "Pass one row per state.")
        rows = x.reshape(-1, self.n)
        if len(self._plans) != len(rows):
            self._plans = [None] * len(rows)
        u = np.stack([self._input(k, row) for k, row in enumerate(rows)])
        return u.reshape(*x.shape[:-1], self._plant.m)

    def _input(self, k, x):
        plan = self._continued(self._plans[k], x) or self._fresh(x)
        size, (low, high) = self._plant.n * (self._horizon + 1), box(self._plant.inputs)
        bound = lambda side, at: np.concatenate([np.full(size, side * np.inf), np.tile(at, self._horizon)])
        found = self._solver(
            x0=plan.z, p=x, lbx=bound(-1, low), ubx=bound(1, high), lbg=0, ubg=0, lam_x0=plan.bounds, lam_g0=plan.constraints
        )
        z, bounds, constraints = (np.array(found[name]).ravel() for name in ("x", "lam_x", "lam_g"))
        good = bool(self._solver.stats()["success"]) and bool(np.all(np.isfinite(z)))
        self.solved += 1
        self.failed += not good
        z = z if np.all(np.isfinite(z)) else plan.z
        self._plans[k] = _Plan(z, bounds, constraints, z[self._plant.n : 2 * self._plant.n]) if good else None
        return np.clip(z[size : size + self._plant.m], low, high)

    def _continued(self, plan, x):
        """A plan moved by one step, its states by whole turns, if x is near the one it foresaw."""
        if plan is None:
            return None
        n, m, N = self._plant.n, self._plant.m, self._horizon
        turn = periods(self._plant.states)
        gap = x - plan.expected
        turns = np.where(turn > 0, turn * np.round(gap / np.where(turn > 0, turn, 1.0)), 0.0)
        if np.any(np.abs(gap - turns) > NEAR * self._scale):
            return None
        xs, us = plan.z[: n * (N + 1)].reshape(N + 1, n) + turns, plan.z[n * (N + 1) :].reshape(N, m)
        us = np.vstack([us[1:], us[-1:]])
        xs = np.vstack([xs[1:], np.array(self._step(xs[-1], us[-1])[0]).T])
        return plan._replace(z=np.concatenate([xs.ravel(), us.ravel()]))

    def _fresh(self, x):
        """The plant left alone, at the input nearest to zero."""
        u = np.clip(np.zeros(self._plant.m), *box(self._plant.inputs))
        xs = [x]
        for _ in range(self._horizon):
            following = np.array(self._step(xs[-1], u)[0]).ravel()
            xs.append(following if np.all(np.abs(following - x) <= 100 * self._scale) else xs[-1])  # also false for NaN
        z = np.concatenate([*xs, np.tile(u, self._horizon)])
        return _Plan(z, np.zeros(z.size), np.zeros(self._plant.n * (self._horizon + 1)), xs[1])


jax.tree_util.register_static(MPC)


def _step(problem) -> ca.Function:
    """(x, u) → Φ(x, u) at the mean of w, r(x, u)."""
    x, u = ca.SX.sym("x", problem.plant.n), ca.SX.sym("u", problem.plant.m)
    p, w = ca.DM(problem.plant.parameter_vector), ca.DM(np.asarray(problem.plant.law.mean))
    kernel = problem.kernel
    return ca.Function("step", [x, u], [kernel.update.symbolic(x, u, w, p), kernel.reward_function.symbolic(x, u, p)])


def _programme(problem, step, steps, terminal, tolerance) -> ca.Function:
    """IPOPT; the parameter is x_0, the variables x_0 … x_N, u_0 … u_{N−1}."""
    x, u = ca.SX.sym("x", problem.plant.n, steps + 1), ca.SX.sym("u", problem.plant.m, steps)
    start, gamma = ca.SX.sym("start", problem.plant.n), problem.gamma
    pairs = [step(x[:, k], u[:, k]) for k in range(steps)]
    gain = sum(gamma**k * r for k, (_, r) in enumerate(pairs)) + gamma**steps * terminal(x[:, -1])
    gaps = ca.vertcat(x[:, 0] - start, *(x[:, k + 1] - following for k, (following, _) in enumerate(pairs)))
    ipopt = {"print_level": 0, "sb": "yes", "tol": tolerance, "max_iter": 200, "warm_start_init_point": "yes", "mu_init": 1e-2}
    options = {"ipopt": ipopt, "print_time": False, "show_eval_warnings": False, "error_on_fail": False}
    return ca.nlpsol("mpc", "ipopt", {"x": ca.veccat(x, u), "f": -gain, "g": gaps, "p": start}, options)


def _terminal(problem, given) -> Callable:
    """V_N as a function of CasADi states."""
    if given is None:
        return lambda x: 0.0
    if hasattr(given, "value") and all(hasattr(given.value, name) for name in ("P", "p", "s")):
        return lambda x: _quadratic(given.value, x)
    require(
        callable(given), "terminal", "must be a function of x, or a Reference by Riccati", given, "Use rc.solve(problem, rc.Riccati())."
    )
    try:
        x = ca.SX.sym("x", problem.plant.n)
        value = closed("terminal", [x], ca.SX(given(x))).size_out(0)
    except InputError:
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"`terminal` failed on CasADi symbols: {text}. Return an expression such as -x[0]**2.") from None
    require(value == (1, 1), "terminal", "must return one number", value, "Use ca.dot or ca.sum1.")
    return given


def _quadratic(value, x):
    """−(ξᵀPξ + 2pᵀξ + s); on a turning state ξ is the sine that agrees with it near x0."""
    xi = []
    for k, period in enumerate(np.asarray(value.period)):
        e = x[k] - float(value.x0[k])
        xi.append(float(period) / np.pi * ca.sin(np.pi / float(period) * e) if period else e)
    xi = ca.vertcat(*xi)
    return -(ca.bilin(ca.DM(np.asarray(value.P)), xi, xi) + 2 * ca.dot(ca.DM(np.asarray(value.p)), xi) + float(value.s))
