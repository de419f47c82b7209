"""What a TOML experiment may hold: sections and keys, taken from the signatures of what they are passed to, and where each stands."""

import inspect
import re
from importlib import import_module

import rlctrl as rc
from rlctrl.errors import InputError, nearest

METHODS = {"GridDP": rc.GridDP, "HJB": rc.HJB, "OpenLoop": rc.OpenLoop, "Riccati": rc.Riccati, "Spectral": rc.Spectral}
SHORT = {"GridDP": "dp", "HJB": "hjb", "Spectral": "spectral"}  # names of their policies; OpenLoop's takes too long to follow
NOT_IN_FILES = ("start",)  # keywords of methods whose values are Python objects
POLICIES = ("reference", "lqr", "lqr_clipped", "actor")  # that training may follow


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


class Problems:
    """Everything wrong with a file, collected so that it can be said at once, each with its line."""

    def __init__(self, text=""):
        self._lines, self._found = places(text), []

    def add(self, sentence, section="", key=""):
        """Note a problem with `[section] key`, or with a section, or with a key at the top."""
        line = self._lines.get((section, key)) or self._lines.get((section, ""))
        self._found.append((line or 0, f"line {line}: {sentence}" if line else sentence))

    def attempt(self, section, function, *arguments):
        """function(*arguments); None if it refuses, which is noted."""
        try:
            return function(*arguments)
        except InputError as error:
            named = re.match(r"`(?:\[\w+\] )?(\w+)`", str(error).removeprefix(f"[{section}] "))
            self.add(str(error), section, named[1] if named else "")
            return None

    def raise_any(self):
        """Raise `InputError` with all of them, one a line, in the order of the file."""
        if self._found:
            raise InputError("\n".join(sentence for _, sentence in sorted(self._found, key=lambda found: found[0])))


def places(text) -> dict[tuple[str, str], int]:
    """{(section, key): line}, of the first occurrence, for a file that is valid TOML; (section, "") for a section's heading."""
    found: dict[tuple[str, str], int] = {}
    section, depth, quote = "", 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        if not depth and not quote:
            heading = re.match(r"\s*\[\[?\s*([\w\"'.-]+)\s*\]", line)
            key = re.match(r"\s*[\"']?([\w.-]+)[\"']?\s*=", line)
            section = heading[1].strip("\"'") if heading else section
            found.setdefault((section, key[1] if key and not heading else ""), number) if heading or key else None
            line = "" if heading else line
        depth, quote = _after(line, depth, quote)
    return found


def _after(line, depth, quote):
    """Depth of brackets and the open multi-line quote after a line."""
    for token in re.findall(r"\"\"\"|'''|\"(?:\\.|[^\"\\])*\"|'[^']*'|#.*|[\[\]{}]", line):
        if token in ('"""', "'''"):
            quote = "" if quote == token else quote or token
        elif not quote and token in "[{":
            depth += 1
        elif not quote and token in "]}":
            depth -= 1
        elif token.startswith("#") and not quote:
            break
    return depth, quote


def check(table, problems) -> None:
    """Note every unknown key and missing section of a table."""
    for key, value in table.items():
        _check_entry(key, value, problems)
    for section, needed in NEEDED.items():
        given = table.get(section)
        if not isinstance(given, dict) or not any(k in given for k in needed):
            problems.add(f"`[{section}] {needed[0]}` must be given.", section)
    for section, values in references(table):
        _check_method(section, values, problems)


def _check_entry(key, value, problems):
    if key not in TOP:
        section = key if isinstance(value, dict | list) else ""
        problems.add(f"`{key}` is not a key or section of an experiment. {nearest(key, TOP)}", section, "" if section else key)
    elif key in LISTS:
        if not (isinstance(value, list) and all(isinstance(v, dict) for v in value)):
            problems.add(f"`{key}` must be sections [[{key}]]; got {value!r}.", "", key)
    elif key in ("name", "seed"):
        return
    elif not isinstance(value, dict):
        problems.add(f"`{key}` must be a section [{key}]; got {value!r}.", key)
    elif key not in FREE:
        _unknown(key, value, SECTIONS[key], problems)
    elif key == "plant" and (known := _plant_keywords(value)):
        _unknown(key, value, known, problems)


def _unknown(section, values, known, problems):
    for word in values:
        if word not in known:
            problems.add(f"`[{section}] {word}` is not known there. {nearest(word, known)}", section, word)


def _plant_keywords(values):
    """Keys that [plant] may have, if it names a plant of the library."""
    plants = import_module("plants").PLANTS
    name = values.get("name")
    return ["name", *keywords(plants[name])] if "file" not in values and isinstance(name, str) and name in plants else None


def references(table) -> list[tuple[str, dict]]:
    """(name of the section, its values) for [reference] and every [[also]]."""
    first, rest = table.get("reference"), table.get("also", [])
    pairs = [("reference", first), *(("also", v) for v in (rest if isinstance(rest, list) else []))]
    return [(section, dict(values)) for section, values in pairs if isinstance(values, dict)]


def _check_method(section, values, problems):
    name = values.get("method")
    if section == "also" and "method" not in values:
        problems.add("`[[also]] method` must be given.", section)
    elif name is not None and not (isinstance(name, str) and name in METHODS):
        sentence = f"`[{section}] method` must be one of {tuple(METHODS)}; got {name!r}. {nearest(name, METHODS)}"
        problems.add(sentence, section, "method")
    elif name is not None:
        _unknown(section, values, ["method", *keywords(METHODS[name], *NOT_IN_FILES)], problems)
