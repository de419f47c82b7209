"""Critics, policies and values as CasADi Functions, and as C source.

as_casadi(run)            Q̂(x, u) of a training           as_casadi(ref.policy)    u = p(x), linear, clipped or an actor
as_casadi(ref.value)      V(x): quadratic, or on a grid    write_c(run, "critic.c") the same as C
"""

import functools
import os
from pathlib import Path
from typing import Any

import casadi as ca
import numpy as np

from rlctrl.axis import knots_of
from rlctrl.critic.actor import ActorPolicy
from rlctrl.critic.features import Fourier, Monomials
from rlctrl.critic.network import CriticQ
from rlctrl.critic.train import Training
from rlctrl.errors import InputError, require, strict
from rlctrl.kinds import FilePath
from rlctrl.policy import ClippedPolicy, LinearPolicy
from rlctrl.problem import Problem
from rlctrl.reference.level import GridPolicy
from rlctrl.reference.riccati import QuadraticQ, QuadraticValue
from rlctrl.reference.sweep import GridValue
from rlctrl.storage import temporary_folder, write_whole

ACTIVATIONS = {
    "tanh": ca.tanh,
    "softplus": lambda s: ca.fmax(s, 0) + ca.log1p(ca.exp(-ca.fabs(s))),
    "square": lambda s: s * s,
    "identity": lambda s: s,
    "sigmoid": lambda s: 1 / (1 + ca.exp(-s)),
    "sin": ca.sin,
    "gauss": lambda s: ca.exp(-s * s),
    "relu": lambda s: ca.fmax(s, 0),
}


@strict
def as_casadi(thing, problem: Problem | None = None) -> ca.Function:
    """A CasADi Function `Q` of (x, u), `policy` of x, or `V` of x, equal to `thing` to rounding.

    `thing`: a Training or (with its `problem`) a critic such as dec.best; a linear, clipped or Actor policy; a quadratic value or Q;
    a value or policy on a grid: GridDP's and HJB's values, HJB's policy (of any order; valid on the grid). Raises `InputError`, by name,
    for what needs a search or a solver at every call, such as a greedy or lookahead policy, and for features given as a Python function.
    """
    if isinstance(thing, Training):
        thing, problem = thing.q, thing.problem
    if isinstance(thing, GridValue):
        return _grid_value(thing)
    if isinstance(thing, GridPolicy):
        return _grid_policy(thing)
    if isinstance(thing, CriticQ):
        require(problem is not None, "problem", "must be given with a bare critic", problem, "Pass run.problem.")
        plant: Any = getattr(problem, "plant", None)
        return _of_state_and_input(plant.n, plant.m, lambda x, u: _network(thing.network, thing.omega, ca.vertcat(x, u)))
    if isinstance(thing, QuadraticQ):
        m, n = np.shape(thing.policy.K)
        return _of_state_and_input(n, m, lambda x, u: _quadratic_q(thing, x, u))
    if isinstance(thing, QuadraticValue):
        return _of_state("V", len(thing.P), lambda x: _quadratic(thing, x))
    if isinstance(thing, LinearPolicy | ClippedPolicy | ActorPolicy):
        return _of_state("policy", _width(thing), lambda x: _policy(thing, x))
    raise InputError(
        f"`thing` must have a closed form to become a CasADi Function; {type(thing).__name__} has none here. "
        "Export a Training, a linear, clipped or Actor policy, HJB's policy, a quadratic value, or a value on a grid (ref.value)."
    )


@strict
def write_c(thing, path: FilePath, problem: Problem | None = None) -> Path:
    """Write `as_casadi(thing, problem)`, or a CasADi Function, as one self-contained C file at `path` (CasADi's calling convention)."""
    function = thing if isinstance(thing, ca.Function) else as_casadi(thing, problem)
    path = Path(path)
    require(path.suffix == ".c", "path", "must end in .c", str(path), "Name it e.g. critic.c.")
    fits = ca.Function.check_name(path.stem)  # CasADi names what is inside after the file
    require(fits, "path", "must be a letter, then letters, digits and single underscores", path.name, "Name it e.g. critic.c.")
    with temporary_folder() as folder:  # CasADi takes a bare name and the folder apart
        generator = ca.CodeGenerator(path.name)
        generator.add(function)
        generator.generate(f"{folder}{os.sep}")
        text = (folder / path.name).read_bytes()
    write_whole(path, lambda file: file.write(text))
    return path


def _of_state(name, n, expression):
    x = ca.SX.sym("x", n)
    return ca.Function(name, [x], [ca.densify(expression(x))], ["x"], ["u" if name == "policy" else name])


def _of_state_and_input(n, m, expression):
    x, u = ca.SX.sym("x", n), ca.SX.sym("u", m)
    return ca.Function("Q", [x, u], [ca.densify(expression(x, u))], ["x", "u"], ["Q"])


def _network(network, omega, z):
    """(T5) of CasADi symbols."""
    output, *hidden = (np.asarray(part) for part in network.unpack(np.asarray(omega)))
    h = _features(network.features, z)
    for matrix in reversed(hidden):
        h = ACTIVATIONS[network.activation](ca.DM(matrix) @ h)
    return ca.dot(ca.DM(output), h)


def _features(features, z):
    rule = "must be built in to become a CasADi Function"
    require(isinstance(features, Monomials | Fourier), "features", rule, features, 'Use a name such as "polynomial".')
    return _monomials(features, z) if isinstance(features, Monomials) else _waves(features, z)


