"""V* and Q* at single points of a problem without noise, in any dimension: multiple shooting on the sampled problem (Bock & Plitt 1984).

    maximise Σ_{k<N} γ^k r(x_k, u_k)   subject to   x_{k+1} = Φ(x_k, u_k),  x_0 = x,  (for Q: u_0 = u),  u_k in its box

with IPOPT, from several starts. N is doubled, every optimum being continued, until V changes by less than the tolerance: what is cut off
then is smaller than that change if it falls from one doubling to the next. Nothing is tabulated: `V(x)` solves its programmes when it is
called, and remembers them. ∇V is the multiplier of x_0 = x. IPOPT finds local maxima; that the best one is global is not proven.
"""

import functools
from dataclasses import dataclass

import casadi as ca
import jax
import jax.numpy as jnp
import numpy as np

from rlctrl.casadi_jax import JaxFunction
from rlctrl.errors import InputError, NotConverged, require, strict
from rlctrl.plant import box, finite_box
from rlctrl.policy import Policy
from rlctrl.progress import Progress
from rlctrl.reference.base import Reference
from rlctrl.reference.lq import lq_of
from rlctrl.tree import record, saved

DOUBLINGS = 7  # of the horizon
PROBES = 5  # random states at which `solve` states its error
REMEMBERED = 4096  # solved points
FAR = 1e6  # a start that leaves this range is held where it was
NAMED = 3  # failures listed in one message


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


def _casadi(function: JaxFunction, *arguments):
    """The tape replayed on CasADi symbols: a saved reference holds tapes, not CasADi objects."""
    work, out = {}, ca.SX.zeros(int(np.prod(function.shape, dtype=int)))
    for code, inputs, output, constant in function.tape:
        if code == ca.OP_CONST:
            work[output] = ca.SX(constant)
        elif code == ca.OP_INPUT:
            work[output] = ca.SX(arguments[inputs[0]])[inputs[1]]
        elif code == ca.OP_OUTPUT:
            out[function.places[output]] = work[inputs[0]]
        else:
            work[output] = (ca.SX.unary if len(inputs) == 1 else ca.SX.binary)(code, *(work[i] for i in inputs))
    return out


@functools.lru_cache(maxsize=64)
def _step(shooting) -> ca.Function:
    """(x, u) → Φ(x, u), r(x, u)."""
    x, u = ca.SX.sym("x", shooting.n), ca.SX.sym("u", shooting.m)
    p, w = ca.DM(shooting.p), ca.DM(shooting.w)
    return ca.Function("step", [x, u], [_casadi(shooting.update, x, u, w, p), _casadi(shooting.reward, x, u, p)])


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
    """An optimum: value, x (n, steps+1), u (m, steps), multipliers of the start."""

    value: float
    x: np.ndarray
    u: np.ndarray
    slope: np.ndarray


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
    z, slope = np.array(found["x"]).ravel(), np.array(found["lam_g"]).ravel()[: len(start)]
    return _Path(-float(found["f"]), z[: x.size].reshape(n, -1, order="F"), z[x.size :].reshape(shooting.m, -1, order="F"), slope)


def _rollout(shooting, x, first, policy, steps):
    """States and inputs of a policy k, x → u; a state that leaves the finite range is held."""
    step, low, high = _step(shooting), *np.array(shooting.inputs)
    xs, us = [x], []
    for k in range(steps):
        us.append(np.clip(policy(k, xs[-1]), low, high) if first is None or k else first)
        following = np.array(step(xs[-1], us[-1])[0]).ravel()
        xs.append(following if np.all(np.abs(following) < FAR) else xs[-1])  # also false for NaN
    return np.stack(xs, -1), np.stack(us, -1)


