"""Figures of results: `draw` any of them, `run_figures` for a whole run, `save` one as PDF, PNG and SVG.

Numbers first, ink second: what a figure needs is evaluated in one batched call per function, then drawn by small panel functions that
take an Axes. No pyplot and no global style: figures are plain `matplotlib.figure.Figure`s, made and saved under a local style context.
Colours are those of Okabe & Ito (2008), told apart by line style too; T-numbers are those of the theory page.
"""

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rlctrl.analysis import Comparison, Decomposition
from rlctrl.critic import Training
from rlctrl.errors import require
from rlctrl.plant import finite_box
from rlctrl.reference import Reference
from rlctrl.simulate import Trajectory
from rlctrl.storage import write_whole

STYLE = {
    "font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9, "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8,
    "figure.titlesize": 9, "axes.linewidth": 0.6, "xtick.major.width": 0.6, "ytick.major.width": 0.6, "lines.linewidth": 1.3,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "legend.handlelength": 2.6,
    "axes.formatter.use_mathtext": True, "axes.formatter.limits": (-3, 4), "figure.dpi": 100, "savefig.dpi": 150,
    "pdf.fonttype": 42, "svg.hashsalt": "rlctrl", "contour.linewidth": 0.6,
}  # fmt: skip
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
GREY, FAINT = "0.45", "0.25"
NODES, CUT, DOTS, PATHS = 61, 101, 1500, 3  # map side, points of a Q slice, dots of visited data, paths shown per policy
WIDE = 30  # ratio of largest to smallest from which a scale turns logarithmic
METADATA: dict[str, dict] = {"pdf": {"CreationDate": None}, "png": {}, "svg": {"Date": None}}


@functools.singledispatch
def draw(result, ax=None):
    """Overview figure of a result: (figure, array of its panels). With `ax`, its one most important panel goes there: (figure, ax).

    Raises `InputError` for anything that is not a Reference, Trajectory, Training, Decomposition or Comparison.
    """
    known = "must be a Reference, Trajectory, Training, Decomposition or Comparison"
    require(False, "result", known, type(result).__name__, "Pass what solve, simulate, train, decompose or compare return.")


@draw.register
def _(result: Reference, ax=None):
    return _drawn(ax, lambda ax: _value_panel(ax, _value_fields(result)), lambda: _value_and_policy(result, _value_fields(result)))


@draw.register
def _(result: Trajectory, ax=None):
    series = {"": result}
    return _drawn(ax, lambda ax: _signal_panel(ax, series, 0), lambda: _closed_loop(series))


@draw.register
def _(result: Training, ax=None):
    return _drawn(ax, lambda ax: _td_panel(ax, result), lambda: _training_overview(result))


@draw.register
def _(result: Decomposition, ax=None):
    return _drawn(ax, lambda ax: _terms_panel(ax, result), lambda: _decomposition_overview(result))


@draw.register
def _(result: Comparison, ax=None):
    return _drawn(ax, lambda ax: _returns_panel(ax, result), lambda: _comparison_overview(result))


@mpl.rc_context(STYLE)
def run_figures(reference, training, decomposition, comparison) -> dict[str, Figure]:
    """The figures of a whole run by name. Q*, π* and the critic are evaluated once for all of them."""
    values = _value_fields(reference)
    fields = _q_fields(reference, training, decomposition)
    return {
        "closed_loop": _closed_loop(comparison.trajectories, training.problem.dt),
        "value_and_policy": _value_and_policy(reference, values),
        "q_slices": _q_slices(reference, fields),
        "e_q_map": _e_q_map(decomposition, fields),
        "e_star": _single(_e_star_panel, decomposition, size=(5.0, 3.0)),
        "training": _training(training, decomposition),
        "excitation": _single(_spectrum_panel, decomposition, size=(5.0, 3.2)),
        "lyapunov": _lyapunov(decomposition),
        "returns": _single(_returns_panel, comparison, reference, size=(5.0, 1.3 + 0.32 * len(comparison.returns))),
    }


