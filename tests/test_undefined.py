"""A function of the user's that is no number somewhere is named, with where, its value and the way out; nothing is said "diverged"."""

import re

import casadi as ca
import jax.numpy as jnp
import numpy as np
import pytest

import rlctrl as rc
from rlctrl.undefined import undefined

EDGE = -0.97  # below it the functions below are undefined: none of the sixteen points at which a plant is checked lies there


def problem(where="reward", **options):
    """x in [-1, 1]; one function is undefined below `EDGE`."""
    root = lambda x: ca.sqrt(x[0] - EDGE)
    signals = [rc.Signal("x", "1", -1, 1)], [rc.Signal("u", "1", -1, 1)]
    if where == "update":
        made = {"update": lambda x, u, w, p: 0.9 * x + 0.3 * u + 0.1 * w + 1e-9 * root(x), "noise": rc.Gaussian(1)}
    else:
        made = {"drift": lambda x, u, p: u - x + (1e-9 * root(x) if where == "drift" else 0)}
        made["diffusion"] = lambda x, u, p: 0.1 * (root(x) if where == "diffusion" else 1)
    reward = lambda x, u: -(x[0] ** 2) - u[0] ** 2 + (1e-9 * ca.log(x[0] - EDGE) if where == "reward" else 0)
    if where == "exit_value":
        options |= {"exit": "absorb", "exit_value": lambda x: ca.log(x[0] - EDGE)}
    if where == "target":
        options |= {"target": lambda x: 1 + 1e-9 * ca.log(x[0] - EDGE) - 2 * (x[0] > 0.9)}
    return rc.Problem(rc.Plant("case", *signals, **made), reward, options.pop("gamma", 0.9), 0.1, **options)


@pytest.mark.parametrize("where", ["reward", "drift", "diffusion", "update", "exit_value", "target"])
def test_griddp_names_the_function(where):
    with pytest.raises(rc.NotConverged) as failed:
        rc.solve(problem(where), rc.GridDP(shape=41, inputs=5))
    said = re.match(rf"GridDP found no number: `{where}` is no finite number at x = ([-\d.]+).*: it gives nan. Mend", str(failed.value))
    assert said
    assert float(said[1]) < EDGE
    assert "diverged" not in str(failed.value)


@pytest.mark.parametrize("where", ["reward", "drift", "diffusion"])
def test_hjb_names_the_function(where):
    found = rc.solve(problem(where), rc.HJB(shape=41, inputs=5), on_failure="return")
    assert not found.converged
    assert re.search(rf"`{where}` is no finite number at x = -(0.9[89]|1.0).*: it gives nan. Mend", found.message), found.message


def test_hjb_names_the_target():
    with pytest.raises(rc.InputError, match=r"`target` must be a number; at x=\[-1.0\] it; got \[nan\]\. Mend"):
        rc.solve(problem("target"), rc.HJB(shape=41, inputs=5))


def test_hjb_names_the_exit_value():
    with pytest.raises(rc.InputError, match=r"`exit_value` must be finite where the problem ends; at x=\[-1.0\] it; got \[nan\]\. Mend"):
        rc.solve(problem("exit_value"), rc.HJB(shape=41, inputs=5))


@pytest.mark.parametrize("where", ["reward", "drift", "diffusion"])
def test_spectral_names_the_function(where):
    found = rc.solve(problem(where, exit="free"), rc.Spectral(degree=6), on_failure="return")
    assert re.search(rf"no number: `{where}` is no finite number at x = -(0.9[789]|1.0).*: it gives nan. Mend", found.message), (
        found.message
    )


def test_exact_names_the_function():
    with pytest.raises(rc.InputError, match=r"^`reward` is no finite number at x = -0\.9.*: it gives nan. Mend"):
        rc.solve(problem(), rc.Exact(V=lambda x: x[0], policy=lambda x: 0 * x[0]))


@pytest.mark.parametrize("where", ["reward", "drift", "diffusion", "update", "exit_value", "target"])
def test_simulate_names_the_function(where):
    with pytest.raises(rc.InputError, match=rf"^`{where}` is no finite number at x = -(0.9[789]|1.0).*: it gives nan. Mend"):
        rc.simulate(problem(where), lambda x: 0 * x - 1, [[0.0], [-0.96]], 300)


@pytest.mark.parametrize("where", ["reward", "update", "target"])
def test_training_names_the_function(where):
    case = problem(where)
    critic, scheme = rc.Critic(hidden=4), rc.ReplayTD(memory=16, restart=2, snapshots=4)
    policy = lambda x: 0 * x
    with pytest.raises(rc.NotConverged, match=rf"Training stopped in step \d+: `{where}` is no finite number at x = -(0.9[789]|1.0)"):
        rc.train(case, critic, policy, scheme, steps=4000, seed=0)


