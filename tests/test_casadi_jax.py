"""The tape translator against CasADi's own evaluation: same numbers, operation by operation and on whole plants."""

import functools
import itertools

import casadi as ca
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

import plants
from rlctrl.casadi_jax import OPCODE_NAMES, OPERATIONS, JaxFunction
from rlctrl.errors import InputError

X, Y = ca.SX.sym("x"), ca.SX.sym("y")
TINY = np.finfo(float).tiny  # XLA flushes subnormal numbers to zero
EDGES = (0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 3.0, -7.0, 1e-8, -1e-8, 1e-17, 1e-300, 30.0, -30.0, np.pi)
DOMAINS = {  # edge cases and the interval that random points come from
    "any": (EDGES, (-4, 4)),
    "nonzero": (tuple(e for e in EDGES if e), (-4, 4)),
    "positive": (tuple(e for e in EDGES if e > 0), (0, 4)),
    "not negative": (tuple(e for e in EDGES if e >= 0), (0, 4)),
    "above one": ((1.0, 1.0 + 1e-12, 1.5, 30.0, 1e8), (1, 9)),
    "unit": ((0.0, -0.0, 1.0, -1.0, 0.5, 1e-8, -1e-300, 1 - 1e-12), (-1, 1)),
    "inside unit": ((0.0, -0.0, 0.5, -0.5, 1e-8, -1e-300, 1 - 1e-12, 1e-12 - 1), (-1, 1)),
    "above minus one": ((0.0, -0.0, 1e-12 - 1, 1e-17, -1e-17, 30.0), (-1, 3)),
    "exponent": ((700.0, -700.0, 0.0, -0.0, 1.0, 1e-17), (-5, 5)),
}
CASES = {  # opcode: expression that contains it, domain of x, domain of y
    "OP_ADD": (X + Y, "any", "any"),
    "OP_SUB": (X - Y, "any", "any"),
    "OP_MUL": (X * Y, "any", "any"),
    "OP_DIV": (X / Y, "any", "nonzero"),
    "OP_NEG": (-X, "any", "any"),
    "OP_EXP": (ca.exp(X), "exponent", "any"),
    "OP_LOG": (ca.log(X), "positive", "any"),
    "OP_POW": (X**Y, "positive", "any"),
    "OP_CONSTPOW": (X**2.5, "not negative", "any"),
    "OP_SQRT": (ca.sqrt(X), "not negative", "any"),
    "OP_SQ": (X * X, "any", "any"),
    "OP_TWICE": (2 * X, "any", "any"),
    "OP_SIN": (ca.sin(X), "any", "any"),
    "OP_COS": (ca.cos(X), "any", "any"),
    "OP_TAN": (ca.tan(X), "any", "any"),
    "OP_ASIN": (ca.asin(X), "unit", "any"),
    "OP_ACOS": (ca.acos(X), "unit", "any"),
    "OP_ATAN": (ca.atan(X), "any", "any"),
    "OP_LT": (X < Y, "any", "any"),
    "OP_LE": (X <= Y, "any", "any"),
    "OP_EQ": (X == Y, "any", "any"),
    "OP_NE": (X != Y, "any", "any"),
    "OP_NOT": (ca.logic_not(X), "any", "any"),
    "OP_AND": (ca.logic_and(X, Y), "any", "any"),
    "OP_OR": (ca.logic_or(X, Y), "any", "any"),
    "OP_FLOOR": (ca.floor(X), "any", "any"),
    "OP_CEIL": (ca.ceil(X), "any", "any"),
    "OP_FMOD": (ca.fmod(X, Y), "any", "nonzero"),
    "OP_FABS": (ca.fabs(X), "any", "any"),
    "OP_SIGN": (ca.sign(X), "any", "any"),
    "OP_COPYSIGN": (ca.copysign(X, Y), "any", "any"),
    "OP_IF_ELSE_ZERO": (ca.if_else(X, Y, 0), "any", "any"),
    "OP_ERF": (ca.erf(X), "any", "any"),
    "OP_FMIN": (ca.fmin(X, Y), "any", "any"),
    "OP_FMAX": (ca.fmax(X, Y), "any", "any"),
    "OP_INV": (1 / X, "nonzero", "any"),
    "OP_SINH": (ca.sinh(X), "exponent", "any"),
    "OP_COSH": (ca.cosh(X), "exponent", "any"),
    "OP_TANH": (ca.tanh(X), "exponent", "any"),
    "OP_ASINH": (ca.asinh(X), "any", "any"),
    "OP_ACOSH": (ca.acosh(X), "above one", "any"),
    "OP_ATANH": (ca.atanh(X), "inside unit", "any"),
    "OP_ATAN2": (ca.atan2(X, Y), "any", "any"),
    "OP_ERFINV": (ca.erfinv(X), "inside unit", "any"),
    "OP_PRINTME": (X.printme(Y), "unit", "unit"),
    "OP_LOG1P": (ca.log1p(X), "above minus one", "any"),
    "OP_EXPM1": (ca.expm1(X), "exponent", "any"),
    "OP_HYPOT": (ca.hypot(X, Y), "any", "any"),
    "OP_REMAINDER": (ca.remainder(X, Y), "any", "nonzero"),
}
FOLDED = {"OP_ASSIGN": (ca.SX.unary, X), "OP_LIFT": (ca.SX.binary, X, Y)}  # CasADi drops these from SX tapes
SMOOTH = {  # opcode: an interval on which the operation is smooth
    **dict.fromkeys(("OP_EXP", "OP_SQ", "OP_TWICE", "OP_SIN", "OP_COS", "OP_TAN", "OP_ATAN", "OP_ERF", "OP_TANH"), (-1.4, 1.4)),
    **dict.fromkeys(("OP_SINH", "OP_COSH", "OP_ASINH", "OP_EXPM1", "OP_NEG", "OP_ADD", "OP_SUB", "OP_MUL"), (-3, 3)),
    **dict.fromkeys(("OP_LOG", "OP_POW", "OP_CONSTPOW", "OP_SQRT", "OP_INV", "OP_DIV", "OP_HYPOT", "OP_ATAN2"), (0.1, 3)),
    **dict.fromkeys(("OP_ASIN", "OP_ACOS", "OP_ATANH", "OP_LOG1P"), (-0.9, 0.9)),
    **dict.fromkeys(("OP_FMOD", "OP_REMAINDER", "OP_COPYSIGN", "OP_FMIN", "OP_FMAX", "OP_FABS", "OP_IF_ELSE_ZERO"), (0.1, 3)),
    "OP_ACOSH": (1.1, 4),
}


