"""`Reference`: V*, Q* and π* with an error statement, whatever method produced them; `solve` dispatches to the method."""

import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.errors import NotConverged, require, require_points, require_together, require_whole, strict
from rlctrl.kernel import Kernel
from rlctrl.kinds import FilePath
from rlctrl.maximise import input_set, maximise
from rlctrl.plant import box, limits
from rlctrl.policy import Policy
from rlctrl.problem import Problem
from rlctrl.result import Result
from rlctrl.storage import fingerprint, load_record, save_record
from rlctrl.tree import record, saved


@record(arrays=("kernel", "value", "rule"))
@dataclass(frozen=True, eq=False)
class Backup:
    """(T3) Q(x, u) = r + γ E V(X_+) by quadrature."""

    kernel: Kernel
    value: Any
    rule: tuple

    def at(self, x, u):
        """Q (...) at x (..., n), u (..., m)."""
        return self.kernel.backup(self.value.at, x, u, self.rule)


@saved
@dataclass(frozen=True, eq=False)
class Reference(Result):
    """The optimal value of a problem, as functions, with what is known about its error.

    `V(x)`, `Q(x, u)`, `gradient(x)` (∇V) and `policy(x)` take finite numbers (arrays, or lists) with last axis n (m) and any leading axes,
    empty ones too, and refuse all else. Q is the one-step backup of V (T3) unless the method knows it in closed form. `error` bounds
    |V − V*| over the box; `error_kind` is "proven" or "estimated";
    `error_terms` lists its parts. `converged` says whether the `method` reached its tolerance, `message` how it ended, `notes` what else
    the user should know; `residual` is the sup of |TV − V| where the method measured it, `iterations` and `history` (one row each) the way
    there, `seconds` how long it took. `kernel`, `states` and `inputs` are those of the problem; `value`, `policy`, `closed_form` (Q, if
    known) are JAX pytrees, `rule` the quadrature.
    """

    method: str
    kernel: Kernel
    states: tuple
    inputs: tuple
    value: Any
    policy: Policy
    rule: tuple
    error: float
    error_kind: str
    error_terms: dict
    converged: bool
    residual: float
    message: str
    iterations: int
    closed_form: Any = None
    notes: tuple = ()
    history: dict = field(default_factory=dict)
    seconds: float = 0.0

    @strict
    def V(self, x) -> np.ndarray:
        """V*(x), shape (...), at states x (..., n)."""
        return np.asarray(evaluate_value(self.value, require_points("x", x, len(self.states))))

    @strict
    def Q(self, x, u) -> np.ndarray:
        """Q*(x, u), shape (...), at states (..., n) and inputs (..., m); leading axes broadcast."""
        x, u = require_points("x", x, len(self.states)), require_points("u", u, len(self.inputs))
        require_together(x=x, u=u)
        return np.asarray(evaluate_q(self.q, x, u))

    @strict
    def gradient(self, x) -> np.ndarray:
        """∇V*(x), shape (..., n)."""
        return np.asarray(_gradient(self.value, require_points("x", x, len(self.states))))

    def __repr__(self):
        ended = "converged" if self.converged else "NOT converged"
        return f"Reference({self.method}, {ended}, error {self.error:.3g} {self.error_kind}: {self.message})"

    @cached_property
    def q(self):
        """Q* as a JAX pytree with `at(x, u)`."""
        return self.closed_form or Backup(self.kernel, self.value, self.rule)

    def is_of(self, problem) -> bool:
        """Whether it is a reference of that problem: the same kernel and the same inputs."""
        mine, theirs = (self.kernel, limits(self.inputs)), (problem.kernel, limits(problem.plant.inputs))
        return fingerprint(mine) == fingerprint(theirs)

    @strict
    def certify(self, points=2000, seed=0, inputs=41) -> float:
        """Sup of the Bellman residual |max_u Q(x,u) − V(x)| over random states of the box (off the nodes), by `inputs` candidates a
        side (see `bellman_residual`)."""
        low, high = np.asarray(self.kernel.low), np.asarray(self.kernel.high)
        require_whole("points", points, 1, "Use e.g. 2000.")
        require_whole("seed", seed, 0, "Use 0.")
        bounded = bool(np.all(np.isfinite(high - low)))
        require(bounded, "states", "must be bounded to draw points from the box", (low, high), "Give the states low and high.")
        x = np.random.default_rng(seed).uniform(low, high, (points, len(low)))
        return float(np.max(np.abs(self.bellman_residual(x, inputs))))

    @strict
    def bellman_residual(self, x, inputs=41) -> np.ndarray:
        """max_u Q(x,u) − V(x), shape (...), at states x (..., n), the maximum searched from `inputs` candidates a side: where an input has
        no bounds, in three times the range that the policy takes at these states. Where the problem has ended, exit value less V."""
        x = require_points("x", x, len(self.states))
        points = x.reshape(-1, len(self.states))
        found = _residual(self.kernel, self.q, self.value, input_set(self._searched(points), inputs), points)
        return np.asarray(found).reshape(x.shape[:-1])

    def affordable(self, points):
        """How many of `points` points a table or a figure should ask for; fewer where each takes long."""
        return points

    def _searched(self, x):
        """The inputs, with bounds around what the policy gives at states (k, n) where they have none."""
        u, (low, high) = self.policy(x), box(self.inputs)
        least, most = np.min(u, 0, initial=0.0), np.max(u, 0, initial=0.0)
        reach = np.where(most > least, most - least, 1.0)
        low = np.where(np.isfinite(low), low, np.minimum(least, high) - reach)
        high = np.where(np.isfinite(high), high, np.maximum(most, low) + reach)
        return [s if s.values else replace(s, low=a, high=b) for s, a, b in zip(self.inputs, low, high, strict=True)]

    @strict
    def save(self, path: FilePath):
        """Write everything to one .npz file; returns its path."""
        return save_record(self, path)

    @staticmethod
    @strict
    def load(path: FilePath) -> "Reference":
        """Read a file written by `save`. Raises `InputError` if it is not one."""
        found = load_record(path, Reference)
        assert isinstance(found, Reference)
        return found


