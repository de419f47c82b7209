"""The transition kernel f(x_+|x,u) as JAX functions of arrays: next state, reward, end, one-step backup (T1–T3).

Simulator, dynamic programming and training all share this one object, so they cannot disagree about the plant. Arrays: last axis is the
coordinate; all leading axes broadcast.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from rlctrl.casadi_jax import JaxFunction
from rlctrl.tree import record


@record(
    arrays=("p", "low", "high", "gamma", "noise"),
    static=("update", "reward_function", "exit_function", "target_function", "periodic", "exit"),
)
@dataclass(frozen=True, eq=False)
class Kernel:
    """X_+ = update(x, u, w; p), wrapped on periodic axes, then the exit rule. A JAX pytree: parameters are traced."""

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
        outside = self.outside(raw)
        return (jnp.clip(raw, self.low, self.high) if self.exit == "clip" else raw), outside

    def wrap(self, x):
        """Periodic coordinates brought into [low, high)."""
        if not any(self.periodic):
            return x
        turning = jnp.asarray(self.periodic)
        low, width = jnp.where(turning, self.low, 0.0), jnp.where(turning, self.high - self.low, 1.0)
        turned = jnp.mod(x - low, width)
        return jnp.where(turning, low + jnp.where(turned < width, turned, 0.0), x)

    def outside(self, x):
        """Whether a state lies outside the box of the (not periodic) states."""
        beyond = (x < self.low) | (x > self.high)
        return jnp.any(beyond & ~jnp.asarray(self.periodic), -1)

    def ended(self, x):
        """Whether the problem ends in x: outside under `exit="absorb"`, or inside the target set."""
        end = self.outside(x) if self.exit == "absorb" else jnp.zeros(x.shape[:-1], bool)
        return end if self.target_function is None else end | (self.target_function(x, self.p) <= 0)

    @property
    def can_end(self) -> bool:
        """Whether any transition can end the problem."""
        return self.exit == "absorb" or self.target_function is not None

    def reward(self, x, u):
        """r(x, u), per step."""
        return self.reward_function(x, u, self.p)

    def exit_value(self, x):
        """Value at a state in which the problem ends."""
        return self.exit_function(x, self.p)

    def continuation(self, value, x_next):
        """V(x_+), or the exit value where the problem ends in x_+."""
        if not self.can_end:
            return value(x_next)
        end = self.ended(x_next)
        inside = jnp.where(end[..., None], jnp.clip(x_next, self.low, self.high), x_next)
        return jnp.where(end, self.exit_value(x_next), value(inside))

    def backup(self, value, x, u, rule):
        """(T3) r(x,u) + γ E[V(X_+)] by the quadrature `rule` = (nodes (k,q), weights (k,)); leading axes of x, u broadcast."""
        nodes, weights = rule
        x_next, _ = self.step(x[..., None, :], u[..., None, :], nodes)
        return self.reward(x, u) + self.gamma * jnp.sum(weights * self.continuation(value, x_next), -1)
