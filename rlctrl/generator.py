"""The continuous-time data of a problem as JAX functions: drift b, diffusion σ, reward rate ℓ, discount rate ρ (T4).

Arrays: last axis is the coordinate; all leading axes broadcast. ℓ = r/dt and ρ = −ln(γ)/dt, so that a problem made by `from_rates` gives
back what it was made of.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from rlctrl.casadi_jax import JaxFunction
from rlctrl.tree import record


@record(
    arrays=("p", "low", "high", "rho", "dt", "drift_function", "diffusion_function", "reward_function", "exit_function"),
    static=("periodic", "exit"),
)
@dataclass(frozen=True, eq=False)
class Generator:
    """dX = b(X,u) dt + σ(X,u) dW, reward rate ℓ(x,u), discount rate ρ per second, on a box with an exit rule."""

    p: Any
    low: Any
    high: Any
    rho: Any
    dt: Any
    drift_function: JaxFunction
    diffusion_function: JaxFunction
    reward_function: JaxFunction
    exit_function: JaxFunction
    periodic: tuple[bool, ...]
    exit: str

    def drift(self, x, u):
        """b(x, u), (..., n) per second."""
        return self.drift_function(x, u, self.p)

    def diffusion(self, x, u):
        """σ(x, u), (..., n, q) per square root of a second."""
        return self.diffusion_function(x, u, self.p)

    def covariance(self, x, u):
        """a = σσᵀ, (..., n, n) per second."""
        sigma = self.diffusion(x, u)
        return sigma @ jnp.swapaxes(sigma, -1, -2)

    def reward_rate(self, x, u):
        """ℓ(x, u) per second."""
        return self.reward_function(x, u, self.p) / self.dt

    def exit_value(self, x):
        """Value at a state in which the problem ends."""
        return self.exit_function(x, self.p)
