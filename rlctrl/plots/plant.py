"""The figure of a plant: paths of the noisy plant with its inputs held, and the direction field of its drift between two states."""

from functools import partial
from itertools import combinations
from textwrap import fill
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.ticker import MaxNLocator

from rlctrl.errors import InputError, require, require_number, require_whole
from rlctrl.plant import Plant, box, finite_box
from rlctrl.plots.drawing import COLOURS, GREY, at, broken, frame, legend, turns
from rlctrl.plots.shapes import DRAWINGS
from rlctrl.problem import Problem

PATHS, STEPS, ARROWS = 5, 200, 14  # paths drawn, samples of each, arrows along an axis
SPREAD = 0.4  # of the box: how far apart the paths begin
TIMES = ("min", "h", "day", "year")  # units of time other than the second, as in 1/year


class Portrait(NamedTuple):
    """A plant around a point of rest `x` (n,), `u` (m,): `paths` (PATHS, steps+1, n), nan after the first state outside the box, at `t`
    (steps+1,); `ended` (PATHS,): index of that state, or −1."""

    plant: Plant
    x: np.ndarray
    u: np.ndarray
    t: np.ndarray
    paths: np.ndarray
    ended: np.ndarray


def portrait(plant, about=None, dt=None, horizon=None, seed=0) -> Portrait:
    """The numbers of the figure. Raises `InputError` for a point of the wrong shape, times that are not positive, a seed that is none."""
    x, u = _rest(plant, about)
    discrete = plant.update is not None
    dt = 1.0 if discrete else _sample(plant, x, u) if dt is None else dt
    positive = {"rule": "must be positive", "way_out": "Leave it out for a guess.", "low": 1e-12}
    require_number("dt", dt, **positive)
    horizon = STEPS * dt / (4 if discrete else 1) if horizon is None else horizon
    require_number("horizon", horizon, **positive)
    steps = int(np.ceil(round(horizon / dt, 6)))
    require(1 <= steps <= 100_000, "horizon", f"must be 1 to 100000 samples of `dt`, which is {dt:g}", horizon, "Change either.")
    require_whole("seed", seed, 0, "Use 0.")
    paths, ended = _paths(plant, _starts(plant, x), u, dt, steps, seed)
    steps = max(1, np.flatnonzero(np.any(np.isfinite(paths[..., 0]), 0))[-1])
    return Portrait(plant, x, u, np.arange(steps + 1) * float(dt), paths[:, : steps + 1], ended)


def _rest(plant, about):
    """The point of rest, or what the box has nearest to the origin."""
    if about is None:
        x = np.clip(np.zeros(plant.n), *box(plant.states))
        return x, np.array([min(s.values, key=abs) if s.values else np.clip(0.0, s.low, s.high) for s in plant.inputs])
    try:
        x, u = (np.array(part, float) for part in about)
    except (TypeError, ValueError):
        raise InputError(f"`about` must be a pair (x, u) of points; got {about!r}. Use e.g. ([0, 0], [0]).") from None
    fits = x.shape == (plant.n,) and u.shape == (plant.m,) and bool(np.all(np.isfinite([*x, *u])))
    require(fits, "about", f"must be {plant.n} states and {plant.m} inputs, finite", about, "Use e.g. plants.equilibrium(name).")
    return x, u


def _sample(plant, x, u):
    """A twentieth of the fastest time of the linearisation; a twentieth of a second without one."""
    A, _ = plant.jacobian(x, u)
    rates = np.abs(np.linalg.eigvals(A)) if np.all(np.isfinite(A)) else np.zeros(1)
    return float(0.05 / np.clip(rates.max(), 1e-6, 1e6)) if rates.max() > 1e-6 else 0.05


def _starts(plant, x):
    """The point of rest and points spread about it evenly (Kronecker's sequence of the square roots of primes)."""
    primes = [p for p in range(2, 50 + 20 * plant.n) if all(p % q for q in range(2, int(p**0.5) + 1))][: plant.n]
    low, high = finite_box(plant.states)
    places = (np.arange(PATHS)[:, None] * np.sqrt(primes)) % 1 - 0.5
    places[0] = 0.0
    return np.clip(x + SPREAD * (high - low) * places, *box(plant.states))