def finite_below(edge):
    return lambda x: jnp.where(x > edge, jnp.nan, 1.0)


@pytest.mark.parametrize("edge", [0.5, -9])
def test_a_policy_without_a_finite_input_is_named(edge):
    """From some state on, and everywhere."""
    case, bad = problem("none", exit="free"), finite_below(edge)
    said = r" gives no finite input at x = [-\d.]+: it gives nan\. Mend it"
    for call in (lambda: rc.simulate(case, bad, [0.0], 100), lambda: rc.monte_carlo(case, bad, [0.0], paths=2)):
        with pytest.raises(rc.InputError, match=f"^`policy`{said}"):
            call()
    with pytest.raises(rc.InputError, match=rf"^`policies\['bad'\]`{said}"):
        rc.compare(case, {"good": lambda x: -x, "bad": bad}, [0.0], steps=100, paths=2)
    for scheme in (rc.ReplayTD(memory=8), rc.ReplayTD(memory=8, snapshots=2)):
        with pytest.raises(rc.NotConverged, match=rf"^Training stopped in step \d+: `policy`{said}"):
            rc.train(case, rc.Critic(hidden=4), bad, scheme, steps=2000)


def test_what_a_policy_gives_after_the_end_is_not_looked_at():
    case = problem("none", exit="absorb")
    path = rc.simulate(case, lambda x: jnp.where(x > 1, jnp.nan, 9.0), [0.9], 5)
    assert path.alive[0].tolist() == [True] + 5 * [False]


def test_a_path_that_starts_where_the_target_is_undefined_is_refused():
    with pytest.raises(rc.InputError, match=r"^`target` is no finite number at x = -0\.98: it gives nan"):
        rc.simulate(problem("target"), lambda x: 0 * x + 1, [-0.98], 1)


def test_a_periodic_state_that_is_no_number_is_brought_to_no_angle():
    """The sixteen points at which a plant is checked lie elsewhere; a path meets the gap at ±π."""
    angle = [rc.Signal("phi", "rad", -np.pi, np.pi, periodic=True)]
    drift = lambda x, u, p: u + 1e-9 * ca.log(ca.cos(x[0]) + 0.9999)
    case = rc.Problem(rc.Plant("turn", angle, [rc.Signal("u", "1", -1, 1)], drift=drift), lambda x, u: ca.cos(x[0]), 0.9, 0.01)
    with pytest.raises(rc.InputError, match=r"^`drift` within a step of `dt` is no finite number at x = 3\.1"):
        rc.simulate(case, lambda x: 0 * x + 1, [3.1], 10)


def test_a_rate_too_large_is_still_said_to_diverge():
    plant = problem("none")
    with pytest.raises(rc.NotConverged, match="Training diverged in step"):
        rc.train(plant, rc.Critic(hidden=4), lambda x: 0 * x, rc.ReplayTD(memory=8, rate=1e6), steps=200)


def test_values_that_grow_without_bound_are_told_from_no_number():
    """Nothing ends where x cannot be left and staying pays: V grows, and is a number all the while."""
    plant = rc.Plant("stay", [rc.Signal("x", "1", -1, 1)], [rc.Signal("u", "1", -1, 1)], update=lambda x, u, w, p: 2 * x + u)
    case = rc.Problem(plant, lambda x, u: 1 + x[0] ** 2, 0.9999, 1.0, exit="free")
    with pytest.raises(rc.NotConverged) as failed:
        rc.solve(case, rc.GridDP(shape=21, inputs=5, margin=0.0))
    assert "no number" not in str(failed.value)


def test_what_is_defined_everywhere_is_passed():
    x, u = np.linspace(-1, 1, 41)[:, None], np.linspace(-1, 1, 5)[:, None]
    assert undefined(problem("none"), x, u) is None
    assert undefined(problem(), x[x[:, 0] > EDGE], u) is None
    assert undefined(problem(), x, np.nan * u) is None


def test_inputs_of_each_state_are_looked_at_with_it():
    """ln(u − x) is defined where u > x only."""
    signals = [rc.Signal("x", "1", -1, 1)], [rc.Signal("u", "1", -1, 3)]
    case = rc.Problem(rc.Plant("case", *signals, drift=lambda x, u, p: u - x), lambda x, u: ca.log(u[0] - x[0]), 0.9, 0.1)
    x = np.linspace(-1, 1, 9)[:, None]
    assert undefined(case, x, x[:, None] + 0.5) is None
    assert re.match(r"`reward` is no finite number at x = -1.0, u = -1.0: it gives -inf. Mend", str(undefined(case, x, x[:, None])))


