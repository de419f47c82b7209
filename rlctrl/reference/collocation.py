"""Policy iteration by Chebyshev collocation: one linear least-squares problem per policy (Kleinman 1968; Beard, Saridis & Wen 1997)."""

from dataclasses import dataclass, replace
from functools import partial
from math import comb

import numpy as np
from scipy import linalg

from rlctrl.errors import require
from rlctrl.plant import box
from rlctrl.reference.chebyshev import ChebyshevValue, indices, judges, nodes, products, tables
from rlctrl.reference.chunks import in_chunks
from rlctrl.reference.hamiltonian import Hamiltonian, HamiltonianPolicy, best_inputs, noise_entries, rates

JUDGES = 1500  # random points off the nodes, a third of them on the faces of the box
MOST = 1.5e8  # numbers in the matrices, 1.2 GB
SETTLED = 1e-11  # change of V, relative to its range, at which policy iteration has arrived
NEARLY = 1e-6  # such a change is enough if rounding or the least squares prevents a smaller one
PATIENCE = 8  # policy iterations without a smaller residual before giving up


@dataclass(frozen=True)
class Collocation:
    """Points `s` of [−1, 1]^n, the first `count` of them nodes, the last ones on faces with the given `normals`, and there the basis
    `phi` (P, K), its `slopes` ∂/∂s_i (n, P, K) and its `curvatures` ∂²/∂s_i∂s_j (pairs, P, K) for the pairs of the Hamiltonian; `degrees`
    (K,) of the basis functions. `value` says which box and basis; its coefficients are not used. `ends`: whether the problem ends, with
    its exit value, where the closed loop or its noise leaves the box; `pinned`: whether V = 0 at rest takes the place of a discount.
    """

    hamiltonian: Hamiltonian
    value: ChebyshevValue
    degrees: np.ndarray
    s: np.ndarray
    count: int
    normals: np.ndarray
    phi: np.ndarray
    slopes: np.ndarray
    curvatures: np.ndarray
    ends: bool
    pinned: bool

    @classmethod
    def make(cls, problem, degree, total, ratio, candidates, absorbed):
        """For a problem, with `ratio` nodes per basis function; `absorbed`: whether its end makes V finite without discount.

        Raises `InputError` if the matrices would be too large."""
        low, high = box(problem.plant.states)
        n, hamiltonian, needed = len(low), Hamiltonian.of(problem, candidates), numbers(problem.plant, degree, total, ratio)
        require(needed <= MOST, "degree", f"needs {needed:.1e} numbers, at most {MOST:.1e} are allowed", degree, 'Use basis="total".')
        index = indices(n, degree, total)
        inside, (off, normals) = nodes(index, total, ratio), judges(n, JUDGES)
        s = np.concatenate([inside, off])
        table = tables(s, degree)
        slopes = np.stack([products(table, index, i) for i in range(n)])
        curvatures = np.reshape([products(table, index, *pair) for pair in hamiltonian.pairs], (-1, *slopes.shape[1:]))
        value = ChebyshevValue(np.zeros(len(index)), index, 0.5 * (low + high), 0.5 * (high - low), degree)
        degrees = index.sum(1) if total else index.max(1)
        ends, pinned = problem.exit == "absorb", hamiltonian.generator.rho == 0 and not absorbed
        return cls(hamiltonian, value, degrees, s, len(inside), normals, products(table, index), slopes, curvatures, ends, pinned)

    @property
    def rho(self):
        """Discount rate per second."""
        return self.hamiltonian.generator.rho

    @property
    def x(self):
        """The points in the coordinates of the states."""
        return self.value.middle + self.value.half * self.s

    @property
    def scale(self):
        """half_i·half_j for the pairs of the Hamiltonian."""
        return np.array([self.value.half[i] * self.value.half[j] for i, j in self.hamiltonian.pairs])

    def columns(self, degree):
        """The basis functions up to a degree; where V = 0 at rest the constant is free and left out."""
        return (self.degrees <= max(degree, 1)) & ((self.degrees > 0) | (not self.pinned))

    def undefined(self, u):
        """The points where reward rate, drift or noise under inputs u is no finite number."""
        reward, drift, spread = in_chunks(partial(rates, self.hamiltonian), self.x, u)
        return np.flatnonzero(~np.isfinite(np.column_stack([reward, drift, spread])).all(1))

    def size(self, run):
        """What residuals compare to: the largest |ℓ| under the inputs of a run, or of the other terms of H where ℓ = 0."""
        reward, drift, spread = in_chunks(partial(rates, self.hamiltonian), self.x, run.u)
        if np.any(reward):
            return float(np.max(np.abs(reward)))
        p, s = (self.slopes @ run.c).T / self.value.half, (self.curvatures @ run.c).T / self.scale
        return float(np.max(np.sum(np.abs(drift * p), -1) + np.sum(np.abs(spread * s), -1))) + 1e-300

    def window(self, size, centre):
        """The same points on a box smaller by the factor `size`, drawn towards `centre`, without the noise, which would cross it."""
        if size == 1:
            return self
        value = replace(self.value, middle=(1 - size) * centre + size * self.value.middle, half=size * self.value.half)
        return replace(
            self,
            value=value,
            hamiltonian=self.hamiltonian.without_noise(),
            curvatures=self.curvatures[:0],
            ends=False,
            pinned=self.rho == 0,
        )

    def solution(self, c, degree) -> ChebyshevValue:
        """The value of the coefficients, without the basis functions above a degree."""
        kept = self.degrees <= degree
        return replace(self.value, coefficients=c[kept], index=self.value.index[kept], degree=degree)

    def policy(self, value):
        """The inputs that maximise the Hamiltonian of a value."""
        h = self.hamiltonian
        return HamiltonianPolicy(h if h.noise_in_input else h.without_noise(), value)

    def improve(self, c):
        """The maximising inputs and the HJB residual ρV − max_u H at all points."""
        p, s = (self.slopes @ c).T / self.value.half, (self.curvatures @ c).T / self.scale
        u, h = in_chunks(partial(best_inputs, self.hamiltonian), self.x, p, s)
        return u, self.rho * (self.phi @ c) - h

    def leaving(self, u):
        """Of the points on faces, those through which the closed loop, or its noise, leaves the box."""
        faces = slice(-len(self.normals), None)
        _, drift, spread = in_chunks(partial(rates, self.hamiltonian), self.x[faces], u[faces])
        noise = np.zeros(len(drift))
        for k, (i, j) in enumerate(self.hamiltonian.pairs):
            noise += spread[:, k] * np.abs(self.normals[:, i]) * (i == j)
        return (np.sum(drift * self.normals, -1) > 0) | (noise > 0)

    def _ending(self, u, columns, weight):
        """Equations V = exit value at the points through which it leaves, of the same weight together as the HJB equations."""
        at = len(self.s) - len(self.normals) + np.nonzero(self.leaving(u))[0]
        rows = self.phi[at][:, columns]
        factor = weight / max(np.linalg.norm(rows), 1e-300)
        return factor * rows, factor * in_chunks(self.hamiltonian.generator.exit_value, self.x[at]) if len(at) else np.zeros(0)

    def evaluate(self, u, columns):
        """Coefficients of the value of the inputs u at the nodes, and the triangular factor of its column-normalised equations."""
        reward, drift, spread = in_chunks(partial(rates, self.hamiltonian), self.x[: self.count], u[: self.count])
        drift, spread = drift / self.value.half, spread / self.scale
        rows = self.rho * self.phi[: self.count, columns]
        for i, slope in enumerate(self.slopes):
            rows -= drift[:, i, None] * slope[: self.count, columns]
        for i, curvature in enumerate(self.curvatures):
            rows -= spread[:, i, None] * curvature[: self.count, columns]
        if self.ends:
            ending, value = self._ending(u, columns, np.linalg.norm(rows))
            rows, reward = np.concatenate([rows, ending]), np.concatenate([reward, value])
        size = np.maximum(np.linalg.norm(rows, axis=0), 1e-300)
        R, c, k = np.asarray(np.linalg.qr(np.column_stack([rows / size, reward]), mode="r")), np.zeros(len(columns)), len(size)
        try:
            c[columns] = linalg.solve_triangular(R[:k, :k], R[:k, k], check_finite=False) / size
        except np.linalg.LinAlgError:
            c[columns] = np.nan
        return c, R[:k, :k]


