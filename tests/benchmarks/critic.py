"""The deep critic: one update T14 against PyTorch's per-sample gradients, 32 seeds against one, a training against Stable-Baselines3.

The update is that of M = 256 transitions, 64 tanh units and affine features of 4 inputs (5 with the constant, p = 384), float64, inside a
jitted scan; PyTorch gets the same features and weights and the same TD error with the normaliser of T13, and so the same update to 1e-10,
or the row fails. `eager` and `compiled` are per-sample gradients as PyTorch documents them, a module of linear layers through
`torch.func.functional_call`; `lean_eager` does without the module, with both Q̂ of a sample in one product: the fastest eager form known.
The floor is the bare matrix products and activations: Q̂ and ∇Q̂ without slopes, dᵀd, or normaliser. Contenders of a row take turns, so that
a ratio compares times under about the same load; on a busy machine the ratio of the shortest times says more.
"""

import math
import os
import shutil
import statistics
import time
from functools import partial
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np

import plants
import rlctrl as rc
from rlctrl.critic.features import feature_map
from rlctrl.critic.network import Network
from rlctrl.critic.td import Transitions, replay_gradient
from tests.benchmarks.timing import in_fresh_process, once

M, UNITS, INPUTS = 256, 64, 4
RATE = 4 / M
THREADS = 2
PAUSE = 0.3  # s
COMPILERS = "g++", "clang++", "cl"
NEEDS = {"eager": "needs torch", "compiled": "needs torch and a C++ compiler"}
STEPS, FEWER = 20_000, 2_000  # of the training; of Stable-Baselines3, and of the 32 seeds


def in_turns(works, repeat):
    """(median seconds, least seconds) of each of the works, called in turns; a pause lets idle threads of the one before go to sleep."""
    seconds = {name: [] for name in works}
    for _ in range(repeat):
        for name, work in works.items():
            time.sleep(PAUSE)
            seconds[name].append(once(work)[0])
    return tuple({name: pick(s) for name, s in seconds.items()} for pick in (statistics.median, min))


def load():
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else "unknown"


def transitions():
    """(network, vec ω, transitions) with random numbers."""
    signals = [rc.Signal(f"z{k}", "1", -1.0, 1.0) for k in range(INPUTS)]
    network = Network(feature_map("affine", 1, signals), (UNITS,), "tanh")
    random = np.random.default_rng(0)
    phi = network.features(jnp.asarray(random.uniform(-1, 1, (M, 2, INPUTS))))
    one = jnp.ones((M, 1))
    t = Transitions(phi, jnp.asarray(random.normal(size=(M, 1))), 0.98 * one, one, one[:, 0])
    return network, network.initial(jax.random.key(0), 1.0), t


def vmapped_gradient(network, omega, t):
    """∇J_c from the per-sample gradients of `jax.grad`."""

    def error(omega, phi, r, gamma):
        output, hidden = network.unpack(omega)
        q = jnp.tanh(phi @ hidden.T) @ output
        return q[0] - r[0] - gamma[0] * q[1]

    e, d = jax.vmap(jax.value_and_grad(error), (None, 0, 0, 0))(omega, t.phi, t.r, t.gamma)
    return e / (jnp.sum(d**2, -1) + 1) ** 2 @ d


def floor(network, omega, t):
    """The matrix products and activations alone; of no use otherwise."""
    output, hidden = network.unpack(omega)
    h = [jnp.tanh(t.phi[:, k] @ hidden.T) for k in (0, 1)]
    q = [a @ output for a in h]
    first = q[0] @ h[0] + q[1] @ h[1]
    second = h[0].T @ t.phi[:, 0] + h[1].T @ t.phi[:, 1]
    return 1e-6 * jnp.concatenate([first, second.ravel()])


def scanned(gradient, network, omega, t, count):
    """`count` updates with a gradient, compiled."""

    @jax.jit
    def run(omega, t):
        return jax.lax.scan(lambda w, _: (w - RATE * gradient(network, w, t), None), omega, length=count)[0]

    work = lambda: run(omega, t).block_until_ready()
    work()
    return work


