"""Chebyshev collocation against exact values: published HJB examples, Riccati, converse constructions; and what it must refuse or flag."""

import casadi as ca
import jax
import numpy as np
import pytest
from scipy import linalg

import rlctrl as rc
from rlctrl import converse
from rlctrl.maximise import InputSet
from rlctrl.reference.chebyshev import ChebyshevValue, indices, products, tables
from rlctrl.reference.hamiltonian import vertex
from rlctrl.reference.spectral import Spectral


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


def points(n, reach, count=2000):
    """Random points of a box and its corners, where a polynomial errs most."""
    corners = np.stack(np.meshgrid(*[[-reach, reach]] * n), -1).reshape(-1, n)
    return np.concatenate([np.random.default_rng(2).uniform(-reach, reach, (count, n)), corners])


@pytest.mark.parametrize(("degree", "reached"), [(8, 6e-2), (14, 2e-3), (20, 5e-5)])
def test_beard(degree, reached):
    """x1' = −x1³ − x2, x2' = x1 + x2 + u: values by the maximum principle, as far as the degree reaches."""
    problem = problem_of(
        lambda x, u, p: ca.vertcat(-(x[0] ** 3) - x[1], x[0] + x[1] + u[0]), lambda x, u: x[0] ** 2 + x[1] ** 2 + u[0] ** 2, box=1.1
    )
    x = np.array([[1, 0], [0, 1], [1, 1], [-1, 1], [0.5, -0.5]])
    exact = np.array([1.6005295, 2.5195471, 4.4611141, 2.6476977, 1.1590850])
    ref = rc.solve(problem, Spectral(degree=degree), on_failure="return")
    assert ref.converged == (degree > 8)  # the residual of degree 8 is 3e-3 of max |ℓ|
    error = np.max(np.abs(ref.V(x) + exact))
    assert error < reached
    assert error <= ref.error <= 20 * error


def test_van_der_pol():
    """x1' = x2, x2' = 2(1 − x1²)x2 − x1 + u: the last value, in a corner that paths leave outwards, is by far the least accurate."""
    problem = problem_of(
        lambda x, u, p: ca.vertcat(x[1], 2 * (1 - x[0] ** 2) * x[1] - x[0] + u[0]), lambda x, u: 0.5 * x.T @ x + 2 * u[0] ** 2, box=1.05
    )
    ref = rc.solve(problem, Spectral(degree=16))
    error = np.abs(ref.V([[1, 0], [0, 1], [1.05, 1.05]]) + np.array([5.929405, 7.992024, 8.465241]))
    assert np.max(error[:2]) < 5e-3
    assert error[2] <= ref.error <= 20 * error[2]


def linear(A, B, box=1.0):
    A, B = np.array(A), np.array(B)[:, None]
    return problem_of(lambda x, u, p: ca.DM(A) @ x + ca.DM(B) @ u, lambda x, u: x.T @ x + u.T @ u, box, n=len(A))


@pytest.mark.parametrize(
    ("A", "B", "P", "basis"),
    [
        (  # F-16 of Vamvoudakis & Lewis 2010
            [[-1.01887, 0.90506, -0.00215], [0.82225, -1.07741, -0.17555], [0, 0, -1]],
            [0, 0, 1],
            [1.424522, 1.168193, -0.135232, 1.434940, -0.150103, 0.432928],
            "tensor",
        ),
        (  # power system of Vrabie et al. 2009
            [[-0.0665, 11.5, 0, 0], [0, -2.5, 2.5, 0], [-9.5, 0, -13.736, -13.736], [0.6, 0, 0, 0]],
            [0, 0, 13.736, 0],
            [0.4600, 0.6911, 0.0519, 0.4642, 1.8668, 0.2002, 0.5800, 0.0533, 0.0302, 2.2106],
            "total",
        ),
    ],
)
def test_published_linear_plants(A, B, P, basis):
    n, (i, j) = len(A), np.triu_indices(len(A))
    ref = rc.solve(linear(A, B), Spectral(degree=3, basis=basis))
    exact = linalg.solve_continuous_are(np.array(A), np.array(B)[:, None], np.eye(n), np.eye(1))
    np.testing.assert_allclose(exact[i, j], P, rtol=0, atol=6e-7 if n == 3 else 6e-5)
    x = points(n, 1.0)
    error = np.max(np.abs(ref.V(x) + np.einsum("ki,ij,kj->k", x, exact, x)))
    assert error < 1e-11
    assert error <= ref.error < 1e-10


