"""What every reference has in common, whatever method found it: which points it takes, which it refuses, how it is certified."""

from dataclasses import replace

import casadi as ca
import numpy as np
import pytest

import plants
import rlctrl as rc
from rlctrl.report.words import ERROR_TERMS


def regulator(noise, torque_max=np.inf):
    """A stable pair of states, the second driven by the input, discounted."""
    plant = rc.Plant(
        name="pair",
        states=[rc.Signal("a", "1", -1, 1), rc.Signal("b", "1", -1, 1)],
        inputs=[rc.Signal("u", "1", -torque_max, torque_max)],
        drift=lambda x, u, p: ca.vertcat(-x[0] + 0.3 * x[1], u[0] - 0.8 * x[1]),
        diffusion=(lambda x, u, p: ca.vertcat(0, noise)) if noise else None,
    )
    return rc.Problem.from_rates(plant, rc.quadratic([1.0, 1.0], [0.5]), discount_rate=0.5, dt=0.05, exit="free")


def exact():
    """Riccati's solution of the regulator, given as a closed form."""
    problem = regulator(0.2)
    found = rc.solve(problem, rc.Riccati())
    P, s, K = (np.asarray(a) for a in (found.value.P, found.value.s, found.policy.K))
    return rc.solve(problem, rc.Exact(V=lambda x: -(x.T @ P @ x) - float(s), policy=lambda x: -K @ x))


REFERENCES = {
    "Riccati": lambda: rc.solve(regulator(0.2), rc.Riccati()),
    "GridDP": lambda: rc.solve(regulator(0.2, 4.0), rc.GridDP(shape=(11, 11), order=3)),
    "HJB": lambda: rc.solve(regulator(0.2), rc.HJB(shape=(17, 17))),
    "Spectral": lambda: rc.solve(regulator(0.2), rc.Spectral(degree=4)),
    "OpenLoop": lambda: rc.solve(regulator(0.0, 4.0), rc.OpenLoop(tolerance=1e-4, starts=1)),
    "Exact": exact,
}


@pytest.fixture(scope="module", params=sorted(REFERENCES))
def ref(request):
    return REFERENCES[request.param]()


def answers(ref, x):
    """V, ∇V, π and Q at x: results, or the sentences with which they refuse."""
    for function in (ref.V, ref.gradient, ref.policy, lambda x: ref.Q(x, [0.1])):
        try:
            yield function(x)
        except rc.InputError as error:
            yield str(error)


def test_every_term_of_the_error_is_said_in_words(ref):
    assert set(ref.error_terms) <= set(ERROR_TERMS)


@pytest.mark.parametrize("x", [[np.nan, 0.0], [[0.0, 0.0], [np.inf, 0.0]], [-np.inf, 0.0], None])
def test_states_that_are_no_numbers_are_refused(ref, x):
    assert all("`x` must" in said for said in answers(ref, x))


@pytest.mark.parametrize("x", [0.5, [0.5], [0.1, 0.2, 0.3], np.zeros((5, 1)), np.zeros((2, 3)), [], np.zeros((0, 1)), [[]]])
def test_states_of_another_shape_are_refused(ref, x):
    assert all(f"`x` must have last axis 2; got {np.shape(x)}" in said for said in answers(ref, x))


@pytest.mark.parametrize("u", [[np.nan], [np.inf], [0.1, 0.2], [], 0.1])
def test_inputs_that_do_not_fit_are_refused(ref, u):
    with pytest.raises(rc.InputError, match="`u` must"):
        ref.Q([0.1, 0.2], u)


def test_lists_whole_numbers_and_short_floats_are_floats(ref):
    for same in ([0, 1], (0, 1), np.array([0, 1], np.int32), np.array([0, 1], np.float32), np.array([False, True])):
        for a, b in zip(answers(ref, same), answers(ref, np.array([0.0, 1.0])), strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == float


@pytest.mark.parametrize("batch", [(0,), (3, 0), (2, 1)])
def test_leading_axes_stay_empty_ones_too(ref, batch):
    assert [a.shape for a in answers(ref, np.zeros((*batch, 2)))] == [batch, (*batch, 2), (*batch, 1), batch]


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_policies_of_a_training_know_how_many_states_they_take(kind):
    problem = rc.Problem(plants.double_integrator(), rc.quadratic([0.1, 0.01], [0.01]), gamma=0.9, dt=0.1)
    run = rc.train(problem, rc.Critic(hidden=2), rc.Actor(kind, hidden=2), rc.ReplayTD(memory=4), steps=2)
    for used in (run.policy, run.policy.clipped(-1, 1)):
        with pytest.raises(rc.InputError, match=r"`x` must have last axis 2; got \(5, 1\)"):
            used(np.zeros((5, 1)))


@pytest.mark.parametrize("name", ["Riccati", "HJB", "Spectral", "Exact"])
def test_certify_searches_around_the_policy_where_inputs_have_no_bounds(name):
    ref = REFERENCES[name]()
    if name in ("Riccati", "Exact"):  # of the sampled problem, whose residual it is
        assert ref.certify() <= 1e-12
    else:
        assert ref.certify() == pytest.approx(rc.solve(regulator(0.2, 50.0), rc.Riccati(time="continuous")).certify(), rel=1e-2)


def test_certify_finds_that_inputs_without_bounds_are_worth_more_than_the_policy_takes():
    problem = regulator(0.2)
    lazy = replace(rc.solve(problem, rc.Riccati()), policy=rc.LinearPolicy(np.zeros((1, 2)), np.zeros(2), np.zeros(1), np.zeros(2)))
    poor = replace(lazy, value=rc.solve(rc.Problem.from_rates(problem.plant, rc.quadratic([1, 1], [5]), 0.5, 0.05), rc.Riccati()).value)
    assert lazy.certify() <= 1e-12
    assert replace(poor, closed_form=None).certify() >= 1e-3
