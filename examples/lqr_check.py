"""LQR, where everything is exact: the critic that can represent Q* has e_Q = 0, and Monte Carlo agrees with V*.

python examples/lqr_check.py
"""

import plants
import rlctrl as rc

problem = rc.Problem(plants.double_integrator(noise=0.0), rc.quadratic([0.1, 0.01], [0.01]), gamma=0.95, dt=0.1, exit="free")
lqr = rc.solve(problem, rc.Riccati())
print(lqr)

critic = rc.Critic(hidden=8, activation="square", features="affine")
run = rc.train(problem, critic, lqr.policy, rc.ReplayTD(exploration=0.5, restart=20), steps=20_000)
parts = rc.decompose(run, lqr)
print(f"sup e_Q = {abs(parts.e_q).max():.1e}, sup e* = {abs(parts.e_star).max():.1e}, critic's relative error = {parts.relative_error:.1e}")

noisy = problem.with_params(noise=0.1)
value = rc.solve(noisy, rc.Riccati()).V([1.0, 0.0])
estimate = rc.monte_carlo(noisy, lqr.policy, [1.0, 0.0], paths=4000)
print(f"V*(x0) = {value:.5f}; Monte Carlo {estimate.mean:.5f} ± {estimate.ci95:.5f}")