def test_multiplicative_noise():
    """B2 of the known answers: noise that grows with the state and the input."""
    plant = rc.Plant(
        "multiplicative",
        [rc.Signal("a", "1", -1, 1), rc.Signal("b", "1", -1, 1)],
        [rc.Signal("u", "1", -20, 20)],
        drift=lambda x, u, p: ca.vertcat(x[1], -x[0] + 0.3 * x[1] + u[0]),
        diffusion=lambda x, u, p: ca.vertcat(ca.horzcat(0.1 * x[0], 0.1), ca.horzcat(0.2 * x[0] + 0.3 * x[1] + 0.4 * u[0], 0.2)),
    )
    problem = rc.Problem.from_rates(plant, lambda x, u: -(x.T @ x + u.T @ u), 0.5, 0.01, exit="free")
    exact, ref, x = rc.solve(problem, rc.Riccati(time="continuous")), rc.solve(problem, Spectral(degree=4)), points(2, 1.0)
    assert np.max(np.abs(ref.V(x) - exact.V(x))) <= ref.error < 1e-11
    np.testing.assert_allclose(ref.policy(x), exact.policy(x), atol=1e-10)


@pytest.mark.usefixtures("optimised")
def test_merton_with_its_exit_value():
    """C5: CRRA utility, share and consumption to choose, both not quadratic. V is known on the faces: noise crosses them."""
    g, r, mu, s, rho = 3.0, 0.02, 0.07, 0.2, 0.05
    share, rate = (mu - r) / (g * s**2), (rho - (1 - g) * (r + (mu - r) ** 2 / (2 * g * s**2))) / g
    K = rate**-g / (1 - g)
    np.testing.assert_allclose([share, rate], [0.416667, 0.036944], rtol=0, atol=5e-7)  # as tabled, to six decimals
    np.testing.assert_allclose(K, -9915.68185, rtol=1e-9)
    plant = rc.Plant(
        "merton",
        [rc.Signal("wealth", "1", 0.8, 1.25)],
        [rc.Signal("share", "1", 0.1, 1), rc.Signal("rate", "1/s", 0.01, 0.15)],
        drift=lambda x, u, p: (r + u[0] * (mu - r) - u[1]) * x[0],
        diffusion=lambda x, u, p: s * u[0] * x[0],
    )
    utility = lambda x, u: (u[1] * x[0]) ** (1 - g) / (1 - g)
    x = np.linspace(0.8, 1.25, 500)[:, None]
    for degree in (6, 10, 14):
        problem = rc.Problem.from_rates(plant, utility, rho, 0.1, exit="absorb", exit_value=lambda x: K * x[0] ** (1 - g))
        ref = rc.solve(problem, Spectral(degree=degree))
        error = np.max(np.abs(ref.V(x) - K * x[:, 0] ** (1 - g)))
        assert error <= ref.error <= 20 * error
    assert error < 1e-7
    np.testing.assert_allclose(ref.policy(x), np.broadcast_to([share, rate], (500, 2)), atol=1e-8)
    free = rc.Problem.from_rates(plant, utility, rho, 0.1, exit="free")  # W^3.8 and W^-3.9 solve it as well as the true W^-2
    assert not rc.solve(free, Spectral(degree=6), on_failure="return").converged


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
    ref = rc.solve(problem, Spectral(degree=4 if n < 6 else 2, basis=basis))
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


def swinging(x):
    return x[0] ** 2 + x[1] ** 2 + 0.5 * x[0] * x[1] + 0.5 * ca.sin(x[0] + x[1]) ** 2


@pytest.mark.parametrize(("noise", "rho", "reached"), [(0.0, 0.0, 2e-7), (0.3, 0.5, 3e-6)])
def test_error_statement_on_a_smooth_value(noise, rho, reached):
    """A pendulum-like plant whose paths leave the box; the error of single degrees jumps by factors up to 50 around its trend."""
    plant = rc.Plant(
        "swinging",
        [rc.Signal("x1", "1", -1.5, 1.5), rc.Signal("x2", "1", -1.5, 1.5)],
        [rc.Signal("u", "1", -100, 100)],
        drift=lambda x, u, p: ca.vertcat(x[1], -ca.sin(x[0]) - 0.5 * x[1] + (1 + 0.3 * ca.cos(x[0])) * u[0]),
        diffusion=(lambda x, u, p: noise * ca.DM([0.5, 1])) if noise else None,
    )
    problem, method = converse.continuous(plant, swinging, np.eye(1), rho)
    exact, x = rc.solve(problem, method), points(2, 1.5)
    for degree in (8, 10, 12, 14, 16):
        ref = rc.solve(problem, Spectral(degree=degree))
        error = np.max(np.abs(ref.V(x) - exact.V(x)))
        assert error <= ref.error <= 20 * error
    assert error < reached
    u = ref.policy(x[:50])
    backup = ref.Q(x[:50], u)
    assert np.max(np.abs(backup - ref.V(x[:50]))) < 0.02  # one step of 0.01 s with r = ℓ dt, in a rate of up to 40 per second
    assert np.all(ref.Q(x[:50], u + 1) < backup)


