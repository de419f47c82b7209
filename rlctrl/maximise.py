"""Maximum over the inputs: enumerated candidates, then a local search well below their spacing."""

import itertools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.errors import require, require_whole
from rlctrl.kinds import is_list
from rlctrl.tree import record

ROUNDS = 6  # of the local search, at most
SHRINK = 0.3  # of its step, per round that finds no better point at its ends: 0.3^6 = 7e-4 of the spacing, before the parabolas' own gain
SAFETY = 3.0  # how much worse a parabola may fit than a point shows
FINEST = 9.0  # power of `SHRINK` below which steps do not fall
FOUND = 1e-6  # likely error, relative to the spacing, of a maximum that is found
ROUNDING = 1e-14  # of values, relative to the larger ones
TINY = 1e-300  # in place of 0 in a divisor
NONE = 1e90  # a value as large stands for an input that must not be
SWEEPS = 30  # of coordinate ascent on a quadratic of several inputs: error 0.9^30 at a curvature ratio of 20


@record(arrays=("candidates", "step", "low", "high", "values"))
@dataclass(frozen=True, eq=False)
class InputSet:
    """Candidates (A, m) over the input box, their spacing per input (0 for finitely many values), the box, and per input an array of its
    finitely many values in order, empty where it is continuous."""

    candidates: Any
    step: Any
    low: Any
    high: Any
    values: tuple

    @property
    def continuous(self) -> tuple[int, ...]:
        """Positions of the inputs that are not limited to finitely many values."""
        return tuple(j for j, values in enumerate(self.values) if not len(values))

    def beside(self, u):
        """u (..., m) and, where inputs have finitely many values, the neighbouring ones: (..., B, m)."""
        axes = []
        for j, values in enumerate(self.values):
            if j in self.continuous:
                axes.append([u[..., j]])
                continue
            table = jnp.asarray(values)
            here = jnp.searchsorted(0.5 * (table[1:] + table[:-1]), u[..., j])
            axes.append([table[jnp.clip(here + k, 0, len(values) - 1)] for k in (-1, 0, 1)])
        return jnp.stack([jnp.stack(combination, -1) for combination in itertools.product(*axes)], -2)


def input_set(signals, count) -> InputSet:
    """`count` equally spaced candidates per continuous input (one number, or one per input); finite inputs list their values."""
    counts = list(count) if is_list(count) else [count] * len(signals)
    require(len(counts) == len(signals), "inputs", f"must be one number, or {len(signals)} of them", count, "Use e.g. 21.")
    for number in counts:
        require_whole("inputs", number, 3, "Use e.g. 21 candidates per input.")
    axes, steps = [], []
    for signal, number in zip(signals, counts, strict=True):
        bounded = np.isfinite(signal.high - signal.low)
        require(bounded, signal.name, "needs finite bounds to be maximised over", (signal.low, signal.high), "Give the input low and high.")
        axes.append(np.array(signal.values) if signal.values else np.linspace(signal.low, signal.high, int(number)))
        steps.append(0.0 if signal.values else (signal.high - signal.low) / (int(number) - 1))
    candidates = np.array(list(itertools.product(*axes)))
    low, high = np.array([s.low for s in signals]), np.array([s.high for s in signals])
    return InputSet(candidates, np.array(steps), low, high, finite_values(signals))


def finite_values(signals) -> tuple:
    """Per signal the values it can have, in order, none where it is continuous."""
    return tuple(np.sort(s.values or ()) for s in signals)


