"""The training loop as one compiled scan on an explicit state: data, choice of rows, update of the critic, improvement of the actor."""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rlctrl.critic.actor import ActorState, improved
from rlctrl.critic.data import Source
from rlctrl.critic.least_squares import calmed
from rlctrl.critic.network import CriticQ, Network
from rlctrl.critic.rules import RuleState, update
from rlctrl.critic.td import Objective, Transitions
from rlctrl.tree import record

ROWS = 4096  # transitions followed at once: enough to be fast, few enough for the cache
PRIORITY, FLOOR = 0.6, 1e-6  # exponent of |e|, and what is added to it


@record(arrays=("z", "path", "t"))
@dataclass(frozen=True, eq=False)
class Memory:
    """R_k: z (M, n+m) and the way from it to each successor, `path` (M, K, horizon, n+m), beside the transitions in features; a ring,
    so the order of rows is not that of time."""

    z: Any
    path: Any
    t: Transitions

    @property
    def z_next(self):
        """The successors z_k, (..., M, K, n+m)."""
        return self.path[..., -1, :]


class State(NamedTuple):
    """Everything a run carries on: ω, the held target weights, the rule's and the actor's state, replay memory and priorities (M,), the
    plants' states (P, n), λ, the random key; of the last step ω before it, the rows chosen and their importance, the root-mean-square TD
    error and whether the update was accepted; the step at which something ceased to be finite (−1: never), and whether that was θ."""

    omega: Any
    target: Any
    rule: RuleState
    actor: ActorState | None
    memory: Memory
    priority: Any
    x: Any
    rate: Any
    key: Any
    before: Any
    index: Any
    importance: Any
    td_rms: Any
    accepted: Any
    failed: Any
    actor_failed: Any


class Plan(NamedTuple):
    """What decides the shape of the computation."""

    update: str
    objective: Objective
    refresh: int
    batch: int | None
    prioritised: bool
    renew: int | None
    every: int


