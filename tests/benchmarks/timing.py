"""Wall time and memory of a piece of work."""

import gc
import resource
import statistics
import subprocess
import sys
import threading
import time

LEAST = 1.0  # seconds of calls that a median is taken of


def median(work, repeat):
    """(median seconds, last result) of `repeat` calls, and more of short ones, for `LEAST` seconds."""
    seconds, result = [], None
    gc.collect()  # not before each: that leaves the caches cold
    while len(seconds) < repeat or sum(seconds) < LEAST:
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


def growth_gib(work):
    """By how much `work` makes this process grow at its peak, GiB, sampled every 5 ms (Linux)."""
    stop, peak = threading.Event(), [0.0]

    def resident():
        with open("/proc/self/statm", encoding="ascii") as numbers:
            return int(numbers.read().split()[1]) * resource.getpagesize() / 2**30

    def watch():
        while not stop.wait(0.005):
            peak[0] = max(peak[0], resident())

    gc.collect()
    before, watcher = resident(), threading.Thread(target=watch)
    watcher.start()
    work()
    stop.set()
    watcher.join()
    return peak[0] - before


def in_fresh_process(code, environment=None):
    """What a Python program prints last, as numbers: for cold starts and for memory."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return [float(v) for v in done.stdout.split("\n")[-2].split()]
