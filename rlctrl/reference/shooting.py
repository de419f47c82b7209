"""V* and ∇V* at one state by open-loop programmes (`programme`) whose horizon N is doubled until V changes by less than the tolerance.

Every optimum is continued; the first grow out of those of an eighth of the horizon, beside starts of the full one. Where the exit rule
projects states, the walls touched are searched for (`contacts`): from the contacts of starts rolled out on the true plant, and those of the
optimum without walls. The best path is stepped through once more on the true plant before it counts.

Error estimate of an answer: what further doublings would add, and the gap. With c the last change of V and r the factor by which it fell,
c r/(1 − r) is left if changes go on falling by r (like a power of N), and less if they fall faster and faster (like an exponential: γ < 1,
or paths that settle), as most do. If the last two changes differ in sign, c counts. The gap is Σ|λ·g| over the constraints plus λ times
the distance over the bounds, by which the value of a programme can be off to first order, plus rounding. Walls make optima many (how many
steps lead to one, say): that the best path found is the global optimum is not proven.
"""

import functools
from dataclasses import dataclass

import numpy as np

from rlctrl.casadi_jax import JaxFunction
from rlctrl.reference.contacts import refined, settled
from rlctrl.reference.programme import Path, optimum
from rlctrl.reference.rollout import Guess, fresh, longer, replayed, true_step
from rlctrl.tree import saved

DOUBLINGS = 7  # of the horizon
SHORTER = 3  # halvings of the horizon with which to begin
REMEMBERED = 4096  # solved points
SLOWEST = 0.9  # factor by which changes are taken to fall on at least
KEPT = 4  # distinct optima of a horizon that are continued
OFF = 1e-6  # distance, relative to 1 + |x|, by which a path may miss the true plant


@saved
@dataclass(frozen=True)
class Shooting:
    """Everything that defines the programmes, hashable: Φ and r with their parameters, boxes, start gain (rows of K, x0, u0), settings.

    `walls` is the box onto which states are projected, infinite where they are not; `turns` the lower bounds of the states and the periods
    of those that turn, 0 for the others.
    """

    update: JaxFunction
    reward: JaxFunction
    p: tuple
    w: tuple
    gamma: float
    inputs: tuple
    walls: tuple
    turns: tuple
    gain: tuple
    tolerance: float
    horizon: int
    starts: int

    @property
    def n(self):
        return self.update.sizes[0]

    @property
    def m(self):
        return self.update.sizes[1]

    def wrapped(self, points):
        """Points (..., n) or (..., n+m) with the states that turn in their box."""
        (low, period), x = np.array(self.turns), points[..., : self.n]
        turns = np.floor((x - low) / np.where(period > 0, period, np.inf))
        return np.concatenate([x - turns * period, points[..., self.n :]], -1)


def _begun(shooting, start, steps, fixed):
    """What fresh starts lead to: the optimum without walls, or its inputs on the true plant; and the start itself if it touches walls."""
    nowhere = (-np.inf,) * shooting.n, (np.inf,) * shooting.n
    low, high = np.array(shooting.walls)[..., None]
    for guess in fresh(shooting, start, steps, fixed):
        free = optimum(shooting, nowhere, start, Guess(guess.x, guess.u, 0 * guess.contacts), fixed)
        inside = isinstance(free, str) or np.all((low <= free.x[:, 1:]) & (free.x[:, 1:] <= high))
        yield free if inside else settled(shooting, start, replayed(shooting, free), fixed)
        if np.any(guess.contacts):
            yield settled(shooting, start, guess, fixed)


def _optima(shooting, start, fixed):
    """Optima of the horizon and its doublings, the distinct ones best first, with the reasons of the failures. The first have grown out
    of those of an eighth of the horizon (short programmes have fewer local optima)."""
    steps = -(-shooting.horizon // 2**SHORTER)
    found = list(_begun(shooting, start, steps, fixed))
    for k in range(SHORTER + DOUBLINGS + 1):
        paths = _distinct(shooting, [path for path in found if isinstance(path, Path)])
        if k == SHORTER and paths:
            paths[0] = refined(shooting, start, paths[0], fixed)
        yield paths, [reason for reason in found if isinstance(reason, str)]
        found = [settled(shooting, start, longer(shooting, path), fixed) for path in paths[:KEPT]]
        steps *= 2
        if k == SHORTER - 1:
            found += _begun(shooting, start, steps, fixed)


def _distinct(shooting, paths):
    """The paths whose values differ, best first."""
    paths = sorted(paths, key=lambda path: -path.value)
    allowed = 10 * shooting.tolerance * (1 + abs(paths[0].value)) if paths else 0.0
    return [path for k, path in enumerate(paths) if k == 0 or paths[k - 1].value - path.value > allowed]


@dataclass(frozen=True)
class Answer:
    """The best path at one point: value, slope (∇V, or ∇Q), first input, error estimate, horizon, number of distinct optima seen."""

    value: float
    slope: np.ndarray
    u: np.ndarray
    error: float
    steps: int
    optima: int


@functools.lru_cache(maxsize=REMEMBERED)
def answer(shooting, point, fixed) -> Answer | str:
    """The answer at a point (x, or x with u if `fixed`), or why there is none."""
    values, change = [], np.inf
    for k, (paths, reasons) in enumerate(_optima(shooting, np.array(point), fixed)):
        values.append(paths[0].value if paths else np.nan)
        if k < SHORTER:
            continue
        steps = -(-shooting.horizon // 2**SHORTER) * 2**k
        if not paths:
            reason = f"IPOPT ended with: {reasons[0]} (horizon {steps})"
            return f"{reason}; V may be infinite, r or Φ undefined there, or more `starts` needed"
        best, change = paths[0], abs(values[-1] - values[-2])
        if change <= shooting.tolerance * (1 + abs(best.value)):
            return _checked(shooting, best, _tail(values), len(paths))
    return f"V still changes by {change:.1e} at horizon {steps}: raise `horizon`, or V is infinite"


def _checked(shooting, path, tail, optima) -> Answer | str:
    """The answer of a path, if it is one of the true plant: every step taken again, with the exit rule."""
    steps = path.u.shape[1]
    off = np.abs(path.x[:, 1:] - np.array(true_step(shooting).map(steps)(path.x[:, :-1], path.u)[0]))
    if np.any(off > OFF * (1 + np.abs(path.x[:, 1:]))):
        return f"the path found misses the plant by {np.max(off):.1e} at step {np.argmax(np.max(off, 0))}"
    error = tail + path.slack + float(np.sum(np.abs(path.price) * off))
    return Answer(path.value, path.slope, path.u[:, 0], error, steps, optima)


def _tail(values):
    """What further doublings of the horizon add to the last of the values, each of twice the horizon of the one before."""
    changes = np.diff([v for v in values if np.isfinite(v)][-3:])
    sizes = np.maximum(np.abs(changes), 1e-300)
    if len(sizes) < 2 or changes[-1] * changes[-2] < 0:
        return float(sizes[-1])
    ratio = min(sizes[-1] / sizes[-2], SLOWEST)
    return float(sizes[-1] * ratio / (1 - ratio))
