"""CasADi expressions as JAX functions, by reading the instruction tape.

A CasADi `Function` is a list of scalar instructions on a work vector. `JaxFunction` replays that list with `jax.numpy` while
JAX traces: no source text, no `exec`, constants at full double precision. Every instruction is elementwise, so arguments
may carry any leading axes, which broadcast: states of shape (S,1,1,n) with noise of shape (W,q) cost S·W only where noise enters.
A `JaxFunction` is a pytree whose leaf is its constants, so JAX compiles a plant or a reward once, whatever numbers are in it.
"""

import functools
import hashlib
import math
from dataclasses import dataclass
from typing import Any

import casadi as ca
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rlctrl.errors import InputError, require


def _flag(x):
    return jnp.asarray(x, dtype=jnp.float64)


def _power(x, y):
    if isinstance(y, float) and y == int(y) and abs(y) <= 64:
        return lax.integer_pow(jnp.asarray(x, jnp.float64), int(y))
    return jnp.power(x, y)


def _remainder(x, y):
    """IEEE remainder (quotient rounded to nearest, ties to even), which JAX lacks."""
    size = jnp.abs(y)
    r = jnp.fmod(x, 2 * size)
    side = jnp.where(r < 0, -1.0, 1.0)
    once = r - side * size
    return jnp.where(2 * side * r > size, jnp.where(2 * side * once >= size, once - side * size, once), r)


OPERATIONS = {
    ca.OP_ASSIGN: lambda x: x,
    ca.OP_ADD: jnp.add,
    ca.OP_SUB: jnp.subtract,
    ca.OP_MUL: jnp.multiply,
    ca.OP_DIV: jnp.divide,
    ca.OP_NEG: jnp.negative,
    ca.OP_EXP: jnp.exp,
    ca.OP_LOG: jnp.log,
    ca.OP_POW: _power,
    ca.OP_CONSTPOW: _power,
    ca.OP_SQRT: jnp.sqrt,
    ca.OP_SQ: jnp.square,
    ca.OP_TWICE: lambda x: 2.0 * x,
    ca.OP_SIN: jnp.sin,
    ca.OP_COS: jnp.cos,
    ca.OP_TAN: jnp.tan,
    ca.OP_ASIN: jnp.arcsin,
    ca.OP_ACOS: jnp.arccos,
    ca.OP_ATAN: jnp.arctan,
    ca.OP_LT: lambda x, y: _flag(x < y),
    ca.OP_LE: lambda x, y: _flag(x <= y),
    ca.OP_EQ: lambda x, y: _flag(x == y),
    ca.OP_NE: lambda x, y: _flag(x != y),
    ca.OP_NOT: lambda x: _flag(x == 0),
    ca.OP_AND: lambda x, y: _flag((x != 0) & (y != 0)),
    ca.OP_OR: lambda x, y: _flag((x != 0) | (y != 0)),
    ca.OP_FLOOR: jnp.floor,
    ca.OP_CEIL: jnp.ceil,
    ca.OP_FMOD: jnp.fmod,
    ca.OP_FABS: jnp.abs,
    ca.OP_SIGN: jnp.sign,
    ca.OP_COPYSIGN: jnp.copysign,
    ca.OP_IF_ELSE_ZERO: lambda condition, x: jnp.where(condition != 0, x, 0.0),
    ca.OP_ERF: lambda x: lax.erf(jnp.asarray(x, jnp.float64)),
    ca.OP_FMIN: jnp.fmin,
    ca.OP_FMAX: jnp.fmax,
    ca.OP_INV: lambda x: jnp.divide(1.0, x),
    ca.OP_SINH: jnp.sinh,
    ca.OP_COSH: jnp.cosh,
    ca.OP_TANH: jnp.tanh,
    ca.OP_ASINH: jnp.arcsinh,
    ca.OP_ACOSH: jnp.arccosh,
    ca.OP_ATANH: jnp.arctanh,
    ca.OP_ATAN2: jnp.arctan2,
    ca.OP_ERFINV: lambda x: lax.erf_inv(jnp.asarray(x, jnp.float64)),
    ca.OP_PRINTME: lambda x, _: x,
    ca.OP_LIFT: lambda x, _: x,
    ca.OP_LOG1P: jnp.log1p,
    ca.OP_EXPM1: jnp.expm1,
    ca.OP_HYPOT: jnp.hypot,
    ca.OP_REMAINDER: _remainder,
}
OPCODE_NAMES = {getattr(ca, name): name for name in dir(ca) if name.startswith("OP_")}
POWERS = (ca.OP_POW, ca.OP_CONSTPOW)
LITERAL = (0.0, 1.0, -1.0)  # constants that XLA simplifies expressions by; so it does by exponents


