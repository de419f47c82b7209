"""Exchange with python-control: plants as `nlsys` or StateSpace, linear systems as plants, trajectories as time responses."""

import re

import casadi as ca
import control
import numpy as np

from rlctrl.errors import InputError, first_line, require, require_number, require_numbers
from rlctrl.noise import Gaussian
from rlctrl.plant import Plant, Signal
from rlctrl.problem import Problem

LINEAR = 1e-9  # relative departure from an affine map that counts as rounding
REST = 1e-6  # drift per second, or change per step, that counts as rest, relative to the size of the point
PROBES = 64


def to_control(plant, dt=None):
    """See `Plant.to_control`."""
    step = _mean_map(plant, dt)
    names, inputs = [s.name for s in plant.states], [s.name for s in plant.inputs]
    sampled = plant.update is not None or dt is not None

    def update(_, x, u, params):
        return np.array(step(x, np.atleast_1d(u), plant.stacked(params)))[:, 0]

    return control.nlsys(
        update, lambda t, x, u, params: x, name=plant.name, states=names, inputs=inputs, outputs=names, params=dict(plant.params),
        dt=(True if dt is None else float(dt)) if sampled else 0,
    )  # fmt: skip


def _mean_map(plant, dt):
    """(x, u, p) → drift, or next state, without noise."""
    if dt is not None:
        require_number("dt", dt, "must be a positive number of seconds", "Give the sampling time, e.g. dt=0.05.", low=1e-300)
    if plant.drift_function is not None and dt is None:
        return plant.drift_function
    x, u, w, p, following, _ = Problem(plant, lambda x, u: 0.0, gamma=1.0, dt=dt, exit="free").symbolic()
    return ca.Function("step", [x, u, p], [ca.substitute(following, w, ca.DM(plant.law.mean))])


def linearize(plant, x=None, u=None):
    """See `Plant.linearize`."""
    x, u = (np.zeros(size) if a is None else require_numbers(word, a) for word, a, size in (("x", x, plant.n), ("u", u, plant.m)))
    A, B = plant.jacobian(x, u)
    value = np.array(_mean_map(plant, None)(x, u, plant.parameter_vector))[:, 0]
    gap = value if plant.update is None else _unturned(plant, value - x)
    rests = bool(np.all(np.abs(gap) <= REST * (1 + np.max(np.abs(np.append(x, u))))))
    what = "drift" if plant.update is None else "change per step"
    point = f"must be a point of rest: at x={x.tolist()}, u={u.tolist()} the {what}"
    require(rests, "x, u", point, gap.tolist(), "Give x and u, e.g. those of plants.equilibrium(name).")
    names, inputs = [s.name for s in plant.states], [s.name for s in plant.inputs]
    C, D = np.eye(plant.n), np.zeros((plant.n, plant.m))
    dt = 0 if plant.update is None else True
    return control.ss(A, B, C, D, dt, name=plant.name, states=names, inputs=inputs, outputs=names, remove_useless_states=False)


def _unturned(plant, gap):
    """A difference of states with whole turns taken out."""
    turns = np.array([s.periodic for s in plant.states])
    width = np.array([s.high - s.low if s.periodic else 1.0 for s in plant.states])
    return gap - np.where(turns, width * np.round(gap / width), 0.0)


def from_control(sys, states=None, inputs=None, noise=None, name=None, source=""):
    """See `Plant.from_control`."""
    known = isinstance(sys, control.StateSpace | control.NonlinearIOSystem)
    way_out = "Use control.ss(…) first, e.g. on a transfer function."
    require(known, "sys", "must be a StateSpace or an nlsys", type(sys).__name__, way_out)
    require(bool(sys.nstates), "sys", "must have states", sys.nstates, "A static gain is no plant.")
    A, B, c = _affine_parts(sys)
    n, m = B.shape
    require(m > 0, "sys", "must have an input", sys.ninputs, "Add one, if only a column of zeros.")
    states = _signals(sys.state_labels, "x", n) if states is None else states
    inputs = _signals(sys.input_labels, "u", m) if inputs is None else inputs
    for argument, signals, size in (("states", states, n), ("inputs", inputs, m)):
        require(len(signals) == size, argument, f"must name the {size} of `sys`", len(signals), "Give one Signal each.")
    F = np.zeros((n, 0)) if noise is None else require_numbers("noise", noise)
    require(F.size % n == 0 and (F.ndim < 2 or len(F) == n), "noise", f"must have {n} rows", F.shape, "Give one row per state.")
    name = _identifier(sys.name or "plant") if name is None else name
    return affine_plant(name, states, inputs, A, B, c, F.reshape(n, -1), bool(sys.isdtime(strict=True)), source)


