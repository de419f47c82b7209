"""A TOML file → a checked `Experiment`: every wrong key is listed at once, with the nearest valid name."""

import inspect
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

import rlctrl as rc
from rlctrl.errors import InputError, first_line, nearest, require, require_whole
from rlctrl.interop.expression import expression

METHODS = {"GridDP": rc.GridDP, "HJB": rc.HJB, "OpenLoop": rc.OpenLoop, "Riccati": rc.Riccati, "Spectral": rc.Spectral}
NOT_IN_FILES = ("start",)  # keywords of methods whose values are Python objects
POLICIES = ("reference", "lqr", "lqr_clipped", "actor")


def _keywords(function, *without):
    return [k for k in inspect.signature(function).parameters if k not in ("self", *without)]


SECTIONS: dict[str, list[str]] = {
    "problem": ["reward", "Q", "R", "N", "target", "exit_value", *_keywords(rc.Problem, "plant", "reward", "target", "exit_value")],
    "reference": ["method"],
    "also": ["method"],
    "baseline": ["x", "u"],
    "critic": _keywords(rc.Critic),
    "actor": _keywords(rc.Actor),
    "training": ["policy", "steps", *_keywords(rc.ReplayTD)],
    "decomposition": _keywords(rc.decompose, "run", "reference", "seed", "progress"),
    "comparison": ["x0", *_keywords(rc.compare, "problem", "policies", "x0", "seed")],
}
LISTS = ("also",)  # sections written [[also]], as often as one likes
TOP = ("name", "seed", "plant", *SECTIONS)


@dataclass(frozen=True)
class Experiment:
    """A checked experiment: the problem, the method of its reference, the `others` that `solve` sets beside it, and keyword dictionaries
    for each stage. `asked`: the file itself; `description`: what the plant says of itself."""

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
    decomposition: dict = field(default_factory=dict)
    comparison: dict = field(default_factory=dict)
    asked: dict = field(default_factory=dict)
    description: str = ""


def load(path) -> Experiment:
    """Read and check a TOML file. Raises `InputError` listing every wrong key with the nearest valid name."""
    path = Path(path)
    require(path.is_file(), "FILE", "must be a TOML file", str(path), "Start from examples/pendulum.toml.")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"`{path}` must be valid TOML; {error}. Mend that line.") from None
    return build(table, path.stem)


def build(table, default_name) -> Experiment:
    """Check the table of an experiment and construct its parts."""
    _check_keys(table)
    sections = {name: dict(table.get(name, {})) for name in ("plant", *SECTIONS) if name not in LISTS}
    plant = _plant(sections["plant"])
    problem = _problem(plant, sections["problem"])
    method, *others = (_method(section, values) for section, values in _references(table))
    training = sections["training"]
    policy, steps = training.pop("policy", "reference"), training.pop("steps", 20_000)
    require(policy in POLICIES, "[training] policy", f"must be one of {POLICIES}", policy, nearest(policy, POLICIES))
    learns = policy == "actor" or not sections["actor"]
    require(learns, "[actor]", 'is for `[training] policy = "actor"`', policy, "Say so there, or leave the section out.")
    comparison = sections["comparison"]
    comparison["x0"] = _states(plant, comparison.get("x0"))
    seed, name = table.get("seed", 0), table.get("name", default_name)
    require_whole("seed", seed, 0, "Use 0.")
    plain = isinstance(name, str) and re.fullmatch(r"[\w][\w .-]{0,99}", name) is not None
    require(plain, "name", "must be letters, digits, spaces, dots, dashes or underscores", name, "It names the folder of the run.")
    return Experiment(
        name=name,
        seed=seed,
        problem=problem,
        method=method,
        others=tuple(others),
        about=_about(plant, sections["baseline"]),
        critic=construct("critic", rc.Critic, sections["critic"]),
        actor=construct("actor", rc.Actor, sections["actor"]) if policy == "actor" else None,
        scheme=construct("training", rc.ReplayTD, training),
        policy=policy,
        steps=steps,
        decomposition=sections["decomposition"],
        comparison=comparison,
        asked=table,
        description=inspect.getdoc(import_module("plants").PLANTS[table["plant"]["name"]]) or "",
    )


def asked(experiment) -> dict:
    """What was asked, for the summary: signals with units, the file as it was, and the settings of the parts with their defaults."""
    plant = experiment.problem.plant
    return {
        "description": experiment.description,
        "source": plant.source,
        "states": [_settings(s) for s in plant.states],
        "inputs": [_settings(s) for s in plant.inputs],
        "file": {section: values for section, values in experiment.asked.items() if section != "seed"},  # another may have been given
        "reference": {"method": type(experiment.method).__name__, **_settings(experiment.method)},
        "critic": _settings(experiment.critic),
        "training": {"steps": experiment.steps, "policy": experiment.policy, **_settings(experiment.scheme)},
        "actor": _settings(experiment.actor) if experiment.actor else {},
    }


