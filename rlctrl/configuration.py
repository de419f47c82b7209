"""A TOML file → a checked `Experiment`: everything wrong with it is listed at once, with its line and the nearest valid name."""

import inspect
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

import rlctrl as rc
from rlctrl.errors import InputError, first_line, nearest, require, require_number, require_numbers, require_whole
from rlctrl.interop.expression import expression, formula_policy
from rlctrl.kinds import is_numeric
from rlctrl.own_plant import function_of
from rlctrl.refusals import Problems
from rlctrl.schema import METHODS, NOTHING, POLICIES, SHORT, STAND_INS, check, references

TERMINALS = ("lqr", "none")
REWARDS = ("reward", "Q", "R", "N")


@dataclass(frozen=True)
class Experiment:
    """A checked experiment: the problem, the method of its reference, the `others` that `solve` sets beside it, and keyword dictionaries
    for each stage. `text` is the file as it was read; `formulas` are the user's own policies {name: function}; `compared` names the
    policies to compare (None: all there are); `description` is what the plant says of itself."""

    name: str
    seed: int
    problem: Any
    method: Any
    others: tuple
    about: tuple
    critic: Any
    actor: Any
    scheme: Any
    policy: str
    steps: int
    mpc: dict | None = None
    formulas: dict = field(default_factory=dict)
    compared: tuple | None = None
    decomposition: dict = field(default_factory=dict)
    comparison: dict = field(default_factory=dict)
    text: str = ""
    asked: dict = field(default_factory=dict)
    description: str = ""