@mpl.rc_context(STYLE)
def save(figure, folder, name) -> list[Path]:
    """Write `name`.pdf, .png and .svg into `folder` (made if missing), each whole or not at all; equal figures give equal bytes."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    paths = [Path(folder) / f"{name}.{kind}" for kind in METADATA]
    figure.draw_without_rendering()  # settles the layout once; it is the slowest part of drawing
    engine = figure.get_layout_engine()
    figure.set_layout_engine("none")
    try:
        for path, (kind, metadata) in zip(paths, METADATA.items(), strict=True):
            write_whole(path, functools.partial(figure.savefig, format=kind, metadata=metadata, dpi=STYLE["savefig.dpi"]))
    finally:
        figure.set_layout_engine(engine)
    return paths


def _drawn(ax, panel, overview):
    """Panel into `ax` if given, else the overview."""
    require(ax is None or isinstance(ax, Axes), "ax", "must be one Matplotlib Axes", ax, "Pass ax=figure.subplots().")
    with mpl.rc_context(STYLE):
        if ax is None:
            figure = overview()
            return figure, _panels(figure)
        panel(ax)
        return ax.get_figure(root=True), ax


def _figure(width, height) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _single(panel, *data, size) -> Figure:
    figure = _figure(*size)
    panel(figure.subplots(), *data)
    return figure


def _panels(figure):
    return np.array([a for a in figure.axes if a.get_label() != "<colorbar>"])


def _pen(k) -> dict:
    """Colour and line style number k."""
    return {"color": COLOURS[k % len(COLOURS)], "linestyle": DASHES[k % len(DASHES)]}


# Evaluation -------------------------------------------------------------------------------------------------------------------------


class Plane(NamedTuple):
    """A line or rectangle in z = (x, u): the signals along its axes, their coordinates, all points (…, n+m), and what is held fixed."""

    signals: tuple
    ticks: tuple
    z: np.ndarray
    held: str


def _plane(states, inputs, axes) -> Plane:
    """Coordinates `axes` of z over their box, the others at 0 (or the middle of a box that does not hold 0)."""
    signals = (*states, *inputs)
    low, high = finite_box(signals)
    ticks = tuple(np.linspace(low[k], high[k], NODES) for k in axes)
    mesh = np.meshgrid(*ticks)
    z = np.broadcast_to(_centre(low, high), (*mesh[0].shape, len(signals))).copy()
    for k, coordinate in zip(axes, mesh, strict=True):
        z[..., k] = coordinate
    fixed = [_at(s, v) for k, (s, v) in enumerate(zip(states, _centre(low, high), strict=False)) if k not in axes]
    return Plane(tuple(signals[k] for k in axes), ticks, z, ", ".join(fixed))


def _centre(low, high):
    return np.where((low <= 0) & (high >= 0), 0.0, 0.5 * (low + high))


def _at(signal, value):
    return f"{signal.name} = {value:.3g}" + ("" if signal.unit == "1" else f" {signal.unit}")


def _state_plane(reference):
    return _plane(reference.states, reference.inputs, range(min(2, len(reference.states))))


def _together(function, *blocks):
    """`function` on several blocks of points in one call; one result per block, with the block's leading axes."""
    shapes = [b[0].shape[:-1] for b in blocks]
    flat = [np.concatenate([b[k].reshape(-1, b[k].shape[-1]) for b in blocks]) for k in range(len(blocks[0]))]
    values = function(*flat)
    parts = np.split(values, np.cumsum([int(np.prod(s)) for s in shapes])[:-1])
    return [part.reshape(*shape, *values.shape[1:]) for part, shape in zip(parts, shapes, strict=True)]


class ValueFields(NamedTuple):
    """V* and π* on the plane of the first two states."""

    plane: Plane
    value: np.ndarray
    policy: np.ndarray


def _value_fields(reference) -> ValueFields:
    plane = _state_plane(reference)
    x = plane.z[..., : len(reference.states)].reshape(-1, len(reference.states))
    shape = plane.z.shape[:-1]
    return ValueFields(plane, reference.V(x).reshape(shape), reference.policy(x).reshape(*shape, -1))


class QFields(NamedTuple):
    """Q*, Q^{ω*} and Q^ω on the plane of two states under π*, on that of first state and first input, and on cuts along the first input."""

    states: Plane
    inputs: Plane
    cuts: np.ndarray
    star: list
    best: list
    trained: list


