"""V* and Q* at single points of a problem without noise, in any dimension, by one open-loop programme per point (`shooting`).

Nothing is tabulated: `V(x)` solves its programmes when it is called, and remembers them. ∇V is the multiplier of x_0 = x. IPOPT finds local
maxima; that the best one is global is not proven. Under exit="clip" paths may rest on the walls of the box; "absorb" is refused, since
leaving may pay more than the best of the paths that stay. Measured on two busy cores: linear plants with 3 to 8 states 25–150 ms a point
(horizon 56 to 1800 steps), the Van der Pol oscillator 0.3–0.6 s (1000 steps), a growth model 0.7 s (900 steps), a quadrotor in its box with
6 states 1–3 s, with 12 states 2–35 s of a core (448 steps).
"""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rlctrl.errors import InputError, NotConverged, require, require_points, require_together, require_whole, strict
from rlctrl.plant import box, finite_box, periods
from rlctrl.policy import Policy
from rlctrl.progress import Progress
from rlctrl.reference.base import Reference
from rlctrl.reference.lq import lq_of
from rlctrl.reference.shooting import Shooting, answer
from rlctrl.tree import record, saved

PROBES = 5  # random states at which `solve` states its error
NAMED = 3  # failures listed in one message
SECONDS, FEWEST = 20.0, 9  # a table of many points may take, and the points it has at least


def _table(shooting, fixed, points):
    """Rows (value, slope, first input) at points (..., n) or (..., n+m). Raises `NotConverged` naming the points that failed."""
    points = shooting.wrapped(np.asarray(points, float))
    answers = [answer(shooting, tuple(point.tolist()), fixed) for point in points.reshape(-1, points.shape[-1])]
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

    @property
    def n(self):
        return self.shooting.n

    def act(self, x):
        return _call(self.shooting, False, jnp.asarray(x))[..., -self.shooting.m :]

    @strict
    def __call__(self, x):
        if isinstance(x, Tracer):
            return self.act(x)
        return _table(self.shooting, False, require_points("x", x, self.n))[..., -self.shooting.m :]


@saved
@dataclass(frozen=True, eq=False, repr=False)
class OpenLoopReference(Reference):
    """A `Reference` that solves for what it is asked, without compiling; `V`, `Q` and `gradient` raise `NotConverged` naming the points
    that have no answer."""

    @strict
    def V(self, x) -> np.ndarray:
        """V*(x), shape (...), at states x (..., n)."""
        return _table(self.value.shooting, False, require_points("x", x, len(self.states)))[..., 0]

    @strict
    def Q(self, x, u) -> np.ndarray:
        """Q*(x, u), shape (...), at states (..., n) and inputs (..., m); leading axes broadcast."""
        x, u = require_points("x", x, len(self.states)), require_points("u", u, len(self.inputs))
        require_together(x=x, u=u)
        batch = np.broadcast_shapes(x.shape[:-1], u.shape[:-1])
        points = np.concatenate([np.broadcast_to(a, (*batch, a.shape[-1])) for a in (x, u)], -1)
        return _table(self.value.shooting, True, points)[..., 0]

    @strict
    def gradient(self, x) -> np.ndarray:
        """∇V*(x), shape (..., n)."""
        return _table(self.value.shooting, False, require_points("x", x, len(self.states)))[..., 1 : 1 + len(self.states)]

    @strict
    def bellman_residual(self, x, inputs=41) -> np.ndarray:
        """r + γV(x_+) − V(x), shape (...), under the first input of the optimal path from x (..., n); `inputs` is not needed."""
        require_whole("inputs", inputs, 1, "Leave it out.")
        return _residual(self.kernel, self.value.shooting, require_points("x", x, len(self.states)))

    def affordable(self, points):
        """As many points as take SECONDS, at the pace of the probes."""
        return max(FEWEST, min(points, int(SECONDS * 2 * PROBES / max(self.seconds, 1e-9))))


