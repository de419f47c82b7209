"""Riccati: published gains, the formulas of B1 written out again, an oracle in extended precision, and every refusal (T2, T3)."""

import re

import casadi as ca
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

import plants
import rlctrl as rc
from rlctrl.reference.lq_continuous import risk_sensitive

F16_A = [[0.906488, 0.0816012, -0.0005], [0.0741349, 0.90121, -0.000708383], [0.0, 0.0, 0.132655]]
F16_B = [[-0.00150808], [-0.0096], [0.867345]]
F16_P = [[14.947129, 11.855280, -0.007180], [11.855280, 15.057603, -0.006314], [-0.007180, -0.006314, 1.010104]]
TABLED = {  # discrete-time rows of A6: A, B, P, K with Q = I, R = 1, no discount
    "F-16": (F16_A, F16_B, F16_P, [-0.080427, -0.092495, 0.066081]),
    "Liu-Wei": ([[0, 0.1], [0.3, -1]], [[0], [0.5]], [[1.144156, -0.489323], [-0.489323, 2.671496]], [0.240261, -0.815538]),
    "online": ([[0, -0.8], [0.8, 1.8]], [[0], [-1]], [[1.506329, 1.004913], [1.004913, 3.787880]], [-0.632911, -1.256141]),
}
LAWS = {
    "gaussian": rc.Gaussian(2),
    "uniform": rc.Uniform(2),
    "finite": rc.Finite([[-2.0, 0.5], [1.0, -1.0], [0.0, 3.0]], [0.25, 0.5, 0.25]),  # mean not zero, channels correlated
}
on_random_problems = settings(max_examples=10, derandomize=True, deadline=None, database=None)
seeds = st.integers(0, 10_000)


def regulator(A, B, Q, R, gamma=1.0, **options):
    return rc.Problem(plants.linear(A, B, discrete=True, **options), rc.quadratic(Q, R), gamma=gamma, exit="free")


def value_matrix(ref):
    """P of V = −xᵀPx − 2pᵀx − s by second differences of V: exact for a quadratic, and needs only the public function."""
    e = np.eye(len(ref.states))
    return -0.5 * (ref.V(e[:, None] + e[None]) - ref.V(e)[:, None] - ref.V(e) + ref.V(0 * e[0]))


def gain_matrix(ref):
    """K of u = u0 − Kx."""
    e = np.eye(len(ref.states))
    return (ref.policy(0 * e) - ref.policy(e)).T


def dare_residual(P, A, B, Q, R, gamma):
    """Relative residual of P = Q + γAᵀPA − γ²AᵀPB (R + γBᵀPB)⁻¹ BᵀPA."""
    A, B = np.array(A), np.array(B)
    gain = np.linalg.solve(R + gamma * B.T @ P @ B, gamma * B.T @ P @ A)
    return np.max(np.abs(Q + gamma * A.T @ P @ A - gamma * A.T @ P @ B @ gain - P)) / np.max(np.abs(P))


