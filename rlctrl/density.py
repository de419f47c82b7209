"""Log-density of X_+ = Φ + Γw on a state space in which angles turn."""

import jax.numpy as jnp
import numpy as np

from rlctrl.errors import require

TURNS = 10_000  # most that a density sums over
FARTHEST = {"Gaussian": 9.0, "Uniform": 1.0, "Exponential": 40.0}  # |w| beyond which there is at most 1e-17 of the mass, per channel


def log_density(plant, x_next, flow, spread) -> np.ndarray:
    """Log-density (...) at x_next (..., n) of `flow` (..., n) + `spread` (..., n, q)·w, summed over the turns of periodic states."""
    return np.logaddexp.reduce([_unturned(plant.law, x_next + turn, flow, spread) for turn in _turns(plant, spread)], axis=0)


def _turns(plant, spread):
    """Whole turns (k, n) of the periodic states: one either way, and on to where `spread` carries the noise."""
    reach = np.max(np.abs(spread), axis=tuple(range(spread.ndim - 2)), initial=0.0) @ np.full(spread.shape[-1], _farthest(plant.law))
    width = np.array([s.high - s.low if s.periodic else np.inf for s in plant.states])
    count = 1 + reach // width
    few = bool(np.prod(2 * np.where(np.isfinite(width), count, 0) + 1) <= TURNS)
    require(few, "diffusion", "must not spread a step over so many turns", reach.tolist(), "Use sample(), or a shorter dt.")
    choices = [w * np.arange(-k, k + 1) if np.isfinite(w) else (0.0,) for w, k in zip(width, count, strict=True)]
    return np.stack([c.ravel() for c in np.meshgrid(*choices, indexing="ij")], -1)


def _farthest(law):
    """Bound of |w| per channel beyond which next to none of the mass lies."""
    if hasattr(law, "nodes"):
        return float(np.max(np.abs(law.nodes), initial=0.0))
    nine = np.abs(law.mean) + 9 * np.sqrt(np.diag(law.covariance))
    return FARTHEST.get(type(law).__name__, float(np.max(nine, initial=0.0)))


def _unturned(law, x_next, flow, spread):
    """The log-density on the whole of R^n."""
    gap = x_next - flow
    gram = np.swapaxes(spread, -1, -2) @ spread
    full = bool(np.all(np.linalg.matrix_rank(spread) == spread.shape[-1])) if spread.size else True
    way_out = "Give every noise channel a state it moves, or use sample()."
    require(full, "diffusion", "must have full column rank for a density", np.shape(spread), way_out)
    log_volume = np.linalg.slogdet(gram)[1]
    with np.errstate(invalid="ignore"):  # ∞ − ∞ is NaN, and reached from nowhere
        w = np.linalg.solve(gram, np.swapaxes(spread, -1, -2) @ gap[..., None])[..., 0]
        off = np.linalg.norm(gap - (spread @ w[..., None])[..., 0], axis=-1)
    reached = off <= 1e-9 * (1 + np.linalg.norm(x_next, axis=-1))
    density = np.asarray(law.logpdf(jnp.asarray(w)))
    counted = log_volume / 2 if not hasattr(law, "probabilities") else 0.0  # a mass does not stretch
    return np.where(reached, density - counted, -np.inf)