def _q_fields(reference, training, decomposition) -> QFields:
    """π* (within the input box) fills the inputs that are not an axis; then one call each of Q*, Q^{ω*}, Q^ω."""
    n = len(reference.states)
    states, inputs, cuts = _state_plane(reference), _plane(reference.states, reference.inputs, (0, n)), _cuts(reference)
    blocks = [states.z, inputs.z, cuts]
    low, high = finite_box(reference.inputs)
    optimal = _together(reference.policy, *[(z[..., :n],) for z in blocks])
    for z, u, first in zip(blocks, optimal, (n, n + 1, n + 1), strict=True):
        z[..., first:] = np.clip(u, low, high)[..., first - n :]
    pairs = [(z[..., :n], z[..., n:]) for z in blocks]
    best = replace(training, weights=decomposition.omega_star)
    return QFields(states, inputs, cuts, *[_together(q, *pairs) for q in (reference.Q, best.Q, training.Q)])


def _cuts(reference):
    """Lines along the first input, (3 or 4, CUT, n+m): at the centre, halfway out along the first states, and along all of them."""
    low, high = finite_box((*reference.states, *reference.inputs))
    n, half = len(reference.states), 0.25 * (high - low)
    steps = [np.zeros(n), np.eye(n)[0], np.eye(n)[min(1, n - 1)] * (1 if n > 1 else -1), *([-np.ones(n)] if n > 1 else [])]
    cuts = np.repeat((_centre(low, high) + np.pad(steps, ((0, 0), (0, len(low) - n))) * half)[:, None], CUT, axis=1)
    cuts[..., n] = np.linspace(low[n], high[n], CUT)
    return cuts


# Panels and figures -------------------------------------------------------------------------------------------------------------------


def _map(ax, plane, values, label, signed=False, flat=False):
    """Values on a plane: colours with a bar, or a line where the plane is a line."""
    ax.set_xlabel(plane.signals[0].label)
    ax.set_xlim(plane.ticks[0][0], plane.ticks[0][-1])
    if len(plane.ticks) == 1:
        ax.plot(plane.ticks[0], values, color=BLUE)
        return ax.set_ylabel(label)
    reach = max(float(np.max(np.abs(values))), 1e-300)
    limits = {"vmin": -reach, "vmax": reach, "cmap": "RdBu_r"} if signed else {"cmap": "viridis"}
    mesh = ax.pcolormesh(*plane.ticks, values, shading="nearest" if flat else "gouraud", rasterized=True, **limits)
    ax.set_ylabel(plane.signals[1].label)
    ax.set_ylim(plane.ticks[1][0], plane.ticks[1][-1])
    return ax.get_figure(root=False).colorbar(mesh, ax=ax, label=label)


def _contours(ax, plane, values, levels, **pen):
    """Level lines, where there are two axes and levels to draw."""
    levels = [v for v in levels if values.min() < v < values.max()]
    if len(plane.ticks) == 2 and levels:
        ax.contour(*plane.ticks, values, levels=levels, **pen)


def _value_panel(ax, fields):
    _map(ax, fields.plane, fields.value, "$V^*(x)$")
    _contours(ax, fields.plane, fields.value, MaxNLocator(8).tick_values(fields.value.min(), fields.value.max()), colors="white", alpha=0.6)


def _policy_panel(ax, fields, k, signal):
    """π*_k, with the bounds of the input where π* reaches beyond them."""
    u = fields.policy[..., k]
    bar = _map(ax, fields.plane, u, rf"$\pi^*$: {signal.label}", signed=signal.low < 0 < signal.high, flat=bool(signal.values))
    if len(fields.plane.ticks) == 1:
        _bounds(ax, signal)
        _view(ax, signal, u, whole=True)
    elif signal.values:
        bar.set_ticks(signal.values)
    margin = 1e-6 * (np.ptp(u) + 1)
    beyond = [b for b, over in ((signal.low, signal.low - u.min()), (signal.high, u.max() - signal.high)) if over > margin]
    _contours(ax, fields.plane, u, sorted(beyond), colors="black", linestyles="--")