class RandomLQ:
    """A random problem with all of B1: discount, offset, cross and linear costs, noise on top and multiplying state and input.

    x_+ = Ax + Bu + c + Σ_j (C_j x + D_j u + F_j) w_j, cost = zᵀWz + 2hᵀz + κ with z = (x, u).
    """

    def __init__(self, seed, law):
        rng = np.random.default_rng(seed)
        n, m = int(rng.integers(1, 4)), int(rng.integers(1, 3))
        self.n, self.m, self.law, self.gamma, self.rng = n, m, law, rng.uniform(0.7, 0.97), rng
        self.A, self.B, self.c = 0.6 * rng.normal(size=(n, n)), rng.normal(size=(n, m)), 0.3 * rng.normal(size=n)
        self.C, self.D = 0.1 * rng.normal(size=(2, n, n)), 0.1 * rng.normal(size=(2, n, m))
        self.F = 0.3 * rng.normal(size=(2, n))
        root = rng.normal(size=(n + m, n + m))
        self.W, self.h, self.kappa = root @ root.T + 0.3 * np.eye(n + m), 0.5 * rng.normal(size=n + m), rng.normal()

    def solve(self):
        def update(x, u, w, p):  # noqa: ARG001 - the signature the plant asks for
            return self.A @ x + self.B @ u + self.c + sum((self.C[j] @ x + self.D[j] @ u + self.F[j]) * w[j] for j in range(2))

        def reward(x, u):
            z = ca.vertcat(x, u)
            return -(z.T @ self.W @ z + 2 * ca.dot(self.h, z) + self.kappa)

        states, inputs = ([rc.Signal(f"{letter}{k}", "1") for k in range(size)] for letter, size in (("x", self.n), ("u", self.m)))
        plant = rc.Plant(name="random", states=states, inputs=inputs, update=update, noise=self.law)
        return rc.solve(rc.Problem(plant, reward, gamma=self.gamma, exit="free"), rc.Riccati())

    def backup(self, V, x, u):
        """r + γ E V(x_+) at one (x, u), by sigma points mean ± √2·(column of a root of the covariance): exact for a quadratic V."""
        z = np.concatenate([x, u])
        root = np.sqrt(2) * np.linalg.cholesky(self.law.covariance)
        expected = 0.0
        for w in np.concatenate([self.law.mean + root.T, self.law.mean - root.T]):
            x_next = self.A @ x + self.B @ u + self.c
            for j in range(2):
                x_next = x_next + (self.C[j] @ x + self.D[j] @ u + self.F[j]) * w[j]
            expected += V(x_next) / 4
        return -(z @ self.W @ z + 2 * self.h @ z + self.kappa) + self.gamma * expected


def b1(q):
    """P, p, s, K, M⁻¹l, M of B1 for a RandomLQ with channel 0 multiplicative and channel 1 additive; P by value iteration."""
    n, g, sigma = q.n, q.gamma, np.sqrt(np.diag(q.law.covariance))
    C, D, F = sigma[0] * q.C[0], sigma[0] * q.D[0], sigma[1] * q.F[1]
    A, B, c0, Q, S, R = q.A, q.B, q.c, q.W[:n, :n], q.W[:n, n:], q.W[n:, n:]
    P = np.zeros((n, n))
    for _ in range(2000):
        M = R + g * (B.T @ P @ B + D.T @ P @ D)
        L = S.T + g * (B.T @ P @ A + D.T @ P @ C)
        P = Q + g * (A.T @ P @ A + C.T @ P @ C) - L.T @ np.linalg.solve(M, L)
    K = np.linalg.solve(M, L)
    closed = A - B @ K
    p = np.linalg.solve(np.eye(n) - g * closed.T, q.h[:n] - K.T @ q.h[n:] + g * closed.T @ P @ c0)
    ell = q.h[n:] + g * B.T @ (P @ c0 + p)
    s = (q.kappa + g * (c0 @ P @ c0 + 2 * p @ c0 + F @ P @ F) - ell @ np.linalg.solve(M, ell)) / (1 - g)
    return P, p, s, K, np.linalg.solve(M, ell), M


@pytest.fixture(scope="module")
def double_integrator():
    problem = rc.Problem(plants.double_integrator(noise=0.1), rc.quadratic([0.1, 0.01], [0.01]), gamma=0.95, dt=0.1, exit="free")
    return problem, rc.solve(problem, rc.Riccati())


@pytest.fixture(scope="module")
def upright():
    weights = np.diag([1.0, 0.1]), np.diag([0.05])
    problem = rc.Problem(plants.pendulum(noise=0.2), rc.quadratic(*weights), gamma=0.98, dt=0.05)
    return problem, weights, rc.solve(problem, rc.Riccati(about=([0, 0], [0])))


# ---- known answers


def test_double_integrator_satisfies_the_discounted_dare(double_integrator):
    _, ref = double_integrator
    A, B = [[1, 0.1], [0, 1]], [[0.005], [0.1]]
    assert dare_residual(value_matrix(ref), A, B, np.diag([0.1, 0.01]), np.diag([0.01]), 0.95) <= 1e-10
    assert ref.residual <= 1e-14


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_f16_satisfies_the_discounted_dare(gamma):
    ref = rc.solve(regulator(F16_A, F16_B, np.eye(3), [1.0], gamma), rc.Riccati())
    assert dare_residual(value_matrix(ref), F16_A, F16_B, np.eye(3), np.eye(1), gamma) <= 1e-10


