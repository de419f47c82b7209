"""What every result has: a figure. Results are plain numbers; how they are drawn lives in `rlctrl.plots` alone."""

import importlib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from rlctrl.errors import strict
from rlctrl.kinds import FilePath


class Result:
    """A result that `rlctrl.plots` knows how to draw; a dataclass, shown in one line."""

    def __repr__(self):
        found: Any = self
        return f"{type(self).__name__}({', '.join(f'{f.name}={_brief(getattr(self, f.name))}' for f in fields(found))})"

    @strict
    def plot(self, ax=None):
        """Draw it: returns (figure, axes). Draws into `ax` if given; never calls plt.show()."""
        return importlib.import_module("rlctrl.plots").draw(self, ax=ax)


class Filmed(Result):
    """A result that `rlctrl.plots` can also set in motion."""

    @strict
    def animate(self, path: FilePath, plant=None, fps=None, every=None, which=0):
        """Write path number `which` as an animation to `path`, .gif, or .mp4 where ffmpeg is installed; returns the path.

        `plant`: a Plant or the name of one, whose drawing is taken; by default that for the names of the states. `fps` frames per second,
        one of `every` samples: by default real time and at most 300 frames. Raises `InputError` for a plant without a drawing.
        """
        return importlib.import_module("rlctrl.plots").animate(self, path, plant=plant, fps=fps, every=every, which=which)


class PlantFigure:
    """The figure of a plant."""

    @strict
    def plot(self, ax=None, about=None, dt=None, horizon=None, seed=0):
        """Paths of the noisy plant with its inputs held at rest, and the direction field of its drift: returns (figure, axes).

        `about` (x, u): the point of rest, by default the origin or what the box has nearest to it. `dt` seconds between samples and
        `horizon` seconds (samples of a discrete-time map) are guessed from the linearisation there. A path ends where it leaves the box.
        With `ax` the direction field alone is drawn, into it; `seed` is that of the noise.
        """
        return importlib.import_module("rlctrl.plots").plant_figure(self, ax, about, dt, horizon, seed)


def _brief(value):
    """A value in a few letters: the shape of an array, the names in a dictionary or of signals, the kind of what is large."""
    if isinstance(value, Mapping) or type(value) is tuple:
        return f"({', '.join(str(getattr(v, 'name', v)) for v in value)})"
    if value is None or isinstance(value, str | int | float):
        return f"{value:.6g}" if isinstance(value, float) else repr(value)
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"array{tuple(shape)}"