def casadi_values(function, *columns):
    """CasADi's own evaluation at every row of the given arrays (N, size): (N, rows, columns)."""
    return np.array([np.array(function(*row)) for row in zip(*columns, strict=True)])


def points(first, second, seed=0):
    """Every pair of edge cases, and random pairs up to 512, in the two domains."""
    rng = np.random.default_rng(seed)
    pairs = np.array(list(itertools.product(DOMAINS[first][0], DOMAINS[second][0])))
    return np.concatenate([pairs, np.stack([rng.uniform(*DOMAINS[d][1], 512 - len(pairs)) for d in (first, second)], 1)])


def opcodes(function):
    return {OPCODE_NAMES[step[0]] for step in function.tape}


def close(got, want, rtol=1e-12):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=TINY, strict=True)


# --- operations ---------------------------------------------------------------------------------------------------------------------------


def test_every_operation_of_the_table_is_tested():
    assert {OPCODE_NAMES[code] for code in OPERATIONS} == {*CASES, *FOLDED}


def test_every_elementwise_operation_of_this_casadi_is_translated():
    """CasADi makes the constant nan of an opcode that is no operation on two scalars."""
    made = {name: ca.SX.binary(code, X, Y) for code, name in OPCODE_NAMES.items()}
    assert {name for name, expression in made.items() if not expression.is_constant()} == {OPCODE_NAMES[code] for code in OPERATIONS}


