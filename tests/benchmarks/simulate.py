"""Plant steps per second: `rc.simulate` against Gymnasium's vectorised Pendulum-v1 and against python-control on an ensemble.

Pendulum-v1 is stepped by SyncVectorEnv and by whatever `make_vec` chooses, with actions drawn beforehand; ours is the same
map (`plants.gym_pendulum`, noise drawn though unused) under a policy, paths stored. The ensemble is 1,000 noise-free paths of a falling
pendulum, its equations written with Python's math as a user of python-control would; ours draws noise besides. Warm on our side:
compiling takes under a second, once. As environments, `VectorEnv` of rlctrl is timed too.
"""

import math
import os
import warnings

import control
import gymnasium
import numpy as np

import plants
import rlctrl as rc
import rlctrl.interop.gymnasium as envs
from tests.benchmarks.timing import median

BATCH, STEPS = 16_384, 200  # of ours
COPIES, CALLS = 256, 200  # of Gymnasium's
PATHS, SAMPLES, DT = 1000, 200, 0.05  # of the ensemble


def starts(count):
    return np.random.default_rng(0).uniform([-np.pi, -1.0], [np.pi, 1.0], (count, 2))


def ours(repeat):
    """Plant steps per second of simulate."""
    problem = rc.Problem(**plants.defaults("gym_pendulum"))
    x0, policy = starts(BATCH), lambda x: -x[..., 1:]
    work = lambda: rc.simulate(problem, policy, x0, STEPS)
    work()
    return BATCH * STEPS / median(work, repeat)[0]


def stepped(env, repeat):
    """Plant steps per second of a vectorised environment."""
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(CALLS)]

    def work():
        env.reset(seed=0)
        for action in actions:
            env.step(action)

    work()
    seconds, _ = median(work, repeat)
    env.close()
    return COPIES * CALLS / seconds


def peers():
    """{name: vectorised Pendulum-v1}"""
    make = lambda: gymnasium.make("Pendulum-v1")
    yield "SyncVectorEnv", gymnasium.vector.SyncVectorEnv([make] * COPIES)
    yield "make_vec", gymnasium.make_vec("Pendulum-v1", num_envs=COPIES)


def environments(repeat):
    rate = ours(repeat)
    yield {"row": f"simulate, pendulum of Gymnasium, batch {BATCH}", "steps_per_s": rate}
    for name, env in peers():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = stepped(env, repeat)
        yield {"row": f"Pendulum-v1 by {name}, {COPIES} copies", "steps_per_s": found, "ratio": rate / found, "target": "ratio ≥ 100"}
    batch = stepped(envs.make_vec("gym_pendulum", COPIES), repeat)
    yield {"row": f"rlctrl VectorEnv, {COPIES} copies", "steps_per_s": batch}


def user_written():
    """The pendulum of `plants.pendulum` as a python-control system."""
    p = plants.pendulum().params
    inertia = p["mass"] * p["length"] ** 2

    def update(_, x, u, __):
        return [x[1], p["gravity"] / p["length"] * math.sin(x[0]) + (u[0] - p["damping"] * x[1]) / inertia]

    return control.nlsys(update, None, inputs=1, outputs=2, states=2)


def ensemble(repeat):
    system, x0, time = user_written(), np.random.default_rng(0).uniform(1.0, 2.0, (PATHS, 2)), DT * np.arange(SAMPLES + 1)
    theirs, last = median(lambda: [control.input_output_response(system, time, 0 * time, x).states[:, -1] for x in x0], repeat)
    problem = rc.Problem(plants.pendulum(noise=0.0), lambda x, u: -(x[0] ** 2), gamma=0.98, dt=DT, exit="free")
    policy = lambda x: 0 * x[..., :1]
    work = lambda: rc.simulate(problem, policy, x0, SAMPLES)
    turned = np.angle(np.exp(1j * (work().x[:, -1, 0] - np.stack(last)[:, 0])))
    seconds, _ = median(work, max(repeat, 9))
    row = {"row": f"ensemble of {PATHS} paths of {SAMPLES} samples", "python_control_s": theirs, "ours_s": seconds}
    yield row | {"ratio": theirs / seconds, "target": "ratio ≥ 100", "median_difference_rad": float(np.median(np.abs(turned)))}


def rows(repeat):
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    for row in (*environments(repeat), *ensemble(repeat)):
        yield row | {"load": load}
