"""One open-loop programme: the sampled problem from one state over a finite horizon, by multiple shooting (Bock & Plitt 1984) with IPOPT.

    maximise Σ_{k<N} γ^k r(x_k, u_k)   subject to   x_{k+1} = Φ(x_k, u_k),  x_0 = x,  (for Q: u_0 = u),  u_k in its box

N is doubled, every optimum being continued, until V changes by less than the tolerance. The first optima grow out of those of an eighth of
the horizon, beside starts of the full one.

Error estimate of an answer: what further doublings would add, and the gap. With c the last change of V and r the factor by which it fell,
c r/(1 − r) is left if changes go on falling by r (like a power of N), and less if they fall faster and faster (like an exponential: γ < 1,
or paths that settle), as most do. If the last two changes differ in sign, c counts. The gap is Σ|λ·g| over the constraints plus λ times
the distance over the bounds, by which the value of a programme can be off to first order, plus rounding.
"""

import functools
from dataclasses import dataclass

import casadi as ca
import numpy as np

from rlctrl.casadi_jax import JaxFunction
from rlctrl.tree import saved

DOUBLINGS = 7  # of the horizon
SHORTER = 3  # halvings of the horizon with which to begin
REMEMBERED = 4096  # solved points
FAR = 1e6  # a start that leaves this range is held where it was
SLOWEST = 0.9  # factor by which changes are taken to fall on at least
EPS = float(np.finfo(float).eps)


@saved
@dataclass(frozen=True)
class Shooting:
    """Everything that defines the programmes, hashable: Φ and r with their parameters, boxes, start gain (rows of K, x0, u0), settings.

    `states` is the box to stay in, empty where leaving it costs nothing.
    """

    update: JaxFunction
    reward: JaxFunction
    p: tuple
    w: tuple
    gamma: float
    inputs: tuple
    states: tuple
    gain: tuple
    tolerance: float
    horizon: int
    starts: int

    @property
    def n(self):
        return self.update.sizes[0]

    @property
    def m(self):
        return self.update.sizes[1]


@functools.lru_cache(maxsize=64)
def _step(shooting) -> ca.Function:
    """(x, u) → Φ(x, u), r(x, u)."""
    x, u = ca.SX.sym("x", shooting.n), ca.SX.sym("u", shooting.m)
    p, w = ca.DM(shooting.p), ca.DM(shooting.w)
    return ca.Function("step", [x, u], [shooting.update.symbolic(x, u, w, p), shooting.reward.symbolic(x, u, p)])


@functools.lru_cache(maxsize=64)
def _programme(shooting, steps, fixed) -> ca.Function:
    """IPOPT on `steps` steps; parameter x_0, or (x_0, u_0) if the first input is `fixed`; its constraints come first."""
    x, u = ca.MX.sym("x", shooting.n, steps + 1), ca.MX.sym("u", shooting.m, steps)
    first = ca.vertcat(x[:, 0], u[:, 0]) if fixed else x[:, 0]
    start = ca.MX.sym("start", first.shape[0])
    following, rewards = _step(shooting).map(steps)(x[:, :-1], u)
    cost = -ca.dot(rewards.T, ca.DM(shooting.gamma ** np.arange(steps)))
    gaps = ca.vertcat(first - start, ca.vec(x[:, 1:] - following))
    programme = {"x": ca.veccat(x, u), "f": cost, "g": gaps, "p": start}
    ipopt = {"print_level": 0, "sb": "yes", "tol": max(0.01 * shooting.tolerance, 1e-12), "bound_relax_factor": 0.0, "max_iter": 500}
    options = {"ipopt": {**ipopt, "acceptable_iter": 0}, "print_time": False, "show_eval_warnings": False, "error_on_fail": False}
    return ca.nlpsol("open_loop", "ipopt", programme, options)


@dataclass(frozen=True)
class _Path:
    """An optimum: value, x (n, steps+1), u (m, steps), multipliers of the start, duality gap."""

    value: float
    x: np.ndarray
    u: np.ndarray
    slope: np.ndarray
    gap: float


def _optimum(shooting, start, guess, fixed) -> _Path | str:
    """The optimum reached from a guess (x, u), or IPOPT's reason for failing."""
    x, u = guess
    steps, n = u.shape[1], shooting.n
    solver = _programme(shooting, steps, fixed)
    bounds = [np.concatenate([np.full(x.size, side * np.inf), np.tile(b, steps)]) for side, b in zip((-1, 1), shooting.inputs, strict=True)]
    if fixed:  # the input asked for counts even on or outside the box
        for bound, side in zip(bounds, (-1, 1), strict=True):
            bound[x.size : x.size + shooting.m] = side * np.inf
    z = np.concatenate([x.ravel(order="F"), u.ravel(order="F")])
    found = solver(x0=z, p=start, lbx=bounds[0], ubx=bounds[1], lbg=0, ubg=0)
    stats = solver.stats()
    if not stats["success"]:
        return str(stats["return_status"]).replace("_", " ")
    z, multipliers, gap = (np.array(found[name]).ravel() for name in ("x", "lam_g", "g"))
    value, wall = -float(found["f"]), np.array(found["lam_x"]).ravel()
    room = np.where(wall > 0, bounds[1] - z, z - bounds[0])
    near = np.isfinite(room)
    slack = np.sum(np.abs(multipliers * gap)) + np.sum(np.abs(wall[near] * room[near])) + steps * EPS * (1 + abs(value))
    xs, us = z[: x.size].reshape(n, -1, order="F"), z[x.size :].reshape(shooting.m, -1, order="F")
    return _Path(value, xs, us, multipliers[: len(start)], float(slack))


