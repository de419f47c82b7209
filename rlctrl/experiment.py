"""One TOML file → one run: reference, training, decomposition, comparison, and the artefacts of all four in a folder."""

import contextlib
import inspect
import os
import platform
import re
import shutil
import tempfile
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np

import rlctrl as rc
from rlctrl.errors import InputError, NotConverged, first_line, nearest, require, require_whole
from rlctrl.interop.export import write_json, write_mat, write_npz
from rlctrl.interop.expression import expression
from rlctrl.plant import box

METHODS = {"GridDP": rc.GridDP, "Riccati": rc.Riccati}
POLICIES = ("reference", "lqr", "lqr_clipped")


def _keywords(function, *without):
    return [k for k in inspect.signature(function).parameters if k not in ("self", *without)]


SECTIONS: dict[str, list[str]] = {
    "problem": ["reward", "Q", "R", "N", "target", "exit_value", *_keywords(rc.Problem, "plant", "reward", "target", "exit_value")],
    "reference": ["method"],
    "baseline": ["x", "u"],
    "critic": _keywords(rc.Critic),
    "training": ["policy", "steps", *_keywords(rc.ReplayTD)],
    "decomposition": _keywords(rc.decompose, "run", "reference", "seed", "progress"),
    "comparison": ["x0", *_keywords(rc.compare, "problem", "policies", "x0", "seed")],
}
TOP = ("name", "seed", "plant", *SECTIONS)


@dataclass(frozen=True)
class Experiment:
    """A checked experiment: the problem, the method, and keyword dictionaries for each stage."""

    name: str
    seed: int
    problem: Any
    method: Any
    about: tuple
    critic: Any
    scheme: Any
    policy: str
    steps: int
    decomposition: dict = field(default_factory=dict)
    comparison: dict = field(default_factory=dict)


def load(path) -> Experiment:
    """Read and check a TOML file. Raises `InputError` listing every wrong key with the nearest valid name."""
    path = Path(path)
    require(path.is_file(), "FILE", "must be a TOML file", str(path), "Start from examples/pendulum.toml.")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"`{path}` must be valid TOML; {error}. Mend that line.") from None
    return build(table, path.stem)


def build(table, default_name) -> Experiment:
    """Check the table of an experiment and construct its parts."""
    _check_keys(table)
    sections = {name: dict(table.get(name, {})) for name in ("plant", *SECTIONS)}
    plant = _plant(sections["plant"])
    problem = _problem(plant, sections["problem"])
    reference = sections["reference"]
    method = _construct("reference", METHODS[reference.pop("method")], reference)
    training = sections["training"]
    policy, steps = training.pop("policy", "reference"), training.pop("steps", 20_000)
    require(policy in POLICIES, "[training] policy", f"must be one of {POLICIES}", policy, nearest(policy, POLICIES))
    comparison = sections["comparison"]
    comparison["x0"] = _states(plant, comparison.get("x0"))
    seed, name = table.get("seed", 0), table.get("name", default_name)
    require_whole("seed", seed, 0, "Use 0.")
    plain = isinstance(name, str) and re.fullmatch(r"[\w][\w .-]{0,99}", name) is not None
    require(plain, "name", "must be letters, digits, spaces, dots, dashes or underscores", name, "It names the folder of the run.")
    return Experiment(
        name=name,
        seed=seed,
        problem=problem,
        method=method,
        about=_about(plant, sections["baseline"]),
        critic=_construct("critic", rc.Critic, sections["critic"]),
        scheme=_construct("training", rc.ReplayTD, training),
        policy=policy,
        steps=steps,
        decomposition=sections["decomposition"],
        comparison=comparison,
    )


def _check_keys(table):
    """All misspelt keys and missing sections at once."""
    wrong = []
    for key, value in table.items():
        if key not in TOP:
            wrong.append(f"`{key}` is not a key or section of an experiment. {nearest(key, TOP)}")
        elif key not in ("name", "seed") and not isinstance(value, dict):
            wrong.append(f"`{key}` must be a section [{key}]; got {value!r}.")
        elif key in SECTIONS:
            known = _known(key, value)
            wrong += [f"`[{key}] {word}` is not known there. {nearest(word, known)}" for word in value if word not in known]
        else:
            wrong += _wrong_plant_keys(value) if key == "plant" else []
    for section, needed in (("plant", "name"), ("problem", "gamma"), ("reference", "method")):
        given = table.get(section)
        if not isinstance(given, dict) or needed not in given:
            wrong.append(f"`[{section}] {needed}` must be given.")
    method = table.get("reference", {}).get("method") if isinstance(table.get("reference"), dict) else None
    if method is not None and not (isinstance(method, str) and method in METHODS):
        wrong.append(f"`[reference] method` must be one of {tuple(METHODS)}; got {method!r}. {nearest(method, METHODS)}")
    if wrong:
        raise InputError(" ".join(wrong))