def _value_and_policy(reference, fields):
    count = 1 + len(reference.inputs)
    columns = min(count, 3)
    rows = -(-count // columns)
    figure = _figure(7.0, 2.6 * rows)
    axes = np.ravel(figure.subplots(rows, columns, squeeze=False))
    _value_panel(axes[0], fields)
    for k, signal in enumerate(reference.inputs):
        _policy_panel(axes[1 + k], fields, k, signal)
    for ax in axes[count:]:
        ax.remove()
    if fields.plane.held:
        figure.suptitle(f"at {fields.plane.held}")
    return figure


def _q_slices(reference, fields):
    """Q^ω, Q^{ω*} and Q* against the first input, their maxima marked."""
    count = len(fields.cuts)
    figure = _figure(7.0, 2.6 if count < 4 else 4.4)
    axes = np.ravel(figure.subplots(1 if count < 4 else 2, 3 if count < 4 else 2, sharex=True))
    n = len(reference.states)
    for k, ax in enumerate(axes):
        curves = {
            "$Q^*$": fields.star[2][k],
            r"$\hat Q^{\omega^*}$ (best fit)": fields.best[2][k],
            r"$\hat Q^\omega$ (trained)": fields.trained[2][k],
        }
        _cut_panel(ax, fields.cuts[k, :, n], curves)
        ax.set_title(", ".join(_at(s, v) for s, v in zip(reference.states, fields.cuts[k, 0], strict=False)))
    for ax in axes[-(3 if count < 4 else 2) :]:
        ax.set_xlabel(reference.inputs[0].label)
    figure.supylabel("$Q(x,u)$" + (r", other inputs at $\pi^*$" if len(reference.inputs) > 1 else ""), fontsize=STYLE["axes.labelsize"])
    _legend_above(figure, axes[0])
    return figure


def _cut_panel(ax, u, curves):
    for (label, q), pen in zip(curves.items(), ((BLACK, "-"), (BLUE, "--"), (VERMILION, "-.")), strict=True):
        ax.plot(u, q, color=pen[0], linestyle=pen[1], label=label)
        ax.plot(u[np.argmax(q)], q.max(), "o", color=pen[0], markersize=3.5, clip_on=False)


def _legend_above(figure, ax):
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)))


def _e_q_map(decomposition, fields):
    figure = _figure(7.0, 3.0)
    axes = figure.subplots(1, 2)
    _e_q_panel(axes[0], decomposition, fields, 0)
    _e_q_panel(axes[1], decomposition, fields, 1)
    return figure


def _e_q_panel(ax, decomposition, fields, block):
    """(T10) e_Q on the plane of two states under π* (block 0), or of first state and first input (block 1), with the data visited."""
    plane, e_q = fields[block], fields.star[block] - fields.best[block]
    n = len(decomposition.reference.states)
    _map(ax, plane, e_q, "$e_Q$", signed=True)
    if len(plane.ticks) == 1:
        ax.axhline(0, color=GREY, linewidth=0.6)
    else:
        z = _visited(decomposition)
        ax.plot(z[:, 0], z[:, 1 if block == 0 else n], ".", color=FAINT, markersize=1.2, alpha=0.35, rasterized=True)
    rule = {(0, True): r"$u=\pi^*(x)$", (0, False): r"$u=\pi^*(x)$", (1, False): r"other inputs at $\pi^*$", (1, True): ""}
    said = (rule[block, len(decomposition.reference.inputs) == 1], plane.held)
    ax.set_title(", ".join(s for s in said if s))