def affine_plant(name, states, inputs, A, B, c, F, discrete, source) -> Plant:
    """dX = (AX + Bu + c) dt + F dW, or X_+ = AX + Bu + c + Fw; F (n, q) may have no columns."""
    noisy = F.shape[1] > 0
    params = {"A": A, "B": B, "c": c} | ({"F": F} if noisy else {})
    mean = lambda x, u, p: p.A @ x + p.B @ u + p.c
    if discrete:
        update = lambda x, u, w, p: mean(x, u, p) + (p.F @ w if noisy else 0)
        return Plant(name, states, inputs, update=update, noise=Gaussian(F.shape[1]), params=params, source=source)
    return Plant(name, states, inputs, drift=mean, diffusion=(lambda x, u, p: p.F) if noisy else None, params=params, source=source)


def _affine_parts(sys):
    """A, B and c of a system's update; refuses one that is not affine or that depends on time."""
    if isinstance(sys, control.StateSpace):
        return np.array(sys.A, float), np.array(sys.B, float), np.zeros(sys.nstates)
    n, m = sys.nstates, sys.ninputs
    f = lambda z, t=0.0: _called(sys, t, z[:n], z[n:])
    c = f(np.zeros(n + m))
    slopes = np.stack([f(column) - c for column in np.eye(n + m)], 1)
    rng = np.random.default_rng(0)
    for z, size, t in zip(rng.standard_normal((PROBES, n + m)), np.logspace(-3, 4, PROBES), rng.uniform(0, 100, PROBES), strict=True):
        gap = np.max(np.abs(f(size * z, t) - c - slopes @ (size * z)))
        scale = np.max(np.abs(slopes) @ np.abs(size * z)) + np.max(np.abs(c))
        where = (
            f"must be linear and independent of time; at t={t:.3g}, x={(size * z[:n]).tolist()}, u={(size * z[n:]).tolist()} it departs by"
        )
        require(gap <= LINEAR * scale, "sys", where, float(gap), "Write it in CasADi with rc.Plant, or pass sys.linearize(x, u).")
    return slopes[:, :n], slopes[:, n:], c


def _called(sys, t, x, u):
    try:
        value = np.asarray(sys.dynamics(t, x, u), float).ravel()
    except Exception as error:
        raise InputError(
            f"`sys` must have an update function that can be called; at x={x.tolist()}, u={u.tolist()} it raised "
            f"{type(error).__name__}: {first_line(error)}. Give the system its parameters."
        ) from None
    require(value.shape == x.shape, "sys", f"must update its {len(x)} states", value.shape, "Mend its update function.")
    return value


def _signals(labels, letter, count):
    labels = labels or [f"{letter}{k + 1}" for k in range(count)]
    return [Signal(_identifier(label), "1") for label in labels]


def _identifier(label):
    """A label such as "x[0]" as a name: "x0"."""
    word = re.sub(r"\W+", "_", re.sub(r"\[(\w+)\]", r"\1", str(label))).strip("_")
    return word if word.isidentifier() else f"_{word}"


def time_response(trajectory):
    """See `Trajectory.to_control`."""
    states, inputs = (np.moveaxis(a, -1, 0) for a in (trajectory.x, np.concatenate([trajectory.u, trajectory.u[:, -1:]], 1)))
    batch = states.shape[1]
    if batch == 1:
        states, inputs = states[:, 0], inputs[:, 0]
    names = [s.name for s in trajectory.states]
    return control.TimeResponseData(
        trajectory.t, states, states, inputs, state_labels=names, output_labels=names, input_labels=[s.name for s in trajectory.inputs],
        multi_trace=batch > 1, title="rlctrl trajectory", issiso=False,
    )  # fmt: skip