@strict
@dataclass(frozen=True)
class OpenLoop:
    """Optimal paths from single points, by multiple shooting; plants without noise, any number of states.

    `tolerance`: change of V, relative to 1 + |V|, from one doubling of the horizon to the next at which it stops. `horizon`: steps to begin
    with (rounded up to a multiple of 8). `starts`: guesses per point (LQR at the origin or the box centre where it exists, no input, random
    inputs). Every value costs nonlinear programmes, solved on demand and remembered; a point without answer raises, by name, when it is
    asked for. Raises `InputError` for noise, exit="absorb", a target, inputs with finitely many values, and a reward or dynamics that do
    not turn with a periodic state.
    """

    tolerance: float = 1e-8
    horizon: int = 50
    starts: int = 2

    def __post_init__(self):
        require(0 < self.tolerance < 1, "tolerance", "must lie in (0, 1)", self.tolerance, "Use 1e-8.")
        for name in ("horizon", "starts"):
            require_whole(name, getattr(self, name), 1, "See the docstring.")

    def solve(self, problem, progress=False):
        """The reference; `rc.solve` calls this. Only a few probe points are solved here, all others when they are asked for."""
        _check(problem)
        shooting = self._shooting(problem)
        low, high = finite_box(problem.plant.states)
        points = np.random.default_rng(0).uniform(low, high, (PROBES, problem.plant.n))
        with Progress("OpenLoop", progress) as bar:
            answers = []
            for k, point in enumerate(points):
                answers.append(answer(shooting, tuple(point.tolist()), False))
                bar.to((k + 1) / PROBES, f"probe {k + 1} of {PROBES}")
        failed = [(k, answer) for k, answer in enumerate(answers) if isinstance(answer, str)]
        good = [answer for answer in answers if not isinstance(answer, str)]
        error = max(answer.error for answer in good) if good and not failed else float("inf")
        residual = _largest_residual(problem.kernel, shooting, points) if not failed else float("inf")
        missed = max(residual - error, 0.0) if np.isfinite(residual) else 0.0
        steps = max((answer.steps for answer in good), default=0)
        text = f"{len(good)} probe points solved, horizon up to {steps} steps, error up to {error + missed:.1e}."
        return OpenLoopReference(
            method="OpenLoop",
            kernel=problem.kernel,
            states=problem.plant.states,
            inputs=problem.plant.inputs,
            value=OpenLoopValue(shooting),
            policy=OpenLoopPolicy(shooting),
            rule=problem.plant.law.quadrature(1),
            error=error + missed,
            error_kind="estimated",
            error_terms={"horizon and programme": error, "better optima a step later": missed},
            converged=not failed,
            residual=residual,
            message=_failure(points, failed) if failed else text,
            iterations=steps,
            closed_form=OpenLoopQ(shooting),
            notes=tuple(_notes(good)),
        )

    def _shooting(self, problem):
        kernel, (low, high), nowhere = problem.kernel, box(problem.plant.states), (-np.inf,) * problem.plant.n
        pair = lambda signals: tuple(tuple(side.tolist()) for side in box(signals))
        return Shooting(
            update=kernel.update,
            reward=kernel.reward_function,
            p=tuple(problem.plant.parameter_vector.tolist()),
            w=tuple(np.asarray(problem.plant.law.mean).tolist()),
            gamma=problem.gamma,
            inputs=pair(problem.plant.inputs),
            walls=_turning(problem, low, high) if problem.exit == "clip" else (nowhere, tuple(-a for a in nowhere)),
            turns=(tuple(finite_box(problem.plant.states)[0].tolist()), tuple(periods(problem.plant.states).tolist())),
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
    way_out = 'Use rc.GridDP, or exit="free" if leaving never pays.'
    require(problem.exit != "absorb", "exit", 'must be "clip" or "free" for OpenLoop, which seeks no path that ends', problem.exit, way_out)
    require(problem.target is None, "target", "is not known to OpenLoop", problem.target, "Use rc.GridDP.")
    finite = [s.name for s in plant.inputs if s.values]
    require(not finite, "inputs", "must not be limited to finitely many values", finite, "Use rc.GridDP.")
    low, high = finite_box((*plant.states, *plant.inputs))
    x, u = np.split(np.random.default_rng(0).uniform(low, high, (16, len(low))), [plant.n], axis=1)
    nodes, _ = plant.law.quadrature(3)
    spread = kernel.update(x[:, None], u[:, None], nodes, kernel.p) - kernel.update(x, u, plant.law.mean, kernel.p)[:, None]
    moved = float(jnp.max(jnp.abs(spread)))
    require(moved <= 1e-12, "plant", "must be without noise for OpenLoop", f"noise moves x_+ by {moved:.2g}", "Use rc.GridDP.")
    turn = periods(plant.states)
    if np.any(turn):
        gap = kernel.update(x + turn, u, plant.law.mean, kernel.p) - turn - kernel.update(x, u, plant.law.mean, kernel.p)
        change = float(max(jnp.max(jnp.abs(gap)), jnp.max(jnp.abs(kernel.reward(x + turn, u) - kernel.reward(x, u)))))
        way_out = "Write angles by sine and cosine."
        require(change <= 1e-9, "reward", "and dynamics must repeat after one turn of a periodic state", change, way_out)


def _largest_residual(kernel, shooting, points):
    try:
        return float(np.max(np.abs(_residual(kernel, shooting, points))))
    except NotConverged:  # where the first steps lead
        return float("inf")


def _residual(kernel, shooting, x):
    """r(x, u) + γV(x_+) − V(x) under the first inputs found: 0 unless a better path is found a step later."""
    rows = _table(shooting, False, x)
    u = rows[..., -shooting.m :]
    onward = _table(shooting, False, kernel.step(x, u, np.array(shooting.w))[0])[..., 0]
    return np.asarray(kernel.reward(x, u)) + kernel.gamma * onward - rows[..., 0]


def _notes(good):
    several = sum(answer.optima > 1 for answer in good)
    yield "IPOPT finds local optima: that the best one found is the global one is not proven."
    yield f"From {several} of {len(good)} probe points the starts ended in different optima; the best counts."
    yield f"Every point costs nonlinear programmes: the tables and figures of `rlctrl solve` hold as many as take {SECONDS:.0f} s each."
    yield "`error` is the largest estimate at the probes; every other point is held to the same tolerance when it is asked for."
