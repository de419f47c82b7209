"""`rlctrl solve`: references side by side, their figures and numbers, what a killed one leaves, and refusals in one sentence."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import casadi as ca
import numpy as np
import pytest

import rlctrl as rc
from rlctrl import plots
from rlctrl.cli import main

ROOT = Path(__file__).parents[1]
TEXT = """
[plant]
name = "double_integrator"
noise = 0.1
force_max = 12.0
[problem]
dt = 0.1
gamma = 0.9
exit = "free"
Q = [1.0, 0.1]
R = [0.1]
[reference]
method = "GridDP"
shape = [13, 13]
order = 3
inputs = 5
[[also]]
method = "Riccati"
[[also]]
method = "GridDP"
shape = [21, 21]
inputs = 5
[[also]]
method = "Riccati"
about = [[0.0, 0.0], [0.0]]
[comparison]
x0 = [[1.0, 0.0]]
"""
FIGURES = {"value_and_policy", "gradient", "residual", "references", "convergence"}


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    """A finished command: its folder."""
    folder = tmp_path_factory.mktemp("solve")
    (folder / "three.toml").write_text(TEXT, encoding="utf-8")
    assert main(["solve", str(folder / "three.toml"), "--out", str(folder / "out"), "--quiet"]) == 0
    return folder / "out"


def test_all_artefacts_are_there(solved):
    assert {p.stem for p in (solved / "figures").glob("*.pdf")} == FIGURES
    assert len(list((solved / "figures").iterdir())) == 4 * len(FIGURES)
    names = {"summary.json", "data.npz", "data.mat", "slices.npz", "report.html", "references.csv", "figures"}
    names |= {f"reference_{n}.npz" for n in ("GridDP", "Riccati", "GridDP_2", "Riccati_2")}
    assert {p.name for p in solved.iterdir()} == names


def test_the_table_sets_references_side_by_side(solved):
    found = json.loads((solved / "summary.json").read_text(encoding="utf-8"))
    rows = {row["method"]: row for row in found["table"]}
    assert list(rows) == ["GridDP", "Riccati", "GridDP 2", "Riccati 2"]
    exact, cubic = rc.Reference.load(solved / "reference_Riccati.npz"), rc.Reference.load(solved / "reference_GridDP.npz")
    x = np.random.default_rng(0).uniform(-2, 2, (2000, 2))
    assert rows["Riccati"]["largest_difference_of_V"] == np.max(np.abs(exact.V(x) - cubic.V(x))) <= cubic.error
    assert rows["Riccati"]["span_of_V"] == np.ptp(exact.V(x))
    assert rows["Riccati"]["value_at_x0"] == float(exact.V([1.0, 0.0]))
    assert rows["GridDP"]["largest_difference_of_V"] == 0.0
    with open(solved / "references.csv", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [float(row["error"]) for row in table] == [row["error"] for row in rows.values()]
    with np.load(solved / "data.npz") as data:
        assert np.array_equal(data["value_0"], cubic.V(data["x"]))
        assert np.array_equal(data["gradient"], cubic.gradient(data["x"]))
        assert np.array_equal(data["residual"], cubic.bellman_residual(data["x"]))


def test_a_reference_beside_that_fails_is_said_and_the_others_stand(tmp_path, capsys):
    text = TEXT.replace("Q = [1.0, 0.1]\nR = [0.1]", 'reward = "-x**4 - u**2"'.replace("x", "position").replace("u*", "force*"))
    (tmp_path / "f.toml").write_text(text, encoding="utf-8")
    assert main(["solve", str(tmp_path / "f.toml"), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "Riccati      failed: `problem` must be linear-quadratic" in said
    assert "stated error" in said


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('[[also]]\nmethod = "Riccati"\n[comp', '[also]\nmethod = "Riccati"\n[comp', "must be valid TOML"),
        ("[plant]", 'also = 3\n[plant]', "`also` must be sections [[also]]; got 3"),
        ('method = "Riccati"\n[[also]]', 'method = "Ricatti"\n[[also]]', "`[also] method` must be one of"),
        ("order = 3", "oder = 3", "`[reference] oder` is not known there. Did you mean `order`"),
        ('[[also]]\nmethod = "Riccati"\n[comp', '[[also]]\n[comp', "`[[also]] method` must be given"),
    ],
)  # fmt: skip
def test_bad_methods_are_refused_in_one_sentence(tmp_path, capsys, old, new, said):
    text = TEXT.replace("about = [[0.0, 0.0], [0.0]]\n", "")
    text = text.split("[[also]]")[0] if old == "[plant]" else text
    assert old in text
    text = text.replace(old, new, 1)
    (tmp_path / "bad.toml").write_text(text, encoding="utf-8")
    assert main(["solve", str(tmp_path / "bad.toml"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["bad.toml"]


# `rlctrl`, without figures, that kills itself once it has written the state NAME the so-many-eth time; GridDP keeps every improvement.
KILLED = """
import os, signal, sys
from rlctrl import plots, storage
from rlctrl.cli import main
from rlctrl.reference import checkpoint
checkpoint.INTERVAL = 0.0
plots.solve_figures = lambda *_: {}
name, times, moved = sys.argv[1], int(sys.argv[2]), storage._moved
written = []

