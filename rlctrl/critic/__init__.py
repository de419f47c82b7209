"""The deep critic (T5–T9) and its replay TD training (T13–T14). It never sees a reference."""

from rlctrl.critic.network import Critic
from rlctrl.critic.train import ReplayTD, Training, train

__all__ = ["Critic", "ReplayTD", "Training", "train"]
