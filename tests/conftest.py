"""Compiled programs are kept between tests, processes and runs: without this, compiling is most of what the suite does. One thread for
BLAS, since there is one test process a core: threads of several processes that spin for the same core take minutes."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")


@pytest.fixture(scope="module", autouse=True)
def _few_programs_in_memory():
    """Thousands of compiled programs would fill gigabytes; each module drops its own."""
    yield
    import jax

    jax.clear_caches()


# Whole files go to one process each, so that they share what is compiled. The longest first: else one of them is left for the end, alone.
LONG = (
    "learning", "schemes", "dp_options", "spectral", "decomposition", "fuzz", "hjb", "studies", "solve_command", "critic", "cross_checks",
    "open_loop", "commands", "experiment",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    place = {f"test_{name}": k for k, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))
