"""Batched rollouts of a problem under a policy, and Monte-Carlo returns with confidence intervals (T1)."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.errors import (
    FARTHEST,
    InputError,
    NotConverged,
    first_line,
    require,
    require_numbers,
    require_points,
    require_room,
    require_whole,
    strict,
)
from rlctrl.exchange import TrajectoryExchange
from rlctrl.policy import as_policy
from rlctrl.problem import Problem
from rlctrl.result import Filmed
from rlctrl.tree import saved
from rlctrl.undefined import no_input, undefined


@saved
@dataclass(frozen=True, eq=False, repr=False)
class Trajectory(Filmed, TrajectoryExchange):
    """Paths of a batch, time before coordinate.

    `x` (batch, steps+1, n), `u` (batch, steps, m), `r` (batch, steps) reward per step, `w` is not kept. `alive` (batch, steps+1) is False
    from the state in which the problem ended; there x stands still and r is 0. `left` (batch, steps): the step left the box. `ending`
    (batch,): exit value of paths that ended. `t` (steps+1,) in seconds (in steps if the problem has no `dt`). `gamma` per step; `states`
    and `inputs` are the plant's Signals.
    """

    x: np.ndarray
    u: np.ndarray
    r: np.ndarray
    alive: np.ndarray
    left: np.ndarray
    ending: np.ndarray
    t: np.ndarray
    gamma: float
    states: tuple
    inputs: tuple

    @property
    def returns(self) -> np.ndarray:
        """Discounted return (batch,) of each path over its steps, exit value included."""
        length = self.alive.sum(1)  # a path that ends in its k-th step was alive in k states
        powers = self.gamma ** np.arange(self.r.shape[1])
        return self.r @ powers + np.where(self.alive[:, -1], 0.0, self.ending * self.gamma**length)


@dataclass(frozen=True, eq=False)
class Return:
    """Monte-Carlo estimate of a discounted return: `mean`, `ci95` (half width of the 95 % interval), and every path's `samples`."""

    mean: float
    ci95: float
    samples: np.ndarray = field(repr=False)


@functools.partial(jax.jit, static_argnames="steps")
def _rollout(kernel, policy, x0, key, steps):
    def advance(carry, k):
        x, alive = carry
        u = policy.act(x)
        w = kernel.noise.sample(jax.random.fold_in(key, k), (x.shape[0],))
        following, left = kernel.step(x, u, w)
        following = jnp.where(alive[:, None], following, x)
        going = alive & ~kernel.ended(following) if kernel.can_end else alive
        reward = jnp.where(alive, kernel.reward(x, u), 0.0)
        return (following, going), (following, u, reward, going, left & alive)

    start = ~kernel.ended(x0) if kernel.can_end else jnp.ones(x0.shape[0], bool)
    (last, _), paths = jax.lax.scan(advance, (x0, start), jnp.arange(steps))
    return (start, kernel.exit_value(last), *paths)


@strict
def simulate(problem: Problem, policy, x0, steps, seed=0) -> Trajectory:
    """Roll a batch of a `problem` out for `steps` steps from `x0`, (n,) or (batch, n).

    The noise depends on `seed`, the batch size and the step alone: two policies on equal arguments meet the same noise (common random
    numbers). `policy`: a Policy, or a function (batch, n) → (batch, m). Inputs are applied as the policy gives them. Raises
    `InputError` where the policy, or a function of the problem, gives no finite number.
    """
    x0 = initial_states(x0)
    n = problem.plant.n
    require(x0.ndim == 2 and x0.shape[1] == n, "x0", f"must have shape ({n},) or (batch, {n})", x0.shape, "One row per path.")
    require(bool(np.all(np.isfinite(x0))), "x0", "must be finite", x0.tolist(), "Check the initial state.")
    require_points("x0", x0)
    require_whole("steps", steps, 1, "Use e.g. 200.")
    require_room("steps", len(x0) * int(steps) * (n + problem.plant.m), steps)
    require_whole("seed", seed, 0, "Use 0.")
    policy = as_policy(policy, n, problem.plant.m)
    start, ending, *paths = _rollout(problem.kernel, policy, x0, jax.random.key(seed), int(steps))
    following, u, r, going, left = (np.swapaxes(np.asarray(a), 0, 1) for a in paths)
    x = np.concatenate([x0[:, None], following], 1)
    alive = np.concatenate([np.asarray(start)[:, None], going], 1)
    if not all(np.all(np.isfinite(a)) for a in (x, u, r, ending)):
        _refuse_undefined(problem, x[:, :-1], u, alive[:, :-1])
    return Trajectory(
        x=x,
        u=u,
        r=r,
        alive=alive,
        left=left,
        ending=np.asarray(ending),
        t=np.arange(steps + 1) * (problem.dt or 1.0),
        gamma=problem.gamma,
        states=tuple(problem.plant.states),
        inputs=tuple(problem.plant.inputs),
    )


