"""GridDP at γ = 1: shortest times under noise against value iteration by NumPy, and policies that never, or hardly ever, end."""

import casadi as ca
import numpy as np
import pytest

import rlctrl as rc
from rlctrl.reference.krylov import bicgstab

NEAR = 0.05  # |x| at which the walk has arrived, m


def walk(noise, dt, far, end, reward=lambda x, u: -1.0, **options):
    """dX = u dt + noise dW on [−far, far], u ∈ {−1, 0, 1}: to the middle, or (`end="absorb"`) out."""
    plant = rc.Plant(
        name="walk",
        states=[rc.Signal("x", "m", -far, far)],
        inputs=[rc.Signal("u", "m/s", values=(-1, 0, 1))],
        drift=lambda x, u, p: u[0],
        diffusion=lambda x, u, p: noise,
    )
    target = (lambda x: ca.fabs(x[0]) - NEAR) if end == "clip" else None
    return rc.Problem(plant, lambda x, u: reward(x, u) * dt + 0 * u[0], gamma=1.0, dt=dt, exit=end, target=target, **options)


def shortest_time(noise, dt, far, end, count):
    """−E T of the same finite problem: T applied to 0 until nothing changes."""
    x = np.linspace(-far, far, count)
    w, mass = np.polynomial.hermite_e.hermegauss(5)
    ahead = x[:, None, None] + dt * np.array([-1.0, 0.0, 1.0])[:, None] + noise * np.sqrt(dt) * w
    over = (np.abs(x) <= NEAR) & (end == "clip")
    ahead, ended = (np.clip(ahead, -far, far), np.abs(np.clip(ahead, -far, far)) <= NEAR) if end == "clip" else (ahead, np.abs(ahead) > far)
    values, change = np.zeros(count), 1.0
    while change > 1e-13:
        q = -dt + np.where(ended, 0.0, np.interp(ahead, x, values)) @ (mass / mass.sum())
        new = np.where(over, 0.0, q.max(1))
        change, values = np.max(np.abs(new - values)), new
    return x, values


@pytest.mark.parametrize(
    ("noise", "dt", "far", "end", "count"),
    [
        (0.05, 0.01, 1.0, "clip", 161),
        (0.05, 0.01, 4.0, "clip", 641),
        (0.05, 0.1, 1.0, "clip", 1281),
        (0.05, 0.1, 4.0, "clip", 321),
        (0.05, 0.1, 4.0, "absorb", 1281),
        (0.05, 0.01, 1.0, "absorb", 641),
        (0.3, 0.1, 4.0, "clip", 641),
        (0.3, 0.01, 4.0, "absorb", 161),
    ],
)
def test_shortest_times_under_noise_are_those_of_value_iteration(noise, dt, far, end, count):
    """The first policy drives to a wall, from where little noise hardly ever brings it back: 1 − P^π is singular in all but name."""
    found = rc.solve(walk(noise, dt, far, end), rc.GridDP(shape=count))
    x, values = shortest_time(noise, dt, far, end, count)
    true = np.max(np.abs(found.V(x[:, None]) - values))
    assert true <= found.error_terms["contraction"] <= 1e-8
    assert all(term >= 0 for term in found.error_terms.values())
    assert found.error <= np.ptp(values)


def test_going_on_for_ever_is_said_where_it_pays_and_where_it_costs_nothing():
    pays = walk(0.1, 0.05, 2.0, "absorb", reward=lambda x, u: 1 - x[0] ** 2)
    with pytest.raises(rc.NotConverged, match=r"staying costs nothing, or pays"):
        rc.solve(pays, rc.GridDP(shape=41, iterations=20))
    free = walk(0.02, 0.05, 2.0, "absorb", reward=lambda x, u: 0.0, exit_value=lambda x: -1.0)
    with pytest.raises(rc.NotConverged, match=r"never ends and from which nothing is left to gain"):
        rc.solve(free, rc.GridDP(shape=41))


def test_a_residual_lost_by_the_recurrence_is_not_believed():
    """τ = 1 + P τ of a walk that first goes away: on the way to the accuracy wanted the residual grows until nothing true is left of it."""
    x, (w, mass) = np.linspace(-4, 4, 81), np.polynomial.hermite_e.hermegauss(5)
    rng = np.random.default_rng(0)
    for _ in range(200):
        u, P = np.where(np.arange(81) < rng.integers(20, 75), 1.0, -1.0), np.zeros((81, 81))
        for shift, part in zip(0.05 * np.sqrt(0.1) * w, mass / mass.sum(), strict=True):
            ahead = np.clip(x + 0.1 * u + shift, -4, 4)
            P += part * np.stack([np.interp(ahead, x, row) for row in np.eye(81)], 1) * (np.abs(ahead) > NEAR)[:, None]
        A, right = np.eye(81) - P * (np.abs(x) > NEAR)[:, None], (np.abs(x) > NEAR).astype(float)
        times, reached = bicgstab(lambda v, A=A: A @ v, right, 1e-3, 300)
        assert not reached or np.max(np.abs(A @ times - right)) <= 2e-3
