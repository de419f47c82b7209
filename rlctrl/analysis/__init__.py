"""Where the learner's error comes from, and what the convergence theory says beside what happened (T10–T20)."""

from rlctrl.analysis.compare import Comparison, compare
from rlctrl.analysis.coverage import Coverage, coverage
from rlctrl.analysis.decomposition import Decomposition, decompose
from rlctrl.analysis.score import Score, score
from rlctrl.analysis.sources import Sources, sources
from rlctrl.analysis.studies import EStar, WidthStudy, e_star, width_study

__all__ = [
    "Comparison", "Coverage", "Decomposition", "EStar", "Score", "Sources", "WidthStudy", "compare", "coverage", "decompose", "e_star",
    "score", "sources", "width_study",
]  # fmt: skip
