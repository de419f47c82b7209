"""Chebyshev collocation for the HJB equation ρV = max_u {ℓ + ∇V·b + ½ tr(σσᵀ∇²V)} (T4) of a smooth diffusion problem.

V is a sum of Chebyshev products on the box of the states, found by policy iteration (`collocation`). A linear start stabilises at best near
the point of rest, so the iteration is run on boxes that grow around it. No boundary condition is set: the box is a window on R^n, and V is
the smooth solution there. Without discount V = 0 at rest.

Error statement, estimated: policy iteration is run on at the degrees d+2 and d+4 until it settles to a tenth of its distance from V_d. The
larger of the sups of |V_{d+2} − V_d| and |V_{d+4} − V_d|, at points off the nodes and in the corners of the box, is divided by 1 − q, the
sum of a geometric series: q² is the factor from |V_d − V_{d−2}| to |V_{d+4} − V_{d+2}|, q held between ½ and 0.9; without V_{d+4} q is 0.9:
where it needs too much memory, does not settle or changes grow. A single change can be small by luck, as coefficients swing where V has
complex singularities. To that comes rounding: that of one number, times √ the number of coefficients, times the largest sum of |terms| of
V. Differences of V count, not the residual: where the closed loop leaves the box V rests on its continuation from inside, and its error
falls far more slowly than the residual. Without discount all values are compared relative to V at rest. The residual off the nodes decides
whether the result counts as solved, and so does rounding over σ, the reciprocal condition number of the least squares: a small σ says that
the equation does not single out V on this box, as where noise crosses its faces and the degree suffices for solutions that explode outside.
With exit="absorb" the exit value is imposed where the closed loop or its noise leaves; without discount it then determines V where rest is
not free of cost and noise.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy import linalg

from rlctrl.errors import require, require_number, require_whole, strict
from rlctrl.plant import box
from rlctrl.policy import as_policy
from rlctrl.progress import Progress
from rlctrl.reference.base import Reference
from rlctrl.reference.chebyshev import products, tables
from rlctrl.reference.chunks import in_chunks
from rlctrl.reference.collocation import MOST, Collocation, iterate, numbers
from rlctrl.reference.rest import check_rest, is_free, is_stable, linear_feedback, local_functions, point_of_rest
from rlctrl.undefined import undefined

BASES = ("tensor", "total")
SMALLEST, GROWTH = 0.25, (2.0, 1.08)  # size of the first box of the default start; largest and smallest factor of the next
ABOVE = (4, 2)  # degrees above that of V to which its error is judged, the first that memory allows
FASTEST, SLOWEST = 0.5, 0.9  # factors per two degrees by which the changes of V are taken to fall on
SIZE = "max |ℓ| (of the other terms where ℓ = 0)"  # what `Collocation.size` gives, in words
VAGUE = 0.1  # largest error, relative to the range of V, that counts as solved
EPS = float(np.finfo(float).eps)


@strict
@dataclass(frozen=True)
class Spectral:
    """Chebyshev collocation by policy iteration: V smooth, plant a diffusion, 1 to 6 states.

    `degree` of the Chebyshev sum, per state (`basis="tensor"`) or in total (`basis="total"`). `start`: a policy to begin with, which should
    stabilise the plant on the whole box (default: LQR of the linearisation at rest, on growing boxes). `points`: collocation points per
    coefficient. `iterations`: most policy iterations per box. `inputs`: candidates per input where no closed form exists. `tolerance`:
    largest HJB residual off the points, relative to the largest |ℓ| (of the drift and noise terms where ℓ = 0), that counts as solved.
    V is that of continuous time; Q is the one-step backup of the sampled problem, whose own V differs by O(dt).
    Raises `InputError` for a plant without drift, an unbounded or periodic state, a target, or γ = 1 without a free point of rest or an
    end.
    """

    degree: int = 12
    basis: str = "tensor"
    start: Any = None
    points: float = 2.0
    iterations: int = 50
    inputs: int = 21
    tolerance: float = 1e-3

    def __post_init__(self):
        require_whole("degree", self.degree, 2, "Use 12.")
        require(self.basis in BASES, "basis", f"must be one of {BASES}", self.basis, 'Use "total" from four states on.')
        require_number("points", self.points, "must be at least 1.2 per coefficient", "Use 2.", low=1.2)
        require_whole("iterations", self.iterations, 1, "Use 50.")
        require_whole("inputs", self.inputs, 3, "Use e.g. 21 candidates per input.")
        require_number("tolerance", self.tolerance, "must be positive", "Use 1e-3.", low=1e-300)

    def solve(self, problem, progress=False):
        """The reference; `rc.solve` calls this."""
        _check(problem)
        local = local_functions(problem)
        rest = point_of_rest(problem, local)
        absorbed = problem.exit == "absorb" and not is_free(problem, rest, local)
        if not absorbed:
            check_rest(problem, rest, local)
        total, (most, least) = self.basis == "total", ABOVE
        above = most if numbers(problem.plant, int(self.degree) + most, total, self.points) <= MOST else least
        coll = Collocation.make(problem, int(self.degree) + above, total, self.points, self.inputs, absorbed)
        with Progress("Spectral", progress) as bar:
            run = self._run(problem, coll, rest, local, bar)
            around = [self._neighbour(coll, run, int(self.degree) + step) for step in (-2, *ABOVE[::-1])]
        if coll.pinned:
            assert rest is not None  # check_rest
            s = (rest[: problem.plant.n] - coll.value.middle) / coll.value.half
            at_rest = products(tables(s[None], coll.value.degree), coll.value.index)[0]
            for c in (run.c, *around):
                c[0] -= at_rest @ c
        return self._reference(problem, coll, run, around, rest, local)

    def _run(self, problem, coll, rest, local, bar):
        """Policy iteration on boxes that grow around rest, by less where it does not settle."""
        n, bounds = problem.plant.n, box(problem.plant.inputs)
        if self.start is not None:
            return self._improved(coll, as_policy(self.start, n, problem.plant.m), partial(bar.to, 0.5))
        z = np.concatenate([coll.value.middle, np.clip(np.zeros(problem.plant.m), *bounds)]) if rest is None else rest
        policy, settled, size, growth = linear_feedback(problem, local, z), 0.0, SMALLEST, GROWTH[0]
        while True:
            part = coll.window(size, z[:n])
            run = self._improved(part, policy, partial(bar.to, settled))
            if run.settled:
                policy, settled = part.policy(part.solution(run.c, int(self.degree))), size
            else:
                growth = np.sqrt(growth)
            if settled == 1 or settled == 0 or growth < GROWTH[1]:
                return run if size == 1 else self._improved(coll, policy, partial(bar.to, 0.9))
            size = min(1.0, settled * growth)

    def _neighbour(self, coll, run, degree):
        """Coefficients at another degree, by policy iteration until it adds less than a tenth to their distance; NaN if it does not
        settle, or goes beyond what was made."""
        if degree > coll.value.degree:
            return np.full(len(run.c), np.nan)
        distance = lambda c: 0.1 * float(np.max(np.abs(coll.phi @ (c - run.c))))
        other = iterate(coll, coll.columns(degree), run.u, self.iterations, lambda text: None, distance)
        return other.c if other.settled else np.full(len(run.c), np.nan)

    def _improved(self, coll, policy, show):
        return iterate(coll, coll.columns(self.degree), in_chunks(policy, coll.x), self.iterations, show)

    def _reference(self, problem, coll, run, around, rest, local):
        value = coll.solution(run.c, int(self.degree))
        policy = coll.policy(value)
        size = coll.size(run)
        residual, outward = float(np.max(np.abs(run.residual[coll.count :]))), float(np.mean(coll.leaving(run.u)))
        terms, at_worst = _error(coll, run, around)
        faults = list(self._faults(problem, coll, run, residual / size, outward))
        scale, error = float(np.ptp(coll.phi @ run.c)), float(sum(terms.values()))
        if np.isfinite(size) and not error <= VAGUE * scale:
            reason = "" if np.isfinite(error) else f" (policy iteration does not settle at degree {self.degree + 2})"
            faults.append(f"V is uncertain by {error:.1e}{reason}, it ranges over {scale:.1e}: raise `degree` or shrink the box.")
        if np.isfinite(size) and not at_worst <= self.tolerance * scale:
            faults.append("The equation does not single out V on this box, as where noise crosses it: lower `degree` or enlarge the box.")
        if coll.pinned and not is_stable(problem, local, partial(in_chunks, policy), rest):
            faults.append("The closed loop found is not stable at rest, so this is not the optimal solution: give a stabilising `start`.")
        return Reference(
            method="Spectral",
            kernel=problem.kernel,
            states=problem.plant.states,
            inputs=problem.plant.inputs,
            value=value,
            policy=policy,
            rule=problem.plant.law.quadrature(5),
            error=error,
            error_kind="estimated",
            error_terms=terms,
            converged=not faults,
            residual=residual,
            message=" ".join(faults) or f"HJB residual {residual:.2e} per second off the nodes, {residual / size:.1e} of {SIZE}.",
            iterations=len(run.rows),
            notes=tuple(_notes(outward)),
            history={name: np.array([row[k] for row in run.rows]) for k, name in enumerate(("iteration", "residual", "change"))},
        )

    def _faults(self, problem, coll, run, relative, outward):
        """Sentences saying why the iteration is not to be trusted."""
        odd = coll.undefined(run.u)
        if len(odd):
            found = undefined(problem, coll.x[odd], run.u[odd, None])
            yield f"Spectral found no number: {found or 'the policy gives no finite input.'}"
            return
        stable = "give a `start` that stabilises the box"
        if not relative <= self.tolerance:
            yield (
                f"The HJB residual is {relative:.1e} of {SIZE}, above {self.tolerance:.0e}: raise `degree`, shrink the box or {stable}; "
                "a V with kinks needs rc.GridDP."
            )
        if not run.settled:
            yield f"Policy iteration did not settle in {len(run.rows)} steps: raise `iterations` or {stable}."
        if problem.exit == "clip" and outward > 0:
            yield f'The closed loop leaves {100 * outward:.0f} % of the faces, where exit="{problem.exit}" would act: use exit="free".'


def _check(problem):
    _ = problem.generator  # says so if the plant has no drift
    for s in problem.plant.states:
        require(np.isfinite(s.high - s.low), s.name, "needs finite bounds for Chebyshev points", (s.low, s.high), "Give low and high.")
        require(not s.periodic, s.name, "must not be periodic: Chebyshev sums do not turn", s.label, "Use rc.GridDP.")
    require(problem.target is None, "target", "is not known to Spectral", problem.target, "Use rc.GridDP.")


def _error(coll, run, around):
    """The terms of the module's docstring, from the coefficients at the neighbouring degrees, and rounding over σ."""
    phi, (lower, above, far) = coll.phi[coll.count :], around
    distance = lambda a, b: float(np.max(np.abs(phi @ (b - a))))  # NaN where a neighbour did not settle
    before, after, far_off = distance(lower, run.c), distance(run.c, above), distance(run.c, far)
    fall = np.sqrt(distance(above, far) / max(before, 1e-300))
    if not fall <= 1:  # what grows, or did not settle, says nothing
        fall, far_off = SLOWEST, 0.0
    change = max(np.nan_to_num(after, nan=np.inf), far_off)
    degree = float(change / (1 - np.clip(fall, FASTEST, SLOWEST)))
    rounding = EPS * math.sqrt(len(run.c)) * float(np.max(np.abs(phi) @ np.abs(run.c)))
    (trcon,) = linalg.get_lapack_funcs(("trcon",), (run.R,))
    sigma = trcon(run.R)[0]
    at_worst = EPS * float(np.max(np.abs(phi @ run.c))) / max(sigma, 1e-300)
    return {"degree": degree, "rounding": rounding}, at_worst


def _notes(outward):
    yield "V is that of continuous time; Q is the one-step backup of the sampled problem, whose own V differs by O(dt)."
    if outward > 0:
        yield f"The closed loop leaves through {100 * outward:.0f} % of the faces: there V rests on its smooth continuation from inside."