@pytest.mark.parametrize("name", CASES)
def test_operation_equals_casadi(name):
    expression, first, second = CASES[name]
    function = ca.Function("f", [X, Y], [expression])
    translated = JaxFunction(function, ())
    assert name in opcodes(translated)
    z = points(first, second)
    got, want = np.asarray(translated(z[:, :1], z[:, 1:])), casadi_values(function, z[:, :1], z[:, 1:])[:, 0, 0]
    if name == "OP_ERFINV":  # CasADi's own is an approximation
        close(got, want, 1e-4)
        want = scipy.special.erfinv(z[:, 0])
    close(got, want)


@pytest.mark.parametrize("name", FOLDED)
def test_operation_that_casadi_drops_is_the_identity_on_its_first_argument(name):
    make, *symbols = FOLDED[name]
    code = getattr(ca, name)
    function = ca.Function("f", [X, Y], [make(code, *symbols)])
    assert name not in opcodes(JaxFunction(function, ()))
    inputs = [[ca.OP_INPUT, [i, 0], i, None] for i in range(len(symbols))]
    tape = [*inputs, [code, list(range(len(symbols))), 2, None], [ca.OP_OUTPUT, [2], 0, None]]
    translated = JaxFunction.from_parts([[], [1, 1], tape, [0]])
    z = points("any", "any")
    close(np.asarray(translated(z[:, :1], z[:, 1:])), casadi_values(function, z[:, :1], z[:, 1:])[:, 0, 0])


@pytest.mark.parametrize("power", [-101, -3, -1, 0.5, -0.5, 3, 17, 64, 65, 1 / 3])
@pytest.mark.parametrize("base", [-1.3, -1.0, 0.7, 2.0])
def test_constant_power_equals_casadi_also_for_negative_bases(power, base):
    function = ca.Function("f", [X], [ca.constpow(X, power)])
    close(np.asarray(JaxFunction(function, ())([base])), np.array(float(function(base))))


@pytest.mark.parametrize("name", ["OP_COPYSIGN", "OP_NEG", "OP_FMOD", "OP_REMAINDER", "OP_MUL", "OP_DIV", "OP_FLOOR", "OP_CEIL"])
def test_sign_of_zero_equals_casadi(name):
    expression, _, second = CASES[name]
    function = ca.Function("f", [X, Y], [expression])
    z = np.array(list(itertools.product((0.0, -0.0, 2.0, -2.0, -0.5, 0.5), (1.0, -1.0, *((0.0, -0.0) if second == "any" else ())))))
    got, want = np.asarray(JaxFunction(function, ())(z[:, :1], z[:, 1:])), casadi_values(function, z[:, :1], z[:, 1:])[:, 0, 0]
    assert np.any(want == 0)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(want))


@pytest.mark.parametrize("size", [0.5, -1.0, 3.0, 2 * np.pi])
def test_remainder_ties_go_to_the_even_quotient(size):
    x = size * np.arange(-4.5, 5)
    translated = JaxFunction(ca.Function("f", [X, Y], [ca.remainder(X, Y)]), ())
    got = np.asarray(translated(x[:, None], [size]))
    np.testing.assert_array_equal(got, [np.remainder(0, 1) + x_ - size * 2 * np.round(x_ / size / 2) for x_ in x])
    assert {abs(g) for g in got} == {abs(size) / 2}


# --- expressions --------------------------------------------------------------------------------------------------------------------------

LEAVES = ca.SX.sym("a", 2), ca.SX.sym("b"), ca.SX.sym("c", 3)
UNARY = (ca.sin, ca.cos, ca.tanh, ca.atan, ca.fabs, lambda a: -a, lambda a: ca.sqrt(1 + a * a), lambda a: ca.exp(-ca.fabs(a)), ca.floor)
BINARY = (
    lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, ca.fmin, ca.fmax, lambda a, b: a / (1 + b * b), ca.atan2,
    lambda a, b: ca.if_else(a < b, a, b * a), lambda a, b: ca.hypot(a, b), lambda a, b: ca.fmod(a, 1 + ca.fabs(b)),
)  # fmt: skip
SMOOTH_UNARY = (ca.sin, ca.cos, ca.tanh, ca.atan, lambda a: ca.sqrt(1 + a * a), lambda a: ca.exp(-a * a), lambda a: ca.log(2 + ca.cos(a)))
SMOOTH_BINARY = (lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / (1 + b * b))