@pytest.mark.parametrize("row", TABLED)
def test_published_solutions_to_the_digits_given(row):
    A, B, P, K = TABLED[row]
    ref = rc.solve(regulator(A, B, np.eye(len(A)), [1.0]), rc.Riccati())
    assert np.max(np.abs(value_matrix(ref) - P)) <= 0.51e-6
    assert np.max(np.abs(gain_matrix(ref) - K)) <= 0.51e-6


def test_liu_wei_value_at_a_point():
    A, B, *_ = TABLED["Liu-Wei"]
    assert abs(rc.solve(regulator(A, B, np.eye(2), [1.0]), rc.Riccati()).V([1, -1]) + 4.794298) <= 0.51e-6


def test_additive_noise_costs_discounted_trace(double_integrator):
    _, ref = double_integrator
    spread = np.array([0, 0.1 * np.sqrt(0.1)])
    expected = 0.95 / 0.05 * spread @ value_matrix(ref) @ spread
    assert abs(-ref.V([0, 0]) - expected) <= 1e-12 * expected


def test_q_is_the_one_step_backup_of_v_by_quadrature(double_integrator):
    problem, ref = double_integrator
    rng = np.random.default_rng(1)
    x, u = rng.uniform(-2, 2, (200, 2)), rng.uniform(-5, 5, (200, 1))
    backup = np.asarray(problem.kernel.backup(ref.value.at, x, u, ref.rule))
    assert np.max(np.abs(ref.Q(x, u) - backup)) <= 1e-10
    assert np.max(np.abs(ref.Q(x, ref.policy(x)) - ref.V(x))) <= 1e-12


def test_certify_finds_no_residual_where_the_inputs_suffice_and_one_where_they_saturate():
    def certified(force_max):
        plant = plants.double_integrator(noise=0.1, force_max=force_max)
        problem = rc.Problem(plant, rc.quadratic([0.1, 0.01], [0.01]), gamma=0.95, dt=0.1, exit="free")
        return rc.solve(problem, rc.Riccati()).certify()

    assert certified(20.0) <= 1e-10
    assert certified(2.0) >= 1e-2


def test_gradient_is_the_central_difference_of_v(double_integrator):
    _, ref = double_integrator
    x, e = np.random.default_rng(2).uniform(-2, 2, (50, 2)), np.eye(2)
    central = 0.5 * (ref.V(x[:, None] + e) - ref.V(x[:, None] - e))  # exact for a quadratic
    assert np.max(np.abs(ref.gradient(x) - central)) <= 1e-13


def test_saved_reference_gives_the_same_bits(double_integrator, tmp_path):
    _, ref = double_integrator
    again = rc.Reference.load(ref.save(tmp_path / "lqr"))
    x, u = np.random.default_rng(3).normal(size=(2, 20, 2))
    for a, b in ((ref.V(x), again.V(x)), (ref.Q(x, u[:, :1]), again.Q(x, u[:, :1])), (ref.policy(x), again.policy(x))):
        assert np.array_equal(a, b)
    assert (again.error, again.error_kind, again.notes, again.converged) == (ref.error, "proven", ref.notes, True)


# ---- random problems: every term of B1


@pytest.mark.parametrize("law", LAWS)
@on_random_problems
@given(seed=seeds)
def test_v_and_q_satisfy_the_bellman_equation(law, seed):
    q = RandomLQ(seed, LAWS[law])
    ref = q.solve()
    for x, du in zip(2 * q.rng.normal(size=(5, q.n)), 2 * q.rng.normal(size=(5, q.m)), strict=True):
        best = ref.policy(x)
        at_best, above, below = (q.backup(ref.V, x, best + d) for d in (0 * du, du, -du))
        scale = 1 + abs(above) + abs(below)
        assert abs(at_best - ref.V(x)) <= 1e-9 * scale
        assert abs(above - below) <= 1e-9 * scale  # Q is a parabola in u: symmetric about its vertex
        assert above < at_best
        assert abs(ref.Q(x, best + du) - above) <= 1e-9 * scale


