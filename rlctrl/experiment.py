"""What the command line runs: the stages of an experiment, and the artefacts they leave in a folder."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

import rlctrl as rc
from rlctrl.artefacts import gathered
from rlctrl.configuration import Experiment, construct, load
from rlctrl.errors import InputError, NotConverged, naming, nearest, require, require_whole
from rlctrl.interop.export import write_csv, write_json, write_mat, write_npz
from rlctrl.outcome import arrays, beside, columns, maps, origin, run_slices, slices_of, statement, summary
from rlctrl.plant import box, limits
from rlctrl.schema import SHORT
from rlctrl.storage import fingerprint, save_record

QUIET = np.errstate(over="ignore", invalid="ignore")  # what is not finite in the end is refused by name
STAGES = {
    "run": ("reference", "training", "decomposition", "comparison"),
    "train": ("training",),
    "compare": ("comparison",),
    "simulate": ("comparison",),
}


@dataclass(frozen=True)
class Solved:
    """References of one problem: {name: reference} in the order of the file, and sentences for those that failed."""

    experiment: Experiment
    references: dict
    failures: dict
    seconds: dict


@dataclass(frozen=True)
class Run:
    """Everything a run produced; None for what was not asked for."""

    experiment: Experiment
    reference: Any
    training: Any
    decomposition: Any
    comparison: Any
    seconds: dict


class Stages:
    """The stages of an experiment, each run when it is first asked for. `state`: a folder in which long ones keep what a killed run needs
    to go on, or None."""

    def __init__(self, experiment, state=None, progress=False):
        self.experiment, self.state, self.progress = experiment, state, progress
        self.seconds: dict[str, float] = {}
        self._done: dict[str, Any] = {}

    def __call__(self, name):
        if name not in self._done:
            before = sum(self.seconds.values())
            start = time.perf_counter()
            self._done[name] = getattr(self, f"_{name}")()
            inner = sum(self.seconds.values()) - before  # of the stages this one asked for
            self.seconds[name] = time.perf_counter() - start - inner
        return self._done[name]

    def found(self, name):
        """The result of a stage, None if nothing asked for it."""
        return self._done.get(name)

    def _reference(self):
        return solve_or_load(self.experiment.problem, self.experiment.method, self.state, "reference", self.progress)

    def _baseline(self):
        return _lqr(self.experiment.problem, self.experiment.about)

    def policy(self, name):
        """The policy of that name; None if this problem has none of it."""
        experiment, lqr = self.experiment, self("baseline") if name.startswith("lqr") else None
        if name == "lqr":
            return lqr and lqr.policy
        if name == "lqr_clipped":
            return lqr and lqr.policy.clipped(*box(experiment.problem.plant.inputs))
        if name == "mpc":
            terminal = self("baseline") if experiment.mpc["terminal"] == "lqr" else None
            return rc.MPC(experiment.problem, **experiment.mpc | {"terminal": terminal})
        if name in ("critic", "actor"):
            return self("training").greedy if name == "critic" else self("training").policy
        return experiment.formulas.get(name) or self("reference").policy

    def _training(self):
        experiment = self.experiment
        policy = experiment.actor if experiment.policy == "actor" else self.policy(experiment.policy)
        require(
            policy is not None, "[training] policy", "needs an LQR, which this problem has none of", experiment.policy, 'Use "reference".'
        )
        kept = None if self.state is None else self.state / "training.npz"
        options = {"steps": experiment.steps, "seed": experiment.seed, "checkpoint": kept, "progress": self.progress}
        return rc.train(experiment.problem, experiment.critic, policy, experiment.scheme, **options)

    def _decomposition(self):
        training, reference = self("training"), self("reference")
        options = {"seed": self.experiment.seed, "progress": self.progress}
        return construct("decomposition", lambda **v: rc.decompose(training, reference, **options, **v), self.experiment.decomposition)

    def _comparison(self):
        experiment = self.experiment
        policies = {name: policy for name in self.compared() if (policy := self.policy(name)) is not None}
        require(policies, "[comparison] policies", "must leave one this problem has", experiment.compared, 'Use "reference".')
        compare = lambda **v: rc.compare(experiment.problem, policies, seed=experiment.seed, **v)
        return construct("comparison", compare, experiment.comparison)

    def compared(self):
        """Names of the policies to compare: those of the file, or all."""
        experiment = self.experiment
        short = SHORT.get(type(experiment.method).__name__)
        known = ["lqr", "lqr_clipped", *([short] if short else []), *(["mpc"] if experiment.mpc else []), *experiment.formulas]
        known += ["critic", *(["actor"] if experiment.actor else [])] if "training" in self._done else []
        for name in experiment.compared or ():
            fits = name in (*known, "reference")
            way_out = "Add a section [mpc] to the file." if name == "mpc" else nearest(name, known)
            require(fits, "[comparison] policies", f"must be among {(*known, 'reference')}", name, way_out)
        return experiment.compared or known


def execute(experiment, command="run", state=None, progress=False) -> Run:
    """The stages that a command asks for, and those they need, timed."""
    stages = Stages(experiment, state, progress)
    for name in STAGES[command]:
        stages(name)
    found = {name: stages.found(name) for name in STAGES["run"]}
    return Run(experiment, seconds=stages.seconds, **found)


def _lqr(problem, about):
    """LQR of the problem, or of its linearisation; None where there is none (the reward is not concave there, say)."""
    for method in (rc.Riccati(), rc.Riccati(about=about)):
        with contextlib.suppress(InputError, NotConverged):
            return rc.solve(problem, method)
    return None


def solve_or_load(problem, method, state, name, progress) -> rc.Reference:
    """The reference of that name in the folder `state`, else by the method, kept there; with None for a folder, nothing is kept. GridDP
    keeps its own state there on the way."""
    if state is None:
        return rc.solve(problem, method, progress=progress)
    kept = state / f"{name}.npz"
    if kept.exists():
        return rc.Reference.load(kept)
    if isinstance(method, rc.GridDP):
        method = replace(method, checkpoint=state / f"{name}_begun.npz")
    reference = rc.solve(problem, method, progress=progress)
    reference.save(kept)
    return reference


def solve_all(experiment, state=None, progress=False) -> Solved:
    """The reference of an experiment and the others beside it, each kept in the folder `state` when it is there. Only the first must
    succeed."""
    found, failures, seconds = {}, {}, {}
    for method in (experiment.method, *experiment.others):
        name = _unused(type(method).__name__, {**found, **failures})
        try:
            found[name] = solve_or_load(experiment.problem, method, state, file_of(name), progress)
            seconds[name] = found[name].seconds
        except (InputError, NotConverged) as error:
            if not found:
                raise
            failures[name] = str(error)
    return Solved(experiment, found, failures, seconds)


def _unused(name, taken):
    return next(n for k in range(1, len(taken) + 2) if (n := name if k == 1 else f"{name} {k}") not in taken)


@QUIET
def run_file(path, out=None, seed=None, progress=False, command="run", resume=False, policies=None, animate=False) -> tuple[Path, dict]:
    """Run the stages of a command on a TOML file and leave their artefacts in the folder `out` (default runs/<name>-<time>); returns the
    folder and the summary.

    The artefacts are gathered in a hidden neighbour of `out` and moved in when all are complete, so a failed run leaves nothing. What a
    killed run needs to go on waits there too; `resume` takes it up. `policies` overrides those of [comparison]. `animate`
    the first path of the first policy compared, as figures/animation.gif.
    """
    experiment = load(path)
    if seed is not None:
        require_whole("--seed", seed, 0, "Use 0.")
        experiment = replace(experiment, seed=seed)
    if policies is not None:
        experiment = replace(experiment, compared=tuple(policies))
    plant = experiment.problem.plant
    if animate:
        with naming("--animate", "plant"):
            import_module("rlctrl.plots").drawing_of(plant.states, plant.inputs, plant)  # refused before anything is computed
    mark, out = _mark(experiment, command, out), _folder(experiment, out)
    asked = naming("--policy", "[comparison] policies") if policies else contextlib.nullcontext()
    with gathered(out, mark, resume) as (folder, state):
        with asked:
            run = execute(experiment, command, state, progress)
        _save(run, folder)
        draw = partial(_figures, run, folder if animate else None)
        cut = partial(run_slices, run) if run.reference is not None else dict
        return out, _written(folder, draw, arrays(run), cut, lambda: summary(run), run.seconds)


def _figures(run, folder, plots):
    """The figures of a run by name; with a `folder`, its animation is written there beside them."""
    if folder is not None:
        path = next(iter(run.comparison.trajectories.values()))
        path.animate(folder / "figures" / "animation.gif", plant=run.experiment.problem.plant)
    return plots.run_figures(run)


def _mark(experiment, command, out):
    """What a workspace belongs to: the same file and problem (its plant may have a file of its own), seed, policies, version, and folder if
    it was named."""
    problem = [experiment.problem.kernel, limits(experiment.problem.plant.inputs)]
    return fingerprint([problem, experiment.text, experiment.seed, experiment.compared, command, rc.__version__, str(out)])


def _save(run, folder):
    """Reference, critic and actor, to load and export again."""
    if run.reference is not None:
        run.reference.save(folder / "reference")
    if run.training is not None:
        save_record(run.training.q, folder / "critic")
        if run.training.actor is not None:
            save_record(run.training.policy, folder / "actor")
    if run.comparison is not None:
        write_csv(folder / "comparison.csv", columns(run.comparison.rows()))
        if len(run.comparison.trajectories) == 1:
            next(iter(run.comparison.trajectories.values())).save_csv(folder / "paths.csv")


@QUIET
def solve_file(path, out=None, progress=False, resume=False) -> tuple[Path, dict]:
    """Solve the references of a TOML file and leave figures, numbers and a summary in the folder `out`, as `run_file` does, with what a
    killed one needs to go on: the references that were there, and GridDP's state of the next."""
    experiment = load(path)
    mark, out = _mark(experiment, "solve", out), _folder(experiment, out)
    with gathered(out, mark, resume) as (folder, state):
        solved = solve_all(experiment, state, progress)
        for name, reference in solved.references.items():
            reference.save(folder / file_of(name))
        x0 = experiment.comparison["x0"]
        statements = {name: statement(r, x0) for name, r in solved.references.items()}
        rows = beside(solved)
        write_csv(folder / "references.csv", columns(rows))
        found = {**origin(experiment), "references": statements, "table": rows, "failures": solved.failures, "seconds": solved.seconds}
        cut = partial(slices_of, experiment, next(iter(solved.references.values())))
        draw = lambda plots: plots.solve_figures(solved.references)
        return out, _written(folder, draw, maps(solved), cut, lambda: found, solved.seconds)


