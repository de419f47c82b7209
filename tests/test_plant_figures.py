"""Figures of plants and animations: what they show, what they refuse, and that equal seeds give equal bytes."""

import json
import stat
import sys
from dataclasses import replace

import casadi as ca
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import plants
import rlctrl as rc
from rlctrl import plots
from rlctrl.cli import main
from rlctrl.plots import animation
from rlctrl.plots.animation import _frames, _palette
from rlctrl.plots.plant import PATHS, portrait, portrait_layout
from rlctrl.plots.shapes import DRAWINGS

DRAWN = {name: d for d in DRAWINGS for name in d.plants}
SCENES = {name for name, d in DRAWN.items() if d.scene}
BALL = """\
[plant]
name = "kinematic_point"
[problem]
dt = 0.1
gamma = 0.9
reward = "-x**2 - y**2 - 0.1*v_x**2"
[reference]
method = "Riccati"
[policies]
home = ["-x", "-y"]
[comparison]
x0 = [[1.0, 2.0]]
steps = 6
paths = 2
"""


def motion(name, steps=12, x=None, u=0.1):
    """A path of a plant of the library that moves evenly, each coordinate at its own pace; inputs swing."""
    default = plants.default(name)
    plant, dt = default.plant, default.dt
    start, _ = default.equilibrium
    pace = 0.02 * np.arange(1, plant.n + 1)
    x = start + np.arange(steps + 1)[:, None] * pace if x is None else x
    inputs = u * np.sin(np.arange(steps)[:, None] + np.arange(plant.m)) * np.array([s.high for s in plant.inputs])
    zero, alive = np.zeros((1, steps)), np.ones((1, steps + 1), bool)
    parts = (x[None], inputs[None], zero, alive, zero > 0, np.zeros(1), np.arange(steps + 1) * dt, 0.9)
    return rc.Trajectory(*parts, plant.states, plant.inputs)


def film(path):
    with Image.open(path) as image:
        frames = []
        for k in range(image.n_frames):
            image.seek(k)
            frames.append((np.asarray(image.convert("RGB")), image.info["duration"]))
        return frames, image.info["loop"]


@pytest.mark.parametrize("name", plants.names())
def test_every_plant_of_the_library_has_a_figure(name):
    default = plants.default(name)
    found = portrait(default.plant, default.equilibrium, default.dt, 10 * (default.dt or 1.0))
    np.testing.assert_array_equal(found.paths[0, 0], default.equilibrium[0])
    assert found.paths.shape == (PATHS, len(found.t), default.plant.n)
    main_panel, *panels = portrait_layout(found)[3 + (name in SCENES) :]
    assert len(panels) == default.plant.n
    ax = Figure().subplots()
    main_panel(ax)
    signals = default.plant.states
    assert ax.get_xlabel() in [s.label for s in signals]
    assert ax.get_ylabel() in [s.label for s in signals] or default.plant.n == 1


@pytest.fixture(scope="module")
def pendulum():
    return plants.pendulum()


def test_the_figure_shows_the_paths_and_the_field(pendulum):
    figure, axes = pendulum.plot(dt=0.2, horizon=2.0)
    assert [ax.get_ylabel() for ax in axes] == ["omega [rad/s]", "theta [rad]", "omega [rad/s]"]
    assert [ax.get_xlabel() for ax in axes] == ["theta [rad]", "t [s]", "t [s]"]
    assert "torque" in figure.get_suptitle()
    arrows = axes[0].collections[0]
    x = np.asarray(arrows.XY)
    flow = np.array(pendulum.drift_function.map(len(x))(x.T, np.zeros((1, len(x))), np.tile(pendulum.parameter_vector[:, None], len(x))))
    drawn = np.stack([arrows.U, arrows.V]) * np.array([[2 * np.pi], [16.0]])  # of the box
    np.testing.assert_allclose(drawn[0] * flow[1], drawn[1] * flow[0], atol=1e-9)
    assert np.all(np.sum(drawn * flow, 0) > 0)
    assert axes[2].lines[0].get_xdata()[-1] == pytest.approx(2.0)
    for line in axes[1].lines:
        assert np.nanmax(np.abs(np.diff(line.get_ydata()))) < np.pi  # broken at the seam


