"""Inverses of the sparse matrices of a grid: LU by nested dissection, and Krylov iterations with the factors of a similar matrix."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import linalg

from rlctrl.reference.krylov import bicgstab

PIVOT = 0.1  # least diagonal pivot, relative to its column
ACCURATE = 1e-8  # residual of BiCGSTAB, relative to the right side
STEPS = 12  # most of them, before a factorisation of its own pays


@dataclass(frozen=True)
class Inverse:
    """b → matrix⁻¹b. `matrix` has rows of size one, in the order of elimination; `factored` is matrix⁻¹ itself, or (not `exact`) that of a
    similar one, which then preconditions BiCGSTAB."""

    matrix: Any
    scale: Any
    order: Any
    factored: Any
    exact: bool

    @classmethod
    def of(cls, matrix, order, krylov) -> "Inverse":
        """By sparse LU; with `krylov` by GMRES with an incomplete LU, and LU where that fails. RuntimeError if the matrix is singular."""
        scaled, scale = _scaled(matrix, order)
        return cls(scaled, scale, order, _krylov(scaled) if krylov else _factorised(scaled).solve, True)

    def adapted(self, matrix) -> "Inverse":
        """The inverse of a similar matrix."""
        return Inverse(*_scaled(matrix, self.order), self.order, self.factored, False)

    def __call__(self, b, part=ACCURATE):
        """To a residual (in rows of size one) of that part of b where not exact."""
        right, found = (self.scale * b)[self.order], np.empty_like(b)
        found[self.order] = self.factored(right) if self.exact else self._near(right, part * float(np.max(np.abs(right))))
        return found

    def _near(self, right, accuracy):
        found, reached = bicgstab(lambda y: self.matrix @ self.factored(y), right, accuracy, STEPS)
        return self.factored(found) if reached else _factorised(self.matrix).solve(right)


def _scaled(matrix, order):
    """A matrix with rows of size one in an order of elimination, and the factors of the rows before. RuntimeError if it is not finite."""
    if not np.all(np.isfinite(matrix.data)):
        raise RuntimeError("not finite")
    scale = 1 / np.maximum(abs(matrix).max(1).toarray().ravel(), 1e-300)
    return sparse.csc_matrix((sparse.diags(scale) @ matrix)[order][:, order]), scale


def _factorised(matrix):
    """Sparse LU in the given order, for an elimination tree of the symmetric pattern and the small blocks of a 2-D grid."""
    return linalg.splu(matrix, "NATURAL", PIVOT, relax=1, panel_size=4, options={"SymmetricMode": True})


def _krylov(matrix):
    """b → matrix⁻¹b by GMRES; from its first failure on by LU."""
    try:
        lu, inner = None, linalg.LinearOperator(matrix.shape, linalg.spilu(matrix, drop_tol=1e-4, fill_factor=20).solve)
    except RuntimeError:  # a zero pivot: no sign that the matrix itself is singular
        lu, inner = _factorised(matrix), None

    def solve(b):
        nonlocal lu
        if lu is None:
            found, failed = linalg.gmres(matrix, b, rtol=1e-11, restart=40, maxiter=1, M=inner)
            if not failed:
                return found
            lu = _factorised(matrix)
        return lu.solve(b)

    return solve


def dissection(shape, periodic):
    """An order of elimination of a grid's nodes with little fill: nested dissection (George 1973), separators of two nodes last."""
    nodes, last = np.arange(np.prod(shape)).reshape(shape), []
    for k in np.flatnonzero(periodic):
        cut, nodes = np.split(nodes, [2], k)
        last.insert(0, cut.ravel())
    return np.concatenate([*_dissected(nodes), *last])


def _dissected(nodes):
    if nodes.size <= 32:
        return [nodes.ravel()]
    k = int(np.argmax(nodes.shape))
    middle = nodes.shape[k] // 2
    low, cut, high = np.split(nodes, [middle - 1, middle + 1], k)
    return [*_dissected(low), *_dissected(high), cut.ravel()]
