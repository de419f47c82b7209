"""What the numbers of a summary mean, in words; T-numbers are those of the theory page."""

ERROR_TERMS = {
    "contraction": "bound on the distance to the fixed point of the finite problem when the iteration stopped",
    "solver": "what the solver of the finite problem left undone",
    "discretisation": "change of V when the grid is refined, extrapolated",
    "quadrature": "change of V when the noise gets twice the nodes",
    "truncation": "change of V when the margin around the box is halved or widened",
    "target": "what the nodes in the target miss of it",
    "walls": "how far V at the walls is from the exit value",
    "riccati_residual": "what the residual of the Riccati equation amounts to in V",
    "linearisation": "how far the linear model is from the plant over the box",
    "finite_inputs": "what inputs of finitely many values, which Riccati does not know, change in V: not known",
    "ends": "what the ends of the problem, which Riccati does not know, change in V: not known",
    "degree": "change of V when the polynomial degree is raised by two",
    "rounding": "what rounding adds",
    "residual": "what the residual of the optimality equation amounts to in V",
    "correlation": "what the correlation of the noise that the monotone scheme dropped could change in V",
    "horizon and programme": "tail beyond the horizon and duality gap",
    "better optima a step later": "how much better the paths are that were found from where the first step leads",
}
CAUSES = {
    "representation": "e_Q: what the network cannot represent even at its best fit",
    "not_excited": "directions of the weights in which the data say nothing",
    "unfinished": "what training left undone",
    "targets": "e_Q carried into the targets",
    "noise": "e*_noise: what sampling noise adds to the targets",
    "policy": "e*_policy: what acting otherwise than optimally adds",
    "held": "lag of held target weights",
    "remainder": "what the quadrature between ω* and ω leaves",
}
CURES = {
    "representation": "A wider network or better features would help.",
    "not_excited": "More data from everywhere would help: a larger memory, uniform draws, renewed batches.",
    "unfinished": "Longer training, a larger rate or a better update (Gauss–Newton) would help.",
    "targets": "A wider network or better features would help.",
    "noise": "Expected, antithetic or double targets, or a semi-gradient, would help.",
    "policy": "A policy closer to π* would help.",
    "held": "Refreshing the held weights more often would help.",
    "remainder": "A smooth activation would help.",
}
DECOMPOSITION = {
    "e_q_rms": ("e_Q, rms", "T10: what the network cannot represent, on the measure"),
    "e_q_sup": ("e_Q, largest", "T10"),
    "e_star_rms": ("e*, rms", "T11: what noise and policy add to a TD error, on the transitions"),
    "e_star_sup": ("e*, largest", "T11"),
    "e_star_noise_rms": ("e*_noise, rms", "T11: zero mean given z"),
    "e_star_policy_rms": ("e*_policy, rms", "T11: never negative, zero for π*"),
    "remainder_rms": ("R, rms", "T12: what linearising the critic hides, at the trained weights"),
    "remainder_slope": ("slope of R", "T12 says 2 as ω → ω*; none where the critic is linear in its weights"),
    "omega_tilde_norm": ("‖ω̃‖", "distance of the trained weights from the nearest equivalent of ω*"),
    "reference_residual": ("residual of V*", "largest |V − max Q| of the reference on the successors; e*_policy inherits it"),
    "identity_residual": ("identity T12", "largest relative difference of its two sides: round-off"),
}
LYAPUNOV = {
    "epsilon": ("ε", "T16: least excited eigenvalue of A"),
    "c_theory": ("c, promised", "T18: λε(2 − λM/4)"),
    "c_measured": ("c, with λ_max(A)", "T18: λε(2 − λλ_max)"),
    "c_observed": ("c, observed", "what happened at the last snapshot, per step; negative: the weights moved away"),
    "error_sup": ("sup |γe_Q′ − e_Q + e*|", "T20, on the sample below"),
    "kappa": ("κ", "T20: sup |R|/‖ω̃‖², on the sample below"),
    "sample": ("transitions in the sample", "T20"),
    "r_in": ("r_in", "T19: ultimate bound; none where nothing is promised"),
    "r_in_measured": ("r_in, bias as measured", "T19 with the bias of the last snapshot instead of its worst case"),
    "r_out": ("r_out", "T19: region of attraction; none or endless where empty"),
    "violations": ("growth beyond T18", "snapshots at which ‖ω̃‖ grew by more than T18 allows"),
    "gradient_gap": ("gradient check", "T15: relative gap between ∇J and Aω̃ + b + q: round-off"),
    "identity_residual": ("identity T17", "largest relative difference of its two sides: round-off; none for updates other than T14"),
}
EXCITATION = {
    "min_eigenvalue": ("least eigenvalue of A", "T16: ε of the whole space"),
    "max_eigenvalue": ("largest eigenvalue of A", "T16 bounds it by M/4 for the notes' normaliser"),
    "effective_rank": ("effective rank", "directions of the weights the data excite"),
    "excited_share": ("excited share of ‖ω̃‖²", "1 where the data speak about the whole error of the weights"),
}
POLICIES = {
    "lqr": "LQR",
    "lqr_clipped": "LQR, clipped to the box",
    "dp": "reference π*",
    "hjb": "reference π* (HJB)",
    "spectral": "reference π* (Spectral)",
    "mpc": "MPC",
    "critic": "critic, greedy",
    "actor": "trained actor",
}
MEASURES = {
    "saturated": "at a bound [% of steps]",
    "beyond_bounds": "inputs not taken [% of steps]",
    "left_the_box": "left the box [% of steps]",
    "regret": "regret",
    "regret_ci95": "± 95 %, paired",
    "ended": "ended [% of paths]",
    "settling_time": "settling time [s]",
    "seconds_per_input": "time per input [s]",
}
PERCENT = ("saturated", "beyond_bounds", "left_the_box", "ended")
EXITS = {
    "clip": "leaving the box is prevented: the state is projected back onto it",
    "absorb": "leaving the box ends the episode",
    "free": "the state may leave the box, which is only where one computes and judges",
}
STAGES = {
    "reference": "solving the reference",
    "baseline": "LQR baseline",
    "training": "training the critic",
    "decomposition": "splitting its error",
    "comparison": "comparing policies",
    "figures": "figures and data",
    "slices": "slices of the viewer",
    "total": "all together",
}
FILES = {
    "summary.json": "every headline number, seed, versions, hash of the plant, seconds per stage",
    "data.npz": "the numbers behind the figures, for NumPy",
    "data.mat": "the numbers behind the figures, for MATLAB",
    "slices.npz": "the grid behind the slice viewer",
    "reference.npz": "the reference: rc.Reference.load gives V*, Q*, π* back",
    "references.csv": "the table of references",
    "comparison.csv": "the table of policies",
    "paths.csv": "the paths of the policy, a row for every path and time",
    "critic.npz": "the trained critic, to export",
    "actor.npz": "the trained actor, to export",
    "tables.tex": "tables for LaTeX",
    "cite.bib": "how to cite this",
}
KINDS = {
    ".pdf": "figure for print",
    ".svg": "figure as vectors",
    ".png": "figure as pixels",
    ".csv": "numbers behind a figure",
    ".gif": "animation",
    ".mp4": "animation",
    ".npz": "numbers for NumPy",
    ".mat": "numbers for MATLAB",
    ".toml": "the experiment",
    ".json": "numbers",
}


def words(name) -> str:
    """A key nobody described, as words."""
    return str(name).replace("_", " ")
