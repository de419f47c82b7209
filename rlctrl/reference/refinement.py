"""What refinement, or a wider margin, still changes, from the changes between nested grids."""

import numpy as np

SAFETY = 2.0  # on estimates from an observed order
LEAST_ORDER = 0.5  # assumed where the levels show none
SLOWEST = 0.95  # factor by which the truncation is taken to fall per quarter of the margin at least


def left_by(changes, order) -> float:
    """The changes |V_2h − V_4h|, |V_h − V_2h| (or the last alone) extrapolated with their observed order, at most that of the scheme."""
    observed = np.log2(changes[-2] / changes[-1]) if len(changes) >= 2 and min(changes) > 0 else LEAST_ORDER
    return SAFETY * changes[-1] / (2 ** float(np.clip(observed, LEAST_ORDER, order)) - 1)


def beyond(changes) -> float:
    """What margins beyond M would still change, from the changes from M/4 to M/2 and from M/2 to M: if the truncation falls by a factor q
    per quarter, their ratio is q + q², and q²/(1 − q²) of the last is left. At least the change before, as the last may be small by luck.
    """
    before, last = np.maximum(changes, 1e-300)
    q = min(0.5 * (np.sqrt(1 + 4 * last / before) - 1), SLOWEST)
    return float(max(before, SAFETY * last * q**2 / (1 - q**2)))
