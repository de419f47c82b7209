"""Tutorial 4: a plant of your own, from its equations to a comparison of policies. About 25 s; figures go to runs/tutorial_4.

You learn to write a plant in CasADi with units and noise, find where it rests, linearise it, choose a reference by trying the cheapest
first, and see whether the work beyond LQR pays. Replace the tank by your own plant.

python examples/tutorial_4_own_plant.py
"""

from pathlib import Path

import casadi as ca
import numpy as np
from scipy.optimize import root

import rlctrl as rc

folder = Path("runs/tutorial_4")
folder.mkdir(parents=True, exist_ok=True)

print("1. The plant: a tank with an outlet. dX = drift dt + diffusion dW; every signal has a unit and bounds.")
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
print(
    f"   Reward and discount were given per second; per step gamma = {problem.gamma:.4f}. Change a parameter: tank.with_params(noise=0.05)."
)

print("\n2. Where it rests at 1 m, and its linearisation there. CasADi differentiates; nothing is done by hand.")
level = np.array([1.0])
inflow = root(lambda u: problem.transition(level, u, [0.0]) - level, [0.1]).x  # the input at which a step without noise goes nowhere
A, B = tank.jacobian(level, inflow)
print(f"   inflow {inflow[0]:.4f} m³/s; A = {A[0, 0]:.4f} 1/s, B = {B[0, 0]:.1f} 1/m². Time constant {-1 / A[0, 0]:.0f} s.")

print("\n3. Which reference? The cheapest first: is the problem linear-quadratic?")
try:
    rc.solve(problem, rc.Riccati())
except rc.InputError as error:
    print(f"   No: {error}")
lqr = rc.solve(problem, rc.Riccati(about=(level, inflow)))
dp = rc.solve(problem, rc.GridDP(shape=(101,)))
print(f"   {lqr}\n   {dp}")
print("   One state and a bound that is active: dynamic programming is the reference, the linearisation a baseline.")
dp.plot()[0].savefig(folder / "value_and_policy.png", dpi=150)

print("\n4. Does it hold? An independent check: Monte Carlo under π* must agree with V* within both errors.")
estimate = rc.monte_carlo(problem, dp.policy, [0.4], paths=1000, tail=dp.V)
print(f"   V*(0.4 m) = {dp.V([0.4]):.4f} ± {dp.error:.1g} (stated); Monte Carlo {estimate.mean:.4f} ± {estimate.ci95:.4f}.")

print("\n5. Does it pay? The same noise for all, from a low and a high level; 'mine' is any function of x you like.")
policies = {
    "dp": dp.policy,
    "lqr, clipped": lqr.policy.clipped(0.0, 0.2),
    "mine": lambda x: 0.2 * (x < 1.0),  # on-off
}
table = rc.compare(problem, policies, [[0.4], [1.8]], steps=100, rest=level)
print("   " + table.table().replace("\n", "\n   "))
print("   dp and clipped LQR differ by less than the stated error of dp: here LQR is all one needs. On-off control is not enough.")
table.plot()[0].savefig(folder / "policies.png", dpi=150)

print("\n6. A critic beside it: trained on the policy π*, its error measured against Q*.")
run = rc.train(problem, rc.Critic(hidden=16), dp.policy, rc.ReplayTD(memory=128), steps=5_000)
parts = rc.decompose(run, dp, points=512, starts=1)
print(f"   Relative error {parts.relative_error:.3f}; the best this network could do is {parts.best_fit_relative_error:.4f}.")
print(f"   Figures: {folder}/value_and_policy.png, {folder}/policies.png. The same from a file: rlctrl new mine && rlctrl run mine.toml.")
