"""The transition kernel f(x_+|x,u) as JAX functions of arrays: next state, reward, end, one-step backup (T1–T3).

Simulator, dynamic programming and training all share this one object, so they cannot disagree about the plant. Arrays: last axis is the
coordinate; all leading axes broadcast.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import lax

from rlctrl.casadi_jax import JaxFunction
from rlctrl.tree import record


@record(
    arrays=("p", "low", "high", "gamma", "noise", "update", "reward_function", "exit_function", "target_function"),
    static=("periodic", "exit"),
)
@dataclass(frozen=True, eq=False)
class Kernel:
    """X_+ = update(x, u, w; p), wrapped on periodic axes, then the exit rule. A JAX pytree: parameters are traced, and so are the constants
    in the functions."""

    p: Any
    low: Any
    high: Any
    gamma: Any
    noise: Any
    update: JaxFunction
    reward_function: JaxFunction
    exit_function: JaxFunction
    target_function: JaxFunction | None
    periodic: tuple[bool, ...]
    exit: str

    def free_step(self, x, u, w):
        """Next state before the exit rule, periodic coordinates wrapped into the box."""
        return self.wrap(self.update(x, u, w, self.p))

    def step(self, x, u, w):
        """Next state after the exit rule (`exit="clip"` projects it back), and whether it lay outside the box."""
        raw = self.free_step(x, u, w)
        return self.constrained(raw), self.outside(raw)

    def constrained(self, x):
        """x after the exit rule: projected onto the box under `exit="clip"`."""
        return self.clip(x) if self.exit == "clip" else x

    def wrap(self, x):
        """Periodic coordinates brought into [low, high)."""
        if not any(self.periodic):
            return x
        columns = [_turn(x[..., k], self.low[k], self.high[k]) if turns else x[..., k] for k, turns in enumerate(self.periodic)]
        return jnp.stack(columns, -1)

    def clip(self, x):
        """x projected onto the box of the states."""
        return jnp.stack([jnp.clip(x[..., k], self.low[k], self.high[k]) for k in range(x.shape[-1])], -1)

    def outside(self, x):
        """Whether a state lies outside the box of the (not periodic) states."""
        beyond = jnp.zeros(x.shape[:-1], bool)
        for k, turns in enumerate(self.periodic):
            beyond = beyond if turns else beyond | (x[..., k] < self.low[k]) | (x[..., k] > self.high[k])
        return beyond

    def ended(self, x):
        """Whether the problem ends in x: outside under `exit="absorb"`, or inside the target set."""
        end = self.outside(x) if self.exit == "absorb" else jnp.zeros(x.shape[:-1], bool)
        return end if self.target_function is None else end | (self.target_function(x, self.p) <= 0)

    @property
    def can_end(self) -> bool:
        """Whether any transition can end the problem."""
        return self.exit == "absorb" or self.target_function is not None

    def reward(self, x, u):
        """r(x, u), per step; NaN where the target is, so that it is unknown whether the problem has ended."""
        reward = self.reward_function(x, u, self.p)
        if self.target_function is None:
            return reward
        return jnp.where(jnp.isnan(self.target_function(x, self.p)), jnp.nan, reward)

    def exit_value(self, x):
        """Value at a state in which the problem ends."""
        return self.exit_function(x, self.p)

    def continuation(self, value, x_next):
        """V(x_+), or the exit value where the problem ends in x_+."""
        if not self.can_end:
            return value(x_next)
        end = self.ended(x_next)
        inside = jnp.where(end[..., None], self.clip(x_next), x_next)
        return jnp.where(end, self.exit_value(x_next), value(inside))

    def backup(self, value, x, u, rule):
        """(T3) r(x,u) + γ E[V(X_+)] by the quadrature `rule` = (nodes (k,q), weights (k,)); leading axes of x, u broadcast."""
        nodes, weights = map(jnp.asarray, rule)
        following = self.update.partly(x, u, None, self.p)

        def add(k, total):  # one noise node at a time, its next states computed once: what XLA runs fastest
            x_next = lax.optimization_barrier(self.constrained(self.wrap(following(nodes[k]))))
            return total + weights[k] * self.continuation(value, x_next)

        start = jnp.zeros(jnp.broadcast_shapes(x.shape[:-1], u.shape[:-1]))
        return self.reward(x, u) + self.gamma * lax.fori_loop(0, len(weights), add, start)


def _turn(x, low, high):
    """One coordinate brought into [low, high); NaN stays."""
    turned = (x - low) - (high - low) * jnp.floor((x - low) / (high - low))
    return low + jnp.where((turned < 0) | (turned >= high - low), 0.0, turned)