def _product(factors):
    return functools.reduce(lambda a, b: a * b, factors, ca.SX(1))


def _waves(features, z):
    t = np.pi * (z - features.centre) / features.scale
    standing = [_product(ca.vertsplit(ca.cos(t * row))) for row in np.asarray(features.straight)]
    angle = ca.vertsplit(ca.DM(np.asarray(features.turning)) @ t)
    waves = [s * ca.cos(a) for s, a in zip(standing, angle, strict=True)]
    return ca.vertcat(*waves, *[standing[k] * ca.sin(angle[k]) for k in features.sines])


def _monomials(features, z):
    columns = []
    for part, turns in zip(ca.vertsplit((z - features.centre) / features.scale), features.periodic, strict=True):
        columns += [ca.sin(np.pi * part), ca.cos(np.pi * part)] if turns else [part]
    return ca.vertcat(*[_product(columns[k] ** power for k, power in enumerate(row) if power) for row in features.exponents])


def _width(policy):
    """Number of states; refuses what is clipped but has no closed form."""
    if isinstance(policy, ClippedPolicy):
        return _width(policy.policy)
    known = isinstance(policy, LinearPolicy | ActorPolicy)
    require(known, "thing", "must clip a linear or Actor policy to become a CasADi Function", type(policy).__name__, "Export that one.")
    return np.shape(policy.K)[1] if isinstance(policy, LinearPolicy) else len(policy.network.features.centre)


def _policy(policy, x):
    if isinstance(policy, LinearPolicy):
        return ca.DM(np.asarray(policy.u0)) - ca.DM(np.asarray(policy.K)) @ _wrapped(x, policy.x0, policy.period)
    if isinstance(policy, ClippedPolicy):
        return _clipped(_policy(policy.policy, x), policy.low, policy.high)
    outputs = ca.vertcat(*[_network(policy.network, weights, x) for weights in np.asarray(policy.theta)])
    columns = zip(ca.vertsplit(outputs), np.asarray(policy.low), np.asarray(policy.high), strict=True)
    return ca.vertcat(*[_saturated(policy.saturation, *column) for column in columns])


def _saturated(kind, v, low, high):
    if kind != "tanh":
        return v if kind == "none" else _clipped(v, low, high)
    if np.isfinite(high - low):
        return 0.5 * (low + high) + 0.5 * (high - low) * ca.tanh(v)
    if np.isfinite(low):
        return low + ACTIVATIONS["softplus"](v)
    return high - ACTIVATIONS["softplus"](-v) if np.isfinite(high) else v


def _clipped(u, low, high):
    low, high = (np.broadcast_to(np.asarray(side, float), (u.shape[0],)) for side in (low, high))
    return ca.fmin(ca.fmax(u, ca.DM(low)), ca.DM(high))


def _wrapped(x, x0, period):
    """x − x0 brought into ±period/2 where the period is not 0."""
    gaps = ca.vertsplit(x - np.asarray(x0))
    return ca.vertcat(*[ca.remainder(gap, float(turn)) if turn > 0 else gap for gap, turn in zip(gaps, np.asarray(period), strict=True)])


def _quadratic(value, x):
    xi = _wrapped(x, value.x0, value.period)
    return -(ca.bilin(ca.DM(np.asarray(value.P)), xi, xi) + 2 * ca.dot(ca.DM(np.asarray(value.p)), xi) + float(value.s))


def _quadratic_q(q, x, u):
    gap = u - _policy(q.policy, x)
    return _quadratic(q.value, x) - ca.bilin(ca.DM(np.asarray(q.M)), gap, gap)


def _grid_value(value):
    x = ca.MX.sym("x", len(value.grid.axes))
    return ca.Function("V", [x], [_spline(value.grid, value.coefficients, x)], ["x"], ["V"])


def _grid_policy(policy):
    finite = len(policy.inputs.continuous) < len(policy.inputs.values)
    require(
        not finite, "thing", "must have no inputs of finitely many values to become a CasADi Function", "GridPolicy", "Export ref.value."
    )
    x = ca.MX.sym("x", len(policy.grid.axes))
    return ca.Function(
        "policy", [x], [_clipped(_spline(policy.grid, policy.table, x), policy.inputs.low, policy.inputs.high)], ["x"], ["u"]
    )


def _spline(grid, coefficients, x):
    """Tensor-product B-splines of `coefficients` (nodes,) or (nodes, m) at CasADi symbols x; periodic axes are brought into their turn and
    their coefficients repeated."""
    table = np.asarray(coefficients).reshape(*grid.shape, -1)
    knots, inside = [], []
    for k, axis in enumerate(grid.axes):
        nodes, spare = np.asarray(axis.nodes), 0
        knots.append(knots_of(nodes, axis.order, axis.period))
        if axis.period is not None:  # one more on the left: CasADi counts what lies on the second knot twice at order 1
            knots[-1], spare = np.insert(knots[-1], 0, knots[-1][len(nodes) - 1] - axis.period), 1
        table = np.take(table, (np.arange(len(knots[-1]) - axis.order - 1) - spare) % len(nodes), axis=k)
        inside.append(x[k] if axis.period is None else float(nodes[0]) + _modulo(x[k] - float(nodes[0]), float(axis.period)))
    numbers = np.moveaxis(table, -1, 0).ravel(order="F").tolist()
    orders = [axis.order for axis in grid.axes]
    return ca.Function.bspline("spline", [list(k) for k in knots], numbers, orders, table.shape[-1])(ca.vertcat(*inside))


def _modulo(x, period):
    return x - period * ca.floor(x / period)
