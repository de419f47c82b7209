"""Maximum over the inputs: enumerated candidates, then a local search well below their spacing."""

import itertools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.errors import require
from rlctrl.tree import record

ROUNDS = 6  # of the local search
SHRINK = 0.3  # of its step, per round: 0.3^6 = 7e-4 of the candidate spacing, before the parabolas' own gain


@record(arrays=("candidates", "step", "low", "high"))
@dataclass(frozen=True, eq=False)
class InputSet:
    """Candidates (A, m) over the input box, their spacing per input (0 for finitely many values), and the box."""

    candidates: Any
    step: Any
    low: Any
    high: Any


def input_set(signals, count) -> InputSet:
    """`count` equally spaced candidates per continuous input (one number, or one per input); finite inputs list their values."""
    counts = np.broadcast_to(count, (len(signals),))
    require(bool(np.all(counts >= 3)), "inputs", "needs at least 3 candidates per input", count, "Use e.g. 21.")
    axes, steps = [], []
    for signal, number in zip(signals, counts, strict=True):
        bounded = np.isfinite(signal.high - signal.low)
        require(bounded, signal.name, "needs finite bounds to be maximised over", (signal.low, signal.high), "Give the input low and high.")
        axes.append(np.array(signal.values) if signal.values else np.linspace(signal.low, signal.high, int(number)))
        steps.append(0.0 if signal.values else (signal.high - signal.low) / (int(number) - 1))
    candidates = np.array(list(itertools.product(*axes)))
    low, high = np.array([s.low for s in signals]), np.array([s.high for s in signals])
    return InputSet(candidates, np.array(steps), low, high)


def maximise(q, inputs: InputSet, start=None):
    """argmax and max over the input box of q: (..., A, m) → (..., A).

    Starts from the best of `start` (..., A, m) (default: all candidates), then for each input in turn compares the points one step
    either side and the vertex of the parabola through the three, with the step shrinking each round. A finite input is not moved.
    """
    candidates = jnp.asarray(inputs.candidates if start is None else start)
    values = q(candidates)
    best = jnp.argmax(values, -1)
    where = jnp.broadcast_to(candidates, (*values.shape, candidates.shape[-1]))
    u = jnp.take_along_axis(where, best[..., None, None], -2)[..., 0, :]
    v = jnp.take_along_axis(values, best[..., None], -1)[..., 0]
    m = candidates.shape[-1]

    def one_round(k, carry):
        u, v = carry
        step = jnp.asarray(inputs.step) * SHRINK**k
        for j in range(m):
            u, v = _line(q, inputs, u, v, j, step[j])
        return u, v

    return jax.lax.fori_loop(0, ROUNDS, one_round, (u, v))


def _line(q, inputs, u, v, j, step):
    """Best of u, two points beside it and the vertex of the parabola through the three, along input j."""

    def moved(position):
        return u.at[..., j].set(jnp.clip(position, inputs.low[j], inputs.high[j]))

    low, high = inputs.low[j], inputs.high[j]
    b = u[..., j]
    a, c = _beside(b, low, step), -_beside(-b, -high, step)
    sides = jnp.stack([moved(a), moved(c)], -2)
    values = q(sides)
    fa, fc = values[..., 0], values[..., 1]
    left, right = (b - a) * (v - fc), (b - c) * (v - fa)
    curved = jnp.abs(left - right) > 0
    shift = 0.5 * ((b - a) * left - (b - c) * right) / jnp.where(curved, left - right, 1.0)
    vertex = moved(jnp.where(curved, jnp.clip(b - shift, b - step, b + step), b))
    points = jnp.concatenate([u[..., None, :], sides, vertex[..., None, :]], -2)
    scores = jnp.concatenate([v[..., None], values, q(vertex[..., None, :])], -1)
    best = jnp.argmax(scores, -1)
    u = jnp.take_along_axis(points, best[..., None, None], -2)[..., 0, :]
    return u, jnp.take_along_axis(scores, best[..., None], -1)[..., 0]


def _beside(b, low, step):
    """A point one step below b; at the bound itself if that is nearer, and half a step above b where b all but lies on it."""
    return jnp.where(b - step >= low, b - step, jnp.where(b - low > 0.25 * step, low, b + 0.5 * step))
