"""One TOML file → one folder: what a run leaves, that it repeats to the bit, and that bad input leaves nothing but a sentence."""

import contextlib
import io
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

import plants
import rlctrl as rc
from rlctrl import artefacts, experiment, plots
from rlctrl.cli import main

ROOT = Path(__file__).parents[1]
BASE = """\
name = "tiny"
seed = 3
[plant]
name = "linear"
A = [[-1.0]]
B = [[1.0]]
F = [[0.2]]
[problem]
dt = 0.1
gamma = 0.9
reward = "-x1**2 - 0.1*u1**2"
[reference]
method = "GridDP"
shape = [9]
inputs = 5
quadrature = 2
[baseline]
x = [0.0]
[critic]
hidden = 3
activation = "square"
features = "affine"
[training]
steps = 200
memory = 8
snapshots = 4
[decomposition]
points = 64
starts = 0
iterations = 3
[comparison]
x0 = [[1.0], [-0.5]]
steps = 10
paths = 4
"""
KEYS = [
    "plant", "seed", "reference.method", "reference.error", "reference.error_kind", "reference.converged", "critic.weights",
    "critic.relative_error", "critic.best_fit_relative_error", "decomposition.e_q_sup", "decomposition.e_q_rms",
    "decomposition.e_star_rms", "decomposition.e_star_noise_rms", "decomposition.e_star_policy_rms", "decomposition.remainder_slope",
    "decomposition.identity_residual", "lyapunov.identity_residual", "excitation.min_eigenvalue", "excitation.effective_rank",
    "returns.lqr.mean", "returns.lqr.ci95", "returns.lqr_clipped.mean", "returns.lqr_clipped.ci95", "returns.dp.mean", "returns.dp.ci95",
    "returns.critic.mean", "returns.critic.ci95", "seconds.reference", "seconds.baseline", "seconds.training", "seconds.decomposition",
    "seconds.comparison", "seconds.figures", "seconds.total", "versions.rlctrl", "versions.jax", "plant_hash",
]  # fmt: skip
MAGIC = {".pdf": b"%PDF-", ".png": b"\x89PNG\r\n", ".svg": b"<?xml", ".csv": b"panel,title,"}


def changed(*pairs):
    """The base experiment with some text exchanged, once each."""
    text = BASE
    for old, new in pairs:
        assert text.count(old) >= 1, old
        text = text.replace(old, new, 1)
    return text


def files(folder):
    """{path: content} of all below a folder, hidden or not; None for a folder."""
    return {str(p.relative_to(folder)): None if p.is_dir() else p.read_bytes() for p in sorted(Path(folder).rglob("*"))}


def load(folder):
    with np.load(folder / "data.npz") as stored:
        return json.loads((folder / "summary.json").read_text(encoding="utf-8"), parse_constant=pytest.fail), dict(stored)


