"""Optimal value functions one can trust: every method returns a `Reference`, every reference states its error."""

from rlctrl.reference.base import Reference, solve
from rlctrl.reference.dp import GridDP
from rlctrl.reference.exact import Exact
from rlctrl.reference.hjb import HJB
from rlctrl.reference.riccati import Riccati

__all__ = ["Exact", "GridDP", "HJB", "Reference", "Riccati", "solve"]
