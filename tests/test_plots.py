"""Figures: every one is there, says what it shows with units, shows the right numbers, and leaves Matplotlib's state alone."""

import ast
import inspect
from dataclasses import replace
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

import plants
import rlctrl as rc
from rlctrl import plots
from rlctrl.analysis import coverage, e_star, score, sources, width_study
from rlctrl.simulate import Return

NAMES = {"closed_loop", "value_and_policy", "q_slices", "e_q_map", "e_star", "training", "excitation", "lyapunov", "returns"}
NAMES |= {"error_budget", "convergence"}
KINDS = ("reference", "trajectory", "training", "decomposition", "comparison", "sources", "coverage", "width_study", "e_star", "score")


@pytest.fixture(scope="module")
def results():
    """A tiny run with three states, two inputs: (reference, training, decomposition, comparison)."""
    states = [rc.Signal("position", "m", -2, 2), rc.Signal("velocity", "m/s", -2, 2), rc.Signal("pressure", "bar", 1, 2)]
    inputs = [rc.Signal("force", "N", -3, 3), rc.Signal("valve", "1", -1, 1)]
    A, B = [[0, 1, 0], [-1, -0.4, 0.5], [0, 0, -1]], [[0, 0], [1, 0], [0, 1]]
    plant = plants.linear(A, B, [[0], [0.2], [0.1]], states=states, inputs=inputs)
    problem = rc.Problem(plant, rc.quadratic([1, 1, 1], [0.1, 0.1]), 0.95, 0.05, exit="free")
    reference = rc.solve(problem, rc.Riccati())
    critic = rc.Critic(hidden=2, activation="square", features="affine")
    training = rc.train(problem, critic, reference.policy, rc.ReplayTD(memory=16, snapshots=4), steps=120)
    decomposition = rc.decompose(training, reference, points=64, starts=0, iterations=3)
    half = replace(reference.policy, K=0.5 * reference.policy.K)
    comparison = rc.compare(problem, {"lqr": reference.policy, "half": half}, [0.5, 0.5, 1.5], steps=12, paths=8)
    return reference, training, decomposition, comparison


def run(*parts):
    return SimpleNamespace(**dict(zip(("reference", "training", "decomposition", "comparison"), parts, strict=True)))


def thin(training, decomposition, comparison):
    """Results of the same shape with one state, two inputs; what was learnt is cut out of the others."""
    signals = {"states": (rc.Signal("speed", "m/s", 0, 2),), "inputs": decomposition.reference.inputs}
    plant = plants.linear([[-0.5]], [[1.0, 0.4]], [[0.2]], **signals)
    problem = rc.Problem(plant, rc.quadratic([1], [0.1, 0.1]), 0.95, 0.05, exit="free")
    reference = rc.solve(problem, rc.Riccati())
    network = training.critic.network(plant)
    snapshots = training.snapshots
    snapshots = replace(snapshots, memory=replace(snapshots.memory, z=snapshots.memory.z[..., 2:]))
    run = replace(training, problem=problem, network=network, weights=np.ones(network.size), snapshots=snapshots)
    parts = replace(decomposition, run=run, reference=reference, omega_star=np.zeros(network.size))
    paths = {name: replace(path, x=path.x[..., :1], states=signals["states"]) for name, path in comparison.trajectories.items()}
    return reference, run, parts, replace(comparison, trajectories=paths)


@pytest.fixture(scope="module")
def figures(results):
    return plots.run_figures(run(*results))


@pytest.fixture(scope="module")
def by_kind(results):
    reference, training = results[:2]
    found = sources(training, [0.5, 0.5, 1.5], [0.1, 0.1], steps=20, paths=8), coverage(training, paths=8, steps=20)
    study = width_study(reference, training.critic, widths=(1, 2), points=32, starts=1, iterations=3)
    policies = {"optimal": reference.policy, "greedy": training.greedy}
    scored = score(training.problem, reference, training.Q, training.greedy, points=16, steps=10, paths=2, inputs=3)
    studies = study, e_star(reference, policies, points=32), scored
    return dict(zip(KINDS, (reference, results[3].trajectories["lqr"], *results[1:], *found, *studies), strict=True))


