"""Panels of studies: the sources of the critic's error, the coverage of its data, e_Q against width, e* of policies, scores."""

import numpy as np
from matplotlib.colors import CenteredNorm

from rlctrl.analysis.score import ROWS
from rlctrl.plots.drawing import COLOURS, GREY, PENS, legend, measured, number, scale, turns

CELLS = 40  # a side of a map
POINTS = 3000  # of the occupancy shown


def sources_panel(s, ax):
    """Contributions γ^k ε to Q̂ − Q^θ by cell of the first two states (state and input where there is one), mean over paths; the cells add
    up to the total."""
    signals, values = _first_two(s)
    x, y = (v[s.alive] for v in values)
    edges = _edges(x), _edges(y)
    total = np.histogram2d(x, y, edges, weights=s.contribution[s.alive] / len(s.x))[0]
    visited = np.histogram2d(x, y, edges)[0] > 0
    mesh = ax.pcolormesh(*edges, np.where(visited, total, np.nan).T, cmap="RdBu_r", norm=CenteredNorm(), rasterized=True)
    ax.get_figure(root=False).colorbar(mesh, ax=ax, label=r"contribution of a cell to $\hat Q - Q^\theta$")
    ax.plot(*[v[0, 0] for v in values], "k^", markersize=6, markerfacecolor="none", label="$z_0$")
    _axes(ax, signals)
    legend(ax, 1, title=rf"$\hat Q - Q^\theta$ = {measured(s.total, s.ci95)}")


def steps_panel(s, ax):
    """The contributions of every step, added up; the band is the bound on what is cut off."""
    reached, step = np.cumsum(s.by_step), np.arange(1, s.by_step.size + 1)
    ax.plot(step, reached, label="contributions so far", **PENS[0])
    ax.axhspan(s.total - s.ci95 - s.tail, s.total + s.ci95 + s.tail, color="0.88", linewidth=0, zorder=0, label="total ± 95 % ± tail")
    ax.set(xlabel="steps along the path", ylabel=r"part of $\hat Q - Q^\theta$")
    scale(ax, "x", step)
    ax.axhline(0, color=GREY, linewidth=0.6)
    legend(ax, 1)


def _first_two(s):
    """Signals and values (P, K) of what a map of sources spans."""
    values = [s.x[..., k] for k in range(min(2, s.x.shape[-1]))] + [s.u[..., 0]]
    return (*s.states[:2], s.inputs[0])[:2], values[:2]


def _edges(values):
    low, high = values.min(), values.max()
    return np.linspace(low, high if high > low else low + 1e-9 * (1 + abs(low)), CELLS + 1)


def _axes(ax, signals):
    ax.set(xlabel=signals[0].label, ylabel=signals[1].label)
    turns(ax.xaxis, signals[0])
    turns(ax.yaxis, signals[1])


def pairs(c):
    """Coordinates to look at together: those of the first two states and the first input."""
    n = len(c.states)
    return [(0, 1), (0, n), (1, n)] if n > 1 else [(0, 1)]


def coverage_panel(c, pair, ax):
    """Where p^θ goes (a sample by mass), what of it lacks data, and the data, in two coordinates."""
    i, j = pair
    chosen = np.random.default_rng(0).choice(len(c.z), min(POINTS, len(c.z)), p=c.weight)
    lacks, pen = c.lacks[chosen], {"markersize": 2.5, "linestyle": "none", "rasterized": True}
    z = c.z[chosen]
    ax.plot(z[~lacks, i], z[~lacks, j], marker="o", color=COLOURS[5], alpha=0.5, markeredgewidth=0, label="$p^θ$ goes there", **pen)
    ax.plot(
        z[lacks, i],
        z[lacks, j],
        marker="o",
        color=COLOURS[1],
        alpha=0.7,
        markeredgewidth=0,
        label=f"lacks data: {100 * c.share:.3g} %",
        **pen,
    )
    ax.plot(c.data[:, i], c.data[:, j], marker="x", color="black", alpha=0.6, label=f"{len(c.data)} data", **pen)
    if len(c.worst):
        ax.plot(c.worst[:, i], c.worst[:, j], "s", color=COLOURS[3], markersize=5, markerfacecolor="none", label="farthest from data")
    _axes(ax, [(c.states + c.inputs)[k] for k in pair])
    legend(ax, 2, markerscale=1.6)


