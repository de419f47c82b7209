"""What a run or solve left in its folder, read without any of the machinery that made it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlctrl.errors import InputError, first_line, require


@dataclass(frozen=True)
class Folder:
    """`summary`, the arrays of `slices` (empty where none were stored), `figures` {name: (media type, bytes)}, and other `files` {relative
    path: bytes in it}."""

    path: Path
    summary: dict
    slices: dict
    figures: dict
    files: dict

    @property
    def solved(self) -> bool:
        """References alone, by `rlctrl solve`."""
        return "references" in self.summary


def read(path) -> Folder:
    """Raises `InputError` in one sentence if the folder is not what `rlctrl run` or `rlctrl solve` leaves."""
    path = Path(path)
    require(path.is_dir(), "DIR", "must be the folder of a run", str(path), "Give the folder that `rlctrl run` printed.")
    summary = _summary(path / "summary.json")
    files = {str(p.relative_to(path)): p.stat().st_size for p in sorted(path.rglob("*")) if p.is_file() and _listed(path, p)}
    return Folder(path, summary, _slices(path / "slices.npz"), _figures(path / "figures"), files)


def _summary(path):
    require(
        path.is_file(), "DIR", "must hold summary.json, which is missing", str(path.parent), "Give the folder that `rlctrl run` printed."
    )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"`DIR` must hold a whole summary.json; {path}: {first_line(error)}. Run the experiment again.") from None
    kinds = {"name": str, "plant": str, "problem": dict, "seconds": dict, "versions": dict}
    kinds |= {"references": dict, "table": list} if isinstance(found, dict) and "references" in found else {}
    kinds |= {k: dict for k in ("reference", "returns") if isinstance(found, dict) and k in found}
    missing = [k for k, kind in kinds.items() if not (isinstance(found, dict) and isinstance(found.get(k), kind))]
    require(not missing, "DIR", f"must hold the summary.json of a run or solve; it lacks {', '.join(missing)}", str(path), "Run it again.")
    return found


def _slices(path):
    if not path.is_file():
        return {}
    try:
        with open(path, "rb") as file, np.load(file) as stored:
            return {k: stored[k] for k in stored.files}
    except Exception as error:  # whatever a damaged file makes NumPy or zlib raise
        raise InputError(f"`DIR` must hold a readable slices.npz; {path}: {type(error).__name__}. Run the experiment again.") from None


def _figures(path):
    """As SVG; as PNG where there is no SVG."""
    found = {p.stem: ("image/png", p) for p in path.glob("*.png")} | {p.stem: ("image/svg+xml", p) for p in path.glob("*.svg")}
    return {name: (media, p.read_bytes()) for name, (media, p) in sorted(found.items())}


def _listed(folder, path):
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return not hidden and path.name != "report.html"