def _paths(plant, start, u, dt, steps, seed):
    """Paths (PATHS, steps+1, n) on the sampled kernel, and where each ends."""
    problem = Problem(plant, lambda x, u: 0, gamma=1.0, dt=dt)
    advance, (low, high) = problem.map_function.map(PATHS), box(plant.states)
    turning = np.array([s.periodic for s in plant.states])
    low, high, bottom = np.where(turning, -np.inf, low), np.where(turning, np.inf, high), np.where(turning, low, 0.0)
    width = np.where(turning, box(plant.states)[1] - bottom, 1.0)
    w = np.asarray(plant.law.sample(jax.random.key(seed), (steps, PATHS)))
    u, p = (np.tile(a[:, None], PATHS) for a in (u, plant.parameter_vector))
    paths = np.full((steps + 1, PATHS, plant.n), np.nan)
    x, ended, paths[0] = start, np.full(PATHS, -1), start
    for k in range(steps):
        x = np.array(advance(x.T, u, w[k].T, p)).T
        x = np.where(turning, bottom + (x - bottom) % width, x)
        alive = (ended < 0) & np.all(np.isfinite(x), 1)
        paths[k + 1] = np.where(alive[:, None], x, np.nan)
        out = alive & np.any((x < low) | (x > high), 1)
        ended = np.where(out, k + 1, np.where((ended < 0) & ~alive, k, ended))
        x = np.where((ended < 0)[:, None], x, start)
    return paths.swapaxes(0, 1), ended


def portrait_layout(found: Portrait) -> list[Any]:
    """The layout of panels: the plant itself where that says more, the direction field (of one state: the drift), every state over time."""
    n = found.plant.n
    main = _drift_panel if n == 1 else partial(_phase_panel, plane=_plane(found))
    states = [partial(_state_panel, found, k) for k in range(n)]
    scenes = [partial(_scene_panel, found, d.strokes) for d in DRAWINGS if d.scene and found.plant.name in d.plants]
    columns = 2 if n + len(scenes) in (1, 3) else 3
    return [7.0, 2.3 if n < 4 else 1.9, columns, *scenes, partial(main, found), *states]


def caption(found: Portrait) -> str:
    """What the figure shows."""
    held = ", ".join(at(s, v) for s, v in zip(found.plant.inputs, found.u, strict=True))
    end = "; × where a path leaves the box" if np.any(found.ended >= 0) else ""
    return fill(f"{found.plant.name} with {held} held: {PATHS} paths{end}", 100)


def _clock(plant):
    """Label of time: samples of a map; else the unit that the signals speak of."""
    if plant.update is not None:
        return "sample k"
    units = {s.unit.partition("/")[2].partition("^")[0] for s in (*plant.states, *plant.inputs)}
    return f"t [{next((u for u in TIMES if u in units), 's')}]"


def _pen(k):
    return {"color": COLOURS[k], "linewidth": 0.8}


def _ends(ax, points, found, k):
    if found.ended[k] >= 0:
        ax.plot(*points[found.ended[k]], marker="x", markersize=5, **_pen(k))


def _scene_panel(found, strokes, ax):
    """The plant itself at rest, without inputs."""
    for points, pen in strokes(found.x, 0 * found.u, 1.0):
        ax.plot(*np.asarray(points, float).T, **pen)
    ax.set(aspect="equal", yticks=[], xlabel=found.plant.states[0].label)
    ax.xaxis.set_major_locator(MaxNLocator(5))


def _state_panel(found, k, ax):
    signal = found.plant.states[k]
    for j, path in enumerate(found.paths):
        points = np.stack([found.t, path[:, k]], -1)
        ax.plot(*broken(points, None, signal).T, **_pen(j))
        _ends(ax, points, found, j)
    frame(ax, signal, whole=False)
    ax.set(xlabel=_clock(found.plant), ylabel=signal.label, xlim=found.t[[0, -1]])


def _flow(found, x, u=None):
    """Drift (k, n) at states (k, n), of a map the mean step; inputs `u` (m,), by default those held."""
    plant, k = found.plant, len(x)
    u, p, w = (np.tile(a[:, None], k) for a in (found.u if u is None else u, plant.parameter_vector, plant.law.mean))
    if plant.drift_function is not None:
        return np.array(plant.drift_function.map(k)(x.T, u, p)).T
    return np.array(plant.update_function.map(k)(x.T, u, w, p)).T - x


