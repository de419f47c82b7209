"""A formula as text, such as "-(1 - cos(theta)) - 0.05*omega**2", as a CasADi function of named signals. Parsed, never evaluated as
code."""

import ast
import math
import operator

import casadi as ca

from rlctrl.errors import InputError, nearest, require

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
CONSTANTS = {"pi": math.pi}
OPERATORS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.Pow: operator.pow,
    ast.USub: operator.neg, ast.UAdd: operator.pos,
}  # fmt: skip


def expression(text, argument, plant):
    """(x, u, p) → CasADi expression for a formula in the plant's signal and parameter names.

    Raises `InputError` naming `argument` for a syntax error, an unknown name or a construct that is not arithmetic.
    """
    require(isinstance(text, str), argument, "must be a formula in quotes", text, 'Write e.g. "-theta**2".')
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise InputError(
            f"`{argument}` must be a formula; {text!r} has a syntax error: {error}. Use + - * / **, names and functions."
        ) from None
    signals = [s.name for s in (*plant.states, *plant.inputs)]
    _check(tree, argument, {*signals, *plant.params, *CONSTANTS})

    def function(x, u, p):
        values = dict(zip(signals, [*(x[k] for k in range(plant.n)), *(u[k] for k in range(plant.m))], strict=True))
        scalars = {name: getattr(p, name) for name in plant.params}
        return _build(tree, CONSTANTS | scalars | values)

    return function


def _check(node, argument, names):
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return
    if isinstance(node, ast.Name):
        require(node.id in names, argument, "must use the plant's signals and parameters only", node.id, nearest(node.id, names))
    elif isinstance(node, ast.BinOp | ast.UnaryOp) and type(node.op) in OPERATORS:
        for child in (node.left, node.right) if isinstance(node, ast.BinOp) else (node.operand,):
            _check(child, argument, names)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        require(node.func.id in FUNCTIONS, argument, "must use known functions only", node.func.id, nearest(node.func.id, FUNCTIONS))
        for child in node.args:
            _check(child, argument, names)
    else:
        raise InputError(
            f"`{argument}` must be arithmetic; got {ast.unparse(node)!r}. Use numbers, names, + - * / ** and {', '.join(FUNCTIONS)}."
        )


def _build(node, values):
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.UnaryOp):
        return OPERATORS[type(node.op)](_build(node.operand, values))
    if isinstance(node, ast.BinOp):
        return OPERATORS[type(node.op)](_build(node.left, values), _build(node.right, values))
    return FUNCTIONS[node.func.id](*(_build(child, values) for child in node.args))
