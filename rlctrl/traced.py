"""Functions of the user in JAX: which of them are the same, so that one program serves them."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from rlctrl.tree import saved


@saved
@dataclass(frozen=True)
class Traced:
    """A user's function. Two are equal, and compiled once, if they have the same code and JAX finds the same `steps` and numbers in them: a
    lambda written anew for every call, but not one whose captured numbers have changed. `code` is the function itself where that does
    not tell: where it calls back from what JAX compiles, and where JAX cannot trace it (`steps` None)."""

    function: Callable = field(compare=False)
    code: Any
    steps: str | None

    @classmethod
    def of(cls, function, probe) -> "tuple[Traced, tuple]":
        """With the shape of what it makes of the probe."""
        found = jax.make_jaxpr(lambda x: jnp.asarray(function(x), jnp.float64))(probe)
        steps, numbers = str(found), [np.asarray(array).tobytes() for array in _constants(found)]
        code = function if "callback" in steps else getattr(function, "__code__", function)
        return cls(function, code, hashlib.sha256(b"".join([steps.encode(), *numbers])).hexdigest()), found.out_avals[0].shape


def _constants(traced):
    """The arrays in what JAX traced, and in the functions inside."""
    yield from getattr(traced, "consts", ())
    for step in getattr(traced, "jaxpr", traced).eqns:
        for inside in jax.tree.leaves(list(step.params.values())):
            if isinstance(inside, ClosedJaxpr | Jaxpr):
                yield from _constants(inside)
