"""Sections on what was asked and with what it was done: plant, problem, settings; manifest and files."""

from pathlib import PurePosixPath
from urllib.parse import quote

from rlctrl.report import words
from rlctrl.report.figures import title_of
from rlctrl.report.html import Html, number, pairs, paragraph, shown, table, tag

SETTINGS = {"reference": "Method of the reference", "critic": "Critic (T5)", "training": "Training (T13, T14)", "actor": "Actor"}
REWARD = ("reward", "Q", "R", "N", "target", "exit_value")


def what_was_asked(folder) -> Html:
    """Plant and problem in words, then tables with units."""
    asked = folder.summary.get("asked", {})
    given = asked.get("file", {})
    parts = [_plant(folder.summary, asked), _problem(folder.summary, given.get("problem", {}))]
    parts.append(_settings({"reference": asked.get("reference", {})}, given.get("also", [])) if folder.solved else _settings(asked))
    return Html("".join(parts))


def _plant(summary, asked):
    signals = [(s, "state") for s in asked.get("states", [])] + [(s, "input") for s in asked.get("inputs", [])]
    rows = [(s["name"], kind, s["unit"], s.get("low"), s.get("high"), _range(s)) for s, kind in signals]
    return Html(
        tag("h3", f"Plant: {summary['plant']}")
        + "".join(paragraph(" ".join(text.split())) for text in asked.get("description", "").split("\n\n"))
        + paragraph(asked.get("source") and f"Source: {asked['source']}.".replace("..", "."))
        + (table("States and inputs", ("signal", "kind", "unit", "low", "high", "note"), rows, sort=False) if rows else "")
        + _parameters(summary.get("plant_parameters", {}), summary.get("parameter_units", {}))
    )


def _parameters(values, units):
    rows = [(name, shown(value), units.get(name, "")) for name, value in values.items()]
    return table("Parameters of the plant", ("name", "value", "unit"), rows, sort=False) if rows else Html()


def _range(signal):
    if signal.get("values"):
        return f"only {shown(signal['values'])}"
    return "periodic" if signal.get("periodic") else ""


def _problem(summary, given):
    problem = summary["problem"]
    gamma, dt, rule = problem.get("gamma"), problem.get("dt"), problem.get("exit")
    steps = 1 / (1 - gamma) if gamma is not None and gamma < 1 else None
    time = f", {number(steps * dt, 3)} s" if steps and dt else ""
    rows = [("γ", shown(gamma), f"discount per step; it looks {number(steps, 3)} steps{time} ahead" if steps else "no discount")]
    rows += [("dt", shown(dt, "s"), "time between samples; the input is held")] if dt else []
    rows += [("exit", rule, words.EXITS.get(rule, ""))]
    rows += [(k, shown(given[k]), _reward_meaning(k)) for k in REWARD if k in given]
    said = "Find the inputs that maximise the expected sum of discounted rewards (T1), and how good every state and input then is: "
    said += "V* and Q* (T2, T3)."
    return Html(tag("h3", "Problem") + paragraph(said) + pairs("The problem", rows))


def _reward_meaning(name):
    meanings = {"reward": "per step, maximised", "target": "the episode ends where this is ≤ 0", "exit_value": "the value of ending"}
    return meanings.get(name, "weights of the quadratic cost per step; the reward is minus that cost")


def _settings(asked, also=()):
    settings = {title: asked.get(part, {}) for part, title in SETTINGS.items()}
    tables = [
        pairs(title, [(k, shown(v)) for k, v in values.items() if v not in (None, "")]) for title, values in settings.items() if values
    ]
    tables += [pairs(f"Beside it: {values.get('method')}", [(k, shown(v)) for k, v in values.items()]) for values in also]
    return Html(tag("h3", "How it was solved") + tag("div", *tables, class_="columns")) if tables else Html()


def manifest(folder) -> Html:
    """Versions, seed, hash, timings, files: enough to repeat the run."""
    s = folder.summary
    given = [("experiment", s["name"]), ("seed", shown(s.get("seed"))), ("plant", s["plant"]), ("hash of the plant", s.get("plant_hash"))]
    given += [("finished", s.get("finished"))]
    versions = [(name, version) for name, version in s["versions"].items()]
    seconds = [(words.STAGES.get(k, words.words(k)), v) for k, v in s["seconds"].items()]
    tables = [pairs("What ran", given), pairs("Software", versions), table("Seconds per stage", ("stage", "seconds"), seconds)]
    promise = "The same seed and versions give the same bits."
    return Html(paragraph(promise) + tag("div", *tables, class_="columns") + _files(folder))


def _files(folder):
    """One row a file, or one a figure with all its formats."""
    rows = [(_links([path]), _kind(path), size / 1024) for path, size in folder.files.items() if not _figure(path)]
    figures = sorted({PurePosixPath(path).stem for path in folder.files if _figure(path)})
    for name in figures:
        paths = [path for path in folder.files if _figure(path) and PurePosixPath(path).stem == name]
        rows.append((_links(paths), f"figure: {title_of(folder, name)}", sum(folder.files[path] for path in paths) / 1024))
    note = "Links are relative to this file: they work while it lies in its folder."
    rows = [(links, kind, round(size, 1)) for links, kind, size in rows]
    return Html(paragraph(note) + table("Files", ("file", "what it is", "KiB"), rows)) if rows else Html()


def _figure(path):
    return PurePosixPath(path).parts[0] == "figures" and len(PurePosixPath(path).parts) == 2


def _links(paths):
    """The first file by its name, further formats by theirs."""
    labels = [paths[0], *[PurePosixPath(path).suffix.lstrip(".") for path in paths[1:]]]
    titles = [words.KINDS.get(PurePosixPath(path).suffix) for path in paths]
    return Html(
        " · ".join(tag("a", label, href=quote(path), title=title) for label, path, title in zip(labels, paths, titles, strict=True))
    )


def _kind(path):
    name = PurePosixPath(path)
    reference = name.name.startswith("reference_") and name.suffix == ".npz"
    return words.FILES["reference.npz"] if reference else words.FILES.get(name.name, words.KINDS.get(name.suffix, ""))
