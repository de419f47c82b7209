"""The commands beside `run` and `solve`: what each leaves, what it refuses, and that a killed run goes on."""

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import casadi as ca
import numpy as np
import pytest

import rlctrl as rc
from rlctrl import cache, experiment, plots
from rlctrl.cli import COMMANDS, main
from rlctrl.critic.network import CriticQ
from rlctrl.refusals import places
from rlctrl.storage import load_record

ROOT = Path(__file__).parents[1]
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
hidden = 3
features = "affine"
[training]
steps = 40
memory = 8
snapshots = 4
[mpc]
horizon = 5
[policies]
half = "-0.5*x1"
[comparison]
x0 = [[1.0]]
steps = 8
paths = 2
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(TEXT, encoding="utf-8")
    return tmp_path


@pytest.fixture
def without_figures(monkeypatch):
    monkeypatch.setattr(plots, "run_figures", lambda *_: {})


def summary(folder):
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def test_compare_takes_the_policies_that_need_no_training(here, capsys):
    assert main(["compare", "small.toml", "--out", "c"]) == 0
    found = summary(here / "c")
    assert set(found["returns"]) == {"lqr", "lqr_clipped", "mpc", "half"}
    assert "critic" not in found
    kept = [n for n in found["returns"] if found["beyond_bounds"][n] == 0]
    assert found["regret"][max(kept, key=lambda n: found["returns"][n]["mean"])] == 0
    with open(here / "c" / "comparison.csv", encoding="utf-8", newline="") as file:
        rows = {row["policy"]: row for row in csv.DictReader(file)}
    assert {n: float(r["mean"]) for n, r in rows.items()} == {n: r["mean"] for n, r in found["returns"].items()}
    said = capsys.readouterr().out
    assert "return     half" in said
    assert {p.stem for p in (here / "c" / "figures").glob("*.svg")} == {"closed_loop", "returns"}
    assert 'data-name="returns"' in (here / "c" / "report.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("without_figures")
def test_simulate_follows_one_policy_and_solves_nothing_it_does_not_need(here):
    assert main(["simulate", "small.toml", "--policy", "half", "--out", "s", "-q"]) == 0
    assert not (here / "s" / "reference.npz").exists()
    with np.load(here / "s" / "data.npz") as stored:
        assert np.array_equal(stored["path_half_u"], -0.5 * stored["path_half_x"][:, :-1])
    assert main(["simulate", "small.toml", "--out", "r", "-q"]) == 0
    assert list(summary(here / "r")["returns"]) == ["reference"]


def test_train_leaves_a_critic_and_its_figure(here):
    assert main(["train", "small.toml", "--out", "t", "-q"]) == 0
    assert {p.stem for p in (here / "t" / "figures").glob("*.svg")} == {"training"}
    assert summary(here / "t")["critic"]["weights"] > 0
    assert (here / "t" / "critic.npz").is_file()
    assert "returns" not in summary(here / "t")


@pytest.mark.usefixtures("without_figures")
def test_export_writes_what_has_a_closed_form(here, capsys):
    assert main(["train", "small.toml", "--out", "t", "-q"]) == 0
    capsys.readouterr()
    assert main(["export", "t", "--to", "casadi"]) == 0
    assert {Path(p).name for p in capsys.readouterr().out.split()} == {"critic.casadi", "value.casadi", "policy.casadi"}
    assert main(["export", "t"]) == 0
    assert {p.name for p in (here / "t" / "export").glob("*.c")} == {"critic.c", "value.c", "policy.c"}
    loaded = {n: ca.Function.load(str(here / "t" / "export" / f"{n}.casadi")) for n in ("critic", "value", "policy")}
    reference, q = rc.Reference.load(here / "t" / "reference.npz"), load_record(here / "t" / "critic.npz", CriticQ)
    x, u = np.array([0.3]), np.array([-0.2])
    assert float(loaded["critic"](x, u)) == pytest.approx(float(q.at(x, u)), rel=1e-12)
    assert float(loaded["value"](x)) == pytest.approx(float(reference.V(x)), rel=1e-12)
    assert float(loaded["policy"](x)) == pytest.approx(float(reference.policy(x)[0]), rel=1e-12)
    assert main(["export", str(here)]) == 2
    assert "`DIR` must hold critic.npz, reference.npz or the references of a solve" in capsys.readouterr().err


@pytest.mark.usefixtures("without_figures")
def test_a_formula_may_be_the_policy_that_training_follows(here):
    (here / "small.toml").write_text(TEXT.replace("steps = 40", 'steps = 40\npolicy = "half"'), encoding="utf-8")
    assert main(["train", "small.toml", "--out", "t", "-q"]) == 0
    assert not (here / "t" / "reference.npz").exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('half = "-0.5*x1"', 'half = "-0.5*x2"', r"line 24: .*`\[policies\] half`"),
        ('half = "-0.5*x1"', 'half = ["x1", "x1"]', r"line 24: .*1 formula"),
        ("horizon = 5", "horizon = 0", r"line 22: .*`\[mpc\] horizon`"),
        ("horizon = 5", 'terminal = "dp"', r"line 22: .*`\[mpc\] terminal`"),
        ("steps = 8", 'steps = 8\npolicies = ["lqr", "haf"]', r"`\[comparison\] policies`.*Did you mean `half`"),
        ("steps = 8", 'steps = 8\npolicies = "lqr"', r"line 28: .*`\[comparison\] policies`"),
    ],
)
def test_bad_policies_are_refused(here, capsys, old, new, said):
    (here / "small.toml").write_text(TEXT.replace(old, new), encoding="utf-8")
    assert main(["compare", "small.toml", "--out", "c", "-q"]) == 2
    assert re.search(said, capsys.readouterr().err)
    assert sorted(p.name for p in here.iterdir()) == ["small.toml"]


