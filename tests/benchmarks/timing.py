"""Wall time and memory of a piece of work."""

import gc
import resource
import statistics
import subprocess
import sys
import time


def median(work, repeat):
    """(median seconds, last result) of `repeat` calls."""
    seconds, result = [], None
    for _ in range(repeat):
        gc.collect()
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result


def once(work):
    """(seconds, result) of one call."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def peak_gib():
    """Largest resident memory of this process so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def in_fresh_process(code, environment=None):
    """What a Python program prints last, as numbers: for cold starts and for memory."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return [float(v) for v in done.stdout.split("\n")[-2].split()]