def maximise(q, inputs: InputSet, start=None, rounds=ROUNDS, values=None, step=None):
    """argmax and max over the input box of q: (..., A, m) → (..., A).

    Starts from the best of `start` (..., A, m) (default: all candidates), then for each continuous input in turn compares the points one
    step either side and the vertex of the parabola through the three, with the step shrinking each round, the faster the better the
    parabola fits, until all maxima are found or after so many `rounds`; several continuous inputs are also moved together, to the vertex of
    the quadratic through the points around. Finite inputs keep the best candidate's values; `rounds=0` keeps the best candidate.
    `values`: q(start), where known; `step` (..., m): of the first round, where the spacing of the candidates is too far.
    """
    candidates = jnp.asarray(inputs.candidates if start is None else start)
    values = q(candidates) if values is None else values
    u, v = _best(jnp.broadcast_to(candidates, (*values.shape, candidates.shape[-1])), values)

    def going(search):
        return (search[0] < rounds) & jnp.any(search[-1] > FOUND)

    def one_round(search):
        k, u, v, level, least, before = search
        error, least = jnp.zeros(u.shape), least + 1
        step = jnp.asarray(inputs.step) * SHRINK**level
        for j in inputs.continuous:
            u, v, off, inside = _line(q, inputs, u, v, j, step[..., j])
            error, least = error.at[..., j].set(off), least.at[..., j].add(jnp.where(inside, 0, -1))
        if len(inputs.continuous) > 1:
            u, v, apart = _together(q, inputs, u, v, step)
            error = jnp.maximum(error, apart)
        error = jnp.where(jnp.isnan(error), inputs.high - inputs.low, error) / spacing  # NaN beside inputs that give −∞
        found = jnp.all(before <= FOUND, -1, keepdims=True)
        level = jnp.clip(jnp.floor(jnp.log(error) / np.log(SHRINK)), least, FINEST)
        return k + 1, u, v, level, least, jnp.where(found, 0.0, error)  # what is found stays found, however values are rounded

    if not (inputs.continuous and rounds):
        return u, v
    spacing, zero = jnp.where(jnp.asarray(inputs.step) > 0, inputs.step, 1.0), jnp.zeros(u.shape)
    level = zero if step is None else jnp.clip(jnp.floor(jnp.log(step / spacing) / np.log(SHRINK)), 0, FINEST)
    return jax.lax.while_loop(going, one_round, (0, u, v, level, level, zero + 1))[1:3]


def _line(q, inputs, u, v, j, step):
    """Best of u, two points beside it and the vertex of the parabola through the three, along input j; its value; how far the maximum
    may be from it; and whether it lies between the two points."""
    low, high, b = inputs.low[j], inputs.high[j], u[..., j]
    a, c = jnp.clip(_beside(b, low, step), low, high), jnp.clip(-_beside(-b, -high, step), low, high)

    def moved(place):
        return u.at[..., j].set(place)

    def look(k, found):
        scores, _ = found
        place = jnp.where(k == 1, a, jnp.where(k == 2, c, _vertex((b, a, c), scores, step, low, high)))
        return scores.at[k].set(q(moved(place)[..., None, :])[..., 0]), place

    scores, last = jax.lax.fori_loop(1, 4, look, (jnp.stack([v] * 4), b))  # one place after the other: q is compiled once
    places = jnp.stack([b, a, c, last])
    best = jnp.argmax(scores, 0)
    place, v = (_pick(x, best[None], 0)[0] for x in (places, scores))
    return moved(place), v, _off(places, scores, place, low, high), (best != 1) & (best != 2)


def _pick(values, number, axis):
    """The entries of that number along an axis."""
    return jnp.take_along_axis(values, number, axis, mode="promise_in_bounds")


def _best(points, values):
    """The one of `points` (..., A, m) whose value (..., A) is largest, and its value."""
    best = jnp.argmax(values, -1)
    return _pick(points, best[..., None, None], -2)[..., 0, :], _pick(values, best[..., None], -1)[..., 0]


def _parabola(places, scores):
    """Slope from the first to the second of three places, and bend, of the parabola through the scores there."""
    b, a, c, *_ = places
    left, right = (scores[1] - scores[0]) / (a - b), (scores[2] - scores[0]) / (c - b)
    return left, (right - left) / (c - a)


def _vertex(places, scores, step, low, high):
    """Where the parabola through the first three places is largest, within a step of the first; if that is there, a place beside it."""
    (left, bend), (b, a, c) = _parabola(places, scores), places
    shift = jnp.nan_to_num(0.5 * (a - b - left / bend), nan=0.0)  # NaN where q is flat, or −∞ at a side
    vertex = jnp.clip(b + jnp.clip(shift, -step, step), low, high)
    return jnp.where(vertex == b, 0.5 * (b + jnp.where(b - a < c - b, a, c)), vertex)


