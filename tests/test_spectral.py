"""Chebyshev collocation against exact values: published HJB examples, Riccati, converse constructions; and what it must refuse or flag."""

import casadi as ca
import jax
import numpy as np
import pytest
from scipy import linalg

import rlctrl as rc
from rlctrl.maximise import InputSet
from rlctrl.reference.spectral import ChebyshevValue, Spectral, _indices, _products, _tables, _vertex


def problem_of(drift, cost, box=2.0, rho=0.0, diffusion=None, n=2, inputs=(100.0,), dt=0.01, **options):
    states = [rc.Signal(f"x{i + 1}", "1", -box, box) for i in range(n)]
    signals = [rc.Signal(f"u{i + 1}", "1", -reach, reach) for i, reach in enumerate(inputs)]
    plant = rc.Plant("example", states, signals, drift=drift, diffusion=diffusion)
    return rc.Problem.from_rates(plant, lambda x, u: -cost(x, u), rho, dt, **{"exit": "free", **options})


def clock(x):
    return ca.cos(2 * x[0]) + 2


# drift, cost, V* as a cost, u*: A1, A2a, A2b, A3, A5 of the known answers; x may be CasADi symbols
KNOWN = {
    "A1": (
        lambda x, u, p: ca.vertcat(-x[0] + x[1], -0.5 * x[0] - 0.5 * x[1] * (1 - clock(x) ** 2) + clock(x) * u[0]),
        lambda x, u: x[0] ** 2 + x[1] ** 2 + u[0] ** 2,
        lambda x: 0.5 * x[0] ** 2 + x[1] ** 2,
        lambda x: -clock(x) * x[1],
    ),
    "A2a": (
        lambda x, u, p: ca.vertcat(-x[0] + x[1], -0.5 * (x[0] + x[1]) + 0.5 * x[1] * ca.sin(x[0]) ** 2 + ca.sin(x[0]) * u[0]),
        lambda x, u: x[0] ** 2 + x[1] ** 2 + u[0] ** 2,
        lambda x: 0.5 * x[0] ** 2 + x[1] ** 2,
        lambda x: -ca.sin(x[0]) * x[1],
    ),
    "A2b": (
        lambda x, u, p: ca.vertcat(
            -x[0] + x[1] + 2 * x[1] ** 3,
            -0.5 * (x[0] + x[1]) + 0.5 * x[1] * (1 + 2 * x[1] ** 2) * ca.sin(x[0]) ** 2 + ca.sin(x[0]) * u[0],
        ),
        lambda x, u: x[0] ** 2 + x[1] ** 2 + 2 * x[1] ** 4 + u[0] ** 2,
        lambda x: 0.5 * x[0] ** 2 + x[1] ** 2 + x[1] ** 4,
        lambda x: -ca.sin(x[0]) * (x[1] + 2 * x[1] ** 3),
    ),
    "A3": (
        lambda x, u, p: ca.vertcat(x[1], -x[0] - 0.5 * x[1] * (1 - x[0] ** 2) + x[0] * u[0]),
        lambda x, u: x[1] ** 2 + u[0] ** 2,
        lambda x: x[0] ** 2 + x[1] ** 2,
        lambda x: -x[0] * x[1],
    ),
    "A5": (  # not affine in u: found by search
        lambda x, u, p: ca.vertcat(-0.5 * x[0] ** 3 - x[0] - 2 * x[1], x[1] ** 3 / 8 - x[1] + 0.5 * u[0] ** 3),
        lambda x, u: x[0] ** 4 + 2 * (x[0] + x[1]) ** 2 + 0.75 * u[0] ** 4,
        lambda x: x[0] ** 2 + x[1] ** 2,
        lambda x: -x[1],
    ),
}


