"""The numbers behind a figure, read back from what was drawn: one table for lines, points, intervals, images and maps alike."""

import csv
import io

import numpy as np
from matplotlib.collections import LineCollection, PathCollection, PolyCollection, QuadMesh
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle, StepPatch
from matplotlib.quiver import Quiver
from matplotlib.ticker import FixedLocator

from rlctrl.storage import write_whole

HEAD = ("panel", "title", "x_label", "y_label", "kind", "series", "x", "y", "value")


def write_numbers(figure, path):
    """Write a table of comma-separated values: a row for every point drawn. `value` is that of a map, else empty."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(HEAD)
    panels = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]
    for k, ax in enumerate(panels):
        about = (k + 1, ax.get_title(), ax.get_xlabel(), ax.get_ylabel())
        named = _categories(ax)
        for kind, series, rows in _drawn(ax):
            table.writerows((*about, kind, series or named.get(round(row[1], 6), ""), *row) for row in rows)
    write_whole(path, lambda file: file.write(text.getvalue().encode()))


def _drawn(ax):
    """(kind, series, rows of x, y, value) of everything in a panel that was drawn from data."""
    yield "bars", "", [_bar(p) for p in ax.patches if isinstance(p, Rectangle) and p.get_data_transform() == ax.transData]
    for patch in ax.patches:
        if isinstance(patch, StepPatch):
            yield "histogram", _name(patch), _steps(patch)
    for line in ax.lines:
        if line.get_transform() == ax.transData:  # others mark a bound
            yield "line", _name(line), [(x, y, "") for x, y in np.asarray(line.get_xydata())]
    for item in ax.collections:
        if isinstance(item, QuadMesh):
            yield "map", _name(item), _mesh(item)
        elif isinstance(item, PathCollection):
            points, values = np.asarray(item.get_offsets()), item.get_array()
            values = [""] * len(points) if values is None else np.ravel(np.asarray(values))
            yield "points", _name(item), [(x, y, v) for (x, y), v in zip(points, values, strict=False)]
        elif isinstance(item, LineCollection):
            yield "intervals", _name(item), [(x, y, "") for segment in item.get_segments() for x, y in np.asarray(segment)]
        elif isinstance(item, Quiver):
            angles = np.degrees(np.arctan2(item.V, item.U))
            yield "directions", _name(item), [(x, y, v) for (x, y), v in zip(np.asarray(item.XY), np.ravel(angles), strict=True)]
        elif isinstance(item, PolyCollection):
            yield "band", _name(item), [(x, y, "") for path in item.get_paths() for x, y in np.asarray(path.vertices)]
    for image in ax.images:
        yield "map", _name(image), _image(image)


def _bar(bar):
    """Middle of a bar that stands on an axis, and its length."""
    length = bar.get_width() if bar.get_x() == 0 else bar.get_height()
    return bar.get_x() + 0.5 * bar.get_width(), bar.get_y() + 0.5 * bar.get_height(), length


def _steps(patch):
    """Middle, height and width of the steps of a histogram."""
    heights, edges, _ = patch.get_data()
    return [(0.5 * (a + b), height, b - a) for height, a, b in zip(heights, edges, edges[1:], strict=False)]


def _categories(ax):
    """{y: label} where the vertical axis names things."""
    if not isinstance(ax.yaxis.get_major_locator(), FixedLocator):
        return {}
    return {round(float(tick), 6): label.get_text() for tick, label in zip(ax.get_yticks(), ax.get_yticklabels(), strict=False)}


def _name(artist):
    label = str(artist.get_label())
    return "" if label.startswith("_") else label


def _mesh(mesh):
    """Centres (or the points themselves, if shaded) of a map with its values."""
    corners, values = np.asarray(mesh.get_coordinates()), np.ma.filled(np.ma.asarray(mesh.get_array(), float), np.nan)
    values = values.reshape(-1)
    if values.size == corners[..., 0].size:
        points = corners.reshape(-1, 2)
    else:
        points = (0.25 * (corners[1:, 1:] + corners[:-1, 1:] + corners[1:, :-1] + corners[:-1, :-1])).reshape(-1, 2)
    return [(x, y, v) for (x, y), v in zip(points, values, strict=True)]


def _image(image: AxesImage):
    values = np.ma.filled(np.ma.asarray(image.get_array(), float), np.nan)
    left, right, bottom, top = image.get_extent()
    rows, columns = values.shape[:2]
    x = left + (np.arange(columns) + 0.5) * (right - left) / columns
    y = bottom + (np.arange(rows) + 0.5) * (top - bottom) / rows
    y = y if image.origin == "lower" else y[::-1]
    return [(x[j], y[i], values[i, j]) for i in range(rows) for j in range(columns)]
