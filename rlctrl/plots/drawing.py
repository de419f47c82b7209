"""What all figures share: the style, the layout of panels, numbers and names in plain text, scales, and files."""

from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator, NullFormatter

from rlctrl.errors import require
from rlctrl.plots.numbers import write_numbers
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
NO_BREAK, THIN_SPACE, RAISED = "\N{NO-BREAK SPACE}", "\N{NARROW NO-BREAK SPACE}", str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
TURNS = {-2: "−π", -1: "−π/2", 0: "0", 1: "π/2", 2: "π", 3: "3π/2", 4: "2π"}


@mpl.rc_context(STYLE)
def save(figure, folder, name):
    """Write `name`.pdf, .png and .svg into `folder` (made if missing), and the numbers drawn as `name`.csv, each whole or not at all;
    equal figures give equal bytes.

    The figure's layout is settled by this and stays as it is.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    _settle(figure)
    for kind in METADATA:
        _write(figure, Path(folder) / f"{name}.{kind}", kind)
    write_numbers(figure, Path(folder) / f"{name}.csv")


@mpl.rc_context(STYLE)
def save_as(figure, path) -> Path:
    """Write a figure to one file by its suffix, .pdf, .png or .svg. Raises `InputError` for another suffix or a folder that is missing."""
    path, kind = Path(path), file_kind(path)
    _settle(figure)
    _write(figure, path, kind)
    return path


def file_kind(path) -> str:
    """One of pdf, png and svg, by the suffix; raises `InputError` for another."""
    kind = Path(path).suffix.lower().lstrip(".")
    require(kind in METADATA, "path", "must end in .pdf, .png or .svg", str(path), "Use e.g. figure.pdf.")
    return kind


def _settle(figure):
    figure.draw_without_rendering()
    figure.set_layout_engine(None)  # solving it again per format would take most of the time, and differ a little


def _write(figure, path, kind):
    write_whole(path, partial(figure.savefig, format=kind, metadata=METADATA[kind], dpi=DPI))


def tiles(width, height, columns, *panels) -> Figure:
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


def number(value, digits=3):
    """In plain text, as 2·10⁻⁵ if far from 1: parsing mathtext is what makes figures slow."""
    factor, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    if abs(int(exponent or 0)) < 3:
        return f"{float(f'{value:.{digits}g}'):g}".replace("-", "−")
    return {1.0: "10", -1.0: "−10"}.get(float(factor), f"{float(factor):g}·10".replace("-", "−")) + str(int(exponent)).translate(RAISED)


def measured(mean, ci95):
    """`mean ± ci95` as text: the interval to two digits, the mean to the same place."""
    if not (np.isfinite(ci95) and ci95 > 0 and 1e-3 <= abs(mean) < 1e6):
        return f"{number(mean, 5)} ± {number(ci95, 2)}"
    places = max(0, 1 - int(np.floor(np.log10(ci95))))
    return f"{mean:.{places}f} ± {ci95:.{places}f}".replace("-", "−") if places < 7 else f"{number(mean, 7)} ± {number(ci95, 2)}"


def at(signal, value):
    text = f"{signal.name} = {number(value)}" + ("" if signal.unit == "1" else f" {signal.unit}")
    return text.replace(" ", NO_BREAK)


def legend(ax, columns, **options):
    """Above the panel, where nothing runs into it; a narrow panel gets fewer columns."""
    columns = min(columns, max(2, int(ax.bbox.width / ax.get_figure().dpi)))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, columnspacing=1.0, handlelength=2.2, **options)


def scale(ax, which, values, signed=False, span=10):
    """Logarithmic axis "x" or "y" where sizes differ by more than `span`; if signed, symmetric and linear below the smaller ones."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    if not sizes.size or sizes.max() <= span * sizes.min():
        return
    floor = 10 ** np.floor(np.log10(max(np.quantile(sizes, 0.1), 1e-6 * sizes.max())))
    getattr(ax, f"set_{which}scale")("symlog" if signed else "log", **({"linthresh": floor} if signed else {}))
    axis = getattr(ax, f"{which}axis")
    axis.get_major_locator().set_params(**({"numticks": 9} if signed else {"subs": (1, 2, 5) if sizes.max() < 100 * sizes.min() else (1,)}))
    axis.set_major_formatter(lambda value, _: number(value))
    axis.set_minor_formatter(NullFormatter())


def turns(axis, signal):
    if signal.periodic and signal.unit == "rad":
        axis.set_major_locator(MultipleLocator(np.pi / 2))
        axis.set_major_formatter(lambda value, _: TURNS.get(round(2 * value / np.pi), f"{round(2 * value / np.pi)}π/2"))


def broken(points, *signals):
    """Points (k, coordinates) with a row of nan wherever a periodic one of the coordinates' signals (or None) passes its seam."""
    periods = [s.high - s.low if s is not None and s.periodic else np.inf for s in signals]
    seams = np.flatnonzero(np.any(np.abs(np.diff(points, axis=0)) > 0.5 * np.array(periods), axis=1)) + 1
    return np.insert(points, seams, np.nan, axis=0)


def frame(ax, signal, whole=True):
    """Box as dotted lines; vertical limits: the data up to half a box outside, and the whole box if asked or a third of it is used."""
    (low, high), width = ax.dataLim.intervaly, signal.high - signal.low
    if low > high:  # nothing was drawn
        low = high = np.clip(0.0, signal.low, signal.high)
    if np.isfinite(width):
        low, high = np.clip((low, high), signal.low - 0.5 * width, signal.high + 0.5 * width)
        if whole or signal.periodic or high - low > width / 3:
            low, high = min(low, signal.low), max(high, signal.high)
    pad = 0.0 if signal.periodic else 0.06 * (high - low) + 1e-9 * (1 + abs(high))
    ax.set_ylim(low - pad, high + pad)
    for bound in (b for b in (signal.low, signal.high) if np.isfinite(b) and not signal.periodic):
        ax.axhline(bound, color=GREY, linestyle=":", linewidth=0.9)
    turns(ax.yaxis, signal)


def mark_single_points(ax):
    """Give lines of one point a mark, as they would show nothing."""
    for line in ax.lines:
        if line.get_marker() == "None" and np.isfinite(line.get_ydata()).sum() == 1:
            line.set(marker="o", markersize=3, markeredgewidth=0)


def along_steps(ax):
    """The steps of a training as abscissa, counted in full."""
    mark_single_points(ax)
    ax.set_xlabel("step k")
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}".replace(",", THIN_SPACE).replace("-", "−"))


def step_panel(step, label, curves, ax, columns=0, signed=False, **options):
    """Curves {name: (K,)} over the steps of a training, with a legend of so many columns if any, and `options` of it."""
    for pen, (name, y) in zip(PENS, curves.items(), strict=False):
        ax.plot(step, y, label=name, **pen)
    ax.set_ylabel(label)
    along_steps(ax)
    scale(ax, "y", np.stack(list(curves.values())), signed)
    if columns:
        legend(ax, columns, **options)