@pytest.mark.parametrize("law", ["gaussian", "uniform"])
@on_random_problems
@given(seed=seeds)
def test_v_policy_and_q_are_the_formulas_of_b1(law, seed):
    q = RandomLQ(seed, LAWS[law])
    q.C[1], q.D[1], q.F[0] = 0, 0, 0
    ref = q.solve()
    P, p, s, K, k, M = b1(q)
    x, u = 2 * q.rng.normal(size=(20, q.n)), 2 * q.rng.normal(size=(20, q.m))
    V = -(np.einsum("bi,ij,bj->b", x, P, x) + 2 * x @ p + s)
    best = -x @ K.T - k
    Q = V - np.einsum("bi,ij,bj->b", u - best, M, u - best)
    for mine, exact in ((ref.V(x), V), (ref.policy(x), best), (ref.Q(x, u), Q)):
        assert np.max(np.abs(mine - exact)) <= 1e-9 * np.max(np.abs(exact))


def test_value_does_not_depend_on_the_shape_of_the_law_but_on_its_covariance():
    two = rc.Finite([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]], [0.25] * 4)  # covariance I, far from normal
    finite, normal = RandomLQ(7, two).solve(), RandomLQ(7, rc.Gaussian(2)).solve()
    x = np.random.default_rng(0).normal(size=(20, len(normal.states)))
    assert np.max(np.abs(finite.V(x) - normal.V(x))) <= 1e-12 * np.max(np.abs(normal.V(x)))
    third = RandomLQ(7, rc.Uniform(2)).solve()  # covariance I/3
    assert np.max(np.abs(third.V(x) - normal.V(x))) >= 1e-2


def test_singular_covariance_is_an_ordinary_case():
    line = rc.Finite([[1.0, 1.0], [-1.0, -1.0]], [0.5, 0.5])
    q = RandomLQ(7, line)
    x, u = np.full(q.n, 0.3), np.full(q.m, 0.2)
    q.solve()
    merged = RandomLQ(7, rc.Gaussian(2))  # the same noise in one channel
    for part in (merged.C, merged.D, merged.F):
        part[0], part[1] = part.sum(0), 0
    assert abs(q.solve().Q(x, u) - merged.solve().Q(x, u)) <= 1e-10


def test_input_noise_so_strong_that_the_plain_gain_would_not_do():
    A, D, R, g = 0.9, 3.0, 1e-3, 0.95  # the gain without D is K ≈ A, and γ((A−K)² + D²K²) > 1; a small gain is optimal
    plant = rc.Plant(name="m", states=[rc.Signal("x", "1")], inputs=[rc.Signal("u", "1")],
                     update=lambda x, u, w, p: A * x + u + D * u * w, noise=rc.Gaussian(1))  # fmt: skip
    ref = rc.solve(rc.Problem(plant, rc.quadratic([1.0], [R]), gamma=g, exit="free"), rc.Riccati())
    P = 0.0
    for _ in range(1000):
        P = 1 + g * A**2 * P - (g * P * A) ** 2 / (R + g * P * (1 + D**2))
    assert abs(ref.V([1.0]) + P) <= 1e-9 * P


# ---- the stated error


def longdouble_value(A, B, F, Q, R, gamma, x):
    """V at x (N, n) for one input by the Riccati recursion in extended precision until it stands still."""
    A, B, F, Q, g, x = (np.asarray(a, np.longdouble) for a in (A, B, F, Q, gamma, x))
    P = Q.copy()
    for _ in range(60_000):
        L = g * B.T @ P @ A
        new = Q + g * A.T @ P @ A - L.T @ L / (R + g * (B.T @ P @ B)[0, 0])
        new = (new + new.T) / 2  # else the antisymmetric part of the rounding grows with A itself
        change, P = np.max(np.abs(new - P)), new
        if change <= 4 * np.finfo(np.longdouble).eps * np.max(np.abs(P)):
            break
    noise = g / (1 - g) * np.trace(F.T @ P @ F) if g < 1 else 0
    return -(np.sum((x @ P) * x, -1) + noise)


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="no extended precision here")
@pytest.mark.parametrize(
    ("A", "B", "F", "Q", "R", "gamma"),
    [
        ([[1, 0.1], [0, 1]], [[0.005], [0.1]], [[0], [0.03]], np.diag([0.1, 0.01]), 0.01, 0.95),
        ([[1, 0.1], [0, 1]], [[0.005], [0.1]], [[0], [0.03]], np.diag([1.0, 0.0]), 1e-4, 0.999),
        (F16_A, F16_B, np.zeros((3, 1)), np.eye(3), 1.0, 1.0),
        ([[1.2, 1], [0, 0.9]], [[0], [0.01]], [[0.1], [0]], np.eye(2), 10.0, 0.99),
    ],
    ids=["double integrator", "patient", "F-16", "unstable, weak input"],
)
def test_stated_error_covers_the_true_error_and_is_small(A, B, F, Q, R, gamma):
    ref = rc.solve(regulator(A, B, Q, [R], gamma, F=F), rc.Riccati())
    x = np.random.default_rng(4).uniform(-2, 2, (500, len(A)))
    exact = longdouble_value(A, B, F, Q, np.longdouble(R), gamma, x)
    true = float(np.max(np.abs(ref.V(x) - exact)))
    assert ref.error_kind == "proven"
    assert true <= ref.error <= 1e-7 * float(np.max(np.abs(exact)))


