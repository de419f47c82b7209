"""The options of a training: which error, which update, which data."""

from dataclasses import dataclass
from typing import Any

from rlctrl.critic.rules import UPDATES
from rlctrl.critic.td import Objective
from rlctrl.errors import nearest, require, require_number, require_whole, strict
from rlctrl.tree import saved

CHOICES = {
    "target": ("sample", "expected", "double", "antithetic"),
    "gradient": ("full", "semi"),
    "normaliser": (2, 1, 0),
    "update": UPDATES,
    "sampling": ("uniform", "prioritised"),
}
COUNTS = {"memory": 256, "restart": 50, "snapshots": 50, "horizon": 1, "refresh": 1, "plants": 1, "quadrature": 5}
OPTIONAL = ("batch", "renew")


@strict
@saved
@dataclass(frozen=True)
class ReplayTD:
    """Replay TD on the last `memory` = M transitions; as it stands, the notes' scheme T13–T14. Raises `InputError` for bad values.

    The error. `target`: "sample" (the notes), "expected" (over the first noise, by `quadrature` nodes per channel), "double" (two
    independent successors, whose errors are multiplied) or "antithetic" (the mean over two successors of mirrored noises, in which all that
    is odd in the noise cancels; for laws symmetric about their mean). `horizon`: n of n-step targets, along p^θ. `gradient`: "full" (the
    notes) or "semi" (successors' values held at the weights of the last `refresh`, counted in updates). `normaliser`: exponent of
    dᵀd + 1 in T13.
    The update. `update`: "gradient" (T14), "momentum", "adam", or "gauss-newton" (damped least squares on e ≈ dᵀω̃). `rate` λ: a number,
    or "measured" (1/λ_max(A), the c-maximising one for the A at hand, renewed at every snapshot); by default 4/M, which maximises
    c = λε(2 − λM/4) in T18 (λ < 8/M is required there), a tenth of it for momentum, 1e-3 for Adam, 1 for Gauss–Newton. `batch`: transitions
    drawn from the memory per update (default: all, as in the notes), by `sampling` "uniform" or "prioritised" (by |e|^0.6, with importance
    weights; Schaul et al. 2016).
    The data. `exploration`: standard deviation added to the input, as a fraction of half its box (an absolute figure for unbounded inputs);
    a finite input is replaced by a random value with this probability. `restart`: steps after which the state is drawn anew from the box.
    `uniform`: share of transitions whose z is drawn from all of Z instead. `plants`: plants that run in parallel, each adding a transition
    per update. `renew`: instead of one step per update, the whole memory is drawn anew every `renew` updates, under the p^θ of then.
    `snapshots`: how many times along the run ω_k, ω_{k+1} and R_k are kept for the analysis (fewer where R_k is large).
    """

    memory: int = 256
    rate: Any = None
    exploration: float = 0.2
    restart: int = 50
    snapshots: int = 50
    target: str = "sample"
    horizon: int = 1
    gradient: str = "full"
    normaliser: int = 2
    update: str = "gradient"
    refresh: int = 1
    batch: int | None = None
    sampling: str = "uniform"
    uniform: float = 0.0
    plants: int = 1
    renew: int | None = None
    quadrature: int = 5

    def __post_init__(self):
        for name, known in CHOICES.items():
            value = getattr(self, name)
            require(
                any(value == k and type(value) is type(k) for k in known), name, f"must be one of {known}", value, nearest(value, known)
            )
        for name, default in COUNTS.items():
            require_whole(name, getattr(self, name), 1, f"The default is {default}.")
        for name in (n for n in OPTIONAL if getattr(self, n) is not None):
            require_whole(name, getattr(self, name), 1, "Leave it out for none.")
        require_number("exploration", self.exploration, "must be a number ≥ 0", "Use 0 for none.", low=0.0)
        require_number("uniform", self.uniform, "must be a share from 0 to 1", "Use 0.5 for half.", low=0.0, high=1.0)
        self._check_together()
        if self.rate is None:
            object.__setattr__(self, "rate", self._default_rate())
        elif not (isinstance(self.rate, str) and self.rate == "measured"):
            limit = f"The theory asks for less than 8/M = {8 / self.rows:.4g}."
            require_number("rate", self.rate, 'must be a positive number or "measured"', limit, low=1e-300)
            object.__setattr__(self, "rate", float(self.rate))

    def _check_together(self):
        require(
            self.plants <= self.memory, "plants", "must not exceed the memory", (self.plants, self.memory), "Use fewer, or more memory."
        )
        product = self.target == "double" and self.update == "gauss-newton"
        require(not product, "target", '"double" is no sum of squares, as Gauss–Newton needs', "double", 'Use "expected".')
        measured = isinstance(self.rate, str) and self.rate == "measured"
        require(not measured or self.update == "gradient", "rate", '"measured" is for the gradient', self.update, "Leave it out.")
        needs = self.refresh == 1 or self.gradient == "semi"
        require(needs, "refresh", 'holds weights only for gradient = "semi"', self.refresh, "Leave it out.")
        require(self.renew is None or self.plants == 1, "plants", "does nothing with `renew`", self.plants, "Leave one of them out.")
        drawn = self.sampling == "uniform" or self.batch is not None
        require(drawn, "sampling", "draws nothing unless `batch` is given", self.sampling, "Give batch = 64, say.")

    def _default_rate(self):
        return {"gradient": 4.0 / self.rows, "momentum": 0.4 / self.rows, "adam": 1e-3, "gauss-newton": 1.0}[self.update]

    @property
    def rows(self) -> int:
        """Transitions in one update: M of the theory."""
        return self.memory if self.batch is None else self.batch

    @property
    def objective(self) -> Objective:
        """Which gradient of which error."""
        return Objective(self.gradient == "semi", self.target == "double", self.normaliser)
