"""A stochastic control problem: plant, sampling, reward, discount, exit rule (T1).

The kernel is *defined* by the chosen discretisation X_+ = Φ(x,u) + Γ(x,u) w of dX = b dt + σ dW over a sample `dt` with the
input held: Φ by one Euler step or by Runge–Kutta 4 steps of the drift, Γ = σ(x,u)·√dt (Euler–Maruyama); or by the plant's own
discrete-time map. Everything downstream uses this one kernel.
"""

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import casadi as ca
import jax
import numpy as np

from rlctrl.casadi_jax import JaxFunction
from rlctrl.density import log_density
from rlctrl.errors import require, require_number, require_numbers, require_points, require_room, require_together, require_whole, strict
from rlctrl.generator import Generator
from rlctrl.kernel import Kernel
from rlctrl.plant import Plant, as_matrix, box, closed, finite_box

EXITS = ("clip", "absorb", "free")
SCHEMES = ("rk4", "euler")


@strict
def quadratic(Q, R, N=None, x0=None, u0=None) -> Callable:
    """Reward r = −(ξᵀQξ + υᵀRυ + 2ξᵀNυ) per step, ξ = x − x0, υ = u − u0; weights as in python-control's `lqr`.

    `Q` (n, n), `R` (m, m), `N` (n, m); a vector means a diagonal. No periodic wrap: write an angle's reward with ca.cos.
    """
    Q, R = (np.diag(np.atleast_1d(a)) if a.ndim < 2 else a for a in (require_numbers("Q", Q), require_numbers("R", R)))
    n, m = len(Q), len(R)
    cross = np.zeros((n, m)) if N is None else require_numbers("N", N)
    fits = cross.shape == (n, m) or (cross.ndim < 2 and cross.size == n * m and min(n, m) == 1)
    require(fits, "N", f"must have shape ({n}, {m})", cross.shape, "Give one row per state, one column per input.")
    cross = cross.reshape(n, m)
    for name, a in (("Q", Q), ("R", R)):
        symmetric = a.ndim == 2 and a.shape[0] == a.shape[1] > 0 and bool(np.all(np.isfinite(a))) and np.allclose(a, a.T)
        require(symmetric, name, "must be square, symmetric and finite", a.tolist(), "Use (a + a.T) / 2.")
    x_ref = np.zeros(n) if x0 is None else require_numbers("x0", x0)
    u_ref = np.zeros(m) if u0 is None else require_numbers("u0", u0)
    require(x_ref.shape == (n,), "x0", f"must have shape ({n},)", x_ref.shape, "Give one number per state.")
    require(u_ref.shape == (m,), "u0", f"must have shape ({m},)", u_ref.shape, "Give one number per input.")

    def reward(x, u):
        require(x.shape[0] == n, "Q", f"must match the {x.shape[0]} states", Q.shape, "Give one row per state.")
        require(u.shape[0] == m, "R", f"must match the {u.shape[0]} inputs", R.shape, "Give one row per input.")
        dx, du = x - x_ref, u - u_ref
        return -(dx.T @ Q @ dx + du.T @ R @ du + 2 * dx.T @ cross @ du)

    return reward


