"""Policies side by side on the same noise: discounted returns and regrets with confidence intervals, and what else one asks of a loop."""

import time
from dataclasses import dataclass
from functools import partial

import numpy as np

from rlctrl.errors import naming, nearest, require, require_number, require_numbers, require_whole, strict
from rlctrl.plant import box, outside_inputs, periods
from rlctrl.policy import Policy, as_policies
from rlctrl.problem import Problem
from rlctrl.result import Result
from rlctrl.simulate import Return, Trajectory, half_width, initial_states, simulate

TIMED = 20  # single states at which a policy is timed


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Result):
    """Policies on the same noise, so that `difference(a, b)` and `regret(name)` are far sharper than the intervals of the returns.

    `returns[name]` (mean, ci95, samples), `trajectories[name]`, `starts` initial states. Shares of steps: `saturated[name]` with an input
    at or beyond its bound, `beyond[name]` with one that the plant does not take: beyond its bound, or none of the `values` it has;
    `left[name]` that left the box. `ended[name]`: share of paths that ended.
    `settled[name]`: median over the paths of the time [unit of t] after which they stay within the band around rest, inf if half of them do
    not. `seconds[name]`: median wall time of one input at one state, compiled and called from Python.
    """

    returns: dict[str, Return]
    trajectories: dict[str, Trajectory]
    saturated: dict[str, float]
    beyond: dict[str, float]
    left: dict[str, float]
    ended: dict[str, float]
    settled: dict[str, float]
    seconds: dict[str, float]
    starts: int

    @strict
    def difference(self, a: str, b: str) -> tuple[float, float]:
        """Mean return of `a` minus that of `b` and the half width of its 95 % interval, from paired paths."""
        for argument, name in (("a", a), ("b", b)):
            require(name in self.returns, argument, "must name one of the policies", name, nearest(name, self.returns))
        gap = self.returns[a].samples - self.returns[b].samples
        return float(gap.mean()), half_width(gap, self.starts)

    @property
    def best(self) -> str:
        """Name of the policy with the largest mean return, among those whose inputs the plant takes if there are any."""
        keeping = [name for name, share in self.beyond.items() if share == 0]
        return max(keeping or self.returns, key=lambda name: self.returns[name].mean)

    @strict
    def regret(self, name: str) -> tuple[float, float]:
        """What the `best` policy returned more than `name`, and the half width of its 95 % interval."""
        require(name in self.returns, "name", "must name one of the policies", name, nearest(name, self.returns))
        return self.difference(self.best, name)

    def rows(self) -> list[dict]:
        """One dictionary of numbers a policy, by falling return; `regret` against the `best`."""
        return [self._row(name) for name in sorted(self.returns, key=lambda k: -self.returns[k].mean)]

    def _row(self, name):
        r, (regret, regret_ci95) = self.returns[name], self.regret(name)
        shares = {k: getattr(self, k)[name] for k in ("saturated", "beyond", "left", "ended", "settled", "seconds")}
        return {"policy": name, "mean": r.mean, "ci95": r.ci95, "regret": regret, "regret_ci95": regret_ci95, **shares}

    def table(self) -> str:
        """The comparison as text, by falling return; policies with inputs that the plant does not take are named below."""
        width = max(6, *(len(name) for name in self.returns))
        head = f"{'policy':{width}}  {'discounted return':23}  {'regret':21}  saturated  left box  ended  settled  per input"
        return "\n".join([head, *(_line(row, width) for row in self.rows()), *self._notes()])

    def _notes(self):
        for name, share in self.beyond.items():
            if share > 0 == self.beyond[self.best]:
                yield f"{name}: inputs that the plant does not take in {100 * share:.1f} % of the steps, so not counted as the best."


def _line(row, width):
    shares = f"{100 * row['saturated']:7.1f} %  {100 * row['left']:6.2f} %  {100 * row['ended']:3.0f} %"
    settled = f"{row['settled']:7.3g}" if np.isfinite(row["settled"]) else "  never"
    return (
        f"{row['policy']:{width}}  {row['mean']:11.5g} ± {row['ci95']:<9.2g}  {row['regret']:9.3g} ± {row['regret_ci95']:<9.2g}  "
        f"{shares}  {settled}  {1e6 * row['seconds']:6.0f} µs"
    )


