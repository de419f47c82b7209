"""Functions of z = (x, u) and of x on a coarse tensor grid over the finite box: what the slice viewer of a report interpolates between."""

import numpy as np

from rlctrl.plant import finite_box

MOST, SIDE, LEAST = 60_000, 101, 5  # points in all; nodes of an axis at most, and at least if its coordinate is to vary
BLOCK = 2048  # points a call, so that every call runs the same compiled program


def slices(states, inputs, at, of_z, of_x, most=MOST) -> dict[str, np.ndarray]:
    """Arrays for `slices.npz`, from functions `of_z` {name: f(x, u)} and `of_x` {name: f(x)} of points (N, n), (N, m).

    `at` (n+m,), the middle of the box where it is not inside: where sliders start, and where coordinates beyond what fits into `most`
    points stay. `axes` (k,) are those that vary, with `nodes_0` … ; `names`, `units`, `periodic`, `discrete`, `at` (n+m,) describe all,
    `states` says how many are states. Then every f by its name in single precision, on the grid of all axes or of the state axes; the
    components of a vector come first.
    """
    signals, n = (*states, *inputs), len(states)
    low, high = finite_box(signals)
    at = np.where((low < at) & (at < high), at, 0.5 * (low + high))
    axes, counts = _sizes(signals, n, most)
    nodes = [np.sort(signals[a].values or np.linspace(low[a], high[a], c)) for a, c in zip(axes, counts, strict=True)]
    over = [nodes[k] for k, a in enumerate(axes) if a < n]
    described = {"names": [s.name for s in signals], "units": [s.unit for s in signals], "periodic": [s.periodic for s in signals]}
    described |= {"discrete": [s.values is not None for s in signals], "at": at, "states": n, "axes": axes}
    out = {k: np.array(v) for k, v in described.items()} | {f"nodes_{k}": v for k, v in enumerate(nodes)}
    z, x = _points(at, axes, nodes), _points(at, axes[: len(over)], over)[:, :n]
    out |= {name: _on_grid(lambda p, f=f: f(p[:, :n], p[:, n:]), z, nodes) for name, f in of_z.items()}
    return out | {name: _on_grid(f, x, over) for name, f in of_x.items()}


def _sizes(signals, n, most):
    """The coordinates that vary and their numbers of nodes: at most two inputs and as many states as fit; odd numbers, evenly raised."""
    least = [len(s.values) if s.values else LEAST for s in signals]
    inputs = [*range(n, len(signals))][:2]
    axes = inputs
    for k in range(n):
        wider = sorted([*axes, k])
        axes = wider if np.prod([least[a] for a in wider]) <= most else axes
    counts = [least[a] for a in axes]
    while True:
        free = [k for k, a in enumerate(axes) if not signals[a].values and counts[k] < SIDE]
        smallest = min(free, key=lambda k: counts[k], default=None)
        if smallest is None or np.prod(counts) // counts[smallest] * (counts[smallest] + 2) > most:
            return axes, counts
        counts[smallest] += 2


def _points(at, axes, nodes):
    """All points of the grid (N, n+m), the last axis fastest; other coordinates as in `at`."""
    mesh = np.meshgrid(*nodes, indexing="ij")
    z = np.tile(at, (mesh[0].size if mesh else 1, 1))
    for a, values in zip(axes, mesh, strict=True):
        z[:, a] = values.ravel()
    return z


def _on_grid(function, points, nodes):
    """Values of a function in blocks of one size, shaped (components…, nodes of every axis)."""
    size = min(BLOCK, len(points))
    padded = np.pad(points, ((0, -len(points) % size), (0, 0)), mode="edge")
    values = np.concatenate([np.asarray(function(block)) for block in np.split(padded, len(padded) // size)])[: len(points)]
    with np.errstate(over="ignore"):  # a figure shows what single precision cannot hold as infinite
        return np.moveaxis(values, 0, -1).reshape(*values.shape[1:], *map(len, nodes)).astype(np.float32)
