"""Which of a problem's functions is no finite number somewhere, and where: asked only after something has failed."""

import numpy as np

from rlctrl.errors import FARTHEST

WAY_OUT = "Mend the expression, or move the box of the states and the inputs' bounds to where it is defined."
WITHIN = "Mend the expression, move the box or lower `margin`, or move the inputs' bounds, to where it is defined."
ROWS = 200_000  # most pairs of a state and an input looked at together


def undefined(problem, x, *inputs, way_out=WAY_OUT) -> str | None:
    """A sentence naming the first function of a problem that is no finite number at states x (S, n) with inputs (A, m), or (S, A, m) for
    A of their own each, the value and the way out; None if there is none. States from which numbers overflow are passed over."""
    x = np.asarray(x, float)
    for u in inputs:
        step = max(1, ROWS // np.shape(u)[-2])
        for start in range(0, len(x), step):
            part = u if np.ndim(u) == 2 else u[start : start + step]
            sentence = next((s for s in map(_sentence, _odd(problem, x[start : start + step], np.asarray(part, float))) if s), None)
            if sentence:
                return f"{sentence} {way_out}"
    return None


def no_input(x, u) -> str | None:
    """A sentence naming the first of the states x (S, n) at which a policy gave an input u (S, m) that is no finite number, and the way
    out; None if there is none. States from which numbers overflow are passed over."""
    sound = np.all(np.abs(x) <= FARTHEST, 1)  # not of NaN
    odd = np.flatnonzero(sound & ~np.all(np.isfinite(u), 1))
    if not len(odd):
        return None
    at, given = _short(x[odd[0]]), _short(u[odd[0]])
    return f"`policy` gives no finite input at x = {at}: it gives {given}. Mend it, or keep the states away from there."


def _odd(problem, x, u):
    """(name, values, where, whether they count) of every function in turn; `where` are the arguments, by name."""
    kernel, plant = problem.kernel, problem.plant
    x, u = (np.broadcast_to(a, (len(x), np.shape(u)[-2], a.shape[-1])).reshape(-1, a.shape[-1]) for a in (x[:, None], u))
    sound = np.all(np.abs(np.concatenate([x, u], 1)) <= FARTHEST, 1)  # not of NaN
    x, u = x[sound], u[sound]
    if not len(x):
        return
    here = {"x": x, "u": u}
    yield "`reward`", kernel.reward_function(x, u, kernel.p), here, True
    if plant.drift is not None:
        yield "`drift`", problem.generator.drift(x, u), here, True
        yield "`diffusion`", problem.generator.diffusion(x, u), here, True
    if kernel.target_function is not None:
        yield "`target`", kernel.target_function(x, kernel.p), {"x": x}, True
    name = "`update`" if plant.drift is None else "`drift` within a step of `dt`"
    for w in plant.law.quadrature(3)[0]:
        following = kernel.constrained(kernel.wrap(kernel.update(x, u, w, kernel.p)))
        yield name, following, here | {"w": np.broadcast_to(w, (len(x), len(w)))}, True
        if kernel.can_end:
            yield "`exit_value`", kernel.exit_value(following), {"x": np.asarray(following)}, np.asarray(kernel.ended(following))


def _sentence(found):
    name, values, where, counts = found
    values = np.asarray(values).reshape(len(where["x"]), -1)
    odd = np.flatnonzero(~np.all(np.isfinite(values), 1) & counts)
    if not len(odd):
        return None
    at = ", ".join(f"{word} = {_short(points[odd[0]])}" for word, points in where.items() if points.shape[1])
    return f"{name} is no finite number at {at}: it gives {_short(values[odd[0]])}."


def _short(values):
    numbers = [float(f"{v:.6g}") for v in values]
    return numbers if len(numbers) > 1 else numbers[0]
