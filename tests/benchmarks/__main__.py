"""Runs the named benchmarks (default: all but the long ones), prints a table and writes JSON.

Every row does the same work on both sides in one process, building included; times are medians of at least three; peers come from the
[bench] extra and a row without its peer says so. Ratios are peer/ours: above 1 means rlctrl is faster.
"""

import argparse
import json
import platform
import sys
from importlib import import_module
from pathlib import Path

RACES = {
    "finite": "stochastic pendulum as a finite problem against QuantEcon and pymdptoolbox",
    "accuracy": "time to a given true error, orders 1, 3, 5 in two dimensions, order 3 in four",
    "hjb": "stationary HJB on 201² against marching hj_reachability",
    "cart_pole": "cart-pole on 41⁴ states (minutes)",
    "scaling": "cost against grid size, dimension, noise nodes: fitted exponents",
    "simulate": "plant steps per second against Gymnasium's vectorised Pendulum and python-control on an ensemble",
    "critic": "one update T14 against PyTorch, 32 seeds against one, a training against Stable-Baselines3",
}
LONG = ("cart_pole",)


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="; ".join(f"{k}: {v}" for k, v in RACES.items()))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(RACES)}")
    parser.add_argument("--json", metavar="FILE", default="benchmarks.json", help="where to write the rows (default: benchmarks.json)")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="repetitions of each timing (at least 3)")
    options = parser.parse_args()
    names = options.names or [n for n in RACES if n not in LONG]
    unknown = [n for n in names if n not in RACES]
    if unknown:
        parser.error(f"{unknown[0]} is not a benchmark; known are {', '.join(RACES)}")
    rows = []
    for name in names:
        for row in import_module(f"tests.benchmarks.{name}").rows(max(3, options.repeat)):
            rows.append({"race": name, **row})
            print("  ".join(f"{k} {_text(v)}" for k, v in rows[-1].items()), flush=True)
    origin = {"python": platform.python_version(), "machine": platform.machine(), "system": sys.platform}
    Path(options.json).write_text(json.dumps({"origin": origin, "rows": rows}, indent=1, ensure_ascii=False), encoding="utf-8")


def _text(value):
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