def _settings(record):
    """The fields of a record that a file can state."""
    plain = (str, int, float, list, tuple)
    return {f.name: value for f in fields(record) if isinstance(value := getattr(record, f.name), plain)}


def _check_keys(table):
    """All misspelt keys and missing sections at once."""
    wrong = []
    for key, value in table.items():
        if key not in TOP:
            wrong.append(f"`{key}` is not a key or section of an experiment. {nearest(key, TOP)}")
        elif key in LISTS and not (isinstance(value, list) and all(isinstance(v, dict) for v in value)):
            wrong.append(f"`{key}` must be sections [[{key}]]; got {value!r}.")
        elif key in LISTS:
            continue
        elif key not in ("name", "seed") and not isinstance(value, dict):
            wrong.append(f"`{key}` must be a section [{key}]; got {value!r}.")
        elif key in SECTIONS and key != "reference":
            known = SECTIONS[key]
            wrong += [f"`[{key}] {word}` is not known there. {nearest(word, known)}" for word in value if word not in known]
        else:
            wrong += _wrong_plant_keys(value) if key == "plant" else []
    for section, needed in (("plant", "name"), ("problem", "gamma"), ("reference", "method")):
        given = table.get(section)
        if not isinstance(given, dict) or needed not in given:
            wrong.append(f"`[{section}] {needed}` must be given.")
    for section, values in _references(table):
        wrong += _wrong_method_keys(section, values)
    if wrong:
        raise InputError(" ".join(wrong))


def _wrong_plant_keys(values):
    plants = import_module("plants").PLANTS
    name = values.get("name")
    if not isinstance(name, str) or name not in plants:
        return []  # said later, with the nearest plant
    known = _keywords(plants[name])
    return [f"`[plant] {word}` is not a parameter of {name}. {nearest(word, known)}" for word in values if word not in ("name", *known)]


def _references(table):
    """(name of the section, its values) for [reference] and every [[also]]."""
    first, rest = table.get("reference"), table.get("also", [])
    pairs = [("reference", first), *(("also", v) for v in (rest if isinstance(rest, list) else []))]
    return [(section, dict(values)) for section, values in pairs if isinstance(values, dict)]


def _wrong_method_keys(section, values):
    name = values.get("method")
    if section == "also" and "method" not in values:
        return ["`[[also]] method` must be given."]
    if name is None:
        return []  # said with the other missing keys
    if not (isinstance(name, str) and name in METHODS):
        return [f"`[{section}] method` must be one of {tuple(METHODS)}; got {name!r}. {nearest(name, METHODS)}"]
    known = ["method", *_keywords(METHODS[name], *NOT_IN_FILES)]
    return [f"`[{section}] {word}` is not known there. {nearest(word, known)}" for word in values if word not in known]


def _method(section, values):
    return construct(section, METHODS[values.pop("method")], values)


def construct(section, kind: Callable, values):
    """kind(**values), with errors that name the section of the file."""
    try:
        return kind(**values)
    except InputError as error:
        raise InputError(f"[{section}] {error}") from None
    except (TypeError, ValueError, OverflowError) as error:
        found = " ".join(f"{k} = {v!r}" for k, v in values.items())[:200]
        raise InputError(f"`[{section}]` has a value of the wrong kind: {first_line(error)}. Got {found}; compare the examples.") from None


def _plant(values):
    name = values.pop("name")
    plants = import_module("plants")
    return construct("plant", lambda **v: plants.get(name, **v), values)


def _problem(plant, values):
    formulas = {k: values.pop(k) for k in ("reward", "target", "exit_value") if k in values}
    weights = {k: values.pop(k) for k in ("Q", "R", "N") if k in values}
    one = set(weights) in ({"Q", "R"}, {"Q", "R", "N"}) if "reward" not in formulas else not weights
    require(
        one, "[problem] reward", "as a formula, or `Q` and `R`: exactly one must be given", {**formulas, **weights}, "Give one of them."
    )
    reward = (
        expression(formulas["reward"], "[problem] reward", plant) if "reward" in formulas else construct("problem", rc.quadratic, weights)
    )
    for name in ("target", "exit_value"):
        if name in formulas:
            of_state = expression(formulas[name], f"[problem] {name}", plant, inputs=False)
            values[name] = lambda x, p, of_state=of_state: of_state(x, None, p)
    return construct("problem", lambda **v: rc.Problem(plant, reward, **v), values)


def _states(plant, given):
    """Initial states (batch, n); by default half way to each upper bound."""
    if given is None:
        given = [[0.5 * s.high if np.isfinite(s.high) else 1.0 for s in plant.states]]
    x0 = construct("comparison", lambda x0: np.atleast_2d(np.asarray(x0, float)), {"x0": given})
    fits = x0.ndim == 2 and x0.shape[1] == plant.n
    require(fits, "[comparison] x0", f"must list states of {plant.n} numbers", given, "Write [[1.0, 0.0]].")
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
