"""Training a critic, and an actor if asked for, on a problem (T13–T14 and their variations). Never sees a reference."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.critic.actor import Actor, first_actor_state
from rlctrl.critic.checkpoint import Checkpoint
from rlctrl.critic.data import Source
from rlctrl.critic.loop import Loop, Means, Memory, Plan, State, advance
from rlctrl.critic.network import Critic, CriticQ, Network
from rlctrl.critic.rules import first_state
from rlctrl.critic.scheme import ReplayTD
from rlctrl.critic.td import T13, Transitions, data_vector, normaliser
from rlctrl.errors import NotConverged, require, require_room, require_whole, strict
from rlctrl.kinds import Counts, FilePath
from rlctrl.maximise import input_set
from rlctrl.plant import box, finite_box, limits
from rlctrl.policy import GreedyPolicy, as_policy
from rlctrl.problem import Problem
from rlctrl.progress import Progress
from rlctrl.result import Result
from rlctrl.storage import fingerprint
from rlctrl.threads import in_threads
from rlctrl.tree import saved
from rlctrl.undefined import no_input, undefined

CANDIDATES = 21  # per input, of greedy policies and targets
ASTRAY = 0.2  # share of transitions far outside the state box from which it is said
KEPT = 2**28  # bytes of snapshots
TOGETHER = 4  # runs vmapped: more of them leave the cache, fewer pay for every step's overhead


@saved
@dataclass(frozen=True, eq=False)
class Snapshots:
    """Along the run, leading axis K: step, ω_k, ω_{k+1}, the target weights held, λ, the rows R_k of the update, root-mean-square TD error
    on R_k and since the last snapshot, share of updates accepted since then, damping of Gauss–Newton, θ (None for a fixed
    policy)."""

    step: np.ndarray
    omega: np.ndarray
    omega_next: np.ndarray
    target: np.ndarray
    rate: np.ndarray
    memory: Memory
    td_rms: np.ndarray
    td_rms_mean: np.ndarray
    accepted: np.ndarray
    damping: np.ndarray
    theta: Any


@dataclass(frozen=True, eq=False, repr=False)
class Training(Result):
    """A trained critic: `Q(x, u)`, `greedy` (argmax over the input box), final `weights` (p,), and `snapshots` of the way there.

    `problem`, `critic`, `scheme`, `steps` and `seed` are what `train` was called with; `policy` is p^θ at the end, `actor` how it was
    improved (None: it was fixed); `network` is T5 without its weights. `message` says how the run ended, `finished` whether it did.
    """

    problem: Any
    critic: Critic
    scheme: ReplayTD
    policy: Any
    actor: Actor | None
    network: Network
    weights: np.ndarray
    snapshots: Snapshots
    steps: int
    seed: int
    message: str
    finished: bool

    @functools.cached_property
    def q(self) -> CriticQ:
        """Q̂ as a JAX pytree with `at(x, u)`."""
        return CriticQ(self.network, self.weights)

    @strict
    def Q(self, x, u) -> np.ndarray:
        """Q̂^ω(x, u), shape (...), at x (..., n), u (..., m)."""
        return np.asarray(_q(self.q, *self.problem.arrays(x, u)))

    @functools.cached_property
    def greedy(self) -> GreedyPolicy:
        """argmax_u Q̂^ω(x, u) over the input box, continuous."""
        return GreedyPolicy(self.q, input_set(self.problem.plant.inputs, CANDIDATES))


@jax.jit
def _q(q, x, u):
    return q.at(x, u)


@strict
def train(
    problem: Problem, critic, policy, scheme=None, *, steps=20_000, seed: Counts = 0, checkpoint: FilePath | None = None,
    progress: bool = False,
) -> Any:  # fmt: skip
    """Train a `critic` on a `problem` by a `scheme` (default `ReplayTD()`) for `steps` updates, for a `policy` p^θ: a Policy, a function
    x → u, or an `rc.Actor` that is improved on the way. Returns a `Training`.

    Equal arguments (`seed` too) give equal bits. Several seeds, `seed=range(8)`, run at once and give a tuple of trainings. `checkpoint`: a
    file to which the run writes its state now and then and from which it goes on if it exists, to the same bits. `progress` shows a bar.
    Raises `NotConverged` as soon as weights or squared TD errors are not finite; the training up to there, with the last finite weights,
    is its `.partial` (of several seeds, which stop together, the tuple of all). Raises `InputError` when restarts have no finite box to
    draw from, and for a checkpoint of another run.
    """
    scheme = ReplayTD() if scheme is None else scheme
    require(isinstance(critic, Critic), "critic", "must be an rc.Critic", critic, "Use rc.Critic(hidden=32).")
    require(isinstance(scheme, ReplayTD), "scheme", "must be an rc.ReplayTD", scheme, "Use rc.ReplayTD().")
    require_whole("steps", steps, 2, "Use e.g. 20_000.")
    seeds = _seeds(seed)
    keys = [jax.random.split(jax.random.key(s), 4) for s in seeds]
    loop = _loop(problem, critic, policy, scheme, keys[0][3])
    _check_room(loop, scheme, len(seeds))
    states = [_first(problem, loop, scheme, critic, key) for key in keys]
    several = not isinstance(seed, int | np.integer)
    state = jax.tree.map(lambda *a: jnp.stack(a), *states) if several else states[0]
    store = Checkpoint.open(checkpoint, lambda: _mark(problem, critic, scheme, loop, seeds if several else seed, steps), state)
    state, rows = _run(loop, scheme, state, steps, several, store, progress)
    cut = [jax.tree.map(lambda a, k=k: a[k], (state, rows)) for k in range(len(seeds))] if several else [(state, rows)]
    found = tuple(_training(problem, critic, scheme, loop, state, rows, steps, s) for (state, rows), s in zip(cut, seeds, strict=True))
    bad = [training for training in found if not training.finished]
    if bad and several:
        found = tuple(replace(training, message=_cut_short(training, bad), finished=False) for training in found)
        raise NotConverged(f"Seed {bad[0].seed}: {bad[0].message}", found)
    if bad:
        raise NotConverged(bad[0].message, bad[0])
    return found if several else found[0]


def _cut_short(training, bad):
    """Message of one of several trainings that stopped together because of the `bad` ones."""
    if not training.finished:
        return training.message
    return f"Stopped after step {training.snapshots.step[-1]}, as the training of seed {bad[0].seed} had to."


def _check_room(loop, scheme, seeds):
    """Raise `InputError` for sizes the machine has no memory for."""
    source, row = loop.source, sum(a.size for a in jax.tree.leaves(jax.eval_shape(lambda: _empty(loop, 1))))
    require_room("horizon", seeds * int(scheme.plants) * int(scheme.horizon) * source.successors * len(source.nodes[0]), scheme.horizon)
    require_room("memory", seeds * row * int(scheme.memory), scheme.memory)
    require_room("batch", seeds * row * int(scheme.rows), scheme.batch)


def _mark(problem, critic, scheme, loop, seed, steps):
    """What a checkpoint belongs to; functions of the user count by their name, policies also by what JAX finds in them."""
    return fingerprint([problem.kernel, limits(problem.plant.inputs), critic, loop.policy, scheme, loop.actor, seed, int(steps)])


def _seeds(seed):
    seeds = list(seed) if isinstance(seed, Sequence | np.ndarray) and not isinstance(seed, str) else [seed]
    require(len(seeds) > 0, "seed", "must name at least one seed", seed, "Use 0.")
    for s in seeds:
        require_whole("seed", s, 0, "Use 0.")
    return [int(s) for s in seeds]


def _loop(problem, critic, policy, scheme, key) -> Loop:
    plant = problem.plant
    low, high = box(plant.states)
    bounded = bool(np.all(np.isfinite(high - low)))
    require(bounded, "states", "must be bounded to draw restarts from", (low.tolist(), high.tolist()), "Give the states low and high.")
    u_low, u_high = box(plant.inputs)
    boxed = bool(np.all(np.isfinite(u_high - u_low)))
    require(boxed or scheme.uniform == 0, "uniform", "needs bounded inputs to draw from", scheme.uniform, "Give the inputs low and high.")
    nodes, shares = plant.law.quadrature(scheme.quadrature) if scheme.target == "expected" else (plant.law.mean[None], None)
    shares = np.full(1 if scheme.target == "sample" else 2, 1.0 if scheme.target == "sample" else 0.5) if shares is None else shares
    fair = scheme.target != "antithetic" or plant.law.symmetric
    require(fair, "target", '"antithetic" needs noise symmetric about its mean', type(plant.law).__name__, 'Use "sample".')
    finite = tuple(s.values or () for s in plant.inputs)
    source = Source(
        problem.kernel, low, high, u_low, u_high, scheme.exploration, scheme.uniform, nodes, shares, finite, scheme.restart, scheme.horizon,
        scheme.target,
    )  # fmt: skip
    actor = policy if isinstance(policy, Actor) else None
    searched = input_set(plant.inputs, CANDIDATES) if actor is not None and actor.improve == "greedy" and boxed else None
    policy = as_policy(policy, plant.n, plant.m) if actor is None else actor.policy(plant, key)
    every = scheme.renew or scheme.restart if actor is None or actor.every is None else actor.every
    prioritised = scheme.sampling == "prioritised"
    plan = Plan(scheme.update, scheme.objective, scheme.refresh, scheme.batch, prioritised, scheme.renew, every)
    return Loop(source, policy, critic.network(plant), searched, actor, plan)


def _first(problem, loop, scheme, critic, keys) -> State:
    """The state before the first step. The random key is kept as plain numbers, so that files can hold it."""
    weights_key, start_key, run_key, actor_key = keys
    omega = loop.network.initial(weights_key, critic.scale)
    actor = None if loop.actor is None else first_actor_state(loop.actor.policy(problem.plant, actor_key))
    x = jax.vmap(loop.source.draw_state)(jax.random.split(start_key, scheme.plants))
    rows = scheme.batch or 0
    first = State(
        omega=omega,
        target=omega,
        rule=first_state(scheme.update, len(omega)),
        actor=actor,
        memory=_empty(loop, scheme.memory),
        priority=jnp.ones(scheme.memory),
        x=x,
        rate=jnp.asarray(4.0 / scheme.rows if scheme.rate == "measured" else scheme.rate),
        key=jax.random.key_data(run_key),
        before=omega,
        index=jnp.zeros(rows, int),
        importance=jnp.zeros(rows),
        td_rms=jnp.asarray(0.0),
        accepted=jnp.asarray(True),
        failed=jnp.asarray(-1),
        actor_failed=jnp.asarray(False),
    )
    return jax.tree.map(np.asarray, first)  # JAX calls Python's numbers "weak" and would compile once more for what comes back


def _empty(loop, size) -> Memory:
    source, width = loop.source, loop.network.features.size
    kinds, both = source.successors, len(source.low) + len(source.u_low)
    zeros = jnp.zeros((size, kinds))
    t = Transitions(jnp.zeros((size, 1 + kinds, width)), zeros, zeros, zeros, jnp.zeros(size))
    return Memory(jnp.zeros((size, both)), jnp.zeros((size, kinds, source.horizon, both)), t)


def _run(loop, scheme, state, steps, several, store, progress):
    """All intervals, each ending in a snapshot; stops after the one in which something ceased to be finite."""
    state, rows = store.restored(state, _snapshot(state, Means(state.td_rms, state.td_rms), 0, several))
    move = _together(loop, state) if several else functools.partial(advance, loop, batched=False)
    with Progress("ReplayTD", progress) as bar:
        for end, count in _intervals(steps, _snapshots(scheme, state))[len(rows) :]:
            if bool(np.any(np.asarray(state.failed) >= 0)):
                break
            state, means = move(state=state, start=end - count, count=count)
            rows.append(_snapshot(state, means, end - 1, several))
            if scheme.rate == "measured":
                state = state._replace(rate=_measured(loop.network, state.omega, rows[-1]["memory"].t, scheme.objective, several))
            store.keep(state, rows)
            bar.to(end / steps, f"TD error {float(jnp.mean(means.td_rms)):.2e}")
    store.write()
    return state, jax.tree.map(lambda *a: np.stack(a, 1 if several else 0), *rows)


def _together(loop, state):
    """`advance` of several runs: in groups of equally many, a core each, so that one program serves them all. Not on an accelerator, which
    takes all runs in the time of one; nor if the program calls out of XLA: factorisations and callbacks wait for threads that two programs
    at once would keep from each other."""
    runs = len(state.failed)
    size = max(d for d in range(1, TOGETHER + 1) if runs % d == 0 and d < max(runs, 2))
    groups = lambda state: [jax.tree.map(lambda a, k=k: np.asarray(a)[k : k + size], state) for k in range(0, runs, size)]
    lowered = advance.lower(loop, groups(state)[0], 0, 1, batched=True)
    if jax.default_backend() != "cpu" or "custom_call" in lowered.as_text():
        return functools.partial(advance, loop, batched=True)
    program = lowered.compile()

    def move(state, start, count):
        moved = in_threads(lambda group: program(loop, group, start, count), groups(state))
        return jax.tree.map(lambda *a: np.concatenate(a), *moved)

    return move


def _snapshot(state, means, step, several):
    """A row of `Snapshots`, in NumPy."""
    memory = state.memory
    if state.index.size:
        pick = jax.vmap(lambda a, i: a[i]) if several else (lambda a, i: a[i])
        memory = jax.tree.map(lambda a: pick(a, state.index), memory)
        memory = Memory(memory.z, memory.path, memory.t._replace(weight=memory.t.weight * state.importance))
    row = {
        "step": np.full(state.td_rms.shape, step), "omega": state.before, "omega_next": state.omega, "target": state.target,
        "rate": state.rate, "memory": memory, "td_rms": state.td_rms, "td_rms_mean": means.td_rms, "accepted": means.accepted,
        "damping": state.rule.damping.value, "theta": None if state.actor is None else state.actor.theta,
    }  # fmt: skip
    return jax.tree.map(np.asarray, row)


@functools.partial(jax.jit, static_argnames=("objective", "several"))
def _measured(network, omega, t, objective, several):
    """1/λ_max(A) on transitions."""

    def rate(omega, t):
        d = data_vector(network, omega, t, objective)
        rows = jnp.sqrt(normaliser(d, t, objective))[:, None] * d
        gram = rows @ rows.T if rows.shape[0] < rows.shape[1] else rows.T @ rows
        return 1 / jnp.linalg.eigvalsh(gram)[-1]

    return (jax.vmap(rate) if several else rate)(omega, t)


def _training(problem, critic, scheme, loop, state, rows, steps, seed) -> Training:
    failed = int(state.failed)
    snapshots = Snapshots(**rows)
    policy = loop.policy if state.actor is None else loop.policy.at(np.asarray(state.actor.theta))
    message = f"{steps} updates done.{_astray(problem, rows['memory'].z[-1])}" if failed < 0 else _divergence(critic, scheme, state)
    if failed >= 0 and (found := _undefined(problem, state, policy, rows["memory"].z[-1])):
        message = f"Training stopped in step {failed}: {found}"
    return Training(
        problem, critic, scheme, policy, loop.actor, loop.network, np.asarray(state.omega), snapshots, int(steps), seed, message, failed < 0
    )


def _astray(problem, z):
    """What is to be said where many of the pairs z (M, n+m) of the last update lie far outside the state box."""
    low, high = box(problem.plant.states)
    x = z[:, : len(low)]
    outside = float(np.mean(np.any((x < 2 * low - high) | (x > 2 * high - low), -1)))
    if outside <= ASTRAY:
        return ""
    return (
        f" But {100 * outside:.0f} % of the last transitions start further outside the state box than it is wide: p^θ does not hold the "
        "state. Restart more often, or begin with a policy that does."
    )


def _undefined(problem, state, policy, z):
    """What is undefined at the last pairs z (M, n+m) that were followed, or at random ones of the box: the policy, unless it is an actor
    that diverged, or a function of the problem."""
    low, high = finite_box((*problem.plant.states, *problem.plant.inputs))
    n, drawn = problem.plant.n, np.random.default_rng(0).uniform(low, high, (4096, len(low)))
    x = drawn[:256, :n]  # a policy may take long
    given = None if state.actor_failed else no_input(z[:, :n], z[:, n:]) or no_input(x, policy(x))
    z = np.concatenate([z, drawn])
    return given or undefined(problem, z[:, :n], z[:, None, n:])


def _divergence(critic, scheme, state):
    limit, rate, step = 8 / scheme.rows, float(state.rate), int(state.failed)
    if state.actor_failed:
        return f"Training diverged in step {step}: the actor's weights are not finite. Lower its `rate`, or scale the reward down."
    found = f"Training diverged in step {step}: the weights or squared TD errors are not finite"
    if scheme.update != "gradient" or scheme.objective != T13:
        options = f"update {scheme.update!r}, gradient {scheme.gradient!r}, normaliser {scheme.normaliser}, rate {rate:.4g}"
        return f"{found} ({options}). Lower `rate`, or scale the reward down."
    below = "the cubic term of T18 won" if critic.hidden else "rewards or weights are too large to be squared"
    reason = f"exceeds 8/M = {limit:.4g}, the limit of T18" if rate >= limit else f"is below 8/M = {limit:.4g}, so {below}"
    return f"{found}; λ = {rate:.4g} {reason}. Lower `rate` or scale the reward down."


def _snapshots(scheme, state):
    """How many snapshots are kept: those asked for, as far as their rows fit."""
    size = sum(a.nbytes for a in jax.tree.leaves(state.memory)) * scheme.rows // scheme.memory
    return int(np.clip(KEPT // size, 2, scheme.snapshots))


def _intervals(steps, snapshots):
    """(step reached, steps taken) for about equally long intervals."""
    count = max(1, -(-steps // snapshots))
    ends = list(range(count, steps + 1, count))
    if not ends or ends[-1] < steps:
        ends.append(steps)
    return [(end, end - start) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