def torch_updates(network, omega, t):
    """{name: (update of (ω1, ω2ᵀ), the weights)} in PyTorch: as its documentation takes per-sample gradients, compiled too, and leaner."""
    import torch

    torch.set_num_threads(THREADS)
    phi, r, gamma = (torch.from_numpy(np.array(a)) for a in (t.phi, t.r[:, 0], t.gamma[:, 0]))
    output, hidden = (torch.from_numpy(np.array(w)) for w in network.unpack(omega))
    linear = partial(torch.nn.Linear, bias=False, dtype=torch.float64)
    module = torch.nn.Sequential(linear(hidden.shape[1], UNITS), torch.nn.Tanh(), linear(UNITS, 1))

    def documented(weights, phi, phi_next, r, gamma):
        parameters = {"2.weight": weights[0], "0.weight": weights[1]}
        q, q_next = (torch.func.functional_call(module, parameters, (features,))[0] for features in (phi, phi_next))
        return q - r - gamma * q_next

    def lean(weights, phi, r, gamma):
        q = torch.tanh(phi @ weights[1].T) @ weights[0]
        return q[0] - r - gamma * q[1]

    eager, weights = torch_update(documented, phi[:, 0], phi[:, 1], r, gamma), (output[None], hidden)
    made = {"eager": (eager, weights), "lean_eager": (torch_update(lean, phi, r, gamma), (output, hidden))}
    if any(map(shutil.which, COMPILERS)):
        made["compiled"] = torch.compile(eager), weights
    return made


def torch_update(error, *data):
    """A function of the weights: one update from the gradients of the TD error of each sample."""
    import torch

    gradients = torch.func.vmap(torch.func.grad_and_value(error), (None, *(0 for _ in data)))

    def update(*weights):
        d, e = gradients(weights, *data)
        s = e / (sum((g**2).flatten(1).sum(-1) for g in d) + 1) ** 2
        return tuple(w - RATE * torch.tensordot(s, g, 1) for w, g in zip(weights, d, strict=True))

    return update


def repeated(update, weights, count):
    """`count` updates, one call each."""

    def work():
        now = weights
        for _ in range(count):
            now = update(*now)
        return now

    work()
    return work


def gap(made, weights, goal):
    """Largest difference of one update from the weights `goal`."""
    return float(np.max(np.abs(np.concatenate([w.numpy().ravel() for w in made(*weights)]) - goal)))


def update_row(repeat, count=1000, calls=100):
    network, omega, t = transitions()
    ours = lambda network, omega, t: replay_gradient(network, omega, t)[0]
    goal = np.asarray(omega - RATE * ours(network, omega, t))
    gaps = {"vmap_grad": float(jnp.max(jnp.abs(omega - RATE * vmapped_gradient(network, omega, t) - goal)))}
    made = {"ours": ours, "vmap_grad": vmapped_gradient, "floor": floor}
    works, counts = {name: scanned(f, network, omega, t, count) for name, f in made.items()}, dict.fromkeys(made, count)
    row = {"row": f"one update T14, M={M}, width {UNITS}, {INPUTS} inputs, float64"}
    theirs = torch_updates(network, omega, t) if find_spec("torch") else {}
    for name, made in theirs.items():
        gaps[name], counts[name] = gap(*made, goal), calls
        works[name] = repeated(*made, calls)
    if max(gaps.values()) > 1e-10:
        return row | {"failed": f"updates differ: {gaps}"}
    median, least = ({name: s / counts[name] for name, s in times.items()} for times in in_turns(works, max(7, repeat)))
    row |= {f"{name}_us": 1e6 * s for name, s in median.items()}
    others = [name for name in median if name != "ours"]
    row |= {f"{name}/ours": median[name] / median["ours"] for name in others}
    row |= {f"{name}/ours_shortest": least[name] / least["ours"] for name in others}
    row |= {"targets": "eager/ours ≥ 20, compiled/ours ≥ 3", "largest_difference": max(gaps.values())}
    return row | {name: needs for name, needs in NEEDS.items() if name not in theirs}


def problem():
    return rc.Problem(plants.pendulum(), rc.quadratic([1.0, 0.02], [0.02]), gamma=0.98, dt=0.05)


def damped(x):
    """p^θ of both sides."""
    return -0.5 * x[..., 1:]


def train(steps, seed=0):
    return rc.train(problem(), rc.Critic(hidden=UNITS), damped, rc.ReplayTD(memory=M), steps=steps, seed=seed)