def _visited(decomposition):
    """Some of the transitions that training saw."""
    z = decomposition.run.snapshots.memory.z[decomposition.counted]
    return z[:: max(1, len(z) // DOTS)]


def _e_star_panel(ax, decomposition):
    """(T11) Histograms of e* and its parts on common bins; the grey band is what the reference itself cannot resolve."""
    rows = decomposition.counted
    parts = {
        r"$e^*$": decomposition.e_star,
        r"$e^*_\mathrm{noise}$": decomposition.e_star_noise,
        r"$e^*_\mathrm{policy}$": decomposition.e_star_policy,
    }
    parts = {label: e[rows] for label, e in parts.items()}
    low, high = min(e.min() for e in parts.values()), max(e.max() for e in parts.values())
    width = max(high - low, 1e-300)
    edges = np.linspace(low - 0.02 * width, high + 0.02 * width, 62)
    for k, (label, e) in enumerate(parts.items()):
        ax.stairs(np.histogram(e, edges)[0], edges, label=f"{label}, rms {_rms(e):.2g}", linewidth=1.3, **_pen(k))
    residual = decomposition.reference_residual
    ax.axvspan(-residual, residual, color="0.85", linewidth=0, zorder=0, label=f"reference ±{residual:.1g}")
    ax.set(yscale="log", xlim=(edges[0], edges[-1]), xlabel="$e^*$", ylabel="transitions per bin")
    ax.legend()


def _rms(values, axis=None):
    return np.sqrt(np.mean(np.square(values), axis))


def _training(training, decomposition):
    figure = _figure(7.0, 3.6)
    axes = figure.subplot_mosaic("AC;BC")
    _plot_log(axes["A"], decomposition.step, decomposition.terms.omega_norm, color=BLUE)
    axes["A"].set(ylabel=r"$\|\tilde\omega\|$", xlabel="step $k$")
    _td_panel(axes["B"], training)
    _terms_panel(axes["C"], decomposition)
    return figure


def _plot_log(ax, step, values, **pen):
    """Against the step; logarithmic where the values span more than a decade."""
    seen = np.where(values > 0, values, np.nan)
    ax.plot(step, seen, **pen)
    if np.any(values > 0) and np.nanmax(seen) > 10 * np.nanmin(seen):
        ax.set_yscale("log")


def _td_panel(ax, training):
    """Root mean square TD error (T6) on the replay memory."""
    snapshots = training.snapshots
    _plot_log(ax, snapshots.step, snapshots.td_rms_mean, label="mean since last snapshot", **_pen(0))
    _plot_log(ax, snapshots.step, snapshots.td_rms, label="at snapshot", **_pen(1))
    ax.set(ylabel=r"rms $e^\omega$ on $R_k$", xlabel="step $k$")
    ax.legend()


def _terms_panel(ax, decomposition):
    """(T12) Root mean square of every term over the replay memory, along the run."""
    d = decomposition
    terms = {
        r"$e^\omega$": d.e_td, r"$d^\top\tilde\omega$": d.d_dot, r"$\gamma e_Q^+ - e_Q$": d.gamma_next * d.e_q_next - d.e_q_now,
        "$e^*$": d.e_star, "$R$": d.remainder,
    }  # fmt: skip
    pens = ({"color": BLACK, "linewidth": 2.0}, *(_pen(k) for k in range(4)))
    for (label, e), pen in zip(terms.items(), pens, strict=True):
        size = np.sqrt(np.sum(e**2 * d.counted, 1) / d.counted.sum(1))
        ax.plot(d.step, np.where(size > 0, size, np.nan), label=label if size.any() else f"{label} = 0", **pen)
    ax.set(yscale="log", xlabel="step $k$", ylabel="rms over $R_k$")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=5, columnspacing=1.0, handlelength=1.8)


def _spectrum_panel(ax, decomposition):
    """(T16) Eigenvalues of A_k, largest first; the dot is the effective rank."""
    spectrum, rank = decomposition.terms.spectrum, decomposition.effective_rank
    shown = np.unique(np.linspace(0, len(spectrum) - 1, 5).astype(int))
    for k, colour in zip(shown, mpl.colormaps["viridis"](np.linspace(0, 0.88, len(shown))), strict=True):
        values = np.where(spectrum[k] > 1e-16 * spectrum[k, 0], spectrum[k], np.nan)
        ax.plot(np.arange(1, len(values) + 1), values, color=colour, label=f"$k$ = {decomposition.step[k]}, rank {rank[k]}")
        ax.plot(rank[k], values[rank[k] - 1], "o", color=colour, markersize=4)
    memory, p = decomposition.run.scheme.memory, len(decomposition.omega_star)
    ax.axhline(memory / 4, color=GREY, linestyle=":", linewidth=1.0, label="bound $M/4$")
    ax.set(yscale="log", xlabel="index", ylabel="eigenvalue of $A_k$", title=f"M = {memory} transitions, p = {p} weights")
    ax.legend()


def _lyapunov(decomposition):
    """(T17) The terms of the step identity, and their sum beside the measured change."""
    t = decomposition.terms
    terms = {
        r"$-2\lambda\tilde\omega^\top A\tilde\omega$": t.term_excitation, r"$-2\lambda\tilde\omega^\top b$": t.term_bias,
        r"$-2\lambda\tilde\omega^\top q$": t.term_remainder, r"$\lambda^2\|A\tilde\omega+b+q\|^2$": t.term_square,
    }  # fmt: skip
    figure = _figure(7.0, 4.6)
    top, bottom = figure.subplots(2, 1, sharex=True, sharey=True)
    for k, (label, values) in enumerate(terms.items()):
        top.plot(decomposition.step, values, label=label, **_pen(k))
    bottom.plot(decomposition.step, sum(terms.values()), color=BLACK, label="sum of the terms")
    change = r"measured $\|\tilde\omega_{k+1}\|^2-\|\tilde\omega_k\|^2$"
    bottom.plot(decomposition.step, t.decrease, "o", color=VERMILION, markersize=4, markerfacecolor="none", label=change)
    _symlog(top.set_yscale, np.stack(list(terms.values())))
    for ax in (top, bottom):
        ax.axhline(0, color=GREY, linewidth=0.6)
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)
        ax.set_ylabel("per step (symlog)")
    bottom.set_xlabel("step $k$")
    return figure


