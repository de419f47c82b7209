"""Sparse matrices of grids in pieces, one a core."""

import functools
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy import sparse

PARALLEL = 5e5  # entries of a matrix from which its products are worth two threads
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
        return np.concatenate(in_threads(lambda piece: piece @ vector, self.pieces))

    @property
    def whole(self):
        """The matrix in one piece."""
        return sparse.vstack(self.pieces)


def in_threads(work, *pieces) -> list:
    """work(*piece) for all pieces, as many at once as the machine has cores: JAX and NumPy let go of the interpreter while they compute."""
    pieces = list(zip(*pieces, strict=True))
    if len(pieces) == 1:
        return [work(*pieces[0])]
    return list(_pool().map(lambda piece: work(*piece), pieces))


@functools.cache
def _pool():
    """Kept: starting threads anew for every product would cost more than they save."""
    return ThreadPoolExecutor(THREADS)
