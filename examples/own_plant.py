"""Your own plant in 30 lines: a stirred tank whose level is held against random inflow.

python examples/own_plant.py
"""

import casadi as ca

import rlctrl as rc

tank = rc.Plant(
    name="tank",
    states=[rc.Signal("level", "m", 0.1, 2.0)],
    inputs=[rc.Signal("inflow", "m^3/s", 0.0, 0.2)],
    drift=lambda x, u, p: (u[0] - p.outlet * ca.sqrt(2 * p.gravity * x[0])) / p.area,
    diffusion=lambda x, u, p: p.noise / p.area,
    params={"area": 0.5, "outlet": 0.02, "gravity": 9.81, "noise": 0.02},
    source="Torricelli's law",
)
problem = rc.Problem.from_rates(tank, lambda x, u: -((x[0] - 1.0) ** 2) - u[0] ** 2, discount_rate=0.1, dt=0.5)
dp = rc.solve(problem, rc.GridDP(shape=(201,)))
print(dp)

run = rc.train(problem, rc.Critic(hidden=16), dp.policy, rc.ReplayTD(memory=128), steps=10_000)
parts = rc.decompose(run, dp)
print(f"relative error {parts.relative_error:.3f}; best fit {parts.best_fit_relative_error:.4f}; sup e_Q {abs(parts.e_q).max():.2e}")
estimate = rc.monte_carlo(problem, dp.policy, [0.4], paths=500, tail=dp.V)
print(f"V*(0.4 m) = {dp.V([0.4]):.4f} ± {dp.error:.1g} (stated); Monte Carlo {estimate.mean:.4f} ± {estimate.ci95:.4f}")