def test_wrong_values_of_several_sections_are_listed_at_once_with_their_lines(here, capsys):
    text = TEXT.replace("gamma = 0.9", "gamma = 2.0").replace("hidden = 3", "hidden = 0").replace("memory = 8", "memory = 0")
    (here / "small.toml").write_text(text.replace("x0 = [[1.0]]", "x0 = [[1.0, 2.0]]"), encoding="utf-8")
    assert main(["run", "small.toml", "-q"]) == 2
    lines = capsys.readouterr().err.splitlines()
    named = [re.search(r"line (\d+): .*`[^`]*?(\w+)`", line) for line in lines]
    assert [(m[1], m[2]) for m in named if m] == [("9", "gamma"), ("15", "hidden"), ("19", "memory"), ("26", "x0")]


def test_lines_are_found_in_arrays_strings_and_lists_of_sections():
    text = """a = '''
[no]
b = 1
'''
[one] # c = 3
x = [
  1, # ]
  2]
"y" = "]"
[[two]]
x = {k = 1}
[[two]]
z = '''[
'''
w = 1
"""
    found = {("", "a"): 1, ("one", ""): 5, ("one", "x"): 6, ("one", "y"): 9, ("two", ""): 10, ("two", "x"): 11}
    assert places(text) == found | {("two 2", ""): 12, ("two 2", "z"): 13, ("two 2", "w"): 15}


@pytest.mark.usefixtures("without_figures")
def test_new_writes_what_runs_as_it_is(here):
    assert main(["new", "ball"]) == 0
    loaded = experiment.load(here / "ball.toml")
    assert loaded.problem.plant.name == "ball"
    assert "stiffness" in loaded.description
    short = (here / "ball.toml").read_text(encoding="utf-8").replace("steps = 100\n", "steps = 5\n").replace("paths = 256", "paths = 2")
    (here / "ball.toml").write_text(short, encoding="utf-8")
    assert main(["simulate", "ball.toml", "--policy", "spring", "-q", "--out", "b"]) == 0


@pytest.mark.parametrize("name", ["ball", "My Plant", "class!", "Ball", "class", "numpy", "plants", "sys", "queue"])
def test_new_overwrites_nothing_and_wants_a_plain_name(here, capsys, name):
    (here / "ball.py").write_text("mine")
    assert main(["new", name]) == 2
    assert "`NAME`" in capsys.readouterr().err
    assert (here / "ball.py").read_text() == "mine"
    assert sorted(p.name for p in here.iterdir()) == ["ball.py", "small.toml"]


OWN = """
import rlctrl as rc
def ball(mass=1.0):
    signals = [rc.Signal("x1", "m", -1, 1)], [rc.Signal("u1", "N", -1, 1)]
    return rc.Plant("own", *signals, drift=lambda x, u, p: u[0] / p.mass - x[0], params={"mass": mass})
"""