def panels(figure):
    return [a for a in figure.axes if a.get_label() != "<colorbar>"]


def state():
    return {k: v for k, v in mpl.rcParams.copy().items() if not k.startswith("backend")}


def test_every_figure_is_there(figures):
    assert set(figures) == NAMES
    assert all(isinstance(f, Figure) for f in figures.values())


def test_one_state(results):
    figures = plots.run_figures(run(*thin(*results[1:])))
    assert set(figures) == NAMES
    counts = {name: len(panels(figure)) for name, figure in figures.items()}
    assert (counts["closed_loop"], counts["value_and_policy"], counts["q_slices"]) == (3, 3, 3)
    line, plane = panels(figures["e_q_map"])
    assert line.lines
    assert not line.collections
    assert (plane.get_xlabel(), plane.get_ylabel()) == ("speed [m/s]", "force [N]")
    assert [ax.get_title().replace(plots.drawing.NO_BREAK, " ") for ax in panels(figures["q_slices"])] == [
        "speed = 1 m/s", "speed = 1.5 m/s", "speed = 0.5 m/s",
    ]  # fmt: skip


def test_what_is_held_is_said(figures):
    titles = [ax.get_title().replace(plots.drawing.NO_BREAK, " ") for ax in panels(figures["e_q_map"])]
    assert titles[0] == "u = π*(x),\npressure = 1.5 bar,\ndots: data"
    assert titles[1] == "other u at π*,\nvelocity = 0 m/s,\npressure = 1.5 bar,\ndots: data"


@pytest.mark.parametrize("name", sorted(NAMES))
def test_panels_are_labelled(figures, name):
    shown = panels(figures[name])
    for ax in shown:
        assert ax.get_ylabel() or name == "returns"
        assert ax.get_xlabel() or ax is not shown[-1]


def test_units(figures, results):
    states, inputs = results[0].states, results[0].inputs
    loop = panels(figures["closed_loop"])
    assert [ax.get_ylabel() for ax in loop] == [s.label for s in (*states, *inputs)]
    assert loop[-1].get_xlabel() == "t [s]"
    value, policy, _ = panels(figures["value_and_policy"])
    assert (value.get_xlabel(), value.get_ylabel()) == (states[0].label, states[1].label)
    assert {f"π*: {s.label}" for s in inputs} <= {ax.get_ylabel() for ax in figures["value_and_policy"].axes}
    assert panels(figures["q_slices"])[-1].get_xlabel() == inputs[0].label
    assert panels(figures["e_q_map"])[1].get_ylabel() == inputs[0].label
    assert policy.get_xlim() == (states[0].low, states[0].high)


def test_closed_loop_shows_the_mean_and_the_box(figures, results):
    ax = panels(figures["closed_loop"])[-1]
    path = results[3].trajectories["half"]
    (line,) = [line for line in ax.lines if line.get_linestyle() == "--"]
    np.testing.assert_allclose(line.get_ydata()[:-1], path.u[..., 1].mean(0))
    low, high = ax.get_ylim()
    assert low < path.inputs[1].low < path.inputs[1].high < high


def test_e_q_map_shows_e_q(figures, results):
    reference, _, decomposition, _ = results
    mesh = panels(figures["e_q_map"])[0].collections[0]
    x = np.insert(mesh.get_coordinates().reshape(-1, 2), 2, 1.5, axis=1)
    u = np.clip(reference.policy(x), [-3, -1], [3, 1])
    np.testing.assert_allclose(mesh.get_array().ravel(), decomposition.e_Q(x, u), atol=1e-9)
    assert mesh.norm.vmin == -mesh.norm.vmax


def test_q_slices_show_q(figures, results):
    star, best, trained = panels(figures["q_slices"])[1].lines
    x = np.broadcast_to([1.0, 0.0, 1.5], (len(star.get_xdata()), 3))
    u = np.stack([star.get_xdata(), np.clip(results[0].policy(x)[:, 1], -1, 1)], -1)
    np.testing.assert_allclose(star.get_ydata(), results[0].Q(x, u))
    np.testing.assert_allclose(star.get_ydata() - best.get_ydata(), results[2].e_Q(x, u), atol=1e-9)
    np.testing.assert_allclose(trained.get_ydata(), results[1].Q(x, u))


