"""What plants and trajectories exchange with other tools. How lives in `rlctrl.interop`, which is loaded when it is asked for."""

import importlib
from collections.abc import Mapping, Sequence

from rlctrl.errors import strict
from rlctrl.kinds import FilePath, Numbers


class PlantExchange:
    """Ways of a plant to python-control, CasADi and files, and back."""

    @strict
    def to_control(self, dt=None):
        """The plant without noise (w at its mean) as a python-control `nlsys`: named states, inputs and outputs (the states), parameters.

        A diffusion gives a continuous-time system, or with `dt` seconds the map over one sample (Runge–Kutta 4, input held); a
        discrete-time plant a discrete-time system of sampling time `dt` (default: unspecified). Nothing is wrapped or clipped.
        """
        return importlib.import_module("rlctrl.interop.control").to_control(self, dt)

    @strict
    def linearize(self, x: Numbers | None = None, u: Numbers | None = None):
        """The linearisation at a point of rest `x` (n,), `u` (m,) (default: zeros) as a python-control `StateSpace`, w at its mean.

        Its states, inputs and outputs (the states) carry the signals' names and mean deviations from the point. Raises `InputError` if the
        plant does not rest there, since a StateSpace has no offset.
        """
        return importlib.import_module("rlctrl.interop.control").linearize(self, x, u)

    @staticmethod
    @strict
    def from_control(
        sys, states: Sequence | None = None, inputs: Sequence | None = None, noise: Numbers | None = None, name=None, source=""
    ):
        """A plant from a python-control system `sys`: a StateSpace, or an `nlsys` whose update is affine (tested at random points).

        `states`, `inputs`: Signals, by default the system's labels, dimensionless and unbounded. `noise` (n, q): dX = … + noise·dW, or
        X_+ = … + noise·w with w standard normal. `name` (default: the system's) and `source` are kept. The outputs of `sys` are dropped: a
        plant shows its states. The parameters A, B, c and F can be changed afterwards. Raises `InputError` for other systems.
        """
        return importlib.import_module("rlctrl.interop.control").from_control(sys, states, inputs, noise, name, source)

    @strict
    def discretize(self, dt):
        """The exact discrete-time plant of a linear diffusion sampled every `dt` seconds with the input held: X_+ = AX + Bu + c + Fw.

        Transition and noise covariance are matrix exponentials (Van Loan 1978) at the present parameters; those of the new plant are A, B,
        c and F. Raises `InputError`, with the reason, for a plant that is not linear in (x, u) or whose noise depends on them.
        """
        return importlib.import_module("rlctrl.interop.sampling").discretize(self, dt)

    def casadi(self):
        """The plant as CasADi Functions, by name: `drift` and `diffusion` of (x, u, p), or `update` of (x, u, w, p)."""
        return importlib.import_module("rlctrl.interop.plant_file").functions(self)

    @staticmethod
    @strict
    def from_casadi(
        name,
        states: Sequence,
        inputs: Sequence,
        drift=None,
        diffusion=None,
        update=None,
        noise=None,
        params: Mapping | None = None,
        source="",
    ):
        """A plant from CasADi Functions: `drift` and `diffusion` of (x, u) or (x, u, p), or `update` of (x, u, w) or (x, u, w, p).

        p stacks the numbers of `params`, matrices column by column. `name`, `states`, `inputs`, `noise` and `source` are as in `rc.Plant`.
        Raises `InputError` for Functions of other arguments.
        """
        given = (name, states, inputs, drift, diffusion, update, noise, params, source)
        return importlib.import_module("rlctrl.interop.plant_file").from_casadi(*given)

    @strict
    def save(self, path: FilePath):
        """Write the plant to one JSON file: signals, parameters, law of the noise, source, and its dynamics as CasADi serialises them.
        Returns the path."""
        return importlib.import_module("rlctrl.interop.plant_file").save(self, path)

    @staticmethod
    @strict
    def load(path: FilePath):
        """The plant in a file written by `save`, with the same `digest`; parameters stay adjustable. Open files of people you trust only.
        Raises `InputError` for a file that is damaged or of another kind."""
        return importlib.import_module("rlctrl.interop.plant_file").load(path)


class TrajectoryExchange:
    """Ways of trajectories to python-control, pandas and files."""

    def to_control(self):
        """python-control's `TimeResponseData`, time last: states (= outputs) (n, T), inputs (m, T); with a batch (n, batch, T) and so on.

        The last input is held for the final time, at which none was applied.
        """
        return importlib.import_module("rlctrl.interop.control").time_response(self)

    def to_pandas(self):
        """A pandas DataFrame, one row per time: states, inputs, reward (NaN at the final time) and alive; indexed by t, with a batch by
        (path, t). Raises `InputError` if pandas is not installed."""
        return importlib.import_module("rlctrl.interop.tables").to_pandas(self)

    @strict
    def save_csv(self, path: FilePath):
        """Write the same table as comma-separated values, a header line first; numbers read back exactly. Returns the path."""
        return importlib.import_module("rlctrl.interop.tables").trajectory_csv(self, path)
