"""What the Bellman operator evaluates on the nodes of a grid, compiled once for the grids of all levels."""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rlctrl.grid import Grid
from rlctrl.maximise import maximise
from rlctrl.tree import record

ASTRAY, LEAST = 0.125, 2.0  # part of the grid's width, and cells, by which an input leads too far beyond the grid with splines
SHUNNED = -1e100  # its value
ROUNDS = 9  # of the search for the best inputs, at most: where maxima at kinks are found roughly, policy iteration creeps


@record(arrays=("grid", "coefficients"))
@dataclass(frozen=True, eq=False)
class GridValue:
    """V(x) by interpolation."""

    grid: Grid
    coefficients: Any

    def at(self, x):
        """V (...) at x (..., n)."""
        return self.grid.evaluate(self.coefficients, x)


@functools.partial(jax.jit, static_argnames=("block", "mode"))
def improved(kernel, numbers, grid, inputs, rule, coefficients, policy, first, last, known, block, mode):
    """Best value and input at the nodes first … last−1 (of the padded grid `numbers`), in arrays as long as `policy`; `known`: their
    `outcomes`."""
    value, candidates = GridValue(grid, coefficients), jnp.asarray(inputs.candidates)
    rounds, finite = (0 if mode == "rough" else ROUNDS), not inputs.continuous
    strays = kernel.exit == "free" and grid.order > 1

    def one(k, out):
        here = first + k * block
        x = numbers.node(jnp.minimum(here + jnp.arange(block), last - 1))
        old = lax.dynamic_slice_in_dim(jnp.asarray(policy), here, block)
        backup = lambda u: kernel.backup(value.at, x[:, None], u, rule)
        q = _staying(kernel, value, x, candidates, rule) if strays else backup
        start = jnp.broadcast_to(candidates, (block, *candidates.shape))
        start = start if finite else jnp.concatenate([start, old[:, None]], 1)
        if mode == "policy":
            u, v = old, backup(old[:, None])[:, 0]
        elif mode == "near":
            u, v = maximise(q, inputs, inputs.beside(old), rounds)
        elif known is None:
            u, v = maximise(q, inputs, start, rounds)
        else:
            places, rewards = jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, k * block, block), known)
            values = rewards + kernel.gamma * grid.evaluate_at(coefficients, places)
            values = values if finite else jnp.concatenate([values, q(old[:, None])], 1)
            u, v = maximise(q, inputs, start, rounds, values)
        if kernel.can_end:
            v = jnp.where(kernel.ended(x), kernel.exit_value(x), v)
        return tuple(lax.dynamic_update_slice_in_dim(a, b, here, 0) for a, b in zip(out, (v, u), strict=True))

    start = (jnp.zeros(len(policy)), jnp.zeros(jnp.shape(policy)))
    return lax.fori_loop(0, (last - first + block - 1) // block, one, start)


def _staying(kernel, value, x, candidates, rule):
    """The backup q(u) at nodes x (B, n) without inputs that lead astray: beyond the grid a spline is its last piece continued, which says
    nothing far out, and the maximum would be sought there. How far out counts by the mean of the noise, from the candidate that stays
    nearest; where the problem ends there the exit value is known."""
    nodes, mass = map(jnp.asarray, rule)
    far = lambda y: _beyond(value.grid, value.grid.places(y))

    def beyond(u):
        following = kernel.free_step(x[:, None], u, mass @ nodes)
        return jnp.where(kernel.ended(following), 0.0, far(following)) if kernel.can_end else far(following)

    others = beyond(jnp.broadcast_to(candidates, (len(x), *candidates.shape)))
    if len(mass) == 1:  # then what the backup evaluates is where the mean leads
        return lambda u: kernel.backup(lambda y: _shunned(value.at(y), far(y), others), x[:, None], u, rule)
    return lambda u: _shunned(kernel.backup(value.at, x[:, None], u, rule), beyond(u), others)


def _beyond(grid, places):
    """How far (...) places lie beyond the grid on the axis where it is most, relative to what is too far."""
    sides = [
        jnp.maximum(-p, p - (axis.count - 1)) / jnp.maximum(LEAST, ASTRAY * axis.count)
        for axis, p in zip(grid.axes, places, strict=True)
        if axis.period is None
    ]
    return functools.reduce(jnp.maximum, sides, jnp.zeros_like(places[0]))


def _shunned(values, beyond, others):
    """Values (B, A) of inputs, SHUNNED where these lead too far `beyond` the grid, from where the nearest of `others` leads."""
    return jnp.where(beyond > jnp.min(others, -1, keepdims=True) + 1, SHUNNED, values)


@functools.partial(jax.jit, static_argnames=("count", "block"))
def outcomes(kernel, numbers, grid, candidates, noise, first, last, count, block):
    """What all candidates (A, m) lead to from the nodes first … last−1: places on `grid`, arrays (count, A), and rewards, (count, A)."""

    def one(k, out):
        x = numbers.node(jnp.minimum(first + k * block + jnp.arange(block), last - 1))[:, None]
        found = grid.places(lax.optimization_barrier(kernel.step(x, candidates, noise)[0])), kernel.reward(x, candidates)
        return jax.tree.map(lambda a, b: lax.dynamic_update_slice_in_dim(a, b, k * block, 0), out, found)

    empty = jnp.zeros((count, len(candidates)))
    return lax.fori_loop(0, (last - first + block - 1) // block, one, ([empty for _ in grid.axes], empty))


@jax.jit
def landing(kernel, numbers, grid, first, last, policy, nodes, mass):
    """At a block of nodes (B,): reward (or exit value), (B,), what the transitions at K noise nodes that end give, (B,), and for the others
    the coefficients of `grid` they lead to (B, K, (order+1)^d) with weights that sum to the discounted mass."""
    x = numbers.node(jnp.minimum(first + jnp.arange(len(policy)), last - 1))
    x_next = lax.optimization_barrier(kernel.step(x[:, None], policy[:, None], nodes)[0])
    reward, mass = kernel.reward(x, policy), kernel.gamma * mass * jnp.ones((len(policy), 1))
    ending = jnp.zeros(len(policy))
    if kernel.can_end:
        over, end = kernel.ended(x), kernel.ended(x_next)
        ending = jnp.sum(jnp.where(end & ~over[:, None], mass * kernel.exit_value(x_next), 0.0), -1)
        reward = jnp.where(over, kernel.exit_value(x), reward)
        mass = jnp.where(end | over[:, None], 0.0, mass)
        x_next = jnp.where(end[..., None], kernel.clip(x_next), x_next)
    columns, weights = grid.stencil(x_next)
    return reward, ending, columns.astype(np.int32), weights * mass[..., None]


@jax.jit
def ended(kernel, x):
    """Whether the problem has ended in x (S, n), compiled."""
    return kernel.ended(x)


@jax.jit
def may_end(kernel, x, candidates, nodes):
    """Whether the problem has ended in x (S, n), or some candidate (A, m) ends it in the next step at one of the noise nodes (K, q): both
    (S,)."""
    ends = lambda w: jnp.any(kernel.ended(kernel.step(x[:, None], candidates, w)[0]), -1)
    over = kernel.ended(x)
    return over, ~over & lax.fori_loop(0, len(nodes), lambda k, found: found | ends(nodes[k]), jnp.zeros(len(x), bool))


@jax.jit
def mass_leaving(kernel, x, u, rule):
    nodes, mass = map(jnp.asarray, rule)
    return lax.fori_loop(0, len(mass), lambda k, total: total + mass[k] * kernel.step(x, u, nodes[k])[1], jnp.zeros(len(x)))
