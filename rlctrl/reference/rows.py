"""Sparse matrices of grids in pieces, one a core."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import splu

from rlctrl.threads import THREADS, in_threads

PARALLEL = 5e5  # entries of a matrix from which its products are worth two threads
ENDING = 1e-12  # what a row misses of one where the problem can end


@dataclass(frozen=True, eq=False)
class Rows:
    """A sparse matrix with equally many entries in every row, cut into one piece a core."""

    pieces: tuple

    @classmethod
    def of(cls, index, weight, columns):
        """From column numbers and entries, both (S, k), which are kept, not copied."""
        size, width = index.shape
        cuts = np.linspace(0, size, THREADS + 1).astype(int) if size * width > PARALLEL else (0, size)
        pieces = []
        for a, b in itertools.pairwise(cuts):
            start = np.arange(0, width * (b - a) + 1, width, dtype=np.int32 if width * (b - a) < 2**31 else np.int64)
            pieces.append(sparse.csr_array((weight[a:b].reshape(-1), index[a:b].reshape(-1), start), shape=(b - a, columns)))
        return cls(tuple(pieces))

    def __matmul__(self, vector):
        if len(self.pieces) == 1:
            return self.pieces[0] @ vector
        return np.concatenate(in_threads(lambda piece: piece @ vector, self.pieces))

    @property
    def whole(self):
        """The matrix in one piece."""
        return sparse.vstack(self.pieces)


def factors(matrix: Any):
    """LU factors of 1 − P, or None where that is singular: some states never leave a set in which no row sums to less than one. They are
    sought beforehand, as SuperLU does not always raise then: it may print, or crash."""
    matrix = sparse.csr_array(matrix)
    if not np.all(leaving(matrix)):
        return None
    try:
        return splu(sparse.csc_matrix(sparse.eye_array(matrix.shape[0]) - matrix))
    except RuntimeError:  # singular to rounding
        return None


def leaving(matrix: Any) -> np.ndarray:
    """From which states a row that sums to less than one is reached, (S,)."""
    return reaching(matrix, np.asarray(1 - matrix @ np.ones(matrix.shape[0]) > ENDING))


def reaching(matrix: Any, ends) -> np.ndarray:
    """From which states one of the `ends` (S,) is reached along the entries of a matrix, (S,)."""
    size = len(ends)
    if np.all(ends):
        return ends
    edges = sparse.csr_array((matrix.data != 0, matrix.indices, matrix.indptr), shape=matrix.shape)
    back = sparse.csr_array(sparse.block_array([[edges.T, None], [sparse.csr_array(ends[None]), sparse.csr_array((1, 1), dtype=bool)]]))
    back.eliminate_zeros()
    return np.isin(np.arange(size), csgraph.breadth_first_order(back, size, return_predecessors=False))
