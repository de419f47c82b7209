"""A folder of artefacts that appears whole or not at all."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from rlctrl.errors import InputError, require

ARTEFACTS = (
    "data.npz",
    "data.mat",
    "slices.npz",
    "reference.npz",
    "critic.npz",
    "actor.npz",
    "comparison.csv",
    "summary.json",
    "report.html",
)


@contextlib.contextmanager
def gathered(out: Path):
    """A temporary folder whose contents move to `out` at the end; refuses before any work if `out` cannot be written."""
    made: list[Path] = []
    folder = None
    try:
        try:
            _refuse_obstacles(out)
            made = _missing(out.parent)
            out.parent.mkdir(parents=True, exist_ok=True)
            out.exists()  # raises if the name is too long
            folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=".rlctrl-"))
        except OSError as error:
            raise InputError(f"`--out` must be a folder that can be written; {str(out)[:80]}: {error.strerror}. Choose another.") from None
        yield folder
        _move(folder, out)
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        if not _exists(out):
            for parent in made:
                with contextlib.suppress(OSError):
                    parent.rmdir()


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
    out.mkdir(exist_ok=True)
    clash = [out / p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and (out / p.relative_to(folder)).is_dir()]
    require(not clash, "--out", "must not hold folders under the names of the artefacts", str(out), f"Move {clash[:1]} away.")
    for item in sorted(folder.rglob("*")):
        target = out / item.relative_to(folder)
        if item.is_dir():
            target.mkdir(exist_ok=True)
        else:
            os.replace(item, target)
