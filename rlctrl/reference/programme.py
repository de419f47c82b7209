"""One open-loop programme by multiple shooting (Bock & Plitt 1984) with IPOPT, for given contacts with the walls of the states.

    maximise Σ_{k<N} γ^k r(x_k, u_k)   subject to   x_{k+1} = Φ(x_k, u_k) in the walls,  x_0 = x,  (for Q: u_0 = u),  u_k in its box

Where the exit rule projects states onto their box, a contact (i, k) = ±1 says that coordinate i of Φ(x_k, u_k) lies on or beyond the upper
(lower) wall: there x_{k+1,i} = wall and Φ_i ≥ wall (≤ wall). For given contacts the true plant is smooth, and only bounds differ.
"""

import functools
from dataclasses import dataclass

import casadi as ca
import numpy as np

from rlctrl.reference.rollout import Guess, step

EPS = float(np.finfo(float).eps)


@dataclass(frozen=True)
class Path(Guess):
    """An optimum for its contacts: value, slope (∇V, or ∇Q), duality gap; of x_1 … x_N (n, steps) what is left of the equations, their
    multipliers and those of the walls, each positive where more of x would be better."""

    value: float
    slope: np.ndarray
    slack: float
    gap: np.ndarray
    price: np.ndarray
    push: np.ndarray


@functools.lru_cache(maxsize=64)
def _programme(shooting, steps, fixed, touching) -> ca.Function:
    """IPOPT on `steps` steps; parameter x_0, or (x_0, u_0) if the first input is `fixed`; its constraints come first. Where walls are
    touched the adaptive strategy fails less often; elsewhere it takes many iterations under strong discount."""
    x, u = ca.MX.sym("x", shooting.n, steps + 1), ca.MX.sym("u", shooting.m, steps)
    first = ca.vertcat(x[:, 0], u[:, 0]) if fixed else x[:, 0]
    start = ca.MX.sym("start", first.shape[0])
    following, rewards = step(shooting).map(steps)(x[:, :-1], u)
    cost = -ca.dot(rewards.T, ca.DM(shooting.gamma ** np.arange(steps)))
    gaps = ca.vertcat(first - start, ca.vec(x[:, 1:] - following))
    programme = {"x": ca.veccat(x, u), "f": cost, "g": gaps, "p": start}
    ipopt = {"print_level": 0, "sb": "yes", "tol": max(0.01 * shooting.tolerance, 1e-12), "bound_relax_factor": 0.0, "acceptable_iter": 0}
    ipopt |= {"max_iter": 150, "mu_strategy": "adaptive" if touching else "monotone"}
    options = {"ipopt": ipopt, "print_time": False, "show_eval_warnings": False, "error_on_fail": False}
    return ca.nlpsol("open_loop", "ipopt", programme, options)


def optimum(shooting, walls, start, guess, fixed) -> Path | str:
    """The optimum within `walls` (low, high) reached from a guess with its contacts, or IPOPT's reason for failing."""
    n, steps, size = shooting.n, guess.u.shape[1], guess.x.size
    bounds = _bounds(shooting, walls, guess, len(start), fixed)
    solver = _programme(shooting, steps, fixed, bool(np.any(guess.contacts)))
    found = solver(x0=_column(guess.x, guess.u), p=start, **bounds)
    if not solver.stats()["success"]:
        return str(solver.stats()["return_status"]).replace("_", " ")
    z, prices, gap, push = (np.array(found[name]).ravel() for name in ("x", "lam_g", "g", "lam_x"))
    value, room = -float(found["f"]), np.where(push > 0, bounds["ubx"] - z, z - bounds["lbx"])
    near = np.isfinite(room)
    slack = np.sum(np.abs(prices * gap)) + np.sum(np.abs(push[near] * room[near])) + steps * EPS * (1 + abs(value))
    table = lambda a, rows: a.reshape(rows, -1, order="F")
    return Path(
        x=table(z[:size], n),
        u=table(z[size:], shooting.m),
        contacts=guess.contacts,
        value=value,
        slope=prices[: len(start)],
        slack=float(slack),
        gap=table(gap[len(start) :], n),
        price=table(prices[len(start) :], n),
        push=table(push[n:size], n),
    )


def _bounds(shooting, walls, guess, given, fixed):
    """Bounds of the variables and of the constraints, `given` of which fix the start."""
    (low, high), contacts, steps = np.array(walls)[..., None], guess.contacts, guess.u.shape[1]
    least, most = np.where(contacts > 0, high, low), np.where(contacts < 0, low, high)
    inputs = [np.repeat(side, steps, 1) for side in np.array(shooting.inputs)[..., None]]
    if fixed:  # the input asked for counts even on or outside the box
        inputs[0][:, 0], inputs[1][:, 0] = -np.inf, np.inf
    anywhere, none = np.full((shooting.n, 1), np.inf), np.zeros((given, 1))
    return {
        "lbx": _column(-anywhere, least, inputs[0]),
        "ubx": _column(anywhere, most, inputs[1]),
        "lbg": _column(none, np.where(contacts > 0, -np.inf, 0.0)),
        "ubg": _column(none, np.where(contacts < 0, np.inf, 0.0)),
    }


def _column(*parts):
    return np.concatenate([part.ravel(order="F") for part in parts])
