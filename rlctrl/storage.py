"""Frozen records in one .npz file: arrays as arrays, everything else as JSON. No pickle, so loading runs no code."""

import contextlib
import dataclasses
import functools
import glob
import hashlib
import json
import os
import secrets
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from rlctrl.casadi_jax import JaxFunction
from rlctrl.errors import InputError, require
from rlctrl.interrupts import undone
from rlctrl.tree import RECORDS, assemble

STALE = 60.0  # seconds without a byte after which a half-written file counts as one of a killed process


def save_record(value, path) -> Path:
    """Write a record; the file appears whole or not at all. Returns its path (suffix .npz)."""
    arrays: dict[str, np.ndarray] = {}
    layout = json.dumps(_encode(value, arrays))
    path = _npz(path)
    members: dict[str, Any] = {"layout": np.array(layout), **arrays}
    write_whole(path, lambda file: np.savez_compressed(file, **members))
    return path


def load_record(path, kind: type):
    """Read a record of class `kind`. Raises `InputError` if the file is missing or holds something else."""
    path = _npz(path)
    require(path.is_file(), "path", "must be a file", str(path), "Check the name; save() adds .npz.")
    try:
        with open(path, "rb") as file, np.load(file) as stored:
            arrays = {k: stored[k] for k in stored.files}
        value = _decode(json.loads(str(arrays.pop("layout"))), arrays)
    except Exception as error:  # whatever a damaged file makes NumPy, zlib or JSON raise
        raise InputError(
            f"`path` must be a file written by save(); {path} is not readable ({type(error).__name__}). Save it again."
        ) from None
    require(isinstance(value, kind), "path", f"must hold a {kind.__name__}", type(value).__name__, "Use the matching load.")
    return value


def _npz(path) -> Path:
    path = Path(path)
    require(path.name != "", "path", "must be the name of a file", str(path), "Use e.g. 'reference.npz'.")
    return path if path.suffix == ".npz" else path.with_name(path.name + ".npz")


def write_whole(path, write):
    """Call `write(binary file)` on a temporary neighbour of `path`, then move it into place."""
    path = Path(path)
    _forget(path)
    temporary = path.parent / f".{path.name}-{secrets.token_hex(4)}"
    with undone(lambda: _drop(temporary)):
        try:
            with _created(temporary, path) as file:
                write(file)
            _moved(temporary, path)
        except BaseException:
            _drop(temporary)
            raise


def _forget(path):
    """Drop what killed writes of this file have left; what is younger may still be written to."""
    for left in path.parent.glob(f".{glob.escape(path.name)}-{'[0-9a-f]' * 8}"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE:
                left.unlink()


def _drop(temporary):
    with contextlib.suppress(OSError):  # also where it could never be made
        temporary.unlink()


def _created(temporary, path):
    try:
        return open(temporary, "xb")
    except OSError as error:
        raise InputError(f"`path` must be writable; {path}: {error.strerror}. Choose another folder.") from None


@contextlib.contextmanager
def temporary_folder():
    """The path of a folder that goes again, after an interrupt too."""
    with tempfile.TemporaryDirectory() as folder, undone(lambda: shutil.rmtree(folder, ignore_errors=True)):
        yield Path(folder)


def make_folder(path):
    """Make a folder and those above it; `InputError` where that cannot be."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"`path` must be a folder or a name for one; {path}: {error.strerror}. Choose another.") from None


def _moved(temporary, path):
    try:
        os.replace(temporary, path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise InputError(f"`path` must be the name of a file; {path}: {error.strerror}. Choose another name.") from None


def fingerprint(value) -> str:
    """A hash of a record, or of lists of records and numbers: equal for equal contents. What files cannot hold, as functions, counts by its
    name."""
    arrays: dict[str, np.ndarray] = {}
    digest = hashlib.sha256(json.dumps(_encode(value, arrays, _named)).encode())
    for array in arrays.values():
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _named(value):
    return {"named": getattr(value, "__qualname__", type(value).__qualname__)}


def _refused(value):
    require(False, "path", "cannot hold this value", type(value).__name__, "Save arrays and records only.")


def _encode(value, arrays, foreign=_refused):
    """Nested lists for JSON, arrays by their keys in `arrays`; `foreign` encodes what is no record, number or array."""
    inner = functools.partial(_encode, arrays=arrays, foreign=foreign)
    if dataclasses.is_dataclass(value) and type(value).__name__ in RECORDS:
        fields = {f.name: inner(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"record": [type(value).__name__, fields]}
    if isinstance(value, JaxFunction):
        return {"function": value.parts()}
    if isinstance(value, tuple | list):
        return {"tuple": [inner(v) for v in value]}
    if isinstance(value, dict):
        return {"dict": {k: inner(v) for k, v in value.items()}}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    array = np.asarray(value)
    if array.dtype == object:
        return foreign(value)
    key = f"a{len(arrays)}"
    arrays[key] = array
    return {"array": key}


def _decode(value, arrays):
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "array":
        return arrays[content]
    if kind == "tuple":
        return tuple(_decode(v, arrays) for v in content)
    if kind == "dict":
        return {k: _decode(v, arrays) for k, v in content.items()}
    if kind == "function":
        return JaxFunction.from_parts(content)
    name, fields = content
    missing = {f.name for f in dataclasses.fields(RECORDS[name])} - set(fields)
    if missing:
        raise KeyError(f"{name} lacks {sorted(missing)}")
    return assemble(RECORDS[name], {k: _decode(v, arrays) for k, v in fields.items()})