def evaluated(known):
    """V, u* and the HJB residual l + ∇V·f(x, u*) of a transcription as one function of states (2, batch)."""
    drift, cost, V, policy = known
    x = ca.SX.sym("x", 2)
    u = ca.vertcat(policy(x))
    residual = cost(x, u) + ca.gradient(V(x), x).T @ drift(x, u, None)
    function = ca.Function("known", [x], [V(x), u, residual])
    return lambda points: [np.array(part).ravel() for part in function(points.T)]


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_published_examples(name):
    x = np.random.default_rng(5).uniform(-2, 2, (2000, 2))
    V, u, residual = evaluated(KNOWN[name])(x)
    assert np.max(np.abs(residual)) < 1e-12  # the transcription itself
    ref = rc.solve(problem_of(*KNOWN[name][:2], inputs=(4.0,) if name == "A5" else (100.0,)), Spectral(degree=6))
    error = np.max(np.abs(ref.V(x) + V))
    assert error <= 1e-9 * np.max(V)
    assert error <= ref.error <= 1e-6 * np.max(V)
    assert np.max(np.abs(ref.policy(x)[:, 0] - u)) < (1e-2 if name == "A5" else 1e-8)  # A5 is flat in u where x2 is small
    assert ref.error_kind == "estimated"


def test_beard():
    """x1' = −x1³ − x2, x2' = x1 + x2 + u: values by the maximum principle, as far as the degree reaches."""
    problem = problem_of(
        lambda x, u, p: ca.vertcat(-(x[0] ** 3) - x[1], x[0] + x[1] + u[0]), lambda x, u: x[0] ** 2 + x[1] ** 2 + u[0] ** 2, box=1.1
    )
    x = np.array([[1, 0], [0, 1], [1, 1], [-1, 1], [0.5, -0.5]])
    exact = np.array([1.6005295, 2.5195471, 4.4611141, 2.6476977, 1.1590850])
    errors = []
    for degree in (14, 20):
        ref = rc.solve(problem, Spectral(degree=degree))
        errors.append(np.max(np.abs(ref.V(x) + exact)))
        assert errors[-1] <= ref.error
    assert errors[0] < 3e-3
    assert errors[1] < 8e-5


def lq(n, m, rho, noise):
    """A linear problem with its exact solution (B2): P, K and the constant."""
    rng = np.random.default_rng(0)
    A, B = 0.5 * rng.normal(size=(n, n)) - 0.2 * np.eye(n), rng.normal(size=(n, m))
    P = linalg.solve_continuous_are(A - rho / 2 * np.eye(n), B, np.eye(n), np.eye(m))
    diffusion = (lambda x, u, p: ca.DM(noise)) if noise.size else None
    problem = problem_of(
        lambda x, u, p: ca.DM(A) @ x + ca.DM(B) @ u, lambda x, u: x.T @ x + u.T @ u, 1.0, rho, diffusion, n, inputs=(50.0,) * m
    )
    constant = np.trace(noise.T @ P @ noise) / rho if rho else 0.0
    return problem, P, B.T @ P, constant


@pytest.mark.parametrize(
    ("n", "m", "rho", "noise", "basis"),
    [(2, 1, 0.5, 0.3 * np.eye(2), "tensor"), (4, 2, 0.1, 0.2 * np.eye(4)[:, :2], "total"), (6, 2, 0.0, np.zeros((6, 0)), "total")],
)
def test_linear_quadratic(n, m, rho, noise, basis, tmp_path):
    problem, P, K, constant = lq(n, m, rho, noise)
    ref = rc.solve(problem, Spectral(degree=4, basis=basis))
    x = np.random.default_rng(1).uniform(-2, 2, (500, n))  # the continuation beyond the box is exact for a parabola along each axis
    x[250:] = np.clip(x[250:], -1, 1)
    x[:250, 1:] = 0
    exact = -np.einsum("ki,ij,kj->k", x, P, x) - constant
    assert np.max(np.abs(ref.V(x) - exact)) < 1e-10
    assert np.max(np.abs(ref.V(x) - exact)[250:]) <= ref.error < 1e-8
    assert np.max(np.abs(ref.gradient(x) + 2 * x @ P)[250:]) < 1e-9
    assert np.max(np.abs(ref.policy(x) + x @ K.T)[250:]) < 1e-9
    again = rc.Reference.load(ref.save(tmp_path / "spectral"))
    np.testing.assert_array_equal(again.policy(x), ref.policy(x))


