"""Ctrl-C at moments that are hard to come through: one sentence, exit code 130, nothing half done. Every moment is brought about by what
the process does, never by a clock, and the command is a process of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlctrl import plots
from rlctrl.cli import main

ROOT = Path(__file__).parents[1]
TEXT = """\
[plant]
file = "ball.py"
name = "ball"
[problem]
dt = 0.1
gamma = 0.9
Q = [1.0]
R = [1.0]
exit = "free"
[reference]
method = "Riccati"
[[also]]
method = "GridDP"
shape = 15
[mpc]
horizon = 20
[comparison]
x0 = [[1.0]]
steps = 2000
paths = 256
"""
PLANT = """\
import ctypes, sys
import rlctrl as rc

def ball():
    return rc.Plant(
        name="ball",
        states=[rc.Signal("x", "m", -1, 1)],
        inputs=[rc.Signal("u", "N", -9, 9)],
        drift=lambda x, u, p: u - x,
        diffusion=lambda x, u, p: 0.1,
    )

def stuck():
    lock, libc = ctypes.create_string_buffer(256), ctypes.CDLL(None)
    libc.pthread_mutex_lock(lock)
    print("ready", flush=True)
    libc.pthread_mutex_lock(lock)  # never comes back, whatever signal there is
"""
# What Python runs first. SIGINT means what it means at a terminal, though the tests may run in the background, where it is ignored.
FIRST = """\
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
# The process interrupts itself while it imports a module, or opens the so-many-eth .npz file to write.
MOMENTS = (
    f"{FIRST}import sys, zipfile"
    + """
kind, _, what = os.environ.get("MOMENT", "").partition(" ")
start, opened = zipfile.ZipFile.__init__, []

class Importing:
    @staticmethod
    def find_spec(name, path, target=None):
        if (kind, name) == ("import", what):
            os.kill(os.getpid(), signal.SIGINT)

def watched(self, file, mode="r", *args, **options):
    start(self, file, mode, *args, **options)
    opened.extend([file] if mode == "w" else [])
    if mode == "w" and (kind, str(len(opened))) == ("write", what):
        os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Importing)
zipfile.ZipFile.__init__ = watched
"""
)
# As pip writes it, but for the figures, which take most of the time.
SCRIPT = """\
import sys
from rlctrl.cli import main
from rlctrl import plots
plots.solve_figures = lambda *_: {}
sys.exit(main())
"""
LATE = (
    f"{FIRST}move = os.replace"
    + """

def moved(source, target):
    move(source, target)
    if os.path.basename(os.path.dirname(target)) == "out":
        os.kill(os.getpid(), signal.SIGINT)

os.replace = moved
"""
)
RESULTS = {"summary.json", "report.html", "references.csv", "reference_Riccati.npz", "reference_GridDP.npz"}


@pytest.fixture
def here(tmp_path):
    (tmp_path / "moments").mkdir()
    (tmp_path / "moments" / "sitecustomize.py").write_text(MOMENTS, encoding="utf-8")
    (tmp_path / "rlctrl").write_text(SCRIPT, encoding="utf-8")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "ball.toml").write_text(TEXT, encoding="utf-8")
    (tmp_path / "work" / "ball.py").write_text(PLANT, encoding="utf-8")
    return tmp_path / "work"


def start(here, *arguments, moment="", program=("../rlctrl",)):
    """The command in a process of its own."""
    paths = os.pathsep.join([str(here.parent / "moments"), str(ROOT)])
    return subprocess.Popen(
        [sys.executable, *program, *arguments],
        cwd=here,
        env=os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "MOMENT": moment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process):
    try:
        out, error = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, out, error


def names(here):
    return {p.name for p in here.iterdir()} - {"ball.toml", "ball.py", "__pycache__"}


@pytest.mark.parametrize("module", ["jax", "numpy._core._multiarray_umath", "casadi._casadi", "rlctrl.cli", "plants"])
def test_while_it_imports(here, module):
    process = start(here, "plants", moment=f"import {module}", program=("-m", "rlctrl"))
    assert ended(process) == (130, "", "rlctrl: interrupted\n")


def test_while_it_draws_what_is_no_run(here):
    process = start(here, "plants", "pendulum", "--figure", "new.pdf", moment="import matplotlib.backends.backend_pdf")
    assert ended(process) == (130, "", "rlctrl: interrupted\n")
    assert names(here) == set()


def test_while_the_first_state_is_written(here):
    """The folder above `out` goes again too."""
    process = start(here, "solve", "ball.toml", "--out", "new/out", "-q", moment="write 1")
    assert ended(process) == (130, "", "rlctrl: interrupted; new/out was not written\n")
    assert names(here) == set()


def test_while_a_later_state_is_written_and_on_from_there(here, monkeypatch):
    process = start(here, "solve", "ball.toml", "--out", "out", "-q", moment="write 2")
    assert ended(process) == (130, "", "rlctrl: interrupted; out was not written; `--resume` goes on from here\n")
    (home,) = (here / name for name in names(here))
    assert {p.name for p in home.rglob("*")} == {"lock", "state", "reference_Riccati.npz"}
    monkeypatch.chdir(here)
    monkeypatch.setattr(plots, "solve_figures", lambda *_: {})
    assert main(["solve", "ball.toml", "--out", "out", "-q", "--resume"]) == 0
    assert names(here) == {"out"}
    assert {p.name for p in (here / "out").iterdir()} > RESULTS


def test_twice_within_ipopt_called_by_jax(here):
    """Whenever it arrives once the workspace is there: most of the time goes into the programmes of MPC."""
    process = start(here, "simulate", "ball.toml", "--policy", "mpc", "--out", "out", "-q")
    while not list(here.glob(".rlctrl-*/artefacts")) and process.poll() is None:
        time.sleep(0.02)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
    assert ended(process) == (130, "", "rlctrl: interrupted; out was not written\n")
    assert names(here) == set()


def test_where_the_main_thread_never_comes_back(here):
    (here / "ball.toml").write_text(TEXT.replace('name = "ball"', 'name = "stuck"'), encoding="utf-8")
    process = start(here, "solve", "ball.toml", "--out", "out", "-q")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert ended(process) == (130, "", "rlctrl: interrupted\n")
    assert names(here) == set()


def test_once_all_is_found_it_comes_too_late(here, tmp_path):
    """The results are being moved into an old folder, file by file: half of them would be worth nothing."""
    (here / "out").mkdir()
    hook = tmp_path / "moments" / "sitecustomize.py"
    hook.write_text(LATE, encoding="utf-8")
    assert ended(start(here, "solve", "ball.toml", "--out", "out", "-q")) == (0, "out\n", "")
    assert names(here) == {"out"}
    assert {p.name for p in (here / "out").iterdir()} > RESULTS


def test_other_programs_keep_their_own_handler(here):
    code = f"{FIRST}import rlctrl; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    subprocess.run([sys.executable, "-c", code], cwd=here, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