@strict
def compare(problem: Problem, policies, x0, *, steps=400, paths=256, seed=0, rest=None, band=0.05) -> Comparison:
    """Roll every policy of a dictionary `policies` = {name: policy} out on a `problem` from `x0`, (n,) or (batch, n).

    `paths` paths of `steps` steps from each initial state, on common random numbers drawn from `seed`. A path has settled once it stays
    within `band` times the width of the box (1 where unbounded) of the state `rest` (n,), by default the state nearest to zero.
    """
    require_whole("paths", paths, 1, "Use e.g. 256.")
    require_number("band", band, "must lie in (0, 1]", "Use 0.05.", 1e-9, 1)
    x0 = initial_states(x0)
    rest = _rest(problem.plant, rest)
    starts = np.repeat(x0, paths, axis=0)
    ready = as_policies(policies, problem.plant.n, problem.plant.m)
    trajectories = {name: _followed(problem, name, policy, starts, steps, seed) for name, policy in ready.items()}
    each = lambda measure: {name: measure(path) for name, path in trajectories.items()}
    return Comparison(
        returns=each(lambda path: Return(float(path.returns.mean()), half_width(path.returns, len(x0)), path.returns)),
        trajectories=trajectories,
        saturated=each(partial(_at_bounds, margin=1e-3)),
        beyond=each(_refused),
        left=each(lambda path: _share(path.left, path)),
        ended=each(lambda path: float(np.mean(~path.alive[:, -1]))),
        settled=each(lambda path: _settled(path, rest, band)),
        seconds={name: _seconds(policy, trajectories[name]) for name, policy in ready.items()},
        starts=len(x0),
    )


def _rest(plant, given):
    if given is None:
        return np.clip(np.zeros(plant.n), *box(plant.states))
    found = require_numbers("rest", given)
    fits = found.shape == (plant.n,) and bool(np.all(np.isfinite(found)))
    require(fits, "rest", f"must be a state of {plant.n} numbers", given, "Give the state at which the loop should rest.")
    return found


def _followed(problem, name, policy, starts, steps, seed):
    with naming(f"policies[{name!r}]", "policy"):
        return simulate(problem, policy, starts, steps, seed=seed)


def _share(events, path):
    """Share of the steps of living paths in which `events` (batch, steps) holds."""
    going = path.alive[:, :-1]
    return float(events[going].mean()) if going.any() else 0.0


def _at_bounds(path, margin):
    """Share of the steps with an input nearer to a bound than `margin`, relative to the width of its box."""
    low, high = box(path.inputs)
    near = np.where(np.isfinite(high - low), margin * (high - low), 0.0)
    return _share(np.any((path.u <= low + near) | (path.u >= high - near), -1), path)


def _refused(path):
    """Share of the steps with an input that the plant does not take."""
    return _share(np.any(outside_inputs(path.inputs, path.u), -1), path)


def _settled(path, rest, band):
    """Median over the paths of the first time from which on they stay in the band."""
    period = periods(path.states)
    turns = np.where(period > 0, period, 1.0)
    gap = path.x - rest
    gap = np.where(period > 0, gap - turns * np.round(gap / turns), gap)
    low, high = box(path.states)
    width = np.where(np.isfinite(high - low), high - low, 1.0)
    outside = np.any(np.abs(gap) > band * width, -1) | ~path.alive
    last = outside.shape[1] - np.argmax(outside[:, ::-1], 1)  # the first index from which on the path is inside
    first = np.where(outside.any(1), last, 0)
    return float(np.median(np.append(path.t, np.inf)[np.minimum(first, len(path.t))]))


def _seconds(policy: Policy, path):
    """Median time of one input at single states along a path, after a first call that compiles."""
    states = path.x[0, np.linspace(0, path.x.shape[1] - 2, TIMED).astype(int)]
    policy(states[0])
    times = []
    for x in states:
        start = time.perf_counter()
        policy(x)
        times.append(time.perf_counter() - start)
    return float(np.median(times))
