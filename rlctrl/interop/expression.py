"""A formula as text, such as "-(1 - cos(theta)) - 0.05*omega**2", as a CasADi function of named signals. Parsed, never evaluated as
code."""

import ast
import math
import operator

import casadi as ca

from rlctrl.casadi_jax import JaxFunction
from rlctrl.errors import InputError, first_line, nearest, require

FUNCTIONS = {
    name: getattr(ca, name)
    for name in (
        "sin",
        "cos",
        "tan",
        "asin",
        "acos",
        "atan",
        "sinh",
        "cosh",
        "tanh",
        "exp",
        "log",
        "sqrt",
        "fabs",
        "sign",
        "floor",
        "ceil",
        "atan2",
    )
} | {"abs": ca.fabs, "min": ca.fmin, "max": ca.fmax}
LONGEST = 1000  # characters of a formula
CONSTANTS = {"pi": math.pi}
OPERATORS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.Pow: operator.pow,
    ast.USub: operator.neg, ast.UAdd: operator.pos,
}  # fmt: skip


def expression(text, argument, plant, inputs=True):
    """(x, u, p) → CasADi expression for a formula in the plant's signal and parameter names; without `inputs`, of the states only.

    Raises `InputError` naming `argument` for a syntax error, an unknown name, one that a signal and a parameter share, or a construct that
    is not arithmetic.
    """
    require(isinstance(text, str), argument, "must be a formula in quotes", text, 'Write e.g. "-theta**2".')
    tree = _parse(text, argument)
    signals = [s.name for s in (*plant.states, *(plant.inputs if inputs else ()))]
    try:
        _check(tree, argument, (*signals, *plant.params, *CONSTANTS))
    except RecursionError:
        raise InputError(f"`{argument}` must not nest so deep; got {text[:60]!r}…. Write the reward in Python instead.") from None

    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    shared = sorted(used.intersection(signals, plant.params))
    require(not shared, argument, "must not use a name that a signal and a parameter share", shared, "Rename the parameter.")

    def function(x, u, p):
        entries = [*(x[k] for k in range(plant.n)), *(u[k] for k in range(plant.m if inputs else 0))]
        values = dict(zip(signals, entries, strict=True))
        scalars = {name: getattr(p, name) for name in plant.params}
        return _build(tree, CONSTANTS | scalars | values)

    return function


def formula_policy(texts, argument, plant):
    """A policy x (..., n) → u (..., m) from one formula an input, in the names of states and parameters. Raises `InputError`, as
    `expression` does, and for another number of formulas."""
    texts = [texts] if isinstance(texts, str) else texts
    fits = isinstance(texts, list) and len(texts) == plant.m
    require(fits, argument, f"must be {plant.m} formula(s), one an input", texts, 'Write e.g. "-10*theta - 2*omega".')
    parts = [expression(text, argument, plant, inputs=False) for text in texts]
    x, _, p = plant.symbols()
    inputs = plant.evaluate(argument, lambda x, p: ca.vertcat(*(ca.SX(part(x, None, p)) for part in parts)), x, vector=p)
    function = JaxFunction(ca.Function("policy", [x, p], [inputs]), (plant.m,))
    return lambda x: function(x, plant.parameter_vector)


def _parse(text, argument):
    """Syntax tree of a formula, which may span lines but not nest deeper than Python can follow."""
    require(len(text) <= LONGEST, argument, f"must be at most {LONGEST} characters", len(text), "Write the reward in Python instead.")
    try:
        tree = ast.parse(" ".join(text.split()), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        found = f"{text[:80]!r} has a syntax error: {first_line(error)}"
        raise InputError(f"`{argument}` must be a formula; {found}. Use + - * / **, names and functions.") from None
    return tree


def _check(node, argument, names):
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return
    if isinstance(node, ast.Name):
        require(node.id in names, argument, "must use the plant's signals and parameters only", node.id, nearest(node.id, names))
    elif isinstance(node, ast.BinOp | ast.UnaryOp) and type(node.op) in OPERATORS:
        for child in (node.left, node.right) if isinstance(node, ast.BinOp) else (node.operand,):
            _check(child, argument, names)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        name = node.func.id
        require(name in FUNCTIONS, argument, "must use known functions only", name, nearest(name, FUNCTIONS))
        count = 2 if name in ("atan2", "min", "max") else 1
        rule = f"must give {name} {count} argument{'s' if count > 1 else ''}"
        require(len(node.args) == count, argument, rule, ast.unparse(node), "Mend the call.")
        for child in node.args:
            _check(child, argument, names)
    else:
        raise InputError(
            f"`{argument}` must be arithmetic; got {ast.unparse(node)!r}. Use numbers, the names {', '.join(names)}, + - * / ** and "
            f"{', '.join(FUNCTIONS)}."
        )


def _build(node, values):
    if isinstance(node, ast.Constant):
        return float(node.value)  # pyright: ignore[reportArgumentType]
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.UnaryOp):
        return OPERATORS[type(node.op)](_build(node.operand, values))
    if isinstance(node, ast.BinOp):
        return OPERATORS[type(node.op)](_build(node.left, values), _build(node.right, values))
    return FUNCTIONS[node.func.id](*(_build(child, values) for child in node.args))
