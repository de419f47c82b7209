"""Plants by name: `plants.names()`, `plants.get("pendulum", noise=0.1)`, or `plants.pendulum(noise=0.1)`.

Each file holds one plant or one close family, in CasADi, with units and source. Parameters are keywords with defaults in SI units.
"""

from collections.abc import Callable

from plants.cart_pole import cart_pole
from plants.double_integrator import double_integrator
from plants.linear import linear
from plants.pendulum import pendulum
from plants.vamvoudakis_lewis import vamvoudakis_lewis
from plants.van_der_pol import van_der_pol
from rlctrl.errors import nearest, require
from rlctrl.plant import Plant

PLANTS: dict[str, Callable[..., Plant]] = {
    f.__name__: f for f in (cart_pole, double_integrator, linear, pendulum, vamvoudakis_lewis, van_der_pol)
}


def names() -> list[str]:
    """Names of all plants."""
    return sorted(PLANTS)


def get(name: str, **parameters) -> Plant:
    """The plant of that name with some parameters changed. Raises `InputError` for an unknown name or parameter."""
    require(name in PLANTS, "name", "must be one of the plants", name, nearest(name, PLANTS))
    return PLANTS[name](**parameters)


__all__ = ["PLANTS", "get", "names", *PLANTS]
