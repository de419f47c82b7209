"""What a TOML experiment may hold: sections and keys, taken from the signatures of what they are passed to, and where each stands."""

import inspect
import re
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

import rlctrl as rc
from rlctrl.errors import meant, nearest
from rlctrl.kinds import is_numeric
from rlctrl.refusals import numbered

METHODS = {"GridDP": rc.GridDP, "HJB": rc.HJB, "OpenLoop": rc.OpenLoop, "Riccati": rc.Riccati, "Spectral": rc.Spectral}
SHORT = {"GridDP": "dp", "HJB": "hjb", "Spectral": "spectral"}  # names of their policies; OpenLoop's takes too long to follow
NOT_IN_FILES = ("start", "checkpoint")  # keywords of methods: a Python object, and what `--resume` looks after
POLICIES = ("reference", "lqr", "lqr_clipped", "actor")  # that training may follow
TAKEN = (*POLICIES, "mpc", "critic", *SHORT.values())  # names of a run's own policies


def keywords(function, *without) -> list[str]:
    """Keywords of a function or class, but for some."""
    return [k for k in inspect.signature(function).parameters if k not in ("self", *without)]


SECTIONS: dict[str, list[str]] = {
    "problem": ["reward", "Q", "R", "N", "target", "exit_value", *keywords(rc.Problem, "plant", "reward", "target", "exit_value")],
    "reference": ["method"],
    "also": ["method"],
    "baseline": ["x", "u"],
    "mpc": ["terminal", *keywords(rc.MPC, "problem", "terminal")],
    "policies": [],  # any name
    "critic": keywords(rc.Critic),
    "actor": keywords(rc.Actor),
    "training": ["policy", "steps", *keywords(rc.ReplayTD)],
    "decomposition": keywords(rc.decompose, "run", "reference", "seed", "progress"),
    "comparison": ["x0", "policies", *keywords(rc.compare, "problem", "policies", "x0", "seed")],
}
LISTS = ("also",)  # sections written [[also]], as often as one likes
FREE = ("plant", "reference", "policies")  # sections whose keys depend on what they say
TOP = ("name", "seed", "plant", *SECTIONS)
NEEDED = {"plant": ("name", "file"), "problem": ("gamma",), "reference": ("method",)}  # one of these


def _states(given, file):
    """How many states a linear plant has: as many as most of its matrices and of those of its problem have rows; 2 if there are none."""
    problem = file.table.get("problem") or {}
    matrices = [*(problem.get(key) for key in ("Q", "N")), *(given.get(key) for key in ("A", "B", "F", "c"))]
    rows = Counter(len(np.atleast_1d(np.asarray(m, float))) for m in matrices if m is not None and is_numeric(m))
    return rows.most_common(1)[0][0] if rows else 2


def _inputs(given, file):
    """How many inputs a linear plant has, from the B it states, else from what its problem says of them."""
    problem = file.table.get("problem") or {}
    matrices = [np.asarray(m, float) for m in (given.get("B"), problem.get("N")) if m is not None and is_numeric(m)]
    wide = next((m.shape[1] for m in matrices if m.ndim == 2 and m.size), 0)
    named = [int(k) for k in re.findall(r"\bu(\d)\b", str(problem.get("reward")))]
    weighed = len(np.atleast_1d(problem["R"])) if "R" in problem and is_numeric(problem["R"]) else 0
    return wide or weighed or max(named, default=1)


NOTHING = lambda x, u: 0  # a reward
# (section, key) → what cannot be wrong there, from the values beside it and the file (`Problems`): where the default would not fit those.
STAND_INS: dict[tuple[str, str], Callable] = {
    ("plant", "name"): lambda given, _: likely_plant(given),
    ("plant", "A"): lambda given, file: np.eye(_states(given, file)),
    ("plant", "B"): lambda given, file: np.ones((_states(given, file), _inputs(given, file))),
    ("problem", "gamma"): lambda *_: 0.9,
    ("problem", "dt"): lambda *_: 0.1,
    ("problem", "exit"): lambda *_: "absorb",
    ("problem", "target"): lambda *_: "1",
    ("problem", "reward"): lambda *_: NOTHING,
    ("problem", "Q"): lambda _, file: [1.0] * file.plant.n,
    ("problem", "R"): lambda _, file: [1.0] * file.plant.m,
    **{(section, "shape"): lambda _, file: [33] * (file.plant.n if file.plant else 1) for section in ("reference", "also")},
    ("actor", "kind"): lambda *_: "clipped",
    ("training", "memory"): lambda *_: 10**6,
    ("training", "batch"): lambda *_: 64,
    ("training", "gradient"): lambda *_: "semi",
}


