"""What the command line runs: all stages of an experiment, or its references alone, and the artefacts they leave in a folder."""

import contextlib
import csv
import platform
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np

import rlctrl as rc
from rlctrl.analysis.slices import MOST, slices
from rlctrl.artefacts import gathered
from rlctrl.configuration import Experiment, asked, construct, load
from rlctrl.errors import InputError, NotConverged, require, require_whole
from rlctrl.interop.export import write_json, write_mat, write_npz
from rlctrl.plant import box, finite_box

PACKAGES = ("casadi", "jax", "numpy", "scipy", "control", "matplotlib")


@dataclass(frozen=True)
class Solved:
    """References of one problem: {name: reference} in the order of the file, and sentences for those that failed."""

    experiment: Experiment
    references: dict
    failures: dict
    seconds: dict


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
        policy = {"reference": reference.policy, "actor": experiment.actor, **policies}.get(experiment.policy)
        require(
            policy is not None, "[training] policy", "needs an LQR, which this problem has none of", experiment.policy, 'Use "reference".'
        )
        training = rc.train(problem, experiment.critic, policy, experiment.scheme, steps=experiment.steps, seed=seed, progress=progress)
    with stage("decomposition"):
        decomposition = construct(
            "decomposition", lambda **v: rc.decompose(training, reference, seed=seed, progress=progress, **v), experiment.decomposition
        )
    with stage("comparison"):
        policies["critic"] = training.greedy
        policies |= {"actor": training.policy} if training.actor is not None else {}
        comparison = construct("comparison", lambda **v: rc.compare(problem, policies, seed=seed, **v), experiment.comparison)
    return Run(experiment, reference, lqr, training, decomposition, comparison, seconds)


def _lqr(problem, about):
    """LQR of the problem, or of its linearisation; None where there is none (the reward is not concave there, say)."""
    for method in (rc.Riccati(), rc.Riccati(about=about)):
        with contextlib.suppress(InputError, NotConverged):
            return rc.solve(problem, method)
    return None


def solve_all(experiment, progress=False) -> Solved:
    """The reference of an experiment and the others beside it. Only the first must succeed."""
    found, failures, seconds = {}, {}, {}
    for method in (experiment.method, *experiment.others):
        name = _unused(type(method).__name__, {**found, **failures})
        try:
            found[name] = rc.solve(experiment.problem, method, progress=progress)
            seconds[name] = found[name].seconds
        except (InputError, NotConverged) as error:
            if not found:
                raise
            failures[name] = str(error)
    return Solved(experiment, found, failures, seconds)


def _unused(name, taken):
    return next(n for k in range(1, len(taken) + 2) if (n := name if k == 1 else f"{name} {k}") not in taken)


def beside(solved: Solved, points=2000) -> list[dict]:
    """One row a reference: stated error, time, V at the initial states, and its distance from the first at random states of the box."""
    first = next(iter(solved.references.values()))
    low, high = finite_box(first.states)
    x = np.random.default_rng(0).uniform(low, high, (points, len(low)))
    v, u, x0 = first.V(x), first.policy(x), solved.experiment.comparison["x0"]
    return [
        {
            "method": name,
            "error": r.error,
            "error_kind": r.error_kind,
            "seconds": solved.seconds[name],
            "value_at_x0": float(np.mean(r.V(x0))),
            "largest_difference_of_V": float(np.max(np.abs(r.V(x) - v))),
            "largest_difference_of_u": float(np.max(np.abs(r.policy(x) - u))),
        }
        for name, r in solved.references.items()
    ]


def summary(run: Run) -> dict:
    """Everything that summary.json holds."""
    experiment, reference = run.experiment, run.reference
    x0 = experiment.comparison["x0"]
    parts = run.decomposition.summary()
    return {
        **_origin(experiment),
        "reference": _statement(reference, x0),
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
    }


def _origin(experiment):
    """What was asked, and with which software."""
    plant, problem = experiment.problem.plant, experiment.problem
    return {
        "name": experiment.name,
        "finished": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "asked": asked(experiment),
        "plant": plant.name,
        "plant_hash": plant.digest,
        "plant_parameters": {k: np.asarray(v).tolist() for k, v in plant.params.items()},
        "seed": experiment.seed,
        "problem": {"gamma": problem.gamma, "dt": problem.dt, "exit": problem.exit},
        "versions": {"rlctrl": rc.__version__, "python": platform.python_version(), **{p: metadata.version(p) for p in PACKAGES}},
    }


def _statement(reference, x0):
    """What a reference says of itself."""
    names = ("method", "error", "error_kind", "error_terms", "converged", "residual", "message", "notes")
    found = {name: getattr(reference, name) for name in names}
    return found | {"notes": list(reference.notes), "value_at_x0": float(np.mean(reference.V(x0)))}


