"""The command `rlctrl`. Exit codes: 0 done, 2 bad input (one sentence on standard error), 3 not converged."""

import argparse
import sys
from importlib import import_module

from rlctrl.errors import InputError, NotConverged


def main(arguments=None) -> int:
    """Parse the command line, run the command, and turn refusals into exit codes."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        options.command(options)
    except InputError as error:
        print(_one_line(error), file=sys.stderr)
        return 2
    except NotConverged as error:
        print(_one_line(error), file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("rlctrl: interrupted; nothing was written.", file=sys.stderr)
        return 130
    return 0


def _one_line(error):
    return f"rlctrl: {' '.join(str(error).split())}"


def _parser():
    parser = argparse.ArgumentParser(prog="rlctrl", description=str(import_module("rlctrl").__doc__).splitlines()[0])
    commands = parser.add_subparsers(title="commands", required=True)
    run = commands.add_parser(
        "run",
        help="solve, train, decompose and compare as a TOML file says",
        epilog="example: rlctrl run examples/pendulum.toml --out results",
    )
    run.add_argument("file", metavar="FILE.toml", help="the experiment")
    run.add_argument("--out", metavar="DIR", help="folder for the artefacts (default: runs/<name>-<time>)")
    run.add_argument("--seed", type=int, metavar="N", help="overrides the seed of the file")
    run.add_argument("-q", "--quiet", action="store_true", help="no progress bars and no closing table")
    run.set_defaults(command=_run)
    solve = commands.add_parser(
        "solve",
        help="solve the references of a TOML file, and set them side by side",
        epilog="example: rlctrl solve examples/pendulum.toml --out references",
    )
    solve.add_argument("file", metavar="FILE.toml", help="the experiment; methods under [[also]] are set beside [reference]")
    solve.add_argument("--out", metavar="DIR", help="folder for the artefacts (default: runs/<name>-<time>)")
    solve.add_argument("--checkpoint", metavar="FILE.npz", help="state of a long GridDP solve, to go on from if it exists")
    solve.add_argument("-q", "--quiet", action="store_true", help="no progress bars and no closing table")
    solve.set_defaults(command=_solve)
    report = commands.add_parser(
        "report",
        help="write report.html again from what a run or solve left in its folder",
        epilog="example: rlctrl report results --latex",
    )
    report.add_argument("folder", metavar="DIR", help="folder of the artefacts")
    report.add_argument("--latex", action="store_true", help="also tables.tex (booktabs) and cite.bib")
    report.set_defaults(command=_report)
    plants = commands.add_parser("plants", help="list the plants, or describe one", epilog="example: rlctrl plants pendulum")
    plants.add_argument("name", nargs="?", metavar="NAME", help="a plant")
    plants.set_defaults(command=_plants)
    return parser


def _run(options):
    experiment = import_module("rlctrl.experiment")
    folder, found = experiment.run_file(options.file, options.out, options.seed, progress=not options.quiet)
    if not options.quiet:
        print(_closing(found))
    print(folder)


def _solve(options):
    experiment = import_module("rlctrl.experiment")
    folder, found = experiment.solve_file(options.file, options.out, options.checkpoint, progress=not options.quiet)
    if not options.quiet:
        print(_beside(found))
    print(folder)


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
    reference, critic, parts = found["reference"], found["critic"], found["decomposition"]
    lines = [
        f"reference  {reference['message']} Error {reference['error']:.3g} ({reference['error_kind']}).",
        f"critic     relative error {critic['relative_error']:.3g}; best fit of this network {critic['best_fit_relative_error']:.3g}.",
        f"e_Q        rms {parts['e_q_rms']:.3g}, sup {parts['e_q_sup']:.3g}; e* rms {parts['e_star_rms']:.3g} "
        f"(noise {parts['e_star_noise_rms']:.3g}, policy {parts['e_star_policy_rms']:.3g}).",
        f"excitation {found['excitation']['verdict']}",
    ]
    lines += [f"return     {name:12} {r['mean']:.5g} ± {r['ci95']:.2g}" for name, r in found["returns"].items()]
    return "\n".join(lines)


def _plants(options):
    plants = import_module("plants")
    if options.name is None:
        for name in plants.names():
            print(f"{name:20} {plants.PLANTS[name].__doc__.splitlines()[0]}")
        return
    plant = plants.get(options.name)
    print(f"{plant.name}\n\n{plants.PLANTS[options.name].__doc__}\n")
    for title, signals in (("states", plant.states), ("inputs", plant.inputs)):
        for s in signals:
            turning = ", periodic" if s.periodic else ""
            print(f"{title[:-1]:6} {s.label:24} [{s.low:.6g}, {s.high:.6g}]{turning}")
    for name, value in plant.params.items():
        print(f"param  {name:24} {value}")
    print(f"source {plant.source}")
