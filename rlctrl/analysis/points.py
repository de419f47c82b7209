"""Where errors are measured: points of Z under a stated measure."""

import numpy as np

from rlctrl.errors import require
from rlctrl.plant import box

DOUBLINGS = 8  # of the points drawn, at most, until enough of them are in living states


def measured_points(run, measure, count, seed):
    """Fitting points, judging points (N, n+m) and the name of the measure."""
    problem, plant = run.problem, run.problem.plant
    if isinstance(measure, str):
        require(measure in ("uniform", "visited"), "measure", 'must be "uniform", "visited" or an array', measure, "Use one of these.")
        if measure == "uniform":
            drawn = (uniform_points((*plant.states, *plant.inputs), problem.kernel, count, seed + k) for k in (0, 1))
            return (*drawn, "uniform over the box of states and inputs")
        memory = run.snapshots.memory
        z = np.unique(memory.z[memory.t.weight > 0], axis=0)  # snapshots share transitions, and no point may be fitted and judged
        label = "transitions kept in the snapshots"
    else:
        z, label = np.asarray(measure, float), "given points"
    width = plant.n + plant.m
    require(
        z.ndim == 2 and z.shape[1] == width and len(z) >= 4, "measure", f"must have shape (N, {width})", np.shape(z), "States, then inputs."
    )
    z = np.random.default_rng(seed).permutation(z)[: 2 * count]
    return z[::2], z[1::2], label


def spread(q_star) -> float:
    """std Q* over points, which errors are divided by; nan where Q* is constant there but for rounding."""
    size = float(np.std(q_star))
    return size if size > 1e-12 * np.max(np.abs(q_star)) else float("nan")


def uniform_points(signals, kernel, count, seed):
    """`count` scrambled Sobol points (count, n+m) of the box of `signals`, states before inputs, at which the problem of a `kernel` goes
    on; finite inputs take their values. Raises `InputError` for an unbounded box and for one in which (nearly) all states have ended."""
    from scipy.stats import qmc  # half a second that importing rlctrl need not cost

    unbounded = [s.label for s in signals if not np.isfinite(s.high - s.low)]
    require(
        not unbounded, "measure", '"uniform" needs a bounded box', unbounded, 'Give these signals low and high, or use measure="visited".'
    )
    power = int(np.ceil(np.log2(count)))
    sequence = qmc.Sobol(len(signals), rng=seed)
    z = _living(signals, kernel, sequence.random_base2(power))
    for doubled in range(DOUBLINGS):
        if len(z) < count:
            z = np.concatenate([z, _living(signals, kernel, sequence.random_base2(power + doubled))])
    rule, found = "must leave states of the box in which the problem goes on", f"{len(z)} of {sequence.num_generated} points there"
    require(len(z) >= count, "target", rule, found, "Mend the target, or widen the box.")
    return z[:count]


def _living(signals, kernel, unit):
    """Points of the unit cube in the box of the signals, without those whose states have ended."""
    low, high = box(signals)
    z = low + (high - low) * unit
    for k, signal in enumerate(signals):
        if signal.values:
            z[:, k] = np.asarray(signal.values)[(unit[:, k] * len(signal.values)).astype(int)]
    return z[~np.asarray(kernel.ended(z[:, : len(kernel.low)]))] if kernel.can_end else z
