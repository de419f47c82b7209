"""Where the replay data lie in Z, against where p^θ goes: its discounted occupancy (1−γ) Σ γ^k P(Z_k ∈ ·) from uniform restarts.

What training asks of Q̂ is weighed by the occupancy; what it can learn is decided by the data. A point of the occupancy lacks data when it
is farther from them than they are from one another: than the `quantile` of the distance from a datum to its nearest other one. Points
drawn as the data are would lack them with chance 1 − quantile. Distances are Euclidean in coordinates divided by the width of their box,
the shorter way round on periodic ones.
"""

from dataclasses import dataclass

import numpy as np

from rlctrl.critic.train import Training
from rlctrl.errors import require, require_number, require_whole, strict
from rlctrl.plant import box
from rlctrl.result import Result
from rlctrl.simulate import horizon, simulate

WORST, BINS = 5, 8  # points named, and bins a signal in which lacking mass is sought
CONCENTRATED = 0.4  # share of the lacking mass in one bin that is worth naming


@dataclass(frozen=True, eq=False, repr=False)
class Coverage(Result):
    """How well replay data cover where p^θ goes.

    `data` (M, n+m): distinct z of the last snapshot. `z` (N, n+m): where p^θ goes, of mass `weight` (N,), which sums to 1; `distance` (N,)
    to the nearest datum and `spacing`, the `quantile` of the data's own nearest distances, both as fractions of the box. `share`: mass
    farther off than that; `worst` (k, n+m): the farthest of these points, well apart, at most 5. `verdict` says it in words. `states` and
    `inputs` are the plant's Signals.
    """

    data: np.ndarray
    z: np.ndarray
    weight: np.ndarray
    distance: np.ndarray
    spacing: float
    quantile: float
    share: float
    worst: np.ndarray
    verdict: str
    states: tuple
    inputs: tuple

    @property
    def lacks(self) -> np.ndarray:
        """Which z are farther from the data than their spacing, (N,)."""
        return self.distance > self.spacing

    def summary(self) -> dict:
        """Headline numbers."""
        return {"share": self.share, "spacing": self.spacing, "farthest": float(self.distance.max()), "verdict": self.verdict}


@strict
def coverage(run: Training, paths=256, steps=None, quantile=0.95, seed=0) -> Coverage:
    """Where the data of a training `run`'s last snapshot lie, against where its policy goes on `paths` paths of `steps` steps.

    `steps=None` takes as many as bring γ^steps below 1e-3 (needs γ < 1). `quantile` of the data's own spacing beyond which a point lacks
    data. `seed` draws restarts and noise. Raises `InputError` for fewer than two distinct data or an unbounded state.
    """
    require_number("quantile", quantile, "must be a number between 0 and 1", "Use 0.95.", 0, 1)
    require_whole("seed", seed, 0, "Use 0.")
    plant, memory = run.problem.plant, run.snapshots.memory
    data = np.unique(memory.z[-1][memory.t.weight[-1] > 0], axis=0)
    require(len(data) > 1, "run", "must hold two distinct transitions in its last snapshot", len(data), "Train longer.")
    z, weight = occupancy(run, paths, steps, seed)
    signals = plant.states + plant.inputs
    normal, turning = _normaliser(signals, data), np.array([s.periodic for s in signals])
    from scipy.spatial import KDTree  # slow to import, and not for importing rlctrl

    tree = KDTree(normal(data), boxsize=turning.astype(float))
    spacing = float(np.quantile(tree.query(normal(data), k=2)[0][:, 1], quantile))
    distance = tree.query(normal(z))[0]
    share = float(weight[distance > spacing].sum())
    words = _verdict(signals, z, weight * (distance > spacing), share, quantile)
    worst = z[_worst(normal(z), turning, np.where(distance > spacing, distance, 0.0))]
    return Coverage(data, z, weight, distance, spacing, quantile, share, worst, words, plant.states, plant.inputs)


def occupancy(run, paths, steps, seed) -> tuple[np.ndarray, np.ndarray]:
    """Points z (N, n+m) that the policy of a `run` visits from restarts uniform over the box, and their discounted mass (N,), of sum 1."""
    problem, steps = run.problem, horizon(run.problem.gamma, steps, 1e-3, least=2)
    require_whole("paths", paths, 1, "Use e.g. 256.")
    low, high = box(problem.plant.states)
    bounded = bool(np.all(np.isfinite(high - low)))
    require(bounded, "states", "must be bounded to draw restarts from", (low.tolist(), high.tolist()), "Give the states low and high.")
    path = simulate(problem, run.policy, np.random.default_rng(seed).uniform(low, high, (paths, problem.plant.n)), steps, seed=seed)
    going = path.alive[:, :-1]
    require(bool(going.any()), "run", "must have a problem that goes on somewhere in its box", "none of the restarts", "Mend the target.")
    weight = np.broadcast_to(problem.gamma ** np.arange(steps), going.shape)[going]
    return np.concatenate([path.x[:, :-1], path.u], -1)[going], weight / weight.sum()


def _normaliser(signals, data):
    """z → coordinates divided by the box (by the data's range where there is none), periodic ones in [0, 1)."""
    low, high = box(signals)
    boxed = np.isfinite(high - low)
    start = np.where(boxed, low, data.min(0))
    width = np.where(boxed, high - low, np.maximum(np.ptp(data, axis=0), 1e-12))
    turning = np.array([s.periodic for s in signals])
    # a tiny negative remainder rounds to 1.0, which the tree refuses: hence twice
    return lambda z: np.where(turning, ((z - start) / width) % 1.0 % 1.0, (z - start) / width)


def _worst(z, turning, distance) -> list[int]:
    """Which normalised points (N, n+m) are the farthest, none within another's own distance (N,); 0 for those that do not count."""
    left, found = distance.copy(), []
    while len(found) < WORST and left.max() > 0:
        k = int(np.argmax(left))
        gap = z - z[k]
        found.append(k)
        left[np.linalg.norm(gap - turning * np.round(gap), axis=1) <= distance[k]] = 0.0
    return found


def _verdict(signals, z, lacking, share, quantile):
    """What lacks data in a sentence, with the signals in which it is concentrated."""
    percent = f"{100 * share:.3g} % of where p^θ goes lacks data"
    if share <= 2 * (1 - quantile):
        return f"{percent}, of {100 * (1 - quantile):.3g} % expected of data drawn there: covered."
    places = [place for k, s in enumerate(signals) if (place := _place(s, z[:, k], lacking / share))]
    return f"{percent}: {', '.join(places)}." if places else f"{percent}, scattered over the box."


def _place(signal, values, mass):
    """Where one signal is when data lack, if that is one place."""
    low, high = (signal.low, signal.high) if np.isfinite(signal.high - signal.low) else (values.min(), values.max())
    counts, edges = np.histogram(np.clip(values, low, high), BINS, (low, high + 1e-12), weights=mass)
    k = int(np.argmax(counts))
    unit = "" if signal.unit == "1" else f" {signal.unit}"
    return f"{signal.name} near {0.5 * (edges[k] + edges[k + 1]):.2g}{unit}" if counts[k] >= CONCENTRATED else ""
