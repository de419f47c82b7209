"""A folder as a run or a solve leaves it, without either: small, known numbers."""

import json

import numpy as np

from rlctrl.analysis.slices import slices
from rlctrl.plant import Signal

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)></section>${name} $js'
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="504pt" height="100pt" viewBox="0 0 504 100"><path d="M0 0L9 9"/></svg>'
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360f8cfc0f01f0005000201e2216bc80000000049454e44ae426082"
)
SIGNALS = (
    Signal("theta", "rad", -np.pi, np.pi, periodic=True),
    Signal("omega", "rad/s", -8.0, 8.0),
    Signal("torque", "N m", -5.0, 5.0),
    Signal("mode", "1", values=(0.0, 1.0, 3.0)),
)
Q = {  # multilinear, so that interpolation is exact
    "q_star": lambda x, u: 1.0 + 2.0 * x[:, 0] - x[:, 1] * u[:, 0] + 0.5 * x[:, 0] * x[:, 1] * u[:, 0] + u[:, 1],
    "q_best": lambda x, u: 1.5 + 2.0 * x[:, 0] - x[:, 1] * u[:, 0] + 0.5 * x[:, 0] * x[:, 1] * u[:, 0] + u[:, 1],
    "q_trained": lambda x, u: x[:, 0] + u[:, 0],
}
V = {"v_star": lambda x: -x[:, 0] - x[:, 1], "policy_star": lambda x: np.stack([-x[:, 0], 0.0 * x[:, 1]], -1)}

ORIGIN = {
    "name": "swing", "finished": "2026-11-23 03:32 UTC", "plant": "pendulum", "plant_hash": "f623f5174218bded", "seed": 3,
    "plant_parameters": {"mass": 1.0, "noise": 0.2}, "parameter_units": {"mass": "kg"},
    "problem": {"gamma": 0.98, "dt": 0.05, "exit": "clip"},
    "versions": {"rlctrl": "0.1.0", "jax": "9.9.9"}, "seconds": {"reference": 1.5, "total": 12.25},
    "asked": {
        "description": "m l² θ'' = …, `mass` kg.", "source": "Doya & Müller, Neural Computation 12(1), 2000, §5.1",
        "states": [{"name": s.name, "unit": s.unit, "low": s.low, "high": s.high, "periodic": s.periodic} for s in SIGNALS[:2]],
        "inputs": [{"name": s.name, "unit": s.unit, "low": s.low, "high": s.high} for s in SIGNALS[2:]],
        "file": {"problem": {"reward": "-(1 - cos(theta)) - 0.01*omega**2"}, "comparison": {"x0": [[3.14, 0.0]], "paths": 256}},
        "reference": {"method": "GridDP", "shape": [41, 41]}, "critic": {"hidden": 64}, "training": {"steps": 20000}, "actor": {},
    },
}  # fmt: skip
STATED = {
    "method": "GridDP", "error": 5.963, "error_kind": "estimated", "error_terms": {"contraction": 5.335e-8, "discretisation": 5.9629},
    "converged": True, "residual": 2.1e-9, "message": "Contraction bound 5.3e-08.", "notes": ["2.1 % left the box."], "value_at_x0": -55.7,
}  # fmt: skip
RUN = ORIGIN | {
    "reference": STATED,
    "training": {"steps": 20000, "message": "20000 updates done."},
    "critic": {"weights": 384, "relative_error": 0.8164, "best_fit_relative_error": 0.09929, "td_rms": 0.341},
    "decomposition": {"measure": "uniform over the box", "e_q_sup": 5.175, "e_q_rms": 1.0495, "e_star_rms": 0.2354,
                      "e_star_noise_rms": 0.2243, "e_star_policy_rms": 0.0603, "omega_tilde_norm": 170.9, "remainder_slope": None},
    "fits": {"best_rms": 0.93},
    "budget": {"rms": {"representation": 1.05, "targets": 213.1, "noise": 4.468}, "rank": 126,
               "shares": {"representation": 0.01, "targets": -16.74, "noise": 17.73}},
    "lyapunov": {"epsilon": 1e-8, "r_in": None, "verdict": "Excitation lost in k = 19999."},
    "excitation": {"min_eigenvalue": 0.0, "effective_rank": 126, "verdict": "M = 8 < p = 384: ε = 0."},
    "returns": {"lqr": {"mean": -102.3, "ci95": 0.1, "settling_time": 3.5}, "critic": {"mean": -74.5, "ci95": 0.57, "settling_time": None},
                "dp": {"mean": -54.9, "ci95": 0.11, "settling_time": 1.5}},
    "saturated": {"lqr": 0.018, "critic": 0.27, "dp": 0.107}, "left_the_box": dict.fromkeys(("lqr", "critic", "dp"), 0.0189),
    "ended": dict.fromkeys(("lqr", "critic", "dp"), 0.0), "regret": {"dp": 0.0, "critic": 19.94, "lqr": 23.81},
    "regret_ci95": {"dp": 0.0, "critic": 0.3265, "lqr": 0.1371}, "seconds_per_input": dict.fromkeys(("lqr", "critic", "dp"), 5.854e-05),
}  # fmt: skip
ROW = {"method": "GridDP", "error": 5.963, "error_kind": "estimated", "seconds": 1.4, "value_at_x0": -55.7, "span_of_V": 110.0,
       "largest_difference_of_V": 0.0}  # fmt: skip
SOLVE = ORIGIN | {
    "references": {"GridDP": STATED, "Riccati": STATED | {"method": "Riccati", "error_terms": {"linearisation": 1.0}}},
    "table": [ROW, ROW | {"method": "Riccati", "error": 1.037, "span_of_V": 25.0, "largest_difference_of_V": 2.5},
              ROW | {"method": "Spectral", "error": 0.537, "largest_difference_of_V": 50.0}],
    "failures": {"HJB": "`states` must be 1 to 3; got 4."},
}  # fmt: skip


def leave(folder, summary, name=None):
    """Artefacts of a run with this summary; `name`: of the first state."""
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    for stem in ("value_and_policy", "e_q_map", "returns"):
        (figures / f"{stem}.svg").write_bytes(SVG)
    for other in ("a_new_one.png", "returns.png"):
        (figures / other).write_bytes(PIXEL)
    (figures / "returns.csv").write_text("policy,mean\n")
    (figures / "swing.gif").write_bytes(b"GIF89a")
    found = slices(SIGNALS[:2], SIGNALS[2:], [0.5, 0.0, 1.0, 1.0], Q, V, most=3000)
    found["names"] = np.array([name or SIGNALS[0].name, *found["names"][1:]])
    np.savez(folder / "slices.npz", **found)
    return folder