def test_paths_are_those_of_the_kernel():
    """Without noise they are the transitions of a Problem; with it they obey the seed."""
    calm = plants.pendulum(noise=0.0)
    found = portrait(calm, ([0.5, 1.0], [2.0]), dt=0.05, horizon=0.5)
    problem = rc.Problem(calm, lambda x, u: 0, 1.0, 0.05)
    following = problem.transition(found.paths[:, :-1], [2.0], np.zeros((PATHS, 10, 1)))
    np.testing.assert_allclose(found.paths[:, 1:], following, rtol=1e-12, atol=1e-12)
    one, same, other = (portrait(plants.pendulum(), dt=0.05, horizon=0.5, seed=s).paths for s in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_path_ends_in_the_first_state_outside_the_box():
    signals = [rc.Signal("x", "m", -1, 1)], [rc.Signal("u", "1", -1, 1)]
    found = portrait(rc.Plant("away", *signals, drift=lambda x, u, p: ca.SX(1.0)), dt=0.25, horizon=5.0)
    for path, end in zip(found.paths[..., 0], found.ended, strict=True):
        assert path[end] > 1 >= path[end - 1]
        assert np.all(np.isnan(path[end + 1 :]))
    assert np.any(np.isfinite(found.paths[:, -1]))  # nothing is shown beyond the last of them


def test_a_field_that_stands_still_gives_way_to_one_that_moves():
    planes = {"cart_pole": ("theta", "omega"), "acrobot": ("theta1", "omega1"), "van_der_pol": ("position", "velocity")}
    for name, plane in planes.items():
        default = plants.default(name)
        found = portrait(default.plant, default.equilibrium, default.dt, 10 * default.dt)
        ax = Figure().subplots()
        portrait_layout(found)[3](ax)
        assert tuple(s.partition(" ")[0] for s in (ax.get_xlabel(), ax.get_ylabel())) == plane


def test_unbounded_states_and_finite_inputs_are_drawn():
    signals = [rc.Signal("a", "m"), rc.Signal("b", "m/h", 0)], [rc.Signal("u", "1", values=(2, 1, 5))]
    plant = rc.Plant("open", *signals, drift=lambda x, u, p: ca.vertcat(u[0] - x[0], x[0] - x[1] ** 2))
    figure, axes = plant.plot()
    assert "u = 1 held" in figure.get_suptitle().replace(plots.drawing.NO_BREAK, " ")
    assert axes[-1].get_xlabel() == "t [h]"
    assert axes[-1].get_xlim()[1] == pytest.approx(10.0, rel=0.5)  # 200 samples of a twentieth of the fastest time


def test_maps_count_samples_and_show_the_mean_next_state():
    figure, axes = plants.growth().plot(about=plants.equilibrium("growth"), horizon=10)
    assert isinstance(figure, Figure)
    assert axes[1].get_xlabel() == "sample k"
    held = axes[0].lines[1]
    k, u = held.get_xdata(), plants.equilibrium("growth")[1][0]
    np.testing.assert_allclose(held.get_ydata(), u * k**0.65)


def test_one_axes_takes_the_field(pendulum):
    figure = Figure()
    ax = figure.subplots()
    assert pendulum.plot(ax=ax, dt=0.1, horizon=1.0) == (figure, ax)
    assert ax.get_xlabel() == "theta [rad]"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"about": 3}, "`about` must be a pair"),
        ({"about": ([0.0], [0.0])}, "`about` must be 2 states and 1 inputs"),
        ({"about": ([0.0, np.nan], [0.0])}, "finite"),
        ({"dt": 0.0}, "`dt` must be positive"),
        ({"horizon": -1}, "`horizon` must be positive"),
        ({"horizon": 1e9, "dt": 0.1}, "`horizon` must be 1 to 100000 samples of `dt`"),
        ({"horizon": 0.3, "dt": 1e300}, "`horizon` must be 1 to 100000 samples of `dt`"),
        ({"seed": -1}, "`seed`"),
        ({"horizn": 1}, "Did you mean `horizon`"),
        ({"ax": 3}, "`ax` must be"),
    ],
)
def test_a_figure_of_a_plant_refuses(pendulum, wrong, said):
    with pytest.raises(rc.InputError, match=said):
        pendulum.plot(**wrong)


