"""`report.html`: everything a run or solve left in its folder as one page that needs nothing else, not even a network."""

import json
from importlib.resources import files
from pathlib import Path
from string import Template

from rlctrl.errors import InputError, first_line
from rlctrl.report.folder import read
from rlctrl.report.html import Html, escaped, shown, tag
from rlctrl.report.latex import bibliography, tables
from rlctrl.report.sections import sections
from rlctrl.report.slices import viewer_data
from rlctrl.storage import write_whole


def write(folder, latex=False) -> Path:
    """Write `report.html` into the `folder` of a run or solve, from what lies there alone; returns its path. The file appears whole or not
    at all. `latex`: also `tables.tex` (booktabs) and `cite.bib`.

    Raises `InputError` if the folder, its summary or its slices are missing or damaged.
    """
    found = read(folder)
    try:
        return _write_all(found, latex)
    except (AttributeError, KeyError, IndexError) as error:  # a summary or slices of other contents than this version writes
        said = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"`DIR` must hold what this version of rlctrl leaves; {found.path}: {said}. Run the experiment again.") from error


def _write_all(found, latex):
    if latex:
        _write(found.path / "tables.tex", tables(found))
        _write(found.path / "cite.bib", bibliography(found))
        found = read(found.path)  # the page lists these too
    _write(found.path / "report.html", page(found))
    return found.path / "report.html"


def page(found) -> str:
    """The page of a `Folder`."""
    data = viewer_data(found.slices)
    parts = sections(found, _viewer(data))
    summary, links = found.summary, [tag("li", tag("a", title, href=f"#{anchor}")) for anchor, title, _ in parts]
    body = [tag("section", tag("h2", title), content, id=anchor) for anchor, title, content in parts]
    asked = "References" if found.solved else "Optimal value, trained critic and its error"
    finished = f", {summary['finished']}" if summary.get("finished") else ""
    filled = {"name": summary["name"], "version": summary["versions"].get("rlctrl", "")}
    filled |= {"subtitle": f"{asked} for the plant “{summary['plant']}”{finished}", "links": tag("ul", *links), "sections": escaped(body)}
    filled = {k: escaped(v) for k, v in filled.items()} | {
        "css": _part("page.css"),
        "js": "".join(map(_part, ("page.js", "viewer.js", "panels.js"))),
    }
    return Template(_part("page.html")).substitute(filled, data=json.dumps(data, ensure_ascii=True).replace("<", "\\u003c"))


def _viewer(data) -> Html:
    """Controls and panels of the slices; empty without data."""
    if not data:
        return Html()
    held = ", ".join(_at(signal) for signal in data["fixed"])
    fixed = f" Beyond what fits into this file, these stay where they are: {held}." if held else ""
    return Html(Template(_part("viewer.html")).substitute(fixed=escaped(fixed)))


def _at(signal) -> str:
    return f"{signal['name']} = {shown(signal['at'], signal['unit'])}"


def _part(name) -> str:
    return files("rlctrl.report").joinpath(name).read_text(encoding="utf-8")


def _write(path, text):
    write_whole(path, lambda file: file.write(text.encode()))
