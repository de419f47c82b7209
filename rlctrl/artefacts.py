"""A folder of artefacts that appears whole or not at all."""

import contextlib
import os
import shutil
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from rlctrl import interrupts
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
    """A `Workspace` whose artefacts move to `out` at the end; refuses before any work if `out` cannot be written, or while another process
    runs the same. An interrupt is raised again with a sentence.

    `mark` names what is being run: with `resume` the state of an earlier one of that mark is taken up, else it is dropped. Whatever fails
    leaves nothing; a kill or an interrupt leaves the state.
    """
    with contextlib.ExitStack() as stack:
        try:
            _refuse_obstacles(out)
            stack.enter_context(_parents(out))
            out.exists()  # raises if the name is too long
            home = stack.enter_context(_alone(out.parent / f".rlctrl-{mark[:16]}"))
            space = stack.enter_context(_workspace(home, out, resume))
        except OSError as error:
            raise InputError(f"`--out` must be a folder that can be written; {str(out)[:80]}: {error.strerror}. Choose another.") from None
        yield space
        interrupts.too_late()
        _move(space.artefacts, out)


@contextlib.contextmanager
def _parents(out):
    """The folders above `out`; those that were missing go again if nothing came of it."""
    missing = _missing(out.parent)

    def remove():
        for empty in missing if not _exists(out) else []:
            with contextlib.suppress(OSError):
                empty.rmdir()

    with interrupts.undone(remove):
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            yield
        finally:
            remove()


@contextlib.contextmanager
def _alone(home):
    """The folder `home`, made if missing, for this process alone: a lock that falls with the process, be it killed."""
    home.mkdir(exist_ok=True)
    with open(home / "lock", "a") as lock:
        try:
            if os.name == "posix":
                fcntl = import_module("fcntl")
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError("`--out` is being written by another run of the same file. Wait for it, or name another folder.") from None
        except OSError:  # a file system without locks
            pass
        yield home


@contextlib.contextmanager
def _workspace(home, out, resume):
    rule = "needs an earlier run of the same file, plant, seed and version, killed beside this `--out`"
    waiting = (home / "state").exists()
    with interrupts.undone(partial(_interrupted, home, out)):
        try:
            require(waiting or not resume, "--resume", rule, str(home.parent), "Leave it out to begin anew.")
            for name in Workspace._fields:
                if not (resume and name == "state"):
                    shutil.rmtree(home / name, ignore_errors=True)
                (home / name).mkdir(exist_ok=True)
            yield Workspace(home / "artefacts", home / "state")
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_interrupted(home, out)) from None
        except BaseException:
            shutil.rmtree(home, ignore_errors=True)
            raise
        else:
            shutil.rmtree(home, ignore_errors=True)


def _interrupted(home, out) -> str:
    """Keep the state alone, if there is any; returns what to say."""
    kept = any((home / "state").glob("*.npz"))
    shutil.rmtree(home / "artefacts" if kept else home, ignore_errors=True)
    return f"{out} was not written" + "; `--resume` goes on from here" * kept


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