def _window(found, k):
    """Limits of state k: its box, or where that is open what the paths take up."""
    signal, seen = found.plant.states[k], found.paths[..., k]
    low, high = np.nanmin(seen), np.nanmax(seen)
    pad = 0.1 * (high - low) + 1e-6
    return signal.low if np.isfinite(signal.low) else low - pad, signal.high if np.isfinite(signal.high) else high + pad


def _grid(found, plane, count):
    """States (count², n) over a plane, the others at rest."""
    axes = [np.linspace(*_window(found, k), count + 2)[1:-1] for k in plane]
    x = np.tile(found.x, (count**2, 1))
    x[:, plane] = np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)
    return x


def _plane(found):
    """Two states to set against each other: the first two unless the field stands still in one of them there and moves elsewhere."""
    pairs = [list(pair) for pair in combinations(range(found.plant.n), 2)]
    moves = [np.any(np.abs(np.nan_to_num(_flow(found, _grid(found, p, 6))[:, p])) > 1e-9, axis=0) for p in pairs]
    return pairs[int(np.argmax(np.sum(moves, axis=1)))]


def _phase_panel(found, ax, plane):
    """Directions of the drift between two states, other states and inputs at rest, and the paths over them; box dotted."""
    signals = [found.plant.states[k] for k in plane]
    x = _grid(found, plane, ARROWS)
    limits = np.array([_window(found, k) for k in plane])
    flow = _flow(found, x)[:, plane] / np.ptp(limits, axis=1)
    speed = np.linalg.norm(flow, axis=1)
    moving = np.isfinite(speed) & (speed > 1e-12)
    points, way = x[np.ix_(moving, plane)], flow[moving] / speed[moving, None]
    ax.set_box_aspect(1)  # so that arrows point along the flow
    ax.quiver(
        *points.T, *way.T, pivot="mid", color="0.65", scale=1.3 * ARROWS, width=0.007, headwidth=3.5, headlength=4, headaxislength=3.5
    )
    for k, path in enumerate(found.paths):
        ax.plot(*broken(path[:, plane], *signals).T, **_pen(k))
        ax.plot(*path[0, plane], marker="o", markersize=3, **_pen(k))
        _ends(ax, path[:, plane], found, k)
    _dotted(ax, signals, limits)
    still = "" if found.plant.n == 2 else "other states at rest"
    ax.set(xlabel=signals[0].label, ylabel=signals[1].label, title=still if np.any(moving) else "nothing moves without an input")


def _dotted(ax, signals, limits):
    """Limits a little wider than the box, whose bounds are dotted."""
    for which, signal, (low, high) in zip("xy", signals, limits, strict=True):
        pad = 0.0 if signal.periodic else 0.05 * (high - low)
        ax.set(**{f"{which}lim": (low - pad, high + pad)})
        turns(getattr(ax, f"{which}axis"), signal)
        line = ax.axvline if which == "x" else ax.axhline
        for bound in (b for b in (signal.low, signal.high) if np.isfinite(b) and not signal.periodic):
            line(bound, color=GREY, linestyle=":", linewidth=0.9)


def _drift_panel(found, ax):
    """Of a single state: its drift (of a map, the mean next state) over it, with the inputs held and with the first at its ends."""
    plant, signal = found.plant, found.plant.states[0]
    x, mapped = np.linspace(*_window(found, 0), 201)[:, None], plant.update is not None
    first = plant.inputs[0]
    levels = first.values or np.unique([v for v in (first.low, found.u[0], first.high) if np.isfinite(v)])
    for colour, level in zip(COLOURS, levels, strict=False):
        y = _flow(found, x, np.array([level, *found.u[1:]])) + (x if mapped else 0)
        ax.plot(x[:, 0], y[:, 0], color=colour, label=at(first, level), linestyle="-" if level == found.u[0] else "--")
    ax.plot(x[:, 0], x[:, 0] if mapped else 0 * x[:, 0], color=GREY, linestyle=":", linewidth=0.9)
    rate = "mean next " + signal.label if mapped else f"d{signal.name}/dt [{signal.unit}/{_clock(plant)[3:-1]}]"
    ax.set(xlabel=signal.label, ylabel=rate, xlim=x[[0, -1], 0])
    legend(ax, 3)
