"""How far the value of a continuous-time problem (T4) is from that of its sampled version (T2, input held over dt)."""

import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.maximise import input_set
from rlctrl.reference.base import Reference, evaluate_value


def sampled_distance(reference: Reference, points=100, inputs=5, seed=0) -> float:
    """Bound on |V − V_dt|, V_dt the optimal value of the problem as its kernel samples it: sup |TV − V|/(1 − γ), T its Bellman operator,
    over random states of the box (estimated: the sup is over `points`, the maximum over `inputs` candidates a side and the reference's
    own input). It falls as O(dt) when V is that of continuous time. Infinite for γ = 1.
    """
    kernel = reference.kernel
    low, high, gamma = np.asarray(kernel.low), np.asarray(kernel.high), float(kernel.gamma)
    x = np.random.default_rng(seed).uniform(low, high, (points, len(low)))
    u = reference.policy(x)[:, None]
    if all(np.isfinite(s.high - s.low) for s in reference.inputs):
        candidates = input_set(reference.inputs, inputs).candidates
        u = np.concatenate([u, np.broadcast_to(candidates, (points, *candidates.shape))], 1)
    nodes, mass = reference.rule
    reward, ahead, end, exit_value, ended = (np.asarray(a) for a in _landing(kernel, x, u, nodes))
    following = np.where(end, exit_value, evaluate_value(reference.value, ahead))
    best = np.max(reward + gamma * following @ np.asarray(mass), 1)
    gap = np.abs(best - np.asarray(evaluate_value(reference.value, x)))
    return float(np.max(gap[~ended], initial=0.0) / (1 - gamma)) if gamma < 1 else float("inf")


@jax.jit
def _landing(kernel, x, u, nodes):
    """Reward (S, A), next states (S, A, K, n), whether the problem ends there and with what, and whether it has ended in x (S,)."""
    ahead, _ = kernel.step(x[:, None, None], u[:, :, None], nodes)
    end = kernel.ended(ahead) if kernel.can_end else jnp.zeros(ahead.shape[:-1], bool)
    inside = jnp.where(end[..., None], jnp.clip(ahead, kernel.low, kernel.high), ahead)
    return kernel.reward(x[:, None], u), inside, end, kernel.exit_value(ahead), kernel.ended(x)
