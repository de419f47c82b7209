"""Panels of a training and its decomposition. T-numbers: the theory page."""

import textwrap
from dataclasses import replace
from functools import partial

import matplotlib as mpl
import numpy as np
from matplotlib.ticker import MaxNLocator

from rlctrl.plots.drawing import COLOURS, GREY, NO_BREAK, PENS, at, legend, number, scale, step_panel
from rlctrl.plots.references import at_once, map_plane, planes

DOTS, SPECTRA, BINS = 1500, 5, 61  # data shown, snapshots shown, histogram edges
ROUND_OFF = 1e-12  # of the largest |Q*|: e* below it is not drawn


def fields_of(reference, training, decomposition):
    """(plane, Q*, Q^{ω*}, Q^ω) for each plane."""
    all_planes, n = planes(reference), len(reference.states)
    functions = reference.Q, replace(training, weights=decomposition.omega_star).Q, training.Q
    return list(zip(all_planes, *[at_once(lambda z, q=q: q(z[:, :n], z[:, n:]), all_planes) for q in functions], strict=True))


def cut_panel(reference, field, k, ax):
    """Q*, Q^{ω*} and Q^ω against the first input at one state, their maxima marked."""
    names, (plane, *values) = (r"$Q^\ast$", r"$\hat Q^{\,\omega\ast}$ (best fit)", r"$\hat Q^\omega$ (trained)"), field
    label = "Q(x, u)" + (", other u at π*" if len(reference.inputs) > 1 else "")
    for name, q, pen in zip(names, values, PENS, strict=False):
        ax.plot(plane.ticks[0], q[k], label=name, marker="o", markevery=[int(np.argmax(q[k]))], markersize=3.5, **pen)
    state = ", ".join(at(s, v) for s, v in zip(reference.states, plane.z[k, 0], strict=False))
    ax.set(xlabel=plane.signals[0].label, ylabel=label, title=textwrap.fill(state, 36))
    if k == 0:
        ax.get_figure(root=False).legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=3, title="dots mark the maxima")