def test_lyapunov_sum_meets_the_measured_change(figures, results):
    lines = {line.get_label(): line.get_ydata() for line in panels(figures["lyapunov"])[1].lines}
    change = next(v for k, v in lines.items() if "measured" in k)
    np.testing.assert_allclose(lines["sum of the terms"], change, atol=1e-9 * np.max(np.abs(change)))
    np.testing.assert_array_equal(change, results[2].terms.decrease)


def test_of_other_updates_the_change_alone_is_drawn(results):
    """T17 splits a step of T14; its terms are nan for the others."""
    decomposition = results[2]
    none = {name: np.full_like(decomposition.terms.decrease, np.nan) for name in decomposition.terms._fields if name.startswith("term_")}
    scheme = replace(decomposition.run.scheme, update="adam", rate=0.01)
    other = replace(decomposition, terms=decomposition.terms._replace(**none), run=replace(decomposition.run, scheme=scheme))
    (panel,) = plots.learning.lyapunov_panels(other)
    ax = Figure().subplots()
    panel(ax)
    (entry,) = ax.get_legend().get_texts()
    assert "measured" in entry.get_text()
    assert ax.get_legend().get_title().get_text() == "T17 splits this for T14 alone, not for adam"
    np.testing.assert_array_equal(ax.lines[-1].get_ydata(), decomposition.terms.decrease)


def test_a_single_snapshot_is_seen():
    ax = Figure().subplots()
    plots.step_panel(np.array([5]), "size", {"one": np.array([2.0])}, ax)
    plots.step_panel(np.arange(3), "size", {"line": np.ones(3), "part": np.array([np.nan, 1.0, np.nan])}, ax)
    assert [line.get_marker() for line in ax.lines] == ["o", "None", "o"]


@pytest.mark.parametrize("size", [0.0, 1e-17])
def test_no_e_star_is_said(results, size):
    decomposition, ax = results[2], Figure().subplots()
    parts = dict.fromkeys(("e_star_noise", "e_star_policy"), np.full_like(decomposition.e_star, size))
    plots.e_star_panel(replace(decomposition, **parts), ax)
    (said,) = ax.texts
    assert said.get_text() == "$e^*$ = 0 on all transitions, but for rounding"
    assert ax.get_xlabel()


@pytest.mark.parametrize("high", [1.0, np.inf])
def test_of_paths_that_had_ended_at_the_start_the_start_alone_is_drawn(high):
    plant = rc.Plant("walk", [rc.Signal("x", "m", -1, 1)], [rc.Signal("u", "1", -high, high)], update=lambda x, u, w, p: x + 0.1 * u)
    problem = rc.Problem(plant, rc.quadratic(1.0, 1.0), gamma=0.9, target=lambda x: 0.8 - x[0])
    still = lambda x: 0 * x
    states, inputs = rc.simulate(problem, still, [[0.9], [0.95]], 5).plot()[1]
    assert [line.get_marker() for line in states.lines if line.get_linestyle() != ":"] == ["o"]  # where they stand
    assert all(line.get_linestyle() == ":" for line in inputs.lines)  # its bounds
    assert np.all(np.isfinite(inputs.get_ylim()))
    rc.compare(problem, {"still": still}, [[0.9]], steps=5, paths=4).plot()


def test_excitation_says_m_and_p(figures, results):
    (ax,) = panels(figures["excitation"])
    assert ax.get_legend().get_title().get_text() == f"M = 16 transitions, p = {len(results[2].omega_star)} weights"
    np.testing.assert_allclose(ax.lines[-2].get_ydata()[0], results[2].terms.spectrum[-1, 0])


