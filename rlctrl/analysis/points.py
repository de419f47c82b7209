"""Where errors are measured: points of Z under a stated measure."""

import numpy as np

from rlctrl.errors import require
from rlctrl.plant import box


def measured_points(run, measure, count, seed):
    """Fitting points, judging points (N, n+m) and the name of the measure."""
    plant = run.problem.plant
    if isinstance(measure, str):
        require(measure in ("uniform", "visited"), "measure", 'must be "uniform", "visited" or an array', measure, "Use one of these.")
        if measure == "uniform":
            return (*(uniform_points(plant, count, seed + k) for k in (0, 1)), "uniform over the box of states and inputs")
        memory = run.snapshots.memory
        z = memory.z[memory.t.weight > 0]
        label = "transitions kept in the snapshots"
    else:
        z, label = np.asarray(measure, float), "given points"
    width = plant.n + plant.m
    require(
        z.ndim == 2 and z.shape[1] == width and len(z) >= 4, "measure", f"must have shape (N, {width})", np.shape(z), "States, then inputs."
    )
    z = np.random.default_rng(seed).permutation(z)[: 2 * count]
    return z[::2], z[1::2], label


def uniform_points(plant, count, seed):
    """Scrambled Sobol points of the box; finite inputs take their values."""
    signals = plant.states + plant.inputs
    from scipy.stats import qmc  # half a second that importing rlctrl need not cost

    low, high = box(signals)
    unbounded = [s.label for s in signals if not np.isfinite(s.high - s.low)]
    require(
        not unbounded, "measure", '"uniform" needs a bounded box', unbounded, 'Give these signals low and high, or use measure="visited".'
    )
    power = int(np.ceil(np.log2(count)))
    unit = qmc.Sobol(len(signals), rng=seed).random_base2(power)[:count]
    z = low + (high - low) * unit
    for k, signal in enumerate(signals):
        if signal.values:
            z[:, k] = np.asarray(signal.values)[(unit[:, k] * len(signal.values)).astype(int)]
    return z
