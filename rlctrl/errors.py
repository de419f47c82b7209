"""What the product says when it refuses: one sentence with the argument, the rule, the value and the way out."""

import difflib
import functools
import inspect
import math
import numbers


class InputError(ValueError, TypeError):
    """Bad input. The message names the argument, the rule, the value received and the way out."""


class NotConverged(RuntimeError):
    """A solver or a training stopped short of its tolerance, or diverged; the message says which and what to try. `partial`: what had been
    reached by then, or None."""

    def __init__(self, message, partial=None):
        super().__init__(message)
        self.partial = partial


def require(holds, argument, rule, value, way_out):
    """Raise `InputError` unless `holds`."""
    if not holds:
        raise InputError(f"`{argument}` {rule}; got {_short(value)}. {way_out}")


def require_whole(argument, value, least, way_out):
    """Raise `InputError` unless `value` is a whole number ≥ `least` (and fits 63 bits)."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool) and least <= value < 2**63
    require(whole, argument, f"must be a whole number ≥ {least}", value, way_out)


def require_number(argument, value, rule, way_out, low=-math.inf, high=math.inf):
    """Raise `InputError` unless `value` is a finite real number with low ≤ value ≤ high."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    require(real and math.isfinite(value) and low <= float(value) <= high, argument, rule, value, way_out)


def first_line(error) -> str:
    """The first line of another library's message, at most 200 characters."""
    return (str(error).strip().splitlines() or [""])[0][:200]


def nearest(word, known):
    """'Did you mean …' for a misspelt word, else the list of what is known."""
    known = sorted(map(str, known))
    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.5)
    return f"Did you mean `{close[0]}`?" if close else f"Known here: {', '.join(known) or 'nothing'}."


def strict(target):
    """Decorate a public function or class: an unknown or missing keyword raises `InputError` with the nearest name."""
    call = target.__init__ if inspect.isclass(target) else target
    signature = inspect.signature(call)
    names = [n for n in signature.parameters if n not in ("self", "cls")]

    @functools.wraps(call)
    def checked(*args, **kwargs):
        for word in kwargs:
            require(word in names, word, f"is not a keyword of {target.__name__}", kwargs[word], nearest(word, names))
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InputError(f"`{target.__name__}` cannot be called so: {error}. It takes ({', '.join(names)}).") from None
        return call(*args, **kwargs)

    if inspect.isclass(target):
        target.__init__ = checked
        return target
    return checked


def _short(value):
    text = " ".join(repr(value).split())
    return text if len(text) <= 120 else text[:117] + "..."
