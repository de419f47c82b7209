"""A plant from a Python file of the user's: what that file raises is said with its line; sentences of rlctrl's own stand as they are."""

import contextlib
import functools
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlctrl.errors import InputError, first_line, require, strict

MODULE = "rlctrl_own_plant"  # name of the file as a module, lest it stand for another


def function_of(folder, file, name="plant") -> Callable:
    """The function `name` of the Python file `file` in `folder`, which may import modules beside it. Whatever the file or the function
    raises, an exit too, is raised as `InputError`."""
    path = Path(folder) / str(file)
    require(path.is_file() and path.suffix == ".py", "file", "must be a Python file", str(file), "Its place is relative to the TOML.")
    with _blaming(path):
        make: Any = getattr(_module(path), str(name), None)
    fits = callable(make) and not inspect.isclass(make)
    require(fits, "name", f"must be a function of {file} that returns an rc.Plant", name, "Define it there.")

    @functools.wraps(make)
    def checked(**values):
        with _blaming(path):
            return strict(make)(**values)

    return checked


def _module(path):
    """The file, run as a module of its own."""
    spec = importlib.util.spec_from_file_location(MODULE, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[MODULE] = importlib.util.module_from_spec(spec)  # where dataclasses look it up
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _blaming(path):
    """Inside, modules beside the file can be imported, and errors are said with its line."""
    try:
        with _beside(path.parent.absolute()):
            yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        line = _line(error, path.name)
        said = f"{type(error).__name__}: {first_line(error)}".rstrip(": ")
        raise InputError(f"`file` {path.name}{f', line {line}' if line else ''}: {said}. Mend that file.") from None


@contextlib.contextmanager
def _beside(folder):
    """Inside, modules of the folder can be imported; then they are forgotten, as another folder may have others of the same names."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the file may have taken it out
            sys.path.remove(str(folder))
        found = {name for name in set(sys.modules) - before if _stands_in(folder, name)}
        for name in [name for name in sys.modules if name.partition(".")[0] in found]:
            del sys.modules[name]


def _stands_in(folder, name):
    """Whether a module that was imported is a file or a package of the folder."""
    module = sys.modules[name]
    return getattr(module, "__file__", None) == str(folder / f"{name}.py") or str(folder / name) in getattr(module, "__path__", ())


def _line(error, name):
    """Where in the file of that name it was raised, or where its syntax is wrong; None if that is elsewhere."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).name == name]
    return lines[-1] if lines else getattr(error, "lineno", None)
