"""(1 − P^π)⁻¹ on a fine grid, roughly, from a coarse one: the preconditioner of policy evaluations.

A discount near 1 makes 1 − P^π nearly singular along smooth functions, and so Krylov steps many. Those functions a coarse grid resolves:
x ≈ b + up·(A_c⁻¹ − 1)·down·b, with A_c = 1 − P^π_c of the policy on the coarsest grid, factorised once, `down` the values at the nearest
nodes and `up` interpolation (deflation of the smooth part; Nicolaides 1987). What is left is rough, and there P^π contracts by itself.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlctrl.grid import nearest_nodes
from rlctrl.reference.expectation import Expectation
from rlctrl.reference.rows import Rows, factors

MOST = 4000  # nodes of a grid whose operator is factorised


@dataclass(frozen=True)
class Correction:
    """The factors of A_c = 1 − P^π_c, and the coarse grid."""

    grid: Any
    factors: Any

    @classmethod
    def of(cls, bellman, policy) -> "Correction | None":
        """From a policy on a coarse grid; None where its matrix is too large, singular, or acts on anything but node values."""
        if bellman.size > MOST or bellman.grid.order > 1 or isinstance(bellman.expectation, Expectation):
            return None
        lu = factors(bellman.operator(policy).matrix.whole)
        return lu and cls(bellman.grid, lu)

    def on(self, grid):
        """b → x on a finer grid."""
        down = nearest_nodes(grid, self.grid)
        index, weight = self.grid.stencil(grid.points())
        up = Rows.of(index.astype(np.int32), weight, len(down))

        def precondition(b):
            coarse = b[down]
            return b + up @ (self.factors.solve(coarse) - coarse)

        return precondition