def trees(unary, binary):
    leaves = st.sampled_from([*ca.vertsplit(ca.vertcat(*LEAVES)), ca.SX(0.1), ca.SX(-1 / 3)])
    one = lambda inner: st.builds(lambda f, a: f(a), st.sampled_from(unary), inner)
    two = lambda inner: st.builds(lambda f, a, b: f(a, b), st.sampled_from(binary), inner, inner)
    return st.recursive(leaves, lambda inner: one(inner) | two(inner), max_leaves=12)


BATCH = [np.random.default_rng(7).uniform(-2, 2, (6, size)) for size in (2, 1, 3)]


@settings(max_examples=25, derandomize=True, deadline=None)
@given(trees(UNARY, BINARY))
def test_random_expression_equals_casadi(expression):
    function = ca.Function("f", [*LEAVES], [expression])
    close(np.asarray(JaxFunction(function, ())(*BATCH)), casadi_values(function, *BATCH)[:, 0, 0])


@settings(max_examples=10, derandomize=True, deadline=None)
@given(trees(SMOOTH_UNARY, SMOOTH_BINARY))
def test_gradient_of_random_smooth_expression_equals_casadi(expression):
    function, translated = ca.Function("f", [*LEAVES], [expression]), JaxFunction(ca.Function("f", [*LEAVES], [expression]), ())
    slopes = ca.Function("g", [*LEAVES], [ca.densify(ca.gradient(expression, ca.vertcat(*LEAVES)))])
    got = np.concatenate(jax.vmap(jax.grad(translated, argnums=(0, 1, 2)))(*BATCH), 1)
    want = casadi_values(slopes, *BATCH)[..., 0]
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13 * (1 + np.abs(casadi_values(function, *BATCH)).max()))


@pytest.mark.parametrize("name", SMOOTH)
def test_gradient_of_operation_equals_casadi(name):
    low, high = SMOOTH[name]
    expression = CASES[name][0]
    z = np.random.default_rng(3).uniform(low, high, (40, 2))
    translated = JaxFunction(ca.Function("f", [X, Y], [expression]), ())
    slopes = ca.Function("g", [X, Y], [ca.densify(ca.gradient(expression, ca.vertcat(X, Y)))])
    got = np.concatenate(jax.vmap(jax.grad(translated, argnums=(0, 1)))(z[:, :1], z[:, 1:]), 1)
    np.testing.assert_allclose(got, casadi_values(slopes, z[:, :1], z[:, 1:])[..., 0], rtol=1e-12, atol=1e-15)


def slopes_of_a_wrapped_angle(angles):
    translated = JaxFunction(ca.Function("f", [X], [ca.remainder(X, 2 * np.pi)]), ())
    return jax.vmap(jax.grad(translated))(jnp.array(angles)[:, None])[:, 0].tolist()


def test_slope_of_a_wrapped_angle_is_one():
    assert slopes_of_a_wrapped_angle([0.0, 1e-20, 6.0, -3.0, 7.0]) == [1.0] * 5


def test_slope_of_a_wrapped_angle_is_one_at_negative_zero():
    assert slopes_of_a_wrapped_angle([-0.0]) == [1.0]


@pytest.mark.parametrize("constant", [1e-20, 1e-300, np.pi, 0.1 + 0.2, -1 / 3, 1e300, 2.0**-1022, 1 + 2**-52])
def test_constant_keeps_full_precision(constant):
    x = ca.SX.sym("x")
    assert float(JaxFunction(ca.Function("f", [x], [x * constant]), ())([1.0])) == constant
    assert float(JaxFunction(ca.Function("f", [x], [ca.SX(constant)]), ())([1.0])) == constant


