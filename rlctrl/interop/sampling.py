"""The exact discrete-time plant of a linear diffusion."""

import casadi as ca
import numpy as np

from rlctrl.errors import require, require_number
from rlctrl.interop.control import affine_plant
from rlctrl.reference.lq_continuous import held


def discretize(plant, dt):
    """See `Plant.discretize`."""
    require_number("dt", dt, "must be a positive number of seconds", "Give the sampling time, e.g. dt=0.05.", low=1e-300)
    require(plant.drift_function is not None, "plant", "must have a drift to be sampled", plant.name, "It is discrete in time already.")
    x, u, p = plant.symbols()
    drift, spread = plant.drift_function(x, u, p), plant.diffusion_function(x, u, p)
    z = ca.vertcat(x, u)
    curved = [s.name for s, row in zip(plant.states, ca.vertsplit(drift), strict=True) if not ca.is_linear(row, z)]
    way_out = "Let rc.Problem sample it (dt=…), or take plant.linearize(x, u)."
    require(not curved, "plant", f"must be linear in (x, u) to be sampled exactly; the drift of '{plant.name}' is not in", curved, way_out)
    constant = not ca.depends_on(ca.vec(spread), z)
    rule = f"must have noise that does not depend on (x, u) to be sampled exactly; that of '{plant.name}' does, as its diffusion says"
    require(constant, "plant", rule, str(spread), "Let rc.Problem sample it (dt=…).")
    A, B, c, F = held(*_parts(plant, z, (x, u, p), drift, spread), float(dt))
    turning = [s.name for s in plant.states if s.periodic]
    fits = not any(np.any(A[:, k] != np.eye(plant.n)[:, k]) for k, s in enumerate(plant.states) if s.periodic)
    require(fits, "plant", "must not depend on an angle that wraps, other than adding to it", turning, "Drop `periodic`.")
    F = F if np.any(F) else np.zeros((plant.n, 0))
    return affine_plant(plant.name, plant.states, plant.inputs, A, B, c, F, True, plant.source)


def _parts(plant, z, symbols, drift, spread):
    """A, B, c and F of dX = (AX + Bu + c) dt + F dW."""
    function = ca.Function("parts", list(symbols), [ca.densify(e) for e in (ca.jacobian(drift, z), drift, spread)])
    slopes, offset, F = (np.array(a) for a in function(np.zeros(plant.n), np.zeros(plant.m), plant.parameter_vector))
    return slopes[:, : plant.n], slopes[:, plant.n :], offset[:, 0], F.reshape(plant.n, -1)