def _wrong_plant_keys(values):
    plants = import_module("plants").PLANTS
    name = values.get("name")
    if not isinstance(name, str) or name not in plants:
        return []  # said later, with the nearest plant
    known = _keywords(plants[name])
    return [f"`[plant] {word}` is not a parameter of {name}. {nearest(word, known)}" for word in values if word not in ("name", *known)]


def _known(section, table):
    method = METHODS.get(str(table.get("method"))) if section == "reference" else None
    if section == "reference" and method is None:
        return [*SECTIONS["reference"], *(k for m in METHODS.values() for k in _keywords(m))]
    return SECTIONS[section] + (_keywords(method) if method else [])


def _construct(section, kind: Callable, values):
    """kind(**values), with errors that name the section of the file."""
    try:
        return kind(**values)
    except InputError as error:
        raise InputError(f"[{section}] {error}") from None
    except (TypeError, ValueError, OverflowError) as error:
        found = " ".join(f"{k} = {v!r}" for k, v in values.items())[:200]
        raise InputError(f"`[{section}]` has a value of the wrong kind: {first_line(error)}. Got {found}; compare the examples.") from None


def _plant(values):
    name = values.pop("name")
    plants = import_module("plants")
    return _construct("plant", lambda **v: plants.get(name, **v), values)


def _problem(plant, values):
    formulas = {k: values.pop(k) for k in ("reward", "target", "exit_value") if k in values}
    weights = {k: values.pop(k) for k in ("Q", "R", "N") if k in values}
    one = set(weights) in ({"Q", "R"}, {"Q", "R", "N"}) if "reward" not in formulas else not weights
    require(
        one, "[problem] reward", "as a formula, or `Q` and `R`: exactly one must be given", {**formulas, **weights}, "Give one of them."
    )
    reward = (
        expression(formulas["reward"], "[problem] reward", plant) if "reward" in formulas else _construct("problem", rc.quadratic, weights)
    )
    for name in ("target", "exit_value"):
        if name in formulas:
            of_state = expression(formulas[name], f"[problem] {name}", plant, inputs=False)
            values[name] = lambda x, p, of_state=of_state: of_state(x, None, p)
    return _construct("problem", lambda **v: rc.Problem(plant, reward, **v), values)


def _states(plant, given):
    """Initial states (batch, n); by default half way to each upper bound."""
    if given is None:
        given = [[0.5 * s.high if np.isfinite(s.high) else 1.0 for s in plant.states]]
    x0 = _construct("comparison", lambda x0: np.atleast_2d(np.asarray(x0, float)), {"x0": given})
    fits = x0.ndim == 2 and x0.shape[1] == plant.n
    require(fits, "[comparison] x0", f"must list states of {plant.n} numbers", given, "Write [[1.0, 0.0]].")
    return x0


def _about(plant, values):
    """Point at which the LQR baseline linearises; the origin unless stated."""
    sizes = {"x": plant.n, "u": plant.m}
    for name, size in sizes.items():
        values.setdefault(name, [0.0] * size)
        given = values[name] if isinstance(values[name], list) else []
        fits = len(given) == size and all(isinstance(v, int | float) and np.isfinite(v) for v in given)
        require(fits, f"[baseline] {name}", f"must list {size} numbers", values[name], "Give the operating point of the LQR.")
    return values["x"], values["u"]


@dataclass(frozen=True)
class Run:
    """Everything a run produced."""

    experiment: Experiment
    reference: Any
    lqr: Any
    training: Any
    decomposition: Any
    comparison: Any
    seconds: dict


def execute(experiment, progress=False) -> Run:
    """All stages of an experiment, timed."""
    seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(name):
        start = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - start

    problem, seed = experiment.problem, experiment.seed
    with stage("reference"):
        reference = rc.solve(problem, experiment.method, progress=progress)
    with stage("baseline"):
        lqr = _lqr(problem, experiment.about)
    policies = {"lqr": lqr.policy, "lqr_clipped": lqr.policy.clipped(*box(problem.plant.inputs))} if lqr else {}
    if reference.method != "Riccati":
        policies["dp"] = reference.policy
    with stage("training"):
        policy = reference.policy if experiment.policy == "reference" else policies.get(experiment.policy)
        require(
            policy is not None, "[training] policy", "needs an LQR, which this problem has none of", experiment.policy, 'Use "reference".'
        )
        training = rc.train(problem, experiment.critic, policy, experiment.scheme, steps=experiment.steps, seed=seed, progress=progress)
    with stage("decomposition"):
        decomposition = _construct(
            "decomposition", lambda **v: rc.decompose(training, reference, seed=seed, progress=progress, **v), experiment.decomposition
        )
    with stage("comparison"):
        policies["critic"] = training.greedy
        comparison = _construct("comparison", lambda **v: rc.compare(problem, policies, seed=seed, **v), experiment.comparison)
    return Run(experiment, reference, lqr, training, decomposition, comparison, seconds)


