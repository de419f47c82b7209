"""The import law: who may import whom. The table is data; the checker reads the syntax trees and never imports anything."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

# Every row: an imported module with all below it, and the modules (with all below them) that alone may import it.
ONLY = {
    "matplotlib": ("rlctrl.plots",),
    "PIL": ("rlctrl.plots",),  # palettes and GIF files
    "casadi": (
        "plants",
        "rlctrl.plant",
        "rlctrl.problem",
        "rlctrl.casadi_jax",
        "rlctrl.converse",
        "rlctrl.mpc",  # IPOPT
        "rlctrl.reference.lq",  # derivatives
        "rlctrl.reference.lq_continuous",
        "rlctrl.reference.exact",  # closed forms
        "rlctrl.reference.hamiltonian",  # derivatives
        "rlctrl.reference.programme",  # IPOPT
        "rlctrl.reference.rest",
        "rlctrl.reference.rollout",  # paths, compiled
        "rlctrl.interop",
    ),
    "gymnasium": ("rlctrl.interop",),
    "control": ("rlctrl.interop",),
    "pandas": (),  # optional
    "plants": (),  # rlctrl never does; within plants everything goes
    "rlctrl.plots": (),
    "rlctrl.experiment": (),
    "rlctrl.configuration": ("rlctrl.experiment",),
    "rlctrl.refusals": ("rlctrl.configuration", "rlctrl.schema"),
    "rlctrl.schema": ("rlctrl.configuration", "rlctrl.experiment"),
    "rlctrl.own_plant": ("rlctrl.configuration",),
    "rlctrl.outcome": ("rlctrl.experiment",),
    "rlctrl.artefacts": ("rlctrl.experiment",),
    "rlctrl.cache": (),
    "rlctrl.templates": (),
    "rlctrl.completion": (),
    "rlctrl.report": (),
    "rlctrl.cli": ("rlctrl.__main__",),
}
# What only importlib.import_module("…") inside a function may reach, and from where.
LAZY = {
    "plants": (
        "rlctrl.configuration",
        "rlctrl.schema",
        "rlctrl.cli",
        "rlctrl.interop.gymnasium",
    ),  # the registered environments are of the plants
    "fcntl": ("rlctrl.artefacts",),  # locks, where the system has them
    "pandas": ("rlctrl.interop.tables",),
    "rlctrl.interop.folder": ("rlctrl.cli",),
    "rlctrl.interop.control": ("rlctrl.exchange",),  # methods of Plant and Trajectory that need other packages
    "rlctrl.interop.plant_file": ("rlctrl.exchange",),
    "rlctrl.interop.sampling": ("rlctrl.exchange",),
    "rlctrl.interop.tables": ("rlctrl.exchange",),
    "rlctrl.plots": ("rlctrl.experiment", "rlctrl.cli", "rlctrl.result"),
    "rlctrl.experiment": ("rlctrl.cli",),
    "rlctrl.cache": ("rlctrl.cli",),
    "rlctrl.templates": ("rlctrl.cli",),
    "rlctrl.completion": ("rlctrl.cli",),
    "rlctrl.report": ("rlctrl.experiment", "rlctrl.cli"),
    "rlctrl": ("rlctrl.cli",),
}
# Every row: a module with all below it, and what it must not reach, not even through others.
NEVER = {
    "rlctrl.critic": ("rlctrl.reference", "rlctrl.analysis"),  # the learner cannot see the answer
    "rlctrl.reference": ("rlctrl.critic", "rlctrl.analysis", "rlctrl.simulate"),
    "rlctrl.simulate": ("rlctrl.critic", "rlctrl.reference", "rlctrl.analysis"),
    "rlctrl.problem": ("rlctrl.critic", "rlctrl.reference", "rlctrl.analysis", "rlctrl.simulate"),
    "rlctrl.plant": ("rlctrl.problem", "rlctrl.policy", "rlctrl.critic", "rlctrl.reference", "rlctrl.analysis", "rlctrl.simulate"),
}
# Of these packages a module may import, directly, no more than the listed parts.
PART = {"rlctrl.analysis": {"rlctrl.reference": ("rlctrl.reference.base",)}}
# All that these may import besides the standard library and themselves.
EXACTLY = {
    "plants": ("casadi", "numpy", "rlctrl.errors", "rlctrl.kinds", "rlctrl.noise", "rlctrl.plant"),
    "rlctrl.report": ("numpy", "rlctrl.errors", "rlctrl.storage"),  # it reads a folder, whatever made it
}
# The package's front door, `import rlctrl`, is for users of the package.
FRONT = ("rlctrl.experiment", "rlctrl.configuration", "rlctrl.schema", "rlctrl.outcome")


class Edge(NamedTuple):
    """`source` imports `target`; `lazy`: by importlib; `inside`: within a function."""

    source: str
    target: str
    lazy: bool
    inside: bool


def module_name(path, root):
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read(root):
    """{module: syntax tree} of rlctrl and plants."""
    files = [f for package in ("rlctrl", "plants") for f in sorted((root / package).rglob("*.py"))]
    return {module_name(f, root): ast.parse(f.read_text(encoding="utf-8")) for f in files}


def edges(name, tree, modules, is_package):
    """All imports of a module, of both kinds, wherever they stand."""
    in_function = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.Lambda) for n in ast.walk(f) if n is not f}
    for node in ast.walk(tree):
        inside = id(node) in in_function
        if isinstance(node, ast.Import):
            yield from (Edge(name, a.name, False, inside) for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = name.split(".")[: len(name.split(".")) - node.level + is_package]
                base = ".".join([*above, *([base] if base else [])])
            parts = [f"{base}.{a.name}" if f"{base}.{a.name}" in modules else base for a in node.names]
            yield from (Edge(name, t, False, inside) for t in dict.fromkeys(parts))
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "__import__"):
            constant = node.args and isinstance(node.args[0], ast.Constant)
            yield Edge(name, node.args[0].value if constant else "?", True, inside)


def called(node):
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)


def within(name, tops):
    return any(name == top or name.startswith(f"{top}.") for top in tops)


def graph(found, modules):
    """{module: modules of ours that its import runs}: the targets, and the packages around them that it is not inside of."""
    out = {name: set() for name in modules}
    for edge in found:
        if edge.lazy or edge.target not in modules:
            continue
        parts = edge.target.split(".")
        around = {".".join(parts[:k]) for k in range(2, len(parts) + 1)} or {edge.target}
        out[edge.source] |= {t for t in around if t in modules and (t == edge.target or not within(edge.source, (t,)))}
    return out


def reach(start, links):
    seen, todo = set(), [start]
    while todo:
        for following in links[todo.pop()] - seen:
            seen.add(following)
            todo.append(following)
    return seen


def violations(root):
    """Every breach of the law as a sentence."""
    trees = read(root)
    packages = {module_name(f, root) for f in root.rglob("__init__.py")}
    found = [e for name, tree in trees.items() for e in edges(name, tree, trees, name in packages)]
    links = graph(found, trees)
    cycles = [f"{name} is in an import cycle" for name in trees if name in reach(name, links)]
    return [*direct(found), *lazily(found), *reached(links), *cycles]


def direct(found):
    for source, target, lazy, _ in found:
        if lazy:
            continue
        for top, allowed in ONLY.items():
            if within(target, (top,)) and not within(source, (top, *allowed)):
                yield f"{source} imports {target}"
        for top, packages in PART.items():
            for package, parts in packages.items():
                if within(source, (top,)) and within(target, (package,)) and target not in parts:
                    yield f"{source} imports {target}"
        for top, allowed in EXACTLY.items():
            if within(source, (top,)) and not within(target, (top, *allowed)) and target.split(".")[0] not in sys.stdlib_module_names:
                yield f"{source} imports {target}"
        if target == "rlctrl" and source not in FRONT:
            yield f"{source} imports {target}"


def lazily(found):
    for source, target, lazy, inside in found:
        if lazy and not (inside and source in LAZY.get(target, ())):
            yield f"{source} imports {target} lazily"


def reached(links):
    for top, forbidden in NEVER.items():
        for source in links:
            if within(source, (top,)):
                yield from (f"{source} reaches {t}" for t in sorted(reach(source, links)) if within(t, forbidden))


def test_the_import_law():
    assert violations(ROOT) == []


def test_every_name_in_the_table_exists():
    """A row about a module that was renamed would hold for ever."""
    modules = read(ROOT)
    rows = [*ONLY.items(), *LAZY.items(), *NEVER.items(), *EXACTLY.items()]
    named = {name for top, others in rows for name in (top, *others)} | {*PART, *FRONT}
    named |= {name for parts in PART.values() for package, inner in parts.items() for name in (package, *inner)}
    assert {n for n in named if within(n, ("rlctrl", "plants"))} <= set(modules)


def test_the_checker_reads_every_file():
    trees = read(ROOT)
    assert {"rlctrl", "rlctrl.critic.train", "rlctrl.reference.dp", "plants", "plants.pendulum"} <= set(trees)
    for edge in (Edge("rlctrl.critic.train", "rlctrl.critic.td", False, False), Edge("rlctrl.result", "rlctrl.plots", True, True)):
        assert edge in edges(edge.source, trees[edge.source], trees, False)


SOUND = {
    "rlctrl/__init__.py": "from rlctrl.critic import train\nfrom rlctrl.reference import dp",
    "rlctrl/errors.py": "import difflib",
    "rlctrl/plant.py": "import casadi as ca\nfrom rlctrl.errors import require",
    "rlctrl/problem.py": "from rlctrl.plant import Plant",
    "rlctrl/simulate.py": "from rlctrl.problem import Problem",
    "rlctrl/result.py": "import importlib\ndef plot():\n    return importlib.import_module('rlctrl.plots')",
    "rlctrl/plots.py": "import matplotlib as mpl\nfrom matplotlib.figure import Figure\nfrom rlctrl.analysis import fit",
    "rlctrl/critic/__init__.py": "from rlctrl.critic import train",
    "rlctrl/critic/train.py": "from rlctrl.problem import Problem",
    "rlctrl/reference/__init__.py": "",
    "rlctrl/reference/base.py": "from rlctrl.result import Result",
    "rlctrl/reference/dp.py": "from . import base",
    "rlctrl/analysis/__init__.py": "",
    "rlctrl/analysis/fit.py": "from rlctrl.critic.train import train\nfrom rlctrl.reference.base import Reference",
    "rlctrl/cli.py": "from importlib import import_module\ndef main():\n    import_module('plants')",
    "plants/__init__.py": "from plants.pendulum import pendulum",
    "plants/pendulum.py": "import math\nimport casadi as ca\nimport numpy as np\nfrom rlctrl.plant import Plant",
}
PLANTED = [
    ("rlctrl/cli.py", "import plants", "rlctrl.cli imports plants"),
    ("rlctrl/problem.py", "from plants.pendulum import pendulum", "rlctrl.problem imports plants.pendulum"),
    ("rlctrl/problem.py", "import importlib\ndef f():\n    importlib.import_module('plants')", "rlctrl.problem imports plants lazily"),
    ("rlctrl/problem.py", "def f():\n    __import__('rlctrl.plots')", "rlctrl.problem imports rlctrl.plots lazily"),
    ("rlctrl/problem.py", "def f(name):\n    import_module(name)", "rlctrl.problem imports ? lazily"),
    ("rlctrl/cli.py", "from importlib import import_module\nimport_module('plants')", "rlctrl.cli imports plants lazily"),
    ("rlctrl/problem.py", "def f():\n    import matplotlib.pyplot as plt", "rlctrl.problem imports matplotlib.pyplot"),
    ("rlctrl/critic/train.py", "import casadi", "rlctrl.critic.train imports casadi"),
    ("rlctrl/reference/base.py", "import casadi", "rlctrl.reference.base imports casadi"),
    ("rlctrl/critic/train.py", "from rlctrl.reference import dp", "rlctrl.critic.train reaches rlctrl.reference.dp"),
    ("rlctrl/critic/train.py", "from ..reference import dp", "rlctrl.critic.train reaches rlctrl.reference.dp"),
    ("rlctrl/critic/train.py", "from rlctrl import reference", "rlctrl.critic.train reaches rlctrl.reference"),
    ("rlctrl/problem.py", "if True:\n    from rlctrl.reference.base import Reference", "rlctrl.critic.train reaches rlctrl.reference.base"),
    ("rlctrl/reference/dp.py", "from rlctrl.critic.train import train", "rlctrl.reference.dp reaches rlctrl.critic.train"),
    ("rlctrl/reference/dp.py", "import rlctrl.simulate", "rlctrl.reference.dp reaches rlctrl.simulate"),
    ("rlctrl/reference/dp.py", "import rlctrl.analysis.fit", "rlctrl.reference.dp reaches rlctrl.analysis.fit"),
    ("rlctrl/analysis/fit.py", "from rlctrl.reference.dp import GridDP", "rlctrl.analysis.fit imports rlctrl.reference.dp"),
    ("rlctrl/analysis/fit.py", "from rlctrl.reference import Reference", "rlctrl.analysis.fit imports rlctrl.reference"),
    ("rlctrl/analysis/fit.py", "from rlctrl import plots", "rlctrl.analysis.fit imports rlctrl.plots"),
    ("rlctrl/simulate.py", "import rlctrl as rc", "rlctrl.simulate imports rlctrl"),
    ("rlctrl/problem.py", "from rlctrl.simulate import simulate", "rlctrl.problem is in an import cycle"),
    ("plants/pendulum.py", "import scipy", "plants.pendulum imports scipy"),
    ("plants/pendulum.py", "from rlctrl.problem import Problem", "plants.pendulum imports rlctrl.problem"),
    ("plants/pendulum.py", "import rlctrl as rc", "plants.pendulum imports rlctrl"),
]


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def test_the_checker_passes_a_sound_tree(tmp_path):
    write(tmp_path, SOUND)
    assert violations(tmp_path) == []


@pytest.mark.parametrize(("file", "line", "breach"), PLANTED)
def test_the_checker_finds_a_planted_violation(tmp_path, file, line, breach):
    write(tmp_path, SOUND | {file: f"{SOUND[file]}\n{line}"})
    assert breach in violations(tmp_path)


def test_importing_rlctrl_loads_neither_figures_nor_gymnasium_nor_plants():
    heavy = "{'matplotlib', 'gymnasium', 'pandas', 'control', 'scipy.stats', 'plants', 'rlctrl.plots', 'rlctrl.interop', 'casadi'}"
    code = f"import sys, rlctrl; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["casadi"]), done.stderr


def test_importing_rlctrl_takes_at_most_a_second_and_a_half():
    """Of processor time, the best of five: other processes may be in the way."""
    code = "import time; start = time.process_time(); import rlctrl; print(time.process_time() - start)"
    seconds = (float(subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True).stdout) for _ in range(5))
    assert any(s <= 1.5 for s in seconds)
