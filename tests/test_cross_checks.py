"""References against outside implementations and each other: finite tables, QuantEcon, hj_reachability, Monte Carlo."""

import warnings
from dataclasses import replace

import casadi as ca
import numpy as np
import pytest

import plants
import rlctrl as rc
from rlctrl.interop.finite import finite_problem


def pendulum(**options):
    """Finitely many torques, so that GridDP's problem is finite."""
    plant = plants.pendulum(noise=0.5)
    torque = plant.inputs[0]
    plant = replace(plant, inputs=(rc.Signal(torque.name, torque.unit, values=tuple(np.linspace(-5, 5, 7))),))
    reward = lambda x, u: ca.cos(x[0]) - 0.01 * x[1] ** 2 - 0.01 * u[0] ** 2
    return rc.Problem(plant, reward, gamma=0.95, dt=0.05, **options)


def dense_policy_iteration(tables):
    """Howard's algorithm with dense linear algebra: V (S,)."""
    size, count = tables.rewards.shape
    P = tables.transitions.toarray().reshape(size, count, size)
    policy = np.zeros(size, int)
    while True:
        here = np.arange(size)
        v = np.linalg.solve(np.eye(size) - tables.gamma * P[here, policy], tables.rewards[here, policy])
        q = tables.rewards + tables.gamma * P @ v
        better = np.where(q.max(1) > q[here, policy] + 1e-11, q.argmax(1), policy)
        if np.array_equal(better, policy):
            return v
        policy = better


@pytest.mark.parametrize("options", [{}, {"exit": "absorb", "exit_value": lambda x: -20 + x[0]}], ids=["clip", "absorb"])
def test_finite_tables_solved_by_dense_policy_iteration_give_the_same_value(options):
    problem, method = pendulum(**options), rc.GridDP(shape=(20, 21), quadrature=3, tolerance=1e-11)
    tables = finite_problem(problem, method)
    assert tables.transitions.shape == (20 * 21 * 7, 20 * 21)
    sums = np.asarray(tables.transitions.sum(1))
    assert np.all(tables.transitions.data >= 0)
    assert np.all(sums <= 1 + 1e-12)
    assert (np.min(sums) < 0.99) == ("exit" in options)
    found = rc.solve(problem, method)
    np.testing.assert_allclose(found.value.coefficients, dense_policy_iteration(tables), rtol=0, atol=1e-8)


def test_quantecon_gives_the_same_value():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages it imports
        from quantecon.markov import DiscreteDP
    from scipy.sparse import csr_matrix

    problem, method = pendulum(), rc.GridDP(shape=(30, 31), tolerance=1e-11)
    tables = finite_problem(problem, method)
    size, count = tables.rewards.shape
    rows, columns = np.repeat(np.arange(size), count), np.tile(np.arange(count), size)
    finite = DiscreteDP(tables.rewards.ravel(), csr_matrix(tables.transitions), tables.gamma, rows, columns)
    outside = finite.solve(method="policy_iteration")
    found = rc.solve(problem, method)
    np.testing.assert_allclose(found.value.coefficients, outside.v, rtol=0, atol=1e-8)


def test_tables_of_splines_are_refused():
    with pytest.raises(rc.InputError, match="`order` must be 1"):
        finite_problem(pendulum(), rc.GridDP(shape=(20, 21), order=3))


def test_hj_reachability_marched_to_rest_gives_the_same_value():
    """A noise-free discounted pendulum (ρ = 2 per second), 61² nodes: two discretisations of T4 of order 1 and 5."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tests.benchmarks import hjb
    from unittest import mock

    with mock.patch.object(hjb, "RATE", 2.0), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outside, _ = hjb.marching(61, "very_high", 1e-6)
        found = hjb.ours(61, 2)
    angle, speed = np.linspace(-np.pi, np.pi, 61)[:60], np.linspace(-8, 8, 61)
    inside = np.abs(speed) <= 4
    gap = np.abs(found.V(np.stack(np.meshgrid(angle, speed, indexing="ij"), -1)) - outside)[:, inside]
    spread = np.ptp(outside[:, inside])
    assert np.mean(gap) <= 0.01 * spread
    assert np.max(gap) <= found.error <= 0.2 * spread


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize(
    "method",
    [rc.GridDP(shape=(41, 41), order=3, inputs=5), rc.Riccati(), rc.HJB(shape=(41, 41)), rc.Spectral(degree=6)],
    ids=["GridDP", "Riccati", "HJB", "Spectral"],
)
def test_monte_carlo_of_every_policy_lies_in_its_interval(method):
    """A noisy double integrator: the return under each method's policy, V as tail, within interval plus stated error plus O(dt)."""
    plant = plants.double_integrator(noise=0.2, force_max=12.0)
    rate = lambda x, u: -(x[0] ** 2 + 0.1 * x[1] ** 2 + 0.1 * u[0] ** 2)
    problem = rc.Problem.from_rates(plant, rate, 0.5, 0.02, exit="free")
    reference, exact = rc.solve(problem, method), rc.solve(problem, rc.Riccati())
    sampled = 0.0 if type(method) in (rc.GridDP, rc.Riccati) else float(np.max(np.abs(reference.V([1.0, 0.5]) - exact.V([1.0, 0.5]))))
    assert sampled <= 0.05 * abs(exact.V([1.0, 0.5]))
    found = rc.monte_carlo(problem, reference.policy, [1.0, 0.5], steps=200, paths=2000, tail=reference.V, seed=3)
    assert abs(found.mean - reference.V([1.0, 0.5])) <= 1.5 * found.ci95 + reference.error + sampled