@dataclass(frozen=True, eq=False)
class Program:
    """What a function does, whatever its constants: `shape` of the result, `sizes` of the arguments, `steps` (opcode, inputs, output,
    literal), where OP_CONST has the number of its constant as input or else a literal; `places`: dense position of each stored output."""

    shape: tuple[int, ...]
    sizes: tuple[int, ...]
    steps: tuple
    places: tuple[int, ...]

    @functools.cached_property
    def digest(self):
        """A hash of all of it."""
        return hashlib.sha256(repr([self.shape, self.sizes, self.steps, self.places]).encode()).hexdigest()

    def __hash__(self):
        return hash(self.digest)

    def __eq__(self, other):
        return isinstance(other, Program) and self.digest == other.digest


class JaxFunction:
    """The single output of a CasADi function as a JAX function of arrays (..., n_i), one per input.

    `shape` is the trailing shape of the result: () for a scalar, (rows,) for a column, (rows, cols) for a matrix. Raises `InputError` if
    an instruction has no translation, by its name.
    """

    program: Program
    constants: Any

    def __init__(self, function: ca.Function, shape: tuple[int, ...]):
        require(function.n_out() == 1, "function", "must have one output", function.n_out(), "Split it into several.")
        scalar = function if function.is_a("SXFunction") else _expand(function)
        sizes = tuple(scalar.numel_in(i) for i in range(scalar.n_in()))
        self._assign(shape, sizes, _instructions(scalar), scalar.sparsity_out(0).find())

    def _assign(self, shape, sizes, tape, places):
        steps, constants = _without_constants(list(tape))
        self.program, self.constants = Program(tuple(shape), tuple(sizes), steps, tuple(places)), np.array(constants)

    @classmethod
    def of(cls, program, constants) -> "JaxFunction":
        """From its two parts."""
        self = object.__new__(cls)
        self.program, self.constants = program, constants
        return self

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the arguments."""
        return self.program.sizes

    @property
    def shape(self) -> tuple[int, ...]:
        """Trailing shape of the result."""
        return self.program.shape

    @property
    def tape(self) -> tuple:
        """The instructions (opcode, inputs, output, constant)."""
        filled = lambda code, inputs, output, literal: (code, (), output, float(self.constants[inputs[0]]))
        return tuple(filled(*step) if step[0] == ca.OP_CONST and step[1] else step for step in self.program.steps)

    def parts(self) -> list:
        """Everything that defines the function, as nested lists of numbers and None."""
        return [list(self.shape), list(self.sizes), [list(step) for step in self.tape], list(self.program.places)]

    @classmethod
    def from_parts(cls, parts) -> "JaxFunction":
        """The function that `parts` came from."""
        self = object.__new__(cls)
        shape, sizes, tape, places = parts
        self._assign(shape, sizes, [(code, tuple(inputs), output, constant) for code, inputs, output, constant in tape], places)
        return self

    @functools.cached_property
    def digest(self) -> str:
        """A hash of all of it, constants included."""
        return hashlib.sha256(repr(self.parts()).encode()).hexdigest()

    def __hash__(self):
        return hash(self.digest)

    def __eq__(self, other):
        return isinstance(other, JaxFunction) and self.digest == other.digest

    def __call__(self, *arguments):
        return self.partly(*arguments)()

    def symbolic(self, *arguments) -> ca.SX:
        """The same function of CasADi symbols, as a column (column by column for a matrix): saved files hold tapes, not CasADi objects."""
        work, out = {}, ca.SX.zeros(int(np.prod(self.shape, dtype=int)))
        for code, inputs, output, constant in self.tape:
            if code == ca.OP_CONST:
                work[output] = ca.SX(constant)
            elif code == ca.OP_INPUT:
                work[output] = ca.SX(arguments[inputs[0]])[inputs[1]]
            elif code == ca.OP_OUTPUT:
                out[self.program.places[output]] = work[inputs[0]]
            else:
                work[output] = (ca.SX.unary if len(inputs) == 1 else ca.SX.binary)(code, *(work[i] for i in inputs))
        return out

    def numbers(self, *arguments) -> np.ndarray:
        """A column (k, rows) at arguments (k, n_i) or (n_i,), by CasADi: what is too little to be worth compiling."""
        columns = [np.atleast_2d(a).T for a in arguments]
        count = max(c.shape[1] for c in columns)
        return np.array(_of_symbols(self)(*(np.broadcast_to(c, (len(c), count)) for c in columns))).T

    def partly(self, *arguments):
        """Takes None for the arguments that come later, computes all that does not depend on them, and returns a function of them."""
        known = {k: self._argument(k, a) for k, a in enumerate(arguments) if a is not None}
        late = [k for k, a in enumerate(arguments) if a is None]
        work, rest = self._run(self.program.steps, known, {})

        def finish(*later):
            both = known | {k: self._argument(k, a) for k, a in zip(late, later, strict=True)}
            return self._result(both, self._run(rest, both, work)[0])

        return finish

    def _argument(self, position, value):
        array = jnp.asarray(value, jnp.float64)
        size = self.sizes[position]
        require(array.shape[-1:] == (size,), f"argument {position}", f"needs last axis {size}", array.shape, "")
        return array

    def _run(self, tape, arguments, work):
        """The results of those instructions whose operands are known, and the other instructions."""
        work, waiting = _Work(work), []
        for step in tape:
            code, inputs, output, literal = step
            if code == ca.OP_CONST:
                work[output] = self.constants[inputs[0]] if inputs else literal
            elif code == ca.OP_INPUT and inputs[0] in arguments:
                work[output] = arguments[inputs[0]][..., inputs[1]]
            elif code == ca.OP_INPUT or any(i not in work for i in inputs):
                waiting.append(step)
            elif code == ca.OP_OUTPUT:
                work["out", self.program.places[output]] = work[inputs[0]]
            else:
                work[output] = OPERATIONS[code](*work.together(inputs))
        return work, waiting

    def _result(self, arguments, work):
        """The outputs, dense, in the shape of this function."""
        batch = jnp.broadcast_shapes(*(a.shape[:-1] for a in arguments.values()))
        size = int(np.prod(self.shape, dtype=int))
        dense = [jnp.broadcast_to(jnp.asarray(work.get(("out", i), 0.0), jnp.float64), batch) for i in range(size)]
        if not self.shape:
            return dense[0]
        stacked = jnp.stack(dense, axis=-1) if dense else jnp.zeros((*batch, 0))
        return _from_columns(stacked, self.shape)


jax.tree_util.register_pytree_node(
    JaxFunction, lambda f: ((f.constants,), f.program), lambda program, leaves: JaxFunction.of(program, *leaves)
)


@functools.lru_cache(maxsize=64)
def _of_symbols(function):
    """A `JaxFunction` as a CasADi function of as many columns."""
    symbols = [ca.SX.sym("a", size) for size in function.sizes]
    return ca.Function("numbers", symbols, [function.symbolic(*symbols)])


class _Work(dict):
    """Results by place on the tape."""

    def together(self, places):
        """The operands at some places; one that is about to be broadcast against a larger one is computed once and kept (XLA would
        otherwise fuse it into the larger loop and compute it again for every element there)."""
        if len(places) == 1:
            return (self[places[0]],)
        shape = jnp.broadcast_shapes(*(jnp.shape(self[i]) for i in places))
        for i in places:
            if jnp.ndim(self[i]) > 0 and jnp.size(self[i]) < math.prod(shape):
                self[i] = lax.optimization_barrier(self[i])
        return tuple(self[i] for i in places)


def _from_columns(flat, shape):
    if len(shape) == 1:
        return flat
    rows, columns = shape
    return jnp.swapaxes(flat.reshape(*flat.shape[:-1], columns, rows), -1, -2)


def _without_constants(tape):
    """Instructions that number the constants in place of holding them, and these; `LITERAL` ones and exponents stay. Every use has a number
    of its own: CasADi keeps equal constants once, and a program must not hang on which happen to be equal."""
    values = {output: constant for code, _, output, constant in tape if code == ca.OP_CONST}
    steps, constants, places = [], [], {}

    def constant(value, stays):
        steps.append((ca.OP_CONST, () if stays else (len(constants),), len(steps), value if stays else None))
        constants.extend([] if stays else [value])
        return len(steps) - 1

    for code, inputs, output, _ in tape:
        if code == ca.OP_CONST:
            continue
        if code != ca.OP_INPUT:
            exponent = code in POWERS
            inputs = tuple(
                constant(values[k], values[k] in LITERAL or (exponent and position == 1)) if k in values else places[k]
                for position, k in enumerate(inputs)
            )
        if code != ca.OP_OUTPUT:
            places[output], output = len(steps), len(steps)
        steps.append((code, inputs, output, None))
    return tuple(steps), constants


def _expand(function):
    try:
        return function.expand()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(
            f"`{function.name()}` must consist of scalar operations (CasADi `expand` failed: {reason}). "
            "Write it without rootfinders, integrators or external calls."
        ) from None


def _instructions(function):
    """(opcode, inputs, output, constant) with OP_INPUT as (argument, dense position) and OP_OUTPUT keyed by stored position.

    CasADi reuses the places of its work vector; here every result has a place of its own, the number of its instruction.
    """
    positions = [function.sparsity_in(i).find() for i in range(function.n_in())]
    holder: dict[int, int] = {}  # which instruction's result a place of CasADi's work vector holds
    for k in range(function.n_instructions()):
        code = function.instruction_id(k)
        inputs, outputs = list(function.instruction_input(k)), list(function.instruction_output(k))
        if code == ca.OP_OUTPUT:
            yield code, (holder[inputs[0]],), outputs[1], None
            continue
        if code == ca.OP_CONST:
            yield code, (), k, function.instruction_constant(k)
        elif code == ca.OP_INPUT:
            yield code, (inputs[0], positions[inputs[0]][inputs[1]]), k, None
        elif code in OPERATIONS:
            yield code, tuple(holder[i] for i in inputs), k, None
        else:
            raise InputError(
                f"`{function.name()}` uses the CasADi operation {OPCODE_NAMES.get(code, code)}, which has no translation "
                "to JAX. Write the expression without it."
            )
        holder[outputs[0]] = k
