"""The README's commands are the ones CI runs, its code runs, its figures exist."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
SCRIPT = ROOT / ".ci" / "run"
COMMANDS = ["python -m pip install . && rlctrl run examples/pendulum.toml", "python -m pip install '.[test]' && python -m pytest"]


def blocks(language):
    """Contents of the README's fenced blocks of a language."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [content for name, content in fences if name == language]


def bash(code, **options):
    return subprocess.run(["bash", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, **options)


def test_one_block_of_exactly_two_commands():
    assert [b.splitlines() for b in blocks("sh")] == [COMMANDS]


def test_ci_is_an_executable_script_that_parses():
    assert os.access(SCRIPT, os.X_OK)
    assert SCRIPT.read_text(encoding="utf-8").startswith("#!")
    done = bash("bash -n .ci/run")
    assert (done.returncode, done.stderr) == (0, "")


def test_ci_holds_no_copy_of_the_commands():
    text = SCRIPT.read_text(encoding="utf-8")
    copies = [
        part for command in COMMANDS for part in (command, *command.split(" && ")) if re.search(rf"{re.escape(part)}(?![\w'.])", text)
    ]
    assert copies == []


@pytest.mark.parametrize("number", [1, 2])
def test_ci_reads_the_commands_from_the_readme_and_runs_them(number):
    text = SCRIPT.read_text(encoding="utf-8")
    function = re.search(r"^readme_command\(\) \{.*?^\}$", text, re.MULTILINE | re.DOTALL)
    assert function
    assert bash(f"{function[0]}\nreadme_command {number}").stdout.splitlines() == [COMMANDS[number - 1]]


STUB = """#!/bin/sh
echo "$(basename "$0") $*" >> "$LOG"
if [ "$1 $2" = "-m venv" ]; then mkdir -p "$3/bin" && : > "$3/bin/activate"; fi
"""


def rehearse(folder, readme):
    """Run a copy of .ci/run beside another README, all programs replaced by ones that only write down how they were called."""
    (folder / ".ci").mkdir()
    (folder / "examples").mkdir()
    shutil.copy(SCRIPT, folder / ".ci" / "run")
    (folder / "README.md").write_text(readme, encoding="utf-8")
    (folder / "bin").mkdir()
    for name in ("python3", "python", "rlctrl", "ruff", "pyright"):
        (folder / "bin" / name).write_text(STUB)
        (folder / "bin" / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "LOG": str(folder / "log")}
    done = bash(str(folder / ".ci" / "run"), env=environment)
    log = folder / "log"
    return done.returncode, log.read_text().splitlines() if log.exists() else []


OTHER = (
    "# Other\n\n```sh\npython -m pip install . && rlctrl run examples/other.toml\npython -m pip install '.[test]' && python -m other\n```\n"
)


def test_ci_runs_what_the_readme_says(tmp_path):
    code, calls = rehearse(tmp_path, OTHER)
    assert code == 0
    wanted = ["python -m pip install .", "rlctrl run examples/other.toml", "python -m pip install .[test]", "python -m other"]
    assert [c for c in calls if c in wanted] == wanted
    assert [c for c in calls if c.startswith("ruff")] == ["ruff check .", "ruff format --check ."]
    assert [c for c in calls if c.startswith("pyright")]


@pytest.mark.parametrize("readme", ["# No commands\n", OTHER.replace("python -m pip install '.[test]' && python -m other\n", "")])
def test_ci_fails_without_the_commands(tmp_path, readme):
    assert rehearse(tmp_path, readme)[0] != 0


def test_the_first_python_block_runs(tmp_path):
    code = blocks("python")[0]
    assert "rlctrl" in code
    (tmp_path / "readme.py").write_text(code, encoding="utf-8")
    search = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
    environment = os.environ | {"PYTHONPATH": search, "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "readme.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_figures_of_the_readme_exist():
    text = README.read_text(encoding="utf-8")
    shown = re.findall(r"!\[[^\]]*\]\(([^)\s]+)", text) + re.findall(r"<img[^>]*src=\"([^\"]+)\"", text)
    assert shown
    missing = [s for s in shown if not (ROOT / s).is_file() or (ROOT / s).stat().st_size == 0]
    assert missing == []
    ignored = bash("git check-ignore -- " + " ".join(shown)) if (ROOT / ".git").exists() else None
    assert ignored is None or ignored.stdout == ""