def own(**values):
    """The file with a plant of one's own, ball.py."""
    stated = "".join(f"\n{key} = {value}" for key, value in values.items())
    return TEXT.replace('name = "linear"\nA = [[-1.0]]\nB = [[1.0]]\nF = [[0.2]]', f'file = "ball.py"\nname = "ball"{stated}')


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def ball(): return 3", "`.plant. name` must be a function that returns an rc.Plant"),
        ("x = 1\nboom", r"`file` ball\.py, line 2: NameError: name 'boom' is not defined\. Mend"),
        ("x = 1\ndef ball(:", r"`file` ball\.py, line 2: SyntaxError: .*\. Mend"),
        ("import no_such_module", r"`file` ball\.py, line 1: ModuleNotFoundError: .*\. Mend"),
        ("import sys\nsys.exit(3)", r"`file` ball\.py, line 2: SystemExit: 3\. Mend"),
        ("def ball():\n    return {}['k']", r"`file` ball\.py, line 2: KeyError: 'k'\. Mend"),
        ("def ball():\n    return 1 / 0", r"`file` ball\.py, line 2: ZeroDivisionError: division by zero\. Mend"),
        ("def ball():\n    assert 1 > 2", r"`file` ball\.py, line 2: AssertionError\. Mend"),
        ("def ball():\n    raise ValueError('no such mass')", r"`file` ball\.py, line 2: ValueError: no such mass\. Mend"),
        ("def ball():\n    raise SystemExit", r"`file` ball\.py, line 2: SystemExit\. Mend"),
        (OWN.replace("- x[0]", "- y[0]"), r"`drift` of plant 'own' failed when .*: NameError: name 'y' is not defined"),
        (OWN.replace("mass=1.0", "mas=1.0"), r"`mass` is not a keyword of ball; got 2\.0\. Did you mean `mas`\?"),
        ("def bell(): pass", "`name` must be a function of ball.py"),
        (None, "`file` must be a Python file"),
    ],
)
def test_a_plant_file_that_is_none_is_refused_in_one_sentence(here, capsys, code, said):
    (here / "f.toml").write_text(own(mass=2.0) if code and "mas=" in code else own())
    if code:
        (here / "ball.py").write_text(code)
    assert main(["run", "f.toml", "-q"]) == 2
    assert re.fullmatch(rf"rlctrl: line \d: (\[plant\] )?{said}.*\n", capsys.readouterr().err)


def test_a_plant_file_may_import_what_lies_beside_it(here):
    """Two folders, two modules of the same name; nothing of them stays."""
    before = list(sys.path)
    for mass in (1.0, 2.0):
        folder = here / f"of_{mass}"
        (folder / "parts").mkdir(parents=True)
        (folder / "parts" / "__init__.py").write_text("from parts.mass import MASS")
        (folder / "parts" / "mass.py").write_text(f"MASS = {mass}")
        (folder / "ball.py").write_text(f"from parts import MASS\n{OWN.replace('mass=1.0', 'mass=MASS')}")
        (folder / "f.toml").write_text(own())
        assert experiment.load(folder / "f.toml").problem.plant.params == {"mass": mass}
    assert sys.path == before
    assert not [name for name in sys.modules if name.startswith("parts")]


def test_a_training_whose_input_has_no_bound_leaves_its_folder(here):
    """It has no greedy policy for the slices."""
    (here / "ball.py").write_text(OWN.replace('"N", -1, 1', '"N"'))
    (here / "f.toml").write_text(own() + '[decomposition]\nmeasure = "visited"\n')
    assert main(["train", "f.toml", "--out", "out", "-q"]) == 0
    with np.load(here / "out" / "slices.npz") as found:
        assert "q_trained" in found
        assert "policy_critic" not in found


def test_packages_without_a_file_are_forgotten_too_and_dataclasses_find_their_module(here):
    for mass in (1.0, 2.0):
        folder = here / f"of_{mass}"
        (folder / "parts").mkdir(parents=True)
        (folder / "parts" / "mass.py").write_text(f"MASS = {mass}")
        head = "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom parts.mass import MASS\n"
        classes = "@dataclass\nclass Size:\n    kg: float = MASS\n"
        (folder / "ball.py").write_text(f"{head}{OWN.replace('mass=1.0', 'mass=MASS')}{classes}")
        (folder / "f.toml").write_text(own())
        assert experiment.load(folder / "f.toml").problem.plant.params == {"mass": mass}
    assert not [name for name in sys.modules if name.startswith("parts")]


