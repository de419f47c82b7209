"""What README and the pages in examples/ say exists, exists: files, links, functions, figures, commands, keywords."""

import ast
import importlib
import re
import shlex
import tomllib
from pathlib import Path

import pytest

import rlctrl as rc
from rlctrl import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "examples").glob("*.md"))]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def read(path):
    return path.read_text(encoding="utf-8")


def defined(path):
    """Names of functions, classes, methods and fields of a Python file."""
    nodes = list(ast.walk(ast.parse(read(path))))
    made = {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    return made | {n.target.id for n in nodes if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}


def wrong_pointers(text):
    """Of pointers `folder/file.py: name, name`, those to nothing."""
    found = [(file, names) for file, names in re.findall(r"`((?:rlctrl|plants|tests|examples)/[\w/]+\.\w+)(?:: ([\w, ]+))?`", text)]
    lost = [file for file, _ in found if not (ROOT / file).is_file()]
    named = [(file, name) for file, names in found if names and file not in lost for name in names.split(", ")]
    return lost + [f"{file}: {name}" for file, name in named if name not in defined(ROOT / file)]


def wrong_links(text, folder):
    """Of relative links, those to no file; of links to a heading of the same page, those to none."""
    targets = [t for t in re.findall(r"\]\(([^)\s]+)\)", text) if not t.startswith("http")]
    anchors = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
    return [t for t in targets if (t[1:] not in anchors if t.startswith("#") else not (folder / t.split("#")[0]).exists())]


def wrong_names(text):
    """Of dotted names rc.x and rlctrl.x.y in code, those that cannot be reached."""
    spans = " ".join(re.findall(r"`([^`\n]+)`", text) + [code for language, code in FENCE.findall(text) if language == "python"])
    dotted = re.findall(r"(?<![\w./])(?:rc|rlctrl)(?:\.[A-Za-z]\w*)+", spans)
    return [name for name in dotted if not reachable(name.replace("rc.", "rlctrl.", 1) if name.startswith("rc.") else name)]


def reachable(name):
    try:
        importlib.import_module(name)
    except ImportError:
        module, _, last = name.rpartition(".")
        parent = reachable(module) if module else None
        return getattr(parent, last, None)
    return importlib.import_module(name)


def commands(text):
    """Every `rlctrl …` of code spans and shell blocks, without placeholders' brackets."""
    spans = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    blocks = [code for language, code in FENCE.findall(text) if language in ("sh", "bash")]
    found = re.findall(r"(?:^|(?<=[\s(]))rlctrl ([a-z][^&)\n]*)", "\n".join(spans + blocks), re.MULTILINE)
    return [re.sub(r"[\[\]\"]", "", words).replace("SHELL", "bash").split("  #")[0].strip() for words in found]


def wrong_commands(text):
    """Of these, those that the argument parser refuses; a command may be named without its arguments."""
    return [words for words in commands(text) if words not in cli.COMMANDS and not parses(words)]


def parses(words):
    try:
        cli._parser().parse_args(shlex.split(words))
    except SystemExit:
        return False
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_pointers_links_names_and_commands(page):
    text = read(page)
    assert wrong_pointers(text) == []
    assert wrong_links(text, page.parent) == []
    assert wrong_names(text) == []
    assert wrong_commands(text) == []


def test_the_checks_find_what_is_wrong(capsys):
    assert wrong_pointers("`rlctrl/problem.py: kernel, kernal` `rlctrl/nothing.py: x`") == [
        "rlctrl/nothing.py",
        "rlctrl/problem.py: kernal",
    ]
    assert wrong_links("# One two\n[a](#one-two) [b](#three) [c](README.md) [d](nothing.md)", ROOT) == ["#three", "nothing.md"]
    assert wrong_names("`rc.GridDP(shape)` `rc.GridPD` `rlctrl.interop.finite.finite_problem` `rlctrl.nothing`") == [
        "rc.GridPD",
        "rlctrl.nothing",
    ]
    bad = "`rlctrl solve` `rlctrl run x.toml --resume` `rlctrl run` `rlctrl run x.toml --again`\n```bash\nrlctrl new a && rlctrl sing\n```"
    assert wrong_commands(bad) == ["run x.toml --again", "sing"]
    capsys.readouterr()  # what the parser said


def test_commands_of_scripts_and_experiments():
    files = [*SCRIPTS, *(ROOT / "examples").glob("*.toml")]
    texts = [re.sub(r"^# (rlctrl .*)$", r"`\1`", read(f), flags=re.MULTILINE) for f in files]
    assert [wrong_commands(text) for text in texts] == [[]] * len(texts)
    assert sum(len(commands(text)) for text in texts) >= 3


def test_python_blocks_compile():
    blocks = [code for page in PAGES for language, code in FENCE.findall(read(page)) if language == "python"]
    assert blocks
    for code in blocks:
        compile(code, "block", "exec")


def test_the_training_of_the_ten_minutes_is_valid():
    block = next(code for language, code in FENCE.findall(read(ROOT / "README.md")) if language == "toml")
    values = tomllib.loads(block)
    assert values.pop("steps") >= 2
    rc.ReplayTD(**values)


def test_theory_has_every_formula_and_figures_that_exist():
    text = read(ROOT / "examples" / "theory.md")
    assert re.findall(r"^\*\*T(\d+)\.\*\*", text, re.MULTILINE) == [str(k) for k in range(1, 21)]
    parts = re.split(r"^\*\*T\d+\.\*\*", text.split("## Exact anchors")[0], flags=re.MULTILINE)[1:]
    assert [k for k, part in enumerate(parts, 1) if "Computed in `" not in part] == []
    drawn = re.findall(r'"(\w+)"(?:: |\] = )', read(ROOT / "rlctrl" / "plots" / "__init__.py"))
    named = set(re.findall(r"figures/(\w+)", " ".join(map(read, [*PAGES, *SCRIPTS]))))
    assert named
    assert named <= set(drawn)


def test_readme_is_complete_and_short():
    text = read(ROOT / "README.md")
    assert len(text.splitlines()) <= 300
    assert [name for name in cli.COMMANDS if f"| `rlctrl {name}" not in text] == []
    examples = [f.name for pattern in ("*.py", "*.toml", "*.md") for f in (ROOT / "examples").glob(pattern)]
    assert [name for name in examples if f"examples/{name}" not in text] == []
    assert [name for name in re.findall(r"examples/[\w.]+\.\w+", text) if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("script", [s for s in SCRIPTS if s.stem.startswith("tutorial")], ids=lambda s: s.stem)
def test_tutorials_say_what_one_learns_how_long_it_takes_and_how_to_run_them(script):
    text = ast.get_docstring(ast.parse(read(script)))
    assert text
    assert re.match(r"Tutorial \d: .*About \d+ s; \w+ go to runs/tutorial_\d\.", text, re.DOTALL)
    assert "You learn " in text
    assert f"python examples/{script.name}" in text
