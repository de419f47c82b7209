"""Plants as CasADi Functions and as files: JSON with signals, parameters, law of the noise, and dynamics as CasADi serialises them."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import casadi as ca
import numpy as np

from rlctrl.errors import InputError, first_line, require
from rlctrl.plant import Plant, Signal
from rlctrl.storage import write_whole
from rlctrl.tree import RECORDS

FORMAT = "rlctrl plant 1"
LAWS = ("Gaussian", "Uniform", "Exponential", "Finite")
ARGUMENTS = {"drift": 2, "diffusion": 2, "update": 3}  # x, u (and w), before p


def functions(plant) -> dict[str, ca.Function]:
    """See `Plant.casadi`."""
    found = {name: getattr(plant, f"{name}_function") for name in ARGUMENTS}
    return {name: function for name, function in found.items() if function is not None}


def from_casadi(name, states, inputs, drift, diffusion, update, noise, params, source):
    """See `Plant.from_casadi`."""
    given = {"drift": drift, "diffusion": diffusion, "update": update}
    called: dict[str, Any] = {role: _caller(role, function) for role, function in given.items() if function is not None}
    return Plant(name, states, inputs, noise=noise, params=params or {}, source=source, **called)


def _caller(role, function):
    """A CasADi Function as one of a plant's functions, of (x, u[, w], p)."""
    plain = ARGUMENTS[role]
    fits = isinstance(function, ca.Function) and function.n_in() in (plain, plain + 1) and function.n_out() == 1
    takes = "(x, u, w) or (x, u, w, p)" if plain == 3 else "(x, u) or (x, u, p)"
    require(fits, role, f"must be a CasADi Function of {takes} with one output", function, "Use ca.Function(name, [x, u, p], [f]).")
    with_p = function.n_in() > plain
    return lambda *symbols: function(*symbols[:-1], *([symbols[-1].vector] if with_p else []))


def save(plant, path) -> Path:
    """See `Plant.save`."""
    content = {
        "name": plant.name,
        "states": [_signal(s) for s in plant.states],
        "inputs": [_signal(s) for s in plant.inputs],
        "params": {name: np.asarray(value).tolist() for name, value in plant.params.items()},
        "units": dict(plant.units),
        "law": _law(plant),
        "source": plant.source,
        "functions": {name: function.serialize() for name, function in functions(plant).items()},
        "digest": plant.digest,
    }
    text = json.dumps({"format": FORMAT, "checksum": checksum(content), "plant": content}, indent=1, ensure_ascii=False)
    write_whole(path, lambda file: file.write(text.encode()))
    return Path(path)


def _signal(signal):
    """A signal as JSON holds it: infinite bounds are null."""
    fields = dataclasses.asdict(signal)
    return fields | {side: fields[side] if np.isfinite(fields[side]) else None for side in ("low", "high")}


def _law(plant):
    if plant.update is None or plant.noise is None:
        return None
    kind = type(plant.law).__name__
    require(kind in LAWS, "noise", f"must be one of {LAWS} to be saved", kind, "Write the plant as Python instead.")
    return [kind, {name: np.asarray(value).tolist() for name, value in vars(plant.law).items()}]


def checksum(content):
    """Hash of the content of a file."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def load(path) -> Plant:
    """See `Plant.load`."""
    content = _read(Path(path))
    states, inputs = ([_loaded_signal(fields) for fields in content[role]] for role in ("states", "inputs"))
    parts = {name: _function(name, text) for name, text in content["functions"].items()}
    law = content["law"] and RECORDS[content["law"][0]](**content["law"][1])
    drift, diffusion, update = (parts.get(name) for name in ARGUMENTS)
    plant = from_casadi(content["name"], states, inputs, drift, diffusion, update, law, content["params"], content["source"])
    rule = "must give back the plant it was saved from; this version of CasADi or rlctrl reads it differently. Its hash"
    require(plant.digest == content["digest"], "path", rule, plant.digest, "Save it again with the versions in use.")
    return dataclasses.replace(plant, units=content.get("units", {}))


def _function(name, text):
    try:
        return ca.Function.deserialize(text)
    except RuntimeError as error:
        raise InputError(
            f"`path` must hold functions that this version of CasADi reads; got {name}: {first_line(error)}. Save it again."
        ) from None


def _read(path):
    """The content of a file, after its checksum."""
    require(path.is_file(), "path", "must be a file", str(path), "Check the name.")
    try:
        record = json.loads(path.read_bytes())
        kind, expected, content = record["format"], record["checksum"], record["plant"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        found = f"{path} is not readable ({type(error).__name__}: {first_line(error)})"
        raise InputError(f"`path` must be a plant written by save(); {found}. Save it again.") from None
    require(kind == FORMAT, "path", f'must be of format "{FORMAT}"', kind, "Save it again with this version.")
    require(checksum(content) == expected, "path", "must be undamaged: its checksum does not fit", str(path), "Save it again.")
    return content


def _loaded_signal(fields):
    low, high = (sign * np.inf if fields[side] is None else fields[side] for side, sign in (("low", -1), ("high", 1)))
    return Signal(**{**fields, "low": low, "high": high})