def test_a_formula_may_not_have_the_name_of_a_policy_of_the_run(here, capsys):
    names = ["reference", "lqr", "lqr_clipped", "mpc", "critic", "actor", "dp", "hjb", "spectral"]
    formulas = "".join(f'{name} = "-x1"\n' for name in names)
    (here / "small.toml").write_text(TEXT.replace('half = "-0.5*x1"\n', formulas).replace("paths = 2", "paths = 0"))
    assert main(["compare", "small.toml", "-q"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [re.match(r"rlctrl: line (\d+): `\[policies\] (\w+)` must have another name", line).groups() for line in lines[:-1]] == [
        (str(24 + k), name) for k, name in enumerate(names)
    ]
    assert "`[comparison] paths`" in lines[-1]


def test_a_formula_without_a_finite_value_is_named(here, capsys):
    (here / "small.toml").write_text(TEXT.replace('"-0.5*x1"', '"sqrt(x1 - 5)"'))
    assert main(["compare", "small.toml", "-q"]) == 2
    assert "`policies['half']` gives no finite input at x = 1.0: it gives nan. Mend it" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_names_every_command(capsys, shell):
    assert main(["completion", shell]) == 0
    said = capsys.readouterr().out
    assert [c for c in COMMANDS if c not in said] == []


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("comp", "compare completion"),
        ("run --res", "--resume"),
        ("run small.toml --out ", ""),  # where no words are offered, files are
        ("run ", ""),
        ("plants pendulum_", "pendulum_friction pendulum_motor"),
        ("plants --", "--figure"),
        ("plants --figure ", ""),
        ("simulate small.toml --policy l", "lqr lqr_clipped"),
        ("export results --to ", "c casadi"),
        ("completion ", "bash zsh fish"),
    ],
)
def test_completion_offers_commands_options_and_values(capsys, typed, offered):
    main(["completion", "bash"])
    words = ["rlctrl", *typed.split(" ")]
    asked = f"{capsys.readouterr().out}\nCOMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; _rlctrl; echo ${{COMPREPLY[@]}}"
    assert subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True).stdout.strip() == offered