def test_error_budget_shows_every_part_and_its_share(figures, results):
    (ax,) = panels(figures["error_budget"])
    budget = results[2].budget
    sizes = sorted(budget.rms.values())
    np.testing.assert_allclose(sorted(bar.get_width() for bar in ax.patches), sizes)
    bars = sorted(ax.patches, key=lambda bar: bar.get_y())
    np.testing.assert_allclose([bar.get_width() for bar in bars], sizes)  # the largest on top
    assert len(ax.get_yticklabels()) == len(budget.parts)
    for cause, text in zip(sorted(budget.rms, key=lambda c: budget.rms[c]), ax.texts, strict=True):
        share = 100 * budget.shares[cause]
        assert f"({share:+.1f} %)".replace("-", "−") in text.get_text() or abs(share) < 0.05
    assert ax.get_xlim()[0] == 0  # bars begin at nothing


@pytest.mark.parametrize(("r_in", "r_out", "said"), [(np.inf, np.inf, "none"), (0.1, np.inf, "∞"), (0.1, 5.0, "= 5")])
def test_convergence_shows_the_radii_or_says_there_are_none(results, r_in, r_out, said):
    decomposition = results[2]
    all_along = lambda radius: np.full(len(decomposition.step), radius)
    radii = {"r_in": all_along(r_in), "r_out": all_along(r_out), "r_in_measured": all_along(r_in / 2)}
    changed = replace(decomposition, bounds=replace(decomposition.bounds, **radii))
    ax = Figure().subplots()
    plots.theory.theory_panel(changed, ax)
    labels = {line.get_label(): line for line in ax.lines}
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), decomposition.bounds.norm)
    (outer,) = [label for label in labels if "out" in label]
    assert outer.endswith(said)
    assert len(ax.collections) == np.isfinite(r_in)
    assert not any(np.any(np.isinf(line.get_ydata())) for line in ax.lines)


def test_convergence_shows_the_rates(figures, results):
    lines = [np.asarray(line.get_ydata()) for line in panels(figures["convergence"])[1].lines]
    bounds = results[2].bounds
    for c in (bounds.c_theory, bounds.c_measured, bounds.c_observed):
        assert any(len(y) == len(c) and np.array_equal(y, c) for y in lines)


def test_the_cells_of_a_map_of_sources_add_up_to_the_total(by_kind):
    ax = Figure().subplots()
    plots.draw(by_kind["sources"], ax=ax)
    assert np.nansum(ax.collections[0].get_array()) == pytest.approx(by_kind["sources"].total)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("position [m]", "velocity [m/s]")


def test_studies_of_one_state_show_it_against_the_input(by_kind):
    found, cover = by_kind["sources"], by_kind["coverage"]
    ax = Figure().subplots()
    plots.draw(replace(found, x=found.x[..., :1], states=found.states[:1]), ax=ax)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("position [m]", "force [N]")
    cut = {name: getattr(cover, name)[:, [0, 3]] for name in ("data", "z", "worst")}
    _, axes = plots.draw(replace(cover, **cut, states=cover.states[:1], inputs=cover.inputs[:1]))
    assert len(axes) == 2
    assert axes[0].get_ylabel() == "force [N]"


def test_coverage_shows_the_data_and_the_share(by_kind):
    found, ax = by_kind["coverage"], Figure().subplots()
    plots.draw(found, ax=ax)
    lines = {line.get_label(): line.get_xydata() for line in ax.lines}
    np.testing.assert_array_equal(lines[f"{len(found.data)} data"], found.data[:, :2])
    assert f"lacks data: {100 * found.share:.3g} %" in lines
    tail = panels(plots.draw(found)[0])[-1].lines[0]
    beyond = tail.get_ydata()[np.searchsorted(tail.get_xdata(), found.spacing, "right") - 1]
    assert beyond == pytest.approx(100 * found.share)


@pytest.mark.parametrize("kind", KINDS)
def test_draw_makes_an_overview(by_kind, kind):
    figure, axes = plots.draw(by_kind[kind])
    assert isinstance(figure, Figure)
    assert len(axes) > 0
    assert all(ax.has_data() for ax in axes)