@pytest.fixture
def without_figures(monkeypatch):
    monkeypatch.setattr(plots, "run_figures", lambda *_: {})


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A complete run: its folder and what it printed."""
    above = tmp_path_factory.mktemp("run")
    (above / "tiny.toml").write_text(BASE, encoding="utf-8")
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        assert main(["run", str(above / "tiny.toml"), "--out", str(above / "results" / "first")]) == 0
    return above / "results" / "first", said.getvalue()


def again(folder, text=BASE, *options):
    """Another run in this process, quietly; its summary without times and its arrays."""
    file = folder / "again.toml"
    file.write_text(text, encoding="utf-8")
    assert main(["run", str(file), "--quiet", "--out", str(folder / "again"), *options]) == 0
    summary, arrays = load(folder / "again")
    return without_times(summary), arrays


def without_times(summary):
    return {k: v for k, v in summary.items() if k not in ("seconds", "seconds_per_input", "finished")}


def test_a_run_leaves_exactly_the_promised_artefacts(run):
    folder, _ = run
    promised = ["comparison.csv", "critic.npz", "data.mat", "data.npz", "figures", "reference.npz", "report.html", "slices.npz"]
    promised.append("summary.json")
    assert sorted(p.name for p in folder.iterdir()) == promised
    assert sorted(p.name for p in folder.parents[1].rglob("*") if folder not in p.parents) == ["first", "results", "tiny.toml"]


def test_the_slices_are_the_functions_themselves(run):
    """On the grid of the viewer, in single precision, the stored reference."""
    reference = rc.Reference.load(run[0] / "reference.npz")
    with np.load(run[0] / "slices.npz") as stored:
        x, u = np.meshgrid(stored["nodes_0"], stored["nodes_1"], indexing="ij")
        np.testing.assert_allclose(stored["q_star"], reference.Q(x[..., None], u[..., None]), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(stored["v_star"], reference.V(x[:, :1]), rtol=1e-6, atol=1e-6)
        assert stored["q_trained"].shape == stored["q_best"].shape == x.shape
        assert stored["policy_critic"].shape == (1, len(x))


def test_the_report_shows_every_figure_of_the_run(run):
    text = (run[0] / "report.html").read_text(encoding="utf-8")
    assert {p.stem for p in (run[0] / "figures").glob("*.svg")} == set(re.findall(r'data-name="(\w+)"', text))


def test_figures_come_in_three_formats_with_their_numbers(run):
    drawn = list((run[0] / "figures").iterdir())
    stems = {p.stem for p in drawn}
    assert len(stems) >= 5
    assert sorted(p.name for p in drawn) == sorted(s + kind for s, kind in itertools.product(stems, MAGIC))
    wrong = [p.name for p in drawn if not p.read_bytes().startswith(MAGIC[p.suffix])]
    assert wrong == []


@pytest.mark.usefixtures("without_figures")
def test_others_may_read_the_artefacts(here):
    old = os.umask(0o022)
    try:
        again(here)
    finally:
        os.umask(old)
    modes = {p.name: oct(p.stat().st_mode & 0o777) for p in (here / "again").iterdir() if p.is_file()}
    assert set(modes.values()) == {"0o644"}, modes


@pytest.mark.parametrize("key", KEYS)
def test_the_summary_has_every_key(run, key):
    value = load(run[0])[0]
    for part in key.split("."):
        assert isinstance(value, dict)
        value = value[part]
    assert value is not None


def test_the_summary_holds_no_infinity_or_nan(run):
    load(run[0])  # parse_constant fails on NaN and Infinity


def test_the_summary_agrees_with_the_arrays(run):
    summary, arrays = load(run[0])
    parts = summary["decomposition"]
    assert parts["e_q_rms"] == pytest.approx(np.sqrt(np.mean(arrays["z_e_q"] ** 2)), rel=1e-12)
    assert parts["e_q_sup"] == np.abs(arrays["z_e_q"]).max()
    np.testing.assert_allclose(arrays["z_q_star"] - arrays["z_q_best"], arrays["z_e_q"], rtol=0, atol=1e-12)
    rows = arrays["transition_counted"].astype(bool)
    for name in ("e_star", "e_star_noise", "e_star_policy"):
        assert parts[f"{name}_rms"] == pytest.approx(np.sqrt(np.mean(arrays[f"transition_{name}"][rows] ** 2)), rel=1e-12)
    assert summary["critic"]["weights"] == arrays["omega"].size == arrays["omega_star"].size
    error = np.sqrt(np.mean((arrays["z_q_trained"] - arrays["z_q_star"]) ** 2)) / arrays["z_q_star"].std()
    assert summary["critic"]["relative_error"] == pytest.approx(error, rel=1e-12)
    for name, returned in summary["returns"].items():
        reward = arrays[f"path_{name}_r"]
        assert reward.shape == (8, 10)
        assert returned["mean"] == pytest.approx((reward @ 0.9 ** np.arange(10)).mean(), rel=1e-12)


def test_the_summary_says_what_was_run(run):
    summary, arrays = load(run[0])
    assert (summary["plant"], summary["seed"], summary["name"]) == ("linear", 3, "tiny")
    assert summary["problem"] == {"gamma": 0.9, "dt": 0.1, "exit": "clip"}
    assert summary["plant_parameters"]["F"] == [[0.2]]
    assert summary["reference"]["method"] == "GridDP"
    assert summary["reference"]["converged"] is True
    assert summary["reference"]["error_kind"] in ("proven", "estimated")
    assert summary["training"] == {"steps": 200, "rate": 0.5, "memory": 8, "policy": "reference", "message": "200 updates done."}
    assert summary["decomposition"]["identity_residual"] < 1e-10
    assert summary["lyapunov"]["identity_residual"] < 1e-10
    stages = {k: v for k, v in summary["seconds"].items() if k != "total"}
    assert min(stages.values()) > 0
    assert summary["seconds"]["total"] == pytest.approx(sum(stages.values()))
    np.testing.assert_array_equal(arrays["path_dp_x"][:, 0], np.repeat([[1.0], [-0.5]], 4, axis=0))


def test_the_saved_reference_is_the_one_reported(run):
    summary, arrays = load(run[0])
    reference = rc.Reference.load(run[0] / "reference.npz")
    assert float(np.mean(reference.V([[1.0], [-0.5]]))) == summary["reference"]["value_at_x0"]
    np.testing.assert_array_equal(reference.Q(arrays["z"][:, :1], arrays["z"][:, 1:]), arrays["z_q_star"])


def test_matlab_gets_the_same_arrays_under_valid_names(run):
    _, arrays = load(run[0])
    matlab = {k: v for k, v in loadmat(run[0] / "data.mat").items() if not k.startswith("__")}
    assert set(matlab) == set(arrays)
    assert [n for n in arrays if not re.fullmatch(r"[A-Za-z]\w{0,62}", n, re.ASCII)] == []
    for name, value in arrays.items():
        assert value.dtype.kind in "fiub", name
        expected = value[:, None] if value.ndim == 1 else np.atleast_2d(value)
        assert matlab[name].shape == expected.shape, name
        np.testing.assert_array_equal(matlab[name], expected, err_msg=name)


def test_a_run_prints_its_results_and_last_its_folder(run):
    folder, said = run
    lines = said.splitlines()
    assert lines[-1] == str(folder)
    summary, _ = load(folder)
    for name, returned in summary["returns"].items():
        assert any(name in line.split() and f"{returned['mean']:.5g}" in line for line in lines)
    assert any(f"{summary['critic']['relative_error']:.3g}" in line for line in lines)


@pytest.mark.usefixtures("without_figures")
def test_the_same_seed_gives_the_same_bits(run, here):
    summary, arrays = load(run[0])
    second, repeated = again(here)
    assert second == without_times(summary)
    assert set(repeated) == set(arrays)
    assert [n for n in arrays if arrays[n].tobytes() != repeated[n].tobytes() or arrays[n].dtype != repeated[n].dtype] == []


@pytest.mark.usefixtures("without_figures")
def test_a_seed_on_the_command_line_overrides_that_of_the_file(run, here):
    summary, arrays = again(here, BASE, "--seed", "11")
    assert summary["seed"] == 11
    written, equal = again(here, changed(("seed = 3", "seed = 11")))
    assert summary == written
    assert [n for n in arrays if arrays[n].tobytes() != equal[n].tobytes()] == []
    first = load(run[0])[1]
    for name in ("omega", "z", "path_dp_u", "transition_z"):
        assert not np.array_equal(arrays[name], first[name]), name


@pytest.mark.usefixtures("without_figures")
def test_the_default_folder_is_runs_name_time(here, capsys):
    (here / "other.toml").write_text(BASE, encoding="utf-8")
    assert main(["run", "other.toml", "--quiet"]) == 0
    (folder,) = (here / "runs").iterdir()
    assert re.fullmatch(r"tiny-\d{8}-\d{6}", folder.name)
    assert capsys.readouterr().out == f"runs/{folder.name}\n"
    assert (folder / "summary.json").is_file()


def test_without_a_name_the_file_lends_its_own(here):
    (here / "other.toml").write_text(changed(('name = "tiny"\n', "")), encoding="utf-8")
    assert experiment.load(here / "other.toml").name == "other"


@pytest.mark.usefixtures("without_figures")
def test_a_run_into_an_old_folder_replaces_what_it_writes_and_no_more(here):
    again(here, changed(("seed = 3", "seed = 4")))
    (here / "again" / "mine.txt").write_text("kept")
    summary, _ = again(here)
    assert summary["seed"] == 3
    assert (here / "again" / "mine.txt").read_text() == "kept"


# Refusals ---------------------------------------------------------------------------------------------------------------------------


def refusal(here, capsys, text=BASE, *options, out="new/parent/out", code=2, file="bad.toml"):
    """What standard error says of a run that leaves nothing: one sentence a line."""
    if text is not None:
        (here / "bad.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    before = files(here)
    assert main(["run", file, "--quiet", *(["--out", out] if out else []), *options]) == code
    assert files(here) == before
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(r"(rlctrl: [^\n]*`[^\n]*\n)+", said.err)
    return said.err


@pytest.mark.parametrize(
    ("old", "new", "wrong", "meant"),
    [
        ("seed = 3", "sed = 3", "sed", "seed"),
        ("[critic]", "[critc]", "critc", "critic"),
        ("A = [[-1.0]]", "discret = true", "discret", "discrete"),
        ("gamma = 0.9", "gama = 0.9", "gama", "gamma"),
        ("shape = [9]", "shap = [9]", "shap", "shape"),
        ("x = [0.0]", "xx = [0.0]", "xx", "x"),
        ("hidden = 3", "hiden = 3", "hiden", "hidden"),
        ("memory = 8", "memry = 8", "memry", "memory"),
        ("points = 64", "point = 64", "point", "points"),
        ("paths = 4", "path = 4", "path", "paths"),
    ],
)
def test_a_misspelt_key_is_refused_with_the_nearest(here, capsys, old, new, wrong, meant):
    said = refusal(here, capsys, changed((old, new)))
    assert re.search(rf"`(\[\w+\] )?{wrong}`", said)
    assert f"Did you mean `{meant}`?" in said


def test_all_wrong_keys_are_reported_at_once(here, capsys):
    wrong = [
        ("seed", "sed"), ("discrete", "discret"), ("gamma", "gama"), ("shape", "shap"), ("x", "xx"), ("hidden", "hiden"),
        ("memory", "memry"), ("points", "point"), ("paths", "path"),
    ]  # fmt: skip
    text = changed(("A = [[-1.0]]", "discrete = true"), *((f"\n{good} =", f"\n{bad} =") for good, bad in wrong))
    said = refusal(here, capsys, text)
    missed = [bad for good, bad in wrong if not re.search(rf"`(\[\w+\] )?{bad}`", said) or f"`{good}`" not in said]
    assert missed == []


def test_wrong_values_are_reported_beside_wrong_keys_and_all_of_a_section(here, capsys):
    """A misspelt key counts as what was probably meant, so that its value is checked too."""
    wrong = [("gamma = 0.9", "gama = 1.5"), ("hidden = 3", "hidden = 0"), ('"affine"', '"afine"'), ("memory = 8", "memory = 0")]
    lines = refusal(here, capsys, changed(*wrong)).splitlines()
    named = [re.search(r"line (\d+): .*?`(?:\[\w+\] )?(\w+)`", line) for line in lines]
    assert [(m[1], m[2]) for m in named if m] == [
        ("10", "gama"), ("10", "gamma"), ("20", "hidden"), ("22", "features"), ("25", "memory"),
    ]  # fmt: skip


@pytest.mark.parametrize(("new", "key"), [('name = "pendulm"', "name"), ('file = "nope.py"', "file")])
def test_without_its_plant_no_more_is_said_of_a_file(here, capsys, new, key):
    lines = refusal(here, capsys, changed(('name = "linear"', new))).splitlines()
    assert [re.search(r"\[plant\] `?(\w+)`", line)[1] for line in lines] == [key]


@pytest.mark.parametrize("section", ["plant", "problem", "reference"])
def test_a_missing_section_is_named(here, capsys, section):
    text = re.sub(rf"\[{section}\]\n(?:[^\[\n].*\n)*", "", BASE)
    assert f"`[{section}]" in refusal(here, capsys, text)


def test_all_missing_sections_are_named_at_once(here, capsys):
    said = refusal(here, capsys, 'name = "empty"\n')
    assert [s for s in ("plant", "problem", "reference") if f"`[{s}]" not in said] == []


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [("gamma = 0.9", "gamma 0.9", 10), ("[critic]", "[critic", 19), ("seed = 3", "seed = 3\nseed = 4", 3), ("[[0.2]]", "[[0.2]", 8)],
)
def test_invalid_toml_is_refused_by_its_line(here, capsys, old, new, line):
    assert re.search(rf"bad\.toml.*line {line}\b", refusal(here, capsys, changed((old, new))))


def test_a_file_that_is_not_text_is_refused(here, capsys):
    assert "bad.toml" in refusal(here, capsys, b"name = '\xff'")


@pytest.mark.parametrize("file", ["missing.toml", ".", "missing/file.toml"])
def test_a_missing_file_is_refused(here, capsys, file):
    assert file in refusal(here, capsys, None, file=file)


BAD = [
    # sections and names
    ("[critic]", "[[critic]]", "critic"),
    ("[reference]", "[[reference]]", "reference"),
    ("[comparison]\n", '[comparison]\n"a\\nb" = 3\n', "comparison"),
    ('name = "tiny"', "name = 5", "name"),
    ('name = "tiny"', 'name = ["tiny"]', "name"),
    ('name = "tiny"', 'name = "../tiny"', "name"),
    ("seed = 3", 'seed = "3"', "seed"),
    ("seed = 3", "seed = -3", "seed"),
    ("seed = 3", "seed = 3.5", "seed"),
    ("seed = 3", "seed = true", "seed"),
    ("seed = 3", f"seed = {2**64}", "seed"),
    ('name = "linear"', 'name = "linaer"', "Did you mean `linear`?"),
    ('name = "linear"', 'name = ["linear"]', "plant"),
    ("A = [[-1.0]]", 'A = "x"', "plant"),
    ("A = [[-1.0]]", "A = [[-1.0, 2.0], [1.0]]", "plant"),
    ("A = [[-1.0]]", "A = [[nan]]", "A"),
    # problem
    ("gamma = 0.9", "gamma = 1.2", "`gamma` must lie in (0, 1]; got 1.2"),
    ("gamma = 0.9", "gamma = 0.0", "gamma"),
    ("gamma = 0.9", "gamma = nan", "gamma"),
    ("gamma = 0.9", 'gamma = "0.9"', "gamma"),
    ("gamma = 0.9", "gamma = [0.9]", "gamma"),
    ("gamma = 0.9", "gamma = 2020-01-01", "problem"),
    ("dt = 0.1\n", "", "dt"),
    ("dt = 0.1", "dt = 0", "dt"),
    ("dt = 0.1", 'dt = "fast"', "dt"),
    ("dt = 0.1", 'dt = 0.1\nexit = "clop"', "exit"),
    ("dt = 0.1", 'dt = 0.1\nscheme = "rk5"', "scheme"),
    ("dt = 0.1", "dt = 0.1\nsubsteps = 0", "substeps"),
    ('reward = "-x1**2 - 0.1*u1**2"\n', "", "reward"),
    ('reward = "-x1**2 - 0.1*u1**2"', "reward = 5", "reward"),
    ('reward = "-x1**2 - 0.1*u1**2"', 'reward = "-x2**2"', "Did you mean `x1`?"),
    ('reward = "-x1**2 - 0.1*u1**2"', 'reward = "sin(x1, u1)"', "reward"),
    ('reward = "-x1**2 - 0.1*u1**2"', 'reward = "-x1**2"\nQ = [1.0]\nR = [1.0]', "reward"),
    ('reward = "-x1**2 - 0.1*u1**2"', 'reward = "-x1**2"\nN = [[1.0]]', "N"),
    ('reward = "-x1**2 - 0.1*u1**2"', "Q = [1.0]", "reward"),
    ('reward = "-x1**2 - 0.1*u1**2"', "Q = [1.0, 2.0]\nR = [1.0]", "Q"),
    ('reward = "-x1**2 - 0.1*u1**2"', "Q = [nan]\nR = [1.0]", "Q"),
    ("dt = 0.1", 'dt = 0.1\ntarget = "u1 - 1"', "u1"),
    ("dt = 0.1", "dt = 0.1\ntarget = 3", "target"),
    ("dt = 0.1", 'dt = 0.1\nexit_value = "x1"', "exit_value"),
    # reference
    ('method = "GridDP"', 'method = "GridPD"', "Did you mean `GridDP`?"),
    ('method = "GridDP"', "method = 3", "method"),
    ('method = "GridDP"', 'method = ["GridDP"]', "method"),
    ("shape = [9]\n", "", "shape"),
    ("shape = [9]", "shape = [9, 9]", "shape"),
    ("shape = [9]", 'shape = "fine"', "reference"),
    ("shape = [9]", "shape = [9.7]", "shape"),
    ("inputs = 5", "inputs = 0", "inputs"),
    ("inputs = 5", 'inputs = "x"', "inputs"),
    ("quadrature = 2", "quadrature = 0", "quadrature"),
    ("quadrature = 2", "quadrature = 2.5", "quadrature"),
    ("quadrature = 2", "quadrature = 2\niterations = 0", "iterations"),
    ("quadrature = 2", 'quadrature = 2\niterations = "x"', "iterations"),
    ("quadrature = 2", 'quadrature = 2\nmemory = "x"', "memory"),
    ("quadrature = 2", 'quadrature = 2\nmargin = "x"', "margin"),
    ("quadrature = 2", "quadrature = 2\norder = 2", "order"),
    ("quadrature = 2", "quadrature = 2\ntolerance = nan", "tolerance"),
    ("x = [0.0]", "x = [0.0, 1.0]", "baseline"),
    ("x = [0.0]", 'x = ["a"]', "baseline"),
    ("x = [0.0]", "x = [nan]", "baseline"),
    # critic and training
    ("hidden = 3", "hidden = 0", "hidden"),
    ("hidden = 3", 'hidden = "x"', "critic"),
    ("hidden = 3", "hidden = 3.7", "hidden"),
    ('activation = "square"', 'activation = "sqare"', "Did you mean `square`?"),
    ('activation = "square"', 'activation = ["square"]', "critic"),
    ('features = "affine"', 'features = "afine"', "Did you mean `affine`?"),
    ("hidden = 3", "hidden = 3\nscale = nan", "scale"),
    ("steps = 200", 'steps = 200\npolicy = "lrq"', "Did you mean `lqr`?"),
    ("steps = 200", 'steps = 200\npolicy = ["lqr"]', "policy"),
    ("steps = 200", 'steps = "many"', "steps"),
    ("steps = 200", "steps = 1", "steps"),
    ("memory = 8", "memory = 0", "memory"),
    ("memory = 8", "memory = 8\nrate = -1.0", "rate"),
    ("memory = 8", 'memory = 8\nrate = "x"', "training"),
    ("memory = 8", 'memory = 8\nexploration = "x"', "training"),
    # decomposition and comparison
    ("points = 64", "points = 0", "points"),
    ("points = 64", "points = -4", "points"),
    ("points = 64", "points = 1", "points"),
    ("points = 64", 'points = "x"', "points"),
    ("points = 64", 'measure = "unifrm"', "measure"),
    ("starts = 0", "starts = -1", "starts"),
    ("iterations = 3", "iterations = 2.5", "iterations"),
    ("x0 = [[1.0], [-0.5]]", "x0 = [[1.0, 2.0]]", "x0"),
    ("x0 = [[1.0], [-0.5]]", "x0 = []", "x0"),
    ("x0 = [[1.0], [-0.5]]", 'x0 = "up"', "x0"),
    ("x0 = [[1.0], [-0.5]]", "x0 = [[nan]]", "x0"),
    ("steps = 10", "steps = 0", "steps"),
    ("paths = 4", "paths = 0", "paths"),
    ("paths = 4", "paths = -1", "paths"),
    ("paths = 4", "paths = 4.5", "paths"),
    ("paths = 4", 'paths = "x"', "paths"),
]


@pytest.mark.usefixtures("run", "without_figures")
@pytest.mark.parametrize(("old", "new", "named"), BAD, ids=[new.replace("\n", " ") for _, new, _ in BAD])
def test_bad_values_are_refused(here, capsys, old, new, named):
    assert named in refusal(here, capsys, changed((old, new)))


@pytest.mark.usefixtures("run", "without_figures")
def test_a_policy_that_the_problem_has_not_is_refused(here, capsys, monkeypatch):
    monkeypatch.setattr(experiment, "_lqr", lambda *_: None)
    assert "`[training] policy`" in refusal(here, capsys, changed(("steps = 200", 'steps = 200\npolicy = "lqr"')))


@pytest.mark.usefixtures("run", "without_figures")
@pytest.mark.parametrize(("seed", "rule"), [("-1", "≥ 0;"), (str(2**64), "≥ 0 and < 2⁶³;")])
def test_a_bad_seed_on_the_command_line_is_refused(here, capsys, seed, rule):
    assert f"`--seed` must be a whole number {rule}" in refusal(here, capsys, BASE, "--seed", seed)


@pytest.mark.parametrize(
    "out",
    ["bad.toml", "bad.toml/out", "bad.toml/deeper/out", "x" * 300, "new/" + "x" * 300, "new/" + "x" * 300 + "/out"],
)
def test_an_out_that_cannot_be_a_folder_is_refused_before_any_work(here, capsys, monkeypatch, out):
    monkeypatch.setattr(experiment, "execute", lambda *_: pytest.fail("worked first"))
    assert "`--out`" in refusal(here, capsys, BASE, out=out)


@pytest.mark.usefixtures("run", "without_figures")
@pytest.mark.parametrize("name", ["figures", "summary.json"])
def test_an_out_with_something_else_in_the_way_is_left_untouched(here, capsys, name):
    (here / "old").mkdir()
    (here / "old" / "data.npz").write_text("old")
    if name == "figures":
        (here / "old" / name).write_text("a file where a folder goes")
    else:
        (here / "old" / name).mkdir()
    assert "`--out`" in refusal(here, capsys, BASE, out="old")


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(("error", "out"), [*itertools.product((RuntimeError, OSError), ("new/parent/out", "old"))])
def test_a_failure_in_the_middle_leaves_nothing_and_an_old_folder_untouched(here, monkeypatch, error, out):
    def fail(_figure, folder, name):
        (Path(folder) / f"{name}.pdf").write_text("half")
        raise error("the disk is full")

    monkeypatch.setattr(plots, "run_figures", lambda *_: {"first": None})
    monkeypatch.setattr(plots, "save", fail)
    (here / "old" / "figures").mkdir(parents=True)
    (here / "old" / "figures" / "first.pdf").write_text("whole")
    (here / "old" / "summary.json").write_text("{}")
    (here / "tiny.toml").write_text(BASE, encoding="utf-8")
    before = files(here)
    with pytest.raises(error, match="the disk is full"):
        main(["run", "tiny.toml", "--quiet", "--out", out])
    assert files(here) == before


def test_an_interrupt_leaves_nothing(here, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "execute", interrupted)
    (here / "tiny.toml").write_text(BASE, encoding="utf-8")
    before = files(here)
    assert main(["run", "tiny.toml", "--out", "new/out"]) == 130
    assert files(here) == before
    assert capsys.readouterr().err == "rlctrl: interrupted; new/out was not written\n"


def test_an_interrupt_says_whether_there_is_something_to_resume(here, capsys, monkeypatch):
    def interrupted(_experiment, _command, state, _progress):
        (state / "training.npz").write_bytes(b"")
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "execute", interrupted)
    (here / "tiny.toml").write_text(BASE, encoding="utf-8")
    assert main(["run", "tiny.toml", "--out", "out"]) == 130
    assert capsys.readouterr().err == "rlctrl: interrupted; out was not written; `--resume` goes on from here\n"
    assert not (here / "out").exists()


def test_the_same_run_twice_at_a_time_is_refused_and_leaves_the_first_alone(here):
    with artefacts.gathered(here / "out", "0" * 16) as (folder, _):
        (folder / "summary.json").write_text("{}")
        with pytest.raises(rc.InputError, match=r"another run of the same file\. Wait for it"), artefacts.gathered(here / "out", "0" * 16):
            pass
        with artefacts.gathered(here / "other", "1" * 16):
            pass
    assert (here / "out" / "summary.json").read_text() == "{}"
    assert sorted(p.name for p in here.iterdir()) == ["other", "out"]


def test_a_new_folder_appears_at_once(here, monkeypatch):
    replace, moved = os.replace, []
    monkeypatch.setattr(artefacts.os, "replace", lambda source, target: (moved.append(Path(target)), replace(source, target)))
    with artefacts.gathered(here / "out", "0" * 16) as (folder, _):
        (folder / "figures").mkdir()
        (folder / "figures" / "first.pdf").write_text("")
        (folder / "summary.json").write_text("{}")
    assert moved == [here / "out"]
    assert sorted(p.name for p in (here / "out").rglob("*")) == ["figures", "first.pdf", "summary.json"]


@pytest.mark.usefixtures("run", "without_figures")
def test_what_does_not_converge_exits_with_3_and_leaves_nothing(here, capsys):
    text = changed(("quadrature = 2", "quadrature = 2\niterations = 1\ntolerance = 1e-14"))
    assert "GridDP" in refusal(here, capsys, text, code=3)


# The rest of the command line -------------------------------------------------------------------------------------------------------


def test_the_command_in_a_process_of_its_own(here):
    """As a shell sees it: exit code, one line on standard error, nothing on standard output."""
    command = [sys.executable, "-W", "error", "-m", "rlctrl", "run", "missing.toml", "--out", "new"]
    done = subprocess.run(
        command, cwd=here, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"rlctrl: `[^\n]*missing\.toml[^\n]*\n", done.stderr)
    assert list(here.iterdir()) == []


def test_plants_are_listed_each_on_a_line(capsys):
    assert main(["plants"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == plants.names()
    assert min(len(line.split()) for line in lines) >= 3


def test_a_plant_is_described_with_its_units(capsys):
    assert main(["plants", "pendulum"]) == 0
    said = capsys.readouterr().out
    for text in ("theta [rad]", "omega [rad/s]", "torque [N m]", "periodic", "[-5, 5]", "mass", "9.81", "Doya"):
        assert text in said


@pytest.mark.parametrize("name", plants.names())
def test_every_plant_can_be_described(capsys, name):
    assert main(["plants", name]) == 0
    said = capsys.readouterr().out
    for signal in (*plants.get(name).states, *plants.get(name).inputs):
        assert f"{signal.name} [{signal.unit}]" in said


def test_an_unknown_plant_is_refused(capsys):
    assert main(["plants", "pendlum"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(r"rlctrl: `[^\n]*Did you mean `pendulum`\?\n", said.err)


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.toml")), ids=lambda f: f.stem)
def test_examples_load(file):
    loaded = experiment.load(file)
    assert loaded.name == file.stem
    assert loaded.comparison["x0"].shape[1] == loaded.problem.plant.n


def test_there_are_examples_of_both_methods():
    assert {type(experiment.load(f).method) for f in (ROOT / "examples").glob("*.toml")} >= {rc.GridDP, rc.Riccati}
