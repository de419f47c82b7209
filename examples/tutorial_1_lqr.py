"""Tutorial 1: the linear-quadratic problem, where every number has a known value. About 20 s; figures go to runs/tutorial_1.

You learn to state a problem, solve it, simulate it, and read the decomposition of a critic's error where the answer is known beforehand:
the Riccati gain is python-control's, V* lies in the Monte-Carlo interval, a critic that can represent Q* has e_Q = 0 and converges to it,
and the noise term of the TD error equals its formula.

python examples/tutorial_1_lqr.py
"""

from pathlib import Path

import control
import numpy as np

import plants
import rlctrl as rc

folder = Path("runs/tutorial_1")
folder.mkdir(parents=True, exist_ok=True)

print("1. The problem: a mass on a line, pushed by a force. Reward per step -(x'Qx + u'Ru), discounted by gamma per step.")
gamma, dt, Q, R = 0.95, 0.1, np.diag([0.1, 0.01]), np.array([[0.01]])
problem = rc.Problem(plants.double_integrator(noise=0.0), rc.quadratic(Q, R), gamma=gamma, dt=dt, exit="free")

print("\n2. The reference. Discounted LQR is ordinary LQR of (sqrt(gamma) A, sqrt(gamma) B), so python-control must find the same gain.")
lqr = rc.solve(problem, rc.Riccati())
A, B = np.array([[1.0, dt], [0.0, 1.0]]), np.array([[dt**2 / 2], [dt]])  # exact: the input is held over dt
gain = control.dlqr(np.sqrt(gamma) * A, np.sqrt(gamma) * B, Q, R)[0]
K = -lqr.policy(np.eye(2)).T  # column k is -u at the k-th unit state
print(f"   {lqr}\n   K = {K.round(6).tolist()}, u = -Kx; python-control differs by {np.max(abs(gain - K)):.1e}.")

print("\n3. Simulation with noise 0.1 m/s per sqrt(s). The gain stays (certainty equivalence), V* falls by a constant.")
noisy = problem.with_params(noise=0.1)
noisy_lqr = rc.solve(noisy, rc.Riccati())
x0 = [1.0, 0.0]
path = rc.simulate(noisy, noisy_lqr.policy, np.tile(x0, (200, 1)), steps=60, seed=0)
path.plot()[0].savefig(folder / "paths.png", dpi=150)
print(f"   Arrays are (batch, time, coordinate): x {path.x.shape}, u {path.u.shape}. See {folder}/paths.png.")

estimate = rc.monte_carlo(noisy, noisy_lqr.policy, x0, paths=4000)
inside = abs(estimate.mean - noisy_lqr.V(x0)) <= estimate.ci95
print(f"   V*(x0) = {noisy_lqr.V(x0):.5f}; without noise {lqr.V(x0):.5f}; Monte Carlo {estimate.mean:.5f} ± {estimate.ci95:.5f} (95 %).")
print(f"   V* lies {'inside' if inside else 'OUTSIDE'} the interval; one time in twenty it should not.")

print("\n4. A critic that can represent Q*: squares of affine functions. Trained by the scheme of the notes, never shown Q*.")
critic = rc.Critic(hidden=8, activation="square", features="affine")
run = rc.train(problem, critic, lqr.policy, rc.ReplayTD(exploration=0.5, restart=20), steps=20_000)
parts = rc.decompose(run, lqr, starts=1)
norm = parts.terms.omega_norm
print(f"   sup e_Q = {abs(parts.e_q).max():.1e}: Q* is represented. sup e* = {abs(parts.e_star).max():.1e}: no noise, optimal policy.")
print(f"   ‖ω̃‖ went from {norm[0]:.2g} to {norm[-1]:.1e}; relative error of Q̂: {parts.relative_error:.1e}.")
print(f"   The identity T12 holds to {parts.identity_residual:.0e}; its remainder has slope {parts.remainder_slope:.4f} (theory: 2).")
print(f"   {parts.verdict}")

print("\n5. The same with noise. Now e* is not zero, but it is known: γ(E[V*(X₊)|z] - V*(x₊)) is a quadratic formula in P.")
noisy_run = rc.train(noisy, critic, noisy_lqr.policy, rc.ReplayTD(exploration=0.5, restart=20), steps=20_000)
noisy_parts = rc.decompose(noisy_run, noisy_lqr, starts=1)
memory, P = noisy_run.snapshots.memory, noisy_lqr.value.P
z, x_next = memory.z, memory.z_next[..., 0, :2]
mean = z[..., :2] @ A.T + z[..., 2:] @ B.T
square = lambda x: np.einsum("...i,ij,...j->...", x, P, x)
formula = gamma * (square(x_next) - square(mean) - P[1, 1] * 0.1**2 * dt)
gap = np.max(abs(formula - noisy_parts.e_star_noise)[noisy_parts.counted])
print(f"   e*_noise: rms {np.sqrt(np.mean(formula**2)):.2e}; the decomposition differs from the formula by {gap:.0e}.")
print(
    f"   Relative error of Q̂: {noisy_parts.relative_error:.3f} instead of {parts.relative_error:.4f}. Tutorial 3 says why, and what to do."
)
noisy_parts.plot()[0].savefig(folder / "decomposition.png", dpi=150)
print(f"   Figure: {folder}/decomposition.png.")
