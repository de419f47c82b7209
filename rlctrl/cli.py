"""The command `rlctrl`. Exit codes: 0 done; 2 bad input, said on standard error, one problem a line; 3 not converged; 130 interrupted."""

import argparse
import inspect
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rlctrl import interrupts
from rlctrl.errors import InputError, NotConverged, lack_of_memory, naming
from rlctrl.storage import make_folder

POLICIES = ("reference", "lqr", "lqr_clipped", "mpc")  # that a simulation may always ask for
CODES = "exit codes: 0 done, 2 bad input, 3 not converged, 130 interrupted"


class Command(NamedTuple):
    """A command: what it does, an example of its arguments, and the names of its options."""

    help: str
    example: str
    options: tuple[str, ...]


OPTIONS = {
    "file": (("file",), {"metavar": "FILE.toml", "help": "the experiment"}),
    "folder": (("folder",), {"metavar": "DIR", "help": "what a run left"}),
    "new": (("name",), {"metavar": "NAME", "help": "of the plant and its files"}),
    "plant": (("name",), {"nargs": "?", "metavar": "NAME", "help": "a plant"}),
    "figure": (
        ("--figure",),
        {"metavar": "FILE", "help": "draw the plant into FILE.pdf, .png or .svg; without a NAME every plant into the folder FILE"},
    ),
    "animate": (("--animate",), {"action": "store_true", "help": "also figures/animation.gif, of the first path"}),
    "shell": (("shell",), {"choices": ("bash", "zsh", "fish"), "help": "the shell"}),
    "out": (("--out",), {"metavar": "DIR", "help": "folder for the artefacts (default: runs/<name>-<time>)"}),
    "seed": (("--seed",), {"type": int, "metavar": "N", "help": "overrides the seed of the file"}),
    "resume": (("--resume",), {"action": "store_true", "help": "go on from where a killed run of the same file stood"}),
    "policy": (
        ("--policy",),
        {"default": "reference", "metavar": "NAME", "help": f"{', '.join(POLICIES)}, or one of [policies] (default: reference)"},
    ),
    "to": (("--to",), {"choices": ("c", "casadi"), "default": "c", "help": "C source (default), or files for casadi.Function.load"}),
    "latex": (("--latex",), {"action": "store_true", "help": "also tables.tex (booktabs) and cite.bib"}),
    "quiet": (("-q", "--quiet"), {"action": "store_true", "help": "no progress bars and no closing table"}),
}
COMMANDS = {
    "new": Command("write a commented experiment and a plant file to start from", "rlctrl new ball && rlctrl run ball.toml", ("new",)),
    "run": Command(
        "solve, train, decompose and compare as a TOML file says",
        "rlctrl run examples/pendulum.toml --out results",
        ("file", "out", "seed", "resume", "quiet"),
    ),
    "solve": Command(
        "solve the references of a TOML file ([reference] and every [[also]]), and set them side by side",
        "rlctrl solve examples/pendulum.toml --out references",
        ("file", "out", "resume", "quiet"),
    ),
    "train": Command("train the critic alone", "rlctrl train examples/pendulum.toml --seed 1", ("file", "out", "seed", "resume", "quiet")),
    "compare": Command(
        "compare the policies that need no training", "rlctrl compare examples/pendulum.toml", ("file", "out", "seed", "resume", "quiet")
    ),
    "simulate": Command(
        "simulate one policy",
        "rlctrl simulate examples/pendulum.toml --policy lqr_clipped",
        ("file", "policy", "animate", "out", "seed", "resume", "quiet"),
    ),
    "export": Command(
        "write critic, actor, value and policy of a run or solve as C or CasADi Functions",
        "rlctrl export results --to c",
        ("folder", "to"),
    ),
    "report": Command("write report.html again from what a run or solve left", "rlctrl report results --latex", ("folder", "latex")),
    "plants": Command("list the plants, describe one, or draw them", "rlctrl plants pendulum --figure pendulum.pdf", ("plant", "figure")),
    "completion": Command("print a completion script for a shell", 'eval "$(rlctrl completion bash)"', ("shell",)),
}


def main(arguments=None) -> int:
    """Parse the command line, run the command, and turn refusals into exit codes."""
    try:
        return _outcome(_parser().parse_args(arguments))
    finally:
        interrupts.too_late()


def _outcome(options) -> int:
    import_module("rlctrl.cache").keep()
    try:
        globals()[f"_{options.command}"](options)
    except InputError as error:
        return _refused(error, 2)
    except NotConverged as error:
        return _refused(error, 3)
    except (MemoryError, RuntimeError) as error:
        if (lack := lack_of_memory(error)) is None:
            raise
        return _refused(lack, 2)
    except KeyboardInterrupt as error:
        print(interrupts.sentence(*map(str, error.args)), file=sys.stderr)
        return interrupts.CODE
    return 0


def _refused(error, code):
    """One line on standard error for each problem."""
    for line in str(error).splitlines():
        print(f"rlctrl: {' '.join(line.split())}", file=sys.stderr)
    return code


