"""Problems as Gymnasium environments, one at a time or a batch at once on the compiled kernel.

Importing this module registers one id per plant with its default problem: `gymnasium.make("rlctrl/Pendulum-v0")`, keywords of the plant
and of `Env` accepted. Gymnasium 1.0 dropped entry points, so somebody has to import it: `import rlctrl.interop.gymnasium`, or as part of
the id, `gymnasium.make("rlctrl.interop.gymnasium:rlctrl/Pendulum-v0")`.

An episode is `terminated` only where the problem ends (exit="absorb", a target); the time limit truncates. The reward of the last step
contains γ times the exit value, so that discounted returns are those of the problem.
"""

import importlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from rlctrl.errors import nearest, require, require_numbers, require_whole, strict
from rlctrl.plant import box, finite_box
from rlctrl.problem import Problem

OBSERVATIONS = ("state", "sincos")
DTYPES = ("float64", "float32")
BLOCK = 64  # steps whose noise is drawn at once
STEPS = 200  # time limit of the registered environments
DRAWS = 1000  # of an initial state that is not an end


@partial(jax.jit, static_argnames="count")
def _draws(law, seed, block, count):
    return law.sample(jax.random.fold_in(jax.random.key(seed), block), (BLOCK, count))


class Noise:
    """w (N, q) step after step, the same for the same seed; drawn in blocks, apart from the plant, so that plants share the program."""

    def __init__(self, law, seed, count):
        self.law, self.seed, self.count, self.step, self.block = law, seed, count, 0, np.zeros((0, count, law.q))

    def next(self):
        """w of the next step."""
        place = self.step % BLOCK
        if place == 0:
            self.block = np.asarray(_draws(self.law, self.seed, self.step // BLOCK, self.count))
        self.step += 1
        return self.block[place]


@jax.jit
def _advance(kernel, x, u, w):
    """Next states (N, n), rewards with what the end is worth (N,), whether it ended, whether it left the box."""
    following, left = kernel.step(x, u, w)
    reward = kernel.reward(x, u)
    if not kernel.can_end:
        return following, reward, jnp.zeros(len(x), bool), left
    ended = kernel.ended(following)
    return following, reward + jnp.where(ended, kernel.gamma * kernel.exit_value(following), 0.0), ended, left


_ended = jax.jit(lambda kernel, x: kernel.ended(x))


class Translation:
    """Spaces of a problem, and what passes through them: observations of states, inputs of actions, initial states."""

    def __init__(self, problem, x0, observation, dtype):
        require(isinstance(problem, Problem), "problem", "must be an rc.Problem", problem, "Use rc.Problem(…).")
        known = isinstance(observation, str) and observation in OBSERVATIONS
        require(known, "observation", f"must be one of {OBSERVATIONS}", observation, nearest(observation, OBSERVATIONS))
        name = getattr(dtype, "__name__", str(dtype))
        require(name in DTYPES, "dtype", f"must be one of {DTYPES}", dtype, "Computation is in float64 either way.")
        self.problem, self.dtype = problem, np.dtype(name)
        self.turns = np.array([s.periodic for s in problem.plant.states]) & (observation == "sincos")
        self.x0 = None if x0 is None else self._start(x0)
        self.observations, self.actions = self._observation_space(), self._action_space()

    def _start(self, x0):
        n, x0 = self.problem.plant.n, np.atleast_2d(require_numbers("x0", x0))
        good = x0.ndim == 2 and x0.shape[1] == n and len(x0) > 0 and bool(np.all(np.isfinite(x0)))
        require(good, "x0", f"must have shape ({n},) or (k, {n})", x0.shape, "Give one state, or several to draw from.")
        return x0

    def _observation_space(self):
        low, high = box(self.problem.plant.states)
        straight = np.array([not s.periodic for s in self.problem.plant.states])
        if self.problem.exit != "clip":  # the state may lie outside
            low, high = np.where(straight, -np.inf, low), np.where(straight, np.inf, high)
        ones = np.ones(int(self.turns.sum()))
        low, high = (np.concatenate([a[~self.turns], s * ones, s * ones]) for a, s in ((low, -1), (high, 1)))
        return spaces.Box(low.astype(self.dtype), high.astype(self.dtype), dtype=self.dtype.type)

    def _action_space(self) -> spaces.Space:
        signals = self.problem.plant.inputs
        finite = [s.name for s in signals if s.values]
        if not finite:
            low, high = (a.astype(self.dtype) for a in box(signals))
            return spaces.Box(low, high, dtype=self.dtype.type)
        mixed = len(finite) < len(signals)
        require(not mixed, "problem", "must have inputs that are all finite or all continuous", finite, "Give the finite ones bounds.")
        counts = [len(s.values) for s in signals]
        return spaces.Discrete(counts[0]) if len(counts) == 1 else spaces.MultiDiscrete(counts)

    def observe(self, x):
        """Observations (N, …) of states (N, n): the states, or those that do not turn, then cosines, then sines of the others."""
        angle = x[:, self.turns]
        return np.concatenate([x[:, ~self.turns], np.cos(angle), np.sin(angle)], 1).astype(self.dtype)

    def inputs(self, actions, count):
        """Inputs (N, m) of actions; beyond the bounds they are clipped."""
        signals = self.problem.plant.inputs
        try:
            given = np.asarray(actions, float).reshape(count, len(signals))
        except (TypeError, ValueError):
            given = np.full((count, len(signals)), np.nan)
        counts = np.array([len(s.values or ()) for s in signals])  # of numbered values
        known = ~np.isnan(given) & ((counts == 0) | ((given == np.floor(given)) & (given >= 0) & (given < counts)))
        require(bool(np.all(known)), "action", f"must be {count} of {self.actions}", actions, "Use env.action_space.sample().")
        if isinstance(self.actions, spaces.Box):
            return np.clip(given, *box(signals))
        return np.stack([np.asarray(s.values)[given[:, k].astype(int)] for k, s in enumerate(signals)], 1)

    def draw(self, rng, count):
        """Initial states (N, n): of x0, or uniform over the box (±1 where it has no bound), never where the problem ends at once."""
        low, high = finite_box(self.problem.plant.states)
        new = lambda k: rng.uniform(low, high, (k, len(low))) if self.x0 is None else self.x0[rng.integers(len(self.x0), size=k)]
        x, kernel = new(count), self.problem.kernel
        for _ in range(DRAWS if kernel.can_end else 0):
            over = np.asarray(_ended(kernel, x))
            if not over.any():
                break
            fresh = new(count)
            x = np.where(over[:, None], fresh, x)
        return x

    def given(self, options, count):
        """Initial states (N, n) in reset's options, {"x": …}, or None."""
        options = {} if options is None else options
        known = isinstance(options, Mapping) and set(options) <= {"x"}
        require(known, "options", 'must be {"x": state}', options, 'Use reset(options={"x": x0}).')
        if "x" not in options:
            return None
        shape = (count, self.problem.plant.n)
        x = require_numbers("options", options["x"])
        fits = x.shape in (shape, shape[1:]) and bool(np.all(np.isfinite(x)))
        require(fits, "options", f'must hold "x" of shape {shape[1:]} or {shape}', x.shape, "Give one state per environment.")
        (low, high), kernel = box(self.problem.plant.states), self.problem.kernel
        x = np.where((x >= low) & (x <= high), x, kernel.wrap(np.broadcast_to(x, shape)))
        off = self.problem.exit == "clip" and bool(np.any(kernel.outside(x)))
        require(not off, "options", 'must hold "x" within the box of the states, which exit="clip" never leaves', x.tolist(), "Move it in.")
        return x


class Env(gymnasium.Env):
    """A problem as an environment; the state starts in `x0` (n,), in one of `x0` (k, n), or uniformly in the box.

    `horizon`: steps after which an episode is truncated (None: never; `gymnasium.make` brings its own limit). `observation`: "state", or
    "sincos" for cosine and sine of periodic states, after the others. `dtype`: "float64" or "float32" of observations and actions; the
    state itself is always float64. `reset(seed=…)` makes everything after it reproducible, `reset(options={"x": …})` sets the state. `info`
    holds the state `x` and whether the step `left` the box. Actions beyond their bounds are clipped; an input of finitely many values is
    `Discrete`. Raises `InputError` for wrong arguments.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own convention
    render_mode = None

    @strict
    def __init__(self, problem, x0=None, horizon=None, observation="state", dtype="float64"):
        if horizon is not None:
            require_whole("horizon", horizon, 1, "Use e.g. 200, or None.")
        self.translation, self.horizon = Translation(problem, x0, observation, dtype), horizon
        self.observation_space, self.action_space = self.translation.observations, self.translation.actions
        self.problem, self._x, self._noise = problem, None, Noise(problem.plant.law, 0, 1)

    def reset(self, *, seed=None, options=None) -> tuple[Any, dict]:
        """Start an episode: observation and info."""
        super().reset(seed=seed)
        given = self.translation.given(options, 1)
        self._x = self.translation.draw(self.np_random, 1) if given is None else given
        self._noise = Noise(self.problem.plant.law, int(self.np_random.integers(2**62)), 1)
        return self.translation.observe(self._x)[0], {"x": self._x[0].copy(), "left": False}

    def step(self, action) -> tuple[Any, float, bool, bool, dict]:
        """Observation, reward, terminated, truncated, info."""
        require(self._x is not None, "step", "needs reset() first", None, "Call env.reset().")
        u = self.translation.inputs(action, 1)
        x, reward, ended, left = map(np.asarray, _advance(self.problem.kernel, self._x, u, self._noise.next()))
        self._x = x
        truncated = self.horizon is not None and self._noise.step >= self.horizon
        return self.translation.observe(x)[0], float(reward[0]), bool(ended[0]), truncated, {"x": x[0].copy(), "left": bool(left[0])}


class VectorEnv(gymnasium.vector.VectorEnv):
    """`num_envs` copies of a problem stepped together by one compiled call; other keywords as in `Env`, `max_episode_steps` its `horizon`.

    An episode that is over stays in its last state, whose observation the step returned; the next step ignores its action and starts anew
    with reward 0 (autoreset mode NEXT_STEP).
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 - Gymnasium's own convention

    @strict
    def __init__(self, problem, num_envs=1, x0=None, max_episode_steps=None, observation="state", dtype="float64"):
        require_whole("num_envs", num_envs, 1, "Use e.g. 64.")
        if max_episode_steps is not None:
            require_whole("max_episode_steps", max_episode_steps, 1, "Use e.g. 200, or None.")
        self.translation, self.horizon, self.num_envs = Translation(problem, x0, observation, dtype), max_episode_steps, int(num_envs)
        self.single_observation_space, self.single_action_space = self.translation.observations, self.translation.actions
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.problem, self._x, self._noise = problem, None, Noise(problem.plant.law, 0, self.num_envs)
        self._length, self._over = np.zeros(self.num_envs, int), np.zeros(self.num_envs, bool)

    def reset(self, *, seed=None, options=None) -> tuple[Any, dict]:
        """Start all episodes: observations and info."""
        super().reset(seed=seed)
        given = self.translation.given(options, self.num_envs)
        self._x = self.translation.draw(self.np_random, self.num_envs) if given is None else given
        self._noise = Noise(self.problem.plant.law, int(self.np_random.integers(2**62)), self.num_envs)
        self._length[:], self._over[:] = 0, False
        return self.translation.observe(self._x), {"x": self._x.copy(), "left": np.zeros(self.num_envs, bool)}

    def step(self, actions) -> tuple[Any, Any, Any, Any, dict]:
        """Observations, rewards, terminated, truncated, info, each of leading axis `num_envs`."""
        require(self._x is not None, "step", "needs reset() first", None, "Call env.reset().")
        u, fresh = self.translation.inputs(actions, self.num_envs), self._over
        x, reward, ended, left = (np.array(a) for a in _advance(self.problem.kernel, self._x, u, self._noise.next()))
        if fresh.any():
            x[fresh] = self.translation.draw(self.np_random, self.num_envs)[fresh]
            reward[fresh], ended[fresh], left[fresh] = 0.0, False, False
        self._length = np.where(fresh, 0, self._length + 1)
        truncated = self._length >= (self.horizon or np.inf)
        self._x, self._over = x, ended | truncated
        return self.translation.observe(x), reward, ended, truncated, {"x": x.copy(), "left": left}


def problem_of(plant, parameters) -> Problem:
    """The default problem of one of the `plants`, by name."""
    return Problem(**importlib.import_module("plants").defaults(plant, **parameters))


@strict
def make(plant: str, x0=None, observation="state", dtype="float64", **parameters) -> Env:
    """`Env` of a plant's default problem; other keywords are parameters of the plant."""
    return Env(problem_of(plant, parameters), x0=x0, observation=observation, dtype=dtype)


@strict
def make_vec(plant: str, num_envs=1, x0=None, max_episode_steps=None, observation="state", dtype="float64", **parameters) -> VectorEnv:
    """`VectorEnv` of a plant's default problem; other keywords are parameters of the plant."""
    options = {"x0": x0, "max_episode_steps": max_episode_steps, "observation": observation, "dtype": dtype}
    return VectorEnv(problem_of(plant, parameters), num_envs, **options)


def env_id(plant) -> str:
    """The id of a plant: "cart_pole" → "rlctrl/CartPole-v0"."""
    return f"rlctrl/{''.join(word.capitalize() for word in plant.split('_'))}-v0"


def register():
    """Register one id per plant, with its default problem and a time limit of 200 steps."""
    for plant in importlib.import_module("plants").names():
        if env_id(plant) not in gymnasium.registry:
            one, several = (f"{__name__}:{maker}" for maker in ("make", "make_vec"))
            gymnasium.register(env_id(plant), one, max_episode_steps=STEPS, kwargs={"plant": plant}, vector_entry_point=several)


register()