def _rollout(shooting, x, first, policy, steps):
    """States and inputs of a policy k, x → u; a state that leaves the finite range is held."""
    step, low, high = _step(shooting), *np.array(shooting.inputs)
    xs, us = [x], []
    for k in range(steps):
        us.append(np.clip(policy(k, xs[-1]), low, high) if first is None or k else first)
        following = np.array(step(xs[-1], us[-1])[0]).ravel()
        xs.append(following if np.all(np.abs(following) < FAR) else xs[-1])  # also false for NaN
    return np.stack(xs, -1), np.stack(us, -1)


def _fresh(shooting, x, first, steps):
    """Starts: the linear feedback if there is one, no input, random inputs."""
    rng = np.random.default_rng(0)
    policies = [_linear(shooting)] if shooting.gain else []
    policies.append(lambda k, x: np.zeros(shooting.m))
    while len(policies) < shooting.starts:
        draws = rng.normal(size=(steps, shooting.m))
        policies.append(lambda k, x, draws=draws: draws[k])
    return [_rollout(shooting, x, first, policy, steps) for policy in policies[: shooting.starts]]


def _guesses(shooting, start, fixed):
    """Starts of the full horizon, after those grown out of the optima of an eighth of it (short programmes have fewer local optima), and
    the best values on the way."""
    x, first, steps = start[: shooting.n], start[shooting.n :] if fixed else None, -(-shooting.horizon // 2**SHORTER)
    grown, values = _fresh(shooting, x, first, steps), []
    for _ in range(SHORTER):
        paths = _optima(shooting, start, grown, fixed)[0]
        values.append(paths[0].value if paths else np.nan)
        grown = [_longer(shooting, path) for path in paths]
    return [*grown, *_fresh(shooting, x, first, steps * 2**SHORTER)], values


def _optima(shooting, start, guesses, fixed):
    """The distinct optima reached, best first, and the reasons of the failures."""
    found = [_optimum(shooting, start, guess, fixed) for guess in guesses]
    paths = [path for path in found if isinstance(path, _Path)]
    return _distinct(shooting, paths) if paths else [], [reason for reason in found if isinstance(reason, str)]


def _linear(shooting):
    K, x0, u0 = (np.array(part) for part in shooting.gain)
    return lambda k, x: u0 - K @ (x - x0)


def _longer(shooting, path):
    """A path continued to twice its length: by the linear feedback, else with its last input."""
    policy = _linear(shooting) if shooting.gain else lambda k, x: path.u[:, -1]
    x, u = _rollout(shooting, path.x[:, -1], None, policy, path.u.shape[1])
    return np.concatenate([path.x, x[:, 1:]], 1), np.concatenate([path.u, u], 1)


def _distinct(shooting, paths):
    """The paths whose values differ, best first."""
    paths = sorted(paths, key=lambda path: -path.value)
    allowed = 10 * shooting.tolerance * (1 + abs(paths[0].value))
    return [path for k, path in enumerate(paths) if k == 0 or paths[k - 1].value - path.value > allowed]


@dataclass(frozen=True)
class Answer:
    """The best path at one point: value, slope (∇V, or ∇Q), first input, error estimate, horizon, number of distinct optima seen."""

    value: float
    slope: np.ndarray
    u: np.ndarray
    error: float
    steps: int
    optima: int


@functools.lru_cache(maxsize=REMEMBERED)
def answer(shooting, point, fixed) -> Answer | str:
    """The answer at a point (x, or x with u if `fixed`), or why there is none."""
    start = np.array(point)
    guesses, values = _guesses(shooting, start, fixed)
    for _ in range(DOUBLINGS + 1):
        paths, reasons = _optima(shooting, start, guesses, fixed)
        if not paths:
            reason = f"IPOPT ended with: {reasons[0]} (horizon {guesses[0][1].shape[1]})"
            return f"{reason}; V may be infinite, r or Φ undefined there, or more `starts` needed"
        best = paths[0]
        values.append(best.value)
        if abs(values[-1] - values[-2]) <= shooting.tolerance * (1 + abs(best.value)):
            error, steps = _tail(values) + best.gap, best.u.shape[1]
            return _inside(shooting, best) or Answer(best.value, best.slope, best.u[:, 0], error, steps, len(paths))
        guesses = [_longer(shooting, path) for path in paths]
    change, steps = abs(values[-1] - values[-2]), best.u.shape[1]
    return f"V still changes by {change:.1e} at horizon {steps}: raise `horizon`, or V is infinite"


def _tail(values):
    """What further doublings of the horizon add to the last of the values, each of twice the horizon of the one before."""
    changes = np.diff([v for v in values if np.isfinite(v)][-3:])
    sizes = np.maximum(np.abs(changes), 1e-300)
    if len(sizes) < 2 or changes[-1] * changes[-2] < 0:
        return float(sizes[-1])
    ratio = min(sizes[-1] / sizes[-2], SLOWEST)
    return float(sizes[-1] * ratio / (1 - ratio))


def _inside(shooting, path) -> str:
    """Empty if the first half of the path, which the end of the horizon does not distort, stays in the box of the states."""
    if not shooting.states:
        return ""
    low, high = np.array(shooting.states)[..., None]
    x = path.x[:, : path.u.shape[1] // 2]
    out = np.any((x < low - 1e-9) | (x > high + 1e-9), 0)
    return f'the optimal path leaves the box at step {np.argmax(out)}, where the exit rule acts: use exit="free"' if np.any(out) else ""