def converse(noise, rho):
    """A pendulum-like plant with the running cost that makes V = x1² + x2² + x1x2/2 + sin²(x1+x2)/2 optimal."""
    x = ca.SX.sym("x", 2)
    V = x[0] ** 2 + x[1] ** 2 + 0.5 * x[0] * x[1] + 0.5 * ca.sin(x[0] + x[1]) ** 2
    f, g, s = ca.vertcat(x[1], -ca.sin(x[0]) - 0.5 * x[1]), ca.vertcat(0, 1 + 0.3 * ca.cos(x[0])), noise * ca.DM([0.5, 1])
    slope, hessian = ca.gradient(V, x), ca.hessian(V, x)[0]
    state_cost = ca.Function("q", [x], [rho * V - slope.T @ f + (g.T @ slope) ** 2 / 4 - s.T @ hessian @ s / 2])
    dynamics = ca.Function("b", [x, u := ca.SX.sym("u")], [f + g * u])
    diffusion = (lambda x, u, p: s) if noise else None
    problem = problem_of(lambda x, u, p: dynamics(x, u), lambda x, u: state_cost(x) + u[0] ** 2, 1.5, rho, diffusion)
    value = ca.Function("V", [x], [V])
    return problem, lambda points: -np.array(value(points.T)).ravel()


@pytest.mark.parametrize(("noise", "rho", "reached"), [(0.0, 0.0, 1e-5), (0.3, 0.5, 1e-4)])
def test_error_statement_on_a_smooth_value(noise, rho, reached):
    problem, V = converse(noise, rho)
    ref = rc.solve(problem, Spectral(degree=14))
    x = np.random.default_rng(2).uniform(-1.5, 1.5, (2000, 2))
    error = np.max(np.abs(ref.V(x) - V(x)))
    assert error < reached
    assert error <= ref.error < 100 * reached


def test_slowly_converging_series_is_reported():
    """A4: V = x1²(π/2 + atan 5x1) + x2² has poles at ±i/5, and the cost is only semidefinite."""
    problem = problem_of(
        lambda x, u, p: ca.vertcat(
            x[1], -x[0] * (np.pi / 2 + ca.atan(5 * x[0])) - 5 * x[0] ** 2 / (2 * (1 + 25 * x[0] ** 2)) + 4 * x[1] + 3 * u[0]
        ),
        lambda x, u: x[1] ** 2 + u[0] ** 2,
    )
    with pytest.raises(rc.NotConverged, match="HJB residual"):
        rc.solve(problem, Spectral(degree=10))


def test_noise_across_the_box_at_high_degree_is_reported():
    """Many smooth solutions fit: the residual is tiny and V is wrong, so σ_min must tell."""
    problem, P, _, constant = lq(2, 1, 0.5, 2.0 * np.eye(2))
    ref = rc.solve(problem, Spectral(degree=10), on_failure="return")
    x = np.random.default_rng(1).uniform(-1, 1, (500, 2))
    error = np.max(np.abs(ref.V(x) + np.einsum("ki,ij,kj->k", x, P, x) + constant))
    assert error <= ref.error
    assert not ref.converged


def test_vertex_of_a_bounded_quadratic_program():
    rng = np.random.default_rng(0)
    for _ in range(5):
        root, slope = rng.normal(size=(2, 2)), 3 * rng.normal(size=2)
        curvature = root @ root.T + 0.1 * np.eye(2)
        h = lambda u, slope=slope, curvature=curvature: slope @ u - 0.5 * u @ (curvature @ u)
        inputs = InputSet(np.zeros((1, 2)), np.zeros(2), np.array([-0.5, -1.0]), np.array([1.0, 0.5]))
        u = np.asarray(_vertex(h, inputs))
        axes = [np.linspace(low, high, 301) for low, high in zip(inputs.low, inputs.high, strict=True)]
        best = max(float(slope @ v - 0.5 * v @ curvature @ v) for v in np.stack(np.meshgrid(*axes), -1).reshape(-1, 2))
        assert float(h(u)) >= best - 1e-6