@pytest.mark.parametrize("kind", KINDS)
def test_draw_into_an_axes_makes_no_figure(by_kind, kind, monkeypatch):
    figure = Figure()
    ax = figure.subplots()
    monkeypatch.setattr(plots, "Figure", None)
    assert plots.draw(by_kind[kind], ax=ax) == (figure, ax)
    assert ax.has_data()
    assert ax.get_xlabel()


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_is_shown_in_one_line(by_kind, kind):
    """Not its thousands of numbers, when it stands at the end of a cell."""
    shown = repr(by_kind[kind])
    assert shown.startswith(type(by_kind[kind]).__name__ + "(")
    assert "\n" not in shown
    assert len(shown) < 800


def test_result_plot_is_draw(by_kind):
    ax = Figure().subplots()
    assert by_kind["training"].plot(ax=ax)[1] is ax


def test_save_is_deterministic(figures, tmp_path):
    for folder in ("one", "two"):
        plots.save(figures["e_star"], tmp_path / folder, "e_star")
    for kind in ("pdf", "png", "svg"):
        first, second = ((tmp_path / folder / f"e_star.{kind}").read_bytes() for folder in ("one", "two"))
        assert len(first) > 1000
        assert first == second
        assert b"CreationDate" not in first
        assert b"dc:date" not in first


def test_equal_results_give_equal_figures(results, tmp_path):
    for folder in ("one", "two"):
        plots.save(plots.draw(results[1])[0], tmp_path / folder, "training")
    for kind in ("pdf", "png", "svg"):
        assert (tmp_path / "one" / f"training.{kind}").read_bytes() == (tmp_path / "two" / f"training.{kind}").read_bytes()


def test_nothing_global_is_touched(results, figures, tmp_path):
    before = state()
    plots.draw(results[2])
    plots.save(figures["returns"], tmp_path, "returns")
    assert state() == before


def test_users_style_does_not_change_the_files(results, tmp_path):
    users = {"savefig.bbox": "tight", "figure.constrained_layout.use": True, "svg.hashsalt": "other", "font.size": 14, "lines.linewidth": 3}
    for folder, style in (("one", {}), ("two", users)):
        with mpl.rc_context(style):
            plots.save(plots.draw(results[1])[0], tmp_path / folder, "training")
    assert (tmp_path / "one" / "training.svg").read_bytes() == (tmp_path / "two" / "training.svg").read_bytes()


def test_pyplot_is_not_imported():
    tree = ast.parse(inspect.getsource(plots))
    imported = [a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names]
    imported += [f"{node.module}.{a.name}" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for a in node.names]
    assert not [name for name in imported if "pyplot" in name]


@pytest.mark.parametrize("result", [None, 3, np.zeros(3), "figure"])
def test_unknown_results_are_refused(result):
    with pytest.raises(rc.InputError, match="`result` must be"):
        plots.draw(result)


def test_an_axes_must_be_one(by_kind):
    with pytest.raises(rc.InputError, match="`ax` must be"):
        plots.draw(by_kind["training"], ax=np.array([1]))


def turning(alive=None):
    """One path of an angle that goes round, three more beside it."""
    t = np.arange(41) * 0.1
    angle = (np.linspace(0, 9, 41) + np.arange(4)[:, None] + np.pi) % (2 * np.pi) - np.pi
    signals = (rc.Signal("theta", "rad", -np.pi, np.pi, periodic=True),), (rc.Signal("torque", "N m", -1, 1),)
    alive = np.ones((4, 41), bool) if alive is None else alive
    zero = np.zeros((4, 40))
    return rc.Trajectory(angle[..., None], zero[..., None], zero, alive, zero > 0, np.zeros(4), t, 0.9, *signals)


def test_angles_are_broken_at_the_seam():
    ax = Figure().subplots()
    plots.draw(turning(), ax=ax)
    for line in ax.lines:
        steps = np.abs(np.diff(line.get_ydata()))
        assert np.nanmax(steps) < 1
        assert np.isnan(steps).any()
    assert ax.get_ylim() == pytest.approx((-np.pi, np.pi))
    assert "−π/2" in [tick.get_text() for tick in ax.get_yticklabels()]