# --- plants -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", plants.names())
def test_plant_dynamics_equal_casadi(name):
    plant = plants.get(name)
    rng = np.random.default_rng(1)
    x, u = (rng.uniform(*np.array([(s.low, s.high) for s in signals]).T, (30, len(signals))) for signals in (plant.states, plant.inputs))
    w = rng.uniform(-2, 2, (30, plant.law.q))
    drawn = [(f, (x, u)) for f in (plant.drift_function, plant.diffusion_function) if f is not None]
    for function, points in drawn or [(plant.update_function, (x, u, w))]:
        got = JaxFunction(function, function.size_out(0))(*points, plant.parameter_vector)
        want = np.array([np.array(function(*row, plant.parameter_vector)) for row in zip(*points, strict=True)])
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-15 * (1 + np.abs(want).max(initial=0)), strict=True)


def test_discrete_plant_update_equals_casadi_and_numpy():
    rng = np.random.default_rng(2)
    A, B, F, c = rng.normal(size=(3, 3)), rng.normal(size=(3, 2)), rng.normal(size=(3, 2)), rng.normal(size=3)
    plant = plants.linear(A, B, F, c, discrete=True)
    x, u, w = rng.normal(size=(30, 3)), rng.normal(size=(30, 2)), rng.normal(size=(30, 2))
    function = plant.update_function
    got = np.asarray(JaxFunction(function, (3,))(x, u, w, plant.parameter_vector))
    want = casadi_values(function, x, u, w, np.broadcast_to(plant.parameter_vector, (30, plant.parameter_vector.size)))[..., 0]
    close(got, want)
    np.testing.assert_allclose(got, x @ A.T + u @ B.T + c + w @ F.T, rtol=1e-13, atol=1e-13)


# --- shapes -------------------------------------------------------------------------------------------------------------------------------


def test_matrix_output_keeps_rows_and_columns():
    a = ca.SX.sym("a", 3)
    function = ca.Function("f", [a], [ca.horzcat(a, ca.sin(a)) @ ca.DM([[1, 2, 3, 4], [5, 6, 7, 8]])])
    rng = np.random.default_rng(0)
    z = rng.normal(size=(5, 3))
    got = np.asarray(JaxFunction(function, (3, 4))(z))
    close(got, casadi_values(function, z))
    assert JaxFunction(function, (3, 4))(z.reshape(1, 5, 3)).shape == (1, 5, 3, 4)


def test_sparse_output_is_filled_with_zeros_and_sparse_input_is_read_at_its_dense_place():
    pattern = ca.Sparsity.triplet(3, 2, [0, 2, 1], [0, 0, 1])
    matrix = ca.SX.sym("m", pattern)
    function = ca.Function("f", [matrix, X], [2 * matrix * ca.sin(X)])
    assert function.sparsity_out(0).nnz() == 3
    dense = np.random.default_rng(0).normal(size=(4, 3, 2))
    columns = np.swapaxes(dense, 1, 2).reshape(4, 6)  # column by column, as CasADi stores
    x = np.array([[0.3], [1.0], [-2.0], [5.0]])
    mask = np.array(ca.DM(pattern, 1).full()) != 0
    got = np.asarray(JaxFunction(function, (3, 2))(columns, x))
    close(got, np.where(mask, 2 * dense * np.sin(x)[:, :, None], 0.0))
    close(got, np.array([np.array(ca.DM(function(ca.project(ca.DM(m), pattern), t)).full()) for m, t in zip(dense, x[:, 0], strict=True)]))


def test_structurally_empty_output_is_zero_of_the_right_shape():
    assert JaxFunction(ca.Function("f", [X], [ca.SX(2, 3)]), (2, 3))(np.ones((4, 1))).tolist() == np.zeros((4, 2, 3)).tolist()
    assert JaxFunction(ca.Function("f", [X], [ca.SX(2, 0)]), (2, 0))(np.ones((4, 1))).shape == (4, 2, 0)


