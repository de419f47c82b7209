"""What is checked of a closed form V, π before `Exact` believes it, at points of the box. Gaps are rows (N,) of what should be 0.

The Bellman or HJB equation alone has many solutions: values of no problem with the same end, of unstable roots of a Riccati equation, or at
γ = 1 the right one plus a constant. So V is also compared with the exit value where the problem ends and, for HJB, where the closed loop
crosses into the end, and with the exit rule at the walls (`boundary_gaps`); and what is left of it along closed-loop paths has to vanish,
γ^k V(x_k) → 0 (`left_over`), which verifies that V is the value of π (Fleming & Soner 2006, §III.9) unless the state space is bounded and
γ < 1.
"""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rlctrl.maximise import InputSet, finite_values, maximise
from rlctrl.plant import box, finite_box

CANDIDATES, MOST = 300, 21  # inputs compared with the policy's at every point, about; at most so many along one input
PATHS, FIRST, DOUBLINGS = 64, 256, 7  # closed-loop paths, their first steps, how often these are doubled
FALLS, SMALL = 0.9, 0.01  # factor by which what is left falls per doubling at least, unless it is below that part of the range of V
HALVINGS, NUDGE = 40, 1e-6  # of the step that crosses into the end; part of dt in which the closed loop has to go on across


def around(signals) -> InputSet:
    """Inputs to compare a policy's with: all values of finite ones, offsets over the width of others (2 where one has no bounds)."""
    low, high = finite_box(signals)
    count = min(MOST, max(3, int(CANDIDATES ** (1 / len(signals))))) // 2 * 2 + 1
    offsets = np.linspace(-1, 1, count)
    axes = [np.array(s.values) if s.values else offsets * (b - a) for s, a, b in zip(signals, low, high, strict=True)]
    steps = [0.0 if s.values else (b - a) * (offsets[1] - offsets[0]) for s, a, b in zip(signals, low, high, strict=True)]
    return InputSet(np.array(list(itertools.product(*axes))), np.array(steps), *box(signals), finite_values(signals))


def _best(q, inputs, u):
    """The largest q(u) found from the policy's inputs u (N, m) and those `around` them."""
    start = jnp.where(inputs.step > 0, jnp.clip(u[:, None] + inputs.candidates, inputs.low, inputs.high), inputs.candidates)
    return maximise(q, inputs, start)[1]


@jax.jit
def bellman_gaps(q, value, inputs, x, u):
    """Q(x, π(x)) − V(x), or max_u Q(x, u) − V(x) where that is larger; exit value less V where the problem has ended."""
    v = value.at(x)
    gap, better = q.at(x, u) - v, _best(lambda u: q.at(x[:, None], u), inputs, u) - v
    gap = jnp.where(jnp.abs(better) > jnp.abs(gap), better, gap)
    return jnp.where(q.kernel.ended(x), q.kernel.exit_value(x) - v, gap) if q.kernel.can_end else gap


@jax.jit
def hjb_gaps(generator, kernel, value, inputs, x, u):
    """ℓ + ∇V·b + ½ tr(σσᵀ∇²V) − ρV under the policy, or with better inputs; exit value less V where the problem has ended."""
    slope, bend = jax.vmap(jax.grad(value.at))(x), jax.vmap(jax.hessian(value.at))(x)

    def hamiltonian(x, u, slope, bend):
        flow = jnp.sum(slope * generator.drift(x, u), -1)
        return generator.reward_rate(x, u) + flow + 0.5 * jnp.sum(generator.covariance(x, u) * bend, (-2, -1))

    v, under = value.at(x), hamiltonian(x, u, slope, bend)
    best = _best(lambda u: hamiltonian(x[:, None], u, slope[:, None], bend[:, None]), inputs, u)
    gap = jnp.where(best - generator.rho * v > jnp.abs(under - generator.rho * v), best, under) - generator.rho * v
    return jnp.where(kernel.ended(x), kernel.exit_value(x) - v, gap) if kernel.can_end else gap


def boundary_gaps(problem, value, policy, x):
    """Points and gaps where the HJB equation comes with a condition: at the walls of the box, and where the closed loop ends."""
    parts = [_crossing_gaps(problem, value, policy, x)] if problem.kernel.can_end else []
    for k, (low, high) in enumerate(zip(*box(problem.plant.states), strict=True)):
        walls = [np.where(np.arange(x.shape[1]) == k, wall, x) for wall in (low, high) if np.isfinite(wall)]
        if problem.kernel.periodic[k]:
            parts.append(_turning_gaps(value, k, *walls))
        elif problem.exit != "free":
            parts += [_wall_gaps(problem, value, policy, wall, k, side) for side, wall in zip((-1, 1), walls, strict=True)]
    return [np.concatenate(part) for part in zip(*parts, strict=True)] if parts else (x[:0], np.zeros(0))