@pytest.mark.parametrize("degree", [12, 16, 20])
def test_error_statement_where_single_changes_are_small_by_luck(degree):
    """x' = x − x³ + u: V' = 2(x − x³ ± √…) has complex singularities at 1.1 ± 0.46i, so that Chebyshev coefficients swing as they fall."""
    line, free = [rc.Signal("x", "1", -1.5, 1.5)], [rc.Signal("u", "1")]
    plant = rc.Plant("cubic", line, free, drift=lambda x, u, p: x - x**3 + u)
    problem = rc.Problem.from_rates(plant, lambda x, u: -(x[0] ** 2) - u[0] ** 2, 0.0, 0.01, exit="free")
    slope = lambda t: 2 * (t - t**3 + t * np.sqrt((1 - t**2) ** 2 + 1))
    nodes, weights = np.polynomial.legendre.leggauss(60)
    x = np.linspace(-1.5, 1.5, 201)
    exact = -0.5 * x * (slope(0.5 * x[:, None] * (nodes + 1)) @ weights)
    ref = rc.solve(problem, Spectral(degree=degree))
    error = np.max(np.abs(ref.V(x[:, None]) - exact))
    assert error <= ref.error <= 20 * error


def test_four_states_in_total_degree():
    """A damped plant with noise and a converse value that is no polynomial."""
    mix = 0.2 * np.random.default_rng(3).normal(size=(4, 4))
    plant = rc.Plant(
        "smooth",
        [rc.Signal(f"x{i}", "1", -1, 1) for i in range(4)],
        [rc.Signal(f"u{i}", "1", -50, 50) for i in range(2)],
        drift=lambda x, u, p: ca.DM(mix) @ x - x - 0.2 * x**3 + ca.vertcat(0, 0, u[0] * (1 + 0.2 * ca.cos(x[0])), u[1]),
        diffusion=lambda x, u, p: 0.2 * x @ ca.DM.ones(1, 1),
    )
    value = lambda x: x.T @ x + 0.3 * x[0] * x[1] + 0.3 * (1 - ca.cos(x[0] + x[3])) + 0.1 * ca.sin(x[1]) ** 2
    problem, method = converse.continuous(plant, value, np.eye(2), 0.5)
    exact, x = rc.solve(problem, method), points(4, 1.0)
    for degree in (4, 6):  # at degree 4 the residual is still too large
        ref = rc.solve(problem, Spectral(degree=degree, basis="total"), on_failure="return")
        error = np.max(np.abs(ref.V(x) - exact.V(x)))
        assert error <= ref.error <= 20 * error
    assert ref.converged
    assert error < 1e-3
    assert np.max(np.abs(ref.policy(x) - exact.policy(x))) < 2e-3


def test_slowly_converging_series_is_reported():
    """A4: V = x1²(π/2 + atan 5x1) + x2² has poles at ±i/5, and the cost is only semidefinite."""
    problem = problem_of(
        lambda x, u, p: ca.vertcat(
            x[1], -x[0] * (np.pi / 2 + ca.atan(5 * x[0])) - 5 * x[0] ** 2 / (2 * (1 + 25 * x[0] ** 2)) + 4 * x[1] + 3 * u[0]
        ),
        lambda x, u: x[1] ** 2 + u[0] ** 2,
    )
    for degree in (10, 14):
        with pytest.raises(rc.NotConverged, match="HJB residual"):
            rc.solve(problem, Spectral(degree=degree))


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
        inputs = InputSet(np.zeros((1, 2)), np.zeros(2), np.array([-0.5, -1.0]), np.array([1.0, 0.5]), ((), ()))
        u = np.asarray(jax.jit(vertex, static_argnums=0)(h, inputs))
        axes = [np.linspace(low, high, 301) for low, high in zip(inputs.low, inputs.high, strict=True)]
        best = max(float(slope @ v - 0.5 * v @ curvature @ v) for v in np.stack(np.meshgrid(*axes), -1).reshape(-1, 2))
        assert float(h(u)) >= best - 1e-6


