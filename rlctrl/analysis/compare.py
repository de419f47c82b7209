"""Policies side by side on the same noise: discounted returns with confidence intervals, and paired differences."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rlctrl.errors import require, require_whole, strict
from rlctrl.plant import box
from rlctrl.result import Result
from rlctrl.simulate import Return, Trajectory, half_width, initial_states, simulate


@dataclass(frozen=True, eq=False)
class Comparison(Result):
    """`returns[name]` (mean, ci95, samples), `trajectories[name]`, `saturated[name]` (share of steps with an input at or beyond its bound),
    `left[name]` (share of steps that left the box), `starts` initial states. All policies met the same noise, so `difference(a, b)` is
    far sharper than the two intervals."""

    returns: dict[str, Return]
    trajectories: dict[str, Trajectory]
    saturated: dict[str, float]
    left: dict[str, float]
    starts: int

    def difference(self, a, b) -> tuple[float, float]:
        """Mean return of `a` minus that of `b` and the half width of its 95 % interval, from paired paths."""
        gap = self.returns[a].samples - self.returns[b].samples
        return float(gap.mean()), half_width(gap, self.starts)

    def table(self) -> str:
        """The comparison as text, best first."""
        width = max(len(name) for name in self.returns)
        lines = [f"{'policy':{width}}  discounted return        saturated  left the box"]
        for name in sorted(self.returns, key=lambda k: -self.returns[k].mean):
            r = self.returns[name]
            lines.append(
                f"{name:{width}}  {r.mean:11.5g} ± {r.ci95:<9.2g}  {100 * self.saturated[name]:7.1f} %  {100 * self.left[name]:9.2f} %"
            )
        return "\n".join(lines)


@strict
def compare(problem, policies, x0, *, steps=400, paths=256, seed=0) -> Comparison:
    """Roll every policy of a dictionary `policies` = {name: policy} out on a `problem` from `x0`, (n,) or (batch, n).

    `paths` paths of `steps` steps from each initial state, on common random numbers drawn from `seed`.
    """
    named = isinstance(policies, Mapping) and len(policies) > 0
    require(named, "policies", "must be a dictionary {name: policy}", policies, 'Use {"lqr": lqr.policy}.')
    require_whole("paths", paths, 1, "Use e.g. 256.")
    x0 = initial_states(x0)
    starts = np.repeat(x0, paths, axis=0)
    low, high = box(problem.plant.inputs)
    trajectories = {name: simulate(problem, policy, starts, steps, seed=seed) for name, policy in policies.items()}
    returns, saturated, left = {}, {}, {}
    for name, path in trajectories.items():
        samples = path.returns
        returns[name] = Return(float(samples.mean()), half_width(samples, len(x0)), samples)
        going = path.alive[:, :-1]
        at_bound = np.any((path.u <= low) | (path.u >= high), -1)
        saturated[name] = float(at_bound[going].mean()) if going.any() else 0.0
        left[name] = float(path.left[going].mean()) if going.any() else 0.0
    return Comparison(returns, trajectories, saturated, left, len(x0))
