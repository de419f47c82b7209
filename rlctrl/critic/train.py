"""(T14) ω_{k+1} = ω_k − λ ∇J_c(ω_k | R_k), one update per plant step, R_k the last M transitions.

The plant runs under u = p^θ(x) + exploration; the successor's input is u_+ = p^θ(x_+) (T6). The state is drawn anew from the box every
`restart` steps and whenever the problem ends. Everything is one compiled loop on an explicit state.
"""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.critic.network import Critic, CriticQ, Network
from rlctrl.critic.td import Transitions, replay_gradient
from rlctrl.errors import NotConverged, require, require_number, require_whole, strict
from rlctrl.maximise import input_set
from rlctrl.plant import box
from rlctrl.policy import GreedyPolicy, as_policy
from rlctrl.progress import Progress
from rlctrl.result import Result
from rlctrl.tree import record, saved


@strict
@saved
@dataclass(frozen=True)
class ReplayTD:
    """The notes' scheme, T13–T14 on the last `memory` = M transitions.

    `rate` λ (default 4/M, which maximises c = λε(2 − λM/4) in T18; λ < 8/M is required by the theory). `exploration`: standard deviation
    added to the input, as a fraction of half its box (an absolute figure for unbounded inputs); a finite input is replaced by a random
    value with this probability. `restart`: steps after which the state is drawn anew, uniformly from the box. `snapshots`: how many times
    along the run ω_k, ω_{k+1} and R_k are kept for the analysis. Raises `InputError` for values outside these meanings.
    """

    memory: int = 256
    rate: float | None = None
    exploration: float = 0.2
    restart: int = 50
    snapshots: int = 50

    def __post_init__(self):
        for name in ("memory", "restart", "snapshots"):
            require_whole(name, getattr(self, name), 1, f"The default is {ReplayTD.__dataclass_fields__[name].default}.")
        rate: Any = 4.0 / self.memory if self.rate is None else self.rate
        limit = f"The theory asks for less than 8/memory = {8 / self.memory:.4g}."
        require_number("rate", rate, "must be a positive number", limit, low=1e-300)
        object.__setattr__(self, "rate", float(rate))
        require_number("exploration", self.exploration, "must be a number ≥ 0", "Use 0 for none.", low=0.0)


@record(arrays=("z", "z_next", "t"))
@dataclass(frozen=True, eq=False)
class Memory:
    """R_k: z and z_+ (M, n+m) beside the transitions in features; a ring, so the order of rows is not that of time."""

    z: Any
    z_next: Any
    t: Transitions


@saved
@dataclass(frozen=True, eq=False)
class Snapshots:
    """Along the run, leading axis K: step, ω_k, ω_{k+1}, R_k, root-mean-square TD error on R_k and since the last snapshot."""

    step: np.ndarray
    omega: np.ndarray
    omega_next: np.ndarray
    memory: Memory
    td_rms: np.ndarray
    td_rms_mean: np.ndarray


@dataclass(frozen=True, eq=False)
class Training(Result):
    """A trained critic: `Q(x, u)`, `greedy` (argmax over the input box), final `weights` (p,), and `snapshots` of the way there.

    `problem`, `critic`, `scheme`, `policy`, `steps` and `seed` are what `train` was called with; `network` is T5 without its weights.
    """

    problem: Any
    critic: Critic
    scheme: ReplayTD
    policy: Any
    network: Network
    weights: np.ndarray
    snapshots: Snapshots
    steps: int
    seed: int

    @functools.cached_property
    def q(self) -> CriticQ:
        """Q̂ as a JAX pytree with `at(x, u)`."""
        return CriticQ(self.network, self.weights)

    def Q(self, x, u) -> np.ndarray:
        """Q̂^ω(x, u), shape (...), at x (..., n), u (..., m)."""
        return np.asarray(_q(self.q, *self.problem.arrays(x, u)))

    @functools.cached_property
    def greedy(self) -> GreedyPolicy:
        """argmax_u Q̂^ω(x, u) over the input box, continuous."""
        return GreedyPolicy(self.q, input_set(self.problem.plant.inputs, 21))


@jax.jit
def _q(q, x, u):
    return q.at(x, u)