def _guesses(shooting, x, first):
    """Starts: the linear feedback if there is one, no input, random inputs."""
    rng = np.random.default_rng(0)
    policies = [_linear(shooting)] if shooting.gain else []
    policies.append(lambda k, x: np.zeros(shooting.m))
    while len(policies) < shooting.starts:
        draws = rng.normal(size=(shooting.horizon, shooting.m))
        policies.append(lambda k, x, draws=draws: draws[k])
    return [_rollout(shooting, x, first, policy, shooting.horizon) for policy in policies[: shooting.starts]]


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
class _Answer:
    """The best path at one point: value, slope (∇V, or ∇Q), first input, error estimate, horizon, number of distinct optima seen."""

    value: float
    slope: np.ndarray
    u: np.ndarray
    error: float
    steps: int
    optima: int


@functools.lru_cache(maxsize=REMEMBERED)
def _answer(shooting, point, fixed) -> _Answer | str:
    """The answer at a point (x, or x with u if `fixed`), or why there is none."""
    start = np.array(point)
    x, first = start[: shooting.n], start[shooting.n :] if fixed else None
    guesses, previous = _guesses(shooting, x, first), np.nan
    for _ in range(DOUBLINGS + 1):
        found = [_optimum(shooting, start, guess, fixed) for guess in guesses]
        paths = [path for path in found if isinstance(path, _Path)]
        if not paths:
            return f"IPOPT ended with: {found[0]} (horizon {guesses[0][1].shape[1]})"
        paths = _distinct(shooting, paths)
        best, steps = paths[0], paths[0].u.shape[1]
        change = abs(best.value - previous)
        if change <= shooting.tolerance * (1 + abs(best.value)):
            return _inside(shooting, best) or _Answer(
                best.value, best.slope, best.u[:, 0], change + shooting.tolerance * (1 + abs(best.value)), steps, len(paths)
            )
        previous, guesses = best.value, [_longer(shooting, path) for path in paths]
    return f"V still changes by {change:.1e} at horizon {steps}: raise `horizon`, or V is infinite"