def e_q_panel(d, ax, fields=None, block=0):
    """(T10) e_Q over two states under π* (block 0), or over first state and first input (block 1), with data that training visited."""
    plane, star, best, _ = (fields or fields_of(d.reference, d.run, d))[block]
    inputs = (f"u{NO_BREAK}={NO_BREAK}π*(x)", "other u at π*" if len(d.reference.inputs) > 1 else "")[block]
    noise = " (round-off)" if np.max(np.abs(star - best)) < 1e-11 * np.max(np.abs(star)) else ""
    dots = f"dots:{NO_BREAK}data" if len(plane.ticks) == 2 else ""
    map_plane(ax, plane._replace(held=", ".join(filter(None, (inputs, plane.held, dots)))), star - best, f"$e_Q${noise}", signed=True)
    if len(plane.ticks) == 2:
        z = d.run.snapshots.memory.z[d.counted][:: max(1, d.counted.sum() // DOTS), [0, (1, len(d.reference.states))[block]]]
        ax.plot(*z.T, ".", color="0.25", markersize=1.2, alpha=0.35, rasterized=True)


def e_star_panel(d, ax):
    """(T11) Histograms of e* and its parts on common bins; the grey band is what the reference itself cannot resolve."""
    parts = np.stack([d.e_star, d.e_star_noise, d.e_star_policy])[:, d.counted]
    ax.set(xlabel="part of the TD error", ylabel="transitions per bin")
    if np.max(np.abs(parts)) <= ROUND_OFF * np.max(np.abs(d.q_star)):
        ax.set(xticks=[], yticks=[])
        ax.text(0.5, 0.5, "$e^*$ = 0 on all transitions, but for rounding", transform=ax.transAxes, ha="center", va="center")
        return
    edges = np.linspace(parts.min(), max(parts.max(), parts.min() + 1e-12), BINS)
    for pen, label, e in zip(PENS, ("$e^*$", r"$e^*_\mathrm{noise}$", r"$e^*_\mathrm{policy}$"), parts, strict=False):
        counts, size = np.histogram(e, edges)[0], number(np.sqrt(np.mean(e**2)), 2)
        ax.stairs(np.where(counts > 0, counts, np.nan), edges, baseline=None, label=f"{label}, rms {size}", **pen)
    if (residual := d.reference_residual) > 1e-6 * np.ptp(parts):
        ax.axvspan(-residual, residual, color="0.88", linewidth=0, zorder=0, label=f"residual of V*: ±{number(residual, 2)}")
    ax.set(xlim=edges[[0, -1]])
    scale(ax, "y", np.array([1, parts.shape[1]]))
    legend(ax, 2)


def td_panel(training, ax):
    """Root mean square TD error (T6) on the replay memory."""
    s = training.snapshots
    step_panel(s.step, r"rms $e^\omega$ on $R_k$", {"mean since last snapshot": s.td_rms_mean, "at snapshot": s.td_rms}, ax, 2)


def terms_panel(d, ax):
    """(T12) Root mean square of every term over the replay memory, along the run."""
    terms = {
        r"$e^\omega$": d.e_td, r"$d^\top\tilde\omega$": d.d_dot, r"$\gamma e_Q^+ - e_Q$": d.gamma_next * d.e_q_next - d.e_q_now,
        "$e^*$": d.e_star, "$R$": d.remainder,
    }  # fmt: skip
    sizes = {label: np.sqrt(np.sum(e**2 * d.counted, 1) / d.counted.sum(1)) for label, e in terms.items()}
    floor = 1e-8 * max(size.max() for size in sizes.values())  # below it a term is named, not drawn
    named = [label + (f" ≤ {number(size.max(), 1)}" if size.max() <= floor else "") for label, size in sizes.items()]
    shown = [np.where(size > floor, size, np.nan) for size in sizes.values()]
    step_panel(d.step, "rms over $R_k$", dict(zip(named, shown, strict=True)), ax, 5)


def spectrum_panel(d, ax):
    """(T16) Eigenvalues of A_k, largest first; the dot is the effective rank."""
    spectrum, rank = d.terms.spectrum, d.effective_rank
    shown = np.unique(np.linspace(0, len(spectrum) - 1, SPECTRA).astype(int))
    for k, colour in zip(shown, mpl.colormaps["viridis"](np.linspace(0, 0.88, len(shown))), strict=True):
        values = np.where(spectrum[k] > 1e-16 * spectrum[k, 0], spectrum[k], np.nan)
        pen = {"color": colour, "marker": "o", "markersize": 4, "markevery": [rank[k] - 1]}
        ax.plot(np.arange(1, len(values) + 1), values, label=f"k = {d.step[k]}: rank {rank[k]}", **pen)
    ax.axhline(d.run.scheme.rows / 4, color=GREY, linestyle=":", linewidth=1.0, label="bound M/4")
    ax.set(xlabel="index", ylabel="eigenvalue of A")
    ax.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    scale(ax, "y", spectrum[shown])
    legend(ax, 2, title=f"M = {d.run.scheme.rows} transitions, p = {len(d.omega_star)} weights")


def lyapunov_panels(d):
    """The panels of T17: one for an update of which it says nothing."""
    return [partial(lyapunov_panel, d, apart) for apart in ((True, False) if d.run.scheme.update == "gradient" else (False,))]


def lyapunov_panel(d, apart, ax):
    """(T17) The terms of the step identity, or their sum beside the measured change: that alone for an update other than T14."""
    t, change = d.terms, r"measured $\|\tilde\omega_{k+1}\|^2-\|\tilde\omega_k\|^2$"
    terms = {
        r"$-2\lambda\tilde\omega^\top A\tilde\omega$": t.term_excitation, r"$-2\lambda\tilde\omega^\top b$": t.term_bias,
        r"$-2\lambda\tilde\omega^\top q$": t.term_remainder + t.term_lag, r"$\lambda^2\|A\tilde\omega+b+q\|^2$": t.term_square,
    }  # fmt: skip
    curves, title = terms if apart else {"sum of the terms": sum(terms.values())}, None
    if d.run.scheme.update != "gradient":
        curves, title = {change: t.decrease}, f"T17 splits this for T14 alone, not for {d.run.scheme.update}"
    elif not apart:
        ax.plot(d.step, t.decrease, "o", color=COLOURS[1], markersize=4, markerfacecolor="none", label=change)
    ax.axhline(0, color=GREY, linewidth=0.6)
    step_panel(d.step, "per step (symlog)", curves, ax, 4, signed=True, title=title)