# ---- linearisation about a point


def test_linearisation_at_the_upright_is_scipys_dare_of_the_jacobians(upright):
    problem, (Q, R), ref = upright
    kernel, x0, u0, w0 = problem.kernel, np.zeros(2), np.zeros(1), np.zeros(1)
    A, B, F = (np.asarray(jax.jacobian(kernel.update, k)(x0, u0, w0, kernel.p)) for k in (0, 1, 2))
    root = np.sqrt(problem.gamma)
    P = linalg.solve_discrete_are(root * A, root * B, Q, R)
    assert np.max(np.abs(value_matrix(ref) - P)) <= 1e-10 * np.max(np.abs(P))
    assert abs(-ref.V(x0) - 49 * np.trace(F.T @ P @ F)) <= 1e-10 * np.max(np.abs(P))  # γ/(1−γ) = 49
    assert ref.error_kind == "estimated"


def test_linearised_value_turns_with_the_angle_and_uses_the_point():
    problem = rc.Problem(plants.pendulum(), rc.quadratic([1.0, 0.1], [0.05], x0=[np.pi, 0]), gamma=0.98, dt=0.05)
    ref = rc.solve(problem, rc.Riccati(about=([np.pi, 0], [0])))
    x = np.array([0.2, 0.7])
    for way in (ref.V, ref.policy):
        assert np.max(np.abs(way(np.array([np.pi, 0]) + x) - way(np.array([-np.pi, 0]) + x))) <= 1e-12
    assert np.all(ref.V(np.array([np.pi, 0]) + x * np.array([[1, 0], [0, 1], [1, 1]])) < ref.V([np.pi, 0]))


def test_linearising_a_linear_problem_anywhere_gives_the_same_value(double_integrator):
    problem, ref = double_integrator
    about = rc.solve(problem, rc.Riccati(about=([0.7, -0.3], [2.0])))
    x, u = np.random.default_rng(5).uniform(-2, 2, (2, 50, 2))
    assert np.max(np.abs(about.V(x) - ref.V(x))) <= 1e-11
    assert np.max(np.abs(about.Q(x, u[:, :1]) - ref.Q(x, u[:, :1]))) <= 1e-11


# ---- notes


def test_note_states_the_share_of_the_box_where_the_gain_respects_the_inputs():
    ref = rc.solve(regulator([[1.0]], [[1.0]], [1.0], [0.1], 0.9, state_max=4.0, input_max=1.0), rc.Riccati())
    share = 1.0 / (4.0 * gain_matrix(ref)[0, 0])  # |Kx| ≤ 1 of |x| ≤ 4
    (note,) = (n for n in ref.notes if "respects the input box" in n)
    assert abs(float(re.search(r"([\d.]+) %", note)[1]) / 100 - share) <= 0.015  # 20 000 draws: four standard deviations


