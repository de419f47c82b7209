"""The state of a long solve in a file, so that a killed one goes on where it was."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from rlctrl.errors import InputError, require
from rlctrl.plant import limits
from rlctrl.reference.policy_iteration import State
from rlctrl.storage import fingerprint, write_whole

INTERVAL = 10.0  # seconds between two writes


class Checkpoint:
    """States per level. `path` None keeps nothing. The file holds what problem and method it belongs to; another's is refused."""

    def __init__(self, path, mark, states):
        self._path, self._mark, self._states = path, mark, states
        self._written = time.monotonic()

    @classmethod
    def open(cls, path, solver) -> "Checkpoint":
        """What the file holds, or nothing yet. Raises `InputError` if it belongs to another solve or is not readable."""
        if path is None:
            return cls(None, "", {})
        method = solver.method
        shapes = [[[float(v) for v in axis.nodes] for axis in grid.axes] for grid in solver.grids]
        options = [shapes, str(method.inputs), method.order, method.quadrature, method.tolerance, method.evaluation, method.expectation]
        mark = fingerprint([solver.problem.kernel, limits(solver.problem.plant.inputs), options])
        path = Path(path)
        return cls(path, mark, _read(path, mark) if path.exists() else {})

    def state(self, level) -> State | None:
        """Where that level stood."""
        return self._states.get(level)

    def keep(self, level, state):
        """Remember a state, and write it if the last writing is long ago."""
        if self._path is None:
            return
        self._states[level] = state
        if time.monotonic() - self._written > INTERVAL:
            self.write()

    def write(self):
        """Write all states; the file is replaced whole."""
        if self._path is None:
            return
        arrays: dict[str, Any] = {"mark": np.array(self._mark), "levels": np.array(sorted(self._states))}
        for level, state in self._states.items():
            rows = np.array(state.rows).reshape(-1, 3)
            arrays |= {
                f"values{level}": state.values,
                f"policy{level}": state.policy,
                f"rows{level}": rows,
                f"mode{level}": np.array(state.mode),
            }
        write_whole(self._path, lambda file: np.savez(file, **arrays))
        self._written = time.monotonic()


def _read(path, mark):
    try:
        with open(path, "rb") as file, np.load(file) as stored:
            found = {name: stored[name] for name in stored.files}
        levels = {
            int(k): State(
                found[f"values{k}"],
                found[f"policy{k}"],
                tuple((int(a), b, c) for a, b, c in found[f"rows{k}"].tolist()),
                str(found[f"mode{k}"]),
            )
            for k in found["levels"]
        }
    except Exception as error:  # whatever a damaged file makes NumPy or zlib raise
        raise InputError(
            f"`checkpoint` must be a file written by GridDP; {path} is not readable ({error}). Delete it to begin anew."
        ) from None
    require(
        str(found["mark"]) == mark, "checkpoint", "must belong to this problem and method", str(path), "Delete it, or name another file."
    )
    return levels
