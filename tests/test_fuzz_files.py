"""Whatever stands in an experiment's file: a whole folder, or sentences that each name what is wrong; never anything half written."""

import shutil
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import plants
import rlctrl as rc
from rlctrl import experiment, plots
from rlctrl.cli import main

SAME = {"derandomize": True, "database": None, "deadline": None, "suppress_health_check": list(HealthCheck)}
TEXT = """\
name = "small"
[plant]
name = "linear"
A = [[-1.0]]
B = [[1.0]]
F = [[0.2]]
[problem]
dt = 0.1
gamma = 0.9
reward = "-x1**2 - 0.1*u1**2"
exit = "free"
[reference]
method = "Riccati"
[critic]
hidden = 2
features = "affine"
[training]
steps = 4
memory = 4
snapshots = 2
[policies]
half = "-0.5*x1"
[comparison]
x0 = [[1.0]]
steps = 3
paths = 2
"""
VALUES = [
    "nan", "inf", "-1", "0", "2", "1.5", "1e308", "1e-320", "99999999999999999999999", "true", '""', '"x"', '"a\\nb\\u0000`é"', "[]",
    "[[]]", "[[[1.0]]]", "[1.0]", "[[1.0, 2.0], [3.0]]", '["a"]', "[nan]", "1979-05-27", "07:32:00", "{}", "{a = 1}", "[{a = 1}]", '"1/0"',
    '"x1.real"',    '"log(-x1**2-1)"', '"((("', '"linear"', '["lqr", "nope"]',
]  # fmt: skip
INSERTED = [
    "[problem]", "[nonsense]", "[[also]]", "[[problem]]", "[problem.x]", "[mpc]", "[actor]", "[decomposition]", "seed = -1", "nope = 1",
    "a.b = 1", 'rest = ["x"]', "band = 7", 'norm = "max"', 'target = "x1 - 1"', 'exit_value = "1/0"', "noise = -1", "shape = [9]",
    "= 1", "'''",
]  # fmt: skip
FOLDERS = ["out", "a/b", "", " ", "a\0b", "f.toml", "f.toml/below", "x" * 300]


@st.composite
def experiments(draw):
    """A small file with something changed, put in or cut; its line ends and its beginning as other editors write them."""
    lines = TEXT.splitlines()
    for kind in draw(st.lists(st.sampled_from(["change", "change", "insert", "delete", "cut"]), min_size=1, max_size=2)):
        k = draw(st.integers(0, len(lines) - 1))
        if kind == "change":
            lines[k] = f"{lines[k].split('=')[0]}= {draw(st.sampled_from(VALUES))}" if "=" in lines[k] else lines[k].swapcase()
        elif kind == "insert":
            lines.insert(k, draw(st.sampled_from(INSERTED)))
        else:
            lines[k] = lines[k][: len(lines[k]) // 2] if kind == "cut" else ""
    end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    return draw(st.sampled_from(["", "", "\ufeff"])) + end.join(lines) + end + draw(st.sampled_from(["", "", "", "\0", "\u202e"]))


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """An empty folder to work in, without figures, and with trainings that take no compiler."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("toml"))
        for drawn in ("run_figures", "solve_figures"):
            patch.setattr(plots, drawn, lambda *_: {})
        trained = rc.train(*_to_train(), rc.ReplayTD(memory=4, snapshots=2), steps=4)
        patch.setattr(experiment.rc, "train", lambda *_, **__: trained)
        yield Path.cwd()


def _to_train():
    plant = plants.linear(A=[[-1.0]], B=[[1.0]], F=[[0.2]])
    problem = rc.Problem(plant, rc.quadratic([1.0], [0.1]), 0.9, 0.1, exit="free")
    return problem, rc.Critic(hidden=2, features="affine"), rc.solve(problem, rc.Riccati()).policy


def _command(ground, capsys, command, text, out, *options):
    """Run a command on a file; returns its exit code after what must always hold."""
    (ground / "f.toml").write_bytes(text.encode())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code = main([command, "f.toml", "--out", out, "-q", *options])
    said = capsys.readouterr().err.splitlines()
    assert code in (0, 2, 3)
    assert all(line.startswith("rlctrl: ") for line in said)
    assert (code == 0) == (not said)
    assert code != 2 or all("`" in line for line in said)
    left = {p.name for p in ground.iterdir()} - {"f.toml"}
    assert left == ({Path(out).parts[0]} if code == 0 else set())
    if code == 0:
        assert {"summary.json", "report.html", "data.npz", "data.mat"} <= {p.name for p in (ground / out).iterdir()}
        shutil.rmtree(ground / Path(out).parts[0])
    return code


@settings(max_examples=300, **SAME)
@given(st.sampled_from(["solve", "solve", "compare", "train"]), experiments(), st.sampled_from(FOLDERS[:2]))
def test_commands_leave_a_whole_folder_or_sentences(ground, capsys, command, text, out):
    _command(ground, capsys, command, text, out)


@pytest.mark.parametrize("out", FOLDERS)
def test_any_name_of_a_folder_is_taken_or_refused(ground, capsys, out):
    assert _command(ground, capsys, "solve", TEXT, out) == (0 if out in FOLDERS[:2] else 2)


@pytest.mark.parametrize("line", ["band = 7", 'rest = ["x"]', "rest = [1.0, 2.0]", 'policies = ["lqr", "nope"]', "bnad = 0.1"])
def test_comparison_is_checked_before_anything_is_solved(ground, capsys, monkeypatch, line):
    monkeypatch.setattr(experiment.rc, "solve", None)
    assert _command(ground, capsys, "compare", TEXT + line, "out") == 2


@pytest.mark.parametrize("seed", ["-1", "99999999999999999999"])
def test_seeds_out_of_range_are_refused(ground, capsys, seed):
    assert _command(ground, capsys, "compare", TEXT, "out", "--seed", seed) == 2
