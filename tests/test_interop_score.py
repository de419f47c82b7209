"""A foreign critic and policy against Q*, on a problem where every number is known."""

from dataclasses import replace

import numpy as np
import pytest

import rlctrl as rc
from rlctrl.analysis import score

GAMMA, GAIN = 0.9, 0.2


@pytest.fixture(scope="module")
def solved():
    box = {"states": [rc.Signal("x", "m", -1, 1)], "inputs": [rc.Signal("u", "m", -2, 2)]}
    update = lambda x, u, w, p: x + u + p.noise * w
    plant = rc.Plant("walk", **box, update=update, noise=rc.Gaussian(1), params={"noise": 0.0})
    problem = rc.Problem(plant, rc.quadratic([1.0], [1.0]), gamma=GAMMA, exit="free")
    return problem, rc.solve(problem, rc.Riccati())


def measured(solved, Q=None, policy=None, **options):
    problem, reference = solved
    options = {"points": 256, "steps": 150, "paths": 1, "inputs": 801, **options}
    return score(problem, reference, Q or reference.Q, policy or reference.policy, **options)


def test_the_optimal_pair_has_no_error(solved):
    found = measured(solved)
    for column in (found.uniform, found.visited):
        assert all(abs(column[key]) < 1e-4 for key in column)  # the search for the best input is on a grid of 801
    assert found.reference_error < 1e-12
    assert found.verdict.startswith("Where its policy goes the critic is Q* but for rounding (0 % off over the box)")
    assert found.verdict.endswith("the policy gives away 0 % of the spread of Q*.")


def test_where_q_star_does_not_vary_nothing_is_measured_by_it(solved):
    everywhere = rc.Problem(solved[0].plant, lambda x, u: -1 + 0 * x[0], gamma=0.5)
    found = measured(
        (everywhere, rc.solve(everywhere, rc.GridDP(shape=(11,)))), lambda x, u: 0 * x[:, 0], lambda x: 0 * x, inputs=3, points=16
    )
    said = "Q* does not vary where the policy goes, so that nothing can be measured by its spread there; "
    assert found.verdict == said + "nor does it over the box."
    assert "nan" in found.table()
    found.plot()
    part = replace(found, uniform=dict.fromkeys(found.uniform, 0.25))
    assert part.verdict == said + "over the box the critic is off by 25 % of the spread of Q*."


def test_a_constant_is_seen_as_one(solved):
    reference = solved[1]
    found = measured(solved, lambda x, u: reference.Q(x, u) + 3.0)
    for column, spread in zip((found.uniform, found.visited), found.spread, strict=True):
        assert column["bias"] == pytest.approx(3 / spread)
        assert column["relative_error"] == pytest.approx(3 / spread)
        assert column["misjudgement"] == pytest.approx(3 / spread, rel=1e-4)
        assert column["bellman_residual"] == pytest.approx((1 - GAMMA) * 3 / spread, rel=1e-4)
        assert column["advantage_error"] < 1e-4
    assert "mostly a constant offset" in found.verdict
    assert "misjudges" in found.verdict


def test_what_a_bad_policy_gives_away(solved):
    """V^π of u = −kx is −c x² with c = 1 + k² + γ(1 − k)²c."""
    problem, reference = solved
    c = (1 + GAIN**2) / (1 - GAMMA * (1 - GAIN) ** 2)
    worth = lambda x, u: problem.reward(x, u) - GAMMA * c * ((x + u) ** 2)[..., 0]
    found = measured(solved, worth, lambda x: -GAIN * x)
    z = np.random.default_rng(0).uniform([-1, -2], [1, 2], (400_000, 2))
    x, u = z[:, :1], z[:, 1:]
    gap = reference.Q(x, u) - worth(x, u)
    expected = np.sqrt(np.mean(gap**2)) / np.std(reference.Q(x, u))
    assert found.uniform["policy_loss"] == pytest.approx(expected, rel=0.02)
    assert found.uniform["relative_error"] == pytest.approx(expected, rel=0.02)
    assert found.uniform["misjudgement"] < 1e-6
    assert "gives value away" in found.verdict
    following = (x + u)[:, 0]
    policy_part = GAMMA * (reference.V(x + u) - reference.Q(x + u, -GAIN * (x + u)))
    assert found.uniform["e_star_policy"] == pytest.approx(np.sqrt(np.mean(policy_part**2)) / np.std(reference.Q(x, u)), rel=0.03)
    assert np.all(policy_part >= 0)
    assert following.shape == policy_part.shape


def test_noise_is_told_from_policy(solved):
    problem = solved[0].with_params(noise=0.3)
    found = measured((problem, rc.solve(problem, rc.Riccati())), paths=8)
    P = float(-solved[1].V([1.0]))
    z = np.random.default_rng(0).uniform([-1, -2], [1, 2], (400_000, 2))
    mean = z.sum(1)
    deviation = np.sqrt(np.mean((GAMMA * P) ** 2 * (4 * mean**2 * 0.09 + 2 * 0.09**2)))  # Var of (m + σw)² is 4m²σ² + 2σ⁴
    assert found.uniform["e_star_noise"] * found.spread[0] == pytest.approx(deviation, rel=0.03)
    assert found.uniform["e_star_policy"] < 1e-4
    assert found.uniform["policy_loss"] < 0.1
    assert found.table().count("\n") == 10


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"Q": lambda x, u: x}, r"`Q` must map states \(N, 1\) and inputs \(N, 1\) to \(N,\)"),
        ({"Q": lambda x, u: x[:, 5]}, "it raised IndexError"),
        ({"Q": lambda x, u: np.nan * x[:, 0]}, "`Q` must be finite"),
        ({"Q": 3}, "`Q` must be a function"),
        ({"points": 2}, "`points` must be a whole number"),
        ({"paths": 0}, "`paths` must be a whole number"),
    ],
)
def test_wrong_arguments_are_refused(solved, options, said):
    with pytest.raises(rc.InputError, match=said):
        measured(solved, **options)


def test_a_reference_of_another_problem_is_refused(solved):
    with pytest.raises(rc.InputError, match="`reference` must be of the problem"):
        measured((solved[0].with_params(noise=0.1), solved[1]))
    plant = solved[0].plant
    tight = rc.Problem(replace(plant, inputs=[replace(plant.inputs[0], low=-0.1)]), rc.quadratic([1.0], [1.0]), gamma=GAMMA, exit="free")
    with pytest.raises(rc.InputError, match="`reference` must be of the problem"):
        measured((tight, solved[1]))
