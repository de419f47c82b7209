"""Animations of mechanical plants: stick figures at scale, inputs as bars, time in the corner; GIF through Pillow, MP4 through ffmpeg.

A drawing is a function (x, u, size) → strokes, each a polyline (k, 2) and its pen, in metres or in lengths fixed by convention: x are the
states in the plant's order, u the inputs as shares of their largest values, `size` is the width of the view. Angles called theta are measured from the upright,
counter-clockwise, but for the cart-pole clockwise, as its equations have it; headings from the x axis.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from rlctrl.errors import first_line, require, require_number, require_whole
from rlctrl.plant import Plant, box
from rlctrl.plots.drawing import COLOURS, GREY, STYLE
from rlctrl.storage import write_whole

FRAMES, FPS, DPI = 300, 25, 80  # at most by default; frames per second that look smooth; of the frames
BODY = {"color": COLOURS[0], "linewidth": 3, "solid_capstyle": "round"}
FINE = {"color": COLOURS[0], "linewidth": 1.2}
FORCE = {"color": COLOURS[1], "linewidth": 1.8}
JOINT = {"color": "black", "marker": "o", "markersize": 5, "linestyle": "none"}
TRACE = {"color": COLOURS[5], "linewidth": 0.9}
CROSS, ROUND = np.array([[-1, 0], [1, 0]]), np.linspace(0, 2 * np.pi, 25)
RING = np.stack([np.cos(ROUND), np.sin(ROUND)], -1)


class Drawing(NamedTuple):
    """How a kind of plant is drawn: its plants in the library, the names with which its states begin (`whole`: all of them), how many
    inputs it shows, its strokes, the columns of its place (x, y) in the world, and how far the view reaches around that (0: a fifth of
    the way travelled, which is then traced)."""

    plants: tuple[str, ...]
    states: tuple[str, ...]
    strokes: Callable
    inputs: int = 1
    place: tuple[int, ...] = ()
    reach: float = 0.0
    whole: bool = False

    def suits(self, states, inputs) -> bool:
        """Whether signals of these names can be drawn so without being told."""
        same = states == self.states if self.whole else states[: len(self.states)] == self.states
        return same and len(inputs) >= self.inputs


def _turned(points, angle):
    """Points (k, 2) turned counter-clockwise."""
    c, s = np.cos(angle), np.sin(angle)
    return np.asarray(points) @ np.array([[c, s], [-s, c]])


def _arrow(foot, way):
    """An arrow from `foot` along `way`, as one polyline; nothing for a way of no length."""
    tip, head = np.add(foot, way), 0.25 * np.asarray(way)
    return np.array([foot, tip, tip - _turned([head], 0.5)[0], tip, tip - _turned([head], -0.5)[0]])


def _pendulum(x, u, size):
    tip = _turned([[0, 1]], x[0])[0]
    return [(np.array([[0, 0], tip]), BODY), (np.array([[0, 0]]), JOINT), (tip[None], JOINT | {"markersize": 13, "color": COLOURS[0]})]


def _cart_pole(x, u, size):
    """A pole of 1 m on a cart of 0.5 m."""
    cart = np.array([[-0.25, -0.12], [0.25, -0.12], [0.25, 0.12], [-0.25, 0.12], [-0.25, -0.12]]) + [x[0], 0]
    foot = np.array([x[0], 0.12])
    push = _arrow([x[0] + 0.25 * np.sign(u[0]), 0], [0.6 * u[0], 0])
    rail = np.array([[-1e3, -0.14], [1e3, -0.14]])
    return [
        (rail, {"color": GREY, "linewidth": 0.8}),
        (cart, FINE),
        (np.array([foot, foot + _turned([[0, 1]], -x[2])[0]]), BODY),
        (foot[None], JOINT),
        (push, FORCE),
    ]


def _two_link(x, u, size):
    """Two links of 1 m."""
    elbow = _turned([[0, 1]], x[0])[0]
    chain = np.array([[0, 0], elbow, elbow + _turned([[0, 1]], x[0] + x[1])[0]])
    return [(chain, BODY), (chain[:2], JOINT)]


def _robot(x, u, size):
    """A triangle that points along the heading, two wheels beside it."""
    body = np.array([[-0.5, -0.4], [0.8, 0], [-0.5, 0.4], [-0.5, -0.4]])
    wheels = [np.array([[-0.4, y], [0.1, y]]) for y in (-0.5, 0.5)]
    placed = [_turned(0.05 * size * part, x[2]) + x[:2] for part in (body, *wheels)]
    return [(placed[0], FINE), *[(wheel, BODY) for wheel in placed[1:]]]


def _bicycle(x, u, size):
    """Frame, rear wheel, and a front wheel turned by up to 0.6 rad for `u[1]`."""
    wheel = 0.025 * size * CROSS
    parts = np.array([[-0.06, 0], [0.06, 0]]) * size, wheel - [0.06 * size, 0], _turned(wheel, 0.6 * u[1]) + [0.06 * size, 0]
    placed = [_turned(part, x[2]) + x[:2] for part in parts]
    return [(placed[0], FINE), (placed[1], BODY), (placed[2], BODY | {"color": COLOURS[1]})]


def _point(x, u, size):
    return [(x[None, :2], JOINT | {"color": COLOURS[0], "markersize": 9}), (_arrow(x[:2], 0.2 * size * u[:2]), FORCE)]


def _quadrotor(x, u, size):
    """Arms of 7 % of the view, a rotor at either end with its thrust: `u[0]` is on the right."""
    arm = 0.07 * size
    place = lambda points: _turned(points, x[2]) + x[:2]
    thrusts = [_arrow([side * arm, 0.02 * size], [0, 0.15 * size * force]) for side, force in ((1, u[0]), (-1, u[1]))]
    rotors = [np.array([[side * arm - 0.4 * arm, 0.02 * size], [side * arm + 0.4 * arm, 0.02 * size]]) for side in (1, -1)]
    return [(place(arm * CROSS), BODY), *[(place(r), FINE) for r in rotors], *[(place(t), FORCE) for t in thrusts]]


def _lander(x, u, size):
    """Hull and legs; the main engine below, the side thruster on top push the other way. The ground is y = 0."""
    hull = np.array([[-0.6, 0], [0.6, 0], [0.4, 1], [-0.4, 1], [-0.6, 0]])
    legs = [np.array([[side * 0.5, 0], [side * 0.9, -0.6]]) for side in (-1, 1)]
    flames = [_arrow([0, 0], [0, -2.5 * u[1]]), _arrow([-0.4 * np.sign(u[0]), 0.9], [-2.0 * u[0], 0])]
    place = lambda points: _turned(0.05 * size * points, x[2]) + x[:2]
    ground = np.array([[-1e3, 0], [1e3, 0]])
    drawn = [(place(hull), FINE), *[(place(leg), FINE) for leg in legs], *[(place(f), FORCE) for f in flames]]
    return [(ground, {"color": GREY, "linewidth": 0.8}), *drawn]


POSE, FLYER = ("x", "y", "heading"), {"inputs": 2, "place": (0, 1)}
DRAWINGS = (
    Drawing(("pendulum", "pendulum_friction", "pendulum_motor", "gym_pendulum"), ("theta", "omega"), _pendulum, reach=1.3),
    Drawing(("cart_pole", "gym_cart_pole"), ("position", "speed", "theta"), _cart_pole, place=(0,), reach=1.3),
    Drawing(("acrobot", "two_link_arm"), ("theta1", "theta2"), _two_link, reach=2.2),
    Drawing(("bicycle",), (*POSE, "speed"), _bicycle, **FLYER, whole=True),
    Drawing(("three_wheeled_robot", "three_wheeled_robot_dynamic"), POSE, _robot, place=(0, 1)),
    Drawing(("lunar_lander",), ("x", "y", "theta"), _lander, **FLYER),
    Drawing(("planar_quadrotor",), ("x", "z", "theta"), _quadrotor, **FLYER),
    Drawing(("kinematic_point",), ("x", "y"), _point, **FLYER, whole=True),
)


def drawing_of(states, inputs, plant=None) -> Drawing:
    """The drawing of a `plant` (a Plant, or the name of one) if it is in the library, else that for the names of `states`. Raises
    `InputError` if there is none."""
    named = isinstance(plant, str)
    require(named or plant is None or isinstance(plant, Plant), "plant", "must be a Plant or the name of one", plant, "Leave it out.")
    name, names = plant if named else getattr(plant, "name", None), tuple(s.name for s in states)
    found = [d for d in DRAWINGS if name in d.plants and len(states) >= len(d.states) and len(inputs) >= d.inputs]
    found = found or [d for d in DRAWINGS if d.suits(names, inputs) and not named]
    drawn = ", ".join(sorted(p for d in DRAWINGS for p in d.plants))
    require(found, "plant", "must be one that has a drawing", name or names, f"There are drawings of {drawn}, and of plants with their states.")
    return found[0]


@mpl.rc_context(STYLE)
def animate(trajectory, path, plant=None, fps=None, every=None, which=0) -> Path:
    """Write an animation, as `Trajectory.animate` says."""
    path, drawing = Path(path), drawing_of(trajectory.states, trajectory.inputs, plant)
    write = _writer(path)
    require_whole("which", which, 0, "Use 0.")
    require(which < len(trajectory.x), "which", f"must be less than the {len(trajectory.x)} paths", which, "Use 0.")
    every, fps = _pace(trajectory, every, fps)
    last = _last(trajectory, which)
    shown = np.unique([*range(0, last + 1, every), last])
    title = plant if isinstance(plant, str) else plant.name if plant is not None else drawing.plants[0]
    write(path, _frames(trajectory, which, shown, drawing, title), fps)
    return path


def _last(trajectory, which):
    """Index of the last finite state, or of that in which the problem ended."""
    finite = np.all(np.isfinite(trajectory.x[which]), 1)
    finite[1:] &= trajectory.alive[which, :-1]
    return len(finite) - 1 if np.all(finite) else max(0, int(np.argmin(finite)) - 1)


def _pace(trajectory, every, fps):
    """Samples per frame, and frames per second: real time by default, but from 5 to 50 of them."""
    step = float(trajectory.t[1] - trajectory.t[0])
    if every is None:
        every = max(1, round(1 / (FPS * step)), -(-len(trajectory.t) // FRAMES))
    require_whole("every", every, 1, "Use 1 for every sample.")
    fps = float(np.clip(1 / (step * every), 5, 50)) if fps is None else fps
    require_number("fps", fps, "must lie between 0.1 and 50 frames per second", "Use 25.", low=0.1, high=50)
    return every, fps


def _frames(trajectory, which, shown, drawing, title):
    """Frames (height, width, 3) in turn: what stands still is drawn once, the strokes anew for each."""
    x, u = trajectory.x[which], trajectory.u[which]
    u = np.vstack([u, u[-1:]])
    share = _shares(u, trajectory.inputs)
    canvas, scene, bars = _stage(x[: shown[-1] + 1], trajectory, drawing, title)
    still, size = canvas.copy_from_bbox(canvas.figure.bbox), np.ptp(scene.get_xlim())
    for k in shown:
        canvas.restore_region(still)
        trace = [] if drawing.reach else [(x[: k + 1, drawing.place], TRACE)]
        for points, pen in [*trace, *drawing.strokes(x[k], share[k], size)]:
            _show(scene, scene.add_line(Line2D(*np.asarray(points, float).T, **pen)))
        _show(scene, scene.text(0.02, 0.98, f"t = {trajectory.t[k]:.2f} s", transform=scene.transAxes, va="top"))
        for j, row in enumerate(share[k]):
            _show(bars, bars.add_line(Line2D([0, row], [-j, -j], **FORCE | {"linewidth": 6, "solid_capstyle": "butt"})))
            _show(bars, bars.text(1.05, -j, f"{u[k, j]:.3g}".replace("-", "−"), va="center"))
        yield np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _show(ax, artist):
    """Draw one thing over what is there, and forget it."""
    ax.draw_artist(artist)
    artist.remove()


def _shares(u, inputs):
    """Inputs (k, m) over the largest size that each may have (an open one: has), within ±1."""
    low, high = box(inputs)
    largest = np.maximum(np.abs(low), np.abs(high))
    largest = np.where(np.isfinite(largest), largest, np.max(np.abs(u), 0))
    return np.clip(np.nan_to_num(u / np.where(largest > 0, largest, 1.0)), -1, 1)


def _stage(x, trajectory, drawing, title):
    """Canvas with a scene at equal aspect and a row for the bar of each input, drawn."""
    m = len(trajectory.inputs)
    figure = Figure(figsize=(4.5, 4.5 + 0.25 * m), dpi=DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    scene, bars = figure.subplots(2, 1, height_ratios=(4.2, 0.25 * m + 0.05))
    low, high = _view(x, drawing)
    scene.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal", title=title)
    labels = [trajectory.states[k].label for k in drawing.place]
    for axis, label in zip((scene.xaxis, scene.yaxis), (*labels, None, None), strict=False):
        axis.set_visible(label is not None)
        axis.set_label_text(label or "")
    scene.spines[:].set_visible(False)
    bars.set(xlim=(-1, 1.35), ylim=(0.5 - m, 0.5), xticks=[], yticks=[-j for j in range(m)], yticklabels=[s.label for s in trajectory.inputs])
    bars.tick_params(length=0)
    bars.spines[:].set_visible(False)
    bars.axvline(0, color=GREY, linewidth=0.8)
    canvas.draw()
    return canvas, scene, bars


def _view(x, drawing):
    """Lower and upper corner of what is shown: all places taken up, and around them the reach of the drawing."""
    places = np.zeros((len(x), 2))
    places[:, : len(drawing.place)] = x[:, drawing.place]
    low, high = places.min(0), places.max(0)
    if drawing.reach:
        return low - drawing.reach, high + drawing.reach
    centre, half = 0.5 * (low + high), max(0.5, 0.7 * np.max(high - low))
    return centre - half, centre + half


def _palette():
    """Every colour of the style in 16 steps from white, as a Pillow image: what the lines of all frames are made of."""
    steps = np.linspace(1, 0, 16)[:, None]
    tones = [255 * (steps + (1 - steps) * mpl.colors.to_rgb(colour)) for colour in (*COLOURS, GREY)]
    image = Image.new("P", (1, 1))
    image.putpalette(np.round(np.concatenate(tones)).astype(np.uint8).tobytes())
    return image


def _write_gif(path, frames, fps):
    """An endless GIF whose last frame stays for a second; its clock ticks in hundredths of a second."""
    palette = _palette()
    images = [Image.fromarray(f).quantize(palette=palette, dither=Image.Dither.NONE) for f in frames]
    times = [10 * max(2, round(100 / fps))] * (len(images) - 1) + [1000]
    write_whole(path, lambda file: images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=times, loop=0))


def _writer(path):
    """The function that writes files of that suffix."""
    if path.suffix.lower() == ".gif":
        return _write_gif
    require(path.suffix.lower() == ".mp4", "path", "must end in .gif or .mp4", str(path), "Write a GIF.")
    ffmpeg = shutil.which("ffmpeg")
    require(ffmpeg, "path", "may be an .mp4 only where the program ffmpeg is installed", str(path), "Write a .gif instead.")
    return partial(_write_mp4, ffmpeg)


def _write_mp4(ffmpeg, path, frames, fps):
    """Frames through a pipe to ffmpeg, in one thread and without a date, so that equal frames give equal bytes."""
    pixels = np.stack(list(frames))
    size = f"{pixels.shape[2]}x{pixels.shape[1]}"
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", f"{fps:g}", "-i", "-"]
    how = ["-threads", "1", "-pix_fmt", "yuv420p", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-movflags", "+faststart"]
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "film.mp4"
        done = subprocess.run([ffmpeg, "-v", "error", *raw, *how, str(film)], input=pixels.tobytes(), capture_output=True, check=False)
        said = first_line(done.stderr.decode(errors="replace"))
        require(done.returncode == 0, "path", "could not be written by ffmpeg", said, "Write a .gif instead.")
        write_whole(path, lambda file: file.write(film.read_bytes()))
