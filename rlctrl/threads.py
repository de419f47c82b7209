"""Work cut into pieces, one a core."""

import functools
import os
from concurrent.futures import ThreadPoolExecutor

THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
