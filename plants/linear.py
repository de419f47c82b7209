"""Linear plants, in continuous or discrete time."""

import casadi as ca
import numpy as np

from plants.task import task
from rlctrl.errors import require, strict
from rlctrl.noise import Gaussian
from rlctrl.plant import Plant, Signal


def _rest(p):
    """Rest without input: A x + c = 0, or x = A x + c; the x of least norm, if there is one."""
    still = p.A - p.discrete * np.eye(len(p.A))
    return np.linalg.lstsq(still, -p.c, rcond=None)[0], np.zeros(p.B.shape[1])


@task(at=_rest, dt=0.1, gamma=0.98, reward=lambda x, u, p: -(ca.sumsqr(x) + 0.1 * ca.sumsqr(u)))
@strict
def linear(
    A=((0.0, 1.0), (-1.0, -0.4)), B=((0.0,), (1.0,)), F=None, c=None, *, discrete=False, states=None, inputs=None, state_max=2.0,
    input_max=5.0,
    name="linear",
) -> Plant:  # fmt: skip
    """dX = (A X + B u + c) dt + F dW, or with `discrete=True` X_+ = A X + B u + c + F w, w standard normal.

    `A` (n, n), `B` (n, m), `F` (n, q) (default: no noise), `c` (n,). `states`, `inputs`: Signals, by default dimensionless x1…, u1…
    bounded by ±`state_max`, ±`input_max` (numbers or one per signal; np.inf for no bound). The default matrices are a damped oscillator.
    Equilibrium: x = −A⁻¹ c (discrete: (1 − A)⁻¹ c), u = 0.
    """
    A = np.atleast_2d(np.asarray(A, float))
    n = len(A)
    require(A.shape == (n, n), "A", "must be square", A.shape, "Give n rows of n numbers.")
    B = np.asarray(B, float).reshape(n, -1) if np.size(B) % n == 0 else np.asarray(B, float)
    require(B.ndim == 2 and B.shape[0] == n and B.shape[1] > 0, "B", f"must have {n} rows", B.shape, "Give one row per state.")
    F = np.zeros((n, 0)) if F is None else np.asarray(F, float).reshape(n, -1) if np.size(F) % n == 0 else np.asarray(F, float)
    require(F.shape[0] == n, "F", f"must have {n} rows", F.shape, "Give one row per state.")
    c = np.zeros(n) if c is None else np.asarray(c, float)
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


def _signals(letter, count, bound):
    bounds = np.broadcast_to(bound, (count,))
    return [Signal(f"{letter}{k + 1}", "1", -float(b), float(b)) for k, b in enumerate(bounds)]
