"""A saturated pendulum against dynamic programming: what LQR loses, and where a trained critic errs.

python examples/pendulum_dp.py   (writes pendulum_dp.png beside you)
"""

import casadi as ca

import plants
import rlctrl as rc

plant = plants.pendulum(noise=0.2)
problem = rc.Problem(plant, lambda x, u: -(1 - ca.cos(x[0]) + 0.01 * x[1] ** 2 + 0.01 * u[0] ** 2), gamma=0.98, dt=0.05)
dp = rc.solve(problem, rc.GridDP(shape=(81, 81)))
lqr = rc.solve(problem, rc.Riccati(about=([0, 0], [0])))
print(dp, lqr, sep="\n")

run = rc.train(problem, rc.Critic(hidden=32), dp.policy, rc.ReplayTD(memory=128), steps=5_000)
policies = {"lqr": lqr.policy, "lqr clipped": lqr.policy.clipped(-5, 5), "dp": dp.policy, "critic": run.greedy}
print(rc.compare(problem, policies, [3.14159, 0.0], steps=300, paths=128).table())

parts = rc.decompose(run, dp, points=1024, starts=1, iterations=60)
print(f"critic's relative error {parts.relative_error:.2f}, best fit of its network {parts.best_fit_relative_error:.2f}; {parts.verdict}")
parts.plot()[0].savefig("pendulum_dp.png", dpi=150)
