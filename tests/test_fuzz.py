"""Whatever a user passes, in a file or in a call: a result, or one sentence that names what is wrong. Never another exception, never a
folder half written."""

import datetime
import inspect
import math
import re
import warnings
from functools import partial
from pathlib import Path

import casadi as ca
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import plants
import rlctrl as rc
from rlctrl import converse, errors
from rlctrl.analysis import coverage, e_star, score, sources, width_study
from rlctrl.errors import strict
from rlctrl.kinds import Numbers

SAME = {"derandomize": True, "database": None, "deadline": None, "suppress_health_check": list(HealthCheck)}


class Odd:
    """Refuses to be an array, and to be printed."""

    def __array__(self, *_, **__):
        raise RuntimeError("no array")

    def __repr__(self):
        raise RuntimeError("no text")


NUMBERS = [True, 0, -1, 2, 1.5, math.nan, math.inf, 1e308, 1e-320, 2**63, 10**400, np.float32(0.5), np.int8(1), np.array(0.5)]
LISTS = [[], [[]], (), [0.5], [[0.5]], [1, 2], [[1, 2], [3]], [math.nan], [[math.inf]], ["a"], [None], [True], range(2), set(), {}, {1: 2}]
ARRAYS = [np.zeros(0), np.zeros((0, 1)), np.zeros((1, 0)), np.zeros(3), np.zeros((2, 2, 2)), -np.eye(2), np.array(["a"]), np.array([None])]
TEXTS = ["", "x", "gamma", "é`\n\0", b"ab", "/", ".", "/dev/null/x", Path("/nowhere/there")]
OBJECTS = [None, 1j, Odd(), object(), int, len, ca.SX.sym("s"), ca.MX.sym("m"), ca.DM([1, 2]), datetime.date(2020, 1, 1), slice(0, 1)]
OURS = [rc.Riccati, rc.Riccati(), rc.Gaussian(1), rc.Signal("s", "1"), [rc.Signal("s", "1")] * 2, {"a": None}, (n for n in [1])]
FUNCTIONS = [lambda: 1, lambda x: "text", lambda *_: math.nan, lambda *_: 1 / 0, lambda *_: ca.SX.sym("free"), lambda *_: ca.MX.sym("m")]
JUNK = [*NUMBERS, *LISTS, *ARRAYS, *TEXTS, *OBJECTS, *OURS, *FUNCTIONS]
INDEX = st.integers(0, len(JUNK) - 1)  # hypothesis would hash and print the values themselves


