"""Where transitions come from: plants running under p^θ with exploration and restarts, and fresh draws from the whole of Z.

Only the first input of a transition is explored: from its successor on the plant follows p^θ, n − 1 steps on a copy of the plant (the
model is known). The plant itself goes on from the first successor.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rlctrl.tree import record

DRAWS = 16  # of a restart, of which the first outside the target is taken


class Row(NamedTuple):
    """One transition: z (n+m,), the way to each successor `path` (K, horizon, n+m), ending in z_k, and r_k, γ_k, ρ_k (K,)."""

    z: Any
    path: Any
    r: Any
    gamma: Any
    share: Any


@record(
    arrays=("kernel", "low", "high", "u_low", "u_high", "exploration", "uniform", "nodes", "shares"),
    static=("finite", "restart", "horizon", "target"),
)
@dataclass(frozen=True, eq=False)
class Source:
    """The kernel, the boxes of states and inputs, and how transitions are drawn.

    `target`: "sample", "double", "antithetic" (two successors by mirrored noises) or "expected" (over the first noise, by the quadrature
    `nodes` with weights `shares`); `uniform`: share of transitions whose z is drawn from Z; `finite`: per input its finitely many values,
    or ().
    """

    kernel: Any
    low: Any
    high: Any
    u_low: Any
    u_high: Any
    exploration: Any
    uniform: Any
    nodes: Any
    shares: Any
    finite: tuple
    restart: int
    horizon: int
    target: str

    @property
    def successors(self) -> int:
        """K."""
        return {"sample": 1, "double": 2, "antithetic": 2}.get(self.target, len(self.shares))

    @property
    def deviation(self):
        """Standard deviation of the exploration, per input (m,)."""
        width = self.u_high - self.u_low
        return self.exploration * jnp.where(jnp.isfinite(width), 0.5 * width, 1.0)

    def draw_state(self, key):
        """A state of the box in which the problem has not ended, if some draws find one."""
        x = jax.random.uniform(key, (DRAWS, len(self.low)), minval=self.low, maxval=self.high)
        return x[jnp.argmin(self.kernel.ended(x))] if self.kernel.can_end else x[0]

    def draw_input(self, key):
        """An input of the box, or of the finitely many values."""
        u = jax.random.uniform(key, self.u_low.shape, minval=self.u_low, maxval=self.u_high)
        return self._snapped(u, jax.random.fold_in(key, 1), 1.0)

    def explore(self, key, u):
        """p^θ(x) plus noise on continuous inputs, no further out of the box than it was; a random value now and then on finite ones."""
        noise_key, pick_key = jax.random.split(key)
        moved = u + self.deviation * jax.random.normal(noise_key, u.shape)
        return self._snapped(jnp.clip(moved, jnp.minimum(u, self.u_low), jnp.maximum(u, self.u_high)), pick_key, self.exploration, u)

    def _snapped(self, u, key, chance, otherwise=None):
        """Finite inputs replaced by a random one of their values with a chance, else by the given ones."""
        out = u
        for j, values in enumerate(self.finite):
            if values:
                coin, which = jax.random.uniform(jax.random.fold_in(key, j), (2,))
                pick = jnp.asarray(values)[(which * len(values)).astype(int)]
                out = out.at[j].set(pick if otherwise is None else jnp.where(coin < chance, pick, otherwise[j]))
        return out

    def row(self, policy, x, u, key) -> Row:
        """The transition from z = (x, u) with all its successors, independent but for their common start."""
        first, rest = self._first(key), self._noises(jax.random.fold_in(key, 1), self.horizon - 1)
        first = self.nodes if self.target == "expected" else first
        spread = lambda a: jnp.broadcast_to(a, (self.successors, len(a)))
        start = spread(x), spread(u), jnp.zeros(self.successors), jnp.ones(self.successors)
        (_, _, r, gamma), path = jax.lax.scan(lambda c, w: self._advance(policy, c, w), start, jnp.concatenate([first[None], rest]))
        return Row(jnp.concatenate([x, u]), jnp.swapaxes(path, 0, 1), r, gamma, self.shares)

    def _first(self, key):
        """Noises of the first step (K, q); the plant itself goes on by the first of them."""
        return self._noises(jax.random.fold_in(key, 0), 1)[0]

    def _noises(self, key, steps):
        """Noises of all successors (steps, K, q)."""
        law, mirrored = self.kernel.noise, self.target == "antithetic"
        w = law.sample(key, (steps, 1 if mirrored else self.successors))
        return jnp.concatenate([w, 2 * law.mean - w], 1) if mirrored else w

    def _advance(self, policy, carry, w):
        """One step of every successor; those that ended stand still."""
        x, u, r, factor = carry
        going, (x_next, _) = factor > 0, self.kernel.step(x, u, w)
        end = self.kernel.ended(x_next)
        gain = self.kernel.reward(x, u) + jnp.where(end, self.kernel.gamma * self.kernel.exit_value(x_next), 0.0)
        x = jnp.where(going[:, None], x_next, x)
        u = policy.act(x)
        r, factor = r + jnp.where(going, factor * gain, 0.0), jnp.where(end, 0.0, factor * self.kernel.gamma)
        return (x, u, r, factor), jnp.concatenate([x, u], -1)

    def step(self, policy, x, fresh, key):
        """What `row` makes the transition of one plant in state x from, and the plant's next state; `fresh`: it is drawn anew."""
        keys = jax.random.split(key, 5)
        u = self.explore(keys[0], policy.act(x))
        anywhere = jax.random.uniform(keys[1]) < self.uniform
        place = jax.random.split(keys[2])
        z = jnp.where(anywhere, self.draw_state(place[0]), x), jnp.where(anywhere, self.draw_input(place[1]), u)
        x_next = jnp.where(anywhere, x, self.kernel.step(x, u, self._first(keys[3])[0])[0])
        return (*z, keys[3]), jnp.where(fresh | self.kernel.ended(x_next), self.draw_state(keys[4]), x_next)
