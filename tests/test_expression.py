"""Formulas in text equal Python's own arithmetic; whatever is not arithmetic is refused in one sentence."""

import contextlib
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import casadi as ca
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rlctrl as rc
from rlctrl.interop.expression import FUNCTIONS, expression

ROOT = Path(__file__).parents[1]
PLANT = rc.Plant(
    "cart",
    states=[rc.Signal("theta", "rad", -2, 2), rc.Signal("omega", "rad/s", -2, 2)],
    inputs=[rc.Signal("torque", "N m", -2, 2)],
    drift=lambda x, u, p: ca.vertcat(x[1], u[0] / p.mass),
    params={"mass": 1.7, "length": 0.6},
)
NAMES = ("theta", "omega", "torque", "mass", "length", "pi")


def sign(a):
    return math.copysign(1.0, a) if a else 0.0


PYTHON = {name: getattr(math, name) for name in FUNCTIONS if hasattr(math, name)} | {"abs": abs, "min": min, "max": max, "sign": sign}


def value(text, point):
    """The formula through CasADi at (theta, omega, torque), with the plant's parameters."""
    x, u, p = PLANT.symbols()
    built = PLANT.evaluate("reward", expression(text, "reward", PLANT), x, u, vector=p)
    return float(ca.Function("f", [x, u, p], [built])(point[:2], point[2], PLANT.parameter_vector))


def python_value(text, point):
    """The same text, evaluated by Python with functions of `math`."""
    names = dict(zip(("theta", "omega", "torque"), point, strict=True)) | {"mass": 1.7, "length": 0.6, "pi": math.pi}
    return eval(text, {"__builtins__": {}}, PYTHON | names)


numbers = st.one_of(st.integers(0, 9), st.floats(0.1, 9.0).map(lambda a: float(f"{a:.3g}"))).map(repr)
leaves = st.one_of(st.sampled_from(NAMES), numbers)
ONE = ("sin", "cos", "tanh", "atan", "fabs", "abs")


def larger(inner):
    """Formulas with and without parentheses, so that precedence and associativity matter."""
    bare = st.builds("{} {} {}".format, inner, st.sampled_from("+-*"), inner)
    quotient = st.builds("{} / (1.5 + cos({}))".format, inner, inner)
    base = st.one_of(leaves, inner.map("tanh({})".format), st.builds("({} - {})".format, leaves, leaves))
    power = st.builds("{}**{}".format, base, st.sampled_from(("2", "3")))
    signs = st.builds("{}{}".format, st.sampled_from(("-", "+", "--")), inner)
    one = st.builds("{}({})".format, st.sampled_from(ONE), inner)
    two = st.builds("{}({}, {})".format, st.sampled_from(("min", "max")), inner, inner)
    return st.one_of(bare, quotient, power, signs, one, two, inner.map("({})".format))


formulas = st.recursive(leaves, larger, max_leaves=8)
points = st.tuples(*[st.floats(-2, 2).map(lambda a: round(a, 4))] * 3)


@settings(max_examples=400, derandomize=True, deadline=None, database=None)
@given(formulas, points)
def test_a_formula_equals_python(text, point):
    expected = python_value(text, point)
    assert value(text, point) == pytest.approx(expected, rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_function_equals_pythons(name):
    two = name in ("min", "max", "atan2")
    text = f"{name}(theta, omega)" if two else f"{name}(theta)"
    low, high = {"asin": (-1, 1), "acos": (-1, 1), "log": (0.01, 2), "sqrt": (0, 2)}.get(name, (-2, 2))
    for point in np.random.default_rng(0).uniform(low, high, (50, 3)):
        assert value(text, point) == pytest.approx(python_value(text, tuple(point)), rel=1e-14, abs=1e-15)


@pytest.mark.parametrize(
    "text",
    [
        "-theta**2",
        "2**-theta",
        "2**3**2",
        "(2**3)**2",
        "-2**2",
        "8 / 2 / 2",
        "8 - 2 - 2",
        "7 / 2",
        "2 * -theta",
        "1e-3*theta",
        "--theta",
        ".5",
    ],
)
def test_precedence_is_pythons(text):
    assert value(text, (0.7, -0.3, 1.1)) == pytest.approx(python_value(text, (0.7, -0.3, 1.1)), rel=1e-15)


def test_parameters_are_read_when_called_not_when_parsed():
    function = expression("mass * theta", "reward", PLANT)
    problem = rc.Problem(PLANT, function, gamma=0.9, dt=0.1)
    assert problem.reward([1.0, 0.0], [0.0]) == pytest.approx(1.7)
    assert problem.with_params(mass=3.0).reward([1.0, 0.0], [0.0]) == pytest.approx(3.0)


def test_a_signal_hides_a_constant_of_its_name():
    circle = rc.Plant("circle", [rc.Signal("pi", "1", -1, 1)], [rc.Signal("u", "1", -1, 1)], drift=lambda x, u, p: u[0] - x[0])
    assert rc.Problem(circle, expression("pi", "reward", circle), gamma=0.9, dt=0.1).reward([0.25], [0.0]) == 0.25


def test_a_name_that_a_signal_and_a_parameter_share_is_refused_where_it_is_used():
    sides = [rc.Signal("x", "1", -1, 1)], [rc.Signal("F", "N", -1, 1)]
    cart = rc.Plant("cart", *sides, drift=lambda x, u, p: u - p.F * x, params={"F": 2.0})
    with pytest.raises(rc.InputError, match=r"`reward` must not use a name that a signal and a parameter share; got \['F'\]"):
        expression("-F**2", "reward", cart)
    assert rc.Problem(cart, expression("-x**2", "reward", cart), gamma=0.9, dt=0.1).reward([0.5], [0.0]) == -0.25


def refusal(text):
    """The message with which a formula is refused, when parsed or when a problem is made of it."""
    with pytest.raises(rc.InputError) as caught:
        rc.Problem(PLANT, expression(text, "[problem] reward", PLANT), gamma=0.9, dt=0.1)
    message = str(caught.value)
    assert "`" in message
    assert "reward" in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "text",
    [
        "theta.T",
        "theta.__class__",
        "theta[0]",
        "lambda: 1",
        "'theta'",
        "f'{theta}'",
        "b'theta'",
        "[theta for theta in theta]",
        "(t for t in theta)",
        "{theta}",
        "{1: theta}",
        "(theta, omega)",
        "theta if theta else omega",
        "theta < omega",
        "theta and omega",
        "not theta",
        "~theta",
        "theta // 2",
        "theta % 2",
        "theta @ omega",
        "theta << 2",
        "(theta := 2)",
        "sin(*theta)",
        "sin(theta=omega)",
        "sin(theta, **omega)",
        "(lambda: theta)()",
        "sin(theta)(omega)",
        "True",
        "None",
        "1j",
        "...",
    ],
)
def test_whatever_is_not_arithmetic_is_refused(text):
    message = refusal(text)
    assert "must be arithmetic" in message
    assert "the names theta, omega, torque, mass" in message