def test_value_matches_its_basis_matrices():
    rng = np.random.default_rng(0)
    index = np.array(list(_indices(3, 4, True)))
    value = ChebyshevValue(rng.normal(size=len(index)), index, np.array([0.0, 1.0, -1.0]), np.array([1.0, 2.0, 0.5]), 4)
    s = rng.uniform(-1, 1, (20, 3))
    x, tables = value.middle + value.half * s, _tables(s, 4)
    np.testing.assert_allclose(value.at(x), _products(tables, index) @ value.coefficients, atol=1e-12)
    slope = np.stack([_products(tables, index, i) @ value.coefficients / value.half[i] for i in range(3)], -1)
    np.testing.assert_allclose(jax.vmap(jax.grad(value.at))(x), slope, atol=1e-11)
    mixed = _products(tables, index, 0, 2) @ value.coefficients / (value.half[0] * value.half[2])
    np.testing.assert_allclose(jax.vmap(jax.hessian(value.at))(x)[:, 0, 2], mixed, atol=1e-10)


def plain(**changes):
    options = {"drift": lambda x, u, p: ca.vertcat(x[1], -x[0] + u[0]), "cost": lambda x, u: x.T @ x + u.T @ u, "rho": 0.5}
    return problem_of(**{**options, **changes})


@pytest.mark.parametrize(
    ("problem", "method", "message"),
    [
        (lambda: plain(box=np.inf), lambda: Spectral(), "finite bounds"),
        (lambda: plain(rho=0.0, diffusion=lambda x, u, p: ca.DM([0, 0.1])), lambda: Spectral(), "noise acts at rest"),
        (lambda: plain(rho=0.0, cost=lambda x, u: 1 + x.T @ x + u.T @ u), lambda: Spectral(), "rest costs"),
        (lambda: plain(rho=0.0, drift=lambda x, u, p: ca.vertcat(1 + x[1] ** 2, u[0])), lambda: Spectral(), "point of rest"),
        (lambda: plain(cost=lambda x, u: x.T @ x + ca.fabs(u[0]), inputs=(np.inf,)), lambda: Spectral(), "finite bounds to be maximised"),
        (lambda: plain(n=2), lambda: Spectral(degree=1), "degree"),
        (lambda: plain(n=2), lambda: Spectral(basis="sparse"), "basis"),
        (lambda: plain(n=2), lambda: Spectral(degree=400), "numbers"),
        (lambda: plain(n=2), lambda: Spectral(degre=4), "Did you mean `degree`"),
        (lambda: plain(n=2), lambda: Spectral(start=lambda x: x), "policy"),
    ],
)
def test_refusals(problem, method, message):
    with pytest.raises(rc.InputError, match=message):
        rc.solve(problem(), method())


def test_periodic_states_targets_and_maps_are_refused():
    turning = rc.Plant(
        "turning", [rc.Signal("a", "rad", -np.pi, np.pi, periodic=True)], [rc.Signal("u", "1", -1, 1)], drift=lambda x, u, p: u
    )
    chain = rc.Plant("chain", [rc.Signal("x", "1", -1, 1)], [rc.Signal("u", "1", -1, 1)], update=lambda x, u, w, p: 0.5 * x + u)
    cost = lambda x, u: -(x.T @ x + u.T @ u)
    with pytest.raises(rc.InputError, match="periodic"):
        rc.solve(rc.Problem(turning, cost, 0.9, 0.1), Spectral())
    with pytest.raises(rc.InputError, match="drift"):
        rc.solve(rc.Problem(chain, cost, 0.9, 0.1), Spectral())
    with pytest.raises(rc.InputError, match="target"):
        rc.solve(rc.Problem(plain().plant, cost, 0.9, 0.1, target=lambda x: x[0]), Spectral())


def test_exit_rule_must_not_matter_and_start_may_be_given():
    clipped = rc.solve(plain(exit="clip"), Spectral(degree=4, start=lambda x: -x[..., 1:]), on_failure="return")
    assert not clipped.converged
    assert 'exit="clip"' in clipped.message
    assert clipped.error < 1e-8