def load(path) -> Experiment:
    """Read and check a TOML file. Raises `InputError` listing everything wrong, one problem a line."""
    path = Path(path)
    require(path.is_file(), "FILE", "must be a TOML file", str(path), "Start from examples/pendulum.toml, or from `rlctrl new NAME`.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"`{path}` must be valid TOML; {error}. Mend that line.") from None
    return build(table, path.stem, text, path.parent)


def build(table, default_name, text="", folder=Path()) -> Experiment:
    """Check the table of an experiment and construct its parts; files it names are sought in `folder`."""
    problems = Problems(text, STAND_INS)
    problems.table = sections = check(table, problems)
    part = lambda name: dict(sections.get(name, {}))
    training, comparison = part("training"), part("comparison")
    policy, steps, compared = training.pop("policy", "reference"), training.pop("steps", 20_000), comparison.pop("policies", None)
    attempt = problems.attempt
    asked = part("plant")
    own = "file" in asked  # what its keys mean only that file knows: nothing is exchanged and tried again
    made = attempt("plant", _own_plant, folder, asked) if own else attempt("plant", _listed_plant, values=asked) if asked else None
    plant, description = made or (None, "")
    problems.plant = plant
    actor = attempt("actor", construct, "actor", rc.Actor, values=part("actor")) if policy == "actor" or "actor" in sections else None
    formulas = tuple(part("policies"))
    named = ["reference", "lqr", "lqr_clipped", "critic", *SHORT.values(), *formulas, *(s for s in ("mpc", "actor") if s in sections)]
    found: dict[str, Any] = {
        "name": attempt("", _name, sections.get("name", default_name)),
        "seed": attempt("", _seed, sections.get("seed", 0)),
        "problem": _checked_problem(problems, plant, part("problem")) if "problem" in sections else None,
        "critic": attempt("critic", construct, "critic", rc.Critic, values=part("critic")),
        "scheme": attempt("training", construct, "training", rc.ReplayTD, values=training),
        "policy": attempt("training", _policy, policy, "actor" in sections, formulas),
        "steps": attempt("training", _whole, "[training] steps", steps, 2),
        "actor": actor if policy == "actor" else None,
        "mpc": attempt("mpc", _mpc, plant, values=part("mpc")) if "mpc" in sections else None,
        "compared": attempt("comparison", _compared, compared, named),
        "decomposition": attempt("decomposition", _bounded, "decomposition", values=part("decomposition")),
        "comparison": attempt("comparison", _comparison, plant, values=comparison),
    }
    methods = [attempt(place, _method, place.split()[0], plant, values=values) for place, values in references(sections)]
    if plant:
        found["about"] = attempt("baseline", _about, plant, values=part("baseline"))
        found["formulas"] = attempt("policies", _formulas, plant, values=part("policies")) or {}
    problems.raise_any()
    return Experiment(method=methods[0], others=tuple(methods[1:]), text=text, asked=table, description=description, **found)


def construct(section, kind: Callable, values):
    """kind(**values), with errors that name the section of the file."""
    try:
        return kind(**values)
    except InputError as error:
        raise InputError(f"[{section}] {error}") from None
    except (TypeError, ValueError, OverflowError) as error:
        found = " ".join(f"{k} = {v!r}" for k, v in values.items())[:200]
        raise InputError(f"`[{section}]` has a value of the wrong kind: {first_line(error)}. Got {found}; compare the examples.") from None


def _name(name):
    plain = isinstance(name, str) and re.fullmatch(r"[\w][\w .-]{0,99}", name) is not None
    require(plain, "name", "must be letters, digits, spaces, dots, dashes or underscores", name, "It names the folder of the run.")
    return name


def _seed(seed):
    return _whole("seed", seed, 0)


def _whole(argument, value, least):
    require_whole(argument, value, least, f"Use {least} or more.")
    return value


def _policy(policy, with_actor, formulas):
    known = (*POLICIES, *formulas)
    require(policy in known, "[training] policy", f"must be one of {known}", policy, nearest(policy, known))
    learns = policy == "actor" or not with_actor
    require(learns, "[actor]", 'is for `[training] policy = "actor"`', policy, "Say so there, or leave the section out.")
    return policy


def _method(section, plant, values):
    method = construct(section, METHODS[values.pop("method")], values)
    shape = getattr(method, "shape", None)
    fits = plant is None or shape is None or len(shape) == plant.n
    require(fits, f"[{section}] shape", f"needs one entry per state ({plant and plant.n})", shape, "Give nodes per state.")
    return method


def _own_plant(folder, values):
    """The plant that a function in a file of the user's makes."""
    stated = {key: values.pop(key) for key in ("file", "name") if key in values}
    return _made(construct("plant", partial(function_of, folder), stated), values)


def _listed_plant(values):
    """A plant of the library."""
    plants, name = import_module("plants").PLANTS, values.pop("name", None)
    require(isinstance(name, str) and name in plants, "[plant] name", "must be one of the plants", name, nearest(name, plants))
    return _made(plants[name], values)


def _made(make, values):
    """The plant, and what the function that makes it says of it."""
    plant = construct("plant", make, values)
    require(isinstance(plant, rc.Plant), "[plant] name", "must be a function that returns an rc.Plant", type(plant).__name__, "See README.")
    return plant, inspect.getdoc(make) or ""


def _checked_problem(problems, plant, values):
    """The problem; without its plant, what can be said of it without."""
    rewards = {k: values.pop(k) for k in REWARDS if k in values}
    if plant is None:
        values = {"dt": 0.1} | {k: v for k, v in values.items() if k not in ("target", "exit_value")}
        return problems.attempt("problem", _problem, import_module("plants").linear(), values={**values, "reward": NOTHING})
    reward = problems.attempt("problem", _reward, plant, values=rewards) or NOTHING
    return problems.attempt("problem", _problem, plant, values={**values, "reward": reward})


def _reward(plant, values):
    """The reward as a function, from a formula or from weights."""
    weights = {k: v for k, v in values.items() if k != "reward"}
    one = set(weights) in ({"Q", "R"}, {"Q", "R", "N"}) if "reward" not in values else not weights
    require(one, "[problem] reward", "as a formula, or `Q` and `R`: exactly one must be given", values, "Give one of them.")
    if "reward" in values:
        return expression(values["reward"], "[problem] reward", plant)
    for key, size in (("Q", plant.n), ("R", plant.m)):
        fits = not is_numeric(weights[key]) or len(np.atleast_1d(weights[key])) == size
        require(fits, f"[problem] {key}", f"must have {size} entries or rows", weights[key], "Give one per state in Q, per input in R.")
    return construct("problem", rc.quadratic, weights)


def _problem(plant, values):
    for name in ("target", "exit_value"):
        if name in values:
            of_state = expression(values[name], f"[problem] {name}", plant, inputs=False)
            values[name] = lambda x, p, of_state=of_state: of_state(x, None, p)
    return construct("problem", lambda **v: rc.Problem(plant, **v), values)


def _formulas(plant, values):
    return {name: formula_policy(text, f"[policies] {name}", plant) for name, text in values.items()}


def _mpc(plant, values):
    require(values.setdefault("terminal", "lqr") in TERMINALS, "[mpc] terminal", f"must be one of {TERMINALS}", values["terminal"], "")
    _whole("[mpc] horizon", values.setdefault("horizon", 20), 1)
    require_number("[mpc] tolerance", values.setdefault("tolerance", 1e-6), "must lie in [1e-12, 0.1]", "Use 1e-6.", 1e-12, 0.1)
    finite = [s.name for s in plant.inputs if s.values] if plant else []
    require(not finite, "[mpc]", "is not for inputs with finitely many values", finite, "Leave the section out.")
    return values


def _compared(names, known):
    good = names is None or (isinstance(names, list) and names and all(isinstance(n, str) for n in names))
    require(good, "[comparison] policies", "must be a list of names", names, 'Write policies = ["lqr", "critic"].')
    odd = [name for name in names or () if name not in known]
    require(not odd, "[comparison] policies", f"must be among {tuple(known)}", odd, nearest(odd[0] if odd else "", known))
    return None if names is None else tuple(names)


def _comparison(plant, values):
    if plant:
        values["x0"] = _states(plant, values.get("x0"))
    if "band" in values:
        require_number("[comparison] band", values["band"], "must lie in (0, 1]", "Use 0.05.", 1e-9, 1)
    if "rest" in values and plant:
        rest = require_numbers("[comparison] rest", values["rest"])
        fits = rest.shape == (plant.n,) and bool(np.all(np.isfinite(rest)))
        require(fits, "[comparison] rest", f"must be a state of {plant.n} numbers", values["rest"], "Leave it out for the origin.")
    return _bounded("comparison", values)


CHOICES = {"measure": ("uniform", "visited"), "omega_star": ("best", "nearest"), "norm": ("mean", "sup")}
WHOLE = {"comparison": {"steps": 1, "paths": 1}, "decomposition": {"points": 2, "starts": 0, "iterations": 1}}


def _bounded(section, values):
    """Numbers that a later stage would refuse are refused before the first."""
    for key, least in WHOLE[section].items():
        if key in values:
            _whole(f"[{section}] {key}", values[key], least)
    for key in CHOICES.keys() & values.keys():
        known, value = CHOICES[key], values[key]
        fits = (isinstance(value, str) and value in known) or (key == "measure" and isinstance(value, list))
        require(fits, f"[{section}] {key}", f"must be one of {known}", value, nearest(value, known))
    return values


def _states(plant, given):
    """Initial states (batch, n); by default half way to each upper bound."""
    if given is None:
        given = [[0.5 * s.high if np.isfinite(s.high) else 1.0 for s in plant.states]]
    x0 = np.atleast_2d(require_numbers("[comparison] x0", given))
    fits = x0.ndim == 2 and x0.size and x0.shape[1] == plant.n and bool(np.all(np.isfinite(x0)))
    require(fits, "[comparison] x0", f"must list finite states of {plant.n} numbers", given, "Write [[1.0, 0.0]].")
    return x0


def _about(plant, values):
    """Point at which the LQR baseline linearises; the origin unless stated."""
    sizes = {"x": plant.n, "u": plant.m}
    for name, size in sizes.items():
        values.setdefault(name, [0.0] * size)
        given = values[name] if isinstance(values[name], list) else []
        fits = len(given) == size and all(isinstance(v, int | float) and np.isfinite(v) for v in given)
        require(fits, f"[baseline] {name}", f"must list {size} numbers", values[name], "Give the operating point of the LQR.")
    return values["x"], values["u"]