def _inside(shooting, path) -> str:
    """Empty if the first half of the path, which the end of the horizon does not distort, stays in the box of the states."""
    if not shooting.states:
        return ""
    low, high = np.array(shooting.states)[..., None]
    x = path.x[:, : path.u.shape[1] // 2]
    out = np.any((x < low - 1e-9) | (x > high + 1e-9), 0)
    return f'the optimal path leaves the box at step {np.argmax(out)}, where the exit rule acts: use exit="free"' if np.any(out) else ""


def _table(shooting, fixed, points):
    """Rows (value, slope, first input) at points (..., n) or (..., n+m). Raises `NotConverged` naming the points that failed."""
    points = np.asarray(points, float)
    answers = [_answer(shooting, tuple(point.tolist()), fixed) for point in points.reshape(-1, points.shape[-1])]
    failed = [(k, answer) for k, answer in enumerate(answers) if isinstance(answer, str)]
    if failed:
        raise NotConverged(_failure(points.reshape(-1, points.shape[-1]), failed))
    rows = [np.concatenate([[a.value], a.slope, a.u]) for a in answers]  # type: ignore[union-attr]
    return np.reshape(rows, (*points.shape[:-1], 1 + points.shape[-1] + shooting.m))


def _failure(points, failed):
    listed = "; ".join(f"at {points[k].tolist()}: {reason}" for k, reason in failed[:NAMED])
    return f"OpenLoop failed at {len(failed)} of {len(points)} points, {listed}{'; …' if len(failed) > NAMED else ''}."


def _call(shooting, fixed, points):
    shape = jax.ShapeDtypeStruct((*points.shape[:-1], 1 + points.shape[-1] + shooting.m), jnp.float64)
    return jax.pure_callback(functools.partial(_table, shooting, fixed), shape, points, vmap_method="expand_dims")


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _optimal(shooting, fixed, points):
    """V (...) at states (..., n), or Q (...) at states and inputs (..., n+m) if `fixed`."""
    return _call(shooting, fixed, points)[..., 0]


@_optimal.defjvp
def _optimal_jvp(shooting, fixed, primals, tangents):
    rows = _call(shooting, fixed, primals[0])
    return rows[..., 0], jnp.sum(rows[..., 1 : 1 + primals[0].shape[-1]] * tangents[0], -1)


@record(static=("shooting",))
@dataclass(frozen=True, eq=False)
class OpenLoopValue:
    """V(x) by solving for the optimal path from x."""

    shooting: Shooting

    def at(self, x):
        """V (...) at x (..., n)."""
        return _optimal(self.shooting, False, jnp.asarray(x))


@record(static=("shooting",))
@dataclass(frozen=True, eq=False)
class OpenLoopQ:
    """Q(x, u) by solving for the optimal path from x that begins with u."""

    shooting: Shooting

    def at(self, x, u):
        """Q (...) at x (..., n), u (..., m)."""
        batch = jnp.broadcast_shapes(x.shape[:-1], u.shape[:-1])
        parts = [jnp.broadcast_to(a, (*batch, a.shape[-1])) for a in (x, u)]
        return _optimal(self.shooting, True, jnp.concatenate(parts, -1))


@record(static=("shooting",))
@dataclass(frozen=True, eq=False)
class OpenLoopPolicy(Policy):
    """The first input of the optimal path from x."""

    shooting: Shooting

    def act(self, x):
        return _call(self.shooting, False, jnp.asarray(x))[..., -self.shooting.m :]


@strict
@dataclass(frozen=True)
class OpenLoop:
    """Optimal paths from single points, by multiple shooting; plants without noise, any number of states.

    `tolerance`: change of V, relative to 1 + |V|, from one doubling of the horizon to the next at which it stops. `horizon`: steps to begin
    with. `starts`: guesses per point (LQR at the origin or the box centre where it exists, no input, random inputs). Every value costs
    nonlinear programmes, solved on demand and remembered; a point without answer raises, by name, when it is asked for.
    Raises `InputError` for noise, a target, inputs with finitely many values, and a reward or dynamics that do not turn with a periodic
    state.
    """

    tolerance: float = 1e-8
    horizon: int = 50
    starts: int = 2

    def __post_init__(self):
        require(0 < self.tolerance < 1, "tolerance", "must lie in (0, 1)", self.tolerance, "Use 1e-8.")
        for name in ("horizon", "starts"):
            value = getattr(self, name)
            require(isinstance(value, int | np.integer) and value >= 1, name, "must be a whole number ≥ 1", value, "See the docstring.")

    def solve(self, problem, progress=False):
        _check(problem)
        shooting = self._shooting(problem)
        low, high = finite_box(problem.plant.states)
        points = np.random.default_rng(0).uniform(low, high, (PROBES, problem.plant.n))
        with Progress("OpenLoop", progress) as bar:
            answers = []
            for k, point in enumerate(points):
                answers.append(_answer(shooting, tuple(point.tolist()), False))
                bar.to((k + 1) / PROBES, f"probe {k + 1} of {PROBES}")
        failed = [(k, answer) for k, answer in enumerate(answers) if isinstance(answer, str)]
        good = [answer for answer in answers if not isinstance(answer, str)]
        error = max(answer.error for answer in good) if good and not failed else float("inf")
        steps = max((answer.steps for answer in good), default=0)
        text = f"{len(good)} probe points solved, horizon up to {steps} steps, error up to {error:.1e}."
        return Reference(
            method="OpenLoop",
            kernel=problem.kernel,
            states=problem.plant.states,
            inputs=problem.plant.inputs,
            value=OpenLoopValue(shooting),
            policy=OpenLoopPolicy(shooting),
            rule=problem.plant.law.quadrature(1),
            error=error,
            error_kind="estimated",
            error_terms={"horizon and programme": error},
            converged=not failed,
            residual=_residual(problem, shooting, points) if not failed else float("inf"),
            message=_failure(points, failed) if failed else text,
            iterations=steps,
            closed_form=OpenLoopQ(shooting),
            notes=tuple(_notes(good)),
        )

    def _shooting(self, problem):
        kernel, (low, high) = problem.kernel, box(problem.plant.states)
        pair = lambda signals: tuple(tuple(side.tolist()) for side in box(signals))
        return Shooting(
            update=kernel.update,
            reward=kernel.reward_function,
            p=tuple(problem.plant.parameter_vector.tolist()),
            w=tuple(np.asarray(problem.plant.law.mean).tolist()),
            gamma=problem.gamma,
            inputs=pair(problem.plant.inputs),
            states=() if problem.exit == "free" else _turning(problem, low, high),
            gain=_gain(problem),
            tolerance=float(self.tolerance),
            horizon=int(self.horizon),
            starts=int(self.starts),
        )


def _turning(problem, low, high):
    """The box of the states, open where they turn."""
    turns = np.array([s.periodic for s in problem.plant.states])
    return tuple(np.where(turns, -np.inf, low).tolist()), tuple(np.where(turns, np.inf, high).tolist())


def _gain(problem):
    """Rows of K, x0, u0 of the LQR at the origin, or at the centre of the box if that does not hold it; empty if there is none."""
    low, high = finite_box((*problem.plant.states, *problem.plant.inputs))
    z = np.where(np.all((low <= 0) & (high >= 0)), 0.0, 0.5 * (low + high))
    about = z[: problem.plant.n], z[problem.plant.n :]
    try:
        found = lq_of(problem, about)[0].solve()
    except (InputError, np.linalg.LinAlgError):
        return ()
    return tuple(map(tuple, found.K.tolist())), tuple(about[0].tolist()), tuple((about[1] - found.shift).tolist())


def _check(problem):
    plant, kernel = problem.plant, problem.kernel
    require(problem.target is None, "target", "is not known to OpenLoop", problem.target, "Use rc.GridDP.")
    finite = [s.name for s in plant.inputs if s.values]
    require(not finite, "inputs", "must not be limited to finitely many values", finite, "Use rc.GridDP.")
    low, high = finite_box((*plant.states, *plant.inputs))
    x, u = np.split(np.random.default_rng(0).uniform(low, high, (16, len(low))), [plant.n], axis=1)
    nodes, _ = plant.law.quadrature(3)
    spread = kernel.update(x[:, None], u[:, None], nodes, kernel.p) - kernel.update(x, u, plant.law.mean, kernel.p)[:, None]
    moved = float(jnp.max(jnp.abs(spread)))
    require(moved <= 1e-12, "plant", "must be without noise for OpenLoop", f"noise moves x_+ by {moved:.2g}", "Use rc.GridDP.")
    turn = np.array([s.high - s.low if s.periodic else 0.0 for s in plant.states])
    if np.any(turn):
        gap = kernel.update(x + turn, u, plant.law.mean, kernel.p) - turn - kernel.update(x, u, plant.law.mean, kernel.p)
        change = float(max(jnp.max(jnp.abs(gap)), jnp.max(jnp.abs(kernel.reward(x + turn, u) - kernel.reward(x, u)))))
        way_out = "Write angles by sine and cosine."
        require(change <= 1e-9, "reward", "and dynamics must repeat after one turn of a periodic state", change, way_out)


def _residual(problem, shooting, points):
    """Largest |r(x, u) + γV(x_+) − V(x)| at the probes under the first inputs found."""
    rows = _table(shooting, False, points)
    u = rows[:, -shooting.m :]
    x_next = problem.kernel.free_step(points, u, problem.plant.law.mean)
    try:
        onward = _table(shooting, False, x_next)[:, 0]
    except NotConverged:
        return float("inf")
    return float(np.max(np.abs(np.asarray(problem.kernel.reward(points, u)) + problem.gamma * onward - rows[:, 0])))


def _notes(good):
    several = sum(answer.optima > 1 for answer in good)
    yield "IPOPT finds local optima: that the best one found is the global one is not proven."
    yield f"From {several} of {len(good)} probe points the starts ended in different optima; the best counts."
    yield "`error` is the largest estimate at the probes; every other point is held to the same tolerance when it is asked for."
