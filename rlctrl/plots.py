"""Figures of results: `draw` any of them, `run_figures` for a whole run, `save` one as PDF, PNG and SVG.

Numbers first, ink second: what a figure needs is evaluated in one batched call per function, then drawn by panel functions that take an
Axes. No pyplot, no global style: plain `matplotlib.figure.Figure`s under a local style. Colours are those of Okabe & Ito (2008), told
apart by dashes too. T-numbers are those of the theory page.
"""

import functools
import textwrap
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from rlctrl.analysis import Comparison, Decomposition
from rlctrl.analysis.decomposition import rms
from rlctrl.critic import Training
from rlctrl.errors import require
from rlctrl.plant import finite_box
from rlctrl.reference import Reference
from rlctrl.simulate import Trajectory
from rlctrl.storage import write_whole

STYLE = {
    "font.size": 9, "axes.titlesize": 9, "figure.titlesize": 9, "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8,
    "axes.linewidth": 0.6, "xtick.major.width": 0.6, "ytick.major.width": 0.6, "lines.linewidth": 1.3, "contour.linewidth": 0.6,
    "contour.negative_linestyle": "solid", "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    "axes.formatter.limits": (-3, 4), "figure.constrained_layout.w_pad": 0.06, "figure.constrained_layout.h_pad": 0.06,
    "figure.autolayout": False, "figure.constrained_layout.use": False, "savefig.bbox": None, "pdf.fonttype": 42, "svg.hashsalt": "rlctrl",
}  # fmt: skip
DPI = 150  # of PNG files, and of what is rasterised in the others
METADATA: dict[str, dict] = {"pdf": {"CreationDate": None}, "png": {}, "svg": {"Date": None}}
GREY, BLUE, VERMILION = "0.45", "#0072B2", "#D55E00"
COLOURS = (BLUE, VERMILION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
TURNS = {-1.0: "−π", -0.5: "−π/2", 0.0: "0", 0.5: "π/2", 1.0: "π", 1.5: "3π/2", 2.0: "2π"}
NODES, DOTS, PATHS, SNAPSHOTS, BINS = 61, 1500, 3, 5, 61  # a side of a map, data shown, paths per policy, spectra, histogram edges
NEGLIGIBLE = 1e-8  # a term this far below the largest is named in the legend, not drawn
QS = r"$Q^\ast$", r"$\hat Q^{\,\omega\ast}$ (best fit)", r"$\hat Q^\omega$ (trained)"
Plane = namedtuple("Plane", "z signals ticks held")  # points (x, u) (…, n+m); what varies and its coordinates; in words, what does not


@functools.singledispatch
def draw(result, ax=None):  # noqa: ARG001 - the signature of what is registered below
    """Overview figure of a result: (figure, array of its panels). With `ax`, its one most important panel goes there: (figure, ax).

    Raises `InputError` for anything that is not a Reference, Trajectory, Training, Decomposition or Comparison.
    """
    rule = "must be a Reference, Trajectory, Training, Decomposition or Comparison"
    require(False, "result", rule, type(result).__name__, "Pass what solve, simulate, train, decompose or compare return.")


@mpl.rc_context(STYLE)
def run_figures(reference, training, decomposition, comparison) -> dict[str, Figure]:
    """The figures of a whole run by name. V*, π*, Q* and the critic are evaluated once for all of them."""
    planes, optimal, fields = _fields(reference, training, decomposition)
    return {
        "closed_loop": _closed_loop(comparison.trajectories),
        "value_and_policy": _value_and_policy(reference, planes[0], optimal[0]),
        "q_slices": _q_slices(reference, *fields[2]),
        "e_q_map": _e_q_map(decomposition, fields),
        "e_star": _single(_e_star_panel, decomposition, size=(5.0, 3.4)),
        "training": _training(training, decomposition),
        "excitation": _single(_spectrum_panel, decomposition, size=(5.0, 3.6)),
        "lyapunov": _lyapunov(decomposition),
        "returns": _single(_returns_panel, comparison, reference, size=(5.0, 1.2 + 0.32 * len(comparison.returns))),
    }


@mpl.rc_context(STYLE)
def save(figure, folder, name) -> list[Path]:
    """Write `name`.pdf, .png and .svg into `folder` (made if missing), each whole or not at all; equal figures give equal bytes."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    paths = [Path(folder) / f"{name}.{kind}" for kind in METADATA]
    figure.draw_without_rendering()
    engine = figure.get_layout_engine()
    figure.set_layout_engine(None)  # settled above; solving it again per format is most of the time
    try:
        for path, (kind, metadata) in zip(paths, METADATA.items(), strict=True):
            write_whole(path, functools.partial(figure.savefig, format=kind, metadata=metadata, dpi=DPI))
    finally:
        figure.set_layout_engine(engine)
    return paths


def _planes(reference):
    """First two states; first state and first input; lines along the first input at the centre, halfway out and halfway back.

    The rest is at 0, or in the middle of a box that does not hold 0 inside.
    """
    low, high = finite_box((*reference.states, *reference.inputs))
    centre, n = np.where((low < 0) & (high > 0), 0.0, 0.5 * (low + high)), len(reference.states)
    steps = np.pad(np.vstack([np.zeros(n), np.eye(n)[:2], -np.ones(n)]), ((0, 0), (0, len(low) - n)))
    places = np.clip(centre + 0.25 * (high - low) * steps, low, high)
    return [_plane(reference, axes, base) for axes, base in ((range(min(2, n)), centre), ((0, n), centre), ((n,), places))]


def _plane(reference, axes, base) -> Plane:
    """Points that vary along `axes` of z over their box, from `base` (…, n+m)."""
    signals = (*reference.states, *reference.inputs)
    ticks = tuple(np.linspace(*np.ravel(finite_box(signals[k : k + 1])), NODES) for k in axes)
    mesh = np.meshgrid(*ticks)
    z = np.array(np.broadcast_to(np.expand_dims(base, tuple(range(-1 - len(axes), -1))), (*base.shape[:-1], *mesh[0].shape, len(signals))))
    for k, coordinate in zip(axes, mesh, strict=True):
        z[..., k] = coordinate
    held = ", ".join(_at(s, base.flat[k]) for k, s in enumerate(reference.states) if k not in axes)
    return Plane(z, tuple(signals[k] for k in axes), ticks, held)


def _at_once(function, planes):
    """`function` of all the planes' points (N, n+m) in one call, cut back to their shapes."""
    values = function(np.concatenate([p.z.reshape(-1, p.z.shape[-1]) for p in planes]))
    parts = np.split(values, np.cumsum([p.z[..., 0].size for p in planes])[:-1])
    return [part.reshape(*p.z.shape[:-1], *values.shape[1:]) for part, p in zip(parts, planes, strict=True)]


def _optimal(reference, planes):
    """π* (…, m) on each plane."""
    return _at_once(lambda z: reference.policy(z[:, : len(reference.states)]), planes)


def _fields(reference, training, decomposition):
    """Planes, π* on them, and (plane, Q*, Q^{ω*}, Q^ω) with π*, kept within the input box, for the inputs that do not vary."""
    planes, n = _planes(reference), len(reference.states)
    optimal = _optimal(reference, planes)
    for plane, u, first in zip(planes, optimal, (0, 1, 1), strict=True):
        plane.z[..., n + first :] = np.clip(u, *finite_box(reference.inputs))[..., first:]
    best = replace(training, weights=decomposition.omega_star)
    values = [_at_once(lambda z, q=q: q(z[:, :n], z[:, n:]), planes) for q in (reference.Q, best.Q, training.Q)]
    return planes, optimal, list(zip(planes, *values, strict=True))


def _figure(width, height) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _single(panel, *data, size=(5.0, 3.0)) -> Figure:
    figure = _figure(*size)
    panel(figure.subplots(), *data)
    return figure


def _number(value, digits=3):
    return f"{value:.{digits}g}".replace("-", "−")


def _power(value, _=None):
    """Tick label in plain text: parsing mathtext is what makes figures slow."""
    if value == 0 or 0.01 <= abs(value) < 1000:
        return _number(value)
    factor, exponent = f"{value:.0e}".split("e")
    power = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return {"1": power, "-1": f"−{power}"}.get(factor, f"{factor}·{power}".replace("-", "−"))


def _at(signal, value):
    return f"{signal.name} = {_number(value)}" + ("" if signal.unit == "1" else f" {signal.unit}")


def _pen(k):
    return {"color": COLOURS[k % len(COLOURS)], "linestyle": DASHES[k % len(DASHES)]}


def _curves(ax, x, curves, columns=0, **labels):
    """Curves by name; their legend, in `columns`, above the panel where nothing runs into it."""
    for k, (name, y) in enumerate(curves.items()):
        ax.plot(x, y, label=name, **_pen(k))
    ax.set(**labels)
    if columns:
        _legend(ax, columns)


def _legend(ax, columns, **options):
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, columnspacing=1.0, handlelength=2.2, **options)


