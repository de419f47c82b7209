"""What a TOML experiment may hold: sections and keys, taken from the signatures of what they are passed to, and where each stands."""

import inspect
import re
from importlib import import_module

import rlctrl as rc
from rlctrl.errors import InputError, meant, nearest

METHODS = {"GridDP": rc.GridDP, "HJB": rc.HJB, "OpenLoop": rc.OpenLoop, "Riccati": rc.Riccati, "Spectral": rc.Spectral}
SHORT = {"GridDP": "dp", "HJB": "hjb", "Spectral": "spectral"}  # names of their policies; OpenLoop's takes too long to follow
NOT_IN_FILES = ("start", "checkpoint")  # keywords of methods: a Python object, and what `--resume` looks after
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
        """function(*arguments); None if it refuses, which is noted. What it refuses in a table among them is left out and it is tried
        again, so that all that is wrong there is found."""
        out: set[str] = set()
        while True:
            given = [{k: v for k, v in a.items() if k not in out} if isinstance(a, dict) else a for a in arguments]
            try:
                return function(*given)
            except InputError as error:
                named = re.match(r"`(?:\[\w+\] )?(\w+)`", str(error).removeprefix(f"[{section}] "))
                key = named[1] if named else ""
                known = any(key in a for a in given if isinstance(a, dict))
                if known or not out:  # else it misses what was left out
                    self.add(str(error), section, key)
                if not known:
                    return None
                out.add(key)

    def rename(self, section, word, meant):
        """A key, or with "" for the section a section, stands where its misspelling does."""
        for (heading, key), line in list(self._lines.items()):
            if (heading, key) == (section, word):
                self._lines[section, meant] = line
            elif not section and heading == word:
                self._lines[meant, key] = line

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


def check(table, problems) -> dict:
    """Note every unknown key and missing section of a table. Returns what can be checked further: sections that are whole, with what a
    misspelt key was probably meant to be."""
    table = {key: _checked(key, value, problems) for key, value in _known("", table, TOP, problems).items()}
    for section, needed in NEEDED.items():
        if not any(k in (table.get(section) or {}) for k in needed):
            problems.add(f"`[{section}] {needed[0]}` must be given.", section)
            table[section] = None
    methods = [(section, _method(section, values, problems)) for section, values in references(table)]
    table |= {"reference": next((v for s, v in methods if s == "reference"), None), "also": [v for s, v in methods if s == "also" and v]}
    return {key: value for key, value in table.items() if value is not None}


def _checked(key, value, problems):
    """A section with the keys that may stand there; None if it is no section."""
    if key in ("name", "seed"):
        return value
    if key in LISTS:
        if isinstance(value, list) and all(isinstance(v, dict) for v in value):
            return value
        problems.add(f"`{key}` must be sections [[{key}]]; got {value!r}.", "", key)
        return None
    if not isinstance(value, dict):
        problems.add(f"`{key}` must be a section [{key}]; got {value!r}.", key)
        return None
    known = _plant_keywords(value) if key == "plant" else None if key in FREE else SECTIONS[key]
    return value if known is None else _known(key, value, known, problems)


def _known(section, values, known, problems):
    """The values under known keys; others are noted, and read as what was probably meant."""
    found = {word: value for word, value in values.items() if word in known}
    for word, value in values.items():
        if word in known:
            continue
        if section:
            problems.add(f"`[{section}] {word}` is not known there. {nearest(word, known)}", section, word)
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
    """Keys that [plant] may have, if it names a plant of the library."""
    plants = import_module("plants").PLANTS
    name = values.get("name")
    return ["name", *keywords(plants[name])] if "file" not in values and isinstance(name, str) and name in plants else None


def references(table) -> list[tuple[str, dict]]:
    """(name of the section, its values) for [reference] and every [[also]]."""
    first, rest = table.get("reference"), table.get("also", [])
    pairs = [("reference", first), *(("also", v) for v in (rest if isinstance(rest, list) else []))]
    return [(section, dict(values)) for section, values in pairs if isinstance(values, dict)]


def _method(section, values, problems):
    """The values of a method under known keys; None if it is none."""
    name = values.get("method")
    if isinstance(name, str) and name in METHODS:
        return _known(section, values, ["method", *keywords(METHODS[name], *NOT_IN_FILES)], problems)
    if section == "also" and "method" not in values:
        problems.add("`[[also]] method` must be given.", section)
    elif name is not None:
        sentence = f"`[{section}] method` must be one of {tuple(METHODS)}; got {name!r}. {nearest(name, METHODS)}"
        problems.add(sentence, section, "method")
    return None