def test_completion_of_fish_offers_options_and_values(capsys):
    main(["completion", "fish"])
    lines = capsys.readouterr().out.splitlines()
    assert "complete -c rlctrl -n '__fish_seen_subcommand_from run' -l resume" in lines
    assert "complete -c rlctrl -n '__fish_seen_subcommand_from export' -l to -r -f -a 'c casadi'" in lines
    (plants,) = [line for line in lines if "_from plants' -f -a '" in line]
    assert {"pendulum", "quadrotor"} < set(plants.replace("'", " ").split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_helps_with_an_example(capsys, name):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"example: {COMMANDS[name].example}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("error", [MemoryError("Unable to allocate 9 TiB"), RuntimeError("RESOURCE_EXHAUSTED: 9 TiB\nmore")])
def test_too_little_memory_is_said_in_one_line(monkeypatch, capsys, error):
    def exhausted(*_, **__):
        raise error

    monkeypatch.setattr(experiment, "run_file", exhausted)
    assert main(["run", "small.toml", "-q"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("rlctrl: needs more memory than there is")
    assert said.count("\n") == 1


def test_other_errors_are_not_taken_for_too_little_memory(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr(experiment, "run_file", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["run", "small.toml", "-q"])


def test_mpc_without_its_section_says_how_to_get_it(here, capsys):
    (here / "small.toml").write_text(re.sub(r"\[mpc\][^[]*", "", TEXT), encoding="utf-8")
    assert main(["simulate", "small.toml", "--policy", "mpc", "-q"]) == 2
    assert "Add a section [mpc]" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["haf", ""])
def test_a_policy_on_the_command_line_is_refused_under_its_name(here, capsys, name):
    assert main(["simulate", "small.toml", "--policy", name, "-q"]) == 2
    assert re.fullmatch(rf"rlctrl: `--policy` must be among \(.*\); got {name!r}\..*\n", capsys.readouterr().err)
    assert sorted(p.name for p in here.iterdir()) == ["small.toml"]


@pytest.mark.parametrize("command", ["run", "solve"])
def test_resume_without_anything_to_resume_is_refused(here, capsys, command):
    assert main([command, "small.toml", "--resume", "-q", "--out", "new/one"]) == 2
    assert "`--resume`" in capsys.readouterr().err
    assert sorted(p.name for p in here.iterdir()) == ["small.toml"]


KILLED = """
import sys
import rlctrl.critic.checkpoint as c
from rlctrl import plots
from rlctrl.cli import main
c.INTERVAL = 0.0
plots.run_figures = lambda *_: {}
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_numbers(here):
    (here / "small.toml").write_text(TEXT.replace("steps = 40", "steps = 20000").replace("snapshots = 4", "snapshots = 400"))
    command = [sys.executable, "-c", KILLED, "train", "small.toml", "-q", "--out"]
    options = {"cwd": here, "env": os.environ | {"PYTHONPATH": str(ROOT)}}
    process = subprocess.Popen([*command, "resumed"], stdout=subprocess.DEVNULL, **options)
    while not list(here.glob(".rlctrl-*/state/training.npz")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (here / "resumed").exists()
    subprocess.run([*command, "resumed", "--resume"], check=True, stdout=subprocess.DEVNULL, **options)
    subprocess.run([*command, "whole"], check=True, stdout=subprocess.DEVNULL, **options)
    with np.load(here / "resumed" / "data.npz") as a, np.load(here / "whole" / "data.npz") as b:
        assert a.files == b.files
        assert [n for n in a.files if a[n].tobytes() != b[n].tobytes()] == []
    assert list(here.glob(".rlctrl*")) == []


# Model predictive control and the comparison ---------------------------------------------------------------------------------------------


def test_mpc_with_the_exact_terminal_value_is_lqr(here):
    problem = experiment.load(here / "small.toml").problem
    lqr = rc.solve(problem, rc.Riccati())
    controller = rc.MPC(problem, horizon=4, terminal=lqr)
    x = np.linspace(-1, 1, 7)[:, None]
    assert np.max(np.abs(controller(x) - lqr.policy(x))) <= 1e-5
    assert (controller.solved, controller.failed) == (7, 0)
    own = rc.MPC(problem, horizon=4, terminal=lambda x: -float(np.asarray(lqr.value.P)[0, 0]) * x[0] ** 2)
    assert np.max(np.abs(own(x) - lqr.policy(x))) <= 1e-5


def test_mpc_respects_the_inputs_and_its_steps_agree_with_a_long_programme():
    """Within the input box V* is not quadratic: N steps and OpenLoop's first input agree as N grows."""
    plant = rc.Plant(
        name="pushed",
        states=[rc.Signal("x", "m", -2, 2)],
        inputs=[rc.Signal("u", "N", -0.3, 0.3)],
        drift=lambda x, u, p: -0.2 * x + u,
    )
    problem = rc.Problem(plant, rc.quadratic([1.0], [0.1]), gamma=0.95, dt=0.1, exit="free")
    x = np.array([[0.05], [0.2], [0.5]])
    best = rc.solve(problem, rc.OpenLoop(tolerance=1e-7)).policy(x)
    u = rc.MPC(problem, horizon=80)(x)
    assert np.max(np.abs(u - best)) <= 1e-3
    assert np.all(np.abs(u) <= 0.3)


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"horizon": 0}, "horizon"),
        ({"terminal": lambda x: x * 1.0}, "terminal"),
        ({"terminal": 3}, "terminal"),
        ({"tolerance": 1}, "tolerance"),
    ],
)
def test_bad_options_of_mpc_are_refused(options, argument):
    import plants

    problem = rc.Problem(plants.double_integrator(), rc.quadratic([1, 1], [1]), gamma=0.9, dt=0.1, exit="free")
    with pytest.raises(rc.InputError, match=f"`{argument}`"):
        rc.MPC(problem, **options)