@pytest.mark.parametrize(
    "text", ["", " ", "theta +", "theta omega", "theta; omega", "theta = 2", "(theta", "theta)", "2theta", "theta\0", "import os"]
)
def test_a_syntax_error_is_refused(text):
    assert "syntax error" in refusal(text)


@pytest.mark.parametrize(
    ("text", "wrong", "meant"),
    [
        ("theta + omga", "omga", "omega"),
        ("sin(tetha)", "tetha", "theta"),
        ("torqe", "torqe", "torque"),
        ("theta * lenght", "lenght", "length"),
        ("sine(theta)", "sine", "sin"),
        ("theta + arctan(omega)", "arctan", "atan"),
        ("Cos(theta)", "Cos", "cos"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(text, wrong, meant):
    message = refusal(text)
    assert repr(wrong) in message
    assert f"Did you mean `{meant}`?" in message


@pytest.mark.parametrize(
    "text", ["__import__('os')", "eval(theta)", "open(theta)", "print(theta)", "theta(2)", "pi(theta)", "__builtins__", "ca", "sin"]
)
def test_names_of_python_are_unknown(text):
    assert "must use" in refusal(text)


@pytest.mark.parametrize(
    ("text", "function"),
    [
        ("sin()", "sin"),
        ("sin(theta, omega)", "sin"),
        ("atan2(theta)", "atan2"),
        ("atan2(theta, omega, torque)", "atan2"),
        ("min(theta)", "min"),
        ("max(theta, omega, torque)", "max"),
        ("abs()", "abs"),
        ("1 + sqrt(theta, 2)", "sqrt"),
    ],
)
def test_a_wrong_count_of_arguments_is_refused_by_the_functions_name(text, function):
    assert re.search(rf"\b{function}\b", refusal(text))
    with pytest.raises(rc.InputError):
        expression(text, "reward", PLANT)


@pytest.mark.parametrize("given", [5, None, 1.5, True, ["theta"], b"theta", {"theta": 1}])
def test_what_is_not_text_is_refused(given):
    assert "formula in quotes" in refusal(given)


@pytest.mark.parametrize("text", ["1 / 0", "theta + 1 / 0", "10**400 * theta", "(-8)**0.5", "9.0**999.0"])
def test_constants_without_a_value_are_refused(text):
    assert refusal(text)


def test_a_huge_power_of_integers_is_refused_at_once():
    """As exact integers 9**9**9 would take for ever: it has 369 million digits."""
    code = "from test_expression import refusal; refusal('theta * 9**9**9')"
    subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=30, check=True
    )


@pytest.mark.parametrize("text", ["-" * 3000 + "theta", "+".join(["theta"] * 3000), "(" * 3000 + "theta" + ")" * 3000])
def test_a_formula_too_deep_is_refused(text):
    assert len(refusal(text)) < 400


def test_a_formula_may_span_lines():
    assert value("\n  -theta**2\n  - omega**2\n", (0.5, 2.0, 0.0)) == pytest.approx(-4.25)


@pytest.mark.parametrize("count", [50, 300, 600, 990])
def test_many_operations_are_evaluated_or_refused(count):
    """Within the longest formula as well, Python's recursion limit is no answer."""
    for text, expected in (("-" * count + "theta", (-1) ** count), ("+".join(["1"] * (count // 2)), count // 2)):
        with contextlib.suppress(rc.InputError):
            assert value(text, (1.0, 0.0, 0.0)) == expected
    assert value("-" * 50 + "theta", (1.0, 0.0, 0.0)) == 1.0
