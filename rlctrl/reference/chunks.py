"""Rows in blocks of one size, so that a compiled function is compiled once for any number of them."""

import jax
import numpy as np


def in_chunks(function, *arrays, size=2048):
    """`function` of arrays of equally many rows, called on `size` rows at a time (the last one filled up); results are NumPy arrays."""
    count, found = len(arrays[0]), []
    for first in range(0, count, size):
        block = [np.asarray(a)[first : first + size] for a in arrays]
        missing = size - len(block[0])
        filled = [np.concatenate([b, np.repeat(b[-1:], missing, 0)]) for b in block] if missing else block
        found.append(jax.tree.map(np.asarray, function(*filled)))
    return jax.tree.map(lambda *pieces: np.concatenate(pieces)[:count], *found)
