"""Tutorial 2: a pendulum too weak to swing up at once, against dynamic programming. About 25 s; figures go to runs/tutorial_2.

You learn what LQR loses when the input saturates and the state is far away, how to know that the reference is right, how to compare
policies on the same noise.

python examples/tutorial_2_pendulum.py
"""

from pathlib import Path

import casadi as ca

import plants
import rlctrl as rc

folder = Path("runs/tutorial_2")
folder.mkdir(parents=True, exist_ok=True)

print("1. The problem: upright is theta = 0; 5 N m cannot lift the pendulum from where it hangs, it must swing.")
plant = plants.pendulum(noise=0.2)
problem = rc.Problem(plant, lambda x, u: -(1 - ca.cos(x[0])) - 0.01 * x[1] ** 2 - 0.01 * u[0] ** 2, gamma=0.98, dt=0.05)

print("\n2. The reference: dynamic programming. Every reference states its error; is it small against the range of V*? If not, refine.")
hanging = [3.14159, 0.0]
for nodes in (41, 101):
    dp = rc.solve(problem, rc.GridDP(shape=(nodes, nodes)))
    terms = ", ".join(f"{name} {size:.2g}" for name, size in dp.error_terms.items())
    print(f"   {nodes} x {nodes} nodes: V*(hanging) = {dp.V(hanging):.2f}, stated error over the whole box {dp.error:.2g} ({terms})")
print(f"   The stated error is the largest over the box; it sits along the bands where the torque switches. {dp.notes[0]}")
dp.plot()[0].savefig(folder / "value_and_policy.png", dpi=150)
print(f"   Maps of V* and π*: {folder}/value_and_policy.png.")

print("\n3. Four policies from hanging down, on the same noise. MPC looks 20 steps = 1 s ahead and knows V beyond only near the top.")
lqr = rc.solve(problem, rc.Riccati(about=([0, 0], [0])))
policies = {
    "lqr, any torque": lqr.policy,  # as a textbook would: no bound
    "lqr, clipped": lqr.policy.clipped(-5, 5),
    "mpc": rc.MPC(problem, horizon=20, terminal=lqr),
    "dp": dp.policy,
}
table = rc.compare(problem, policies, hanging, steps=160, paths=4)
print("   " + table.table().replace("\n", "\n   "))
print(f"   V*(hanging) = {dp.V(hanging):.2f}. Unclipped, LQR uses torque that does not exist; clipped, it never gets up.")
print("   Regrets are paired on the same noise: sharp where paths are alike, wide for MPC, which on some paths dithers at the bottom.")
table.plot()[0].savefig(folder / "policies.png", dpi=150)
print(f"   Figure: {folder}/policies.png. What a critic learns on this plant, and where it errs: rlctrl run examples/pendulum.toml.")
