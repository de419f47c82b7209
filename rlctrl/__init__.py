"""rlctrl: stochastic plants in CasADi, the optimal Q*, a deep critic trained beside it, and where the critic's error comes from.

Importing switches JAX to 64-bit floats; nothing else global is touched (in the command `rlctrl`, what Ctrl-C does as well).
"""

from rlctrl import interrupts

interrupts.watch()

import jax  # noqa: E402

jax.config.update("jax_enable_x64", True)

from rlctrl.analysis import compare, decompose  # noqa: E402
from rlctrl.critic import Actor, Critic, ReplayTD, Training, train  # noqa: E402
from rlctrl.errors import InputError, NotConverged  # noqa: E402
from rlctrl.mpc import MPC  # noqa: E402
from rlctrl.noise import Exponential, Finite, Gaussian, Uniform  # noqa: E402
from rlctrl.plant import Plant, Signal  # noqa: E402
from rlctrl.policy import LinearPolicy  # noqa: E402
from rlctrl.problem import Problem, quadratic  # noqa: E402
from rlctrl.reference import HJB, Exact, GridDP, OpenLoop, Reference, Riccati, Spectral, solve  # noqa: E402
from rlctrl.simulate import Trajectory, monte_carlo, simulate  # noqa: E402

__version__ = "0.1.0"
__all__ = [
    "Actor", "Critic", "Exact", "Exponential", "Finite", "Gaussian", "GridDP", "HJB", "InputError",
    "LinearPolicy", "MPC", "NotConverged", "OpenLoop", "Plant", "Problem", "Reference", "ReplayTD", "Riccati", "Signal", "Spectral",
    "Training", "Trajectory", "Uniform", "compare", "decompose", "monte_carlo", "quadratic", "simulate", "solve", "train",
]  # fmt: skip
