"""What the product says when it refuses: one sentence with the argument, the rule, the value and the way out."""

import contextlib
import difflib
import functools
import inspect
import math

import numpy as np

from rlctrl.kinds import is_numeric, is_real, is_whole, kind_of

FARTHEST = 1e50  # largest size of a coordinate: the powers that rewards and dynamics take of more leave the floats
# JAX and NumPy, of memory
TOO_LARGE = ("RESOURCE_EXHAUSTED", "Maximum allowed dimension exceeded", "Maximum allowed size exceeded", "array is too big")


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


@contextlib.contextmanager
def naming(typed, argument):
    """Inside, errors about `argument` name what the user typed instead."""
    try:
        yield
    except InputError as error:
        raise InputError(str(error).replace(f"`{argument}`", f"`{typed}`", 1)) from None


def require_whole(argument, value, least, way_out):
    """Raise `InputError` unless `value` is a whole number ≥ `least` (and fits 63 bits)."""
    most = " and < 2⁶³" if is_real(value) and value >= 2**63 else ""
    require(is_whole(value) and value >= least, argument, f"must be a whole number ≥ {least}{most}", value, way_out)


def require_number(argument, value, rule, way_out, low=-math.inf, high=math.inf):
    """Raise `InputError` unless `value` is a finite real number with low ≤ value ≤ high."""
    require(is_real(value) and math.isfinite(value) and low <= float(value) <= high, argument, rule, value, way_out)


def require_numbers(argument, value, way_out="Pass a NumPy array, or lists of equal length.") -> np.ndarray:
    """`value` as an array of floats, or `InputError`."""
    require(is_numeric(value), argument, "must be an array of numbers", value, way_out)
    return np.asarray(value, float)


def require_points(argument, value, size=None) -> np.ndarray:
    """`value` as an array of finite floats whose last axis has that `size` (any if None), or `InputError`."""
    array = require_numbers(argument, value)
    fits = array.ndim > 0 and size in (None, array.shape[-1])
    require(fits, argument, f"must have last axis {size or 'of coordinates'}", array.shape, "One column per coordinate.")
    odd = array[~np.isfinite(array)]
    require(odd.size == 0, argument, "must be finite", odd, "Leave such points out.")
    far = array[np.abs(array) > FARTHEST]
    require(far.size == 0, argument, f"must lie within ±{FARTHEST:g}", far, "Leave such points out.")
    return array


def require_together(**arrays):
    """Raise `InputError`, naming the last of these arrays, unless their leading axes broadcast."""
    first, last = next(iter(arrays)), list(arrays)[-1]
    try:
        np.broadcast_shapes(*(a.shape[:-1] for a in arrays.values()))
    except ValueError:
        rule = f"must have leading axes that broadcast with those of {first}, {arrays[first].shape}"
        raise InputError(f"`{last}` {rule}; got {arrays[last].shape}. Add axes of 1.") from None


def require_room(argument, numbers, value):
    """Raise `InputError` unless the machine has memory for so many floats: XLA ends the process where it meets sizes without measure."""
    need, free = 8 * numbers, free_memory()
    require(need <= free, argument, f"needs {need / 2**30:.3g} GiB, {free / 2**30:.3g} GiB are free", value, "Lower it.")


def free_memory() -> float:
    """Bytes of memory the machine can still give (infinite where the system does not say)."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return float("inf")


def lack_of_memory(error) -> str | None:
    """What to say if the machine had too little memory for something; None of other errors."""
    if isinstance(error, MemoryError) or any(words in str(error) for words in TOO_LARGE):
        return f"needs more memory than there is ({first_line(error)}). Lower memory, batch, shape, paths or points."
    return None


def first_line(error) -> str:
    """The first line of another library's message, at most 200 characters."""
    return (str(error).strip().splitlines() or [""])[0][:200]


def nearest(word, known):
    """'Did you mean …' for a misspelt word, else the list of what is known."""
    close = meant(word, known)
    return f"Did you mean `{close}`?" if close else f"Known here: {', '.join(sorted(map(str, known))) or 'nothing'}."


def meant(word, known, least=0.5) -> str | None:
    """The word among those known that a misspelt one probably stands for; `least` is how like it must be, 1 for the same."""
    return next(iter(difflib.get_close_matches(str(word), sorted(map(str, known)), n=1, cutoff=least)), None)


def strict(target):
    """Decorate a public function, method or class: a call that fails otherwise than by our own errors raises `InputError` if its arguments
    are to blame, naming an unknown keyword with the nearest one, a missing one, or the argument that is not what its annotation says; and
    if memory was too little."""
    call = target.__init__ if inspect.isclass(target) else target
    signature = inspect.signature(call)

    @functools.wraps(call)
    def checked(*args, **kwargs):
        try:
            return call(*args, **kwargs)
        except (InputError, NotConverged):
            raise
        except Exception as error:
            _blame(target.__qualname__, signature, args, kwargs)
            if (lack := lack_of_memory(error)) is not None:
                raise InputError(f"`{target.__qualname__}` {lack}") from None
            raise

    if inspect.isclass(target):
        target.__init__ = checked
        return target
    return checked


def _blame(name, signature, args, kwargs):
    """Raise `InputError` if these arguments are none that a function of this name and signature takes."""
    names = [n for n in signature.parameters if n not in ("self", "cls")]
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values())
    for word in () if open_ended else kwargs:
        require(word in names, word, f"is not a keyword of {name}", kwargs[word], nearest(word, names))
    try:
        given = signature.bind(*args, **kwargs).arguments
    except TypeError as error:
        raise InputError(f"`{name}` cannot be called so: {error}. It takes ({', '.join(names)}).") from None
    for word, value in given.items():
        parameter = signature.parameters[word]
        kind = kind_of(parameter.annotation) if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) else None
        fits = kind is None or value is parameter.default or kind.holds(value)
        require(fits, word, f"must be {kind and kind.words}", value, f"See help({name}).")


def _short(value):
    try:
        text = " ".join(repr(value).split())
    except Exception:  # of an object of the user's
        text = f"a {type(value).__name__}"
    return text if len(text) <= 120 else text[:117] + "..."
