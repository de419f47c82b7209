"""The laws of w against SciPy, closed-form moments and Monte Carlo."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import rlctrl as rc

DRAWS = 40_000
NODES, MASS = np.array([[-1.0, 2.0], [0.5, -1.0], [3.0, 0.0]]), np.array([0.2, 0.5, 0.3])
LAWS = [rc.Gaussian(1), rc.Gaussian(3), rc.Uniform(1), rc.Uniform(2), rc.Finite(NODES, MASS)]
named = pytest.mark.parametrize("law", LAWS, ids=lambda law: f"{type(law).__name__}{law.q}")


# --- samples ------------------------------------------------------------------------------------------------------------------------------


def test_symmetry_is_that_of_the_law():
    two = np.array([[1.0, 0.0], [3.0, 2.0]])
    assert all(law.symmetric for law in (rc.Gaussian(2), rc.Uniform(1), rc.Finite(two, [0.5, 0.5])))
    assert not any(law.symmetric for law in (rc.Exponential(1), rc.Finite(two, [0.4, 0.6]), rc.Finite(NODES, MASS)))


@named
def test_sample_mean_and_covariance_lie_in_their_monte_carlo_intervals(law):
    w = np.asarray(law.sample(jax.random.key(1), (DRAWS,)))
    centred = w - law.mean
    products = centred[:, :, None] * centred[:, None, :]
    np.testing.assert_array_less(np.abs(w.mean(0) - law.mean), 4 * w.std(0) / np.sqrt(DRAWS))
    np.testing.assert_array_less(np.abs(products.mean(0) - law.covariance), 4 * products.std(0) / np.sqrt(DRAWS) + 1e-15)


@pytest.mark.parametrize(
    ("law", "reference"), [(rc.Gaussian(2), stats.norm()), (rc.Uniform(2), stats.uniform(-1, 2))], ids=["normal", "uniform"]
)
def test_samples_pass_kolmogorov_smirnov_and_channels_are_independent(law, reference):
    w = np.asarray(law.sample(jax.random.key(2), (5000,)))
    assert stats.kstest(w[:, 0], reference.cdf).pvalue > 1e-3
    assert stats.kstest(w[:, 1], reference.cdf).pvalue > 1e-3
    assert stats.spearmanr(w[:, 0], w[:, 1]).pvalue > 1e-3


def test_finite_samples_are_nodes_with_the_stated_frequencies():
    w = np.asarray(LAWS[-1].sample(jax.random.key(3), (20_000,)))
    hits = (w[:, None, :] == NODES).all(-1)
    assert hits.sum(1).tolist() == [1] * 20_000
    assert stats.chisquare(hits.sum(0), MASS * 20_000).pvalue > 1e-3


@named
def test_sample_shape_and_seed(law):
    draw = lambda seed: np.asarray(law.sample(jax.random.key(seed), (4, 5)))
    assert draw(0).shape == (4, 5, law.q)
    assert law.sample(jax.random.key(0)).shape == (law.q,)
    np.testing.assert_array_equal(draw(0), draw(0))
    assert np.any(draw(0) != draw(1))


def test_no_noise_is_a_law_on_a_point():
    law = rc.Gaussian(0)
    assert law.sample(jax.random.key(0), (7,)).shape == (7, 0)
    assert law.mean.shape == (0,)
    assert law.covariance.shape == (0, 0)
    nodes, weights = law.quadrature(5)
    assert nodes.shape == (1, 0)
    assert weights.tolist() == [1.0]
    assert float(law.logpdf(np.zeros(0))) == 0.0


# --- density ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("q", [1, 3])
def test_gaussian_logpdf_equals_scipy(q):
    w = np.random.default_rng(0).normal(size=(4, 50, q)) * 3
    want = stats.multivariate_normal(np.zeros(q), np.eye(q)).logpdf(w).reshape(4, 50)
    np.testing.assert_allclose(rc.Gaussian(q).logpdf(w), want, rtol=1e-14, strict=True)


@pytest.mark.parametrize("q", [1, 3])
def test_uniform_logpdf_equals_scipy_inside_on_and_outside_the_cube(q):
    w = np.random.default_rng(0).uniform(-1.3, 1.3, (200, q))
    w = np.concatenate([w, np.ones((1, q)), -np.ones((1, q)), np.full((1, q), 1 + 1e-12)])
    want = stats.uniform(-1, 2).logpdf(w).sum(-1)
    assert 0 < np.isinf(want).sum() < len(want)
    np.testing.assert_allclose(rc.Uniform(q).logpdf(w), want, rtol=1e-14)


def test_finite_logpdf_is_the_log_probability_with_equal_nodes_counted_together():
    law = rc.Finite([0.0, 1.0, 1.0, 2.0], [0.1, 0.2, 0.3, 0.4])
    want = stats.rv_discrete(values=([0, 1, 2], [0.1, 0.5, 0.4])).logpmf([0, 1, 2, 3])
    np.testing.assert_allclose(law.logpdf(np.array([[0.0], [1.0], [2.0], [3.0]])), want, rtol=1e-14)
    assert law.logpdf(np.array([1e-8])) == -np.inf


# --- quadrature ---------------------------------------------------------------------------------------------------------------------------


def gaussian_moment(degree):
    return 0.0 if degree % 2 else float(math.prod(range(1, degree, 2)))


def uniform_moment(degree):
    return 0.0 if degree % 2 else 1 / (degree + 1)


def gaussian_defect(order):
    """E[w^2k] minus its k-point rule: the squared norm of the monic orthogonal polynomial of degree k, here k!."""
    return math.factorial(order)


def uniform_defect(order):
    """The same for the monic Legendre polynomial under the uniform law."""
    return 4**order * math.factorial(order) ** 4 / ((2 * order + 1) * math.factorial(2 * order) ** 2)


RULES = [(rc.Gaussian, gaussian_moment, gaussian_defect), (rc.Uniform, uniform_moment, uniform_defect)]
ruled = pytest.mark.parametrize(("law", "moment", "defect"), RULES, ids=["Gaussian", "Uniform"])


@ruled
@pytest.mark.parametrize("order", [1, 2, 3, 5, 9])
def test_quadrature_is_exact_to_degree_2k_minus_1_and_misses_degree_2k_by_the_known_amount(law, moment, defect, order):
    nodes, weights = law(1).quadrature(order)
    assert nodes.shape == (order, 1)
    assert weights.min() > 0
    for degree in range(2 * order):
        size = weights @ np.abs(nodes[:, 0]) ** degree
        assert weights @ nodes[:, 0] ** degree == pytest.approx(moment(degree), rel=1e-12, abs=1e-13 * size)
    assert moment(2 * order) - weights @ nodes[:, 0] ** (2 * order) == pytest.approx(defect(order), rel=1e-8)


@ruled
def test_tensor_rule_is_exact_in_every_channel(law, moment, defect):
    nodes, weights = law(2).quadrature(3)
    assert nodes.shape == (9, 2)
    assert weights.sum() == pytest.approx(1, abs=1e-15)
    for a in range(6):
        for b in range(6):
            assert weights @ (nodes[:, 0] ** a * nodes[:, 1] ** b) == pytest.approx(moment(a) * moment(b), rel=1e-12, abs=1e-12)
    missed = moment(6) * moment(2) - weights @ (nodes[:, 0] ** 6 * nodes[:, 1] ** 2)
    assert missed == pytest.approx(defect(3) * moment(2), rel=1e-10)


@named
def test_quadrature_gives_the_stated_mean_and_covariance(law):
    nodes, weights = law.quadrature(2)
    mean = weights @ nodes
    np.testing.assert_allclose(mean, law.mean, atol=1e-15)
    np.testing.assert_allclose((weights[:, None] * (nodes - mean)).T @ (nodes - mean), law.covariance, atol=1e-14)


def test_finite_moments_and_expectations_are_plain_sums():
    law = rc.Finite(NODES, MASS)
    mean = sum(p * w for p, w in zip(MASS, NODES, strict=True))
    np.testing.assert_allclose(law.mean, mean, atol=1e-15)
    want = sum(p * np.outer(w - mean, w - mean) for p, w in zip(MASS, NODES, strict=True))
    np.testing.assert_allclose(law.covariance, want, atol=1e-15)
    nodes, weights = law.quadrature(1)
    assert weights @ np.exp(np.sin(nodes[:, 0])) == pytest.approx(sum(MASS * np.exp(np.sin(NODES[:, 0]))), rel=1e-15)


def test_finite_takes_a_flat_list_as_one_channel_and_normalises_round_off():
    law = rc.Finite([1, 2, 3], [1 / 3, 1 / 3, 0.3333333333])
    assert law.q == 1
    assert law.nodes.tolist() == [[1.0], [2.0], [3.0]]
    assert law.probabilities.sum() == pytest.approx(1, abs=1e-16)


# --- as records, and bad input ------------------------------------------------------------------------------------------------------------


@named
def test_law_is_a_jax_pytree(law):
    leaves, structure = jax.tree.flatten(law)
    assert len(leaves) == (2 if isinstance(law, rc.Finite) else 0)
    w = jnp.zeros((3, law.q))
    np.testing.assert_array_equal(jax.jit(lambda law, w: law.logpdf(w))(law, w), jax.tree.unflatten(structure, leaves).logpdf(w))


@pytest.mark.parametrize("law", [rc.Gaussian, rc.Uniform])
@pytest.mark.parametrize("q", [-1, 1.5, "two", None])
def test_bad_size_is_refused(law, q):
    with pytest.raises(rc.InputError, match=r"`q` must be a whole number ≥ 0; got .*\. Use the number of noise channels"):
        law(q)


@pytest.mark.parametrize(
    ("nodes", "probabilities", "message"),
    [
        ([0, 1], [0.5, 0.6], r"`probabilities` must be ≥ 0 and sum to 1; got array\(\[0.5, 0.6\]\)\. Divide"),
        ([0, 1], [-0.5, 1.5], r"`probabilities` must be ≥ 0 and sum to 1; got array\(\[-0.5, +1.5\]\)\. Divide"),
        ([0, 1], [np.nan, 1.0], r"`probabilities` must be ≥ 0 and sum to 1; got array\(\[nan, +1.\]\)\. Divide"),
        ([0, 1], [1.0], r"`probabilities` must have shape \(2,\); got \(1,\)\. Give one per node"),
        ([], [], r"`nodes` must have shape \(k, q\); got \(0, 1\)\. List one row"),
        (1.0, 1.0, r"`nodes` must have shape \(k, q\); got \(\)\. List one row"),
        (np.zeros((2, 2, 2)), [0.5, 0.5], r"`nodes` must have shape \(k, q\); got \(2, 2, 2\)\. List one row"),
        ([np.nan, 1], [0.5, 0.5], "`nodes` must be finite"),
    ],
)
def test_bad_finite_law_is_refused(nodes, probabilities, message):
    with pytest.raises(rc.InputError, match=message):
        rc.Finite(nodes, probabilities)


def test_unknown_keyword_is_refused_with_the_nearest_name():
    with pytest.raises(rc.InputError, match=r"`probability` is not a keyword of Finite; got \[1.0\]\. Did you mean `probabilities`"):
        rc.Finite([0], probability=[1.0])


@pytest.mark.parametrize("order", [0, -1, 2.5])
def test_bad_quadrature_order_is_refused(order):
    with pytest.raises(rc.InputError, match="`order`"):
        rc.Gaussian(1).quadrature(order)