def arrays(run: Run) -> dict[str, np.ndarray]:
    """The numbers behind the figures, by names that MATLAB accepts too."""
    dec, terms = run.decomposition, run.decomposition.terms
    out = {f"z_{name}": getattr(dec, name) for name in ("q_star", "q_best", "q_trained", "e_q")} | {"z": dec.z}
    for name in ("e_td", "e_star", "e_star_noise", "e_star_policy", "d_dot", "remainder", "e_q_now", "e_q_next", "counted"):
        out[f"transition_{name}"] = getattr(dec, name)
    memory = run.training.snapshots.memory
    out |= {"transition_z": memory.z, "transition_z_next": memory.z_next[:, :, 0], "transition_reward": memory.t.r[..., 0]}
    out |= {f"step_{name}": getattr(terms, name) for name in terms._fields if name not in ("e_td", "d_dot", "remainder")}
    out |= {f"budget_{cause}": part for cause, part in dec.budget.parts.items()} | {"budget_error": dec.budget.error}
    out |= {"step": dec.step, "step_td_rms": run.training.snapshots.td_rms}
    out |= {"omega": run.training.weights, "omega_star": dec.omega_star, "omega_history": run.training.snapshots.omega}
    out |= {"remainder_sizes": dec.remainder_sizes, "remainder_rms": dec.remainder_rms}
    for name, path in run.comparison.trajectories.items():
        out |= {f"path_{name}_{k}": getattr(path, k) for k in ("x", "u", "r", "alive")} | {"path_t": path.t}
    out |= {f"reference_{k}": v for k, v in run.reference.history.items()}
    return out


def run_slices(run: Run) -> dict[str, np.ndarray]:
    """What the slice viewer of the report shows of a run."""
    reference, training = run.reference, run.training
    best = replace(training, weights=run.decomposition.omega_star)
    of_z = {"q_star": reference.Q, "q_best": best.Q, "q_trained": training.Q}
    return _slices(run.experiment, reference, of_z, {"policy_critic": training.greedy})


def _slices(experiment, reference, of_z, of_x):
    of_x = {"v_star": reference.V, "policy_star": reference.policy, **of_x}
    most = 400 if reference.method == "OpenLoop" else MOST  # that one solves a programme at every point
    return slices(reference.states, reference.inputs, np.concatenate(experiment.about), of_z, of_x, most)


def run_file(path, out=None, seed=None, progress=False) -> tuple[Path, dict]:
    """Run a TOML file and leave its artefacts in the folder `out` (default runs/<name>-<time>); returns the folder and the summary.

    The artefacts are gathered in a hidden neighbour of `out` and moved in when all are complete, so a failed run leaves nothing.
    """
    experiment = load(path)
    if seed is not None:
        require_whole("--seed", seed, 0, "Use 0.")
        experiment = replace(experiment, seed=seed)
    out = _folder(experiment, out)
    with gathered(out) as folder:
        run = execute(experiment, progress)
        draw = lambda plots: plots.run_figures(run.reference, run.training, run.decomposition, run.comparison)
        run.reference.save(folder / "reference")
        return out, _written(folder, draw, arrays(run), partial(run_slices, run), lambda: summary(run), run.seconds)


def solve_file(path, out=None, checkpoint=None, progress=False) -> tuple[Path, dict]:
    """Solve the references of a TOML file and leave figures, numbers and a summary in the folder `out`, as `run_file` does.

    `checkpoint`: file to which a long GridDP solve writes its state and from which it goes on.
    """
    experiment = load(path)
    if checkpoint is not None:
        takes = isinstance(experiment.method, rc.GridDP)
        require(takes, "--checkpoint", "needs a reference by GridDP", type(experiment.method).__name__, "Leave it out.")
        experiment = replace(experiment, method=replace(experiment.method, checkpoint=checkpoint))
    out = _folder(experiment, out)
    with gathered(out) as folder:
        solved = solve_all(experiment, progress)
        for name, reference in solved.references.items():
            reference.save(folder / f"reference_{name.replace(' ', '_')}")
        x0 = experiment.comparison["x0"]
        statements = {name: _statement(r, x0) for name, r in solved.references.items()}
        rows = beside(solved)
        _write_table(folder / "references.csv", rows)
        found = {**_origin(experiment), "references": statements, "table": rows, "failures": solved.failures, "seconds": solved.seconds}
        first = next(iter(solved.references.values()))
        cut = lambda: _slices(experiment, first, {"q_star": first.Q}, {})
        draw = lambda plots: plots.solve_figures(solved.references)
        return out, _written(folder, draw, _maps(solved), cut, lambda: found, solved.seconds)


def _folder(experiment, out):
    return Path(out) if out is not None else Path("runs") / f"{experiment.name}-{datetime.now():%Y%m%d-%H%M%S}"


def _written(folder, draw, numbers, cut, summarise, seconds):
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
    write_npz(folder / "slices.npz", cut())
    seconds["slices"] = time.perf_counter() - start
    found = summarise()
    write_json(folder / "summary.json", found)
    import_module("rlctrl.report").write(folder)
    return found


def _write_table(path, rows):
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def _maps(solved):
    """V*, π*, ∇V* and the Bellman residual of the first reference, V and π of the others, at the same random states."""
    first = next(iter(solved.references.values()))
    low, high = finite_box(first.states)
    x = np.random.default_rng(0).uniform(low, high, (2000, len(low)))
    out = {"x": x, "gradient": first.gradient(x), "residual": first.bellman_residual(x)}
    for k, reference in enumerate(solved.references.values()):
        out |= {f"value_{k}": reference.V(x), f"policy_{k}": reference.policy(x)}
    return out | {f"history_{k}": v for k, v in first.history.items()}