@strict
@dataclass(frozen=True, eq=False)
class Problem:
    """Maximise E Σ γ^k r(X_k, U_k) for a plant sampled every `dt` seconds.

    `reward(x, u)` or `reward(x, u, p)`: one CasADi expression per step. `gamma` in (0, 1], per step. `dt` in seconds (optional for a
    discrete-time plant). `exit`: "clip" projects a state that leaves the box back onto it, "absorb" ends there, "free" means the state
    space is R^n. `target(x)` ≤ 0 ends the problem; `exit_value(x)` is what the end is worth (default 0). `scheme`: "rk4" (with `substeps`
    steps) or "euler" for the drift. Raises `InputError` for anything that breaks these rules.
    """

    plant: Plant
    reward_expression: Callable
    gamma: float
    dt: float | None
    exit: str
    exit_value: Callable | None
    target: Callable | None
    scheme: str
    substeps: int

    def __init__(self, plant, reward, gamma, dt=None, *, exit="clip", exit_value=None, target=None, scheme="rk4", substeps=1):
        require(isinstance(plant, Plant), "plant", "must be an rc.Plant", plant, "Use plants.get(name) or rc.Plant(…).")
        require(callable(reward), "reward", "must be a function (x, u) → expression", reward, "Use rc.quadratic(Q, R) or a lambda.")
        require_number("gamma", gamma, "must lie in (0, 1]", "Use exp(-rate·dt) of a discount rate per second.", low=1e-300, high=1.0)
        require(isinstance(exit, str) and exit in EXITS, "exit", f"must be one of {EXITS}", exit, "See the docstring of Problem.")
        require(
            isinstance(scheme, str) and scheme in SCHEMES, "scheme", f"must be one of {SCHEMES}", scheme, "See the docstring of Problem."
        )
        require_whole("substeps", substeps, 1, "Use 1.")
        if dt is not None or plant.update is None:
            _check_dt(dt)
        if exit == "absorb":
            low, high = box(plant.states)
            bounded = bool(np.any(np.isfinite(low) | np.isfinite(high))) or target is not None
            require(bounded, "exit", '"absorb" needs a bounded state or a target', exit, "Give the states low and high.")
        for name, end in (("exit_value", exit_value), ("target", target)):
            require(end is None or callable(end), name, "must be a function x → expression", end, "Use a lambda, or leave it out.")
        if exit_value is not None:
            ends = exit == "absorb" or target is not None
            require(ends, "exit_value", 'needs exit="absorb" or a target', exit, 'Pass exit="absorb".')
        values = (plant, reward, float(gamma), None if dt is None else float(dt), exit, exit_value, target, scheme, int(substeps))
        for name, value in zip(self.__dataclass_fields__, values, strict=True):
            object.__setattr__(self, name, value)
        self._check_rewards()

    @classmethod
    @strict
    def from_rates(
        cls, plant, reward_rate, discount_rate, dt, *, exit="clip", exit_value=None, target=None, scheme="rk4", substeps=1
    ) -> "Problem":
        """From continuous time (T4): reward rate ℓ(x, u) per second and discount rate ρ ≥ 0 per second; r = ℓ·dt, γ = exp(−ρ·dt).

        The other keywords are those of `Problem`.
        """
        require_number("discount_rate", discount_rate, "must be ≥ 0 per second", "Use 0 for none.", low=0.0)
        _check_dt(dt)
        require(callable(reward_rate), "reward_rate", "must be a function (x, u) → expression", reward_rate, "Use a lambda.")
        wants_p = _positional(reward_rate) == 3

        def reward(x, u, p):
            return _times(reward_rate(x, u, p) if wants_p else reward_rate(x, u), dt)

        options = {"exit": exit, "exit_value": exit_value, "target": target, "scheme": scheme, "substeps": substeps}
        return cls(plant, reward, float(np.exp(-discount_rate * dt)), dt, **options)

    @strict
    def with_params(self, **changes) -> "Problem":
        """The same problem with plant parameters changed; compiled code is reused."""
        return self._with_plant(self.plant.with_params(**changes))

    def _with_plant(self, plant):
        options = {k: getattr(self, k) for k in ("exit", "exit_value", "target", "scheme", "substeps")}
        return Problem(plant, self.reward_expression, self.gamma, self.dt, **options)

    def symbolic(self) -> tuple:
        """CasADi symbols and expressions (x, u, w, p, x_next, reward) of the sampled problem, before the exit rule."""
        x, u, p = self.plant.symbols()
        w = ca.SX.sym("w", self.plant.law.q)
        if self.plant.update_function is not None:
            following = self.plant.update_function(x, u, w, p)
        else:
            following = self._flow(x, u, p) + np.sqrt(self.dt) * self.plant.diffusion_function(x, u, p) @ w  # type: ignore[misc]
        return x, u, w, p, ca.densify(following), self.reward_of(x, u, p)

    @functools.cached_property
    def map_function(self) -> ca.Function:
        """CasADi function (x, u, w, p) → next state, before wrap and exit rule: `kernel`'s, for a few paths without compiling."""
        x, u, w, p, following, _ = self.symbolic()
        return ca.Function("update", [x, u, w, p], [following])

    def reward_of(self, x, u, p):
        """The reward per step as a CasADi expression of symbols x, u and the parameter vector p."""
        return self._scalar("reward", self.reward_expression, x, u, p=p)

    def _flow(self, x, u, p):
        """Φ(x, u): the drift integrated over `dt` with the input held."""
        drift = self.plant.drift_function
        assert drift is not None
        h = float(self.dt or 0.0) / self.substeps
        for _ in range(self.substeps):
            k1 = drift(x, u, p)
            if self.scheme == "euler":
                x = x + h * k1
                continue
            k2 = drift(x + h / 2 * k1, u, p)
            k3 = drift(x + h / 2 * k2, u, p)
            k4 = drift(x + h * k3, u, p)
            x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return x

    def _scalar(self, argument, function, *symbols, p):
        plain = _positional(function) <= len(symbols)
        value = self.plant.evaluate(argument, lambda *a: function(*a[:-1]) if plain else function(*a), *symbols, vector=p)
        return as_matrix(value, argument, (1, 1))

    @functools.cached_property
    def kernel(self) -> Kernel:
        """The compiled kernel shared by simulator, solvers and learner."""
        x, u, w, p, following, reward = self.symbolic()
        end = ca.SX(0) if self.exit_value is None else self._scalar("exit_value", self.exit_value, x, p=p)
        target = None if self.target is None else self._scalar("target", self.target, x, p=p)
        low, high = box(self.plant.states)
        return Kernel(
            p=self.plant.parameter_vector,
            low=low,
            high=high,
            gamma=self.gamma,
            noise=self.plant.law,
            update=JaxFunction(ca.Function("update", [x, u, w, p], [following]), (self.plant.n,)),
            reward_function=JaxFunction(ca.Function("reward", [x, u, p], [reward]), ()),
            exit_function=JaxFunction(ca.Function("exit_value", [x, p], [end]), ()),
            target_function=None if target is None else JaxFunction(ca.Function("target", [x, p], [target]), ()),
            periodic=tuple(s.periodic for s in self.plant.states),
            exit=self.exit,
        )

    @functools.cached_property
    def generator(self) -> Generator:
        """The continuous-time data (T4) of a problem whose plant is a diffusion. Raises `InputError` for a discrete-time map."""
        plant, kernel = self.plant, self.kernel
        continuous = plant.drift_function is not None and plant.diffusion_function is not None
        require(continuous, "plant", "must have a drift for a continuous-time method", plant.name, "Use rc.GridDP or rc.Riccati.")
        assert plant.drift_function is not None
        assert plant.diffusion_function is not None
        return Generator(
            p=kernel.p,
            low=kernel.low,
            high=kernel.high,
            rho=abs(float(np.log(self.gamma))) / float(self.dt or 1.0),
            dt=float(self.dt or 1.0),
            drift_function=JaxFunction(plant.drift_function, (plant.n,)),
            diffusion_function=JaxFunction(plant.diffusion_function, (plant.n, plant.law.q)),
            reward_function=kernel.reward_function,
            exit_function=kernel.exit_function,
            periodic=kernel.periodic,
            exit=self.exit,
        )

    @functools.cached_property
    def affine_noise(self) -> tuple[JaxFunction, JaxFunction] | None:
        """Φ(x, u, p) and Γ(x, u, p) of X_+ = Φ + Γw, or None if the map is not affine in w."""
        x, u, w, p, following, _ = self.symbolic()
        if not ca.is_linear(following, w):
            return None
        zero = ca.substitute(following, w, ca.DM.zeros(w.shape))
        spread = ca.densify(ca.jacobian(following, w))
        return (
            JaxFunction(ca.Function("flow", [x, u, p], [zero]), (self.plant.n,)),
            JaxFunction(ca.Function("spread", [x, u, p], [spread]), (self.plant.n, self.plant.law.q)),
        )

    @functools.cached_property
    def additive_noise(self) -> bool:
        """Whether X_+ = Φ(x, u) + Γw with Γ the same everywhere."""
        x, u, w, _, following, _ = self.symbolic()
        spread = ca.jacobian(following, w)
        return ca.is_linear(following, w) and not ca.depends_on(spread, ca.vertcat(x, u))

    @strict
    def transition(self, x, u, w) -> np.ndarray:
        """Next state (..., n) from x (..., n), u (..., m), w (..., q): wrapped, and under `exit="clip"` projected onto the box."""
        x, u = self.arrays(x, u)
        w = require_points("w", w, self.plant.law.q)
        require_together(x=x, u=u, w=w)
        return np.asarray(_step(self.kernel, x, u, w)[0])

    @strict
    def reward(self, x, u) -> np.ndarray:
        """Reward per step (...) at x (..., n), u (..., m)."""
        return np.asarray(_reward(self.kernel, *self.arrays(x, u)))

    @strict
    def sample(self, x, u, seed=0, size=()) -> np.ndarray:
        """Draws of X_+ ~ f(·|x, u), shape (*size, ..., n)."""
        x, u = self.arrays(x, u)
        require_whole("seed", seed, 0, "Use 0.")
        batch = np.broadcast_shapes(x.shape[:-1], u.shape[:-1])
        size = tuple(size) if isinstance(size, Sequence) else (size,)
        for count in size:
            require_whole("size", count, 0, "Use a number of draws, or a tuple of them.")
        require_room("size", math.prod((*map(int, size), *batch, self.plant.n)), size)
        w = self.plant.law.sample(jax.random.key(seed), (*size, *batch))
        return self.transition(x, u, w)

    @strict
    def moments(self, x, u) -> tuple[np.ndarray, np.ndarray]:
        """Mean (..., n) and covariance (..., n, n) of X_+ before wrap and exit rule; exact if the map is affine in w, else by
        quadrature."""
        x, u = self.arrays(x, u)
        if self.affine_noise is not None:
            flow, spread = (np.asarray(f(x, u, self.kernel.p)) for f in self.affine_noise)
            law = self.plant.law
            return flow + spread @ law.mean, spread @ law.covariance @ np.swapaxes(spread, -1, -2)
        nodes, weights = self.plant.law.quadrature(9)
        points = np.asarray(self.kernel.update(x[..., None, :], u[..., None, :], nodes, self.kernel.p))
        mean = np.einsum("k,...kn->...n", weights, points)
        centred = points - mean[..., None, :]
        return mean, np.einsum("k,...ki,...kj->...ij", weights, centred, centred)

    @strict
    def logpdf(self, x_next, x, u) -> np.ndarray:
        """Log-density of f(x_next|x, u) before clipping, (...).

        Needs a map affine in w, X_+ = Φ + Γw. Where Γ has fewer columns than states the density is taken on the affine set
        Φ + range Γ and is −∞ off it (tolerance 1e-9 relative). Periodic coordinates are summed over all turns that carry mass.
        Raises `InputError` if the noise does not enter affinely or Γ loses rank.
        """
        require(self.affine_noise is not None, "update", "must be affine in w for a density", self.plant.name, "Use sample() or moments().")
        assert self.affine_noise is not None
        x_next, (x, u) = require_points("x_next", x_next, self.plant.n), self.arrays(x, u)
        require_together(x=x, u=u, x_next=x_next)
        flow, spread = (np.asarray(f(x, u, self.kernel.p)) for f in self.affine_noise)
        flow = np.asarray(self.kernel.wrap(flow))
        return log_density(self.plant, x_next, flow, spread)

    def arrays(self, x, u) -> tuple[np.ndarray, np.ndarray]:
        """x and u as float arrays with last axes n and m, or `InputError`."""
        x, u = require_points("x", x, self.plant.n), require_points("u", u, self.plant.m)
        require_together(x=x, u=u)
        return x, u

    def _check_rewards(self):
        """Reward, exit value and target must be single expressions, finite near the middle of the box."""
        low, high = finite_box((*self.plant.states, *self.plant.inputs))
        z = 0.5 * (low + high) + 1e-3 * (high - low)
        x, u, p = self.plant.symbols()
        at = (z[: self.plant.n], z[self.plant.n :], self.plant.parameter_vector)
        expressions = {"reward": self._scalar("reward", self.reward_expression, x, u, p=p)}
        for argument in ("exit_value", "target"):
            if getattr(self, argument) is not None:
                expressions[argument] = self._scalar(argument, getattr(self, argument), x, p=p)
        for argument, expression in expressions.items():
            value = float(closed(argument, [x, u, p], expression)(*at))
            where = f"must be finite; at x={at[0].tolist()}, u={at[1].tolist()} it"
            require(np.isfinite(value), argument, where, value, "Mend the expression.")


_step = jax.jit(Kernel.step)
_reward = jax.jit(Kernel.reward)


def _check_dt(dt):
    require_number("dt", dt, "must be a positive number of seconds", "Give the sampling time, e.g. dt=0.05.", low=1e-300)


def _positional(function) -> int:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # some of those written in C have none: they are called as they are, and fail or not
        return 0
    return sum(q.kind in kinds and (q.default is inspect.Parameter.empty) for q in parameters)


def _times(expression, factor):
    return as_matrix(expression, "reward_rate", (1, 1)) * factor
