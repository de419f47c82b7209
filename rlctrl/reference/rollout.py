"""Paths of a problem without noise under simple policies, compiled: where open-loop programmes start, and how their optima go on."""

import functools
from dataclasses import dataclass

import casadi as ca
import numpy as np

FAR = 1e6  # a state that leaves this range is held where it was


@dataclass(frozen=True)
class Guess:
    """A path: x (n, steps+1), u (m, steps), contacts (n, steps) with the walls."""

    x: np.ndarray
    u: np.ndarray
    contacts: np.ndarray


@functools.lru_cache(maxsize=64)
def step(shooting) -> ca.Function:
    """(x, u) → Φ(x, u), r(x, u)."""
    x, u = ca.SX.sym("x", shooting.n), ca.SX.sym("u", shooting.m)
    p, w = ca.DM(shooting.p), ca.DM(shooting.w)
    return ca.Function("step", [x, u], [shooting.update.symbolic(x, u, w, p), shooting.reward.symbolic(x, u, p)])


@functools.lru_cache(maxsize=64)
def true_step(shooting) -> ca.Function:
    """(x, u) → the next state after the exit rule, contacts."""
    x, u = ca.SX.sym("x", shooting.n), ca.SX.sym("u", shooting.m)
    free = step(shooting)(x, u)[0]
    low, high = map(ca.DM, shooting.walls)
    return ca.Function("true_step", [x, u], [ca.fmin(ca.fmax(free, low), high), (free > high) - (free < low)])


@functools.lru_cache(maxsize=64)
def _steps(shooting, steps) -> ca.Function:
    """(x_0, d, follow, K) → x_1 …, u, contacts under u_k = d_k − K x_k within the box where `follow`, else d_k."""
    x, d, K = ca.SX.sym("x", shooting.n), ca.SX.sym("d", shooting.m), ca.SX.sym("K", shooting.m, shooting.n)
    follow = ca.SX.sym("follow")
    low, high = map(ca.DM, shooting.inputs)
    u = ca.if_else(follow, ca.fmin(ca.fmax(d - K @ x, low), high), d)
    following, contacts = true_step(shooting)(x, u)
    near = 1
    for k in range(shooting.n):
        near = ca.logic_and(near, ca.fabs(following[k]) < FAR)  # also false for NaN
    following = ca.if_else(near, following, x)
    return ca.Function("steps", [x, d, follow, K], [following, u, contacts]).mapaccum(steps)


def rollout(shooting, x, gain, offsets, given=0) -> Guess:
    """The path from x under u_k = offsets_k − gain x_k within the box; in the first `given` steps the offsets (m, steps) as they are."""
    steps = offsets.shape[1]
    follow = (np.arange(steps) >= given)[None].astype(float)
    xs, us, contacts = (np.array(part) for part in _steps(shooting, steps)(x, offsets, follow, np.tile(gain, steps)))
    return Guess(np.concatenate([x[:, None], xs], 1), us, contacts)


def replayed(shooting, path) -> Guess:
    """The path that the inputs of another give on the true plant."""
    return rollout(shooting, path.x[:, 0], np.zeros((shooting.m, shooting.n)), path.u, path.u.shape[1])


def fresh(shooting, start, steps, fixed):
    """Starts: the linear feedback if there is one, the input it settles at (else none), random inputs about that."""
    rng, none, rest = np.random.default_rng(0), np.zeros((shooting.m, shooting.n)), _rest(shooting)
    policies = [(_gain(shooting), _offset(shooting))] if shooting.gain else []
    policies.append((none, rest))
    while len(policies) < shooting.starts:
        policies.append((none, rest + rng.normal(size=(shooting.m, steps))))
    for gain, offset in policies[: shooting.starts]:
        offsets = np.repeat(offset, steps // offset.shape[1], 1)
        if fixed:
            offsets[:, 0] = start[shooting.n :]
        yield rollout(shooting, start[: shooting.n], gain, offsets, int(fixed))


def longer(shooting, path) -> Guess:
    """A path continued to twice its length: by the linear feedback, else with its last input."""
    gain, offset = (_gain(shooting), _offset(shooting)) if shooting.gain else (np.zeros((shooting.m, shooting.n)), path.u[:, -1:])
    more = rollout(shooting, path.x[:, -1], gain, np.repeat(offset, path.u.shape[1], 1))
    join = lambda a, b: np.concatenate([a, b], 1)
    return Guess(join(path.x, more.x[:, 1:]), join(path.u, more.u), join(path.contacts, more.contacts))


def _gain(shooting):
    return np.array(shooting.gain[0])


def _rest(shooting):
    return np.array(shooting.gain[2])[:, None] if shooting.gain else np.zeros((shooting.m, 1))


def _offset(shooting):
    K, x0, u0 = (np.array(part) for part in shooting.gain)
    return (u0 + K @ x0)[:, None]
