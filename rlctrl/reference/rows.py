"""Sparse matrices of grids in pieces, one a core."""

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from rlctrl.threads import THREADS, in_threads

PARALLEL = 5e5  # entries of a matrix from which its products are worth two threads


@dataclass(frozen=True, eq=False)
class Rows:
    """A sparse matrix with equally many entries in every row, cut into one piece a core."""

    pieces: tuple

    @classmethod
    def of(cls, index, weight, columns):
        """From column numbers and entries, both (S, k), which are kept, not copied."""
        size, width = index.shape
        cuts = np.linspace(0, size, THREADS + 1 if size * width > PARALLEL else 2).astype(int)
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
