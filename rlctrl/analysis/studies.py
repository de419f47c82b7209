"""What the network and the policy cost, whatever the training: e_Q against width (T10), e* for named policies (T11), over uniform points of
Z at which the problem goes on. Both see a reference and no training."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.analysis.decomposition import rms
from rlctrl.analysis.fit import best_fit, with_fitted_output
from rlctrl.analysis.points import spread, uniform_points
from rlctrl.analysis.sources import noise_rule
from rlctrl.analysis.transitions import values
from rlctrl.critic.network import Critic
from rlctrl.errors import require, require_whole, strict
from rlctrl.policy import as_policies
from rlctrl.reference.base import Reference
from rlctrl.result import Result

ROUND_OFF = 1e-9  # of std Q*: an e_Q below it is not the network's


@dataclass(frozen=True, eq=False, repr=False)
class WidthStudy(Result):
    """(T10) e_Q of the best fit for several `widths` (W,), networks of `weights` p (W,).

    `rms` and `sup` of e_Q (W,) on points that no fit saw, `fit_rms` (W,) on those it did, `spread` = std Q*, nan where Q* is constant.
    `points`: how many of each.
    """

    widths: np.ndarray
    weights: np.ndarray
    rms: np.ndarray
    sup: np.ndarray
    fit_rms: np.ndarray
    spread: float
    points: int
    method: str

    @property
    def rate(self) -> float:
        """α in rms e_Q ∝ width^−α, fitted where e_Q is above round-off (nan: nowhere, or Q* is constant)."""
        return self._slope(self.rms)

    @property
    def sup_rate(self) -> float:
        """The same for the sup."""
        return self._slope(self.sup)

    def _slope(self, errors):
        seen = errors > ROUND_OFF * self.spread
        if seen.sum() < 2:
            return float("nan")
        return float(-np.polyfit(np.log(self.widths[seen]), np.log(errors[seen]), 1)[0])

    def summary(self) -> dict:
        """Headline numbers."""
        return {"widths": self.widths.tolist(), "rms": self.rms.tolist(), "sup": self.sup.tolist(), "rate": self.rate}

    def table(self) -> str:
        """The study as text."""
        lines = [f"{'width':>5}  {'weights':>7}  {'rms e_Q':>9}  {'sup e_Q':>9}  rms/std Q*   (rms ∝ width^−{self.rate:.2f})"]
        rows = zip(self.widths, self.weights, self.rms, self.sup, strict=True)
        return "\n".join(lines + [f"{w:5}  {p:7}  {r:9.3g}  {s:9.3g}  {r / self.spread:9.2e}" for w, p, r, s in rows])


@strict
def width_study(
    reference: Reference, critic, widths: Sequence[int] = (8, 16, 32, 64, 128, 256), points=2048, starts=2, iterations=80, seed=0
) -> WidthStudy:
    """Fit Q* of a `reference` by a `critic` with every one of `widths` units in each of its hidden layers, and measure what is left.

    On `points` low-discrepancy points, from `starts` random starts and from the fit of the width before (two layers: with units of no
    effect added, so that no width fits worse than a narrower one); at most `iterations` Levenberg–Marquardt steps each. Raises
    `InputError` for an unbounded box and for widths that do not increase.
    """
    require(isinstance(critic, Critic) and len(critic.hidden) > 0, "critic", "must have a hidden layer", critic, "Use rc.Critic().")
    for argument, value, least in (("points", points, 4), ("starts", starts, 1), ("iterations", iterations, 1), ("seed", seed, 0)):
        require_whole(argument, value, least, "Leave it out to use the default.")
    for width in widths:
        require_whole("widths", width, 1, "Use (8, 16, 32).")
    growing = len(widths) > 0 and all(a < b for a, b in itertools.pairwise(widths))
    require(growing, "widths", "must be increasing whole numbers ≥ 1", widths, "Use (8, 16, 32).")
    (fit_z, target), (z, q_star) = (_points(reference, points, seed + k) for k in (0, 1))
    found, before = [], None
    for width in widths:
        network = replace(critic, hidden=(width,) * len(critic.hidden)).network(reference)
        begin = _starts(network, critic.scale, starts, seed, fit_z, target)
        begin += [] if before is None or len(critic.hidden) > 1 else [_widened(network, before, begin[0])]
        fits, errors = best_fit(network, begin, fit_z, target, iterations)
        before = fits[np.argmin(errors)]
        e_q = q_star - np.asarray(values(network, before, z))
        found.append((width, network.size, rms(e_q), np.max(np.abs(e_q)), errors.min()))
    columns = dict(zip(("widths", "weights", "rms", "sup", "fit_rms"), map(np.array, zip(*found, strict=True)), strict=True))
    return WidthStudy(**columns, spread=spread(q_star), points=points, method=reference.method)


def _points(reference, count, seed):
    """Uniform points of Z and Q* there."""
    z, n = _uniform(reference, count, seed), len(reference.states)
    return z, reference.Q(z[:, :n], z[:, n:])


def _uniform(reference, count, seed):
    """Uniform points of Z at which the problem of a reference goes on."""
    return uniform_points((*reference.states, *reference.inputs), reference.kernel, count, seed)


def _starts(network, scale, count, seed, z, target):
    """Random weights with the output layer fitted."""
    keys = jax.random.split(jax.random.key(seed), count)
    return [with_fitted_output(network, network.initial(key, scale), z, target) for key in keys]


def _widened(network, narrow, fresh):
    """The weights of a narrower network among fresh units whose output weight is 0: the same function (two layers)."""
    width = network.hidden[0]
    old = len(narrow) // (1 + network.features.size)
    output, hidden = np.zeros(width), np.array(fresh[width:]).reshape(width, -1)
    output[:old], hidden[:old] = narrow[:old], narrow[old:].reshape(old, -1)
    return jnp.asarray(np.concatenate([output, hidden.ravel()]))


@dataclass(frozen=True, eq=False, repr=False)
class EStar(Result):
    """(T11) What policies and noise add to the TD error, at uniform points `z` (N, n+m) of Z.

    `policy[name]` (N,): E[e*_policy | z] = γ E[V*(X_+) − Q*(X_+, p(X_+))] ≥ 0. `noise` (N,): the standard deviation of e*_noise given z,
    γ std V*(X_+), the same under every policy. `residual`: sup |V* − Q*(x, π*(x))| of the reference on the successors, times γ, which every
    policy's part inherits.
    """

    z: np.ndarray
    policy: dict[str, np.ndarray]
    noise: np.ndarray
    residual: float

    def summary(self) -> dict:
        """rms and sup of every part."""
        parts = {f"policy {name}": e for name, e in self.policy.items()} | {"noise": self.noise}
        return {name: {"rms": rms(e), "sup": float(np.max(np.abs(e)))} for name, e in parts.items()} | {"residual": self.residual}

    def table(self) -> str:
        """The parts as text."""
        found = {name: sizes for name, sizes in self.summary().items() if name != "residual"}
        width = max(map(len, found))
        lines = [f"{'part of e*':{width}}  {'rms':>9}  {'sup':>9}   (reference: {self.residual:.2g})"]
        return "\n".join(lines + [f"{name:{width}}  {sizes['rms']:9.3g}  {sizes['sup']:9.3g}" for name, sizes in found.items()])


@strict
def e_star(reference: Reference, policies, points=2048, seed=0) -> EStar:
    """e* (T11) of every policy of a dictionary `policies` = {name: policy} against a `reference`, at `points` low-discrepancy points of Z
    drawn from `seed`. Expectations by quadrature; where the problem ends, V* is the exit value and no policy errs."""
    for argument, value, least in (("points", points, 4), ("seed", seed, 0)):
        require_whole(argument, value, least, "Leave it out to use the default.")
    ready = as_policies(policies, len(reference.states), len(reference.inputs))
    z, n, kernel = _uniform(reference, points, seed), len(reference.states), reference.kernel
    nodes, weights = noise_rule(kernel.noise)
    ahead, ended, v = map(np.asarray, _ahead(kernel, reference.value, nodes, z[:, :n], z[:, n:]))
    gamma = float(kernel.gamma)
    part = lambda policy: gamma * np.where(ended, 0.0, v - reference.Q(ahead, policy(ahead)))
    noise = gamma * np.sqrt(np.maximum((v - (v @ weights)[:, None]) ** 2 @ weights, 0.0))
    found = {name: part(policy) @ weights for name, policy in ready.items()}
    return EStar(z, found, noise, float(np.max(np.abs(part(reference.policy)))))


@jax.jit
def _ahead(kernel, value, nodes, x, u):
    """Successors (N, k, n) by noise node, whether the problem ended there, and V* or the exit value (N, k)."""
    ahead = kernel.step(x[:, None], u[:, None], jnp.asarray(nodes))[0]
    return ahead, kernel.ended(ahead), kernel.continuation(value.at, ahead)
