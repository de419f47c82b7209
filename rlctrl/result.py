"""What every result has: a figure. Results are plain numbers; how they are drawn lives in `rlctrl.plots` alone."""

import importlib

from rlctrl.errors import strict


class Result:
    """A result that `rlctrl.plots` knows how to draw."""

    @strict
    def plot(self, ax=None):
        """Draw it: returns (figure, axes). Draws into `ax` if given; never calls plt.show()."""
        return importlib.import_module("rlctrl.plots").draw(self, ax=ax)