@record(arrays=("kernel", "policy", "network", "low", "high", "u_low", "u_high", "rate", "exploration"), static=("restart", "finite"))
@dataclass(frozen=True, eq=False)
class _Loop:
    """Everything a step of the run needs besides its state."""

    kernel: Any
    policy: Any
    network: Network
    low: Any
    high: Any
    u_low: Any
    u_high: Any
    rate: Any
    exploration: Any
    restart: int
    finite: tuple

    def draw_state(self, key):
        return jax.random.uniform(key, self.low.shape, minval=self.low, maxval=self.high)

    def explore(self, key, u):
        """p^θ(x) plus noise on continuous inputs, a random value now and then on finite ones; inside the input box."""
        noise_key, pick_key = jax.random.split(key)
        half = jnp.where(jnp.isfinite(self.u_high - self.u_low), 0.5 * (self.u_high - self.u_low), 1.0)
        out = jnp.clip(u + self.exploration * half * jax.random.normal(noise_key, u.shape), self.u_low, self.u_high)
        for j, values in enumerate(self.finite):
            if values:
                coin, which = jax.random.uniform(jax.random.fold_in(pick_key, j), (2,))
                pick = jnp.asarray(values)[(which * len(values)).astype(int)]
                out = out.at[j].set(jnp.where(coin < self.exploration, pick, u[j]))
        return out

    def transition(self, x, key):
        """One plant step from x: (z, z_+, transition, x_+, whether the problem ended)."""
        explore_key, noise_key = jax.random.split(key)
        u = self.explore(explore_key, self.policy.act(x))
        x_next, _ = self.kernel.step(x, u, self.kernel.noise.sample(noise_key))
        z, z_next = jnp.concatenate([x, u]), jnp.concatenate([x_next, self.policy.act(x_next)])
        end = self.kernel.ended(x_next)
        r = self.kernel.reward(x, u) + jnp.where(end, self.kernel.gamma * self.kernel.exit_value(x_next), 0.0)
        features = self.network.features
        row = Transitions(features(z), features(z_next), r, jnp.where(end, 0.0, self.kernel.gamma), 1.0)
        return z, z_next, row, x_next, end

    def step(self, state, _):
        """Plant step, ring buffer, T14."""
        omega, memory, x, k, key = state
        key, move_key, restart_key = jax.random.split(key, 3)
        z, z_next, row, x_next, end = self.transition(x, move_key)
        slot = k % memory.z.shape[0]
        t = Transitions(*(a.at[slot].set(b) for a, b in zip(memory.t, row, strict=True)))
        memory = Memory(memory.z.at[slot].set(z), memory.z_next.at[slot].set(z_next), t)
        gradient, e = replay_gradient(self.network, omega, t)
        rms = jnp.sqrt(jnp.sum(t.weight * e**2) / jnp.sum(t.weight))
        fresh = end | ((k + 1) % self.restart == 0)
        x = jnp.where(fresh, self.draw_state(restart_key), x_next)
        return (omega - self.rate * gradient, memory, x, k + 1, key), rms


@functools.partial(jax.jit, static_argnames="count")
def _advance(loop, state, count):
    """`count` steps; of the last one, also ω before it."""
    state, rms = jax.lax.scan(loop.step, state, length=count - 1)
    before = state[0]
    state, last = loop.step(state, None)
    return state, before, last, jnp.mean(jnp.append(rms, last))


@strict
def train(problem, critic, policy, scheme=None, *, steps=20_000, seed=0, progress=False) -> Training:
    """Train a `critic` on a `problem` for a `policy` p^θ by a `scheme` (default `ReplayTD()`), one update per plant step.

    The result holds the weights after `steps` updates; equal arguments (`seed` too) give equal bits. `progress` shows a bar. Raises
    `NotConverged` as soon as the weights are no longer finite, and `InputError` when restarts have no finite box to draw from.
    """
    scheme = ReplayTD() if scheme is None else scheme
    require(isinstance(critic, Critic), "critic", "must be an rc.Critic", critic, "Use rc.Critic(hidden=32).")
    require(isinstance(scheme, ReplayTD), "scheme", "must be an rc.ReplayTD", scheme, "Use rc.ReplayTD().")
    require_whole("steps", steps, 2, "Use e.g. 20_000.")
    require_whole("seed", seed, 0, "Use 0.")
    low, high = box(problem.plant.states)
    bounded = bool(np.all(np.isfinite(high - low)))
    require(bounded, "states", "must be bounded to draw restarts from", (low.tolist(), high.tolist()), "Give the states low and high.")
    policy = as_policy(policy, problem)
    network = critic.network(problem.plant)
    u_low, u_high = box(problem.plant.inputs)
    finite = tuple(s.values for s in problem.plant.inputs)
    loop = _Loop(problem.kernel, policy, network, low, high, u_low, u_high, scheme.rate, scheme.exploration, scheme.restart, finite)
    weights_key, start_key, run_key = jax.random.split(jax.random.key(seed), 3)
    state = (network.initial(weights_key, critic.scale), _empty(network, problem, scheme.memory), loop.draw_state(start_key), 0, run_key)
    rows = []
    with Progress("ReplayTD", progress) as bar:
        for end, count in _intervals(steps, scheme.snapshots):
            state, before, last, mean = _advance(loop, state, count)
            rows.append((end - 1, before, state[0], state[1], last, mean))
            finite_weights = bool(jnp.all(jnp.isfinite(state[0])))
            bar.to(end / steps, f"TD error {float(last):.2e}")
            if not finite_weights:
                raise NotConverged(_divergence(scheme, end))
    snapshots = Snapshots(*jax.tree.map(lambda *a: np.stack([np.asarray(v) for v in a]), *rows))
    return Training(problem, critic, scheme, policy, network, np.asarray(state[0]), snapshots, int(steps), seed)


def _divergence(scheme, step):
    limit = 8 / scheme.memory
    reason = (
        f"exceeds 8/M = {limit:.4g}, the limit of T18"
        if scheme.rate >= limit
        else f"is below 8/M = {limit:.4g}, so the cubic term of T18 won"
    )
    found = f"Training diverged before step {step}: the weights are not finite; λ = {scheme.rate:.4g} {reason}."
    return f"{found} Lower `rate` or scale the reward down."


def _empty(network, problem, size):
    n, m, width = problem.plant.n, problem.plant.m, network.features.size
    zeros = jnp.zeros(size)
    t = Transitions(jnp.zeros((size, width)), jnp.zeros((size, width)), zeros, zeros, zeros)
    return Memory(jnp.zeros((size, n + m)), jnp.zeros((size, n + m)), t)


def _intervals(steps, snapshots):
    """(step reached, steps taken) for about equally long intervals; of at most two lengths, so that little is compiled."""
    count = max(2, -(-steps // snapshots))
    ends = list(range(count, steps + 1, count))
    if not ends or ends[-1] < steps:
        ends.append(steps)
    return [(end, end - start) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