def test_value_matches_its_basis_matrices():
    rng = np.random.default_rng(0)
    index = indices(3, 4, True)
    value = ChebyshevValue(rng.normal(size=len(index)), index, np.array([0.0, 1.0, -1.0]), np.array([1.0, 2.0, 0.5]), 4)
    s = rng.uniform(-1, 1, (20, 3))
    x, table = value.middle + value.half * s, tables(s, 4)
    np.testing.assert_allclose(jax.jit(value.at)(x), products(table, index) @ value.coefficients, atol=1e-12)
    slope = np.stack([products(table, index, i) @ value.coefficients / value.half[i] for i in range(3)], -1)
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(value.at)))(x), slope, atol=1e-11)
    mixed = products(table, index, 0, 2) @ value.coefficients / (value.half[0] * value.half[2])
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.hessian(value.at)))(x)[:, 0, 2], mixed, atol=1e-10)


def test_continuation_beyond_the_box_is_smooth():
    """Value, slope and curvature meet on the faces and go on consistently: the feedback and Q use them outside."""
    value = ChebyshevValue(np.array([1.0, -2.0, 0.5, 0.3, 1.5, -0.7]), np.arange(6)[:, None], np.zeros(1), np.ones(1), 5)
    x = np.array([-1.7, -1.0 - 1e-9, -1.0 + 1e-9, -1.0, 0.3, 1.0, 1.0 - 1e-9, 1.0 + 1e-9, 1.4])[:, None]
    slope, bend, first, second = jax.jit(
        lambda x: (
            jax.vmap(jax.grad(value.at))(x)[:, 0],
            jax.vmap(jax.hessian(value.at))(x)[:, 0, 0],
            value.partial(x, 0),
            value.partial(x, 0, 0),
        )
    )(x)
    slope, bend = np.asarray(slope), np.asarray(bend)
    np.testing.assert_allclose(first, slope, rtol=1e-12)
    np.testing.assert_allclose(second, bend, rtol=1e-12)
    for part in (slope, bend):
        np.testing.assert_allclose(part[[1, 2]], part[3], rtol=1e-5)
        np.testing.assert_allclose(part[[6, 7]], part[5], rtol=1e-5)
    exact = np.polynomial.chebyshev.Chebyshev(value.coefficients)
    edge, far = exact(1.0), 0.4
    np.testing.assert_allclose(jax.jit(value.at)(x[-1]), edge + far * exact.deriv()(1.0) + far**2 / 2 * exact.deriv(2)(1.0), rtol=1e-12)


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


# --- ends ---------------------------------------------------------------------------------------------------------------------------------

DIFFUSING = lambda n: {"diffusion": lambda x, u, p: 0.7 * ca.SX.eye(n), "n": n, "box": 1.0, "exit": "absorb"}


@pytest.mark.parametrize(
    ("n", "rho", "cost", "end", "exact"),
    [
        (1, 0.0, 1.0, None, lambda x: (x[:, 0] ** 2 - 1) / 0.49),
        (2, 0.0, 0.0, lambda x: ca.exp(x[0]) * ca.cos(x[1]), lambda x: np.exp(x[:, 0]) * np.cos(x[:, 1])),
        (1, 0.245, 0.0, lambda x: ca.exp(x[0]), lambda x: np.exp(x[:, 0])),
    ],
    ids=["exit time", "Laplace", "discounted end without reward"],
)
def test_ends_fix_the_value_without_discount_or_reward(n, rho, cost, end, exact):
    """ρV = −cost + 0.245 ΔV with V given on the faces."""
    drift = lambda x, u, p: 0 * x * u[0]
    problem = problem_of(drift, lambda x, u: cost + u[0] ** 2, rho=rho, inputs=(1.0,), exit_value=end, **DIFFUSING(n))
    found = rc.solve(problem, Spectral(degree=8))
    x = np.random.default_rng(0).uniform(-1, 1, (500, n))
    error = np.max(np.abs(found.V(x) - exact(x)))
    assert error <= found.error <= max(20 * error, 1e-12)
    assert error <= 1e-5
    np.testing.assert_allclose(found.policy(x), 0, atol=1e-6)


def test_where_the_reward_is_no_number_is_said():
    problem = problem_of(lambda x, u, p: u - x, lambda x, u: u[0] ** 2 - ca.log(x[0] + 0.5), box=1.0, n=1, rho=1.0)
    found = rc.solve(problem, Spectral(), on_failure="return")
    assert not found.converged
    assert found.message.startswith("Spectral found no number: `reward` is no finite number at x = -")
    assert found.message.count(". ") == 1
