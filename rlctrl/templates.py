"""What `rlctrl new NAME` writes: an experiment and a plant, both running as they are and commented where one will change them."""

import sys
from importlib.machinery import PathFinder
from keyword import iskeyword
from pathlib import Path

from rlctrl.errors import require
from rlctrl.storage import write_whole

PLANT = '''"""A plant of my own: replace states, inputs and drift by yours."""

import casadi as ca

import rlctrl as rc


def {name}(mass=1.0, stiffness=2.0, damping=0.3, noise=0.2) -> rc.Plant:
    """m x'' = −stiffness x − damping x' + force, with force noise. `mass` kg, `stiffness` N/m, `damping` N s/m, `noise` N √s."""
    return rc.Plant(
        name="{name}",
        states=[rc.Signal("position", "m", -2, 2), rc.Signal("speed", "m/s", -3, 3)],
        inputs=[rc.Signal("force", "N", -4, 4)],
        # dX = drift dt + diffusion dW, in CasADi; parameters are p.name
        drift=lambda x, u, p: ca.vertcat(x[1], (u[0] - p.stiffness * x[0] - p.damping * x[1]) / p.mass),
        diffusion=lambda x, u, p: ca.vertcat(0, p.noise / p.mass),
        params={{"mass": mass, "stiffness": stiffness, "damping": damping, "noise": noise}},
        units={{"mass": "kg", "stiffness": "N/m", "damping": "N s/m", "noise": "N √s"}},
        source="mine",
    )
'''
EXPERIMENT = """# rlctrl run {name}.toml
name = "{name}"
seed = 0

[plant]
file = "{name}.py"          # beside this file; leave it out to take a plant of `rlctrl plants`
name = "{name}"             # the function in it
noise = 0.2                # its keywords

[problem]
dt = 0.1                   # s
gamma = 0.95               # discount per step
reward = "-position**2 - 0.1*speed**2 - 0.05*force**2"    # per step, maximised; or Q = […] and R = […]
exit = "free"              # "clip" holds states at the box, "absorb" ends there, "free": no walls

[reference]                # the optimal Q* that the critic is measured against
method = "GridDP"          # or Riccati (linear-quadratic), HJB, Spectral, OpenLoop
shape = [31, 31]           # nodes per state
order = 3                  # splines: 1 where V has kinks, 3 or 5 where it is smooth

[critic]
hidden = 16                # units

[training]
policy = "reference"       # or lqr, lqr_clipped, actor, or a name of [policies]
steps = 120                # updates; the scheme below is a fast one, without these lines it is the plain one of the notes
update = "gauss-newton"
gradient = "semi"
normaliser = 0
horizon = 10               # steps of a target
memory = 4096              # transitions of an update …
uniform = 0.6              # … this share of them from anywhere in the box of states and inputs
renew = 6                  # drawn anew every so many updates
refresh = 6                # target weights held for as many

[policies]                 # your own feedback laws, one formula per input
spring = "-2*position - speed"

[comparison]
x0 = [[1.5, 0.0]]          # initial states
steps = 100
paths = 256
"""


def write(name, folder=Path()) -> list[Path]:
    """Write NAME.toml and NAME.py into a folder; returns their paths. Raises `InputError` for a bad name and for files that exist."""
    good = name.isidentifier() and name.isascii() and name == name.lower() and not iskeyword(name)
    require(good, "NAME", "must be a lower-case identifier and no word of Python", name, "Use e.g. my_plant.")
    texts = {Path(folder) / f"{name}.toml": EXPERIMENT, Path(folder) / f"{name}.py": PLANT}
    taken = [str(path) for path in texts if path.exists()]
    require(not taken, "NAME", "must not name files that exist", taken, "Choose another name, or move them away.")
    rule = f"must not be a module's, which {name}.py would hide from what you run here"
    require(not _is_module(name), "NAME", rule, name, "Choose another.")
    for path, text in texts.items():
        write_whole(path, lambda file, text=text: file.write(text.format(name=name).encode()))
    return list(texts)


def _is_module(name):
    """Whether Python has a module of that name, folders without code aside."""
    found = PathFinder.find_spec(name)
    return name in sys.stdlib_module_names or (found is not None and found.origin is not None)