@jax.jit
def evaluate_value(value, x):
    """V at x, compiled."""
    return value.at(x)


@jax.jit
def evaluate_q(q, x, u):
    """Q at (x, u), compiled."""
    return q.at(x, u)


@jax.jit
def _gradient(value, x):
    flat = x.reshape(-1, x.shape[-1])
    return jax.vmap(jax.grad(value.at))(flat).reshape(x.shape)


@jax.jit
def _residual(kernel, q, value, inputs, x):
    v = value.at(x)
    gap = maximise(lambda u: q.at(x[:, None, :], u), inputs)[1] - v
    return jnp.where(kernel.ended(x), kernel.exit_value(x) - v, gap) if kernel.can_end else gap


@strict
def solve(problem: Problem, method, *, on_failure="raise", progress=False) -> Reference:
    """Solve a problem by a method (`Riccati()`, `GridDP(shape=…)`, …).

    Raises `NotConverged` with the reason if the method stops short; `on_failure="return"` returns what it has instead, with
    `converged=False`. `progress=True` shows a bar with the time left.
    """
    runs = hasattr(method, "solve") and not isinstance(method, type)
    require(runs, "method", "must be a method such as rc.GridDP(shape=(101, 101))", method, "Construct it: rc.Riccati().")
    require(
        isinstance(on_failure, str) and on_failure in ("raise", "return"),
        "on_failure",
        'must be "raise" or "return"',
        on_failure,
        "Use one of the two.",
    )
    start = time.perf_counter()
    reference = replace(method.solve(problem, progress), seconds=time.perf_counter() - start)
    if not reference.converged and on_failure == "raise":
        raise NotConverged(f'{reference.message} Pass on_failure="return" to inspect what was reached.')
    return reference