def fatal(temporary, path):
    moved(temporary, path)
    written.append(path.name)
    if written.count(name) == times:
        os.kill(os.getpid(), signal.SIGKILL)

storage._moved = fatal
main(sys.argv[3:])
"""
FILES = [f"reference_{name}.npz" for name in ("GridDP", "Riccati", "GridDP_2", "Riccati_2")]


@pytest.fixture
def three(tmp_path, monkeypatch):
    """A folder to work in, with a file of several references."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plots, "solve_figures", lambda *_: {})
    (tmp_path / "three.toml").write_text(TEXT, encoding="utf-8")
    return tmp_path


def killed(folder, name, times=1) -> Path:
    """`kill -9` once that file of the state is there, written so many times; returns the folder of the state."""
    command = [sys.executable, "-c", KILLED, name, str(times), "solve", "three.toml", "--out", "out", "-q"]
    done = subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (folder / "out").exists()
    (state,) = folder.glob(".rlctrl-*/state")
    return state


@pytest.mark.parametrize(("name", "times"), [("GridDP_begun", 1), ("GridDP_begun", 5), ("GridDP", 1), ("GridDP_2_begun", 4)])
def test_a_killed_solve_goes_on_to_the_same_bits(solved, three, name, times):
    state = killed(three, f"reference_{name}.npz", times)
    kept = {file: rc.Reference.load(state / file).seconds for file in FILES if (state / file).exists()}
    assert main(["solve", "three.toml", "--out", "out", "-q", "--resume"]) == 0
    assert {file: rc.Reference.load(three / "out" / file).seconds for file in kept} == kept  # these were not solved again
    for file in FILES:
        with np.load(three / "out" / file) as resumed, np.load(solved / file) as whole:
            assert resumed.files == whole.files
            assert [n for n in whole.files if n != "layout" and resumed[n].tobytes() != whole[n].tobytes()] == []
    assert sorted(p.name for p in three.iterdir()) == ["out", "three.toml"]


def test_a_killed_solve_goes_on_from_the_state_of_griddp(three, capsys):
    state = killed(three, "reference_GridDP_begun.npz")
    (state / "reference_GridDP_begun.npz").write_bytes(b"damaged")
    assert main(["solve", "three.toml", "--out", "out", "-q", "--resume"]) == 2
    assert "`checkpoint` must be a file written by GridDP" in capsys.readouterr().err


def test_without_resume_it_begins_anew(three):
    state = killed(three, "reference_GridDP.npz")
    (state / "reference_GridDP.npz").write_bytes(b"damaged")
    assert main(["solve", "three.toml", "--out", "out", "-q"]) == 0


