"""A continuous stochastic plant in CasADi: named signals with units, parameters, and dynamics.

Either dX = drift(X,u) dt + diffusion(X,u) dW (Itô; architecture page and T4), or a discrete-time map X_+ = update(X,u,w) with a stated
law of w (T1). No sampling time, reward or discount here: those belong to `Problem`.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import casadi as ca
import numpy as np

from rlctrl.casadi_jax import JaxFunction
from rlctrl.errors import InputError, first_line, nearest, require, require_numbers, strict
from rlctrl.exchange import PlantExchange
from rlctrl.kinds import is_real
from rlctrl.noise import Gaussian
from rlctrl.result import PlantFigure
from rlctrl.tree import saved


@strict
@saved
@dataclass(frozen=True)
class Signal:
    """One state or input: `name`, `unit` ("1" if dimensionless), bounds `low` < `high` in that unit (may be infinite).

    `periodic=True` identifies `low` with `high` (an angle). `values=(…)` makes an input take finitely many values. Raises `InputError`
    for an empty interval, a missing unit, or a periodic signal without finite bounds.
    """

    name: str
    unit: str
    low: float = -np.inf
    high: float = np.inf
    periodic: bool = False
    values: tuple[float, ...] | None = None

    def __post_init__(self):
        require(isinstance(self.name, str) and self.name.isidentifier(), "name", "must be an identifier", self.name, "Use e.g. 'theta'.")
        has_unit = isinstance(self.unit, str) and self.unit.strip()
        require(has_unit, "unit", f"of signal '{self.name}' must be given", self.unit, 'Write "1" for a dimensionless signal.')
        if self.values is not None:
            self._finite_values()
        numbers = is_real(self.low) and is_real(self.high)
        require(numbers, "low, high", f"of signal '{self.name}' must be numbers", (self.low, self.high), "Leave a bound out for none.")
        low, high = float(self.low), float(self.high)
        rule = f"of signal '{self.name}' must leave a box that is not empty: low < high"
        wide = low < high and (high - low < np.inf or np.inf in (high, -low))
        require(wide, "low, high", rule, (low, high), "Exchange or widen the bounds.")
        closed = not self.periodic or np.isfinite(high - low)
        require(closed, "periodic", f"of signal '{self.name}' needs finite bounds", (low, high), "Give low and high, e.g. -pi, pi.")
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    def _finite_values(self):
        values = tuple(np.ravel(require_numbers("values", self.values)).tolist())
        distinct = len(set(values)) == len(values) >= 2 and all(np.isfinite(values))
        require(distinct, "values", f"of signal '{self.name}' must be two or more distinct numbers", self.values, "List them once each.")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "low", min(values))
        object.__setattr__(self, "high", max(values))

    @property
    def label(self) -> str:
        """Name with its unit, as figures print it."""
        return f"{self.name} [{self.unit}]"


class Parameters:
    """The parameters as a plant's functions see them: `p.mass` is a CasADi symbol; `p.vector` is all of them stacked."""

    def __init__(self, values: Mapping[str, Any], vector):
        self.vector = vector
        self._values = {}
        start = 0
        for name, value in values.items():
            shape = np.atleast_2d(np.asarray(value, float)).T.shape if np.ndim(value) < 2 else np.shape(value)
            size = int(np.prod(shape))
            self._values[name] = ca.reshape(vector[start : start + size], *shape)
            start += size

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        require(name in self._values, f"p.{name}", "is not a parameter of this plant", name, nearest(name, self._values))
        return self._values[name]


