"""e_Q and e* on the transitions that a run kept, from a reference (T10, T11)."""

from typing import NamedTuple

import jax
import numpy as np


class AlongTheRun(NamedTuple):
    """Leading axes (K, M): e_Q(z); per successor (K, M, S): e_Q(z_k), e*, and its part by the policy."""

    e_q: np.ndarray
    e_q_ahead: np.ndarray
    e_star: np.ndarray
    e_star_policy: np.ndarray


@jax.jit
def values(network, omega, z):
    """Q̂^ω(z)."""
    return network.value(omega, z)


def along_the_run(run, reference, omega_star) -> AlongTheRun:
    """Every snapshot by itself, which bounds the memory."""
    memory = run.snapshots.memory
    rows = [_one(run, reference, omega_star, jax.tree.map(lambda a, k=k: a[k], memory)) for k in range(len(run.snapshots.step))]
    return AlongTheRun(*map(np.stack, zip(*rows, strict=True)))


def _one(run, reference, omega_star, memory):
    n, t, network = run.problem.plant.n, memory.t, run.network
    q = lambda z: reference.Q(z[..., :n], z[..., n:])
    q_now, q_path = q(memory.z), q(memory.path)
    best_now, best_ahead = (np.asarray(values(network, omega_star, z)) for z in (memory.z, memory.z_next))
    factor = _factors(run.problem.kernel, memory.path[..., :n], t.gamma)
    by_policy = np.sum(factor * (reference.V(memory.path[..., :n]) - q_path), -1)
    return q_now - best_now, q_path[..., -1] - best_ahead, q_now[:, None] - t.r - t.gamma * q_path[..., -1], by_policy


def _factors(kernel, x, gamma):
    """γ^i at the i-th state of every way x (M, S, n_steps, n), 0 from where the problem ended."""
    factor = np.broadcast_to(float(kernel.gamma) ** np.arange(1, x.shape[2] + 1), x.shape[:3])
    if kernel.can_end:
        factor = np.where(np.logical_or.accumulate(np.asarray(kernel.ended(x)), -1), 0.0, factor)
    return np.where((np.arange(x.shape[2]) < x.shape[2] - 1), factor, gamma[..., None])
