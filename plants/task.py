"""Default problems: what each plant is usually asked to do, stated next to the plant.

`@task(...)` on a factory records an equilibrium and a reward; `default`, `defaults` and `equilibrium` read them for given parameters.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import casadi as ca
import numpy as np

from rlctrl.plant import Plant


class Default(NamedTuple):
    """A plant with its default problem: `reward(x, u)` per step, `gamma` per step, `dt`, `exit` rule, `equilibrium` (x, u).

    `dt` is in the plant's unit of time (seconds unless its docstring says otherwise), None for a discrete-time map without one.
    """

    plant: Plant
    reward: Callable
    gamma: float
    dt: float | None
    exit: str
    equilibrium: tuple[np.ndarray, np.ndarray]
    exit_value: Callable | None = None
    target: Callable | None = None

    @property
    def problem(self) -> dict[str, Any]:
        """The keywords of `rc.Problem`."""
        return {k: v for k, v in self._asdict().items() if k != "equilibrium" and v is not None}


@dataclass(frozen=True)
class Task:
    """`at(p)` gives the equilibrium (x, u). The reward is `reward(x, u, p)`, or −(Σ Q e² + Σ R d²) of the deviations e, d from the
    equilibrium with 2(1 − cos e) for e² on periodic states: per unit of time for a diffusion, per step for a map.
    """

    at: Callable
    dt: float | None
    gamma: float
    Q: tuple | None = None
    R: tuple | None = None
    reward: Callable | None = None
    exit: str = "clip"
    exit_value: Callable | None = None
    target: Callable | None = None


TASKS: dict[str, Task] = {}


def task(**fields):
    """Decorate a factory: its default problem is `Task(**fields)`."""

    def keep(factory):
        TASKS[factory.__name__] = Task(**fields)
        return factory

    return keep


def origin(n, m=1) -> Callable:
    """The equilibrium x = 0, u = 0."""
    return lambda p: ([0.0] * n, [0.0] * m)


def default_of(plant, given: Task) -> Default:
    """The task for that plant's parameters."""
    p = SimpleNamespace(**plant.params, discrete=plant.update is not None)
    x, u = (np.array(part, float) for part in given.at(p))
    raw = given.reward or _regulate(plant, given.Q, given.R, x, u)
    step = 1.0 if p.discrete else given.dt or 1.0
    ends = [end and (lambda x, end=end: end(x, p)) for end in (given.exit_value, given.target)]
    return Default(plant, lambda x, u: step * raw(x, u, p), given.gamma, given.dt, given.exit, (x, u), *ends)


def _regulate(plant, Q, R, x0, u0):
    """−(Σ Q e² + Σ R d²), with 2(1 − cos e) for e² of a periodic state."""

    def reward(x, u, _):
        gaps = [2 * (1 - ca.cos(x[k] - x0[k])) if s.periodic else (x[k] - x0[k]) ** 2 for k, s in enumerate(plant.states)]
        return -sum(q * g for q, g in zip(Q, gaps, strict=True)) - sum(r * (u[j] - u0[j]) ** 2 for j, r in enumerate(R))

    return reward
