"""The actor p^θ (T1): linear, clipped linear, or a network with saturated output; improved through the critic.

By the gradient, θ ascends the mean of Q̂(x, p^θ(x)) over the states of the replay memory (Silver et al. 2014), by Adam. By greedy targets,
p^θ is fitted to argmax_u Q̂(x, u) at those states (searched for within the input box, or uphill
from p^θ(x) where it has none), by Levenberg–Marquardt: with a critic trained in between, policy iteration.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.critic.features import ACTIVATIONS, feature_map
from rlctrl.critic.least_squares import attempt, first_damping
from rlctrl.critic.network import Network
from rlctrl.critic.rules import RuleState, adam, first_state
from rlctrl.errors import nearest, require, require_number, require_points, require_whole, strict
from rlctrl.kinds import Counts, Numbers
from rlctrl.maximise import maximise
from rlctrl.plant import box
from rlctrl.policy import Policy
from rlctrl.tree import record, saved

KINDS = {"linear": "none", "clipped": "clip", "mlp": "tanh"}
IMPROVEMENTS = ("greedy", "gradient")
NEWTON, REACH = 3, 2.0  # steps uphill, and how far, in standard deviations of the exploration
STATES = 2048  # most states that one improvement looks at, from all over the memory


@strict
@saved
@dataclass(frozen=True)
class Actor:
    """A policy to be learned beside the critic.

    `kind`: "linear" (u = −Kx + k), "clipped" (the same, clipped to the input box) or "mlp" (`hidden` units of `activation`, one network per
    input, its output saturated by tanh to the box, by softplus to a single bound). `gain`: the first K (m, n) of a linear kind (default
    0); a clipped one begins within its box at the centre of the states. `improve`: "greedy" or "gradient". `rate` of Adam, for the
    latter. `every`: critic updates between two improvements (default: `renew` of the scheme, or its `restart`). `iterations` of one
    improvement. Raises `InputError` for values outside these meanings.
    """

    kind: str = "mlp"
    hidden: Counts = 32
    activation: str = "tanh"
    gain: Numbers | None = None
    improve: str = "greedy"
    rate: float = 1e-2
    every: int | None = None
    iterations: int = 20

    def __post_init__(self):
        require(self.kind in KINDS, "kind", f"must be one of {tuple(KINDS)}", self.kind, nearest(self.kind, KINDS))
        known = isinstance(self.activation, str) and self.activation in ACTIVATIONS
        require(known, "activation", f"must be one of {tuple(ACTIVATIONS)}", self.activation, nearest(self.activation, ACTIVATIONS))
        require(
            self.improve in IMPROVEMENTS, "improve", f"must be one of {IMPROVEMENTS}", self.improve, nearest(self.improve, IMPROVEMENTS)
        )
        require_number("rate", self.rate, "must be a positive number", "Use 0.01.", low=1e-300)
        for name in ("iterations",) if self.every is None else ("iterations", "every"):
            require_whole(name, getattr(self, name), 1, "Leave it out to use the default.")
        layers = (self.hidden,) if np.ndim(self.hidden) == 0 else tuple(self.hidden)
        for units in layers:
            require_whole("hidden", units, 1, "Use e.g. 32 units.")
        object.__setattr__(self, "hidden", tuple(int(h) for h in layers))
        require(self.gain is None or self.kind != "mlp", "gain", "is for linear kinds", self.gain, 'Use kind="clipped".')
        if self.gain is not None:
            gain = np.atleast_2d(require_points("gain", self.gain))
            require(gain.ndim == 2, "gain", "must have shape (m, n)", gain.shape, "Pass K of u = −Kx.")
            object.__setattr__(self, "gain", tuple(map(tuple, gain.tolist())))

    def policy(self, plant, key) -> "ActorPolicy":
        """The policy before training."""
        low, high = box(plant.inputs)
        finite = [s.label for s in plant.inputs if s.values]
        require(not finite, "policy", "by an Actor needs continuous inputs", finite, "Use run.greedy as the policy of finite inputs.")
        linear = self.kind != "mlp"
        features = feature_map("affine" if linear else "sincos", 1, plant.states)
        network = Network(features, () if linear else self.hidden, self.activation)
        theta = self._linear(features, plant) if linear else 0.1 * _initial(network, plant.m, key)
        return ActorPolicy(network, theta, low, high, KINDS[self.kind])

    def _linear(self, features, plant):
        gain = np.zeros((plant.m, plant.n)) if self.gain is None else np.array(self.gain)
        require(gain.shape == (plant.m, plant.n), "gain", f"must have shape ({plant.m}, {plant.n})", gain.shape, "Pass K of u = −Kx.")
        centre = -gain @ features.centre
        return np.column_stack([np.clip(centre, *box(plant.inputs)) if self.kind == "clipped" else centre, -gain * features.scale])


def _initial(network, m, key):
    return jnp.stack([network.initial(k, 1.0) for k in jax.random.split(key, m)])


@record(arrays=("network", "theta", "low", "high"), static=("saturation",))
@dataclass(frozen=True, eq=False)
class ActorPolicy(Policy):
    """p^θ: one network per input with weights `theta` (m, p), its output saturated: "none", "clip", or "tanh" (between two bounds; beside a
    single one by softplus)."""

    network: Network
    theta: Any
    low: Any
    high: Any
    saturation: str

    @property
    def n(self):
        return self.network.features.width

    def act(self, x):
        """(..., n) → (..., m)."""
        return jnp.stack([self.saturated(self.network.value(weights, x), j) for j, weights in enumerate(jnp.asarray(self.theta))], -1)

    def saturated(self, v, j):
        """Input j of a network output v (...)."""
        if self.saturation == "none":
            return v
        low, high = jnp.asarray(self.low)[j], jnp.asarray(self.high)[j]
        if self.saturation == "clip":
            return jnp.clip(v, low, high)
        below, above = jnp.isfinite(low), jnp.isfinite(high)
        least, most = jnp.where(below, low, 0.0), jnp.where(above, high, 0.0)
        squeezed = 0.5 * (least + most) + 0.5 * (most - least) * jnp.tanh(v)
        single = jnp.where(below, least + jax.nn.softplus(v), jnp.where(above, most - jax.nn.softplus(-v), v))
        return jnp.where(below & above, squeezed, single)

    def slope(self, v, j):
        """Derivative of `saturated` by v."""
        if self.saturation == "none":
            return jnp.ones_like(v)
        low, high = jnp.asarray(self.low)[j], jnp.asarray(self.high)[j]
        if self.saturation == "clip":  # 1 on the bound: what begins there can leave it
            return jnp.where((v >= low) & (v <= high), 1.0, 0.0)
        below, above = jnp.isfinite(low), jnp.isfinite(high)
        single = jnp.where(below, jax.nn.sigmoid(v), jnp.where(above, jax.nn.sigmoid(-v), 1.0))
        return jnp.where(below & above, 0.5 * (high - low) * (1 - jnp.tanh(v) ** 2), single)

    def at(self, theta) -> "ActorPolicy":
        """The same policy with other weights."""
        return ActorPolicy(self.network, theta, self.low, self.high, self.saturation)


class ActorState(NamedTuple):
    """θ (m, p) and the moments of Adam."""

    theta: Any
    rule: RuleState


def first_actor_state(policy) -> ActorState:
    """Before the first improvement."""
    return ActorState(jnp.asarray(policy.theta), first_state("adam", np.size(policy.theta)))


def improved(actor, policy, q, x, weight, inputs, deviation, state: ActorState) -> ActorState:
    """θ after one improvement through Q̂ at states x (N, n), weighted (N,); greedy targets are searched in `inputs` or, without them, within
    REACH times `deviation` (m,), that of the exploration, of p^θ(x)."""
    seen = np.linspace(0, len(x) - 1, min(len(x), STATES)).astype(int)
    x, weight = x[seen], weight[seen]
    if actor.improve == "gradient":
        return _ascended(actor, policy, q, x, weight, state)
    search = lambda: maximise(lambda u: q.at(x[:, None, :], u), inputs)[0]
    best = search() if inputs is not None else _newton(policy.at(state.theta), q, x, REACH * deviation)
    return state._replace(theta=_fitted(actor, policy, x, weight, best, state.theta))


def _newton(policy, q, x, reach):
    """A few Newton steps uphill from p^θ(x), no further than the data explore: exact where Q̂ is quadratic in u."""

    def climb(x, start):
        value = lambda u: q.at(x, u)

        def step(_, u):
            size, axes = jnp.linalg.eigh(jax.hessian(value)(u))
            move = axes @ ((axes.T @ jax.grad(value)(u)) / jnp.maximum(jnp.abs(size), 1e-12))
            trial = jnp.clip(start + jnp.clip(u + move - start, -reach, reach), policy.low, policy.high)
            return jnp.where(value(trial) > value(u), trial, u)

        return jax.lax.fori_loop(0, NEWTON, step, start)

    return jax.vmap(climb)(x, jnp.clip(policy.act(x), policy.low, policy.high))


def _ascended(actor, policy, q, x, weight, state):
    loss = lambda theta: -jnp.sum(weight * q.at(x, policy.at(theta).act(x))) / jnp.sum(weight)

    def step(_, carry):
        theta, rule = carry
        move, rule = adam(jax.grad(loss)(theta).ravel(), rule)
        return theta - actor.rate * move.reshape(theta.shape), rule

    return ActorState(*jax.lax.fori_loop(0, actor.iterations, step, (state.theta, state.rule)))


def _fitted(actor, policy, x, weight, best, theta):
    """Least squares of p^θ(x) − best, each input by itself since each has its own network."""
    root, widths = jnp.sqrt(weight), jnp.asarray(policy.high) - jnp.asarray(policy.low)

    def one_input(theta, best, j):
        size = jnp.where(jnp.isfinite(widths[j]), widths[j], 1.0)
        output = lambda weights: policy.saturated(policy.network.value(weights, x), j)
        residual = lambda weights: root * (output(weights) - best) / size

        def step(_, carry):
            weights, damping = carry
            slope = policy.slope(policy.network.value(weights, x), j) * root / size
            J, e = slope[:, None] * policy.network.gradient(weights, x), residual(weights)
            tried = attempt(weights, J.T @ J, J.T @ e, e @ e, lambda trial: jnp.sum(residual(trial) ** 2), damping)
            return jnp.where(tried.better, tried.omega, weights), tried.damping

        return jax.lax.fori_loop(0, actor.iterations, step, (theta, first_damping()))[0]

    return jax.lax.map(lambda args: one_input(*args), (jnp.asarray(theta), best.T, jnp.arange(len(theta))))
