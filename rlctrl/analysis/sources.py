"""Which states' residual makes the critic's error for the policy it judges.

With the residual ε(z) = Q̂(z) − r(z) − γ E[Q̂(Z_+)|z], Z_+ = (X_+, p^θ(X_+)) (the exit value where the problem ends), exactly
    Q̂(z_0) − Q^θ(z_0) = E Σ_k γ^k ε(z_k)  along p^θ from z_0:
subtract Q^θ = r + γ E Q^θ from Q̂ = r + γ E Q̂ + ε and unroll (the discounted occupancy of p^θ weighs the residual).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.critic.train import Training
from rlctrl.errors import require, require_whole, strict
from rlctrl.result import Result
from rlctrl.simulate import half_width, horizon, simulate

NODES, FINEST = 512, 9  # noise nodes at most, and nodes per channel at most


@dataclass(frozen=True, eq=False, repr=False)
class Sources(Result):
    """Q̂ − Q^θ at one z_0 = (`start_x` (n,), `start_u` (m,)), and where along p^θ it comes from.

    On every path (P) and step (K): `x` (P, K, n), `u` (P, K, m), `residual` ε(z_k) and `contribution` γ^k ε(z_k), (P, K), 0 once the
    problem ended (`alive` False). `total` estimates Q̂ − Q^θ with 95 % half width `ci95`; `tail` bounds what later steps could add, from the
    largest residual met. `q` is Q̂(z_0). `states` and `inputs` are the plant's Signals.
    """

    start_x: np.ndarray
    start_u: np.ndarray
    x: np.ndarray
    u: np.ndarray
    alive: np.ndarray
    residual: np.ndarray
    contribution: np.ndarray
    q: float
    total: float
    ci95: float
    tail: float
    gamma: float
    states: tuple
    inputs: tuple

    @property
    def by_step(self) -> np.ndarray:
        """Mean contribution of every step, (K,); they add up to `total`."""
        return self.contribution.mean(0)

    @property
    def q_policy(self) -> float:
        """Q^θ(z_0) as it follows: Q̂ − total, known to ci95 + tail."""
        return self.q - self.total

    @property
    def cancelled(self) -> float:
        """Share of the absolute contributions that cancel in the sum: 0 if all have one sign."""
        size = float(np.abs(self.contribution).sum(1).mean())
        return 1 - abs(self.total) / size if size else 0.0

    def summary(self) -> dict:
        """Headline numbers."""
        names = ("q", "q_policy", "total", "ci95", "tail", "cancelled")
        return {name: float(getattr(self, name)) for name in names}


@strict
def sources(run: Training, x, u, steps=None, paths=256, seed=0) -> Sources:
    """Where Q̂ − Q^θ of a training `run` at z_0 = (`x` (n,), `u` (m,)) comes from: `paths` paths of `steps` steps under its policy.

    `steps=None` takes as many as bring γ^steps below 1e-6 (needs γ < 1). `seed` draws the noise. ε takes its expectation by quadrature.
    """
    problem, steps = run.problem, horizon(run.problem.gamma, steps, least=2)
    require_whole("paths", paths, 1, "Use e.g. 256.")
    x, u = problem.arrays(x, u)
    n, m = problem.plant.n, problem.plant.m
    require(
        x.shape == (n,) and u.shape == (m,), "x", f"and `u` must be one point, ({n},) and ({m},)", (x.shape, u.shape), "Pass one state."
    )
    require(not problem.kernel.ended(x), "x", "must be a state in which the problem goes on", x.tolist(), "Start elsewhere.")
    first = problem.sample(x, u, seed=seed, size=(paths,))
    path = simulate(problem, run.policy, first, steps - 1, seed=seed)
    xs = np.concatenate([np.broadcast_to(x, (paths, 1, n)), path.x[:, :-1]], 1)
    us = np.concatenate([np.broadcast_to(u, (paths, 1, m)), path.u], 1)
    alive = np.concatenate([np.ones((paths, 1), bool), path.alive[:, :-1]], 1)
    rule, by_time = noise_rule(problem.plant.law), (np.swapaxes(a, 0, 1) for a in (xs, us))
    residual = np.where(alive, np.asarray(_residuals(problem.kernel, run.q, run.policy, rule, *by_time)).T, 0.0)
    contribution = residual * problem.gamma ** np.arange(steps)
    samples = contribution.sum(1)
    unfinished = float(np.mean(path.alive[:, -1]))
    return Sources(
        start_x=x, start_u=u, x=xs, u=us, alive=alive, residual=residual, contribution=contribution, q=float(run.Q(x, u)),
        total=float(samples.mean()), ci95=half_width(samples), tail=_tail(problem.gamma, steps, unfinished, residual), gamma=problem.gamma,
        states=problem.plant.states, inputs=problem.plant.inputs,
    )  # fmt: skip


def noise_rule(law) -> tuple[np.ndarray, np.ndarray]:
    """Quadrature of the noise w with about as many nodes (k, q) as are affordable, and their weights (k,)."""
    return law.quadrature(int(np.clip(np.floor(NODES ** (1 / max(law.q, 1))), 2, FINEST)))


def _tail(gamma, steps, unfinished, residual) -> float:
    """γ^K/(1−γ)·sup|ε|, for the share of paths still going."""
    if not unfinished:
        return 0.0
    return float(unfinished * gamma**steps / (1 - gamma) * np.max(np.abs(residual))) if gamma < 1 else float("inf")


@jax.jit
def _residuals(kernel, q, policy, rule, x, u):
    """ε (K, P) at x (K, P, n), u (K, P, m), one time at once."""
    value = lambda x: q.at(x, policy.act(x))
    return jax.lax.map(lambda z: q.at(*z) - kernel.backup(value, *z, rule), (jnp.asarray(x), jnp.asarray(u)))
