"""Compiling is most of what the suite does. So XLA compiles quickly rather than well (a third of the time; the examples in CI run what
users run), and programs are kept between tests, processes and runs. One thread for BLAS, since there is one test process a core: threads
of several processes that spin for the same core take minutes."""

import gc
import os
from pathlib import Path

import pytest

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")
gc.set_threshold(50_000, 20, 100)  # tracing leaves little garbage: looking for it as often as Python does takes a tenth of the time


@pytest.fixture(scope="module", autouse=True)
def _few_programs_in_memory():
    """Thousands of compiled programs would fill gigabytes; each module drops its own."""
    yield
    import jax

    jax.clear_caches()


@pytest.fixture
def optimised():
    """For tests whose programs run much longer than they compile."""
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


# Whole files go to one process each, so that they share what is compiled. The longest first: else one of them is left for the end, alone.
LONG = (
    "learning", "dp_options", "schemes", "hjb", "spectral", "grid", "solve_command", "open_loop", "critic", "studies", "commands",
    "experiment", "cross_checks", "decomposition", "dp", "readme", "fuzz", "plots",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    place = {f"test_{name}": k for k, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))
