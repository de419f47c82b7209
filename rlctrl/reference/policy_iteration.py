"""Modified policy iteration on one grid (Puterman 2005, §6.5): improve, evaluate the new policy, repeat.

Stopping rule. For a problem that never ends, MacQueen's bounds TV + γ/(1−γ)·[min, max](TV − V) enclose the fixed point of the finite
problem (T monotone, order 1); stop when half their distance is small and return their middle. For one that ends, ‖TV − V‖ times
1/(1−γ), or at γ = 1 the longest expected time to the end under the policy found, which solves τ = 1 + P^π τ. Above order 1 the bounds are
estimates. The maximum is that of the search over the inputs: a higher peak between its candidates is not in the bound.

A policy is evaluated by BiCGSTAB on (1 − P^π) V = c (`"krylov"`, a factorisation where that stalls) or by sweeps V ← T^π V
(`"successive"`), the more accurately the faster the residual falls, on this grid or the one below (after Eisenstat & Walker 1996), so that
the last policies need no second evaluation. At γ = 1 policies that end never, or hardly ever, are always swept: their value is not finite,
or drowned in rounding. On large grids, once the bound falls fast, improvements search only near the policy at hand; the last one always
searches everywhere.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlctrl.reference.bellman import Bellman
from rlctrl.reference.krylov import bicgstab
from rlctrl.reference.rows import factors, leaving
from rlctrl.reference.sweep import ended

EVALUATION = 0.003  # a policy is evaluated until its residual is at most this part of that of the improvement before
STEPS = 300  # most Krylov steps per evaluation
SWEEPS = 500  # most per evaluation
FACTORED = 2e6  # most entries of a sparse matrix that is factorised
SMALL = 200  # nodes up to which Krylov steps, half as many, take longer than a factorisation
DENSE = 1500  # most nodes of a matrix that is factorised though it is full, as that of splines is
PASSING = 1e-4  # bound, relative to the change of V from the grid below, that does for a grid between others
PATIENCE = 1e6  # steps to the end from which a policy counts as one that never ends
LONGEST = 1e12  # steps to the end that are believed
PROPER = 0.01  # part of the usual reward of a step to which a policy is evaluated at γ = 1 at least: its value is right to that part
EXACT = 1e-6  # residual of a factorisation, relative to the right side, above which the matrix counts as singular
FAST = 0.2  # factor of the bound per improvement below which the policy is as good as found, but for details
ROUGH = 0.02  # bound, relative to the range of V, above which inputs between the candidates do not matter yet
NEAR_PAYS = 2e6  # backups of a full improvement from which searching near the last policy is worth another compilation


@dataclass(frozen=True)
class State:
    """Where an iteration stands: node values (S,), policy (S, m), the rows (iteration, residual, bound) so far, and the `mode` of the next
    improvement (see `Bellman.improve`; "" before the first)."""

    values: np.ndarray
    policy: np.ndarray
    rows: tuple = ()
    mode: str = ""


@dataclass(frozen=True)
class Level:
    """A solved grid: its operator, values, policy, bound on |V − fixed point|, and how the iteration went; of one that `diverged`
    nothing is of use to finer grids."""

    bellman: Bellman
    values: Any
    policy: Any
    bound: float
    residual: float
    rows: tuple
    converged: bool
    message: str
    diverged: bool = False


@dataclass(frozen=True)
class Matrixless:
    """T^π by evaluating the plant anew in every sweep, where its matrix would need too much memory."""

    bellman: Bellman
    policy: np.ndarray
    constant: np.ndarray
    at: Any = None

    def apply(self, values):
        """T^π V (S,)."""
        return self.bellman.improve(values, self.policy, "policy", self.at)[0]

    def linear(self, values):
        """The part of T^π V that is linear in V."""
        return self.apply(values) - self.constant


def fixed_policy(bellman, policy, table_bytes, at=None):
    """T^π (at the nodes of another grid `at`) as a matrix, or without one if that would need more than `table_bytes`."""
    if bellman.operator_bytes() <= table_bytes:
        return bellman.operator(policy, at)
    return Matrixless(bellman, policy, bellman.improve(np.zeros(bellman.size), policy, "policy", at)[0], at)


def policy_iteration(bellman, state, method, table_bytes, show, keep=lambda _: None, below=None, before=()) -> Level:
    """Iterate from a `State` until the bound is below method.tolerance · range of V, or, on the way to a finer grid, `PASSING` of the
    change from the values `below` (S,) that the grid below gives. `show(rows, goal)` reports, `keep` is handed each new state. `before`:
    the rows of the grid below."""
    gamma, endless = float(bellman.kernel.gamma), not bellman.kernel.can_end
    values, policy, rows = state.values, state.policy, list(state.rows)
    known = bellman.keeps_outcomes and not bellman.inputs.continuous  # then a full search costs little
    large = not known and bellman.size * len(bellman.inputs.candidates) * len(bellman.rule[1]) > NEAR_PAYS
    mode = state.mode or ("rough" if large and bellman.inputs.continuous else "all")
    horizon, failed, diverged = 1 / (1 - gamma) if gamma < 1 else 1.0, "", False
    bound = residual = float("inf")
    judged = bellman.judged
    while len(rows) < method.iterations:
        improved, policy = bellman.improve(values, policy, mode)
        low, high = float((improved - values).min()), float((improved - values).max())
        residual = max(abs(low), abs(high))
        operator = None  # its memory is needed for the next
        if gamma == 1:
            operator = fixed_policy(bellman, policy, table_bytes)
            horizon = horizon_of(operator)
        bound = gamma * horizon * (0.5 * (high - low) if endless else residual)
        middle = 0.5 * gamma * horizon * (low + high) if endless else 0.0
        rounding = 1e-13 * float(np.abs(improved).max())  # a constant V has no range
        passing = 0.0 if below is None else PASSING * float(np.abs(improved - below)[judged].max())
        goal = max(method.tolerance * float(np.ptp(improved)), passing, min(horizon, PATIENCE) * rounding, 1e-300)
        rows.append((len(rows), residual, bound))
        show(rows, goal)
        settled = np.isfinite(bound) and bound <= goal and mode != "rough"
        if settled and mode == "all":
            text = f"Contraction bound {bound:.2e} ≤ {goal:.2e} after {len(rows)} improvements on {bellman.grid.shape}."
            return Level(bellman, improved + middle, policy, bound, residual, tuple(rows), True, text)
        if not np.isfinite(residual) or residual > 1e6 * (1 + rows[0][1]):
            failed, bound = f"diverged on {bellman.grid.shape}: V grows without bound, Bellman residual {residual:.2e}", float("inf")
            diverged = True
            break
        if residual <= rounding and horizon > PATIENCE:
            failed = f"found a policy on {bellman.grid.shape} that never ends and from which nothing is left to gain"
            break
        if settled:
            values = improved
        else:
            operator = operator or fixed_policy(bellman, policy, table_bytes)
            accuracy = max(_share(before, rows) * residual, 0.1 * goal / horizon)
            values = evaluate(operator, improved + middle, accuracy, method.evaluation, horizon)
        fast = len(rows) > 1 and rows[-1][2] < FAST * rows[-2][2]
        if mode != "rough" or bound <= ROUGH * float(np.ptp(improved)):
            mode = "near" if large and fast and not settled else "all"
        keep(State(values, policy, tuple(rows), mode))
    failed = failed or f"stopped after {len(rows)} improvements on {bellman.grid.shape}, bound {bound:.2e}"
    text = f"GridDP {failed}. {_advice(bellman, gamma, horizon, bound)}"
    return Level(bellman, values, policy, bound, residual, tuple(rows), False, text, diverged)


def _share(before, rows):
    """Part of the residual to which the next policy is evaluated: as the residual falls by C·(residual)² from one policy to the next, C
    times the residual, with C of the last two or the smallest seen on the grid below, at most `EVALUATION`."""
    pairs = itertools.chain(itertools.pairwise(before), itertools.pairwise(rows[-2:]))
    falls = [b / a * (rows[-1][1] / a) for (_, a, _), (_, b, _) in pairs if a > 0]  # a² may leave the floats
    return min([EVALUATION, *falls])


def _advice(bellman, gamma, horizon, bound):
    if gamma == 1 and horizon > PATIENCE:
        return (
            "From some states the policy found never reaches an end: no target can be reached, or staying costs nothing, or pays. Check "
            "signs and target, or lower gamma a little."
        )
    if bellman.grid.order > 1:
        return "Splines of order above 1 are no contraction: use order=1."
    if bellman.kernel.exit == "free":
        return 'Extrapolation is no contraction: enlarge the box or use exit="clip".'
    return "Raise `iterations`." if np.isfinite(bound) else "Scale the reward down, or lower `gamma`."


@np.errstate(over="ignore", invalid="ignore")  # of a V that diverges, which the caller sees
def evaluate(operator, values, accuracy, how, horizon) -> np.ndarray:
    """V^π (S,) from `values`, until |T^π V − V| ≤ `accuracy` or nothing is gained any more; `horizon`: see `horizon_of`."""
    gamma, endless = float(operator.bellman.kernel.gamma), not operator.bellman.kernel.can_end
    if gamma == 1:
        accuracy = min(accuracy, PROPER * (_usual_reward(operator) or float(np.ptp(values)) / horizon) or accuracy)
    if how == "krylov" and (gamma < 1 or horizon <= PATIENCE):
        change, solved = summed(operator, operator.apply(values) - values, accuracy)
        if solved:
            return values + change
    low, high = 0.0, 0.0
    for _ in range(SWEEPS):
        new = operator.apply(values)
        low, high = float((new - values).min()), float((new - values).max())
        values = new
        if (0.5 * (high - low) if endless else max(-low, high)) <= accuracy:
            break
    return values + 0.5 * gamma / (1 - gamma) * (low + high) if endless else values


def _usual_reward(operator):
    """Median of what a step gives under a policy, over the nodes where the problem goes on."""
    gained = np.abs(operator.constant[~_over(operator)])
    return float(np.median(gained)) if len(gained) else 0.0


def _over(operator):
    bellman = operator.bellman
    return np.asarray(ended(bellman.kernel, bellman.points))


def horizon_of(operator) -> float:
    """Σ γ^k over the steps to the end, at most: 1/(1 − γ), or at γ = 1 the largest expected number of steps τ = 1 + P^π τ under a policy
    (1 where all has ended), infinite if it does not end or no such numbers are found."""
    gamma = float(operator.bellman.kernel.gamma)
    if gamma < 1:
        return 1 / (1 - gamma)
    times, solved = summed(operator, (~_over(operator)).astype(float), 1e-3)
    return max(1.0, float(times.max())) if solved and times.min() > -1 and times.max() < LONGEST else float("inf")


def share_endless(operator) -> float:
    """Share of the nodes in the box from which the policy never reaches an end."""
    bellman = operator.bellman
    ending = leaving(operator.matrix.whole / float(bellman.kernel.gamma))
    return float(np.mean(~ending[bellman.judged]))


def summed(operator, right, accuracy):
    """What `right` per step sums to under the policy: x with |x − P^π x − right| ≤ accuracy, and whether that was reached."""
    product = lambda x: x - operator.linear(x)
    steps = STEPS if len(right) > SMALL else len(right) // 2
    found, reached = bicgstab(product, right, accuracy, steps, operator.bellman.precondition)
    lu = None if reached else _factors(operator)
    if lu is not None:
        found = lu.solve(right)
        reached = bool(np.max(np.abs(product(found) - right)) <= max(accuracy, EXACT * np.max(np.abs(right))))
    return found, reached


def _factors(operator):
    """LU factors of 1 − P^π on node values; None where these are too many, or it is singular."""
    matrix, size = getattr(operator, "matrix", None), operator.bellman.size
    if matrix is None:
        return None
    if operator.bellman.grid.order == 1 and operator.bellman.expectation is None:
        return factors(matrix.whole) if matrix.whole.nnz <= FACTORED else None
    return factors(operator.linear(np.eye(size))) if size <= DENSE else None
