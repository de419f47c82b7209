"""What an experiment found, as nested numbers for summary.json, as arrays for data.npz, and as rows of tables."""

import platform
from dataclasses import fields, replace
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import numpy as np

import rlctrl as rc
from rlctrl.analysis.slices import LEAST, MOST, slices
from rlctrl.plant import box, finite_box

PACKAGES = ("casadi", "jax", "numpy", "scipy", "control", "matplotlib")


def origin(experiment) -> dict:
    """What was asked, and with which software."""
    plant, problem = experiment.problem.plant, experiment.problem
    return {
        "name": experiment.name,
        "finished": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "asked": _asked(experiment),
        "plant": plant.name,
        "plant_hash": plant.digest,
        "plant_parameters": {k: np.asarray(v).tolist() for k, v in plant.params.items()},
        "parameter_units": dict(plant.units),
        "seed": experiment.seed,
        "problem": {"gamma": problem.gamma, "dt": problem.dt, "exit": problem.exit},
        "versions": {"rlctrl": rc.__version__, "python": platform.python_version(), **{p: metadata.version(p) for p in PACKAGES}},
    }


def _asked(experiment) -> dict:
    """What was asked, for the summary: signals with units, the file as it was, and the settings of the parts with their defaults."""
    plant = experiment.problem.plant
    return {
        "description": experiment.description,
        "source": plant.source,
        "states": [_settings(s) for s in plant.states],
        "inputs": [_settings(s) for s in plant.inputs],
        "file": {section: values for section, values in experiment.asked.items() if section != "seed"},  # another may have been given
        "reference": {"method": type(experiment.method).__name__, **_settings(experiment.method)},
        "critic": _settings(experiment.critic),
        "training": {"steps": experiment.steps, "policy": experiment.policy, **_settings(experiment.scheme)},
        "actor": _settings(experiment.actor) if experiment.actor else {},
    }


def _settings(record):
    """The fields of a record that a file can state."""
    plain = (str, int, float, list, tuple)
    return {f.name: value for f in fields(record) if isinstance(value := getattr(record, f.name), plain)}


def statement(reference, x0) -> dict:
    """What a reference says of itself."""
    names = ("method", "error", "error_kind", "error_terms", "converged", "residual", "message", "notes")
    found = {name: getattr(reference, name) for name in names}
    return found | {"notes": list(reference.notes), "value_at_x0": float(np.mean(reference.V(x0)))}


def summary(run) -> dict:
    """Everything that summary.json holds, of the stages that were run."""
    experiment, comparison = run.experiment, run.comparison
    found = origin(experiment)
    if run.reference is not None:
        found["reference"] = statement(run.reference, experiment.comparison["x0"])
    if run.decomposition is not None:
        found |= run.decomposition.summary()
    if run.training is not None:
        asked = {"rate": experiment.scheme.rate, "memory": experiment.scheme.memory, "policy": experiment.policy}
        found["training"] = {"steps": experiment.steps, **asked, "message": run.training.message}
        found.setdefault("critic", {"weights": run.training.weights.size})
    if comparison is not None:
        found["returns"] = {name: {"mean": r.mean, "ci95": r.ci95} for name, r in comparison.returns.items()}
        found |= {"saturated": comparison.saturated, "beyond_bounds": comparison.beyond, "left_the_box": comparison.left}
        rows = {row["policy"]: row for row in comparison.rows()}
        found |= {key: {name: row[key] for name, row in rows.items()} for key in ("regret", "regret_ci95")}
        found |= {"ended": comparison.ended, "settling_time": comparison.settled, "seconds_per_input": comparison.seconds}
    return found | {"seconds": run.seconds | {"total": sum(run.seconds.values())}}


def arrays(run) -> dict[str, np.ndarray]:
    """The numbers behind the figures, by names that MATLAB accepts too."""
    out = _decomposed(run.decomposition, run.training) if run.decomposition is not None else {}
    if run.training is not None:
        out |= {"omega": run.training.weights, "omega_history": run.training.snapshots.omega}
        out |= {"step": run.training.snapshots.step, "step_td_rms": run.training.snapshots.td_rms}
    for name, path in run.comparison.trajectories.items() if run.comparison is not None else ():
        out |= {f"path_{name}_{k}": getattr(path, k) for k in ("x", "u", "r", "alive")} | {"path_t": path.t}
    return out | ({f"reference_{k}": v for k, v in run.reference.history.items()} if run.reference is not None else {})


