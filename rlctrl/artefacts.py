"""A folder of artefacts that appears whole or not at all."""

import contextlib
import os
import shutil
from pathlib import Path
from typing import NamedTuple

from rlctrl.errors import InputError, require

ARTEFACTS = (
    "data.npz",
    "data.mat",
    "slices.npz",
    "reference.npz",
    "critic.npz",
    "actor.npz",
    "comparison.csv",
    "paths.csv",
    "summary.json",
    "report.html",
)


class Workspace(NamedTuple):
    """A hidden neighbour of the folder that is to be written: `artefacts`, which move there when all are complete, and `state`, what a
    killed run needs to go on."""

    artefacts: Path
    state: Path


@contextlib.contextmanager
def gathered(out: Path, mark: str, resume=False):
    """A `Workspace` whose artefacts move to `out` at the end; refuses before any work if `out` cannot be written. An interrupt is
    raised again with a sentence.

    `mark` names what is being run: with `resume` the state of an earlier one of that mark is taken up, else it is dropped. Whatever fails
    leaves nothing; a kill or an interrupt leaves the state.
    """
    made: list[Path] = []
    home = out.parent / f".rlctrl-{mark[:16]}"
    try:
        try:
            _refuse_obstacles(out)
            made = _missing(out.parent)
            out.parent.mkdir(parents=True, exist_ok=True)
            out.exists()  # raises if the name is too long
            space = _workspace(home, resume)
        except OSError as error:
            raise InputError(f"`--out` must be a folder that can be written; {str(out)[:80]}: {error.strerror}. Choose another.") from None
        yield space
        _move(space.artefacts, out)
    except KeyboardInterrupt:
        shutil.rmtree(home / "artefacts", ignore_errors=True)
        way_on = "; `--resume` goes on from here" if any((home / "state").glob("*")) else ""
        raise KeyboardInterrupt(f"{out} was not written{way_on}") from None
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise
    else:
        shutil.rmtree(home, ignore_errors=True)
    finally:
        for empty in (home / "state", home, *(made if not _exists(out) else [])):
            with contextlib.suppress(OSError):
                empty.rmdir()


def _workspace(home, resume):
    waiting = home.is_dir() and any((home / "state").glob("*"))
    rule = "needs an earlier run of the same file, seed and version, killed beside this `--out`"
    require(waiting or not resume, "--resume", rule, str(home.parent), "Leave it out to begin anew.")
    shutil.rmtree(home if not resume else home / "artefacts", ignore_errors=True)
    for name in Workspace._fields:
        (home / name).mkdir(parents=True, exist_ok=True)
    return Workspace(home / "artefacts", home / "state")


def _exists(path):
    with contextlib.suppress(OSError):
        return path.exists()
    return False


def _refuse_obstacles(out):
    """Whatever would make moving the artefacts into `out` fail halfway; a name too long raises OSError here."""
    require(not out.exists() or out.is_dir(), "--out", "must be a folder", str(out), "Choose another name.")
    require(not out.exists() or os.access(out, os.W_OK), "--out", "must be writable", str(out), "Choose another folder.")
    figures = out / "figures"
    in_the_way = [out / name for name in ARTEFACTS if (out / name).is_dir()]
    in_the_way += [figures] if figures.exists() and not figures.is_dir() else []
    in_the_way += [p for p in figures.glob("*") if p.is_dir()] if figures.is_dir() else []
    require(
        not in_the_way, "--out", "must not hold other things under the names of the artefacts", str(out), f"Move {in_the_way[:1]} away."
    )


def _missing(folder: Path) -> list[Path]:
    """Parents that will have to be made, innermost first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    return missing


def _move(folder: Path, out: Path):
    """Into a folder that is there file by file; else at once, so that even a kill leaves no half of it."""
    if not out.exists():
        os.replace(folder, out)
        return
    clash = [out / p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and (out / p.relative_to(folder)).is_dir()]
    require(not clash, "--out", "must not hold folders under the names of the artefacts", str(out), f"Move {clash[:1]} away.")
    for item in sorted(folder.rglob("*")):
        target = out / item.relative_to(folder)
        if item.is_dir():
            target.mkdir(exist_ok=True)
        else:
            os.replace(item, target)