def _parser():
    parser = argparse.ArgumentParser(prog="rlctrl", description=str(import_module("rlctrl").__doc__).splitlines()[0], epilog=CODES)
    parser.add_argument("--version", action="version", version=f"rlctrl {import_module('rlctrl').__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True)
    for name, command in COMMANDS.items():
        one = commands.add_parser(name, help=command.help, description=command.help, epilog=f"example: {command.example}")
        for option in command.options:
            words, settings = OPTIONS[option]
            one.add_argument(*words, **settings)
    return parser


def _run(options):
    _staged(options, "run")


def _train(options):
    _staged(options, "train")


def _compare(options):
    _staged(options, "compare")


def _simulate(options):
    _staged(options, "simulate", (options.policy,), options.animate)


def _staged(options, command, policies=None, animate=False):
    run = import_module("rlctrl.experiment").run_file
    quiet = options.quiet
    folder, found = run(options.file, options.out, options.seed, not quiet, command, options.resume, policies, animate)
    if not quiet:
        print(_closing(found))
    print(folder)


def _solve(options):
    experiment = import_module("rlctrl.experiment")
    folder, found = experiment.solve_file(options.file, options.out, not options.quiet, options.resume)
    if not options.quiet:
        print(_beside(found))
    print(folder)


def _export(options):
    written, refused = import_module("rlctrl.interop.folder").export(options.folder, options.to)
    for name, sentence in refused.items():
        print(f"{name}: {sentence}", file=sys.stderr)
    print(*written, sep="\n")


def _report(options):
    print(import_module("rlctrl.report").write(options.folder, options.latex))


def _beside(found) -> str:
    first = next(iter(found["references"].values()))
    head = f"{'method':12} {'stated error':>24} {'V(x0)':>12} {'|V − V₁|':>10} {'|u − u₁|':>10} {'seconds':>8}"
    lines = [f"{first['message']} Error terms: " + ", ".join(f"{k} {v:.2g}" for k, v in first["error_terms"].items()) + ".", head]
    for row in found["table"]:
        stated = f"{row['error']:.3g} {row['error_kind']}"
        gaps = f"{row['largest_difference_of_V']:10.3g} {row['largest_difference_of_u']:10.3g}"
        lines.append(f"{row['method']:12} {stated:>24} {row['value_at_x0']:12.6g} {gaps} {row['seconds']:8.2f}")
    lines += [f"{name:12} failed: {sentence}" for name, sentence in found["failures"].items()]
    return "\n".join(lines)


def _closing(found) -> str:
    """What a run found, in a few lines; of the stages there were."""
    lines = []
    if reference := found.get("reference"):
        lines.append(f"reference  {reference['message']} Error {reference['error']:.3g} ({reference['error_kind']}).")
    if training := found.get("training"):
        lines.append(f"training   {training['message']} {found['critic']['weights']} weights.")
    if parts := found.get("decomposition"):
        critic = found["critic"]
        lines += [
            f"critic     relative error {critic['relative_error']:.3g}; best fit of this network {critic['best_fit_relative_error']:.3g}.",
            f"e_Q        rms {parts['e_q_rms']:.3g}, sup {parts['e_q_sup']:.3g}; e* rms {parts['e_star_rms']:.3g} "
            f"(noise {parts['e_star_noise_rms']:.3g}, policy {parts['e_star_policy_rms']:.3g}).",
            f"excitation {found['excitation']['verdict']}",
        ]
    lines += [f"return     {name:12} {r['mean']:.5g} ± {r['ci95']:.2g}" for name, r in found.get("returns", {}).items()]
    return "\n".join(lines)


def _new(options):
    for path in import_module("rlctrl.templates").write(options.name):
        print(path)


def _completion(options):
    table = {name: (c.help, {word: values for option in c.options for word, values in _offered(option)}) for name, c in COMMANDS.items()}
    print(import_module("rlctrl.completion").script(options.shell, table))


def _offered(option):
    """The long word of an option, "" for an argument without one, with the values to offer after it; None where it takes no value."""
    words, settings = OPTIONS[option]
    known = {"plant": import_module("plants").names, "policy": lambda: POLICIES}
    values = known[option]() if option in known else settings.get("choices", ())
    return [(w if w.startswith("-") else "", None if "action" in settings else values) for w in words if not re.fullmatch("-.", w)]


def _plants(options):
    plants = import_module("plants")
    if options.figure is not None:
        with naming("--figure", "path"):
            _plant_figures(plants, options.name, Path(options.figure))
        return
    if options.name is None:
        width = max(map(len, plants.names()))
        for name in plants.names():
            print(f"{name:{width}} {plants.PLANTS[name].__doc__.splitlines()[0]}")
        return
    plant = plants.get(options.name)
    print(f"{plant.name}\n\n{inspect.cleandoc(plants.PLANTS[options.name].__doc__)}\n")
    for title, signals in (("states", plant.states), ("inputs", plant.inputs)):
        for s in signals:
            turning = ", periodic" if s.periodic else ""
            print(f"{title[:-1]:6} {s.label:24} [{s.low:.6g}, {s.high:.6g}]{turning}")
    for name, value in plant.params.items():
        label = f"{name} [{plant.units[name]}]" if name in plant.units else name
        print(f"param  {label:24} {value if np.ndim(value) == 0 else value.tolist()}")
    print(f"source {plant.source}")


def _plant_figures(plants, name, path):
    """The figure of one plant into a file, or of all into a folder, each about its own equilibrium; says what was written."""
    plots = import_module("rlctrl.plots")
    if name is not None:
        plots.file_kind(path)  # refused before anything is computed
        files = {name: path}
    else:
        make_folder(path)
        files = {n: path / f"{n}.png" for n in plants.names()}
    for each, file in files.items():
        default = plants.default(each)
        figure, _ = default.plant.plot(about=default.equilibrium, dt=default.dt)
        print(plots.save_as(figure, file), flush=True)