def _decomposed(dec, training):
    terms, memory = dec.terms, training.snapshots.memory
    out = {f"z_{name}": getattr(dec, name) for name in ("q_star", "q_best", "q_trained", "e_q")} | {"z": dec.z}
    for name in ("e_td", "e_star", "e_star_noise", "e_star_policy", "d_dot", "remainder", "e_q_now", "e_q_next", "counted"):
        out[f"transition_{name}"] = getattr(dec, name)
    out |= {"transition_z": memory.z, "transition_z_next": memory.z_next[:, :, 0], "transition_reward": memory.t.r[..., 0]}
    out |= {f"step_{name}": getattr(terms, name) for name in terms._fields if name not in ("e_td", "d_dot", "remainder")}
    out |= {f"budget_{cause}": part for cause, part in dec.budget.parts.items()} | {"budget_error": dec.budget.error}
    return out | {"omega_star": dec.omega_star, "remainder_sizes": dec.remainder_sizes, "remainder_rms": dec.remainder_rms}


def run_slices(run: Any) -> dict[str, np.ndarray]:
    """What the slice viewer of the report shows of a run that has a reference: Q*, Q̂ and its best fit, V*, π*."""
    training, of_z, of_x = run.training, {}, {}
    if training is not None:
        of_z["q_trained"] = training.Q
        if np.all(np.isfinite(box(training.problem.plant.inputs))):  # else there is no greedy policy
            of_x["policy_critic"] = training.greedy
        if run.decomposition is not None:
            of_z["q_best"] = replace(training, weights=run.decomposition.omega_star).Q
    return slices_of(run.experiment, run.reference, of_z, of_x)


def slices_of(experiment, reference, of_z=None, of_x=None) -> dict[str, np.ndarray]:
    """The functions `of_z` and `of_x`, and Q*, V*, π* of a reference, on a grid through the point of the baseline."""
    of_x = {"v_star": reference.V, "policy_star": reference.policy, **(of_x or {})}
    most = max(reference.affordable(MOST), LEAST ** (1 + min(len(reference.inputs), 2)))  # one state at least varies
    return slices(reference.states, reference.inputs, np.concatenate(experiment.about), {"q_star": reference.Q, **(of_z or {})}, of_x, most)


def columns(rows) -> dict[str, list]:
    """Rows with the same keys as columns of a table."""
    return {key: [row[key] for row in rows] for key in rows[0]}


def beside(solved) -> list[dict]:
    """One row a reference: stated error, time, V at the initial states, and its span and distance from the first at random states of the
    box."""
    first = next(iter(solved.references.values()))
    low, high = finite_box(first.states)
    x = np.random.default_rng(0).uniform(low, high, (_count(solved), len(low)))
    v, u, x0 = first.V(x), first.policy(x), solved.experiment.comparison["x0"]
    return [
        {
            "method": name,
            "error": r.error,
            "error_kind": r.error_kind,
            "seconds": solved.seconds[name],
            "value_at_x0": float(np.mean(r.V(x0))),
            "span_of_V": float(np.ptp(values)),
            "largest_difference_of_V": float(np.max(np.abs(values - v))),
            "largest_difference_of_u": float(np.max(np.abs(r.policy(x) - u))),
        }
        for name, r in solved.references.items()
        for values in [r.V(x)]
    ]


def _count(solved):
    """Random states at which references are compared."""
    return min(reference.affordable(2000) for reference in solved.references.values())


def maps(solved) -> dict[str, np.ndarray]:
    """V*, π*, ∇V* and the Bellman residual of the first reference, V and π of the others, at the same random states."""
    first = next(iter(solved.references.values()))
    low, high = finite_box(first.states)
    x = np.random.default_rng(0).uniform(low, high, (_count(solved), len(low)))
    out = {"x": x, "gradient": first.gradient(x), "residual": first.bellman_residual(x)}
    for k, reference in enumerate(solved.references.values()):
        out |= {f"value_{k}": reference.V(x), f"policy_{k}": reference.policy(x)}
    return out | {f"history_{k}": v for k, v in first.history.items()}