def numbers(plant, degree, total, ratio) -> float:
    """How many numbers the matrices of a basis hold."""
    size = comb(plant.n + degree, plant.n) if total else (degree + 1) ** plant.n
    return (ratio * size + JUDGES) * size * (1.0 + plant.n + len(noise_entries(plant)))


@dataclass(frozen=True)
class Run:
    """Policy iteration at one degree: coefficients, inputs and residual at all points, triangular factor, whether it settled, history."""

    c: np.ndarray
    u: np.ndarray
    residual: np.ndarray
    R: np.ndarray
    settled: bool
    rows: tuple


def iterate(coll, columns, u, limit, show, enough=None) -> Run:
    """Policy iteration from the inputs u until V changes by no more than `enough(c)` (default: all but rounding); the iterate with the
    smallest residual at the nodes."""
    c, rows, merits, settled = np.full(len(columns), np.inf), [], [], False
    best = Run(np.zeros(len(columns)), u, np.full(len(u), np.inf), np.eye(1), False, ())
    for k in range(limit):
        previous, (c, R) = c, coll.evaluate(u, columns)
        u, residual = coll.improve(c)
        merits.append(float(np.linalg.norm(residual[: coll.count])))
        if not np.isfinite(merits[-1]):
            return replace(best, rows=tuple(rows))
        if merits[-1] == min(merits):
            best = Run(c, u, residual, R, False, ())
        change = float(np.max(np.abs(coll.phi @ (c - previous)))) if k else float("inf")
        scale = float(np.ptp(coll.phi @ c))
        rows.append((k, float(np.max(np.abs(residual[coll.count :]))), change))
        show(f"residual {rows[-1][1]:.1e}")
        arrived = change <= max(SETTLED * scale, enough(c) if enough else 0.0)
        settled = arrived or change <= NEARLY * scale
        if arrived or np.argmin(merits) < k - PATIENCE:
            break
    return replace(best, settled=bool(settled), rows=tuple(rows))
