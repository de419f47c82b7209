"""Panels of a reference: V*, π*, ∇V*, Bellman residual on planes of the state space, convergence, several references side by side."""

import textwrap
from collections import namedtuple
from functools import partial

import numpy as np
from matplotlib.colors import CenteredNorm
from matplotlib.ticker import MaxNLocator

from rlctrl.plant import box, finite_box
from rlctrl.plots.drawing import GREY, NO_BREAK, PENS, at, frame, legend, number, scale, turns

NODES = 61  # a side of a map
Plane = namedtuple("Plane", "z u signals ticks held")  # points (x, u) (…, n+m), π* there, what varies and its coordinates, what does not


def planes(reference) -> list[Plane]:
    """First two states; first state and first input; lines along the first input at the centre, halfway out and back. Other states are
    at 0, or in the middle of a box that does not hold 0 inside; other inputs are π*, kept within their box."""
    signals, n, planes = (*reference.states, *reference.inputs), len(reference.states), []
    low, high = finite_box(signals)
    centre = _centre(low, high)
    steps = np.pad(np.vstack([np.zeros(n), np.eye(n)[:2], -np.ones(n)]), ((0, 0), (0, len(low) - n)))
    places = np.clip(centre + 0.25 * (high - low) * steps, low, high)
    for axes, base in (([*range(min(2, n))], centre), ([0, n], centre), ([n], places[:, None])):
        ticks = [np.sort(signals[k].values or np.linspace(low[k], high[k], _side(reference))) for k in axes]
        mesh = np.stack(np.meshgrid(*ticks), -1)
        z = np.array(np.broadcast_to(base, (*base.shape[:-2], *mesh.shape[:-1], len(low))))
        z[..., axes] = mesh
        held = ", ".join(at(signals[k], centre[k]) for k in range(n) if k not in axes)
        planes.append(Plane(z, None, [signals[k] for k in axes], ticks, held))
    optimal = at_once(lambda z: reference.policy(z[:, :n]), planes)
    for plane, u, first in zip(planes, optimal, (n, n + 1, n + 1), strict=True):
        plane.z[..., first:] = np.clip(u, *box(reference.inputs))[..., first - n :]
    return [plane._replace(u=u) for plane, u in zip(planes, optimal, strict=True)]


def _side(reference):
    """Points along a side of a map."""
    return max(3, int(reference.affordable(NODES**2) ** 0.5))


def _centre(low, high):
    """0, or the middle of a box that does not hold 0 inside."""
    return np.where((low < 0) & (high > 0), 0.0, 0.5 * (low + high))


def at_once(function, planes):
    """`function` of all the planes' points (N, n+m) in one call, cut back to their shapes."""
    values = function(np.concatenate([p.z.reshape(-1, p.z.shape[-1]) for p in planes]))
    parts = np.split(values, np.cumsum([p.z[..., 0].size for p in planes])[:-1])
    return [part.reshape(*p.z.shape[:-1], *values.shape[1:]) for part, p in zip(parts, planes, strict=True)]


def map_plane(ax, plane, values, label, signed=False, levels=(), **pen):
    """Values on a plane as colours with level lines, or as a curve where the plane is a line."""
    ax.set(xlabel=plane.signals[0].label, xlim=plane.ticks[0][[0, -1]], ylabel=label, title=textwrap.fill(plane.held, 24))
    turns(ax.xaxis, plane.signals[0])
    if len(plane.ticks) == 1:
        ax.plot(plane.ticks[0], values, **PENS[0])
        return
    colours = {"norm": CenteredNorm(), "cmap": "RdBu_r"} if signed else {"cmap": "viridis"}
    mesh = ax.pcolormesh(*plane.ticks, values, shading="gouraud", rasterized=True, **colours)
    ax.get_figure(root=False).colorbar(mesh, ax=ax, label=label)
    ax.set(ylabel=plane.signals[1].label, ylim=plane.ticks[1][[0, -1]])
    turns(ax.yaxis, plane.signals[1])
    if inside := [v for v in levels if values.min() < v < values.max()]:
        ax.contour(*plane.ticks, values, levels=inside, **pen)


def value_layout(reference, plane):
    inputs = [partial(_policy_panel, plane, k, signal) for k, signal in enumerate(reference.inputs)]
    return [7.0, 2.6, min(3, 1 + len(inputs)), partial(_value_panel, reference, plane), *inputs]


def _value_panel(reference, plane, ax):
    value = reference.V(plane.z[..., : len(reference.states)])
    map_plane(ax, plane, value, "V*(x)", levels=MaxNLocator(8).tick_values(value.min(), value.max()), colors="white", alpha=0.6)


def _policy_panel(plane, k, signal, ax):
    """One input of π*, with a dashed line where it leaves its box."""
    u, slack = plane.u[..., k], 1e-6 * np.ptp(plane.u[..., k])
    beyond = [b for b, excess in ((signal.low, signal.low - u.min()), (signal.high, u.max() - signal.high)) if excess > slack]
    if beyond and len(plane.ticks) == 2:
        plane = plane._replace(held=", ".join(filter(None, (plane.held, f"dashed: bounds of {signal.name}".replace(" ", NO_BREAK)))))
    map_plane(ax, plane, u, f"π*: {signal.label}", signal.low < 0 < signal.high, beyond, colors="black", linestyles="--")
    if len(plane.ticks) == 1:
        frame(ax, signal)