def _turning_gaps(value, k, low, high):
    """By how much V and its slope differ between points at the ends of an axis that turns."""
    slopes, jump = (_slope(value, wall)[:, k] for wall in (low, high)), value.at(low) - value.at(high)
    return low, np.asarray(jnp.abs(jump) + jnp.abs(jnp.subtract(*slopes)) * (high - low)[:, k])


def _wall_gaps(problem, value, policy, x, k, side):
    """At points of the wall of axis k on that side: the flow of V out of the box where it reflects; what leaving gains where it absorbs."""
    generator = problem.generator
    if problem.exit == "absorb":
        out = [_flow(generator, x, u + 0 * policy(x), k, side) > 0 for u in around(problem.plant.inputs).candidates]
        return x, np.where(np.any(out, 0), np.maximum(problem.kernel.exit_value(x) - value.at(x), 0.0), 0.0)
    return x, np.asarray(_slope(value, x))[:, k] * _flow(generator, x, policy(x), k, side)


def _flow(generator, x, u, k, side):
    """Rate (N,) at which drift and noise cross the wall of axis k on that side."""
    drift, noise = side * np.asarray(generator.drift(x, u))[:, k], np.asarray(generator.covariance(x, u))[:, k, k]
    return np.maximum(drift, 0.0) + noise


@jax.jit
def _slope(value, x):
    return jax.vmap(jax.grad(value.at))(x)


def _crossing_gaps(problem, value, policy, x):
    """Exit value less V at the points where paths of the closed loop cross into the end, and the closed loop itself does."""
    _, _, before, after = _paths(problem.kernel, policy, problem.plant.law, x, FIRST)
    found = np.asarray(problem.kernel.ended(after)) & ~np.asarray(problem.kernel.ended(before))
    inside, way = np.asarray(before)[found], np.asarray(after - before)[found]
    part = np.zeros((len(inside), 1))
    for step in 0.5 ** np.arange(1, HALVINGS + 1):
        part += step * ~np.asarray(problem.kernel.ended(inside + (part + step) * way))[:, None]
    place = inside + part * way
    place = place[_goes_on(problem, place, policy(place))]
    return place, np.asarray(problem.kernel.exit_value(place) - value.at(place))


def _goes_on(problem, x, u):
    """Whether drift or noise leads from x (N, n), next to the end, into it."""
    time = NUDGE * problem.dt
    noise = np.sqrt(time) * np.asarray(problem.generator.diffusion(x, u))
    moves = [time * np.asarray(problem.generator.drift(x, u)), *np.moveaxis(noise, -1, 0), *np.moveaxis(-noise, -1, 0)]
    return np.any([problem.kernel.ended(x + move) for move in moves], 0)


@partial(jax.jit, static_argnames="steps")
def _paths(kernel, policy, law, x, steps):
    """(x_k, whether it has ended) after so many steps of the closed loop, and the last step that moved, (from, to)."""

    def step(k, carry):
        x, over, before, after = carry
        w = law.sample(jax.random.fold_in(jax.random.key(steps), k), (len(x),))
        ahead = kernel.step(x, policy.act(x), w)[0]
        over, old = over | (kernel.ended(ahead) if kernel.can_end else False), over
        before, after = (jnp.where(old[:, None], a, b) for a, b in ((before, x), (after, ahead)))
        return jnp.where(over[:, None], x, ahead), over, before, after

    over = kernel.ended(x) if kernel.can_end else jnp.zeros(len(x), bool)
    return lax.fori_loop(0, steps, step, (x, over, x, x))


def left_over(problem, value, policy, x, scale, negligible):
    """Steps k of closed-loop paths from the points x, largest γ^k|V(x_k)| left there where they have not ended, and whether it vanishes:
    it falls, or is small beside `scale`. (0, 0.0, True) where γ < 1 and bounded states decide."""
    if problem.gamma < 1 and problem.exit != "free" and np.all(np.isfinite(box(problem.plant.states))):
        return 0, 0.0, True
    x, over, steps, left = jnp.asarray(x[:PATHS]), False, 0, [np.inf]
    for size in FIRST * 2 ** np.arange(DOUBLINGS):
        x, ended, _, _ = _paths(problem.kernel, policy, problem.plant.law, x, int(size))
        over, steps = over | ended, steps + int(size)
        rest = np.asarray(jnp.where(over, 0.0, problem.gamma**steps * jnp.abs(value.at(x))))
        left.append(float(np.max(np.nan_to_num(rest, nan=np.inf))))
        if not left[-1] > negligible:
            break
    return steps, left[-1], bool(np.isfinite(left[-1]) and left[-1] <= max(FALLS * left[-2], SMALL * scale))
