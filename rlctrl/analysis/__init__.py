"""Where the learner's error comes from, and what the convergence theory says beside what happened (T10–T20)."""

from rlctrl.analysis.compare import Comparison, compare
from rlctrl.analysis.decomposition import Decomposition, decompose

__all__ = ["Comparison", "Decomposition", "compare", "decompose"]