def _symlog(set_scale, values):
    """Symmetric log scale, linear below the smaller values, at most six decades under the largest."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    if sizes.size:
        set_scale("symlog", linthresh=10 ** np.floor(np.log10(max(np.quantile(sizes, 0.1), 1e-6 * sizes.max()))))


def _returns_panel(ax, comparison, reference=None):
    """Mean discounted return of each policy with its 95 % interval, best on top; V* at the initial states."""
    best_last = sorted(comparison.returns, key=lambda name: comparison.returns[name].mean)
    means = np.array([comparison.returns[name].mean for name in best_last])
    for k, name in enumerate(comparison.returns):
        r = comparison.returns[name]
        ax.errorbar(r.mean, best_last.index(name), xerr=r.ci95, fmt="o", color=_pen(k)["color"], markersize=4, capsize=3)
    if reference is not None:
        start = next(iter(comparison.trajectories.values())).x[:, 0]
        ax.axvline(reference.V(start).mean(), color=GREY, linestyle=":", label=r"$V^*(x_0)$, endless horizon")
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0))
    ax.set(yticks=range(len(means)), yticklabels=best_last, ylim=(-0.6, len(means) - 0.4), xlabel="discounted return, 95 % interval")
    if np.max(np.abs(means)) > WIDE * np.min(np.abs(means)):
        _symlog(ax.set_xscale, means)


def _closed_loop(trajectories, dt=1.0):
    """States and inputs over time, all policies in each panel."""
    path = next(iter(trajectories.values()))
    count = len(path.states) + len(path.inputs)
    figure = _figure(7.0, 0.8 + 1.35 * count)
    axes = np.atleast_1d(figure.subplots(count, 1, sharex=True))
    _signal_panels(axes, trajectories)
    if dt is None:
        axes[-1].set_xlabel("step $k$")
    if list(trajectories) != [""]:
        _legend_above(figure, axes[0])
    return figure


def _signal_panels(axes, trajectories):
    for k, ax in enumerate(axes):
        _signal_panel(ax, trajectories, k)
        ax.label_outer()


def _signal_panel(ax, trajectories, k):
    """Signal k of (states, inputs) over time: mean and 5–95 % band, or a few paths where a state turns (a mean of angles says nothing)."""
    path = next(iter(trajectories.values()))
    signal, n = (*path.states, *path.inputs)[k], len(path.states)
    turning = any(s.periodic for s in path.states)
    reach = []
    for j, (name, path) in enumerate(trajectories.items()):
        values = _living(path, k)
        drawn = _paths if turning or len(values) == 1 else _band
        reach.append(drawn(ax, path.t, values, signal, name, {**_pen(j), "drawstyle": "steps-post" if k >= n else "default"}))
    _bounds(ax, signal)
    _view(ax, signal, np.concatenate(reach), whole=k >= n)
    ax.set(xlabel="$t$ [s]", ylabel=signal.label, xlim=(path.t[0], path.t[-1]))


def _living(path, k):
    """Signal k of every path, (batch, time), nan once the path has ended; the last input is held to the end."""
    n = len(path.states)
    if k < n:
        shown = np.concatenate([np.ones_like(path.alive[:, :1]), path.alive[:, :-1]], 1)
        return np.where(shown, path.x[..., k], np.nan)
    u = np.where(path.alive[:, :-1], path.u[..., k - n], np.nan)
    return np.concatenate([u, u[:, -1:]], 1)


def _paths(ax, t, values, signal, name, pen):
    """A few paths, the first one bold; all policies met the same noise on them."""
    chosen = values[np.unique(np.linspace(0, len(values) - 1, PATHS).astype(int))]
    for k, row in enumerate(chosen):
        ax.plot(*_broken(t, row, signal), label=name if k == 0 else None, linewidth=1.3 if k == 0 else 0.6, **pen)
    return chosen.ravel()


def _broken(t, row, signal):
    """The path with a gap wherever a periodic signal passes its seam."""
    if not signal.periodic:
        return t, row
    seams = np.flatnonzero(np.abs(np.diff(row)) > 0.5 * (signal.high - signal.low)) + 1
    return np.insert(t, seams, np.nan), np.insert(row, seams, np.nan)


def _band(ax, t, values, signal, name, pen):  # noqa: ARG001 - called like _paths
    """Mean and 5–95 % band of the paths still alive."""
    alive = np.sum(~np.isnan(values), 0)
    ordered = np.sort(values, 0)  # nan last
    low, high = (np.take_along_axis(ordered, np.rint(share * np.maximum(alive - 1, 0)).astype(int)[None], 0)[0] for share in (0.05, 0.95))
    mean = np.where(alive > 0, np.nansum(values, 0) / np.maximum(alive, 1), np.nan)
    ax.fill_between(t, low, high, color=pen["color"], alpha=0.15, linewidth=0, step="post" if pen["drawstyle"] != "default" else None)
    ax.plot(t, mean, label=name, **pen)
    return np.concatenate([low, high])


def _bounds(ax, signal):
    """The box of a signal as dotted lines."""
    for bound in (signal.low, signal.high):
        if np.isfinite(bound) and not signal.periodic:
            ax.axhline(bound, color=GREY, linestyle=":", linewidth=0.9)


def _view(ax, signal, values, whole):
    """Vertical limits: the data, the whole box if asked, but never more than half the box beyond it; an angle gets its full turn."""
    values = values[np.isfinite(values)]
    low, high = (values.min(), values.max()) if values.size else (-1.0, 1.0)
    if np.isfinite(signal.high - signal.low):
        reach = 0.5 * (signal.high - signal.low)
        low, high = max(low, signal.low - reach), min(high, signal.high + reach)
        if whole or signal.periodic:
            low, high = min(low, signal.low), max(high, signal.high)
    pad = 0.0 if signal.periodic else 0.06 * (high - low) + 1e-9 * (1 + abs(high))
    ax.set_ylim(low - pad, high + pad)


def _training_overview(training):
    figure = _figure(5.0, 4.0)
    top, bottom = figure.subplots(2, 1, sharex=True)
    _td_panel(top, training)
    top.label_outer()
    _plot_log(bottom, training.snapshots.step, np.linalg.norm(training.snapshots.omega, axis=1), color=BLUE)
    bottom.set(xlabel="step $k$", ylabel=r"$\|\omega_k\|$")
    return figure


def _decomposition_overview(decomposition):
    figure = _figure(7.0, 5.6)
    axes = figure.subplots(2, 2)
    fields = _q_fields(decomposition.reference, decomposition.run, decomposition)
    _e_q_panel(axes[0, 0], decomposition, fields, 0)
    _e_star_panel(axes[0, 1], decomposition)
    _terms_panel(axes[1, 0], decomposition)
    _spectrum_panel(axes[1, 1], decomposition)
    return figure


def _comparison_overview(comparison):
    path = next(iter(comparison.trajectories.values()))
    count = len(path.states) + len(path.inputs)
    figure = _figure(7.0, 2.0 + 1.35 * count)
    upper, lower = figure.subfigures(2, 1, height_ratios=(0.4 + 1.35 * count, 1.3))
    axes = np.atleast_1d(upper.subplots(count, 1, sharex=True))
    _signal_panels(axes, comparison.trajectories)
    _legend_above(upper, axes[0])
    _returns_panel(lower.subplots(), comparison)
    return figure
