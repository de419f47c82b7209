"""Figures of results: `draw` any of them, `run_figures` for a whole run, `save` one as PDF, PNG and SVG.

Numbers first, ink second: one batched evaluation per function, then panels that draw on one Axes each; a layout [width, height of a row,
columns, panel, …] makes a figure of them, under a local style, without pyplot. Colours: Okabe & Ito (2008). T-numbers: the theory page.
"""

import textwrap
from collections import namedtuple
from dataclasses import replace
from functools import partial, singledispatch
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator, NullFormatter

from rlctrl.analysis import Comparison, Decomposition
from rlctrl.critic import Training
from rlctrl.errors import require
from rlctrl.plant import box, finite_box
from rlctrl.reference import Reference
from rlctrl.simulate import Trajectory
from rlctrl.storage import write_whole

STYLE: dict[Any, Any] = {
    "font.size": 9, "axes.titlesize": 9, "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8, "legend.frameon": False,
    "axes.linewidth": 0.6, "xtick.major.width": 0.6, "ytick.major.width": 0.6, "lines.linewidth": 1.3, "contour.linewidth": 0.6,
    "contour.negative_linestyle": "solid", "axes.spines.top": False, "axes.spines.right": False, "axes.formatter.limits": (-3, 4),
    "figure.constrained_layout.w_pad": 0.06, "figure.constrained_layout.h_pad": 0.06, "figure.constrained_layout.use": False,
    "figure.autolayout": False, "savefig.bbox": None, "pdf.fonttype": 42, "svg.hashsalt": "rlctrl",
}  # fmt: skip
DPI = 150  # of PNG files, and of what is rasterised in the others
METADATA: dict[str, dict] = {"pdf": {"CreationDate": None}, "png": {}, "svg": {"Date": None}}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), "--", ":")
GREY, PENS = "0.45", [{"color": c, "linestyle": d} for c, d in zip(COLOURS, DASHES, strict=True)] * 9
NO_BREAK, RAISED = "\N{NO-BREAK SPACE}", str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
TURNS = {-2: "−π", -1: "−π/2", 0: "0", 1: "π/2", 2: "π", 3: "3π/2", 4: "2π"}
NODES, DOTS, PATHS, SPECTRA, BINS = 61, 1500, 3, 5, 61  # a side of a map, data shown, paths per policy, snapshots shown, histogram edges
Plane = namedtuple("Plane", "z u signals ticks held")  # points (x, u) (…, n+m), π* there, what varies and its coordinates, what does not


@singledispatch
def draw(result, ax=None) -> Any:  # noqa: ARG001 - the signature of what is registered at the end
    """Overview of a result: (figure, array of its panels); with `ax`, its main panel goes there: (figure, ax). Else raises `InputError`."""
    require(False, "result", "must be what solve, simulate, train, decompose or compare return", type(result).__name__, "Pass a result.")


@mpl.rc_context(STYLE)
def run_figures(reference, training, decomposition, comparison) -> dict[str, Figure]:
    """The figures of a whole run by name. V*, π*, Q* and the critic are evaluated once for all of them."""
    fields = _fields(reference, training, decomposition)
    tilde = partial(_step_panel, decomposition.step, r"$\|\tilde\omega\|$", {"": decomposition.terms.omega_norm})
    cuts = [partial(_cut_panel, reference, fields[2], k) for k in range(len(fields[2][1]))]
    layouts = {
        "closed_loop": [7.0, 1.35, 1, *_signal_panels(comparison.trajectories)],
        "value_and_policy": _value_layout(reference, fields[0][0]),
        "q_slices": [7.0, 2.2, 3 if len(cuts) == 3 else 2, *cuts],
        "e_q_map": [7.0, 3.0, 2, *[partial(_e_q_panel, decomposition, fields=fields, block=k) for k in (0, 1)]],
        "e_star": [5.0, 3.4, 1, partial(_e_star_panel, decomposition)],
        "training": [7.0, 1.9, 1, tilde, partial(_td_panel, training), partial(_terms_panel, decomposition)],
        "excitation": [5.0, 3.6, 1, partial(_spectrum_panel, decomposition)],
        "lyapunov": [7.0, 2.3, 1, partial(_lyapunov_panel, decomposition, True), partial(_lyapunov_panel, decomposition, False)],
        "returns": [5.0, 1.2 + 0.32 * len(comparison.returns), 1, partial(_returns_panel, comparison, reference=reference)],
    }
    return {name: _tiles(*layout) for name, layout in layouts.items()}


