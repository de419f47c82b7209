"""Policies u = p(x): linear, clipped linear, greedy in a Q-function, one-step lookahead on a grid, any Python function.

Every policy is a JAX pytree with `act(x)`: (..., n) → (..., m), usable inside compiled loops; calling it takes and returns NumPy arrays.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rlctrl.errors import InputError, first_line, naming, require, require_numbers, require_points, strict
from rlctrl.maximise import InputSet, maximise
from rlctrl.traced import Traced
from rlctrl.tree import record

ROUNDS, REACH = 3, 0.3  # of a one-step lookahead: rounds of its search, and its first step relative to how far the inputs around are apart


class Policy:
    """A map from states (..., n) to inputs (..., m)."""

    @property
    def n(self) -> int | None:
        """How many states it takes; None if it does not know."""
        return None

    def act(self, x):
        """Inputs (..., m) at states x (..., n), in JAX."""
        raise NotImplementedError

    @strict
    def clipped(self, low, high) -> "ClippedPolicy":
        """The same policy with its inputs clipped to [low, high], numbers or (m,)."""
        low, high = require_numbers("low", low), require_numbers("high", high)
        fits = low.ndim <= 1 and high.ndim <= 1 and (low.size == high.size or 1 in (low.size, high.size)) and bool(np.all(low <= high))
        require(fits, "low", "must be numbers, or one per input, not above `high`", (low.tolist(), high.tolist()), "Swap or mend them.")
        return ClippedPolicy(self, low, high)

    @strict
    def __call__(self, x):
        if isinstance(x, Tracer):
            return self.act(x)
        x = require_points("x", x, self.n)
        try:
            return np.asarray(_act(self, x))
        except (TypeError, ValueError, IndexError) as error:  # JAX, of shapes: a policy does not know how many states there are
            text = f"{type(error).__name__}: {first_line(error)}"
            raise InputError(f"`x` must have one column per state on its last axis; got shape {x.shape} ({text}). Check it.") from None


@jax.jit
def _act(policy, x):
    return policy.act(x)


def wrapped(difference, period):
    """A difference of states, brought into ±period/2 on periodic axes (`period` is 0 elsewhere)."""
    turning = jnp.asarray(period) > 0
    width = jnp.where(turning, period, 1.0)
    return jnp.where(turning, difference - width * jnp.round(difference / width), difference)


@strict
@record(arrays=("K", "x0", "u0", "period"))
@dataclass(frozen=True, eq=False)
class LinearPolicy(Policy):
    """u = u0 − K (x − x0). `K` (m, n), `x0` (n,), `u0` (m,); `period` (n,) is 0 for states that do not turn."""

    K: Any
    x0: Any
    u0: Any
    period: Any

    def __post_init__(self):
        arrays = {name: require_numbers(name, getattr(self, name)) for name in ("K", "x0", "u0", "period")}
        require(arrays["K"].ndim == 2, "K", "must have shape (m, n)", arrays["K"].shape, "Give one row per input, one column per state.")
        m, n = arrays["K"].shape
        for name, size in (("x0", n), ("u0", m), ("period", n)):
            require(
                arrays[name].shape == (size,), name, f"must have shape ({size},), as K says", arrays[name].shape, "Give one number each."
            )
        for name, array in arrays.items():
            object.__setattr__(self, name, array)

    @property
    def n(self):
        """How many states it takes."""
        return len(self.x0)

    def act(self, x):
        return self.u0 - wrapped(x - self.x0, self.period) @ jnp.asarray(self.K).T


@record(arrays=("policy", "low", "high"))
@dataclass(frozen=True, eq=False)
class ClippedPolicy(Policy):
    """Another policy with its inputs clipped to [low, high]."""

    policy: Policy
    low: Any
    high: Any

    @property
    def n(self):
        """How many states it takes."""
        return self.policy.n

    def act(self, x):
        return jnp.clip(self.policy.act(x), self.low, self.high)


@record(arrays=("q", "inputs"))
@dataclass(frozen=True, eq=False)
class GreedyPolicy(Policy):
    """argmax over the input box of q(x, u), where `q` is a pytree with `at(x, u)`."""

    q: Any
    inputs: InputSet

    def act(self, x):
        return maximise(lambda u: self.q.at(x[..., None, :], u), self.inputs)[0]


@record(arrays=("kernel", "value", "rule", "grid", "table", "inputs"))
@dataclass(frozen=True, eq=False)
class LookaheadPolicy(Policy):
    """argmax of r + γ E V(X_+), searched around the inputs stored at the nodes around x and their interpolation, within what those differ
    by: `table` (nodes, m) on a linear `grid`."""

    kernel: Any
    value: Any
    rule: Any
    grid: Any
    table: Any
    inputs: InputSet

    @property
    def n(self):
        """How many states it takes."""
        return len(self.grid.axes)

    def act(self, x):
        inputs, (corners, weight) = self.inputs, self.grid.stencil(x)
        start = jnp.asarray(self.table)[corners]
        middle = jnp.clip(jnp.sum(weight[..., None] * start, -2), inputs.low, inputs.high)
        middle = jnp.where(jnp.asarray(inputs.step) > 0, middle, start[..., 0, :])  # finite inputs have no values between
        step = REACH * (jnp.max(start, -2) - jnp.min(start, -2) + inputs.step)
        start = jnp.concatenate([middle[..., None, :], start], -2)
        return maximise(lambda u: self.kernel.backup(self.value.at, x[..., None, :], u, self.rule), inputs, start, ROUNDS, step=step)[0]


@record(static=("traced", "m"))
@dataclass(frozen=True, eq=False)
class FunctionPolicy(Policy):
    """A user's function (batch, n) → (batch, m); one that JAX cannot trace is called back on the host, which is slower."""

    traced: Traced
    m: int

    @property
    def function(self):
        """The function."""
        return self.traced.function

    def act(self, x):
        rows, inputs = lambda x: x.reshape(-1, x.shape[-1]), (*x.shape[:-1], self.m)
        if self.traced.steps is not None:
            return jnp.asarray(self.function(rows(x)), jnp.float64).reshape(inputs)
        on_host = lambda y: np.asarray(self.function(rows(np.asarray(y))), float).reshape(*y.shape[:-1], self.m)
        return jax.pure_callback(on_host, jax.ShapeDtypeStruct(inputs, jnp.float64), x, vmap_method="expand_dims")


