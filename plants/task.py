"""Default problems: what each plant is usually asked to do, stated next to the plant.

`@task(...)` on a factory records an equilibrium and a reward; `default`, `defaults` and `equilibrium` read them for given parameters.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import casadi as ca
import numpy as np

from rlctrl.errors import require, require_number, require_numbers
from rlctrl.kinds import Numbers
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

# What a parameter of that name must be, in every plant; other names, and what is not listed, may take any sign.
POSITIVE = (
    "mass", "mass1", "mass2", "cart_mass", "pole_mass", "motor_mass", "inertia", "inertia1", "inertia2", "inertia_x", "inertia_y",
    "inertia_z", "length", "length1", "half_length", "motor_radius", "arm", "lever", "front", "rear", "track", "area1", "area2", "hole1",
    "hole2", "volume", "motor_time", "time1", "time2", "step", "turbine_rate", "governor_rate", "droop_rate", "load_rate", "density",
    "heat_capacity", "feed_temperature", "inductance", "resistance", "pump", "pump1", "pump2", "inflow", "force", "wear",
)  # fmt: skip
NOT_NEGATIVE = (
    "noise", "turn_noise", "damping", "friction", "gravity", "centre1", "centre2", "flow", "feed", "frequency", "activation", "transfer",
)  # fmt: skip
SHARES = ("split1", "split2", "share")


def task(**fields):
    """Decorate a factory: its default problem is `Task(**fields)`, and its parameters are refused where their sign makes no sense."""

    def keep(factory):
        TASKS[factory.__name__] = Task(**fields)
        signature = inspect.signature(factory)
        several = [name for name, parameter in signature.parameters.items() if parameter.annotation is Numbers]

        @functools.wraps(factory)
        def checked(*args, **kwargs):
            try:
                given = signature.bind(*args, **kwargs)
            except TypeError:
                return factory(*args, **kwargs)  # which refuses, by name
            given.arguments.update({name: _checked(name, value, name in several) for name, value in given.arguments.items()})
            return factory(*given.args, **given.kwargs)

        return checked

    return keep


def _checked(name, value, several):
    """Masses, lengths, times and the like are positive, noise and friction are not negative, bounds named `…_max` are positive: one number,
    or `several`."""
    if name in POSITIVE:
        require_number(name, value, "must be a positive number", "See the plant's docstring for its unit.", low=1e-300)
    elif name in NOT_NEGATIVE:
        require_number(name, value, "must be a number ≥ 0", "See the plant's docstring for its unit.", low=0.0)
    elif name in SHARES:
        require_number(name, value, "must be a share between 0 and 1", "See the plant's docstring.", low=1e-12, high=1 - 1e-12)
    elif name.endswith("_max"):
        value = require_numbers(name, value)[()]
        require(several or np.ndim(value) == 0, name, "must be one number", value, "It bounds a state or an input.")
        require(np.size(value) > 0 and bool(np.all(value > 0)), name, "must be positive", value, "It bounds a state or an input.")
    return value


def origin(n, m=1) -> Callable:
    """The equilibrium x = 0, u = 0."""
    return lambda p: ([0.0] * n, [0.0] * m)


def default_of(plant, given: Task) -> Default:
    """The task for that plant's parameters."""
    p = SimpleNamespace(**plant.params, discrete=plant.update is not None)
    x, u = _equilibrium(plant, given, p)
    raw = given.reward or _regulate(plant, given.Q, given.R, x, u)
    step = 1.0 if p.discrete else given.dt or 1.0
    ends = [end and (lambda x, end=end: end(x, p)) for end in (given.exit_value, given.target)]
    return Default(plant, lambda x, u: step * raw(x, u, p), given.gamma, given.dt, given.exit, (x, u), *ends)


def _equilibrium(plant, given, p):
    """(x, u) as arrays; refuses parameters for which there is none."""
    try:
        with np.errstate(all="ignore"):
            x, u = (np.array(part, float) for part in given.at(p))
    except (ArithmeticError, ValueError, TypeError, np.linalg.LinAlgError):
        x = u = np.array(np.nan)
    finite = bool(np.all(np.isfinite(x)) and np.all(np.isfinite(u)))
    require(finite, "parameters", f"of plant '{plant.name}' must leave it an equilibrium", plant.params, "Change them back one by one.")
    return x, u


def _regulate(plant, Q, R, x0, u0):
    """−(Σ Q e² + Σ R d²), with 2(1 − cos e) for e² of a periodic state."""

    def reward(x, u, _):
        gaps = [2 * (1 - ca.cos(x[k] - x0[k])) if s.periodic else (x[k] - x0[k]) ** 2 for k, s in enumerate(plant.states)]
        return -sum(q * g for q, g in zip(Q, gaps, strict=True)) - sum(r * (u[j] - u0[j]) ** 2 for j, r in enumerate(R))

    return reward
