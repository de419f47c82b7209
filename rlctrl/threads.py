"""Work cut into pieces, one a core."""

import functools
import os
from concurrent.futures import ThreadPoolExecutor

THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(work, *pieces) -> list:
    """work(*piece) for all pieces, as many at once as the machine has cores: JAX and NumPy let go of the interpreter while they compute.
    The calling thread does its share, since waking another one costs as much as a small product."""
    pieces = list(zip(*pieces, strict=True))
    results: list = [None] * len(pieces)

    def share(first):
        for k in range(first, len(pieces), THREADS):
            results[k] = work(*pieces[k])

    others = [_pool().submit(share, k) for k in range(1, min(THREADS, len(pieces)))]
    share(0)
    for other in others:
        other.result()
    return results


@functools.cache
def _pool():
    """Kept: starting threads anew for every product would cost more than they save."""
    return ThreadPoolExecutor(THREADS)