def test_nothing_is_drawn_after_the_end():
    alive = np.broadcast_to(np.arange(41) < 20, (4, 41))
    path = turning(alive)
    path = replace(path, states=(rc.Signal("theta", "rad"),), x=np.ones((4, 41, 1)))
    ax = Figure().subplots()
    plots.draw(path, ax=ax)
    assert ax.lines[0].get_xdata().max() == pytest.approx(2.0)  # the state in which it ended is the last one shown


def test_without_a_sampling_time_samples_are_counted():
    ax = Figure().subplots()
    plots.draw(replace(turning(), t=np.arange(41.0)), ax=ax)
    assert ax.get_xlabel() == "sample k"


def test_returns_of_very_different_size_get_a_log_scale(by_kind):
    ax = Figure().subplots()
    returns = {name: Return(mean, 0.1, np.zeros(2)) for name, mean in (("bad", -1e5), ("one path", -2.0), ("good", -1.0))}
    returns["one path"] = Return(-2.0, np.inf, np.zeros(1))
    plots.draw(replace(by_kind["comparison"], returns=returns), ax=ax)
    assert ax.get_xscale() == "symlog"
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["bad", "one path", "good"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1e-14, "10⁻¹⁴"), (-2e-5, "−2·10⁻⁵"), (1000.0, "10³"), (-1000.0, "−10³"), (20.0, "20"), (-0.5, "−0.5"), (np.inf, "inf")],
)
def test_numbers(value, text):
    assert plots.drawing.number(value) == text


@pytest.mark.parametrize(
    ("mean", "ci95", "text"),
    [(-0.49182, 0.00121, "−0.4918 ± 0.0012"), (-102.29, 0.1, "−102.29 ± 0.10"), (-1075.2, 3.9, "−1075.2 ± 3.9"),
     (12.0, 1234.0, "12 ± 1234"), (-0.9, 0.0, "−0.9 ± 0"), (2e-5, 1e-6, "2·10⁻⁵ ± 10⁻⁶"), (3.0, np.inf, "3 ± inf")],
)  # fmt: skip
def test_a_mean_has_the_digits_of_its_interval(mean, ci95, text):
    assert plots.drawing.measured(mean, ci95) == text


def test_steps_are_counted_in_full(results):
    _, training, _, _ = results
    long = replace(training, snapshots=replace(training.snapshots, step=5000 * np.arange(1, 1 + len(training.snapshots.step))))
    _, ax = rc.Training.plot(long, ax=Figure().subplots())
    ax.figure.draw_without_rendering()
    ticks = [t.get_text() for t in ax.get_xticklabels()]
    assert any("000" in t for t in ticks)
    assert not ax.xaxis.get_offset_text().get_text()


def test_dots_and_dashes_are_explained_in_the_figure(results):
    reference, _, decomposition, _ = results
    titles = [ax.get_title().replace("\N{NO-BREAK SPACE}", " ") for ax in decomposition.plot()[1]]
    assert any("dots: data" in t for t in titles)
    weak = replace(reference, inputs=(rc.Signal("force", "N", -0.01, 0.01), reference.inputs[1]))
    titles = [ax.get_title().replace("\N{NO-BREAK SPACE}", " ") for ax in weak.plot()[1]]
    assert any("dashed: bounds of force" in t for t in titles)


def test_the_budget_names_no_bars_it_lacks(results):
    decomposition = results[2]
    ax = Figure().subplots()
    plots.budget_panel(decomposition, ax)
    words = [t.get_text() for t in ax.get_legend().get_texts()]
    assert ("takes from it" in words) is any(share <= -5e-4 for share in decomposition.budget.shares.values())
    rounding = {cause: abs(share) or -1e-16 for cause, share in decomposition.budget.shares.items()}
    ax = Figure().subplots()
    plots.budget_panel(SimpleNamespace(budget=SimpleNamespace(rms=decomposition.budget.rms, shares=rounding, error=np.ones(3))), ax)
    assert "takes from it" not in [t.get_text() for t in ax.get_legend().get_texts()]