def refusal(function, *args, **kwargs):
    """The sentence with which a call is refused, None if it gives a result. Other exceptions escape, and fail the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of overflow on the way to a result
        try:
            function(*args, **kwargs)
        except (rc.InputError, rc.NotConverged) as error:
            said, needs_name = str(error), isinstance(error, rc.InputError)
        else:
            return None
    assert "\n" not in said
    assert re.search("`[^`]+`", said) or not needs_name, said
    return said


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """{name: (public callable, arguments that it takes)}."""
    folder = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # some of the junk is the name of a file
        yield _calls(folder)


def _calls(folder):
    plant = plants.linear(A=[[-1.0]], B=[[1.0]], F=[[0.2]])
    free = rc.Problem(plant, rc.quadratic([1.0], [0.1]), 0.9, 0.1, exit="free")
    boxed = rc.Problem(plant, rc.quadratic([1.0], [0.1]), 0.9, 0.1)
    ref = rc.solve(free, rc.Riccati())
    run = rc.train(boxed, rc.Critic(hidden=2, features="affine"), ref.policy, rc.ReplayTD(memory=4), steps=4)
    path = rc.simulate(free, ref.policy, [1.0], 3)
    table = rc.compare(free, {"a": ref.policy, "b": ref.policy}, [1.0], steps=3, paths=3)
    ref.save(folder / "ref.npz")
    plant.save(folder / "plant.json")
    signals = {"states": plant.states, "inputs": plant.inputs}
    x, u, xu = {"x": [1.0]}, {"u": [1.0]}, {"x": [1.0], "u": [1.0]}
    drift, reward = (lambda x, u, p: u - x), rc.quadratic([1.0], [0.1])
    solving = lambda kind: lambda **given: rc.solve(free, kind(**given))
    problem = {"plant": plant, "reward": reward, "gamma": 0.9, "dt": 0.1, "exit": "absorb", "target": lambda x: x[0] - 1, "scheme": "rk4"}
    learning = {"problem": boxed, "critic": rc.Critic(hidden=2, features="affine"), "policy": ref.policy, "scheme": rc.ReplayTD(memory=4)}
    fitting = {"reference": ref, "critic": learning["critic"], "widths": (2, 3)}
    quadratic = {"plant": plant, "V": lambda x: -(x[0] ** 2), "policy": lambda x: -x, "curvature": [[1.0]]}
    matrices = {name: [[value]] for name, value in {"P": 2.0, "Q": 1.0, "R": 1.0, "G": 1.0, "covariance": 0.1}.items()}
    return {
        "Signal": (rc.Signal, {"name": "a", "unit": "m", "low": -1, "high": 1, "periodic": False, "values": None}),
        "Plant": (rc.Plant, {"name": "a", **signals, "drift": drift, "diffusion": None, "params": {"a": 1.0}, "noise": None}),
        "Plant, discrete": (rc.Plant, {"name": "a", **signals, "update": lambda x, u, w, p: u - x + w, "noise": rc.Gaussian(1)}),
        "Problem": (rc.Problem, problem | {"exit_value": lambda x: x[0], "substeps": 1}),
        "from_rates": (rc.Problem.from_rates, {"plant": plant, "reward_rate": reward, "discount_rate": 0.1, "dt": 0.1}),
        "quadratic": (rc.quadratic, {"Q": [[1.0]], "R": [[1.0]], "N": [[0.1]], "x0": [0.0], "u0": [0.0]}),
        "with_params": (free.with_params, {"A": [[1.0]]}),
        "transition": (free.transition, xu | {"w": [1.0]}),
        "reward": (free.reward, xu),
        "sample": (free.sample, xu | {"seed": 0, "size": 2}),
        "moments": (free.moments, xu),
        "logpdf": (free.logpdf, {"x_next": [1.0]} | xu),
        "Finite": (rc.Finite, {"nodes": [[1.0], [2.0]], "probabilities": [0.5, 0.5]}),
        "law": (rc.Exponential(1).logpdf, {"w": [0.5]}),
        "quadrature": (rc.Gaussian(1).quadrature, {"order": 2}),
        "LinearPolicy": (rc.LinearPolicy, {"K": [[1.0]], "x0": [0.0], "u0": [0.0], "period": [0.0]}),
        "policy": (ref.policy, x),
        "greedy": (run.greedy, x),
        "MPC, called": (rc.MPC(free, horizon=2), x),
        "clipped": (ref.policy.clipped, {"low": -1.0, "high": 1.0}),
        "V": (ref.V, x),
        "Q": (ref.Q, xu),
        "gradient": (ref.gradient, x),
        "save": (ref.save, {"path": folder / "again.npz"}),
        "load": (rc.Reference.load, {"path": folder / "ref.npz"}),
        "simulate": (rc.simulate, {"problem": free, "policy": ref.policy, "x0": [1.0], "steps": 3, "seed": 0}),
        "monte_carlo": (rc.monte_carlo, {"problem": free, "policy": ref.policy, "x0": [1.0], "steps": 3, "paths": 3, "tail": ref.V}),
        "compare": (rc.compare, {"problem": free, "policies": {"a": ref.policy}, "x0": [1.0], "steps": 3, "paths": 3, "rest": [0.0]}),
        "difference": (table.difference, {"a": "a", "b": "b"}),
        "Riccati": (solving(rc.Riccati), {"about": ([0.0], [0.0]), "time": "sampled"}),
        "solve": (rc.solve, {"problem": free, "method": rc.Riccati(), "on_failure": "raise"}),
        "GridDP": (rc.GridDP, fields(rc.GridDP) | {"shape": (9,)}),
        "HJB": (rc.HJB, fields(rc.HJB) | {"shape": (21,)}),
        **{kind.__name__: (kind, fields(kind)) for kind in (rc.Spectral, rc.OpenLoop, rc.Actor, rc.Critic, rc.ReplayTD)},
        "Exact": (rc.Exact, fields(rc.Exact) | {"V": lambda x: -x[0], "policy": lambda x: x}),
        "MPC": (rc.MPC, {"problem": free, "horizon": 2, "terminal": None, "tolerance": 1e-6}),
        "train": (rc.train, learning | {"steps": 4, "seed": 0, "checkpoint": None, "progress": False}),
        "decompose": (rc.decompose, {"run": None, "reference": ref, "points": 8, "measure": "uniform", "norm": "mean"}),
        "critic": (run.Q, xu),
        "save_csv": (path.save_csv, {"path": folder / "p.csv"}),
        "to_control": (plant.to_control, {"dt": 0.1}),
        "linearize": (plant.linearize, {"x": [0.0], "u": [0.0]}),
        "discretize": (plant.discretize, {"dt": 0.1}),
        "from_control": (rc.Plant.from_control, {"sys": plant.linearize(), "states": None, "inputs": None, "noise": [[0.1]]}),
        "from_casadi": (rc.Plant.from_casadi, {"name": "a", **signals, "drift": plant.casadi()["drift"], "params": plant.params}),
        "plant.load": (rc.Plant.load, {"path": folder / "plant.json"}),
        "jacobian": (plant.jacobian, x | u),
        "stochastic": (converse.stochastic, matrices | {"rotation": lambda s: np.eye(1), "gamma": 0.9, "states": None, "inputs": None}),
        "discrete": (converse.discrete, quadratic | {"gamma": 0.9, "dt": 0.1, "quadrature": 3}),
        "continuous": (partial(converse.continuous, plant, lambda x: x[0] ** 2), {"R": [[1.0]], "discount_rate": 0.1, "dt": 0.1}),
        "givens": (converse.givens, {"n": 2, "i": 0, "j": 1, "angle": 0.5}),
        "cost_to_go": (converse.continuous, {"plant": plant, "cost_to_go": lambda x: x[0] ** 2, "R": [[1.0]]}),
        "score": (score, {"problem": free, "reference": ref, "Q": ref.Q, "policy": ref.policy, "points": 8, "steps": 2, "inputs": 3}),
        "sources": (sources, {"run": run, "x": [1.0], "u": [0.5], "steps": 3, "paths": 2, "seed": 0}),
        "coverage": (coverage, {"run": run, "paths": 2, "steps": 3, "quantile": 0.9, "seed": 0}),
        "e_star": (e_star, {"reference": ref, "policies": {"a": ref.policy}, "points": 8, "seed": 0}),
        "width_study": (width_study, fitting | {"points": 32, "starts": 1, "iterations": 2, "seed": 0}),
        "plot": (table.plot, {"ax": None}),
        "plants.get": (plants.get, {"name": "pendulum", "mass": 1.0}),
    }


def fields(kind):
    """The keywords of a class with their defaults."""
    given = {name: p.default for name, p in inspect.signature(kind).parameters.items()}
    return {name: None if value is inspect.Parameter.empty else value for name, value in given.items()}


def test_the_arguments_to_start_from_are_good(calls):
    said = {name: refusal(function, **arguments) for name, (function, arguments) in calls.items() if name not in ("decompose", "plot")}
    assert {name: sentence for name, sentence in said.items() if sentence} == {}


@settings(max_examples=1500, **SAME)
@given(st.data())
def test_calls_give_a_result_or_a_sentence(calls, data):
    function, arguments = calls[data.draw(st.sampled_from(sorted(calls)))]
    wrong = data.draw(st.lists(st.sampled_from(sorted(arguments)), min_size=1, max_size=2, unique=True))
    refusal(function, **arguments | {name: JUNK[data.draw(INDEX)] for name in wrong})


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        ("simulate", "problem", "pendulum"),  # an object of another kind, where attributes are asked of it
        ("compare", "problem", None),
        ("train", "problem", rc.Riccati()),
        ("decompose", "run", None),
        ("simulate", "x0", [[1], [2, 3]]),  # no array
        ("V", "x", 10**400),  # too large for a float
        ("Q", "u", [[1.0], [2.0]] * 3 + [[1.0, 2.0]]),
        ("transition", "w", np.zeros((3, 1, 2))),
        ("policy", "x", [[1.0, 2.0, 3.0]]),  # a shape that only JAX would find out
        ("MPC, called", "x", np.zeros((0, 1))),
        ("sample", "seed", -1),
        ("logpdf", "x_next", [0.5, 0.5]),
        ("quadrature", "order", 10**25),
        ("LinearPolicy", "K", [1.0]),
        ("Problem", "exit_value", 1.0),  # no function
        ("Problem", "target", lambda x: ca.SX.sym("free")),
        ("monte_carlo", "tail", lambda x: "text"),
        ("Plant", "states", 3),  # nothing to walk through
        ("Plant", "params", [1, 2]),
        ("Signal", "low", ca.SX.sym("s")),
        ("Riccati", "time", np.zeros(3)),  # a comparison whose truth is ambiguous
        ("GridDP", "inputs", [[1, 2], [3]]),
        ("Spectral", "inputs", math.nan),
        ("ReplayTD", "rate", np.zeros(3)),
        ("train", "checkpoint", True),
        ("train", "checkpoint", "a\0b"),
        ("save", "path", "/"),
        ("stochastic", "R", [[0.0]]),  # singular
        ("stochastic", "P", [[math.inf]]),
        ("stochastic", "rotation", lambda s: np.eye(2)),  # another size
        ("stochastic", "rotation", lambda s: 2 * ca.SX.eye(1)),  # no rotation
        ("stochastic", "rotation", lambda s: 1 / 0),
        ("stochastic", "Q", [[3.0]]),
        ("discrete", "V", lambda x: ca.vertcat(x[0], x[0])),
        ("discrete", "policy", lambda x: x[7]),
        ("cost_to_go", "cost_to_go", lambda x: x[7] ** 2),
        ("cost_to_go", "cost_to_go", lambda x: ca.SX.sym("free")),
        ("cost_to_go", "exit", "clip"),
        ("givens", "n", 2.5),
        ("givens", "i", -1),  # CasADi would count from the end
        ("givens", "j", 5),
        ("givens", "j", 0),  # a plane has two axes
        ("givens", "angle", "s"),
        ("givens", "angle", ca.SX.sym("s", 2)),
        ("discretize", "dt", 1e200),
        ("difference", "b", "nobody"),
        ("score", "reference", rc.Riccati()),
        ("sources", "run", None),
        ("coverage", "seed", -1),
        ("e_star", "policies", {"a": None}),
        ("width_study", "widths", [math.nan]),
        ("plants.get", "name", ["pendulum"]),
        ("plants.get", "mass", Odd()),
    ],
)
def test_the_argument_to_blame_is_named(calls, name, argument, value):
    function, arguments = calls[name]
    said = refusal(function, **arguments | {argument: value})
    assert re.search(rf"`[^`]*\b{argument}\b[^`]*`", said or "nothing")


def test_mistakes_that_are_not_of_the_arguments_come_out_as_they_are():
    @strict
    def halved(x: Numbers, parts: int = 2):
        return np.asarray(x, float) / [1 // parts]

    with pytest.raises(ZeroDivisionError):
        halved([1.0], 0)
    assert "`x` must be an array of numbers" in (refusal(halved, "one") or "")
    assert "`parts` must be a whole number" in (refusal(halved, [1.0], "two") or "")
    assert "`part` is not a keyword" in (refusal(halved, [1.0], part=2) or "")
    assert "missing a required argument" in (refusal(halved) or "")


PARAMETERS = sorted((name, key) for name, make in plants.PLANTS.items() for key in inspect.signature(make).parameters)


@settings(max_examples=1000, **SAME)
@given(st.sampled_from(PARAMETERS), INDEX)
def test_plants_take_a_parameter_or_refuse_it(chosen, index):
    (name, key), value = chosen, JUNK[index]
    if refusal(plants.get, name, **{key: value}) is None and refusal(plants.equilibrium, name, **{key: value}) is None:
        assert all(np.all(np.isfinite(part)) for part in plants.equilibrium(name, **{key: value}))


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [("pendulum", "mass", -1.0), ("cart_pole", "half_length", 0.0), ("pendulum", "noise", -0.1), ("pendulum_friction", "friction", -1.0),
     ("two_tank", "time1", 0), ("quadrotor", "inertia_x", -1), ("pendulum", "torque_max", -5), ("growth", "share", 1.0),
     ("linear", "state_max", [1.0, -1.0]), ("pendulum", "length", True), ("dc_motor", "inductance", math.nan)],
)  # fmt: skip
def test_signs_of_parameters_are_checked(name, key, value):
    assert f"`{key}`" in (refusal(plants.get, name, **{key: value}) or "")


def test_density_on_a_circle_integrates_to_one_however_wide_the_noise():
    angle = [rc.Signal("angle", "rad", -math.pi, math.pi, periodic=True)]
    grid = np.linspace(-math.pi, math.pi, 401)[:-1, None]
    for noise in (0.5, 5.0, 50.0):
        plant = rc.Plant("spinner", angle, [rc.Signal("u", "1", -1, 1)], lambda x, u, p: u, lambda x, u, p: p.s, params={"s": noise})
        problem = rc.Problem(plant, lambda x, u: -(x[0] ** 2), 0.9, 1.0)
        mass = np.exp(problem.logpdf(grid, [0.3], [0.0])).sum() * 2 * math.pi / len(grid)
        assert mass == pytest.approx(1, abs=1e-12)


HUGE = 2**62
SIZES = [
    ("simulate", {"steps": HUGE}),
    ("monte_carlo", {"paths": HUGE}),
    ("compare", {"paths": 10**12}),
    ("sample", {"size": HUGE}),
    ("train", {"scheme": rc.ReplayTD(memory=HUGE)}),
    ("train", {"scheme": rc.ReplayTD(memory=4, batch=HUGE)}),
    ("train", {"scheme": rc.ReplayTD(memory=4, horizon=HUGE)}),
    ("train", {"critic": rc.Critic(hidden=HUGE)}),
    ("train", {"policy": rc.Actor(hidden=HUGE)}),
    ("solve", {"method": rc.HJB(shape=10**12)}),
    ("solve", {"method": rc.HJB(shape=21, margin=2.0**70)}),
]


@pytest.mark.parametrize(("name", "given"), SIZES)
def test_more_memory_than_there_is_is_one_sentence(calls, name, given):
    function, arguments = calls[name]
    assert re.search(r"needs [0-9.e+]+ GiB|needs more memory than there is", refusal(function, **arguments | given) or "nothing")


@pytest.mark.parametrize("error", [MemoryError("Unable to allocate 9 TiB"), RuntimeError("RESOURCE_EXHAUSTED: 9 TiB\nmore")])
def test_a_lack_of_memory_is_said_of_what_was_called(error):
    @strict
    def filled(_: Numbers):
        raise error

    assert refusal(filled, [1.0]) == f"`{filled.__qualname__}` {errors.lack_of_memory(error)}"