@mpl.rc_context(STYLE)
def save(figure, folder, name):
    """Write `name`.pdf, .png and .svg into `folder` (made if missing), each whole or not at all; equal figures give equal bytes.

    The figure's layout is settled by this and stays as it is.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    figure.draw_without_rendering()
    figure.set_layout_engine(None)  # solving it again per format would take most of the time, and differ a little
    for kind, metadata in METADATA.items():
        write_whole(Path(folder) / f"{name}.{kind}", partial(figure.savefig, format=kind, metadata=metadata, dpi=DPI))


def _tiles(width, height, columns, *panels) -> Figure:
    """A figure of panels, row by row; a label that the panel below repeats is left to it."""
    rows = -(-len(panels) // columns)
    figure = FigureCanvasAgg(Figure(figsize=(width, 0.3 + height * rows), layout="constrained")).figure
    axes = [figure.add_subplot(rows, columns, k + 1) for k in range(len(panels))]
    for ax, panel in zip(axes, panels, strict=True):
        panel(ax)
    for ax, below in zip(axes, axes[columns:], strict=False):
        if ax.get_xlabel() == below.get_xlabel() and np.allclose(ax.get_xlim(), below.get_xlim()):
            ax.set_xlabel("")
            ax.tick_params(labelbottom=False)
    return figure


def _planes(reference) -> list[Plane]:
    """First two states; first state and first input; lines along the first input at the centre, halfway out and back. Other states are
    at 0, or in the middle of a box that does not hold 0 inside; other inputs are π*, kept within their box."""
    signals, n, planes = (*reference.states, *reference.inputs), len(reference.states), []
    low, high = finite_box(signals)
    centre = np.where((low < 0) & (high > 0), 0.0, 0.5 * (low + high))
    steps = np.pad(np.vstack([np.zeros(n), np.eye(n)[:2], -np.ones(n)]), ((0, 0), (0, len(low) - n)))
    places = np.clip(centre + 0.25 * (high - low) * steps, low, high)
    for axes, base in (([*range(min(2, n))], centre), ([0, n], centre), ([n], places[:, None])):
        ticks = [np.sort(signals[k].values or np.linspace(low[k], high[k], NODES)) for k in axes]
        mesh = np.stack(np.meshgrid(*ticks), -1)
        z = np.array(np.broadcast_to(base, (*base.shape[:-2], *mesh.shape[:-1], len(low))))
        z[..., axes] = mesh
        held = ", ".join(_at(signals[k], centre[k]) for k in range(n) if k not in axes)
        planes.append(Plane(z, None, [signals[k] for k in axes], ticks, held))
    optimal = _at_once(lambda z: reference.policy(z[:, :n]), planes)
    for plane, u, first in zip(planes, optimal, (n, n + 1, n + 1), strict=True):
        plane.z[..., first:] = np.clip(u, *box(reference.inputs))[..., first - n :]
    return [plane._replace(u=u) for plane, u in zip(planes, optimal, strict=True)]


def _at_once(function, planes):
    """`function` of all the planes' points (N, n+m) in one call, cut back to their shapes."""
    values = function(np.concatenate([p.z.reshape(-1, p.z.shape[-1]) for p in planes]))
    parts = np.split(values, np.cumsum([p.z[..., 0].size for p in planes])[:-1])
    return [part.reshape(*p.z.shape[:-1], *values.shape[1:]) for part, p in zip(parts, planes, strict=True)]


def _fields(reference, training, decomposition):
    """(plane, Q*, Q^{ω*}, Q^ω) for each plane."""
    planes, n = _planes(reference), len(reference.states)
    functions = reference.Q, replace(training, weights=decomposition.omega_star).Q, training.Q
    return list(zip(planes, *[_at_once(lambda z, q=q: q(z[:, :n], z[:, n:]), planes) for q in functions], strict=True))


