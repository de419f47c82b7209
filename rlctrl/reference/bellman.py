"""The Bellman operator of a problem on a grid (T2): algorithms are short loops over it.

`improve` applies T (maximum over the inputs) and returns the maximising policy; `policy_table` fixes a policy and precomputes where its
transitions land, so that `sweeps` of its linear operator T^π cost one gather each. States are processed in chunks of `chunk` nodes.
"""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.grid import Grid
from rlctrl.kernel import Kernel
from rlctrl.maximise import InputSet, maximise
from rlctrl.tree import record

CHUNK_TRANSITIONS = 20_000  # interpolations per chunk of `improve`: the working set stays in cache


@record(arrays=("grid", "coefficients"))
@dataclass(frozen=True, eq=False)
class GridValue:
    """V(x) by interpolation."""

    grid: Grid
    coefficients: Any

    def at(self, x):
        """V (...) at x (..., n)."""
        return self.grid.evaluate(self.coefficients, x)


@record(arrays=("kernel", "grid", "inputs", "rule", "points"), static=("chunk",))
@dataclass(frozen=True, eq=False)
class Bellman:
    """T and T^π on the node values (S,) of a grid, for one quadrature `rule` of the noise."""

    kernel: Kernel
    grid: Grid
    inputs: InputSet
    rule: tuple
    points: Any
    chunk: int

    @classmethod
    def make(cls, kernel, grid, inputs, rule):
        """Operator with a chunk size that keeps the working set in cache."""
        per_state = len(inputs.candidates) * len(rule[1])
        return cls(kernel, grid, inputs, rule, grid.points(), max(1, CHUNK_TRANSITIONS // per_state))

    def value(self, values) -> GridValue:
        """Node values as a function."""
        return GridValue(self.grid, self.grid.fit(values))

    @jax.jit
    def improve(self, values, policy):
        """T V at the nodes (S,) and the maximising inputs (S, m); never worse than the given `policy` (S, m), so that iterations cannot
        cycle."""
        value = self.value(values)
        candidates = jnp.asarray(self.inputs.candidates)

        def at_block(block):
            x, old = block
            start = jnp.concatenate([jnp.broadcast_to(candidates, (len(x), *candidates.shape)), old[:, None]], 1)
            return maximise(lambda u: self.kernel.backup(value.at, x[:, None], u, self.rule), self.inputs, start)

        blocks = [_in_blocks(jnp.asarray(a), self.chunk) for a in (self.points, policy)]
        policy, best = (a.reshape(-1, *a.shape[2:])[: len(self.points)] for a in jax.lax.map(at_block, tuple(blocks)))
        return self._with_ends(best), policy

    def _with_ends(self, values):
        """Nodes where the problem has ended carry the exit value."""
        if not self.kernel.can_end:
            return values
        return jnp.where(self.kernel.ended(self.points), self.kernel.exit_value(self.points), values)

    def judged(self):
        """The nodes inside the stated box (a margin may reach beyond it)."""
        low, high = np.asarray(self.kernel.low), np.asarray(self.kernel.high)
        slack = 1e-12 * (high - low)
        return self.points[np.all((self.points >= low - slack) & (self.points <= high + slack), -1)]

    @jax.jit
    def share_leaving(self, policy):
        """Share of the transitions from the nodes under a policy that leave the box, by probability."""
        nodes, mass = self.rule
        landing = self.kernel.free_step(self.points[:, None, :], policy[:, None, :], nodes)
        return jnp.mean(jnp.sum(mass * self.kernel.outside(landing), -1))

    @jax.jit
    def policy_table(self, policy):
        """T^π as (constant (S,), index (S, k), weight (S, k)): T^π V = constant + Σ weight·coefficients[index]."""
        nodes, mass = self.rule
        x_next, left = self.kernel.step(self.points[:, None, :], policy[:, None, :], nodes)
        constant = self.kernel.reward(self.points, policy)
        mass = jnp.broadcast_to(self.kernel.gamma * jnp.asarray(mass), left.shape)
        if self.kernel.can_end:
            end = self.kernel.ended(x_next)
            constant = constant + jnp.sum(jnp.where(end, mass * self.kernel.exit_value(x_next), 0.0), -1)
            mass = jnp.where(end, 0.0, mass)
            x_next = jnp.where(end[..., None], jnp.clip(x_next, self.kernel.low, self.kernel.high), x_next)
            over = self.kernel.ended(self.points)
            constant = jnp.where(over, self.kernel.exit_value(self.points), constant)
            mass = jnp.where(over[:, None], 0.0, mass)
        index, weight = self.grid.stencil(x_next)
        count = len(self.points)
        return constant, index.reshape(count, -1), (mass[..., None] * weight).reshape(count, -1)


def _in_blocks(rows, size):
    """Rows (S, …) as (blocks, size, …), the last block filled up with the last row."""
    missing = -len(rows) % size
    return jnp.concatenate([rows, jnp.repeat(rows[-1:], missing, 0)]).reshape(-1, size, *rows.shape[1:])


def apply_table(grid, table, values):
    """T^π V from a policy table."""
    constant, index, weight = table
    return constant + jnp.sum(weight * grid.fit(values)[index], -1)


@functools.partial(jax.jit, static_argnames=("most", "shift"))
def sweeps(grid, gamma, table, values, tolerance, most, shift):
    """V ← T^π V until the MacQueen interval is below `tolerance`, at most `most` times; with `shift`, moved to its middle at the end.

    The middle is right for a chain that never ends: there adding a constant c to V adds γc to T^π V.
    """

    def unfinished(carry):
        k, _, _, low, high = carry
        return (k < most) & (gamma / jnp.maximum(1 - gamma, 1e-3) * (high - low if shift else jnp.maximum(high, -low)) > tolerance)

    def sweep(carry):
        k, values, *_ = carry
        new = apply_table(grid, table, values)
        change = new - values
        return k + 1, new, new - values, jnp.min(change), jnp.max(change)

    start = (0, values, values, jnp.asarray(-jnp.inf), jnp.asarray(jnp.inf))
    count, values, _, low, high = jax.lax.while_loop(unfinished, sweep, start)
    return (values + 0.5 * gamma / (1 - gamma) * (low + high) if shift else values), count
