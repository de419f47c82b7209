"""The deep critic (T5–T9), its actor and its replay TD training (T13–T14). It never sees a reference."""

from rlctrl.critic.actor import Actor
from rlctrl.critic.network import Critic
from rlctrl.critic.scheme import ReplayTD
from rlctrl.critic.train import Training, train

__all__ = ["Actor", "Critic", "ReplayTD", "Training", "train"]
