"""A critic and a policy from anywhere (another library's, a table, a formula), scored against Q*.

With e_Q = Q* − Q̂ and π the policy that the critic was trained for,
    e_Q = (Q* − Q^π) + (Q^π − Q̂):   what the policy gives away, and how far the critic misjudges it;
    e* = Q*(z) − r − γQ*(z_+) = noise + policy (T11), z_+ = (x_+, π(x_+)): what even a perfect critic would see as its TD error.
Q^π comes from simulated paths; two independent sets of them keep the noise out of its mean square.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.analysis.points import spread, uniform_points
from rlctrl.errors import InputError, first_line, require, require_whole, strict
from rlctrl.maximise import input_set
from rlctrl.policy import as_policy
from rlctrl.problem import Problem
from rlctrl.reference.base import Reference
from rlctrl.result import Result
from rlctrl.simulate import horizon, simulate

EXACT = 1e-9  # of std Q*: an error below it is round-off
ROWS = {
    "relative_error": "error of Q̂",
    "bias": "of it a constant (mean of Q̂ − Q*)",
    "advantage_error": "error of Q̂ − max Q̂ (what greedy inputs use)",
    "policy_loss": "given away by the policy, Q* − Q^π",
    "misjudgement": "misjudged by the critic, Q^π − Q̂",
    "bellman_residual": "Bellman residual TQ̂ − Q̂",
    "e_star_noise": "e*: noise",
    "e_star_policy": "e*: policy",
}


@dataclass(frozen=True, eq=False, repr=False)
class Score(Result):
    """Root mean squares over std Q* (of `bias` the mean), by measure: `uniform` over the box of states (in which the problem goes on)
    and inputs, `visited`: the discounted occupancy of the policy. Keys as in `ROWS`. `spread`: std Q* of each measure, nan, like all
    numbers over it, where Q* does not vary; `reference_error`: what the reference states about its own V*."""

    uniform: dict[str, float]
    visited: dict[str, float]
    spread: tuple[float, float]
    reference_error: float

    def table(self) -> str:
        """The numbers as text."""
        width = max(map(len, ROWS.values()))
        lines = [f"{'relative to std Q*':{width}}   uniform  visited"]
        lines += [f"{label:{width}}  {self.uniform[key]:8.3f} {self.visited[key]:8.3f}" for key, label in ROWS.items()]
        known = [self.reference_error / scale for scale in self.spread]
        lines.append(f"{'(stated error of the reference)':{width}}  {known[0]:8.3f} {known[1]:8.3f}")
        return "\n".join([*lines, f"{'(std Q* itself)':{width}}  {self.spread[0]:8.3g} {self.spread[1]:8.3g}"])

    @property
    def verdict(self) -> str:
        """What the visited column says, in words."""
        v, whole = self.visited, 100 * self.uniform["relative_error"]
        if np.isnan(v["relative_error"]):
            known = (
                "nor does it over the box" if np.isnan(whole) else f"over the box the critic is off by {whole:.0f} % of the spread of Q*"
            )
            return f"Q* does not vary where the policy goes, so that nothing can be measured by its spread there; {known}."
        if v["relative_error"] <= EXACT:
            loss = f"the policy gives away {100 * v['policy_loss']:.0f} % of the spread of Q*"
            return f"Where its policy goes the critic is Q* but for rounding ({whole:.0f} % off over the box); {loss}."
        larger = "the critic misjudges its policy" if v["misjudgement"] > v["policy_loss"] else "the policy gives value away"
        offset = abs(v["bias"]) > 0.7 * v["relative_error"]
        kind = "mostly a constant offset, which greedy inputs ignore" if offset else "of the wrong shape, not merely offset"
        return (
            f"Where its policy goes the critic is off by {100 * v['relative_error']:.0f} % of the spread of Q* "
            f"({whole:.0f} % over the box), mainly because {larger}; the error is {kind}."
        )


@strict
def score(problem: Problem, reference: Reference, Q, policy, *, points=1024, steps=None, paths=4, inputs=21, seed=0) -> Score:
    """Score a critic `Q(x, u)`, a function of arrays (N, n), (N, m) → (N,), and its `policy` against a `reference` of the same `problem`.

    `points` points of each measure; `steps` (default: until γ^steps < 1e-3) and `paths` of the simulations for Q^π; `inputs` candidates a
    side for maxima over u; `seed` draws everything. Raises `InputError` for a Q of the wrong shape and a reference of another problem.
    """
    for argument, value, least in (("points", points, 8), ("paths", paths, 1), ("seed", seed, 0)):
        require_whole(argument, value, least, "Leave it out to use the default.")
    require(reference.is_of(problem), "reference", "must be of the problem that is scored", reference.method, "Solve this problem.")
    policy, steps = as_policy(policy, problem.plant.n, problem.plant.m), horizon(problem.gamma, steps, small=1e-3)
    critic, candidates = _checked(Q, problem), np.asarray(input_set(problem.plant.inputs, inputs).candidates)
    n, uniform = problem.plant.n, uniform_points((*problem.plant.states, *problem.plant.inputs), problem.kernel, points, seed)
    measures = (uniform, _visited(problem, policy, uniform[:, :n], steps, seed))
    found = [_measured(problem, reference, critic, policy, z, candidates, steps, paths, seed) for z in measures]
    return Score(found[0][0], found[1][0], (found[0][1], found[1][1]), float(reference.error))


def _checked(Q, problem):
    """Q as a function of arrays with any leading axes, its results checked."""
    n, m = problem.plant.n, problem.plant.m

    def critic(x, u):
        batch = np.broadcast_shapes(x.shape[:-1], u.shape[:-1])
        flat = [np.broadcast_to(a, (*batch, a.shape[-1])).reshape(-1, a.shape[-1]) for a in (x, u)]
        try:
            value = np.asarray(Q(*flat), float)
        except Exception as error:
            found = f"on {len(flat[0])} rows it raised {type(error).__name__}: {first_line(error)}"
            raise InputError(f"`Q` must map states (N, {n}) and inputs (N, {m}) to (N,); {found}. Work on arrays.") from error
        require(value.shape == flat[0].shape[:1], "Q", f"must map states (N, {n}) and inputs (N, {m}) to (N,)", value.shape, "Flatten it.")
        require(bool(np.all(np.isfinite(value))), "Q", "must be finite over the box", "nan or inf", "Train again, or shrink the box.")
        return value.reshape(batch)

    require(callable(Q), "Q", "must be a function of (x, u)", Q, "Pass run.Q or a Python function.")
    return critic


def _visited(problem, policy, x0, steps, seed):
    """As many points (x, π(x)) as starts, drawn from the discounted occupancy."""
    path = simulate(problem, policy, x0, steps, seed=seed)
    weight = path.alive[:, :-1] * problem.gamma ** np.arange(steps)
    chosen = np.random.default_rng(seed).choice(weight.size, len(x0), p=(weight / weight.sum()).ravel())
    return np.concatenate([path.x[:, :-1], path.u], -1).reshape(weight.size, -1)[chosen]


@jax.jit
def _ahead(kernel, x, u, nodes):
    """Reward (N,), next states (N, K, n), whether the problem ends there and with what."""
    following, _ = kernel.step(x[:, None], u[:, None], nodes)
    end = kernel.ended(following) if kernel.can_end else jnp.zeros(following.shape[:-1], bool)
    inside = jnp.where(end[..., None], kernel.clip(following), following)
    return kernel.reward(x, u), inside, end, kernel.exit_value(following)


def _measured(problem, reference, critic, policy, z, candidates, steps, paths, seed):
    """The numbers of `ROWS` on points z (N, n+m), and std Q* there."""
    n, gamma = problem.plant.n, problem.gamma
    x, u, mass = z[:, :n], z[:, n:], np.asarray(reference.rule[1])
    reward, following, end, exit_value = map(np.asarray, _ahead(problem.kernel, x, u, reference.rule[0]))
    q_star, q = reference.Q(x, u), critic(x, u)
    best = lambda x: np.max(critic(x[..., None, :], candidates), -1)
    backup = reward + gamma * np.where(end, exit_value, best(following)) @ mass
    v_star = np.where(end, exit_value, reference.V(following))
    by_policy = np.where(end, 0.0, gamma * (v_star - reference.Q(following, policy(following))))
    worth = [_worth(problem, policy, x, u, steps, paths, seed + k) for k in (1, 2)]
    found = {
        "relative_error": _rms(q - q_star),
        "bias": float(np.mean(q - q_star)),
        "advantage_error": _rms((q - best(x)) - (q_star - reference.V(x))),
        "policy_loss": _rms(q_star - worth[0], q_star - worth[1]),
        "misjudgement": _rms(worth[0] - q, worth[1] - q),
        "bellman_residual": _rms(backup - q),
        "e_star_noise": float(np.sqrt(np.mean((q_star[:, None] - reward[:, None] - gamma * v_star) ** 2 @ mass))),
        "e_star_policy": float(np.sqrt(np.mean(by_policy**2 @ mass))),
    }
    scale = spread(q_star)
    return {name: value / scale for name, value in found.items()}, scale


def _worth(problem, policy, x, u, steps, paths, seed):
    """Q^π (N,) at x (N, n), u (N, m): the mean over `paths` simulated ones."""
    following = problem.sample(x, u, seed, paths)
    path = simulate(problem, policy, following.reshape(-1, x.shape[-1]), steps, seed=seed + 1_000_000)
    return problem.reward(x, u) + problem.gamma * path.returns.reshape(paths, len(x)).mean(0)


def _rms(a, b=None):
    """Root mean square of a; of what a and b have in common, if their noise is independent."""
    return float(np.sqrt(max(np.mean(a * (a if b is None else b)), 0.0)))
