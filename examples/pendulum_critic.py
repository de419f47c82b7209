"""The notes' plain scheme and an improved one on the same swing-up, side by side, and the error budget that says why they differ.

Plain: T13–T14, one update per plant step on the last 256 transitions. Improved: Gauss–Newton refits on 16,384 transitions of 40 steps,
60 % of them started anywhere in Z, drawn anew every 8 updates.
"""

import time

import casadi as ca

import plants
import rlctrl as rc

problem = rc.Problem(
    plants.pendulum(noise=0.2), lambda x, u: -(1 - ca.cos(x[0])) - 0.01 * x[1] ** 2 - 0.01 * u[0] ** 2, gamma=0.98, dt=0.05
)
reference = rc.solve(problem, rc.GridDP(shape=(201, 201)))
critic = rc.Critic(hidden=64)

plain = rc.ReplayTD(memory=256, exploration=0.3)
improved = rc.ReplayTD(
    memory=16_384, renew=8, refresh=8, horizon=40, uniform=0.6, exploration=0.3, gradient="semi", normaliser=0, update="gauss-newton",
    snapshots=6,
)  # fmt: skip

for name, scheme, steps in (("plain", plain, 20_000), ("improved", improved, 200)):
    start = time.perf_counter()
    run = rc.train(problem, critic, reference.policy, scheme, steps=steps)
    seconds = time.perf_counter() - start
    parts = rc.decompose(run, reference, starts=3, iterations=300)
    print(f"{name}: relative error {parts.relative_error:.3f}, best fit {parts.best_fit_relative_error:.3f}; {seconds:.0f} s of training")
    print(parts.budget.table())
    print(parts.verdict, parts.bounds.verdict, sep="\n", end="\n\n")
