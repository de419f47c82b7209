"""Linear plants, in continuous or discrete time."""

import casadi as ca
import numpy as np

from plants.task import task
from rlctrl.errors import require, require_numbers, strict
from rlctrl.kinds import Numbers
from rlctrl.noise import Gaussian
from rlctrl.plant import Plant, Signal


def _rest(p):
    """Rest without input: A x + c = 0, or x = A x + c; the x of least norm, if there is one."""
    still = p.A - p.discrete * np.eye(len(p.A))
    return np.linalg.lstsq(still, -p.c, rcond=None)[0], np.zeros(p.B.shape[1])


@task(at=_rest, dt=0.1, gamma=0.98, reward=lambda x, u, p: -(ca.sumsqr(x) + 0.1 * ca.sumsqr(u)))
@strict
def linear(
    A=((0.0, 1.0), (-1.0, -0.4)), B=((0.0,), (1.0,)), F=None, c=None, *, discrete: bool = False, states=None, inputs=None,
    state_max: Numbers = 2.0, input_max: Numbers = 5.0,
    name="linear",
) -> Plant:  # fmt: skip
    """dX = (A X + B u + c) dt + F dW, or with `discrete=True` X_+ = A X + B u + c + F w, w standard normal.

    `A` (n, n), `B` (n, m), `F` (n, q) (default: no noise), `c` (n,). `states`, `inputs`: Signals, by default dimensionless x1…, u1…
    bounded by ±`state_max`, ±`input_max` (numbers or one per signal; np.inf for no bound). The default matrices are a damped oscillator.
    Equilibrium: x = −A⁻¹ c (discrete: (1 − A)⁻¹ c), u = 0.
    """
    A = np.atleast_2d(require_numbers("A", A))
    n = len(A)
    require(A.shape == (n, n) and n > 0, "A", "must be square", A.shape, "Give n rows of n numbers.")
    B, F = _rows("B", B, n), np.zeros((n, 0)) if F is None else _rows("F", F, n)
    require(B.shape[1] > 0, "B", f"must have {n} rows", B.shape, "Give one row per state.")
    c = np.zeros(n) if c is None else require_numbers("c", c)
    require(c.shape == (n,), "c", f"must have shape ({n},)", c.shape, "Give one number per state.")
    states = _signals("x", n, state_max) if states is None else states
    inputs = _signals("u", B.shape[1], input_max) if inputs is None else inputs
    params = {"A": A, "B": B, "c": c} | ({"F": F} if F.shape[1] else {})

    def affine(x, u, p):
        return p.A @ x + p.B @ u + p.c

    def spread(p):
        return p.F if F.shape[1] else ca.SX(n, 0)

    dynamics = (
        {"update": lambda x, u, w, p: affine(x, u, p) + spread(p) @ w, "noise": Gaussian(F.shape[1])}
        if discrete
        else {"drift": affine, "diffusion": lambda x, u, p: spread(p)}
    )
    source = "Kwakernaak & Sivan, Linear Optimal Control Systems, 1972, §1.11 (continuous) and §6.2 (discrete)"
    return Plant(name=name, states=states, inputs=inputs, params=params, source=source, **dynamics)


def _rows(argument, value, n):
    """A matrix of n rows; a vector is a column, or n columns of one row each."""
    matrix = require_numbers(argument, value)
    matrix = matrix.reshape(n, -1) if matrix.size % n == 0 and matrix.size else matrix
    require(matrix.ndim == 2 and len(matrix) == n, argument, f"must have {n} rows", matrix.shape, "Give one row per state.")
    return matrix


def _signals(letter, count, bound):
    fits = np.ndim(bound) == 0 or np.shape(bound) == (count,)
    require(fits, "state_max, input_max", f"must be one number, or {count} of them", bound, "Give one per signal.")
    bounds = np.broadcast_to(bound, (count,))
    return [Signal(f"{letter}{k + 1}", "1", -float(b), float(b)) for k, b in enumerate(bounds)]