@record(arrays=("source", "policy", "network", "inputs"), static=("actor", "plan"))
@dataclass(frozen=True, eq=False)
class Loop:
    """Everything a step needs besides its state. `policy`: p^θ, with the first θ if there is an `actor`; `inputs`: what greedy targets are
    searched in."""

    source: Source
    policy: Any
    network: Network
    inputs: Any
    actor: Any
    plan: Plan

    def step(self, state: State, k):
        """Data, T14 or another rule, the actor; nothing is taken over once weights or squared errors are not finite."""
        key, move_key, choice_key = jax.random.split(state.key, 3)
        policy = self.policy if state.actor is None else self.policy.at(state.actor.theta)
        memory, x, priority = self._gather(policy, state, k, move_key)
        index, importance, t = self._choose(memory, priority, choice_key)
        target = jnp.where(k % self.plan.refresh == 0, state.omega, state.target)
        held = target if self.plan.objective.semi and self.plan.refresh > 1 else None
        rule = self._rule(state, k)
        done = update(self.plan.update, self.network, self.plan.objective, state.rate, state.omega, held, t, rule)
        actor = self._improve(state.actor, done.omega, memory, k)
        td_rms = jnp.sqrt(jnp.sum(t.weight * done.e**2) / jnp.sum(t.weight))
        critic_sound = _finite((done.omega, td_rms))
        sound = (state.failed < 0) & critic_sound & _finite(actor)
        omega, actor = jax.tree.map(lambda new, old: jnp.where(sound, new, old), (done.omega, actor), (state.omega, state.actor))
        if self.plan.prioritised:
            priority = priority.at[index].set(jnp.abs(done.e) + FLOOR)
        return State(
            omega=omega,
            target=target,
            rule=done.state,
            actor=actor,
            memory=memory,
            priority=priority,
            x=x,
            rate=state.rate,
            key=key,
            before=state.omega,
            index=index,
            importance=importance,
            td_rms=td_rms,
            accepted=jnp.asarray(done.accepted),
            failed=jnp.where((state.failed < 0) & ~sound, k, state.failed),
            actor_failed=jnp.where(state.failed < 0, critic_sound & ~sound, state.actor_failed),
        )

    def _rule(self, state, k):
        """The rule's state; where data or held weights are new, refusals of the old problem no longer damp."""
        periods = [period for period in (self.plan.renew, self.plan.refresh) if period is not None and period > 1]
        new = functools.reduce(jnp.logical_or, [k % period == 0 for period in periods], jnp.asarray(False))
        return state.rule._replace(damping=calmed(state.rule.damping, new))

    def _gather(self, policy, state, k, key):
        """New transitions: one per plant, or the whole memory when it is due."""
        memory, priority = state.memory, state.priority
        if self.plan.renew is not None:
            due = k % self.plan.renew == 0
            memory = jax.lax.cond(due, lambda: self.fill(policy, key, memory.z.shape[0]), lambda: memory)
            return memory, state.x, jnp.where(due, jnp.ones_like(priority), priority)
        plants = state.x.shape[0]
        fresh = (k + 1) % self.source.restart == 0
        starts, x = jax.vmap(lambda x, key: self.source.step(policy, x, fresh, key))(state.x, jax.random.split(key, plants))
        rows = jax.vmap(lambda *start: self.source.row(policy, *start))(*starts)
        slots = (k * plants + jnp.arange(plants)) % memory.z.shape[0]
        memory = jax.tree.map(lambda old, new: old.at[slots].set(new), memory, self._remember(rows))
        return memory, x, priority.at[slots].set(jnp.max(priority)) if self.plan.prioritised else priority

    def fill(self, policy, key, size) -> Memory:
        """`size` transitions from plants started anew, `restart` steps of each."""
        plants, start_key = -(-size // self.source.restart), jax.random.fold_in(key, 0)
        x = jax.vmap(self.source.draw_state)(jax.random.split(start_key, plants))

        def move(x, k):
            keys = jax.random.split(jax.random.fold_in(key, k + 1), plants)
            starts, x = jax.vmap(lambda x, key: self.source.step(policy, x, False, key))(x, keys)
            return x, starts

        _, starts = jax.lax.scan(move, x, jnp.arange(self.source.restart))
        starts = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:size], starts)
        return self._remember(jax.lax.map(lambda start: self.source.row(policy, *start), starts, batch_size=ROWS))

    def _remember(self, rows) -> Memory:
        """Rows with their features."""
        both = jnp.concatenate([rows.z[:, None], rows.path[:, :, -1]], 1)
        return Memory(
            rows.z, rows.path, Transitions(self.network.features(both), rows.r, rows.gamma, rows.share, jnp.ones(rows.z.shape[0]))
        )

    def _choose(self, memory, priority, key):
        """Rows of this update with their importance weights: all, or a batch drawn with replacement."""
        t, size = memory.t, memory.z.shape[0]
        if self.plan.batch is None:
            return jnp.zeros(0, int), jnp.zeros(0), t
        score = t.weight * (priority**PRIORITY if self.plan.prioritised else 1.0)
        chance = score / jnp.sum(score)
        index = jax.random.choice(key, size, (self.plan.batch,), p=chance)
        importance = 1 / (chance[index] * jnp.sum(t.weight))
        chosen = jax.tree.map(lambda a: a[index], t)
        return index, importance, chosen._replace(weight=chosen.weight * importance)

    def _improve(self, state, omega, memory, k):
        """The actor after its improvement, when that is due."""
        if self.actor is None:
            return None
        n = self.source.low.shape[0]
        q = CriticQ(self.network, omega)
        better = lambda: improved(self.actor, self.policy, q, memory.z[:, :n], memory.t.weight, self.inputs, self.source.deviation, state)
        return jax.lax.cond((k + 1) % self.plan.every == 0, better, lambda: state)


def _finite(tree):
    """Whether all numbers of a pytree are finite."""
    return functools.reduce(jnp.logical_and, [jnp.all(jnp.isfinite(a)) for a in jax.tree.leaves(tree)], jnp.asarray(True))


class Means(NamedTuple):
    """Over an interval: the root-mean-square TD error and the share of updates accepted."""

    td_rms: Any
    accepted: Any


@functools.partial(jax.jit, static_argnames="batched")
def advance(loop, state, start, count, batched):
    """`count` steps from step `start`; several runs at once if `batched` (a leading axis of the state)."""
    one = jax.vmap(loop.step, in_axes=(0, None)) if batched else loop.step

    def move(k, carry):
        state, sums = carry
        state = one(state, k)
        return state, Means(sums.td_rms + state.td_rms, sums.accepted + state.accepted)

    none = jnp.zeros(jnp.shape(state.td_rms))
    state, sums = jax.lax.fori_loop(start, start + count, move, (state, Means(none, none)))
    return state, Means(*(a / count for a in sums))