def test_leading_axes_broadcast_between_arguments():
    function = ca.Function("f", [LEAVES[0], LEAVES[1], LEAVES[2]], [ca.vertcat(LEAVES[0] * LEAVES[1], ca.sum1(LEAVES[2]))])
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(4, 1, 1, 2)), rng.normal(size=(3, 1, 1)), rng.normal(size=(5, 3))
    got = JaxFunction(function, (3,))(a, b, c)
    assert got.shape == (4, 3, 5, 3)
    for i, j, k in itertools.product(range(4), range(3), range(5)):
        close(np.asarray(got[i, j, k]), np.array(function(a[i, 0, 0], b[j, 0], c[k]))[:, 0])


def test_constant_result_still_has_the_leading_axes():
    assert JaxFunction(ca.Function("f", [X, Y], [ca.SX(2.5)]), ())(np.zeros((4, 1, 1)), np.zeros((3, 1))).tolist() == [[2.5] * 3] * 4


def test_numbers_are_those_of_the_traced_function():
    """Without compiling; rows beside single arguments."""
    x, y = ca.SX.sym("x", 2), ca.SX.sym("y", 3)
    function = JaxFunction(ca.Function("f", [x, y], [ca.vertcat(ca.sin(x[0]) * y[2], x[1] - y[0])]), (2,))
    one, many = np.array([0.3, -1.0]), np.arange(12.0).reshape(4, 3)
    np.testing.assert_allclose(function.numbers(one, many), function(one, many), rtol=1e-15)


def test_wrong_last_axis_is_refused():
    with pytest.raises(InputError, match=r"`argument 1` needs last axis 1; got \(4, 2\)"):
        JaxFunction(ca.Function("f", [X, Y], [X + Y]), ())(np.zeros((4, 1)), np.zeros((4, 2)))


# --- MX, and what is refused --------------------------------------------------------------------------------------------------------------


def test_mx_function_is_expanded():
    a, m = ca.MX.sym("a", 2), ca.MX.sym("m", 2, 2)
    function = ca.Function("f", [a, m], [m.T @ a + ca.norm_2(a) * ca.vertcat(1, ca.det(m)) + ca.if_else(a[0] > 0, 1, 2)])
    assert function.is_a("MXFunction")
    rng = np.random.default_rng(0)
    z, matrices = rng.normal(size=(20, 2)), rng.normal(size=(20, 2, 2))
    columns = np.swapaxes(matrices, 1, 2).reshape(20, 4)
    np.testing.assert_allclose(JaxFunction(function, (2,))(z, columns), casadi_values(function, z, matrices)[..., 0], rtol=1e-12)


def test_embedded_call_is_refused_by_name():
    inner = ca.Function("inner", [X], [ca.sin(X)], {"never_inline": True})
    outer = ca.Function("outer", [X], [inner(X) + 1])
    assert ca.OP_CALL in [outer.instruction_id(k) for k in range(outer.n_instructions())]
    with pytest.raises(InputError, match=r"`outer` uses the CasADi operation OP_CALL, which has no translation.*Write"):
        JaxFunction(outer, ())


def test_free_symbol_is_refused_by_name():
    free = ca.Function("free", [X], [X + Y], {"allow_free": True})
    with pytest.raises(InputError, match="`free` uses the CasADi operation OP_PARAMETER"):
        JaxFunction(free, ())


def test_rootfinder_is_refused_by_name():
    a, b = ca.MX.sym("a"), ca.MX.sym("b")
    solver = ca.rootfinder("solver", "newton", {"x": a, "p": b, "g": a**3 - b})
    with pytest.raises(InputError, match="`root` uses the CasADi operation OP_CALL"):
        JaxFunction(ca.Function("root", [b], [solver(1.0, b)]), ())


def test_what_casadi_cannot_expand_is_refused_with_its_reason():
    a, m = ca.MX.sym("a", 2), ca.MX.sym("m", 2, 2)
    with pytest.raises(InputError, match=r"`inverse` must consist of scalar operations .*LinsolQr.*rootfinders"):
        JaxFunction(ca.Function("inverse", [a, m], [ca.solve(m, a)]), (2,))