def test_the_command_writes_one_figure_or_all(tmp_path, capsys, monkeypatch):
    for name in ("one.svg", "two.svg"):
        assert main(["plants", "pendulum", "--figure", str(tmp_path / name)]) == 0
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert b"<svg" in (tmp_path / "one.svg").read_bytes()
    monkeypatch.setattr(plants, "names", lambda: ["doyle", "merton"])
    assert main(["plants", "--figure", str(tmp_path / "all")]) == 0
    assert sorted(p.name for p in (tmp_path / "all").iterdir()) == ["doyle.png", "merton.png"]
    assert capsys.readouterr().out.split()[-1] == str(tmp_path / "all" / "merton.png")


def test_the_command_refuses_other_files(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for arguments in (["pendulum", "--figure", "p.gif"], ["--figure", str(tmp_path / "file")], ["pendulum", "--figure", "no/where.png"]):
        assert main(["plants", *arguments]) == 2
    assert [line.partition(";")[0] for line in capsys.readouterr().err.splitlines()] == [
        "rlctrl: `--figure` must end in .pdf, .png or .svg",
        "rlctrl: `--figure` must be a folder or a name for one",
        "rlctrl: `--figure` must be writable",
    ]


def test_the_numbers_behind_the_field_are_directions(tmp_path, pendulum):
    figure = Figure()
    pendulum.plot(ax=figure.subplots(), dt=0.1, horizon=1.0)
    plots.drawing.write_numbers(figure, tmp_path / "n.csv")
    rows = [line.split(",") for line in (tmp_path / "n.csv").read_text().splitlines() if ",directions," in line]
    assert len(rows) == 14 * 14
    for row in rows:
        omega, angle = float(row[-2]), np.radians(float(row[-1]))
        assert np.cos(angle) * omega > 0  # theta grows where omega is positive


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_every_drawing_is_finite_and_follows_the_state(name):
    path, drawing = motion(name), DRAWN[name]
    one, other = (drawing.strokes(path.x[0, k], np.full(len(path.inputs), 0.3), 4.0) for k in (0, 12))
    assert all(np.shape(points)[1] == 2 and np.all(np.isfinite(points)) for points, _ in one)
    assert any(not np.allclose(a, b) for (a, _), (b, _) in zip(one, other, strict=True))
    assert plots.drawing_of(path.states, path.inputs, name if name in SCENES else None).strokes is drawing.strokes


@pytest.mark.parametrize(
    ("name", "state", "tip"),
    [
        ("pendulum", [np.pi / 2, 0], [-1, 0]),  # counter-clockwise from the upright
        ("cart_pole", [2.0, 0, np.pi / 2, 0], [3.0, 0.12]),  # clockwise, as Barto et al. have it
        ("acrobot", [np.pi / 2, np.pi / 2, 0, 0], [-1, -1]),
    ],
)
def test_the_tip_is_where_the_model_has_it(name, state, tip):
    strokes = DRAWN[name].strokes(np.array(state), np.zeros(1), 2.6)
    assert min(np.linalg.norm(points - tip, axis=1).min() for points, _ in strokes) < 1e-12


@pytest.mark.parametrize("position", [-1.1, -np.pi / 6, 0.0, 0.5])
def test_the_car_stands_on_its_hill(position):
    """The force along the slope is −cos 3x, as of a hill of height sin 3x; the car leans with it and stands on wheels of radius 0.02."""
    ground, _, body, wheels, push = (points for points, _ in DRAWN["gym_mountain_car"].strokes(np.array([position, 0.0]), np.ones(1), 2.6))
    np.testing.assert_allclose(ground[:, 1] / np.sin(3 * ground[:, 0]), 0.45)
    assert np.linalg.norm(wheels.mean(0) - [position, 0.45 * np.sin(3 * position)]) == pytest.approx(0.02)
    slope = 3 * 0.45 * np.cos(3 * position)
    for way in (wheels[1] - wheels[0], body[1] - body[0], push[1] - push[0]):
        assert way[1] / way[0] == pytest.approx(slope, abs=1e-9)


def test_the_figure_of_the_mountain_car_shows_the_hill():
    _, axes = plants.gym_mountain_car().plot()
    assert len(axes) == 4
    lines = [line.get_xydata() for line in axes[0].lines]
    assert any(len(points) > 50 and np.allclose(points[:, 1], 0.45 * np.sin(3 * points[:, 0])) for points in lines)


def test_a_quadrotor_turns_the_way_its_model_does():
    """More thrust on the right arm lifts it: theta grows counter-clockwise."""
    plant = plants.planar_quadrotor()
    assert float(plant.drift_function(np.zeros(6), [3.0, 1.0], plant.parameter_vector)[5]) > 0
    arm = DRAWN["planar_quadrotor"].strokes(np.array([0, 0, 0.3, 0, 0, 0]), np.zeros(2), 1.0)[0][0]
    assert arm[1, 0] > arm[0, 0]
    assert arm[1, 1] > arm[0, 1]


def test_a_gif_shows_the_path_in_real_time_and_for_ever(tmp_path):
    path = motion("pendulum", steps=9)
    frames, loop = film(path.animate(tmp_path / "a.gif"))
    assert loop == 0
    assert [duration for _, duration in frames] == [50] * 9 + [1000]
    assert len({frame.tobytes() for frame, _ in frames}) == 10
    assert path.animate(tmp_path / "b.gif").read_bytes() == (tmp_path / "a.gif").read_bytes()
    assert len(film(path.animate(tmp_path / "c.gif", every=4, fps=10))[0]) == 4  # samples 0, 4, 8 and the last


def test_the_size_of_an_input_is_written_within_the_frame(monkeypatch):
    """As wide as it may get: a number far below its bound took an exponent and ran out of the picture."""
    written, show = {}, animation._show

    def noted(ax, artist):
        if hasattr(artist, "get_text"):
            written[artist.get_text()] = artist.get_window_extent().x1 <= ax.get_figure().bbox.width
        show(ax, artist)

    monkeypatch.setattr(animation, "_show", noted)
    path = motion("pendulum", steps=3)
    for size in (-1.23456e-5, -9.99, -0.0375):
        next(_frames(replace(path, u=np.full_like(path.u, size)), 0, [1], DRAWN["pendulum"], "title"))
    assert written == {"t = 0.05 s": True, "0.00": True, "−9.99": True, "−0.04": True}
    cases = (-2e-7, 1e-6), (1234.4, 4000), (-0.0015, 0.002)
    assert [animation._reading(value, size) for value, size in cases] == ["−2·10⁻⁷", "1234", "−0.00150"]


def test_three_hundred_frames_are_small(tmp_path):
    path = motion("kinematic_point", steps=12)
    assert path.animate(tmp_path / "a.gif").stat().st_size < 13 * 3_000_000 / 300


def test_the_palette_keeps_the_colours():
    path = motion("planar_quadrotor", steps=2)
    frame = next(_frames(path, 0, [1], DRAWN["planar_quadrotor"], "title"))
    image = Image.fromarray(frame)
    kept = np.asarray(image.quantize(palette=_palette(), dither=Image.Dither.NONE).convert("RGB"), float)
    assert np.mean(np.abs(kept - frame)) < 1
    assert np.max(np.abs(kept - frame)) < 110  # where lines of two colours cross


def test_a_path_that_ends_is_shown_to_its_end(tmp_path):
    path = motion("kinematic_point", steps=9)
    ended = replace(path, alive=path.alive & (np.arange(10) < 4))
    assert len(film(ended.animate(tmp_path / "a.gif"))[0]) == 5  # states 0 … 4, in the last of which it ended
    lost = replace(path, x=np.where(np.arange(10)[:, None] < 3, path.x, np.nan))
    assert len(film(lost.animate(tmp_path / "b.gif"))[0]) == 3


def test_other_plants_are_drawn_by_their_states_or_by_name(tmp_path):
    path = motion("pendulum", steps=2)
    renamed = replace(path, states=(rc.Signal("phi", "rad"), rc.Signal("rate", "rad/s")))
    with pytest.raises(rc.InputError, match=r"`plant` needs a drawing.*There are drawings of acrobot, bicycle"):
        renamed.animate(tmp_path / "a.gif")
    assert renamed.animate(tmp_path / "a.gif", plant="pendulum").exists()
    assert plots.drawing_of(path.states, path.inputs, replace(plants.pendulum(), name="mine")) is DRAWN["pendulum"]


@pytest.mark.parametrize(
    ("file", "options", "said"),
    [
        ("a.avi", {}, r"`path` must end in \.gif or \.mp4"),
        ("no/a.gif", {}, "`path` must be writable"),
        ("a.gif", {"plant": "two_tank"}, "`plant` needs a drawing"),
        ("a.gif", {"plant": "lunar_lander"}, "`plant` needs a drawing"),
        ("a.gif", {"plant": 3}, "`plant` must be a Plant or the name of one"),
        ("a.gif", {"which": 1}, "`which` must be less than the 1 paths"),
        ("a.gif", {"every": 0}, "`every`"),
        ("a.gif", {"fps": 0}, "`fps`"),
        ("a.gif", {"fbs": 5}, "Did you mean `fps`"),
    ],
)
def test_an_animation_refuses(tmp_path, file, options, said):
    with pytest.raises(rc.InputError, match=said):
        motion("pendulum", steps=2).animate(tmp_path / file, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", [3, None, True])
def test_an_animation_wants_a_path(path):
    with pytest.raises(rc.InputError, match="`path` must be the path of a file"):
        motion("pendulum", steps=2).animate(path)


def test_an_mp4_goes_through_ffmpeg_or_names_the_way_out(tmp_path, monkeypatch):
    """A stand-in that writes down what it was given: the real one is not everywhere."""
    path, tools = motion("pendulum", steps=2), tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(rc.InputError, match=r"`path` may be an \.mp4 only where .* ffmpeg is installed.*Write a \.gif"):
        path.animate(tmp_path / "a.mp4")
    stand_in = tools / "ffmpeg"
    code = "import json, sys\njson.dump([sys.argv[1:], len(sys.stdin.buffer.read())], open(sys.argv[-1], 'w'))\n"
    stand_in.write_text(f"#!{sys.executable}\n{code}")
    stand_in.chmod(stand_in.stat().st_mode | stat.S_IXUSR)
    given, size = json.loads(path.animate(tmp_path / "a.mp4").read_text())
    width, height = map(int, given[given.index("-s") + 1].split("x"))
    assert width % 2 == height % 2 == 0  # what most codecs ask for
    assert size == 3 * width * height * 3
    assert given[given.index("-r") + 1] == "20"
    stand_in.write_text(f"#!{sys.executable}\nimport sys\nsys.stdin.buffer.read()\nsys.exit('no such codec')\n")
    with pytest.raises(rc.InputError, match=r"could not be written by ffmpeg; got 'no such codec'\. Write a \.gif"):
        path.animate(tmp_path / "b.mp4")
    assert not (tmp_path / "b.mp4").exists()


def test_simulate_writes_an_animation_where_asked(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plots, "run_figures", lambda *_: {})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ball.toml").write_text(BALL, encoding="utf-8")
    assert main(["simulate", "ball.toml", "--policy", "home", "--animate", "--out", "r", "-q"]) == 0
    assert len(film(tmp_path / "r" / "figures" / "animation.gif")[0]) == 7
    assert "animation.gif" in (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    text = BALL.replace("kinematic_point", "double_integrator").replace("-x**2 - y**2 - 0.1*v_x**2", "-position**2")
    (tmp_path / "none.toml").write_text(text.replace('["-x", "-y"]', '"-position"'), encoding="utf-8")
    assert main(["simulate", "none.toml", "--policy", "home", "--animate", "--out", "n", "-q"]) == 2
    assert "rlctrl: `--animate` needs a drawing; got 'double_integrator'. There are drawings of" in capsys.readouterr().err
    assert not (tmp_path / "n").exists()
