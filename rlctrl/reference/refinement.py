"""What refinement still changes, from the changes between nested grids."""

import numpy as np

SAFETY = 2.0  # on estimates from an observed order
LEAST_ORDER = 0.5  # assumed where the levels show none


def left_by(changes, order) -> float:
    """The changes |V_2h − V_4h|, |V_h − V_2h| (or the last alone) extrapolated with their observed order, at most that of the scheme."""
    observed = np.log2(changes[-2] / changes[-1]) if len(changes) >= 2 and min(changes) > 0 else LEAST_ORDER
    return SAFETY * changes[-1] / (2 ** float(np.clip(observed, LEAST_ORDER, order)) - 1)
