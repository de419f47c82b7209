"""The full gradient on a noisy plant is biased: min E e² = (E e)² + Var e. Expected targets and semi-gradients are not.

The critic represents Q* exactly here (a polynomial of degree 2), so all error is the scheme's.
"""

import numpy as np

import plants
import rlctrl as rc

plant = plants.double_integrator(noise=1.0)
problem = rc.Problem(plant, rc.quadratic([0.1, 0.01], [0.01]), gamma=0.95, dt=0.1, exit="free")
lqr = rc.solve(problem, rc.Riccati())
critic = rc.Critic(hidden=(), features="polynomial")
z = np.random.default_rng(0).uniform([-2, -2, -5], [2, 2, 5], (2000, 3))
exact = lqr.Q(z[:, :2], z[:, 2:])

for name, options in {
    "sampled (the notes)": {},
    "expected": {"target": "expected"},
    "semi-gradient": {"gradient": "semi"},
}.items():
    scheme = rc.ReplayTD(memory=4000, renew=4000, restart=10, normaliser=0, update="gauss-newton", snapshots=2, **options)
    run = rc.train(problem, critic, lqr.policy, scheme, steps=300)
    print(f"{name:20} relative error {np.sqrt(np.mean((run.Q(z[:, :2], z[:, 2:]) - exact) ** 2)) / np.std(exact):.2e}")