@strict
@dataclass(frozen=True, eq=False)
class Plant(PlantExchange, PlantFigure):
    """A stochastic plant: dX = drift dt + diffusion dW, or X_+ = update(X, u, w).

    `states`, `inputs`: sequences of `Signal`, n and m of them. `drift(x, u, p)` returns n CasADi expressions per second; `diffusion(x, u,
    p)` n×q (per square root of a second; omitted: no noise). `update(x, u, w, p)` returns n, with `noise` the law of w. `params` are
    numbers or arrays, reached as `p.name`; `units` are theirs, by name; `source` says where the model comes from. Raises `InputError` for
    wrong shapes, for both or neither of `drift` and `update`, for units of other names, and for dynamics not finite over the box.
    """

    name: str
    states: Sequence[Signal]
    inputs: Sequence[Signal]
    drift: Callable | None = None
    diffusion: Callable | None = None
    update: Callable | None = None
    noise: Any = None
    params: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    units: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        named = isinstance(self.name, str) and self.name.isprintable() and self.name.strip()
        require(named, "name", "must be a word or a few", self.name, "Use e.g. 'pendulum'.")
        for role in ("states", "inputs"):
            signals = tuple(getattr(self, role))
            good = len(signals) > 0 and all(isinstance(s, Signal) for s in signals)
            require(good, role, "must be a list of Signal, at least one", getattr(self, role), "Use rc.Signal(name, unit, low, high).")
            object.__setattr__(self, role, signals)
        names = [s.name for s in (*self.states, *self.inputs)]
        require(len(set(names)) == len(names), "states, inputs", "must have distinct names", names, "Rename one.")
        discrete_states = [s.name for s in self.states if s.values]
        require(not discrete_states, "values", "is for inputs only", discrete_states, "Give the state low and high instead.")
        one = (self.drift is None) != (self.update is None)
        require(one, "drift", "and `update`: exactly one must be given", (self.drift, self.update), "Drop one of them.")
        laws = self.noise is None or all(hasattr(self.noise, k) for k in ("q", "sample", "quadrature", "covariance"))
        require(
            laws,
            "noise",
            "must be a law of w",
            self.noise,
            "Use rc.Gaussian(q), rc.Uniform(q), rc.Exponential(q) or rc.Finite(nodes, probabilities).",
        )
        if self.update is not None:
            require(
                self.diffusion is None,
                "diffusion",
                "goes with `drift`, not with `update`",
                self.diffusion,
                "Write the noise into update(x, u, w, p).",
            )
        else:
            require(
                self.noise is None, "noise", "goes with `update`; a diffusion is driven by Wiener noise", self.noise, "Use diffusion=…."
            )
        object.__setattr__(self, "params", {k: self._number(k, v) for k, v in dict(self.params).items()})
        object.__setattr__(self, "units", {k: self._unit(k, v) for k, v in dict(self.units).items()})
        self._check_finite()

    def _unit(self, name, unit):
        require(name in self.params, "units", "must be of the parameters", name, nearest(name, self.params))
        written = isinstance(unit, str) and unit.strip()
        require(written, f"units[{name!r}]", "must be a word", unit, 'Write "1" for a number without unit.')
        return unit

    @staticmethod
    def _number(name, value):
        require(name != "vector", "params", "may not hold the reserved name", name, "Rename it.")
        array = require_numbers(f"params[{name!r}]", value, "Convert it to a number or an array.")
        require(bool(np.all(np.isfinite(array))), f"params[{name!r}]", "must be finite", value, "Give a number or an array.")
        return float(array) if array.ndim == 0 else array

    @property
    def n(self) -> int:
        """Number of states."""
        return len(self.states)

    @property
    def m(self) -> int:
        """Number of inputs."""
        return len(self.inputs)

    @property
    def parameter_vector(self) -> np.ndarray:
        """All parameters stacked (matrices column by column)."""
        return self.stacked(self.params)

    def stacked(self, params) -> np.ndarray:
        """Values by name in place of the plant's own `params`, stacked like `parameter_vector`."""
        parts = [np.asarray(params[name], float).ravel(order="F") for name in self.params]
        return np.concatenate(parts) if parts else np.zeros(0)

    @strict
    def with_params(self, **changes) -> "Plant":
        """The same plant with some parameters changed; nothing is recompiled. Raises `InputError` for an unknown name."""
        for word, value in changes.items():
            require(word in self.params, word, f"is not a parameter of plant '{self.name}'", value, nearest(word, self.params))
            shape = require_numbers(word, value).shape
            require(shape == np.shape(self.params[word]), word, f"must have shape {np.shape(self.params[word])}", shape, "Keep the shape.")
        return replace(self, params={**self.params, **changes})

    def symbols(self):
        """Fresh CasADi symbols x (n), u (m), p (parameter vector)."""
        size = len(self.parameter_vector)
        return ca.SX.sym("x", self.n), ca.SX.sym("u", self.m), ca.SX.sym("p", size)

    def evaluate(self, argument, function, *symbols, vector):
        """Call one of the user's functions on symbols; errors in it come out as `InputError` naming it."""
        try:
            return function(*symbols, Parameters(self.params, vector))
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"`{argument}` of plant '{self.name}' failed when called on CasADi symbols: {type(error).__name__}: {first_line(error)}. "
                "It must return CasADi expressions of its arguments; use casadi functions such as ca.sin."
            ) from error

    @functools.cached_property
    def drift_function(self) -> ca.Function | None:
        """CasADi function (x, u, p) → drift, n×1."""
        if self.drift is None:
            return None
        x, u, p = self.symbols()
        value = as_matrix(self.evaluate("drift", self.drift, x, u, vector=p), "drift", (self.n, 1))
        return closed("drift", [x, u, p], value)

    @functools.cached_property
    def diffusion_function(self) -> ca.Function | None:
        """CasADi function (x, u, p) → diffusion, n×q."""
        if self.drift is None:
            return None
        x, u, p = self.symbols()
        raw = ca.SX(self.n, 0) if self.diffusion is None else self.evaluate("diffusion", self.diffusion, x, u, vector=p)
        return closed("diffusion", [x, u, p], as_matrix(raw, "diffusion", (self.n, None)))

    @functools.cached_property
    def update_function(self) -> ca.Function | None:
        """CasADi function (x, u, w, p) → next state, n×1."""
        if self.update is None:
            return None
        x, u, p = self.symbols()
        w = ca.SX.sym("w", self.law.q)
        value = as_matrix(self.evaluate("update", self.update, x, u, w, vector=p), "update", (self.n, 1))
        return closed("update", [x, u, w, p], value)

    @functools.cached_property
    def law(self):
        """Law of the noise: `noise` of a discrete-time map, the standard normal law of a diffusion."""
        if self.update is not None:
            return Gaussian(0) if self.noise is None else self.noise
        assert self.diffusion_function is not None
        return Gaussian(self.diffusion_function.size2_out(0))

    @strict
    def jacobian(self, x, u) -> tuple[np.ndarray, np.ndarray]:
        """A = ∂f/∂x (n, n) and B = ∂f/∂u (n, m) of the drift, or of the update at the mean of w, at one point."""
        xs, us, p = self.symbols()
        if self.drift_function is not None:
            value = self.drift_function(xs, us, p)
        else:
            assert self.update_function is not None
            value = self.update_function(xs, us, ca.DM(self.law.mean), p)
        x, u = require_numbers("x", x), require_numbers("u", u)
        for argument, point, size in (("x", x, self.n), ("u", u, self.m)):
            require(point.shape == (size,), argument, f"must have shape ({size},)", point.shape, "Give one number per coordinate.")
        both = ca.Function("jacobian", [xs, us, p], [ca.jacobian(value, xs), ca.jacobian(value, us)])
        a, b = both(x, u, self.parameter_vector)
        return np.array(a), np.array(b)

    @functools.cached_property
    def digest(self) -> str:
        """Hash of everything that defines the plant: dynamics, parameters, signals."""
        functions = [self.drift_function, self.diffusion_function, self.update_function]
        tapes = [JaxFunction(f, f.size_out(0)).digest for f in functions if f is not None]
        law = [type(self.law).__name__, *(np.asarray(v).tolist() for v in vars(self.law).values())]
        key = repr((tapes, self.parameter_vector.tolist(), self.states, self.inputs, law))
        return hashlib.sha256(key.encode()).hexdigest()[:16]

    def _check_finite(self):
        """Dynamics at random points of the box (of [-1, 1] where it is unbounded) must be finite."""
        rng = np.random.default_rng(0)
        low, high = finite_box((*self.states, *self.inputs))
        p = self.parameter_vector
        with np.errstate(over="ignore", invalid="ignore"):  # a box wider than numbers reach: not finite, which is said below
            points = low + (high - low) * rng.random((16, self.n + self.m))
        for z in points:
            x, u = z[: self.n], z[self.n :]
            for argument in ("drift", "diffusion", "update"):
                function = getattr(self, f"{argument}_function")
                if function is None:
                    continue
                value = np.array(function(x, u, self.law.mean, p) if argument == "update" else function(x, u, p))
                where = f"of plant '{self.name}' must be finite over the box; at x={_short(x)}, u={_short(u)} it"
                require(np.all(np.isfinite(value)), argument, where, value.ravel().tolist(), "Mend the expression or shrink the box.")