@pytest.mark.parametrize("changed", [lambda text: f"{text}\n", lambda text: f"seed = 1\n{text}"], ids=["file", "seed"])
def test_a_solve_of_another_file_is_not_taken_up(three, capsys, changed):
    killed(three, "reference_GridDP.npz")
    (three / "three.toml").write_text(changed(TEXT), encoding="utf-8")
    assert main(["solve", "three.toml", "--out", "out", "-q", "--resume"]) == 2
    assert "`--resume` needs an earlier run of the same file, plant, seed and version" in capsys.readouterr().err


def test_a_solve_of_another_plant_in_the_same_file_is_not_taken_up(three, capsys):
    """The plant lies in a Python file of its own."""
    plant = "import plants\n\n\ndef own():\n    return plants.double_integrator(noise=0.1)\n"
    (three / "own.py").write_text(plant, encoding="utf-8")
    text = '[plant]\nfile = "own.py"\nname = "own"\n[problem]' + TEXT.split("[problem]")[1]
    (three / "three.toml").write_text(text, encoding="utf-8")
    killed(three, "reference_GridDP.npz")
    (three / "own.py").write_text(plant.replace("0.1", "0.2"), encoding="utf-8")
    assert main(["solve", "three.toml", "--out", "out", "-q", "--resume"]) == 2
    assert "`--resume` needs an earlier run of the same file" in capsys.readouterr().err


def test_a_file_names_no_checkpoint(three, capsys):
    (three / "three.toml").write_text(TEXT.replace("order = 3", 'checkpoint = "state.npz"'), encoding="utf-8")
    assert main(["solve", "three.toml", "--out", "out", "-q"]) == 2
    assert "`[reference] checkpoint` is not known there" in capsys.readouterr().err


def test_export_writes_every_reference_by_the_name_of_its_file(solved, tmp_path, capsys):
    folder = tmp_path / "out"
    shutil.copytree(solved, folder)
    assert main(["export", str(folder), "--to", "casadi"]) == 0
    said = capsys.readouterr()
    assert re.findall("^policy_GridDP.*: `thing` must have a closed form", said.err, re.MULTILINE)
    names = [f"{part}_{of}" for of in ("GridDP", "GridDP_2", "Riccati", "Riccati_2") for part in ("value", "policy")]
    assert [Path(line).stem for line in said.out.split()] == [n for n in names if not n.startswith("policy_Grid")]
    x = np.array([0.3, -0.2])
    for of in ("GridDP", "GridDP_2", "Riccati"):
        value = ca.Function.load(str(folder / "export" / f"value_{of}.casadi"))
        assert value.name() == f"V_{of}"
        assert float(value(x)) == pytest.approx(float(rc.Reference.load(folder / f"reference_{of}.npz").V(x)), rel=1e-12)
    assert main(["export", str(folder)]) == 0
    symbols = re.findall(r"^CASADI_SYMBOL_EXPORT int (\w+)\(const", (folder / "export" / "policy_Riccati_2.c").read_text(), re.MULTILINE)
    assert symbols == ["policy_Riccati_2"]


def test_slices_beyond_two_states_are_named_with_units():
    import plants

    chain = plants.linear(np.diag([-1.0, -0.5, -2.0]), np.ones((3, 1)), F=0.1 * np.eye(3), state_max=1.0, input_max=3.0)
    problem = rc.Problem(chain, rc.quadratic(np.eye(3), [0.1]), gamma=0.9, dt=0.1, exit="free")
    reference = rc.solve(problem, rc.Riccati())
    figures = plots.solve_figures({"Riccati": reference})
    assert "value_slices" in figures
    panels = [a for a in figures["gradient"].axes if a.get_label() != "<colorbar>"]
    assert len(panels) == 6  # three components on two slices
    assert panels[0].get_title().replace(plots.drawing.NO_BREAK, " ") == "x3 = 0"
    mesh = panels[3].collections[0]
    x = np.insert(mesh.get_coordinates().reshape(-1, 2), 0, 0.0, axis=1)
    np.testing.assert_allclose(mesh.get_array().ravel(), reference.gradient(x)[:, 0], atol=1e-12)
