"""What a run or a solve left in its folder, as CasADi Functions or C files for use elsewhere."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import casadi as ca

from rlctrl.critic.actor import ActorPolicy
from rlctrl.critic.network import CriticQ
from rlctrl.errors import InputError, require
from rlctrl.interop.casadi_export import as_casadi, write_c
from rlctrl.reference import Reference
from rlctrl.storage import load_record, temporary_folder, write_whole

KINDS = ("c", "casadi")


def export(folder, kind) -> tuple[list[Path], dict[str, str]]:
    """Write critic, actor, value and policy of the run in `folder` into its folder `export`, or every value and policy of a solve, by the
    names of its files: as C source (`kind` "c"), or as CasADi Functions that `casadi.Function.load` reads ("casadi"). Returns the paths
    written, and sentences for what has no closed form.

    Raises `InputError` if the folder holds neither a critic nor a reference.
    """
    require(kind in KINDS, "--to", f"must be one of {KINDS}", kind, "Use c or casadi.")
    folder = Path(folder)
    parts = dict(_parts(folder))
    rule = "must hold critic.npz, reference.npz or the references of a solve"
    require(parts, "DIR", rule, str(folder), "Give the folder that `rlctrl run` or `rlctrl solve` printed.")
    functions, refused = {}, {}
    for name, (thing, problem) in parts.items():
        try:
            functions[name] = _named(as_casadi(thing, problem), name)
        except InputError as error:
            refused[name] = str(error)
    (folder / "export").mkdir(exist_ok=True)
    return [_write(function, folder / "export" / f"{name}.{kind}") for name, function in functions.items()], refused


def _parts(folder):
    """{name: (what to export, something that knows n and m)}."""
    if (folder / "critic.npz").is_file() and (folder / "summary.json").is_file():
        asked = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["asked"]
        sizes = SimpleNamespace(n=len(asked["states"]), m=len(asked["inputs"]))
        problem: Any = SimpleNamespace(plant=sizes)  # all that is asked of it
        yield "critic", (load_record(folder / "critic.npz", CriticQ), problem)
    if (folder / "actor.npz").is_file():
        yield "actor", (load_record(folder / "actor.npz", ActorPolicy), None)
    for path in sorted(folder.glob("reference*.npz")):
        reference, of = Reference.load(path), path.stem.removeprefix("reference")
        yield f"value{of}", (reference.value, None)
        yield f"policy{of}", (reference.policy, None)


def _named(function: ca.Function, name):
    """The function, its own name followed by that of its reference, so that the C files of several can be linked together."""
    of, inputs = name.partition("_")[2], function.mx_in()
    if not of:
        return function
    return ca.Function(f"{function.name()}_{of}", inputs, function.call(inputs), function.name_in(), function.name_out())


def _write(function: ca.Function, path):
    if path.suffix == ".c":
        return write_c(function, path)
    with temporary_folder() as folder:  # what serialize() gives is no file for Function.load
        function.save(str(folder / path.name))
        data = (folder / path.name).read_bytes()
    write_whole(path, lambda file: file.write(data))
    return path