def as_policy(policy, n, m) -> Policy:
    """A `Policy`, or any function x (batch, n) → u (batch, m) made one. Raises `InputError` if it takes or gives other shapes."""
    probe = jax.ShapeDtypeStruct((2, n), jnp.float64)
    if isinstance(policy, Policy):
        _require_fitting(policy, probe, m)
        return policy
    require(callable(policy), "policy", "must be a function x → u", policy, "Pass ref.policy or a Python function.")
    try:
        traced, shape = Traced.of(policy, probe)
    except Exception:
        traced, shape = Traced(policy, policy, None), _host_shape(policy, n)
    require(shape == (2, m), "policy", f"must map states (batch, {n}) to inputs (batch, {m})", shape, "Work on the last axis: x[..., 0].")
    return FunctionPolicy(traced, m)


def as_policies(policies, n, m) -> dict[str, Policy]:
    """A dictionary {name: policy} with every policy made a `Policy`. Raises `InputError` for anything else."""
    named = isinstance(policies, Mapping) and len(policies) > 0 and all(isinstance(name, str) for name in policies)
    require(named, "policies", "must be a dictionary {name: policy} with strings as names", policies, 'Use {"lqr": lqr.policy}.')
    ready = {}
    for name, policy in policies.items():
        with naming(f"policies[{name!r}]", "policy"):
            ready[name] = as_policy(policy, n, m)
    return ready


def _require_fitting(policy, probe, m):
    """Raise `InputError` unless a policy takes states shaped as the probe (2, n) and gives m inputs."""
    n = probe.shape[1]
    try:
        shape = _act.eval_shape(policy, probe).shape if policy.n in (None, n) else None
    except (TypeError, ValueError, IndexError):  # JAX, of shapes
        shape = None
    found = f"a {type(policy).__name__} of {policy.n or 'other'} states" if shape is None else shape
    rule = f"must map states (batch, {n}) to inputs (batch, {m})"
    require(shape == (2, m), "policy", rule, found, "Use one made for this problem.")


def _host_shape(policy, n):
    try:
        return np.shape(policy(np.zeros((2, n))))
    except Exception as error:
        raise InputError(
            f"`policy` must map states (batch, {n}) to inputs; on zeros it raised {type(error).__name__}: {first_line(error)}. "
            "Work on the last axis: x[..., 0]."
        ) from error