def _number(value, digits=3):
    """In plain text, as 2·10⁻⁵ if far from 1: parsing mathtext is what makes figures slow."""
    factor, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    if abs(int(exponent or 0)) < 3:
        return f"{float(f'{value:.{digits}g}'):g}".replace("-", "−")
    return {1.0: "10", -1.0: "−10"}.get(float(factor), f"{float(factor):g}·10".replace("-", "−")) + str(int(exponent)).translate(RAISED)


def _at(signal, value):
    text = f"{signal.name} = {_number(value)}" + ("" if signal.unit == "1" else f" {signal.unit}")
    return text.replace(" ", NO_BREAK)


def _legend(ax, columns, **options):
    """Above the panel, where nothing runs into it; a narrow panel gets fewer columns."""
    columns = min(columns, max(2, int(ax.bbox.width / ax.get_figure().dpi)))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, columnspacing=1.0, handlelength=2.2, **options)


def _scale(ax, which, values, signed=False, span=10):
    """Logarithmic axis "x" or "y" where sizes differ by more than `span`; if signed, symmetric and linear below the smaller ones."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    if not sizes.size or sizes.max() <= span * sizes.min():
        return
    floor = 10 ** np.floor(np.log10(max(np.quantile(sizes, 0.1), 1e-6 * sizes.max())))
    getattr(ax, f"set_{which}scale")("symlog" if signed else "log", **({"linthresh": floor} if signed else {}))
    axis = getattr(ax, f"{which}axis")
    axis.get_major_locator().set_params(**({"numticks": 9} if signed else {"subs": (1, 2, 5) if sizes.max() < 100 * sizes.min() else (1,)}))
    axis.set_major_formatter(lambda value, _: _number(value))
    axis.set_minor_formatter(NullFormatter())


def _turns(axis, signal):
    if signal.periodic and signal.unit == "rad":
        axis.set_major_locator(MultipleLocator(np.pi / 2))
        axis.set_major_formatter(lambda value, _: TURNS.get(round(2 * value / np.pi), f"{round(2 * value / np.pi)}π/2"))


def _map(ax, plane, values, label, signed=False, levels=(), **pen):
    """Values on a plane as colours with level lines, or as a curve where the plane is a line."""
    ax.set(xlabel=plane.signals[0].label, xlim=plane.ticks[0][[0, -1]], ylabel=label, title=textwrap.fill(plane.held, 24))
    _turns(ax.xaxis, plane.signals[0])
    if len(plane.ticks) == 1:
        ax.plot(plane.ticks[0], values, **PENS[0])
        return
    colours = {"norm": CenteredNorm(), "cmap": "RdBu_r"} if signed else {"cmap": "viridis"}
    mesh = ax.pcolormesh(*plane.ticks, values, shading="gouraud", rasterized=True, **colours)
    ax.get_figure(root=False).colorbar(mesh, ax=ax, label=label)
    ax.set(ylabel=plane.signals[1].label, ylim=plane.ticks[1][[0, -1]])
    _turns(ax.yaxis, plane.signals[1])
    if inside := [v for v in levels if values.min() < v < values.max()]:
        ax.contour(*plane.ticks, values, levels=inside, **pen)


def _frame(ax, signal, whole=True):
    """Box as dotted lines; vertical limits: the data up to half a box outside, and the whole box if asked or a third of it is used."""
    (low, high), width = ax.dataLim.intervaly, signal.high - signal.low
    if np.isfinite(width):
        low, high = np.clip((low, high), signal.low - 0.5 * width, signal.high + 0.5 * width)
        if whole or signal.periodic or high - low > width / 3:
            low, high = min(low, signal.low), max(high, signal.high)
    pad = 0.0 if signal.periodic else 0.06 * (high - low) + 1e-9 * (1 + abs(high))
    ax.set_ylim(low - pad, high + pad)
    for bound in (b for b in (signal.low, signal.high) if np.isfinite(b) and not signal.periodic):
        ax.axhline(bound, color=GREY, linestyle=":", linewidth=0.9)
    _turns(ax.yaxis, signal)


def _signal_panels(trajectories):
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
    _frame(ax, signal, whole=k >= n)
    time = "sample k" if np.array_equal(path.t, np.arange(len(path.t))) else "t [s]"  # no sampling time, or one of 1 s
    ax.set(xlabel=time, ylabel=signal.label, xlim=path.t[[0, -1]])
    if k == 0 and any(trajectories):
        _legend(ax, 4, title="single paths on the same noise" if single else f"mean and 5–95 % band of {len(path.x)} paths")


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
    period = signal.high - signal.low if signal.periodic else np.inf
    for k, row in enumerate(chosen):
        seams = np.flatnonzero(np.abs(np.diff(row)) > 0.5 * period) + 1
        ax.plot(np.insert(t, seams, np.nan), np.insert(row, seams, np.nan), **pen | ({"linewidth": 0.6, "label": None} if k else {}))


def _band(ax, t, values, _, pen):
    """Mean and 5–95 % band of the paths still alive."""
    alive = ~np.all(np.isnan(values), 0)
    t, values = t[alive], values[:, alive]
    low, high = np.nanpercentile(values, (5, 95), axis=0)
    ax.fill_between(t, low, high, color=pen["color"], alpha=0.15, linewidth=0, step="post" if pen["drawstyle"] == "steps-post" else None)
    ax.plot(t, np.nanmean(values, 0), **pen)


def _value_layout(reference, plane):
    inputs = [partial(_policy_panel, plane, k, signal) for k, signal in enumerate(reference.inputs)]
    return [7.0, 2.6, min(3, 1 + len(inputs)), partial(_value_panel, reference, plane), *inputs]


def _value_panel(reference, plane, ax):
    value = reference.V(plane.z[..., : len(reference.states)])
    _map(ax, plane, value, "V*(x)", levels=MaxNLocator(8).tick_values(value.min(), value.max()), colors="white", alpha=0.6)


def _policy_panel(plane, k, signal, ax):
    """One input of π*, with a dashed line where it leaves its box."""
    u, slack = plane.u[..., k], 1e-6 * np.ptp(plane.u[..., k])
    beyond = [b for b, excess in ((signal.low, signal.low - u.min()), (signal.high, u.max() - signal.high)) if excess > slack]
    _map(ax, plane, u, f"π*: {signal.label}", signal.low < 0 < signal.high, beyond, colors="black", linestyles="--")
    if len(plane.ticks) == 1:
        _frame(ax, signal)


def _cut_panel(reference, field, k, ax):
    """Q*, Q^{ω*} and Q^ω against the first input at one state, their maxima marked."""
    names, (plane, *values) = (r"$Q^\ast$", r"$\hat Q^{\,\omega\ast}$ (best fit)", r"$\hat Q^\omega$ (trained)"), field
    label = "Q(x, u)" + (", other u at π*" if len(reference.inputs) > 1 else "")
    for name, q, pen in zip(names, values, PENS, strict=False):
        ax.plot(plane.ticks[0], q[k], label=name, marker="o", markevery=[int(np.argmax(q[k]))], markersize=3.5, **pen)
    state = ", ".join(_at(s, v) for s, v in zip(reference.states, plane.z[k, 0], strict=False))
    ax.set(xlabel=plane.signals[0].label, ylabel=label, title=textwrap.fill(state, 36))
    if k == 0:
        ax.get_figure(root=False).legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=3, title="dots mark the maxima")


def _e_q_panel(d, ax, fields=None, block=0):
    """(T10) e_Q over two states under π* (block 0), or over first state and first input (block 1), with data that training visited."""
    plane, star, best, _ = (fields or _fields(d.reference, d.run, d))[block]
    inputs = (f"u{NO_BREAK}={NO_BREAK}π*(x)", "other u at π*" if len(d.reference.inputs) > 1 else "")[block]
    noise = " (round-off)" if np.max(np.abs(star - best)) < 1e-11 * np.max(np.abs(star)) else ""
    _map(ax, plane._replace(held=", ".join(filter(None, (inputs, plane.held)))), star - best, f"$e_Q${noise}", signed=True)
    if len(plane.ticks) == 2:
        z = d.run.snapshots.memory.z[d.counted][:: max(1, d.counted.sum() // DOTS), [0, (1, len(d.reference.states))[block]]]
        ax.plot(*z.T, ".", color="0.25", markersize=1.2, alpha=0.35, rasterized=True)


def _e_star_panel(d, ax):
    """(T11) Histograms of e* and its parts on common bins; the grey band is what the reference itself cannot resolve."""
    parts = np.stack([d.e_star, d.e_star_noise, d.e_star_policy])[:, d.counted]
    edges = np.linspace(parts.min(), max(parts.max(), parts.min() + 1e-12), BINS)
    for pen, label, e in zip(PENS, ("$e^*$", r"$e^*_\mathrm{noise}$", r"$e^*_\mathrm{policy}$"), parts, strict=False):
        counts, size = np.histogram(e, edges)[0], _number(np.sqrt(np.mean(e**2)), 2)
        ax.stairs(np.where(counts > 0, counts, np.nan), edges, baseline=None, label=f"{label}, rms {size}", **pen)
    if (residual := d.reference_residual) > 1e-6 * np.ptp(parts):
        ax.axvspan(-residual, residual, color="0.88", linewidth=0, zorder=0, label=f"residual of V*: ±{_number(residual, 2)}")
    ax.set(xlim=edges[[0, -1]], xlabel="part of the TD error", ylabel="transitions per bin")
    _scale(ax, "y", np.array([1, parts.shape[1]]))
    _legend(ax, 2)


def _step_panel(step, label, curves, ax, columns=0, signed=False):
    for pen, (name, y) in zip(PENS, curves.items(), strict=False):
        ax.plot(step, y, label=name, **pen)
    ax.set(xlabel="step k", ylabel=label)
    _scale(ax, "y", np.stack(list(curves.values())), signed)
    if columns:
        _legend(ax, columns)


def _td_panel(training, ax):
    """Root mean square TD error (T6) on the replay memory."""
    s = training.snapshots
    _step_panel(s.step, r"rms $e^\omega$ on $R_k$", {"mean since last snapshot": s.td_rms_mean, "at snapshot": s.td_rms}, ax, 2)


def _terms_panel(d, ax):
    """(T12) Root mean square of every term over the replay memory, along the run."""
    terms = {
        r"$e^\omega$": d.e_td, r"$d^\top\tilde\omega$": d.d_dot, r"$\gamma e_Q^+ - e_Q$": d.gamma_next * d.e_q_next - d.e_q_now,
        "$e^*$": d.e_star, "$R$": d.remainder,
    }  # fmt: skip
    sizes = {label: np.sqrt(np.sum(e**2 * d.counted, 1) / d.counted.sum(1)) for label, e in terms.items()}
    floor = 1e-8 * max(size.max() for size in sizes.values())  # below it a term is named, not drawn
    named = [label + (f" ≤ {_number(size.max(), 1)}" if size.max() <= floor else "") for label, size in sizes.items()]
    shown = [np.where(size > floor, size, np.nan) for size in sizes.values()]
    _step_panel(d.step, "rms over $R_k$", dict(zip(named, shown, strict=True)), ax, 5)


def _spectrum_panel(d, ax):
    """(T16) Eigenvalues of A_k, largest first; the dot is the effective rank."""
    spectrum, rank = d.terms.spectrum, d.effective_rank
    shown = np.unique(np.linspace(0, len(spectrum) - 1, SPECTRA).astype(int))
    for k, colour in zip(shown, mpl.colormaps["viridis"](np.linspace(0, 0.88, len(shown))), strict=True):
        values = np.where(spectrum[k] > 1e-16 * spectrum[k, 0], spectrum[k], np.nan)
        pen = {"color": colour, "marker": "o", "markersize": 4, "markevery": [rank[k] - 1]}
        ax.plot(np.arange(1, len(values) + 1), values, label=f"k = {d.step[k]}: rank {rank[k]}", **pen)
    ax.axhline(d.run.scheme.memory / 4, color=GREY, linestyle=":", linewidth=1.0, label="bound M/4")
    ax.set(xlabel="index", ylabel="eigenvalue of A")
    ax.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    _scale(ax, "y", spectrum[shown])
    _legend(ax, 2, title=f"M = {d.run.scheme.memory} transitions, p = {len(d.omega_star)} weights")


def _lyapunov_panel(d, apart, ax):
    """(T17) The terms of the step identity, or their sum beside the measured change."""
    t = d.terms
    terms = {
        r"$-2\lambda\tilde\omega^\top A\tilde\omega$": t.term_excitation, r"$-2\lambda\tilde\omega^\top b$": t.term_bias,
        r"$-2\lambda\tilde\omega^\top q$": t.term_remainder, r"$\lambda^2\|A\tilde\omega+b+q\|^2$": t.term_square,
    }  # fmt: skip
    if not apart:
        change = r"measured $\|\tilde\omega_{k+1}\|^2-\|\tilde\omega_k\|^2$"
        ax.plot(d.step, t.decrease, "o", color=COLOURS[1], markersize=4, markerfacecolor="none", label=change)
    curves = terms if apart else {"sum of the terms": sum(terms.values())}
    ax.axhline(0, color=GREY, linewidth=0.6)
    _step_panel(d.step, "per step (symlog)", curves, ax, 4, signed=True)


def _returns_panel(comparison, ax, reference=None):
    """Mean discounted return of each policy with its 95 % interval, best on top; V* at the initial states."""
    names = sorted(comparison.returns, key=lambda name: comparison.returns[name].mean)
    for pen, (name, r) in zip(PENS, comparison.returns.items(), strict=False):
        row = names.index(name)
        ax.errorbar(r.mean, row, xerr=np.nan_to_num(r.ci95, posinf=0.0), fmt="o", color=pen["color"], markersize=4, capsize=3)
        ax.annotate(f"{_number(r.mean, 5)} ± {_number(r.ci95, 2)}", (1.02, row), xycoords=("axes fraction", "data"), va="center", size=8)
    ax.set(yticks=range(len(names)), yticklabels=names, ylim=(-0.6, len(names) - 0.4), xlabel="discounted return, 95 % interval")
    ax.xaxis.set_major_locator(MaxNLocator(6))
    if reference is not None:
        start = next(iter(comparison.trajectories.values())).x[:, 0]
        ax.axvline(reference.V(start).mean(), color=GREY, linestyle=":", label="V*(x₀), endless horizon")
        _legend(ax, 1)
    _scale(ax, "x", np.array([r.mean for r in comparison.returns.values()]), signed=True, span=30)


def _drawn(layout, result, ax=None):
    """The first panel of a layout into `ax` if given, else all of them in a new figure."""
    require(ax is None or isinstance(ax, Axes), "ax", "must be one Matplotlib Axes", ax, "Pass ax=figure.subplots().")
    with mpl.rc_context(STYLE):
        width, height, columns, *panels = layout(result)
        if ax is None:
            figure = _tiles(width, height, columns, *panels)
            return figure, np.array([a for a in figure.axes if a.get_label() != "<colorbar>"])
        panels[0](ax)
        return ax.get_figure(root=True), ax


draw.register(Reference, partial(_drawn, lambda reference: _value_layout(reference, _planes(reference)[0])))
draw.register(Trajectory, partial(_drawn, lambda path: [7.0, 1.35, 1, *_signal_panels({"": path})]))
draw.register(Training, partial(_drawn, lambda training: [5.0, 3.0, 1, partial(_td_panel, training)]))
PARTS = _terms_panel, _spectrum_panel, _e_star_panel, _e_q_panel
draw.register(Decomposition, partial(_drawn, lambda d: [7.0, 3.2, 2, *[partial(panel, d) for panel in PARTS]]))
draw.register(Comparison, partial(_drawn, lambda c: [7.0, 1.35, 1, partial(_returns_panel, c), *_signal_panels(c.trajectories)]))