def check(table, problems) -> dict:
    """Note every unknown key and missing section of a table. Returns what can be checked further: sections that are whole, with what a
    misspelt key was probably meant to be."""
    table = {key: _checked(key, value, problems) for key, value in _known("", table, TOP, problems).items()}
    for section, needed in NEEDED.items():
        given: Any = table.get(section) or {}
        if not any(k in given for k in needed):
            problems.add(f"`[{section}] {needed[0]}` must be given.", section)
            filled = {"gamma": STAND_INS["problem", "gamma"]()} if given and section == "problem" else {}
            table[section] = filled | given or None
    methods = {place: _method(place, values, problems) for place, values in references(table)}
    table |= {"reference": methods.pop("reference", None), "also": list(methods.values())}
    return {key: value for key, value in table.items() if value is not None}


def _checked(key, value, problems):
    """A section with the keys that may stand there; None if it is no section."""
    if key in ("name", "seed"):
        return value
    if key in LISTS:
        if isinstance(value, list) and all(isinstance(v, dict) for v in value):
            return [_headed(numbered(key, k), v, problems) for k, v in enumerate(value)]
        problems.add(f"`{key}` must be sections [[{key}]]; got {value!r}.", "", key)
        return None
    if not isinstance(value, dict):
        problems.add(f"`{key}` must be a section [{key}]; got {value!r}.", key)
        return None
    value = _headed(key, value, problems) if key in ("plant", "reference") else value
    for word in value.keys() & TAKEN if key == "policies" else ():
        problems.add(f"`[policies] {word}` must have another name: a run has a policy of its own that is called so. Rename it.", key, word)
    known = _plant_keywords(value) if key == "plant" else None if key in FREE else SECTIONS[key]
    return value if known is None else _known(key, value, known, problems)


def _headed(place, values, problems):
    """A section with the key that says which keys it may have, where that is misspelt."""
    heads, others = NEEDED.get(place, ("method",)), {key for method in METHODS.values() for key in keywords(method)}
    word = None if any(k in values for k in heads) else meant(heads[0], [k for k in values if place == "plant" or k not in others])
    return values if word is None else _known(place, values, [heads[0], *(k for k in values if k != word)], problems)


def _known(section, values, known, problems):
    """The values under known keys; others are noted, and read as what was probably meant."""
    found = {word: value for word, value in values.items() if word in known}
    for word, value in values.items():
        if word in known:
            continue
        if section:
            problems.add(f"`[{section.split()[0]}] {word}` is not known there. {nearest(word, known)}", section, word)
        else:
            heading = word if isinstance(value, dict | list) else ""
            sentence = f"`{word}` is not a key or section of an experiment. {nearest(word, known)}"
            problems.add(sentence, heading, "" if heading else word)
        close = meant(word, known)
        if close and close not in values:
            problems.rename(section, word, close)
            found[close] = value
    return found


def _plant_keywords(values):
    """Keys that [plant] may have, if it names a plant of the library, or probably meant to."""
    name = None if "file" in values else likely_plant(values)
    return name and ["name", *keywords(import_module("plants").PLANTS[name])]


def likely_plant(values) -> str | None:
    """The plant that [plant] names or, if the rest fits one of nearly that name, probably meant."""
    plants, name = import_module("plants").PLANTS, values.get("name")
    word = None if not isinstance(name, str) else name if name in plants else meant(name, plants)
    return word if word and (word == name or all(meant(key, ["name", *keywords(plants[word])]) for key in values)) else None


def _likely_method(values) -> str | None:
    """The method that a section names or, from its name or else its other keys, probably meant."""
    name = values.get("method")
    if isinstance(name, str) and name in METHODS:
        return name
    rest = [key for key in values if key != "method"]
    known = {word: keywords(method) for word, method in METHODS.items() if rest}
    near = [word for least in (1.0, 0.8, 0.5) for word in known if all(meant(key, known[word], least) for key in rest)]
    return (meant(name, METHODS) if isinstance(name, str) else None) or next(iter(near), None)


def references(table) -> list[tuple[str, dict]]:
    """(place, values) of [reference] and of every [[also]]: also, also 2, …"""
    first, rest = table.get("reference"), table.get("also", [])
    pairs = [("reference", first), *((numbered("also", k), v) for k, v in enumerate(rest if isinstance(rest, list) else []))]
    return [(place, dict(values)) for place, values in pairs if isinstance(values, dict)]


def _method(place, values, problems):
    """The values of a method under known keys, with the method probably meant if it is none; None if that is unclear."""
    name, section, likely = values.get("method"), place.split()[0], _likely_method(values)
    if section == "also" and "method" not in values:
        problems.add("`[[also]] method` must be given.", place)
    elif (name is not None and name != likely) or not isinstance(name, str | None):
        sentence = f"`[{section}] method` must be one of {tuple(METHODS)}; got {name!r}. {nearest(name, METHODS)}"
        problems.add(sentence, place, "method")
    if likely is None:
        return None
    return _known(place, values | {"method": likely}, ["method", *keywords(METHODS[likely], *NOT_IN_FILES)], problems)
