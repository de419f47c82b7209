"""Compiled programs kept on disk, so that a second run starts at once. The command line does so; a script calls `rlctrl.cache.keep()`."""

import contextlib
import os
from pathlib import Path

import jax

LARGEST = 2**30  # bytes; the oldest go first
SHORTEST = 0.1  # seconds of compiling worth a file
OFF = ("off", "0", "no")


def keep() -> Path | None:
    """Keep what XLA compiles in the folder that the environment variable RLCTRL_CACHE names, by default `rlctrl` in the user's cache
    folder; nothing if it says "off". Returns the folder, None if nothing is kept. JAX's own setting, if there is one, stands."""
    chosen = os.environ.get("RLCTRL_CACHE", "")
    own = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if own or chosen.lower() in OFF:
        return Path(own) if own else None
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(chosen) if chosen else home / "rlctrl"
    with contextlib.suppress(OSError):  # a home that cannot be written is no reason not to compute
        folder.mkdir(parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", SHORTEST)
        _prune(folder)
        return folder
    return None


def _prune(folder):
    """Drop the oldest files beyond the largest size (JAX's own limit needs another package)."""
    files = sorted((p for p in folder.iterdir() if p.is_file()), key=lambda p: p.stat().st_mtime, reverse=True)
    size = 0
    for path in files:
        size += path.stat().st_size
        if size > LARGEST:
            path.unlink(missing_ok=True)
