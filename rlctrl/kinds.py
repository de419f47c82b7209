"""Kinds of arguments: what the annotation of a public function asks of a value, in words and as a test."""

import inspect
import math
import numbers
import os
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

import numpy as np


class Kind(NamedTuple):
    """What an annotation `Annotated[Any, Kind(…)]` asks for: in words, and as a test of a value."""

    words: str
    holds: Callable


def is_numeric(value) -> bool:
    """Whether NumPy can make an array of real numbers of it."""
    kind = getattr(getattr(value, "dtype", None), "kind", None)  # arrays, and what stands for them while JAX traces
    if kind in ("b", "i", "u", "f"):
        return True
    try:
        np.asarray(value, float)
    except Exception:  # objects may raise anything on the way
        return False
    return True


def is_real(value) -> bool:
    """Whether it is a real number, infinities and NaN included, that a float can hold."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True


def is_whole(value) -> bool:
    """Whether it is a whole number of at most 63 bits."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and abs(int(value)) < 2**63


def is_path(value) -> bool:
    """Whether it can name a file."""
    return isinstance(value, str | os.PathLike) and str(value) not in ("", ".", "/") and "\0" not in str(value)


def is_list(value) -> bool:
    """Whether it is a list, tuple or array, not a single number or a string."""
    return isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes) and getattr(value, "ndim", 1) > 0


Numbers = Annotated[Any, Kind("an array of numbers, or lists of equal length", is_numeric)]
Counts = Annotated[Any, Kind("a whole number, or a list of them", lambda v: all(map(is_whole, v)) if is_list(v) else is_whole(v))]
FilePath = Annotated[Any, Kind("the path of a file", is_path)]
OPEN = (Any, inspect.Parameter.empty, object)  # annotations that ask for nothing
KNOWN = {
    bool: Kind("True or False", lambda value: isinstance(value, bool | np.bool_)),
    int: Kind("a whole number", is_whole),
    float: Kind("a number", lambda value: is_real(value) and not math.isnan(value)),
    str: Kind("a string", lambda value: isinstance(value, str)),
    types.NoneType: Kind("None", lambda value: value is None),
    Callable: Kind("a function", callable),
}


def kind_of(annotation) -> Kind | None:
    """The kind an annotation asks for; None if it leaves it open."""
    stated = [part for part in getattr(annotation, "__metadata__", ()) if isinstance(part, Kind)]
    base, parts = get_origin(annotation) or annotation, get_args(annotation)
    if stated or base in OPEN:
        return stated[0] if stated else None
    if base in (Union, types.UnionType):
        kinds = [kind_of(part) for part in parts]
        return None if None in kinds else Kind(" or ".join(k.words for k in kinds if k), lambda v: any(k.holds(v) for k in kinds if k))
    if base in KNOWN:
        return KNOWN[base]
    if base in (tuple, list, Sequence):
        return _sequence(kind_of(parts[0]) if parts else None)
    if base in (dict, Mapping):
        return Kind("a dictionary", lambda value: isinstance(value, Mapping))
    return Kind(f"a {base.__name__}", lambda value: isinstance(value, base)) if isinstance(base, type) else None


def _sequence(inner):
    """A list of the inner kind, if any is stated."""

    holds = lambda value: is_list(value) and (inner is None or all(map(inner.holds, value)))
    return Kind("a list" + (f" with entries that are each {inner.words}" if inner else ""), holds)