def seeds_row(repeat, seeds=32):
    works = {"one": lambda: train(FEWER), "all": lambda: train(FEWER, range(seeds))}
    for work in works.values():
        work()
    seconds, least = in_turns(works, repeat)
    row = {"row": f"{seeds} seeds at once, pendulum, {FEWER} updates, warm", "one_s": seconds["one"], f"{seeds}_s": seconds["all"]}
    return row | {"all/one": seconds["all"] / seconds["one"], "shortest": least["all"] / least["one"], "target": "all/one ≤ 20"}


def python_pendulum():
    """A function (θ, ω, u) → ((θ, ω)_+, reward) of floats: the same pendulum, by Euler steps."""
    random, p, dt = np.random.default_rng(0), plants.pendulum().params, 0.05
    inertia = p["mass"] * p["length"] ** 2

    def step(theta, omega, u):
        kick = p["noise"] * math.sqrt(dt) * random.standard_normal() / inertia
        rate = p["gravity"] / p["length"] * math.sin(theta) + (u - p["damping"] * omega) / inertia
        turned = (theta + dt * omega + math.pi) % (2 * math.pi) - math.pi
        return (turned, min(8.0, max(-8.0, omega + dt * rate + kick))), -(theta**2 + 0.02 * omega**2 + 0.02 * u**2)

    return step


def baseline():
    """(buffer, critic, target critic) of Stable-Baselines3: one hidden layer of tanh units, Adam, one network."""
    import gymnasium as gym
    import torch
    from stable_baselines3.common.buffers import ReplayBuffer
    from stable_baselines3.td3.policies import TD3Policy

    torch.set_num_threads(THREADS)
    states, inputs = gym.spaces.Box(-8.0, 8.0, (2,), np.float32), gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    layers = {"pi": [8], "qf": [UNITS]}
    policy = TD3Policy(states, inputs, lambda _: 1e-3, net_arch=layers, activation_fn=torch.nn.Tanh, n_critics=1)
    return ReplayBuffer(M, states, inputs, device="cpu"), policy.critic, policy.critic_target


def baseline_training(steps):
    """The critic's half of Stable-Baselines3's DDPG loop: an environment step, `ReplayBuffer.sample`, loss, Adam, Polyak."""
    import torch
    from stable_baselines3.common.utils import polyak_update

    (buffer, critic, target), step, random, x = baseline(), python_pendulum(), np.random.default_rng(1), (math.pi, 0.0)
    for k in range(steps):
        u = min(5.0, max(-5.0, -0.5 * x[1] + random.standard_normal()))
        x_next, reward = step(*x, u)
        buffer.add(np.array(x), np.array(x_next), np.array([u / 5]), np.array([reward]), np.array([False]), [{}])
        x = x_next if (k + 1) % 50 else (random.uniform(-math.pi, math.pi), random.uniform(-8, 8))
        data = buffer.sample(M)
        with torch.no_grad():
            action = (-0.1 * data.next_observations[:, 1:]).clamp(-1, 1)
            goal = data.rewards + (1 - data.dones) * 0.98 * target(data.next_observations, action)[0]
        loss = torch.nn.functional.mse_loss(critic(data.observations, data.actions)[0], goal)
        critic.optimizer.zero_grad()
        loss.backward()
        critic.optimizer.step()
        polyak_update(critic.parameters(), target.parameters(), 0.005)


def training_row(repeat):
    code = (
        "from tests.benchmarks import critic; from tests.benchmarks.timing import once; print(once(lambda: critic.train(critic.STEPS))[0])"
    )
    fresh = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    cold = statistics.median(in_fresh_process(code, fresh)[0] for _ in range(repeat))
    works = {"ours": lambda: train(STEPS)}
    works["ours"]()
    peer = find_spec("stable_baselines3")
    if peer:
        works["peer"] = lambda: baseline_training(FEWER)
        works["peer"]()
    seconds, _ = in_turns(works, repeat)
    row = {"row": f"{STEPS} updates end to end, pendulum, width {UNITS}, M={M}", "cold_s": cold, "warm_s": seconds["ours"]}
    if not peer:
        return row | {"stable_baselines3": "not installed"}
    theirs = seconds["peer"] * STEPS / FEWER
    row |= {"stable_baselines3_s": theirs, "scaled": f"from {FEWER} updates, float32", "ratio_warm": theirs / seconds["ours"]}
    return row | {"ratio_cold": theirs / cold}


def rows(repeat):
    for make in (update_row, seeds_row, training_row):
        before = load()
        yield make(repeat) | {"load": f"{before} → {load()}"}
