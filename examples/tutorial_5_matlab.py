"""Tutorial 5: to MATLAB. About 10 s; files go to runs/tutorial_5.

You learn to tabulate V* and π*, write them with simulated paths to a .mat file, and use them in MATLAB: interpolate, plot, close the loop.
A run of the command line leaves data.mat beside its figures; load it the same way.

python examples/tutorial_5_matlab.py, then in MATLAB: cd runs/tutorial_5, plot_run
"""

import re
from pathlib import Path

import casadi as ca
import numpy as np
from scipy.io import loadmat

import plants
import rlctrl as rc
from rlctrl.interop.export import write_mat

folder = Path("runs/tutorial_5")
folder.mkdir(parents=True, exist_ok=True)

print("1. Solve a pendulum and tabulate V* and π* on a grid of angle and speed: rows are angles, columns speeds.")
plant = plants.pendulum(noise=0.2)
problem = rc.Problem(plant, lambda x, u: -(1 - ca.cos(x[0])) - 0.01 * x[1] ** 2 - 0.01 * u[0] ** 2, gamma=0.98, dt=0.05)
dp = rc.solve(problem, rc.GridDP(shape=(61, 61)))
theta, omega = np.linspace(-np.pi, np.pi, 91), np.linspace(-8, 8, 81)
x = np.stack(np.meshgrid(theta, omega, indexing="ij"), -1)

print("2. Paths: x is (path, time, coordinate) here and in MATLAB; python-control wants time last, lsim and do-mpc time first.")
path = rc.simulate(problem, dp.policy, np.tile([3.0, 0.0], (20, 1)), steps=120)
numbers = {
    "theta": theta,
    "omega": omega,
    "V": dp.V(x),
    "policy": dp.policy(x)[..., 0],
    "V_error": dp.error,
    "t": path.t,
    "x": path.x,
    "u": path.u,
    "r": path.r,
    "gamma": problem.gamma,
    "dt": problem.dt,
    "params": dict(plant.params),
}
write_mat(folder / "data.mat", numbers)

print("3. A MATLAB script beside it, that reads, interpolates, simulates without noise, and plots.")
script = """% Written by examples/tutorial_5_matlab.py of rlctrl. Base MATLAB only.
d = load('data.mat');                              % vectors are columns, x is path by time by coordinate

figure; contourf(d.theta, d.omega, d.V', 20); colorbar
xlabel('theta [rad]'); ylabel('omega [rad/s]'); title(sprintf('V*, stated error %.2g', d.V_error))

figure; hold on                                    % the paths simulated in Python
plot(d.t, squeeze(d.x(:, :, 1))'); xlabel('t [s]'); ylabel('theta [rad]')

% The policy as a table: interp2 wants columns first, angles brought into [-pi, pi). In Simulink: a 2-D lookup table.
wrap = @(a) mod(a + pi, 2*pi) - pi;
law = @(x) interp2(d.omega, d.theta, d.policy, x(2), wrap(x(1)));
p = d.params;
f = @(x, u) [x(2); p.gravity/p.length*sin(x(1)) + (u - p.damping*x(2))/(p.mass*p.length^2)];
x = [3; 0]; gain = 0; N = numel(d.t) - 1; states = zeros(2, N + 1); states(:, 1) = x;
for k = 1:N                                        % Runge-Kutta 4 with the input held, as rlctrl samples the plant
    u = law([x(1), max(-8, min(8, x(2)))]); h = d.dt;
    gain = gain + d.gamma^(k-1)*(-(1 - cos(x(1))) - 0.01*x(2)^2 - 0.01*u^2);
    k1 = f(x, u); k2 = f(x + h/2*k1, u); k3 = f(x + h/2*k2, u); k4 = f(x + h*k3, u);
    x = x + h/6*(k1 + 2*k2 + 2*k3 + k4); states(:, k + 1) = x;
end
plot(d.t, wrap(states(1, :)), 'k', 'LineWidth', 2)
discounted = reshape(d.r, size(d.r, 1), [])*d.gamma.^(0:N-1)';
fprintf('Return without noise %.2f; mean of %d noisy paths %.2f\\n', gain, numel(discounted), mean(discounted))
"""
(folder / "plot_run.m").write_text(script, encoding="ascii")

print("4. A check that needs no MATLAB: every name the script takes from data.mat is there, with the shape it expects.")
found = loadmat(folder / "data.mat", simplify_cells=True)
used = sorted(set(re.findall(r"\bd\.(\w+)", script))), sorted(set(re.findall(r"\bp\.(\w+)", script)))
missing = [name for name in used[0] if name not in found] + [name for name in used[1] if name not in found["params"]]
if missing or found["V"].shape != (theta.size, omega.size):
    raise SystemExit(f"data.mat lacks {missing}, or V has the wrong shape {found['V'].shape}")
print(f"   {', '.join(used[0])} and the parameters {', '.join(used[1])}: all there.")
print(f"   Mean return of the paths: {path.returns.mean():.2f} over {path.t[-1]:.0f} s; MATLAB prints the same number.")
print(f"   Now in MATLAB: cd {folder}, plot_run.")
