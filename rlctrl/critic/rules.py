"""Update rules on the same transitions: ω → ω' by the gradient (T14), by momentum or Adam on that gradient, or by Gauss–Newton.

The notes expand e ≈ dᵀω̃ (T12); the linearised least squares that this suggests is the Gauss–Newton step −(Σ c v dᵀ + μI)⁻¹ Σ c v e with
v the data vector of the objective and c the normaliser, damped as in `least_squares`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rlctrl.critic.least_squares import Damping, attempt, calmed, first_damping
from rlctrl.critic.td import data_vector, held_target, normaliser, replay_gradient, td_error

UPDATES = ("gradient", "momentum", "adam", "gauss-newton")
BLOCK = 2048  # rows of v at once
MOMENTUM, SECOND, TINY = 0.9, 0.999, 1e-8  # Kingma & Ba (2015)
WORSE = 2.0  # factor by which Σ c e² is above what the last update left if the problem is another one


class RuleState(NamedTuple):
    """First and second moments of the gradient (p,), the count of updates, and of Gauss–Newton the damping and the Σ c e² that the last
    update left; what a rule does not need stays as it is."""

    first: Any
    second: Any
    count: Any
    damping: Damping
    cost_left: Any


class Update(NamedTuple):
    """New weights and state, TD errors (M,) before the update, whether the step was accepted."""

    omega: Any
    state: RuleState
    e: Any
    accepted: Any


def first_state(rule, size) -> RuleState:
    """The state before the first update."""
    moments = jnp.zeros(size if rule in ("momentum", "adam") else 0)
    return RuleState(moments, moments, jnp.asarray(0), first_damping(), jnp.asarray(jnp.finfo(float).max))


def update(rule, network, objective, rate, omega, target, t, state) -> Update:
    """One update of the weights on transitions `t`; `target`: the weights held in the successors' values (None: ω itself)."""
    if rule == "gauss-newton":
        return _gauss_newton(network, objective, rate, omega, target, t, state)
    gradient, e = replay_gradient(network, omega, t, objective, target)
    count = state.count + 1
    if rule == "momentum":
        first = MOMENTUM * state.first + gradient
        return Update(omega - rate * first, state._replace(first=first, count=count), e, True)
    if rule == "adam":
        step, state = adam(gradient, state)
        return Update(omega - rate * step, state, e, True)
    return Update(omega - rate * gradient, state._replace(count=count), e, True)


def adam(gradient, state: RuleState):
    """Direction of Adam and the state after it."""
    first = MOMENTUM * state.first + (1 - MOMENTUM) * gradient
    second = SECOND * state.second + (1 - SECOND) * gradient**2
    count = state.count + 1
    step = first / (1 - MOMENTUM**count) / (jnp.sqrt(second / (1 - SECOND**count)) + TINY)
    return step, state._replace(first=first, second=second, count=count)


def _gauss_newton(network, objective, rate, omega, target, t, state):
    """One damped step on Σ c e², the normaliser c and the target held at ω; kept only if it lowers that sum. The very first moves the
    output layer alone, in which e is linear: so the weights get to the scale of the rewards. Where that sum has grown since the last update
    (new data, another p^θ), the damping left by refusals where nothing was to be gained would freeze the weights."""
    held = omega if target is None else target
    error = _held_error(network, held, t) if objective.semi else lambda trial: td_error(network, trial, t)
    e = error(omega)
    H, slope, mass = normal_equations(network, objective, omega, t, e)
    cost = lambda trial: jnp.sum(mass * error(trial) ** 2)
    moves = (state.count > 0) | (jnp.arange(len(omega)) < network.shapes[0][0])
    H, slope = jnp.where(moves[:, None] & moves, H, 0.0), jnp.where(moves, slope, 0.0)
    loss = jnp.sum(mass * e**2)
    tried = attempt(omega, H, slope, loss, cost, calmed(state.damping, loss > WORSE * state.cost_left))
    moved = jnp.where(tried.better, omega + rate * (tried.omega - omega), omega)
    cost_left = loss - jnp.where(tried.better, rate * (2 - rate) * tried.gained, 0.0)  # of a parabola along the step
    return Update(moved, state._replace(count=state.count + 1, damping=tried.damping, cost_left=cost_left), e, tried.better)


def normal_equations(network, objective, omega, t, e):
    """Σ c v vᵀ (p, p), Σ c v e (p,) and the normaliser c (M,), a block of rows at a time: v (M, p) would not stay in the cache."""
    count, block = len(e), min(BLOCK, len(e))
    cut = lambda a: jnp.pad(a, [(0, -count % block)] + [(0, 0)] * (a.ndim - 1)).reshape(-1, block, *a.shape[1:])

    def add(sums, rows):
        v = data_vector(network, omega, rows[0], objective)
        mass = normaliser(v, rows[0], objective)
        root = jnp.sqrt(mass)
        v = root[:, None] * v
        return (sums[0] + v.T @ v, sums[1] + (root * rows[1]) @ v), mass

    zeros = jnp.zeros((len(omega), len(omega))), jnp.zeros(len(omega))
    (H, slope), mass = jax.lax.scan(add, zeros, jax.tree.map(cut, (t, e)))
    return H, slope, mass.reshape(-1)[:count]


def _held_error(network, target, t):
    """e at other weights ω (M,), the successors' values held at `target`."""
    goal = jnp.sum(t.share * held_target(network, target, t), -1)
    return lambda omega: network.layers(omega, t.phi[:, 0])[0] - goal