@pytest.mark.parametrize("about", [None, ([0.0], [0.0])])
@pytest.mark.parametrize("end", [{"exit": "absorb"}, {"target": lambda x: x[0] + 3.5}])
def test_where_the_problem_ends_no_error_is_stated(end, about):
    """A step from the corner to the end costs x² + 0.1u² with u = ±0.6 at most, and V there is far less: it pays for noise for ever."""
    plant = plants.linear([[1.0]], [[1.0]], F=[[0.5]], discrete=True, state_max=4.0, input_max=9.0)
    ref = rc.solve(rc.Problem(plant, rc.quadratic([1.0], [0.1]), gamma=0.99, **end), rc.Riccati(about=about))
    assert ref.V([-4.0]) < -(4.0**2) - 0.1 * 0.6**2 - 1.0
    assert (ref.error, ref.error_kind, set(ref.error_terms)) == (np.inf, "estimated", {"ends"})
    assert any(note.startswith("Riccati knows no end") for note in ref.notes)


def test_with_inputs_of_finitely_many_values_no_error_is_stated():
    states, inputs = [rc.Signal("x", "1", -1, 1)], [rc.Signal("u", "1", values=(-1, 1))]
    plant = rc.Plant("switch", states, inputs, update=lambda x, u, w, p: 0.5 * x + 0.1 * u)
    ref = rc.solve(rc.Problem(plant, rc.quadratic(1, 1), 0.9), rc.Riccati())
    assert (ref.error, ref.error_kind, set(ref.error_terms)) == (np.inf, "estimated", {"finite_inputs"})
    assert not any("respects" in note for note in ref.notes)


def test_note_warns_of_a_closed_loop_unstable_without_discount():
    problem = regulator([[1.2]], [[1.0]], [0.01], [1.0], 0.5)
    ref = rc.solve(problem, rc.Riccati())
    radius = 1.2 - gain_matrix(ref)[0, 0]
    (note,) = (n for n in ref.notes if "unstable without discount" in n)
    assert radius >= 1
    assert abs(float(re.search(r"radius ([\d.]+)", note)[1]) - radius) <= 1e-5
    calm = rc.solve(regulator([[1.2]], [[1.0]], [1.0], [0.1], 0.5), rc.Riccati())
    assert not any("unstable" in n for n in calm.notes)


# ---- refusals


def pendulum_problem(reward):
    return rc.Problem(plants.pendulum(), reward, gamma=0.98, dt=0.05)


def multiplicative(strength):
    plant = rc.Plant(name="m", states=[rc.Signal("x", "1")], inputs=[rc.Signal("u", "1")],
                     update=lambda x, u, w, p: 0.9 * x + u + strength * x * w, noise=rc.Gaussian(1))  # fmt: skip
    return rc.Problem(plant, rc.quadratic([1.0], [1.0]), gamma=0.95, exit="free")


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (
            lambda: pendulum_problem(rc.quadratic([1, 1], [1])),
            r"linear-quadratic.*entry \(1, 0\) of ∂x_\+/∂\(x,u\).*pendulum.*about=.*GridDP",
        ),
        (
            lambda: rc.Problem(plants.double_integrator(), lambda x, u: -(x[0] ** 4) - u[0] ** 2, gamma=0.9, dt=0.1),
            r"entry \(0, 0\) of ∂²r.*double_integrator",
        ),
        (lambda: regulator([[2, 0], [0, 0.5]], [[0], [1]], [1, 1], [1]), r"stabilisable.*uncontrollable mode √γ·λ = 2"),
        (lambda: regulator([[0.9]], [[1]], [1], [-1], 0.95), r"maximum over u"),
        (lambda: regulator([[0.9]], [[0]], [1], [0], 0.95), r"maximum over u"),
        (lambda: regulator([[0.9]], [[1]], [1], [1], 1.0, F=[[0.1]]), r"`gamma` must be below 1 when noise or offsets.*infinite"),
        (lambda: regulator([[0.9]], [[1]], [1], [1], 1.0, c=[0.1]), r"`gamma` must be below 1 when noise or offsets.*infinite"),
        pytest.param(
            lambda: multiplicative(1.1), "multiplicative noise is too strong",
        ),
        pytest.param(
            lambda: multiplicative(2.0), "multiplicative noise is too strong",
        ),
        pytest.param(
            lambda: regulator([[2.0]], [[1.0]], [0.0], [1.0]), r"detectab",
        ),
        pytest.param(
            lambda: regulator([[2.0]], [[1.0]], [-0.1], [1.0], 0.95), r"detectab|infinite",
        ),
    ],
    ids=["pendulum", "quartic", "unstabilisable", "convex", "no input", "noise for ever", "offset for ever",
         "noise above the limit", "noise far above the limit", "unseen unstable mode", "rewarded unstable mode"],
)  # fmt: skip
def test_refusal_says_why(problem, words):
    with pytest.raises(rc.InputError, match=words):
        rc.solve(problem(), rc.Riccati())