def test_a_target_and_a_step_are_looked_at_too():
    case = problem("none", exit="absorb", target=lambda x: ca.log(x[0] - EDGE) + 99)
    assert str(undefined(case, np.array([[-0.99]]), np.zeros((1, 1)))).startswith(
        "`target` is no finite number at x = -0.99: it gives nan."
    )
    drift = lambda x, u, p: -10 + 1e-9 * ca.sqrt(x[0])
    plant = rc.Plant("fall", [rc.Signal("x", "m", 0, 1)], [rc.Signal("u", "1", -1, 1)], drift=drift)
    case = rc.Problem(plant, lambda x, u: x[0], 0.9, 0.1, exit="absorb")
    said = str(undefined(case, np.array([[0.1]]), np.zeros((1, 1))))
    assert said.startswith("`drift` within a step of `dt` is no finite number at x = 0.1")


def test_numbers_that_only_overflow_are_none_of_a_function():
    plant = rc.Plant("grow", [rc.Signal("x", "1")], [rc.Signal("u", "1", -1, 1)], update=lambda x, u, w, p: 1e20 * x)
    case = rc.Problem(plant, lambda x, u: -(x[0] ** 4), 0.9, 1.0, exit="free")
    path = rc.simulate(case, lambda x: 0 * x, [1.0], 20)
    assert not np.all(np.isfinite(path.x))


# ---- Inputs that must not be: a reward of −∞ -------------------------------------------------------------------------------------------

SPENT = 0.1  # share of the wealth that is best spent: 1 − γ a step, or ρ a second


def saver(others=()):
    """Wealth exp(y) that pays 1/γ a step, of which a share is spent for log utility; V = (y + log(1 − γ))/(1 − γ)."""
    plant = rc.Plant(
        "saver",
        [rc.Signal("y", "1", -1, 1)],
        [rc.Signal("share", "1", 0, 0.9), *others],
        update=lambda x, u, w, p: x - np.log(1 - SPENT) + ca.log(1 - u[0]) + 0.1 * w,
        noise=rc.Gaussian(1),
    )
    utility = lambda x, u: x[0] + ca.log(u[0]) - sum((u[k] - 0.3) ** 2 for k in range(1, 1 + len(others)))
    return rc.Problem(plant, utility, gamma=1 - SPENT, exit="free")


def value_of_wealth(x):
    return (x[:, 0] + np.log(SPENT)) / SPENT


@pytest.mark.parametrize("order", [1, 3])
def test_griddp_shuns_inputs_that_cost_infinitely_much(order):
    """The candidate 0 gives −∞, and so do steps of the search that reach it."""
    x, other = np.linspace(-1, 1, 50)[:, None], rc.Signal("v", "1", -1, 1)
    for others in ((), (other,)):
        found = rc.solve(saver(others), rc.GridDP(shape=(21,), order=order, inputs=7))
        wrong = np.max(np.abs(found.V(x) - value_of_wealth(x)))
        assert wrong <= found.error <= 20 * wrong
        np.testing.assert_allclose(found.policy(x), [[SPENT, 0.3][: 1 + len(others)]] * 50, atol=1e-6)


@pytest.mark.parametrize("order", [1, 2])
def test_hjb_shuns_them_too_and_states_what_its_walls_miss(order):
    """V is linear: exact but for the finite rate of exit at the walls."""
    plant = rc.Plant(
        "saver",
        [rc.Signal("y", "1", -1, 1)],
        [rc.Signal("share", "1/s", 0, 1)],
        drift=lambda x, u, p: SPENT - u[0],
        diffusion=lambda x, u, p: 0.1,
    )
    utility, end = lambda x, u: x[0] + ca.log(u[0]), lambda x: (x[0] + np.log(SPENT)) / SPENT
    found = rc.solve(
        rc.Problem.from_rates(plant, utility, SPENT, 0.1, exit="absorb", exit_value=end), rc.HJB(shape=(41,), order=order, inputs=8)
    )
    x = np.linspace(-1, 1, 81)[:, None]
    wrong = np.max(np.abs(found.V(x) - value_of_wealth(x)))
    assert wrong <= found.error <= 20 * wrong
    np.testing.assert_allclose(found.policy(x), SPENT, atol=1e-6)
