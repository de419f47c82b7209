"""Tutorial 3: the critic is wrong. Why, and what cures it? About 35 s; figures go to runs/tutorial_3.

You learn to read the error budget: it splits Q* - Q̂ at every point into causes, exactly. Two keywords, each named by the budget, take a
critic from useless to exact; a study of widths shows what no keyword of training can cure.

python examples/tutorial_3_wrong_critic.py
"""

from pathlib import Path

from matplotlib.figure import Figure

import plants
import rlctrl as rc
from rlctrl.analysis import width_study

folder = Path("runs/tutorial_3")
folder.mkdir(parents=True, exist_ok=True)

problem = rc.Problem(plants.double_integrator(noise=1.0), rc.quadratic([0.1, 0.01], [0.01]), gamma=0.95, dt=0.1, exit="free")
lqr = rc.solve(problem, rc.Riccati())


def examine(title, critic, steps, **options):
    """Train, decompose, and print the three largest causes of the error."""
    scheme = rc.ReplayTD(memory=256, exploration=0.5, restart=10, snapshots=5, **options)
    parts = rc.decompose(rc.train(problem, critic, lqr.policy, scheme, steps=steps), lqr, points=512, starts=1)
    critic_says = parts.summary()["critic"]["td_rms"]
    print(f"\n{title}")
    print(
        f"   TD error, rms {critic_says:.2g}. Relative error of Q̂ {parts.relative_error:.2g}; best fit {parts.best_fit_relative_error:.1g}."
    )
    print("   " + "\n   ".join(parts.budget.table().splitlines()[:4]))
    return parts


print("A mass on a line under strong noise. The critic is a polynomial of degree 2: Q* is one, so nothing but training can be at fault.")
polynomial = rc.Critic(hidden=(), features="polynomial")

cases = {"the notes": examine("1. The scheme of the notes", polynomial, 5_000)}
print("   Aloud: the error is the noise. The gradient of e² also shrinks Var e, which the critic can do only by being wrong:")
print("   min E e² = (E e)² + Var e. More data or more steps would change nothing.")

cases["expected"] = examine(
    '2. target="expected": the mean over the noise, by quadrature, since the plant is known', polynomial, 5_000, target="expected"
)
print("   Aloud: the noise is gone. What is left is 'unfinished': the gradient is not yet zero. Train longer, or take better steps.")

cases["both (all below 1e-6)"] = examine('3. and update="gauss-newton"', polynomial, 200, target="expected", update="gauss-newton")
print("   Aloud: round-off. The critic is Q*.")

print("\n4. What no keyword of training cures: a network too small. e_Q of the best fit, against the number of tanh units:")
study = width_study(lqr, rc.Critic(features="affine"), widths=(2, 4, 16), points=512, starts=1)
print("   " + study.table().replace("\n", "\n   "))
print("   Aloud: in a budget this stands under 'representation' and, carried into the targets, 'targets'. The cure: units or features.")

figure = Figure(figsize=(9, 3), layout="constrained")
for ax, (title, parts) in zip(figure.subplots(1, 3, sharey=True), cases.items(), strict=True):
    ax.barh(list(parts.budget.rms), list(parts.budget.rms.values()))
    ax.set(title=title, xscale="log", xlim=(1e-6, 10), xlabel="rms over Z")
figure.savefig(folder / "budgets.png", dpi=150)
study.plot()[0].savefig(folder / "width.png", dpi=150)
print(f"\nFigures: {folder}/budgets.png, {folder}/width.png. A run draws the budget as figures/error_budget; report.html says it in words.")
