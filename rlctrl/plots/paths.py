"""Panels of trajectories and returns."""

from functools import partial

import numpy as np
from matplotlib.ticker import MaxNLocator

from rlctrl.plots.drawing import GREY, PENS, broken, frame, legend, mark_single_points, measured, scale

PATHS = 3  # shown per policy


def signal_panels(trajectories):
    path = next(iter(trajectories.values()))
    return [partial(_signal_panel, trajectories, k) for k in range(len(path.states) + len(path.inputs))]


def _signal_panel(trajectories, k, ax):
    """Signal k of (states, inputs) over time: mean and 5–95 % band, or single paths where a state turns (a mean of angles says nothing)."""
    path = next(iter(trajectories.values()))
    signal, n = (*path.states, *path.inputs)[k], len(path.states)
    single = len(path.x) == 1 or any(s.periodic for s in path.states)
    for pen, (name, path) in zip(PENS, trajectories.items(), strict=False):
        pen = pen | {"label": name, "drawstyle": "steps-post" if k >= n else "default"}
        (_paths if single else _band)(ax, path.t, _living(path, k), signal, pen)
    mark_single_points(ax)  # paths that had ended at the start
    frame(ax, signal, whole=k >= n)
    time = "sample k" if np.array_equal(path.t, np.arange(len(path.t))) else "t [s]"  # no sampling time, or one of 1 s
    ax.set(xlabel=time, ylabel=signal.label, xlim=path.t[[0, -1]])
    if k == 0 and any(trajectories):
        legend(ax, 4, title="single paths on the same noise" if single else f"mean and 5–95 % band of {len(path.x)} paths")


def _living(path, k):
    """Signal k of every path, (batch, time), nan after its end; the last input is held for one sample."""
    n, alive = len(path.states), path.alive
    values = path.x[..., k] if k < n else np.hstack([path.u, path.u[:, -1:]])[..., k - n]
    seen = np.hstack([np.ones_like(alive[:, :1]), alive[:, :-1]]) if k < n else alive
    return np.where(seen & np.isfinite(values), values, np.nan)


def _paths(ax, t, values, signal, pen):
    """Some paths on the noise that all policies met, the first one bold; of an input that one alone. An angle is broken at its seam."""
    count = 1 if pen["drawstyle"] == "steps-post" else PATHS
    chosen = values[np.unique(np.linspace(0, len(values) - 1, count).astype(int))]
    for k, row in enumerate(chosen):
        points = broken(np.stack([t, row], -1), None, signal)
        ax.plot(*points.T, **pen | ({"linewidth": 0.6, "label": None} if k else {}))


def _band(ax, t, values, _, pen):
    """Mean and 5–95 % band of the paths still alive; nothing where all had ended at the start."""
    alive = ~np.all(np.isnan(values), 0)
    if not alive.any():
        return
    t, values = t[alive], values[:, alive]
    low, high = np.nanpercentile(values, (5, 95), axis=0)
    ax.fill_between(t, low, high, color=pen["color"], alpha=0.15, linewidth=0, step="post" if pen["drawstyle"] == "steps-post" else None)
    ax.plot(t, np.nanmean(values, 0), **pen)


def returns_panel(comparison, ax, reference=None):
    """Mean discounted return of each policy with its 95 % interval, best on top; V* at the initial states."""
    names = sorted(comparison.returns, key=lambda name: comparison.returns[name].mean)
    for pen, (name, r) in zip(PENS, comparison.returns.items(), strict=False):
        row = names.index(name)
        ax.errorbar(r.mean, row, xerr=np.nan_to_num(r.ci95, posinf=0.0), fmt="o", color=pen["color"], markersize=4, capsize=3)
        ax.annotate(measured(r.mean, r.ci95), (1.02, row), xycoords=("axes fraction", "data"), va="center", size=8)
    ax.set(yticks=range(len(names)), yticklabels=names, ylim=(-0.6, len(names) - 0.4), xlabel="discounted return, 95 % interval")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    if reference is not None:
        start = next(iter(comparison.trajectories.values())).x[:, 0]
        ax.axvline(reference.V(start).mean(), color=GREY, linestyle=":", label="V*(x₀), endless horizon")
        legend(ax, 1)
    scale(ax, "x", np.array([r.mean for r in comparison.returns.values()]), signed=True, span=30)
    if ax.get_xscale() == "symlog":
        ax.set_xlabel(f"{ax.get_xlabel()} (symlog)")
