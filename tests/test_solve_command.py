"""`rlctrl solve`: references side by side, their figures and numbers, checkpoints, and refusals in one sentence."""

import csv
import json

import numpy as np
import pytest

import rlctrl as rc
from rlctrl import plots
from rlctrl.cli import main

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


def test_a_checkpoint_is_kept_and_used_again(tmp_path):
    state = tmp_path / "state.npz"
    (tmp_path / "c.toml").write_text(TEXT[: TEXT.index("[[also]]")], encoding="utf-8")
    for out in ("one", "two"):
        assert main(["solve", str(tmp_path / "c.toml"), "--out", str(tmp_path / out), "--checkpoint", str(state), "-q"]) == 0
    assert state.is_file()
    first, second = (rc.Reference.load(tmp_path / out / "reference_GridDP.npz") for out in ("one", "two"))
    assert np.array_equal(first.value.coefficients, second.value.coefficients)
    (tmp_path / "r.toml").write_text(TEXT.replace('method = "GridDP"\nshape = [13, 13]\norder = 3\ninputs = 5', 'method = "Riccati"'))
    assert main(["solve", str(tmp_path / "r.toml"), "--out", str(tmp_path / "no"), "--checkpoint", str(state), "-q"]) == 2


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