def _refuse_undefined(problem, x, u, alive):
    """Raise `InputError` if the policy, in steps that are `alive`, or one of the problem's functions is no finite number at states (batch,
    steps, n) of the paths."""
    sentence = no_input(x[alive], u[alive]) or undefined(problem, x.reshape(-1, x.shape[-1]), u.reshape(-1, 1, u.shape[-1]))
    if sentence:
        raise InputError(sentence)


@strict
def monte_carlo(problem: Problem, policy, x0, steps=None, paths=1000, seed=0, tail: Callable | None = None) -> Return:
    """Discounted return of a `policy` on a `problem` from `x0` (n,), or averaged over `x0` (batch, n): `paths` paths from each, from
    `seed`.

    `steps=None` takes as many as bring γ^steps below 1e-6 (needs γ < 1). `tail`: a value function (such as ref.V) added as
    γ^steps·tail(x_steps) on paths still alive, so that a short horizon does not bias the comparison. Raises `InputError` for a tail that is
    nan there.
    """
    steps = horizon(problem.gamma, steps)
    require_whole("paths", paths, 1, "Use e.g. 1000.")
    x0 = initial_states(x0)
    path = simulate(problem, policy, np.repeat(x0, paths, axis=0), steps, seed=seed)
    samples = path.returns
    if tail is not None:
        alive, last = path.alive[:, -1], path.x[:, -1]
        far = float(np.max(np.abs(last[alive]), initial=0.0))
        way_out = "The closed loop diverges: pass another policy, take fewer `steps`, or leave `tail` out."
        require(far <= FARTHEST, "policy", f"must keep states within ±{FARTHEST:g} for {steps} steps where there is a tail", far, way_out)
        worth = np.where(alive, _worth(tail, last), 0.0)
        odd = last[np.isnan(worth)][:1].tolist()
        require(not odd, "tail", "must be a number at the last states of the paths", f"nan at x = {odd}", "Pass ref.V, say.")
        samples = samples + problem.gamma**steps * worth
    return Return(float(samples.mean()), half_width(samples, len(x0)), samples)


def _worth(tail, x):
    """The user's tail (batch,) at states x (batch, n)."""
    try:
        found = np.asarray(tail(x), float)
        np.broadcast_to(found, x.shape[:1])
    except (InputError, NotConverged):
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"`tail` must map states (batch, n) to values (batch,); it raised {text}. Pass ref.V, say.") from error
    return found


def horizon(gamma, steps, small=1e-6, least=1) -> int:
    """`steps`, or as many as bring γ^steps below `small`; `least` at the fewest."""
    if steps is None:
        require(gamma < 1, "steps", "must be given when gamma is 1", steps, "Say how long a path may last.")
        steps = max(least, int(np.ceil(np.log(small) / np.log(gamma)))) if gamma > 0 else least
    require_whole("steps", steps, least, "Use e.g. 400.")
    return int(steps)


def initial_states(x0) -> np.ndarray:
    """x0 as (batch, n), or `InputError`."""
    starts = np.atleast_2d(require_numbers("x0", x0, "Pass one row per initial state."))
    require(len(starts) > 0, "x0", "must hold at least one state", starts.shape, "Pass one row per initial state.")
    return starts


def half_width(samples: Any, starts: int = 1) -> float:
    """Half width of the 95 % confidence interval of the mean of `samples`, equally many from each of `starts` fixed initial states, one
    block after another: only the spread within a block is chance (Student's t)."""
    blocks = np.reshape(samples, (starts, -1))
    paths = blocks.shape[1]
    if paths < 2:
        return float("inf")
    error = np.sqrt(np.mean(np.var(blocks, axis=1, ddof=1)) / blocks.size)
    from scipy import special  # slow to import, and not for importing rlctrl

    return float(special.stdtrit(starts * (paths - 1), 0.975) * error)
