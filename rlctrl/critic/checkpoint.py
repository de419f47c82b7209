"""The state of a training in a file, so that a killed one goes on where it was, to the same bits."""

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rlctrl.errors import InputError, require
from rlctrl.storage import write_whole

INTERVAL = 10.0  # seconds between two writes


class Checkpoint:
    """State and snapshots of a run. `path` None keeps nothing. The file holds what run it belongs to; another's is refused."""

    def __init__(self, path, mark, found):
        self._path, self._mark, self._found = path, mark, found
        self._written, self._now = time.monotonic(), None

    @classmethod
    def open(cls, path, mark, state) -> "Checkpoint":
        """What the file holds, or nothing yet; `mark()` names the run, `state` is its first one. Raises `InputError` if the file belongs to
        another run or is not readable."""
        if path is None:
            return cls(None, "", None)
        path, mark = Path(path), mark()
        return cls(path, mark, _read(path, mark, len(jax.tree.leaves(state))) if path.exists() else None)

    def restored(self, state, row):
        """State and snapshots to go on from, the file's or the first ones; `state` and `row` show their structure."""
        if self._found is None:
            return state, []
        leaves, rows = self._found
        state_tree, row_tree = jax.tree.structure(state), jax.tree.structure(row)
        return jax.tree.unflatten(state_tree, leaves), [jax.tree.unflatten(row_tree, found) for found in rows]

    def keep(self, state, rows):
        """Remember where the run is, and write it if the last writing is long ago."""
        self._now = state, rows
        if time.monotonic() - self._written > INTERVAL:
            self.write()

    def write(self):
        """Write what was last kept; the file is replaced whole."""
        if self._path is None or self._now is None:
            return
        state, rows = self._now
        arrays: dict[str, Any] = {"mark": np.array(self._mark), "rows": np.array(len(rows))}
        arrays |= {f"state{k}": np.asarray(a) for k, a in enumerate(jax.tree.leaves(state))}
        arrays |= {f"row{k}": np.stack(a) for k, a in enumerate(zip(*map(jax.tree.leaves, rows), strict=True))}
        write_whole(self._path, lambda file: np.savez(file, **arrays))
        self._written = time.monotonic()


def _read(path, mark, size):
    try:
        with open(path, "rb") as file, np.load(file) as stored:
            found = {name: stored[name] for name in stored.files}
        leaves = [found[f"state{k}"] for k in range(size)] if str(found["mark"]) == mark else []
        stacked = [found[f"row{k}"] for k in range(len(found)) if f"row{k}" in found]
        rows = [[a[number] for a in stacked] for number in range(int(found["rows"]))]
    except Exception as error:  # whatever a damaged file makes NumPy or zlib raise
        raise InputError(
            f"`checkpoint` must be a file written by train; {path} is not readable ({error}). Delete it to begin anew."
        ) from None
    require(str(found["mark"]) == mark, "checkpoint", "must belong to this run", str(path), "Delete it, or name another file.")
    return leaves, rows