def test_settling_saturation_and_ends_of_a_known_path():
    """x falls by half a step: |x| ≤ 0.05·4 from 1.6 after three steps; u at its bound in the first; the walker ends at the wall."""
    plant = rc.Plant(
        name="halving",
        states=[rc.Signal("x", "m", -2, 2)],
        inputs=[rc.Signal("u", "m", -0.8, 0.8)],
        update=lambda x, u, w, p: x + u,
    )
    problem = rc.Problem(plant, lambda x, u: -(x[0] ** 2), gamma=0.9, dt=0.5, exit="absorb")
    policies = {"halves": lambda x: -0.5 * x, "walks": lambda x: 0.0 * x + 0.5}
    found = rc.compare(problem, policies, [1.6], steps=6, paths=1)
    assert found.settled == {"halves": 1.5, "walks": np.inf}  # 1.6, 0.8, 0.4, 0.2
    assert found.saturated == {"halves": pytest.approx(1 / 6), "walks": 0.0}
    assert found.ended == {"halves": 0.0, "walks": 1.0}
    assert found.best == "walks"
    assert found.regret("walks")[0] == 0.0
    assert found.regret("halves")[0] == found.difference("walks", "halves")[0] > 0
    assert "never" in found.table()
    assert min(found.seconds.values()) > 0
    elsewhere = rc.compare(problem, policies, [1.6], steps=6, paths=1, rest=[1.6], band=0.01)
    assert elsewhere.settled["halves"] == np.inf
    with pytest.raises(rc.InputError, match="`rest`"):
        rc.compare(problem, policies, [1.6], rest=[0.0, 0.0])


def test_what_breaks_the_bounds_of_the_inputs_is_not_the_best():
    """Without drift the largest input is worth most, and no bound stops a policy from it."""
    plant = rc.Plant("push", [rc.Signal("x", "m", -9, 9)], [rc.Signal("u", "N", -1, 1)], update=lambda x, u, w, p: 0.0 * x)
    problem = rc.Problem(plant, lambda x, u: u[0], gamma=0.5)
    asks = {"at": lambda x: 0 * x + 1.0, "beyond": lambda x: 0 * x + 2.0, "below": lambda x: 0 * x + 0.5}
    found = rc.compare(problem, asks, [1.0], steps=3, paths=1)
    assert found.beyond == {"at": 0.0, "beyond": 1.0, "below": 0.0}
    assert found.best == "at"
    assert [round(found.regret(name)[0], 12) for name in asks] == [0.0, -1.75, 0.875]
    assert "beyond: inputs that the plant does not take in 100.0 % of the steps, so not counted as the best." in found.table()
    alone = rc.compare(problem, {"beyond": asks["beyond"], "further": lambda x: 0 * x + 3.0}, [1.0], steps=3, paths=1)
    assert alone.best == "further"
    assert "not counted" not in alone.table()


def test_what_is_none_of_the_values_of_an_input_is_not_the_best():
    """The reward is largest between the two values, where the plant has none; 1e-12 beside one is on it."""
    inputs = [rc.Signal("u", "N", values=(-1, 1)), rc.Signal("v", "N", 0)]
    plant = rc.Plant("relay", [rc.Signal("x", "m", -9, 9)], inputs, update=lambda x, u, w, p: 0.0 * x)
    problem = rc.Problem(plant, lambda x, u: -((u[0] - 0.1) ** 2), gamma=0.5)
    give = lambda u, v: lambda x: 0 * x[..., :1] + np.array([u, v])
    asks = {"on": give(1.0, 0.0), "near": give(1 + 1e-12, 3.0), "between": give(0.1, 0.0), "below": give(1.0, -0.1)}
    found = rc.compare(problem, asks, [1.0], steps=3, paths=1)
    assert found.beyond == {"on": 0.0, "near": 0.0, "between": 1.0, "below": 1.0}
    assert found.best in ("on", "near")
    assert found.regret("between")[0] < 0
    assert "between: inputs that the plant does not take in 100.0 % of the steps" in found.table()


CACHED = "import sys; from rlctrl import cache; import jax; print(cache.keep(), jax.config.jax_compilation_cache_dir)"


SETTINGS = [
    ({}, "home/rlctrl"),
    ({"RLCTRL_CACHE": "off"}, None),
    ({"RLCTRL_CACHE": "mine"}, "mine"),
    ({"JAX_COMPILATION_CACHE_DIR": "jax"}, "jax"),
]


@pytest.mark.parametrize(("setting", "kept"), SETTINGS)
def test_compiled_programs_are_kept_where_the_user_says(tmp_path, setting, kept):
    free = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "RLCTRL_"))}
    free |= {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": "home"} | setting
    done = subprocess.run([sys.executable, "-c", CACHED], cwd=tmp_path, env=free, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(kept), str(kept)]
    assert kept is None or kept == "jax" or (tmp_path / kept).is_dir()


def test_the_oldest_compiled_programs_go_first(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "LARGEST", 25)
    for age, name in enumerate(("old", "middle", "new")):
        (tmp_path / name).write_bytes(bytes(10))
        os.utime(tmp_path / name, (age, age))
    cache._prune(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["middle", "new"]