def _off(places, values, best, low, high):
    """How far from `best` the maximum over [low, high] may be, if what the parabola through the first three of four places misses at the
    last is cubic; NaN where that is unknown."""
    (left, bend), (a, c, t) = _parabola(places, values), places[1:] - places[0]
    place = best - places[0]
    middle, *sides = jnp.abs(values[:3])
    rounding = ROUNDING * jnp.maximum(middle, jnp.minimum(*(jnp.where(side < NONE, side, 0.0) for side in sides)))
    missed = jnp.abs(values[3] - values[0] - t * (left + bend * (t - a)))
    cubic = jnp.maximum(missed - rounding, 0.0) / jnp.maximum(jnp.abs(t * (t - a) * (t - c)), TINY)
    slope = left + bend * (2 * place - a)
    wrong = SAFETY * cubic * jnp.abs((place - a) * (place - c) + place * (2 * place - a - c))
    ends = [jnp.clip(best + (slope + side * wrong) / jnp.maximum(2 * jnp.abs(bend), TINY), low, high) for side in (-1, 1)]
    off = jnp.maximum(*(jnp.abs(end - best) for end in ends))
    return jnp.where((jnp.abs(slope) + wrong) * off <= rounding, 0.0, off)


def _together(q, inputs, u, v, step):
    """The better of u and the maximum over the box of the quadratic through the points one step around u (Newton's step, from
    differences), found by coordinate ascent; its value; and how far from u it is."""
    moving = inputs.continuous
    low, high = (jnp.asarray([side[j] for j in moving]) for side in (inputs.low, inputs.high))
    h = jnp.stack([step[..., j] for j in moving], -1)
    start = jnp.stack([u[..., j] for j in moving], -1)
    middle = jnp.clip(start, low + h, high - h)

    def full(part):
        return jnp.stack([part[..., moving.index(j)] if j in moving else u[..., j] for j in range(u.shape[-1])], -1)

    eye = np.eye(len(moving))
    pairs = list(itertools.combinations(range(len(moving)), 2))
    shifts = np.concatenate([np.zeros((1, len(moving))), eye, -eye, [eye[i] + eye[j] for i, j in pairs]])
    values = q(jnp.stack([full(middle + shift * h) for shift in shifts], -2))
    centre, up, down = values[..., 0], values[..., 1 : 1 + len(moving)], values[..., 1 + len(moving) : 1 + 2 * len(moving)]
    slope, curvature = 0.5 * (up - down), up + down - 2 * centre[..., None]
    mixed = {(i, j): values[..., 1 + 2 * len(moving) + k] - up[..., i] - up[..., j] + centre for k, (i, j) in enumerate(pairs)}
    place, low, high = (start - middle) / h, (low - middle) / h, (high - middle) / h

    def sweep(_, place):
        for i in range(len(moving)):
            pull = slope[..., i] + sum(mixed[min(i, j), max(i, j)] * place[..., j] for j in range(len(moving)) if j != i)
            best = -pull / jnp.where(curvature[..., i] < 0, curvature[..., i], 1.0)
            best = jnp.clip(jnp.where(curvature[..., i] < 0, best, place[..., i]), low[..., i], high[..., i])
            place = place.at[..., i].set(best)
        return place

    found = full(middle + h * jax.lax.fori_loop(0, SWEEPS, sweep, place))
    value = q(found[..., None, :])[..., 0]
    better = value > v
    return jnp.where(better[..., None], found, u), jnp.where(better, value, v), jnp.abs(found - u)


def _beside(b, low, step):
    """A point one step below b; at the bound itself if that is nearer, and half a step above b where b all but lies on it."""
    return jnp.where(b - step >= low, b - step, jnp.where(b - low > 0.25 * step, low, b + 0.5 * step))
