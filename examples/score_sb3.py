"""Scoring another library's critic: TD3 of Stable-Baselines3 trained on one of our environments, its policy and its Q against Q*.

Needs `pip install stable-baselines3`; about a minute on two cores.
"""

import sys
from importlib.util import find_spec
from typing import Any

import numpy as np

if find_spec("stable_baselines3") is None:
    print("Stable-Baselines3 is not installed, so there is nothing to score: pip install stable-baselines3")
    sys.exit(0)

import gymnasium
import torch  # pyright: ignore[reportMissingImports]
from stable_baselines3 import TD3  # pyright: ignore[reportMissingImports]

import rlctrl as rc
import rlctrl.interop.gymnasium
from rlctrl.analysis import score

torch.set_num_threads(1)
env = gymnasium.make("rlctrl/Pendulum-v0", noise=0.1, observation="sincos", dtype="float32")
inner: Any = env.unwrapped
problem, observe = inner.problem, inner.translation.observe

agent = TD3(
    "MlpPolicy", env, gamma=problem.gamma, learning_rate=1e-3, learning_starts=500, batch_size=128, seed=0, device="cpu",
    policy_kwargs={"net_arch": [64, 64]},
)  # fmt: skip
agent.learn(5000)


def policy(x):
    """The agent's input at states (N, 2)."""
    x = np.asarray(x)
    return agent.predict(observe(x.reshape(-1, 2)), deterministic=True)[0].astype(float).reshape(*x.shape[:-1], 1)


def critic(x, u):
    """The agent's Q at states (N, 2) and inputs (N, 1), which Stable-Baselines3 scales to ±1."""
    observations, actions = (torch.as_tensor(np.array(a, np.float32)) for a in (observe(x), agent.policy.scale_action(u)))
    with torch.no_grad():
        return agent.critic.q1_forward(observations, actions)[:, 0].numpy()


dp = rc.solve(problem, rc.GridDP(shape=(101, 101)))
print(dp)
print(rc.compare(problem, {"optimal": dp.policy, "TD3": policy}, [np.pi, 0.0], steps=200, paths=32).table())
found = score(problem, dp, critic, policy, points=512)
print(found.table(), found.verdict, sep="\n")
