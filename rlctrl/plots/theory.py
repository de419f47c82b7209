"""Panels of the error budget and of the convergence theory beside what happened (T17–T20)."""

import numpy as np

from rlctrl.plots.drawing import COLOURS, GREY, PENS, along_steps, legend, number, scale

PARTS = {
    "representation": "representation: $e_Q$", "not_excited": "not excited", "unfinished": r"unfinished: $\nabla J$",
    "targets": "targets: $e_Q$ in them", "noise": r"noise: $e^*_\mathrm{noise}$", "policy": r"policy: $e^*_\mathrm{policy}$",
    "held": "lag of held weights", "remainder": "left by quadrature",
}  # fmt: skip
NEGLIGIBLE = 5e-4  # share that is printed as 0 %


def budget_panel(d, ax):
    """Root mean square of every part of Q* − Q̂^ω, largest first; beside each its signed share of the mean square error."""
    sizes, shares = d.budget.rms, d.budget.shares
    causes = sorted(sizes, key=lambda cause: sizes[cause])
    total = float(np.sqrt(np.mean(d.budget.error**2)))
    for colour, adds, label in ((COLOURS[0], True, "adds to it"), (COLOURS[1], False, "takes from it")):
        rows = [k for k, cause in enumerate(causes) if (shares[cause] > -NEGLIGIBLE) is adds]
        if rows:
            ax.barh(rows, [sizes[causes[k]] for k in rows], 0.7, color=colour, label=label)
    ax.axvline(total, color=GREY, linestyle="--", linewidth=1.0, zorder=0.5, label=f"whole error: rms {number(total)}")
    ax.set(yticks=range(len(causes)), yticklabels=[PARTS[c] for c in causes], ylabel=r"part of $Q^\ast - \hat Q^\omega$")
    ax.set(xlabel="rms over Z, in units of Q", xlim=(0, 1.45 * max(*sizes.values(), total)), ylim=(-0.6, len(causes) - 0.4))
    for k, cause in enumerate(causes):
        words = {"textcoords": "offset points", "va": "center", "fontsize": 8, "bbox": {"facecolor": "white", "linewidth": 0, "pad": 0.6}}
        ax.annotate(_share(sizes[cause], shares[cause]), (sizes[cause], k), (5, 0), **words)
    legend(ax, 2)


def _share(size, share):
    """Size and signed share of a part as text."""
    percent = f"{100 * share:+.1f} %".replace("-", "−") if abs(share) >= NEGLIGIBLE else "0 %"
    return f"{number(size, 2)} ({percent})" if size else "0"


def theory_panel(d, ax):
    """(T19) The excited part of ‖ω̃‖ along the run, and between which radii T18 promises a decrease; the labels give their last values."""
    b = d.bounds
    promised = np.isfinite(b.r_in)
    ax.plot(d.step, b.norm, label=r"$\|\tilde\omega\|$, excited part", **PENS[0])
    radii = {
        r"$r_\mathrm{in}$": (b.r_in, "none"), r"$r_\mathrm{in}$, $\|b\|$ as measured": (b.r_in_measured, "none"),
        r"$r_\mathrm{out}$": (b.r_out, "∞" if promised[-1] else "none"),
    }  # fmt: skip
    for pen, (name, (radius, otherwise)) in zip(PENS[1:], radii.items(), strict=False):
        said = f" = {number(radius[-1], 2)}" if np.isfinite(radius[-1]) else f": {otherwise}"
        ax.plot(d.step, np.where(np.isfinite(radius), radius, np.nan), label=name + said, **pen)
    ax.set_ylabel(r"$\|\tilde\omega\|$")
    along_steps(ax)
    scale(ax, "y", np.concatenate([b.norm, b.r_in, b.r_in_measured, b.r_out]), span=5)
    if promised.sum() > 1:  # an area over one step shows nothing
        top = np.where(np.isfinite(b.r_out), b.r_out, ax.get_ylim()[1])
        area = {"color": "0.9", "linewidth": 0, "zorder": 0, "label": "decrease promised (T18)"}
        ax.fill_between(d.step, np.minimum(b.r_in, top), top, where=promised, **area)
    legend(ax, 2)


def rates_panel(d, ax):
    """(T18) c as promised, c with λ_max(A) as measured, and −Δ‖ω̃‖²/‖ω̃‖² as it happened (negative: the weights moved away)."""
    b = d.bounds
    curves = {r"$\lambda\varepsilon(2-\lambda M/4)$": b.c_theory, r"$\lambda\varepsilon(2-\lambda\lambda_\mathrm{max})$": b.c_measured}
    everything = np.stack([*curves.values(), b.c_observed])
    signed = bool(np.any(everything < 0))
    if signed:
        ax.axhline(0, color=GREY, linewidth=0.6)
    ax.plot(d.step, b.c_observed, "o", color=COLOURS[2], markersize=3.5, markerfacecolor="none", label="observed")
    for pen, (name, c) in zip(PENS, curves.items(), strict=False):
        ax.plot(d.step, c, label=name, **pen)
    ax.set_ylabel("c per step" + (" (symlog)" if signed else ""))
    along_steps(ax)
    scale(ax, "y", everything, signed)
    legend(ax, 3, title=None if b.applies else f"the theory speaks of T14 alone, not of {d.run.scheme.update} with these options")
