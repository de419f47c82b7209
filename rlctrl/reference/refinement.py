"""What refinement, or a wider margin, still changes, from the changes between nested grids."""

import itertools

import numpy as np

SAFETY = 2.0  # on estimates from an observed order
LEAST_ORDER = 0.5  # assumed where the levels show none
SLOWEST, FALLING = 0.95, 0.5  # factors per quarter of the margin by which the truncation falls at least; by which it falls clearly
SMALL = 0.1  # relative to the other terms of a statement: a truncation that does not count
NEGLIGIBLE = 1e-6  # relative to V's range: a truncation for which no other margins are tried
PARTS = (0.25, 0.5, 0.75, 1.0)  # of the margin
NARROW = 0.25  # margin from which it is believed that changes are negligible
WIDE, FAR = 0.5, 1.0  # margins from which it is believed that the truncation falls: of one that was doubled; of any
WIDEST = (1.0, 1.0, 0.5)  # to which one is doubled, at least once, in 1, 2 and more dimensions
LOST = {1: 0.25, 2: 0.25, 3: 0.1, 5: 0.1}  # by order: largest truncation, of V's range, believed where wider margins have no solution
BEYOND = (
    "V inside the box depends on what lies beyond it: wider margins change V by more than its range, or have no solution, as where the "
    "optimal state leaves the box for good. Widen the box or the margin, raise the discount, or pass "
    'exit="absorb" with the value at the walls, or exit="clip".'
)


def left_by(changes, order) -> float:
    """The changes |V_2h − V_4h|, |V_h − V_2h| (or the last alone) extrapolated with their observed order, at most that of the scheme."""
    observed = np.log2(changes[-2] / changes[-1]) if len(changes) >= 2 and min(changes) > 0 else LEAST_ORDER
    return SAFETY * changes[-1] / (2 ** float(np.clip(observed, LEAST_ORDER, order)) - 1)


def vague(error, values):
    """What to say of an error statement above the range of V at nodes in the box: it is true, but V is of no use."""
    spread = float(np.ptp(values))
    if error > spread + NEGLIGIBLE * float(np.max(np.abs(values))):  # a constant V has no range
        yield f"The stated error is above the range of V in the box, {spread:.2g}: V is of no use yet. See the largest of `error_terms`."


def fall(changes) -> float:
    """The factor by which the truncation falls per quarter of the margin, from the changes of V from one quarter of it to two, three and
    four: the slower of its two means over the first and over both steps."""
    first, second, third = np.maximum(changes, 1e-300)
    return float(min(max(second / first, np.sqrt(third / first)), SLOWEST))


def beyond(changes) -> float:
    """What wider margins would still change: the sum of the geometric series with that factor, from the largest of the three changes
    carried on by it, as single ones may be small by luck (V's continuation beyond the walls is off one way here, the other way there)."""
    q = fall(changes)
    return SAFETY * max(change * q ** (3 - k) for k, change in enumerate(changes)) / (1 - q)


def truncation(own, solved, margin, negligible, dimensions, order) -> float:
    """How far values `own` inside the box are from those without far walls, from `solved(margin)` (NaN where there is no solution): their
    distance from those of a margin, and what lies beyond it. Unless all changes are `negligible` and the margin is not NARROW, it is
    doubled, at least once if not FAR, until it is WIDE and the truncation clearly falls with it; if the solution is lost on the way, the
    last changes before count.
    Infinite (see BEYOND) where a margin changes V by more than its range, and where the solution is lost with more than LOST of it left
    (splines continued far beyond their nodes may agree on a wrong V)."""
    spread = float(np.ptp(own))
    found, last, negligible, most = np.inf, np.inf, negligible + NEGLIGIBLE * spread, negligible + spread
    widest, believed = max(2 * margin, WIDEST[min(dimensions, 3) - 1]), max(WIDE, min(2 * margin, FAR))
    for width in margin * 2.0 ** np.arange(1 + int(np.log2(widest / margin))):
        values = [solved(width * part) for part in PARTS]
        changes = [float(np.max(np.abs(a - b))) for a, b in itertools.pairwise(values)]
        if not np.all(np.isfinite(changes)):
            found = max([found, SAFETY * last, *(change for change in changes[1:] if np.isfinite(change))])
            return found if found <= max(negligible, LOST[order] * spread) else np.inf
        last, largest, distance = changes[-1], max(changes), float(np.max(np.abs(own - values[-1])))
        if max(largest, distance) > most:
            return np.inf
        found = distance + beyond(changes)
        if (width >= NARROW and largest <= negligible) or (width >= believed and fall(changes) <= FALLING):
            break
    return found