def _short(values):
    return [float(f"{v:.4g}") for v in values]


def box(signals) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of signals as two arrays."""
    return np.array([s.low for s in signals]), np.array([s.high for s in signals])


def limits(signals) -> list:
    """Bounds and finite values of signals: what makes two sets of inputs the same, whatever their names."""
    return [(s.low, s.high, s.values) for s in signals]


def finite_box(signals) -> tuple[np.ndarray, np.ndarray]:
    """The same with infinite bounds replaced: two units from the other bound, or ±1."""
    low, high = box(signals)
    near_low, near_high = np.where(np.isfinite(low), low, -1.0), np.where(np.isfinite(high), high, 1.0)
    return np.where(np.isfinite(low), low, np.minimum(-1.0, near_high - 2)), np.where(
        np.isfinite(high), high, np.maximum(1.0, near_low + 2)
    )


def periods(signals) -> np.ndarray:
    """Widths of the boxes of the signals that turn, 0 for the others."""
    return np.array([s.high - s.low if s.periodic else 0.0 for s in signals])


def outside_inputs(signals, u):
    """Which inputs u (..., m) break their bounds, or are none of their values, (..., m); not a number does."""
    low, high = box(signals)
    slack = 1e-9 * np.subtract(*finite_box(signals)[::-1])
    inside = (u >= low - slack) & (u <= high + slack)
    for j, signal in enumerate(signals):
        if signal.values:
            inside[..., j] = np.min(np.abs(np.subtract.outer(u[..., j], signal.values)), -1) <= slack[j]
    return ~inside


def closed(argument, symbols, value) -> ca.Function:
    """The CasADi function; refuses symbols of the user's own making."""
    try:
        return ca.Function(argument, symbols, [value])
    except RuntimeError:
        own = {symbol.__hash__() for symbol in ca.symvar(ca.vertcat(*symbols))}
        foreign = [symbol.name() for symbol in ca.symvar(value) if symbol.__hash__() not in own]
        raise InputError(f"`{argument}` must depend on its arguments only; got the free symbols {foreign}. Make them parameters.") from None


def as_matrix(value, argument, shape):
    """A user's return value (CasADi, number, nested list) as a dense SX of the stated shape (None: any)."""
    try:
        if isinstance(value, list | tuple):
            rows = [ca.horzcat(*row) if isinstance(row, list | tuple) else row for row in value]
            value = ca.vertcat(*rows)
        value = ca.densify(ca.SX(value))
    except (NotImplementedError, RuntimeError, TypeError):
        raise InputError(f"`{argument}` must return a CasADi SX expression; got {type(value).__name__}. Use ca.vertcat(…).") from None
    fits = all(want is None or want == have for want, have in zip(shape, value.shape, strict=True))
    wanted = " × ".join("any" if s is None else str(s) for s in shape)
    require(fits, argument, f"must return {wanted} expressions", f"{value.shape[0]} × {value.shape[1]}", "Check ca.vertcat(…).")
    return value