def test_multiplicative_noise_just_below_the_limit_is_solved():
    C, g, P = 0.98 / np.sqrt(0.95), 0.95, 0.0  # finite if γC² < 1: no input can act against C
    for _ in range(3000):
        P = 1 + g * (0.81 + C**2) * P - (g * 0.9 * P) ** 2 / (1 + g * P)
    assert abs(rc.solve(multiplicative(C), rc.Riccati()).V([1.0]) + P) <= 1e-9 * P


@pytest.mark.parametrize("about", [([0, 0],), ([0, 0, 0], [0]), ([0, 0], [0, 0])])
def test_refuses_a_point_of_the_wrong_shape(about):
    with pytest.raises(rc.InputError, match=r"`(about|x|u)` must"):
        rc.solve(pendulum_problem(rc.quadratic([1, 1], [1])), rc.Riccati(about=about))


def test_refuses_a_point_that_is_a_number():
    with pytest.raises(rc.InputError, match="`about` must"):
        rc.solve(pendulum_problem(rc.quadratic([1, 1], [1])), rc.Riccati(about=3))


def test_risk_sensitive_regulator_has_the_tabled_solution():
    """B4 of the known answers, its limit θ → 0, and the breakdown of too much aversion."""
    A, B, Q, R, S = [[0, 1], [-1, -0.2]], [[0], [1]], np.eye(2), [[0.5]], [[0.1], [0.4]]
    P, K, rate = risk_sensitive(A, B, Q, R, S, 0.6)
    np.testing.assert_allclose(P, [[1.553544, 0.399799], [0.399799, 0.903197]], atol=6e-7)
    assert rate == pytest.approx(0.19203091, abs=6e-9)
    A, B, S = (np.array(a, float) for a in (A, B, S))
    residual = A.T @ P + P @ A + Q - P @ (B @ B.T / 0.5 - 1.2 * S @ S.T) @ P
    assert np.max(np.abs(residual)) <= 1e-13
    np.testing.assert_allclose(K, B.T @ P / 0.5, rtol=1e-14)
    neutral, _, _ = risk_sensitive(A, B, Q, R, S, 0.0)
    np.testing.assert_allclose(neutral, linalg.solve_continuous_are(A, B, Q, R), rtol=1e-12)
    near, _, _ = risk_sensitive(A, B, Q, R, S, 1e-7)
    np.testing.assert_allclose(near, neutral, rtol=1e-6)
    with pytest.raises(rc.InputError, match="`theta` must be below the breakdown"):
        risk_sensitive(A, B, Q, R, S, 50.0)


def test_a_reward_without_upper_bound_is_said_as_such():
    """Without multiplicative noise the sentence must not blame it."""
    states = [rc.Signal("x", "m", -1, 1), rc.Signal("v", "m/s", -1, 1)]
    plant = rc.Plant("cart", states, [rc.Signal("a", "m/s^2")], update=lambda x, u, w, p: ca.vertcat(x[0] + 0.1 * x[1], x[1] + 0.1 * u[0]))
    problem = rc.Problem(plant, rc.quadratic([-1, -1], [10]), 0.95, exit="free")
    with pytest.raises(rc.InputError, match="The least curvature of the cost −r in \\(x, u\\) is -1"):
        rc.solve(problem, rc.Riccati())


@pytest.mark.parametrize("about", [([np.nan, 0.0], [0.0]), ([[0.0, 0.0]], [[0.0]]), ([0.0, 0.0], [np.inf])])
def test_the_point_of_a_linearisation_is_one_finite_point(about):
    problem = rc.Problem(plants.double_integrator(noise=0.0), rc.quadratic([1, 1], [1]), 0.95, 0.1, exit="free")
    with pytest.raises(rc.InputError, match="`about` must be one state of 2 and one input of 1 finite numbers"):
        rc.solve(problem, rc.Riccati(about=about))
