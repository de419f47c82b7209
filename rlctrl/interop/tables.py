"""Trajectories as tables: one row per path and time. For pandas and as comma-separated values."""

import importlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from rlctrl.errors import require
from rlctrl.interop.export import write_csv


def columns(trajectory) -> dict[str, np.ndarray]:
    """Columns by name, rows path by path: path, t, states, inputs and reward (NaN at the final time), alive.

    A signal keeps its name; where one is called like another column, that column takes an underscore, such as "t_".
    """
    batch, count, _ = trajectory.x.shape
    padded = lambda a: np.concatenate([a, np.full_like(a[:, :1], np.nan)], 1)
    signals = {s.name: trajectory.x[..., k] for k, s in enumerate(trajectory.states)}
    signals |= {s.name: padded(trajectory.u[..., k]) for k, s in enumerate(trajectory.inputs)}
    before = {"path": np.repeat(np.arange(batch)[:, None], count, 1), "t": np.repeat(trajectory.t[None], batch, 0)}
    after = {"reward": padded(trajectory.r), "alive": trajectory.alive}
    own = lambda table: {name + "_" * (name in signals): column for name, column in table.items()}
    return {name: column.ravel() for name, column in (own(before) | signals | own(after)).items()}


def to_pandas(trajectory):
    """See `Trajectory.to_pandas`."""
    way_out = "Install it (pip install pandas), or use trajectory.save_csv(path)."
    require(find_spec("pandas") is not None, "to_pandas", "needs the package pandas", "none", way_out)
    table = columns(trajectory)
    path, t = list(table)[:2]
    frame = importlib.import_module("pandas").DataFrame(table)
    return frame.set_index([path, t]) if len(trajectory.x) > 1 else frame.drop(columns=path).set_index(t)


def trajectory_csv(trajectory, path) -> Path:
    """See `Trajectory.save_csv`."""
    write_csv(path, columns(trajectory))
    return Path(path)