def _lqr(problem, about):
    """LQR of the problem, or of its linearisation; None where there is none (the reward is not concave there, say)."""
    for method in (rc.Riccati(), rc.Riccati(about=about)):
        with contextlib.suppress(InputError, NotConverged):
            return rc.solve(problem, method)
    return None


def summary(run: Run) -> dict:
    """Everything that summary.json holds."""
    experiment, reference = run.experiment, run.reference
    plant = experiment.problem.plant
    x0 = np.asarray(experiment.comparison["x0"])
    packages = ("casadi", "jax", "numpy", "scipy", "control", "matplotlib")
    parts = run.decomposition.summary()
    return {
        "name": experiment.name,
        "plant": plant.name,
        "plant_hash": plant.digest,
        "plant_parameters": {k: np.asarray(v).tolist() for k, v in plant.params.items()},
        "seed": experiment.seed,
        "problem": {"gamma": experiment.problem.gamma, "dt": experiment.problem.dt, "exit": experiment.problem.exit},
        "reference": {
            "method": reference.method,
            "error": reference.error,
            "error_kind": reference.error_kind,
            "error_terms": reference.error_terms,
            "converged": reference.converged,
            "residual": reference.residual,
            "message": reference.message,
            "notes": list(reference.notes),
            "value_at_x0": float(np.mean(reference.V(x0))),
        },
        **parts,
        "training": {
            "steps": experiment.steps,
            "rate": experiment.scheme.rate,
            "memory": experiment.scheme.memory,
            "policy": experiment.policy,
        },
        "returns": {name: {"mean": r.mean, "ci95": r.ci95} for name, r in run.comparison.returns.items()},
        "saturated": run.comparison.saturated,
        "left_the_box": run.comparison.left,
        "seconds": run.seconds | {"total": sum(run.seconds.values())},
        "versions": {"rlctrl": rc.__version__, "python": platform.python_version(), **{p: metadata.version(p) for p in packages}},
    }


def arrays(run: Run) -> dict[str, np.ndarray]:
    """The numbers behind the figures, by names that MATLAB accepts too."""
    dec, terms = run.decomposition, run.decomposition.terms
    out = {f"z_{name}": getattr(dec, name) for name in ("q_star", "q_best", "q_trained", "e_q")} | {"z": dec.z}
    for name in ("e_td", "e_star", "e_star_noise", "e_star_policy", "d_dot", "remainder", "e_q_now", "e_q_next", "counted"):
        out[f"transition_{name}"] = getattr(dec, name)
    memory = run.training.snapshots.memory
    out |= {"transition_z": memory.z, "transition_z_next": memory.z_next, "transition_reward": memory.t.r}
    out |= {f"step_{name}": getattr(terms, name) for name in terms._fields if name not in ("e_td", "d_dot", "remainder")}
    out |= {"step": dec.step, "step_td_rms": run.training.snapshots.td_rms}
    out |= {"omega": run.training.weights, "omega_star": dec.omega_star, "omega_history": run.training.snapshots.omega}
    out |= {"remainder_sizes": dec.remainder_sizes, "remainder_rms": dec.remainder_rms}
    for name, path in run.comparison.trajectories.items():
        out |= {f"path_{name}_{k}": getattr(path, k) for k in ("x", "u", "r", "alive")} | {"path_t": path.t}
    out |= {f"reference_{k}": v for k, v in run.reference.history.items()}
    return out


def run_file(path, out=None, seed=None, progress=False) -> tuple[Path, dict]:
    """Run a TOML file and leave its artefacts in the folder `out` (default runs/<name>-<time>); returns the folder and the summary.

    The artefacts are gathered in a hidden neighbour of `out` and moved in when all are complete, so a failed run leaves nothing.
    """
    experiment = load(path)
    if seed is not None:
        require_whole("--seed", seed, 0, "Use 0.")
        experiment = Experiment(**{**vars(experiment), "seed": seed})
    out = Path(out) if out is not None else Path("runs") / f"{experiment.name}-{datetime.now():%Y%m%d-%H%M%S}"
    with _gathered(out) as folder:
        run = execute(experiment, progress)
        start = time.perf_counter()
        plots = import_module("rlctrl.plots")
        figures = folder / "figures"
        figures.mkdir()
        for name, figure in plots.run_figures(run.reference, run.training, run.decomposition, run.comparison).items():
            plots.save(figure, figures, name)
        numbers = arrays(run)
        write_npz(folder / "data.npz", numbers)
        write_mat(folder / "data.mat", numbers)
        run.reference.save(folder / "reference")
        run.seconds["figures"] = time.perf_counter() - start
        found = summary(run)
        write_json(folder / "summary.json", found)
    return out, found


ARTEFACTS = ("data.npz", "data.mat", "reference.npz", "summary.json")


@contextlib.contextmanager
def _gathered(out: Path):
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
    for item in sorted(folder.rglob("*")):
        target = out / item.relative_to(folder)
        if item.is_dir():
            target.mkdir(exist_ok=True)
        else:
            os.replace(item, target)