def _scale(ax, which, values, signed=False):
    """Logarithmic axis "x" or "y" where sizes span a decade; if signed, symmetric and linear below the smaller ones, over six decades."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    if not sizes.size or sizes.max() <= 10 * sizes.min():
        return
    floor = 10 ** np.floor(np.log10(max(np.quantile(sizes, 0.1), 1e-6 * sizes.max())))
    getattr(ax, f"set_{which}scale")("symlog" if signed else "log", **({"linthresh": floor} if signed else {}))
    axis = getattr(ax, f"{which}axis")
    subs = (1, 2, 5) if sizes.max() < 100 * sizes.min() else (1,)
    axis.get_major_locator().set_params(**({"numticks": 9} if signed else {"subs": subs}))
    axis.set_major_formatter(_power)
    axis.set_minor_formatter(NullFormatter())


def _turns(axis, signal):
    """Ticks at quarter turns of an angle."""
    places = np.linspace(signal.low, signal.high, 5) if signal.periodic and signal.unit == "rad" else [np.inf]
    names = [TURNS.get(round(place / np.pi, 9)) for place in places]
    if None not in names:
        axis.set_ticks(places, names)


def _map(ax, plane, values, label, signed=False, levels=(), **pen):
    """Values on a plane as colours with level lines, returning the colour bar; as a curve where the plane is a line."""
    ax.set(xlabel=plane.signals[0].label, xlim=plane.ticks[0][[0, -1]], ylabel=label)
    _turns(ax.xaxis, plane.signals[0])
    if len(plane.ticks) == 1:
        return ax.plot(plane.ticks[0], values, color=BLUE) and None
    reach = max(float(np.max(np.abs(values))), 1e-300)
    colours = {"vmin": -reach, "vmax": reach, "cmap": "RdBu_r"} if signed else {"cmap": "viridis"}
    mesh = ax.pcolormesh(*plane.ticks, values, shading="gouraud", rasterized=True, **colours)
    ax.set(ylabel=plane.signals[1].label, ylim=plane.ticks[1][[0, -1]])
    _turns(ax.yaxis, plane.signals[1])
    levels = [v for v in levels if values.min() < v < values.max()]
    if levels:
        ax.contour(*plane.ticks, values, levels=levels, **pen)
    return ax.get_figure(root=False).colorbar(mesh, ax=ax, label=label)


def _frame(ax, signal, values, whole=True):
    """Box as dotted lines; vertical limits: the data up to half a box outside, and the whole box if asked or a third of it is used."""
    low, high, width = np.nanmin(values), np.nanmax(values), signal.high - signal.low
    if np.isfinite(width):
        low, high = np.clip((low, high), signal.low - 0.5 * width, signal.high + 0.5 * width)
        if whole or signal.periodic or high - low > width / 3:
            low, high = min(low, signal.low), max(high, signal.high)
    pad = 0.0 if signal.periodic else 0.06 * (high - low) + 1e-9 * (1 + abs(high))
    ax.set_ylim(low - pad, high + pad)
    for bound in () if signal.periodic else (signal.low, signal.high):
        ax.axhline(bound, color=GREY, linestyle=":", linewidth=0.9)
    _turns(ax.yaxis, signal)


def _closed_loop(trajectories, extra=0):
    """States and inputs over time, all policies in each panel; `extra` panels are left empty below."""
    path = next(iter(trajectories.values()))
    count = len(path.states) + len(path.inputs)
    figure = _figure(7.0, 0.7 + 1.3 * (count + extra))
    axes = np.atleast_1d(figure.subplots(count + extra, 1))
    for k, ax in enumerate(axes[:count]):
        _signal_panel(ax, trajectories, k)
    for ax in axes[: count - 1]:
        ax.tick_params(labelbottom=False)
        ax.set_xlabel("")
    if any(trajectories):
        _legend(axes[0], 4)
    return figure


def _signal_panel(ax, trajectories, k=0):
    """Signal k of (states, inputs) over time: mean and 5–95 % band, or single paths where a state turns (a mean of angles says nothing)."""
    path = next(iter(trajectories.values()))
    signal, n = (*path.states, *path.inputs)[k], len(path.states)
    plot = _paths if len(path.x) == 1 or any(s.periodic for s in path.states) else _band
    seen = []
    for j, (name, path) in enumerate(trajectories.items()):
        pen = _pen(j) | {"label": name, "drawstyle": "steps-post" if k >= n else "default"}
        seen.append(plot(ax, path.t, _living(path, k), signal, pen))
    _frame(ax, signal, np.concatenate(seen), whole=k >= n)
    counted = np.array_equal(path.t, np.arange(len(path.t)))  # no sampling time, or one of 1 s
    ax.set(xlabel="sample $k$" if counted else "$t$ [s]", ylabel=signal.label, xlim=path.t[[0, -1]])


def _living(path, k):
    """Signal k of every path, (batch, time), nan after its end; the last input is held for one sample."""
    n, alive = len(path.states), path.alive
    if k < n:
        return np.where(np.hstack([np.ones_like(alive[:, :1]), alive[:, :-1]]), path.x[..., k], np.nan)
    u = np.where(alive[:, :-1], path.u[..., k - n], np.nan)
    return np.hstack([u, u[:, -1:]])


def _paths(ax, t, values, signal, pen):
    """Some paths on the noise that all policies met, the first one bold, of an input that one alone; broken where an angle passes its seam."""
    count = 1 if pen["drawstyle"] == "steps-post" else PATHS
    chosen = values[np.unique(np.linspace(0, len(values) - 1, count).astype(int))]
    period = signal.high - signal.low if signal.periodic else np.inf
    for k, row in enumerate(chosen):
        seams = np.flatnonzero(np.abs(np.diff(row)) > 0.5 * period) + 1
        thin = {"linewidth": 0.6, "label": None} if k else {}
        ax.plot(np.insert(t, seams, np.nan), np.insert(row, seams, np.nan), **pen | thin)
    return chosen.ravel()


def _band(ax, t, values, _, pen):
    """Mean and 5–95 % band of the paths still alive."""
    alive = ~np.all(np.isnan(values), 0)
    t, values = t[alive], values[:, alive]
    low, high = np.nanpercentile(values, (5, 95), axis=0)
    step = {"step": "post"} if pen["drawstyle"] == "steps-post" else {}
    ax.fill_between(t, low, high, color=pen["color"], alpha=0.15, linewidth=0, **step)
    ax.plot(t, np.nanmean(values, 0), **pen)
    return np.concatenate([low, high])


def _value_and_policy(reference, plane=None, optimal=None):
    """V* and each input of π*, with a dashed line where π* leaves the input's box."""
    plane = _planes(reference)[0] if plane is None else plane
    optimal = _optimal(reference, [plane])[0] if optimal is None else optimal
    count = 1 + len(reference.inputs)
    rows, columns = -(-count // 3), min(count, 3)
    figure = _figure(7.0, 0.2 + 2.6 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    _value_panel(axes[0], reference, plane)
    for ax, u, signal in zip(axes[1:], np.moveaxis(optimal, -1, 0), reference.inputs, strict=False):
        low, high = u.min() - 1e-6 * np.ptp(u), u.max() + 1e-6 * np.ptp(u)
        beyond = [b for b, left in ((signal.low, low < signal.low), (signal.high, high > signal.high)) if left]
        _map(ax, plane, u, rf"$\pi^*$: {signal.label}", signal.low < 0 < signal.high, beyond, colors="black", linestyles="--")
        if len(plane.ticks) == 1:
            _frame(ax, signal, u)
    for ax in axes[count:]:
        ax.remove()
    figure.suptitle(f"at {plane.held}" if plane.held else None)
    return figure


def _value_panel(ax, reference, plane=None):
    plane = _planes(reference)[0] if plane is None else plane
    (value,) = _at_once(lambda z: reference.V(z[:, : len(reference.states)]), [plane])
    levels = MaxNLocator(8).tick_values(value.min(), value.max())
    _map(ax, plane, value, "$V^*(x)$", levels=levels, colors="white", alpha=0.6)


def _q_slices(reference, plane, *values):
    """Q*, Q^{ω*} and Q^ω against the first input at a few states, their maxima marked."""
    rows, columns = (1, 3) if len(plane.z) == 3 else (2, 2)
    figure = _figure(7.0, 0.6 + 2.0 * rows)
    axes, u = figure.subplots(rows, columns, sharex=True, squeeze=False), plane.ticks[0]
    label = "$Q(x,u)$" + (r", other $u$ at $\pi^*$" if len(reference.inputs) > 1 else "")
    for k, ax in enumerate(axes.ravel()):
        curves = dict(zip(QS, (q[k] for q in values), strict=True))
        state = ", ".join(_at(s, v) for s, v in zip(reference.states, plane.z[k, 0], strict=False))
        _curves(ax, u, curves, xlabel=plane.signals[0].label, ylabel=label, title=textwrap.fill(state, 36))
        for j, q in enumerate(curves.values()):
            ax.plot(u[np.argmax(q)], q.max(), "o", color=COLOURS[j], markersize=3.5, clip_on=False)
        ax.label_outer()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def _e_q_map(decomposition, fields):
    figure = _figure(7.0, 3.0)
    for ax, field, inputs in zip(figure.subplots(1, 2), fields, (r"$u=\pi^*(x)$", r"other $u$ at $\pi^*$"), strict=False):
        _e_q_panel(ax, decomposition, inputs, *field)
    return figure


def _e_q_panel(ax, decomposition, inputs, plane, star, best, _):
    """(T10) e_Q on a plane, over the data that training visited."""
    signals = (*decomposition.reference.states, *decomposition.reference.inputs)
    noise = np.max(np.abs(star - best)) < 1e-11 * np.max(np.abs(star))
    _map(ax, plane, star - best, "$e_Q$" + (" (round-off)" if noise else ""), signed=True)
    varying = [signals.index(s) for s in plane.signals]
    if len(varying) == 2:
        z = decomposition.run.snapshots.memory.z[decomposition.counted]
        ax.plot(*z[:: max(1, len(z) // DOTS), varying].T, ".", color="0.25", markersize=1.2, alpha=0.35, rasterized=True)
    fixed = len(signals) - len(decomposition.reference.states) > sum(s in decomposition.reference.inputs for s in plane.signals)
    ax.set_title("\n".join(s for s in (inputs if fixed else "", textwrap.fill(plane.held, 24)) if s))


def _e_star_panel(ax, decomposition):
    """(T11) Histograms of e* and its parts on common bins; the grey band is what the reference itself cannot resolve."""
    parts = {"$e^*$": decomposition.e_star, r"$e^*_\mathrm{noise}$": decomposition.e_star_noise, r"$e^*_\mathrm{policy}$": decomposition.e_star_policy}
    low, high = min(e.min() for e in parts.values()), max(e.max() for e in parts.values())
    edges = np.linspace(low, high if high > low else low + 1e-12, BINS)
    for k, (label, e) in enumerate(parts.items()):
        e = e[decomposition.counted]
        counts = np.histogram(e, edges)[0]
        ax.stairs(np.where(counts > 0, counts, np.nan), edges, baseline=None, label=f"{label}, rms {_number(rms(e), 2)}", **_pen(k))
    residual = decomposition.reference_residual
    if residual > 1e-6 * (high - low):
        ax.axvspan(-residual, residual, color="0.88", linewidth=0, zorder=0, label=f"residual of V*: ±{_number(residual, 2)}")
    ax.set(xlim=edges[[0, -1]], xlabel="part of the TD error", ylabel="transitions per bin")
    _scale(ax, "y", np.array([1, counts.max()]))
    _legend(ax, 2)


def _training(training, decomposition):
    figure = _figure(7.0, 3.8)
    axes, size = figure.subplot_mosaic("AC;BC"), decomposition.terms.omega_norm
    _curves(axes["A"], decomposition.step, {"": size}, xlabel="step $k$", ylabel=r"$\|\tilde\omega\|$")
    _scale(axes["A"], "y", size)
    _td_panel(axes["B"], training)
    _terms_panel(axes["C"], decomposition)
    return figure


def _td_panel(ax, training):
    """Root mean square TD error (T6) on the replay memory."""
    s = training.snapshots
    curves = {"mean since last snapshot": s.td_rms_mean, "at snapshot": s.td_rms}
    _curves(ax, s.step, curves, 2, xlabel="step $k$", ylabel=r"rms $e^\omega$ on $R_k$")
    _scale(ax, "y", np.stack(list(curves.values())))


def _terms_panel(ax, decomposition):
    """(T12) Root mean square of every term over the replay memory, along the run."""
    d = decomposition
    terms = {
        r"$e^\omega$": d.e_td, r"$d^\top\tilde\omega$": d.d_dot, r"$\gamma e_Q^+ - e_Q$": d.gamma_next * d.e_q_next - d.e_q_now,
        "$e^*$": d.e_star, "$R$": d.remainder,
    }  # fmt: skip
    sizes = {label: np.sqrt(np.sum(e**2 * d.counted, 1) / d.counted.sum(1)) for label, e in terms.items()}
    floor = NEGLIGIBLE * max(size.max() for size in sizes.values())
    sizes = {label if size.max() > floor else f"{label} ≤ {_power(size.max())}": np.where(size > floor, size, np.nan) for label, size in sizes.items()}
    _curves(ax, d.step, sizes, 3, xlabel="step $k$", ylabel="rms over $R_k$")
    _scale(ax, "y", np.stack(list(sizes.values())))


def _spectrum_panel(ax, decomposition):
    """(T16) Eigenvalues of A_k, largest first; the dot is the effective rank."""
    spectrum, rank = decomposition.terms.spectrum, decomposition.effective_rank
    shown = np.unique(np.linspace(0, len(spectrum) - 1, SNAPSHOTS).astype(int))
    for k, colour in zip(shown, mpl.colormaps["viridis"](np.linspace(0, 0.88, len(shown))), strict=True):
        values = np.where(spectrum[k] > 1e-16 * spectrum[k, 0], spectrum[k], np.nan)
        ax.plot(np.arange(1, len(values) + 1), values, color=colour, label=f"k = {decomposition.step[k]}: rank {rank[k]}")
        ax.plot(rank[k], values[rank[k] - 1], "o", color=colour, markersize=4)
    memory, p = decomposition.run.scheme.memory, len(decomposition.omega_star)
    ax.axhline(memory / 4, color=GREY, linestyle=":", linewidth=1.0, label="bound M/4")
    ax.set(xlabel="index", ylabel="eigenvalue of $A_k$")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _scale(ax, "y", spectrum[shown])
    _legend(ax, 2, title=f"M = {memory} transitions, p = {p} weights")


def _lyapunov(decomposition):
    """(T17) The terms of the step identity, and their sum beside the measured change."""
    t, step = decomposition.terms, decomposition.step
    terms = {
        r"$-2\lambda\tilde\omega^\top A\tilde\omega$": t.term_excitation, r"$-2\lambda\tilde\omega^\top b$": t.term_bias,
        r"$-2\lambda\tilde\omega^\top q$": t.term_remainder, r"$\lambda^2\|A\tilde\omega+b+q\|^2$": t.term_square,
    }  # fmt: skip
    figure = _figure(7.0, 4.4)
    top, bottom = figure.subplots(2, 1, sharex=True, sharey=True)
    _curves(top, step, terms, 4, ylabel="per step (symlog)")
    change = r"measured $\|\tilde\omega_{k+1}\|^2-\|\tilde\omega_k\|^2$"
    bottom.plot(step, t.decrease, "o", color=VERMILION, markersize=4, markerfacecolor="none", label=change)
    _curves(bottom, step, {"sum of the terms": sum(terms.values())}, 2, ylabel="per step (symlog)", xlabel="step $k$")
    _scale(top, "y", np.stack([*terms.values(), t.decrease]), signed=True)
    return figure


def _returns_panel(ax, comparison, reference=None):
    """Mean discounted return of each policy with its 95 % interval, best on top; V* at the initial states."""
    names = sorted(comparison.returns, key=lambda name: comparison.returns[name].mean)
    means = np.array([comparison.returns[name].mean for name in names])
    for k, (name, r) in enumerate(comparison.returns.items()):
        row, interval = names.index(name), r.ci95 if np.isfinite(r.ci95) else None
        ax.errorbar(r.mean, row, xerr=interval, fmt="o", color=_pen(k)["color"], markersize=4, capsize=3)
        ax.annotate(f"{_number(r.mean, 5)} ± {_number(r.ci95, 2)}", (1.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=8)
    ax.set(yticks=range(len(names)), yticklabels=names, ylim=(-0.6, len(names) - 0.4), xlabel="discounted return, 95 % interval")
    ax.xaxis.set_major_locator(MaxNLocator(6))
    if reference is not None:
        start = next(iter(comparison.trajectories.values())).x[:, 0]
        ax.axvline(reference.V(start).mean(), color=GREY, linestyle=":", label=r"$V^*(x_0)$, endless horizon")
        _legend(ax, 1)
    if np.max(np.abs(means)) > 30 * np.min(np.abs(means)):
        _scale(ax, "x", means, signed=True)


def _decomposition_overview(decomposition):
    figure = _figure(7.0, 6.4)
    axes = figure.subplots(2, 2).ravel()
    _, _, fields = _fields(decomposition.reference, decomposition.run, decomposition)
    _e_q_panel(axes[0], decomposition, r"$u=\pi^*(x)$", *fields[0])
    for ax, panel in zip(axes[1:], (_e_star_panel, _terms_panel, _spectrum_panel), strict=True):
        panel(ax, decomposition)
    return figure


def _comparison_overview(comparison):
    figure = _closed_loop(comparison.trajectories, extra=1)
    _returns_panel(figure.axes[-1], comparison)
    return figure


def _drawn(panel, overview, result, ax=None):
    """`panel` into `ax` if given, else the `overview` figure and its panels (colour bars left out)."""
    require(ax is None or isinstance(ax, Axes), "ax", "must be one Matplotlib Axes", ax, "Pass ax=figure.subplots().")
    with mpl.rc_context(STYLE):
        if ax is not None:
            panel(ax, result)
            return ax.get_figure(root=True), ax
        figure = overview(result)
        return figure, np.array([a for a in figure.axes if a.get_label() != "<colorbar>"])


for _kind, _panel, _overview in (
    (Reference, _value_panel, _value_and_policy),
    (Trajectory, lambda ax, path: _signal_panel(ax, {"": path}), lambda path: _closed_loop({"": path})),
    (Training, _td_panel, functools.partial(_single, _td_panel)),
    (Decomposition, _terms_panel, _decomposition_overview),
    (Comparison, _returns_panel, _comparison_overview),
):
    draw.register(_kind, functools.partial(_drawn, _panel, _overview))