def file_of(name) -> str:
    """The name of the file, but for its suffix, that holds the reference of that name."""
    return f"reference_{name.replace(' ', '_')}"


def _folder(experiment, out):
    named = out is None or (str(out).strip() and "\0" not in str(out))
    require(named, "--out", "must be the name of a folder", out, "Leave it out for runs/<name>-<time>.")
    return Path(out) if out is not None else Path("runs") / f"{experiment.name}-{datetime.now():%Y%m%d-%H%M%S}"


def _written(folder, draw: Callable, numbers, cut: Callable, summarise: Callable, seconds):
    """Figures, numbers, slices, summary and report into the folder; returns the summary."""
    start = time.perf_counter()
    plots = import_module("rlctrl.plots")
    (folder / "figures").mkdir()
    for name, figure in draw(plots).items():
        plots.save(figure, folder / "figures", name)
    write_npz(folder / "data.npz", numbers)
    write_mat(folder / "data.mat", numbers)
    seconds["figures"] = time.perf_counter() - start
    start = time.perf_counter()
    if grids := cut():
        write_npz(folder / "slices.npz", grids)
        seconds["slices"] = time.perf_counter() - start
    found = summarise()
    write_json(folder / "summary.json", found)
    import_module("rlctrl.report").write(folder)
    return found
