"""Optimal value functions one can trust: every method returns a `Reference`, every reference states its error."""

from rlctrl.reference.base import Reference, solve
from rlctrl.reference.dp import GridDP
from rlctrl.reference.exact import Exact
from rlctrl.reference.hjb import HJB
from rlctrl.reference.open_loop import OpenLoop
from rlctrl.reference.riccati import Riccati
from rlctrl.reference.spectral import Spectral

__all__ = ["HJB", "Exact", "GridDP", "OpenLoop", "Reference", "Riccati", "Spectral", "solve"]
