"""Figures of results: `draw` any of them, `run_figures` for a whole run, `solve_figures` for references, `save` one as PDF, PNG and SVG.

Numbers first, ink second: one batched evaluation per function, then panels that draw on one Axes each; a layout [width, height of a row,
columns, panel, …] makes a figure of them, under a local style, without pyplot. Colours: Okabe & Ito (2008). T-numbers: the theory page.
"""

from functools import partial, singledispatch
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlctrl.analysis import Comparison, Coverage, Decomposition, EStar, Score, Sources, WidthStudy
from rlctrl.critic import Training
from rlctrl.errors import require
from rlctrl.plant import Plant
from rlctrl.plots.animation import animate
from rlctrl.plots.drawing import STYLE, file_kind, save, save_as, step_panel, tiles
from rlctrl.plots.learning import cut_panel, e_q_panel, e_star_panel, fields_of, lyapunov_panels, spectrum_panel, td_panel, terms_panel
from rlctrl.plots.paths import returns_panel, signal_panels
from rlctrl.plots.plant import caption, portrait, portrait_layout
from rlctrl.plots.references import (
    beside_panel,
    convergence_panel,
    gradient_slices,
    planes,
    residual_slices,
    value_layout,
    value_slices,
)  # fmt: skip
from rlctrl.plots.shapes import drawing_of
from rlctrl.plots.studies import coverage_panel, distance_panel, pairs, parts_panel, score_panel, sources_panel, steps_panel, width_panel
from rlctrl.plots.theory import budget_panel, rates_panel, theory_panel
from rlctrl.reference import Reference
from rlctrl.simulate import Trajectory


@singledispatch
def draw(result, ax=None) -> Any:  # noqa: ARG001 - the signature of what is registered at the end
    """Overview of a result: (figure, array of its panels); with `ax`, its main panel goes there: (figure, ax). Else raises `InputError`."""
    require(
        False,
        "result",
        "must be what solve, simulate, train, decompose, compare or a study returns",
        type(result).__name__,
        "Pass a result.",
    )


@mpl.rc_context(STYLE)
def run_figures(run) -> dict[str, Figure]:
    """The figures of a run by name, of those of its reference, training, decomposition and comparison that there are."""
    layouts = {}
    if run.comparison is not None:
        layouts |= _compared(run.comparison, run.reference)
    if run.decomposition is not None:
        layouts |= _decomposed(run.reference, run.training, run.decomposition)
    elif run.training is not None:
        layouts["training"] = [5.0, 3.0, 1, partial(td_panel, run.training)]
    return {name: tiles(*layout) for name, layout in layouts.items()}


def _compared(comparison, reference):
    return {
        "closed_loop": [7.0, 1.35, 1, *signal_panels(comparison.trajectories)],
        "returns": [5.0, 1.2 + 0.32 * len(comparison.returns), 1, partial(returns_panel, comparison, reference=reference)],
    }


def _decomposed(reference, training, decomposition):
    """V*, π*, Q* and the critic are evaluated once for all of them."""
    fields = fields_of(reference, training, decomposition)
    tilde = partial(step_panel, decomposition.step, r"$\|\tilde\omega\|$", {"": decomposition.terms.omega_norm})
    cuts = [partial(cut_panel, reference, fields[2], k) for k in range(len(fields[2][1]))]
    return {
        "value_and_policy": value_layout(reference, fields[0][0]),
        "q_slices": [7.0, 2.2, 3 if len(cuts) == 3 else 2, *cuts],
        "e_q_map": [7.0, 3.0, 2, *[partial(e_q_panel, decomposition, fields=fields, block=k) for k in (0, 1)]],
        "e_star": [5.0, 3.4, 1, partial(e_star_panel, decomposition)],
        "training": [7.0, 1.9, 1, tilde, partial(td_panel, training), partial(terms_panel, decomposition)],
        "excitation": [5.0, 3.6, 1, partial(spectrum_panel, decomposition)],
        "lyapunov": [7.0, 2.3, 1, *lyapunov_panels(decomposition)],
        "error_budget": [5.0, 3.2, 1, partial(budget_panel, decomposition)],
        "convergence": [7.0, 2.3, 1, partial(theory_panel, decomposition), partial(rates_panel, decomposition)],
    }


@mpl.rc_context(STYLE)
def solve_figures(references) -> dict[str, Figure]:
    """The figures of references by name {method: reference}; maps and convergence are those of the first."""
    reference = next(iter(references.values()))
    layouts = {
        "value_and_policy": value_layout(reference, planes(reference)[0]),
        "gradient": gradient_slices(reference),
        "residual": residual_slices(reference),
        "references": [5.0, 3.4, 1, partial(beside_panel, references)],
    }
    if len(reference.states) > 2:
        layouts["value_slices"] = value_slices(reference)
    if reference.history:
        layouts["convergence"] = [5.0, 3.4, 1, partial(convergence_panel, reference)]
    return {name: tiles(*layout) for name, layout in layouts.items()}


def _drawn(layout, result, ax=None):
    """The first panel of a layout into `ax` if given, else all of them in a new figure."""
    require(ax is None or isinstance(ax, Axes), "ax", "must be one Matplotlib Axes", ax, "Pass ax=figure.subplots().")
    with mpl.rc_context(STYLE):
        width, height, columns, *panels = layout(result)
        if ax is None:
            figure = tiles(width, height, columns, *panels)
            return figure, np.array([a for a in figure.axes if a.get_label() != "<colorbar>"])
        panels[0](ax)
        return ax.get_figure(root=True), ax


def plant_figure(plant, ax=None, about=None, dt=None, horizon=None, seed=0):
    """The figure of a plant, as `rc.Plant.plot` says."""
    found = portrait(plant, about, dt, horizon, seed)
    figure, axes = _drawn(portrait_layout, found, ax)
    if ax is None and isinstance(figure, Figure):
        figure.suptitle(caption(found), fontsize=9)
    return figure, axes


draw.register(Plant, plant_figure)
draw.register(Reference, partial(_drawn, lambda reference: value_layout(reference, planes(reference)[0])))
draw.register(Trajectory, partial(_drawn, lambda path: [7.0, 1.35, 1, *signal_panels({"": path})]))
draw.register(Training, partial(_drawn, lambda training: [5.0, 3.0, 1, partial(td_panel, training)]))
PARTS = terms_panel, spectrum_panel, e_star_panel, e_q_panel
draw.register(Decomposition, partial(_drawn, lambda d: [7.0, 3.2, 2, *[partial(panel, d) for panel in PARTS]]))
draw.register(Comparison, partial(_drawn, lambda c: [7.0, 1.35, 1, partial(returns_panel, c), *signal_panels(c.trajectories)]))
draw.register(Sources, partial(_drawn, lambda s: [7.0, 3.0, 2, partial(sources_panel, s), partial(steps_panel, s)]))
draw.register(
    Coverage, partial(_drawn, lambda c: [7.0, 3.0, 2, *[partial(coverage_panel, c, p) for p in pairs(c)], partial(distance_panel, c)])
)
draw.register(WidthStudy, partial(_drawn, lambda w: [5.0, 3.4, 1, partial(width_panel, w)]))
draw.register(EStar, partial(_drawn, lambda e: [5.0, 1.4 + 0.3 * len(e.policy), 1, partial(parts_panel, e)]))
draw.register(Score, partial(_drawn, lambda s: [6.0, 3.2, 1, partial(score_panel, s)]))

__all__ = ["animate", "draw", "drawing_of", "file_kind", "plant_figure", "run_figures", "save", "save_as", "solve_figures"]