def slices_of(reference) -> list[Plane]:
    """Planes of two states each, (1, 2), (2, 3), …, the others held as in `planes`; the line where there is one state."""
    signals, n = reference.states, len(reference.states)
    low, high = finite_box(signals)
    centre = _centre(low, high)
    found = []
    for axes in [[k, k + 1] for k in range(n - 1)] or [[0]]:
        ticks = [np.linspace(low[k], high[k], _side(reference)) for k in axes]
        mesh = np.stack(np.meshgrid(*ticks), -1)
        z = np.array(np.broadcast_to(centre, (*mesh.shape[:-1], n)))
        z[..., axes] = mesh
        held = ", ".join(at(signals[k], centre[k]) for k in range(n) if k not in axes)
        found.append(Plane(z, None, [signals[k] for k in axes], ticks, held))
    return found


def slice_layout(reference, function, panel, columns):
    """Panels of a function of the states on all slices: `function` (N, n) → (N, …), `panel(plane, values)` → panels."""
    slices = slices_of(reference)
    found = zip(slices, at_once(function, slices), strict=True)
    return [7.0, 2.6, columns, *[p for plane, values in found for p in panel(plane, values)]]


def value_slices(reference):
    """V* on all slices."""
    draw = lambda plane, v: [partial(_contoured, plane, v, "V*(x)")]
    return slice_layout(reference, reference.V, draw, 1 if len(reference.states) < 3 else 2)


def gradient_slices(reference):
    """∇V* on all slices, one panel a component, in value per unit of the state."""
    label = lambda s: (
        f"∂V*/∂{s.name}" + ("" if s.unit == "1" else f" [1/({s.unit})]" if " " in s.unit or "/" in s.unit else f" [1/{s.unit}]")
    )
    draw = lambda plane, g: [partial(_signed, plane, g[..., k], label(s)) for k, s in enumerate(reference.states)]
    return slice_layout(reference, reference.gradient, draw, min(3, len(reference.states)))


def residual_slices(reference):
    """Bellman residual max Q* − V* on all slices: what the method leaves between its nodes."""
    draw = lambda plane, r: [partial(_signed, plane, r, "max Q*(x, u) − V*(x)")]
    return slice_layout(reference, reference.bellman_residual, draw, 1 if len(reference.states) < 3 else 2)


def _contoured(plane, values, label, ax):
    map_plane(ax, plane, values, label, levels=MaxNLocator(8).tick_values(values.min(), values.max()), colors="white", alpha=0.6)


def _signed(plane, values, label, ax):
    map_plane(ax, plane, values, label, signed=True)


def convergence_panel(reference, ax):
    """Residual and bound by iteration; levels of a nest side by side."""
    history = reference.history
    count = np.arange(1, len(next(iter(history.values()))) + 1)
    names = [n for n in history if n not in ("nodes", "iteration")]
    for pen, name in zip(PENS, names, strict=False):
        values = np.where(history[name] > 0, history[name], np.nan)
        ax.plot(count, values, label=name, marker=".", **pen)
    for k in np.flatnonzero(np.diff(history.get("nodes", np.zeros(1)))) + 1:
        ax.axvline(k + 0.5, color=GREY, linestyle=":", linewidth=0.9)
    ax.set(xlabel="iteration" + (" (dotted: next grid)" if "nodes" in history else ""), ylabel="per step, in units of V")
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    scale(ax, "y", np.concatenate([history[n] for n in names]))
    legend(ax, 3)


def beside_panel(references, ax):
    """V of every reference along the first state, with its stated error as a band."""
    first = next(iter(references.values()))
    low, high = finite_box(first.states)
    count = min(_side(reference) for reference in references.values())
    x = np.tile(_centre(low, high), (count, 1))
    x[:, 0] = np.linspace(low[0], high[0], count)
    all_values = np.stack([r.V(x) for r in references.values()])
    room = 0.3 * np.ptp(all_values) + 1e-9 * (1 + np.abs(all_values).max())
    for v, pen, (name, reference) in zip(all_values, PENS, references.items(), strict=False):
        ax.plot(x[:, 0], v, label=f"{name} ± {number(reference.error, 2)}", **pen)
        if np.isfinite(reference.error):
            ax.fill_between(x[:, 0], v - reference.error, v + reference.error, color=pen["color"], alpha=0.15, linewidth=0)
    held = ", ".join(at(s, v) for s, v in zip(first.states[1:], x[0, 1:], strict=True))
    ax.set(xlabel=first.states[0].label, ylabel="V*(x), band: stated error", xlim=(low[0], high[0]))
    ax.set_ylim(all_values.min() - room, all_values.max() + room)  # a band beyond is cut off
    turns(ax.xaxis, first.states[0])
    legend(ax, 2, title=held or None)