def test_several_outputs_are_refused():
    with pytest.raises(InputError, match="`function` must have one output; got 2"):
        JaxFunction(ca.Function("f", [X], [X, 2 * X]), ())


# --- identity and compilation -------------------------------------------------------------------------------------------------------------


def pendulum_drift(**parameters):
    plant = plants.pendulum(**parameters)
    return JaxFunction(plant.drift_function, (2,)), plant.parameter_vector


def test_equal_tapes_are_equal_and_hash_alike_and_unequal_ones_do_not():
    (f, p), (g, q) = pendulum_drift(), pendulum_drift(mass=3.0)
    assert f is not g
    assert f == g
    assert hash(f) == hash(g)
    assert p.tolist() != q.tolist()
    functions = [JaxFunction(ca.Function("f", [X, Y], [ca.vertcat(X, e)]), (2,)) for e in (X, Y, 1.0, 1.0 + 2**-52, 0.0)]
    assert len({f, *functions}) == 1 + len(functions)
    assert f != "not a function"


def test_shape_is_part_of_the_identity():
    function = ca.Function("f", [X], [ca.vertcat(X, 2 * X)])
    assert JaxFunction(function, (2,)) != JaxFunction(function, (2, 1))


def test_from_parts_rebuilds_the_same_function():
    f, p = pendulum_drift()
    g = JaxFunction.from_parts(f.parts())
    assert f == g
    np.testing.assert_array_equal(f([0.3, 1.0], [2.0], p), g([0.3, 1.0], [2.0], p))


def test_constants_that_happen_to_be_equal_make_the_same_program():
    make = lambda a, b: JaxFunction(ca.Function("f", [X, Y], [ca.vertcat(a * X + b, ca.sin(b * Y) / a, (X - a) ** 3 - b)]), (3,))
    same, other = make(0.3, 0.3), make(0.3, 0.7)
    assert same.program == other.program
    assert same != other
    assert jax.tree.structure(same) == jax.tree.structure(other)
    assert JaxFunction.from_parts(other.parts()).program == other.program
    z, wanted = np.array([0.2, 1.7]), lambda a, b: [a * 0.2 + b, np.sin(b * 1.7) / a, (0.2 - a) ** 3 - b]
    np.testing.assert_allclose(same(z[:1], z[1:]), wanted(0.3, 0.3), rtol=1e-14)
    np.testing.assert_allclose(other(z[:1], z[1:]), wanted(0.3, 0.7), rtol=1e-14)


def test_outputs_between_the_instructions_do_not_take_their_places():
    """CasADi hands out a result as soon as it is there, numbered as outputs are."""
    steps = [X, Y]
    for k in range(6):
        steps.append(ca.sin(steps[-1]) * steps[-2] + 0.1 * k)
    function = ca.Function("f", [X, Y], [ca.vertcat(*steps[2:], steps[0] + steps[1], steps[2] * steps[7])])
    z = points("any", "any")[:50] / 10
    close(np.asarray(JaxFunction(function, (8,))(z[:, :1], z[:, 1:])), casadi_values(function, z[:, :1], z[:, 1:])[..., 0])


def test_a_plant_compiles_once_however_often_it_is_built_and_whatever_its_parameters():
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def evaluate(function, x, u, p):
        traces.append(function)
        return function(x, u, p)

    x, u = jnp.array([0.3, 1.0]), jnp.array([2.0])
    accelerations = [float(evaluate(f, x, u, p)[1]) for f, p in (pendulum_drift(), pendulum_drift(mass=3.0), pendulum_drift(mass=1.0))]
    assert len(traces) == evaluate._cache_size() == 1
    assert accelerations[0] == accelerations[2] != accelerations[1]
    assert accelerations[1] == pytest.approx(9.81 * np.sin(0.3) + (2.0 - 0.1) / 3.0, rel=1e-14)
    other = plants.van_der_pol()
    evaluate(JaxFunction(other.drift_function, (2,)), x, u, other.parameter_vector)
    assert len(traces) == 2