def distance_panel(c, ax):
    """Share of the occupancy farther from the data than a distance; dotted: the data's own spacing."""
    order = np.argsort(c.distance)
    ax.step(c.distance[order], 100 * (1 - np.cumsum(c.weight[order])), where="post", label="occupancy of $p^θ$", **PENS[0])
    label = f"{100 * c.quantile:g} % quantile of the data's spacing: {number(c.spacing, 2)}"
    ax.axvline(c.spacing, color=GREY, linestyle=":", label=label)
    ax.set(xlabel="distance to nearest datum [1 = box]", ylabel="farther than that [%]", ylim=(0, 100))
    scale(ax, "x", np.append(np.quantile(c.distance, [0.01, 1]), c.spacing))
    legend(ax, 1)


def width_panel(w, ax):
    """(T10) rms and sup of e_Q against width, relative to std Q*, with the fitted power law."""
    for pen, marker, name, e in zip(PENS, "os", ("rms", "sup"), (w.rms, w.sup), strict=False):
        rate = {"rms": w.rate, "sup": w.sup_rate}[name]
        power = "" if np.isnan(rate) else f" ∝ width$^{{{-rate:.2f}}}$"
        ax.plot(w.widths, e / w.spread, marker=marker, markersize=4, label=f"{name} $e_Q${power}", **pen)
    ax.plot(w.widths, w.fit_rms / w.spread, marker=".", label="rms on the fitting points", **PENS[2])
    ax.set(xlabel="hidden units", ylabel=r"$e_Q$ / std $Q^\ast$", xscale="log", xticks=w.widths, xticklabels=[str(k) for k in w.widths])
    ax.minorticks_off()
    scale(ax, "y", np.concatenate([w.rms, w.sup, w.fit_rms]) / w.spread, span=3)
    legend(ax, 2)


def parts_panel(e, ax):
    """Root mean square and largest of what every policy and the noise add to the TD error, and what the reference itself may be off by."""
    found = {name: sizes for name, sizes in e.summary().items() if name != "residual"}
    columns = {label: [sizes[key] for sizes in found.values()] for key, label in (("rms", "rms over Z"), ("sup", "largest"))}
    _dots(ax, list(found), columns)
    values = np.array([*columns.values()])
    if 0 < e.residual < np.max(values):
        ax.axvline(e.residual, color=GREY, linestyle="--", linewidth=1.0, label=f"the reference's own: {number(e.residual, 2)}")
        values = np.append(values, e.residual)
    ax.set(xlabel="size, in units of Q", ylabel=r"part of $e^\ast$")
    scale(ax, "x", values)
    legend(ax, 3)


def score_panel(s, ax):
    """The rows of a score by measure, relative to the spread of Q*."""
    measures = {"over the box": s.uniform, "where the policy goes": s.visited}
    columns = {name: [abs(part[key]) for key in ROWS] for name, part in measures.items()}
    _dots(ax, list(ROWS.values()), columns)
    ax.set(xlabel="root mean square, relative to std Q*", ylabel="part of the score")
    scale(ax, "x", np.array([*columns.values()]))
    known = [number(s.reference_error / spread, 2) for spread in s.spread]
    legend(ax, 2, title=f"stated error of the reference: {known[0]} and {known[1]}")


def _dots(ax, names, columns):
    """Named rows from the top, a mark for the value in every column."""
    rows = np.arange(len(names))[::-1]
    for (label, values), mark, colour, shift in zip(columns.items(), "os", COLOURS, (0.1, -0.1), strict=False):
        ax.plot(values, rows + shift, mark, color=colour, markersize=5, label=label)
    ax.set(yticks=rows, yticklabels=names, ylim=(-0.6, len(names) - 0.4))
    ax.grid(axis="y", color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
