"""Animations of mechanical plants: their stick figures at scale, inputs as bars, time in the corner; GIF by Pillow, MP4 by ffmpeg."""

import shutil
import subprocess
from functools import partial
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from rlctrl.errors import first_line, require, require_number, require_whole
from rlctrl.plant import box
from rlctrl.plots.drawing import COLOURS, GREY, STYLE, number
from rlctrl.plots.shapes import FORCE, drawing_of
from rlctrl.storage import temporary_folder, write_whole

FRAMES, FPS, DPI = 300, 25, 80  # at most by default; frames per second that look smooth; of the frames
TRACE = {"color": COLOURS[5], "linewidth": 0.9}


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
    sizes = _sizes(u, trajectory.inputs)
    share = np.clip(np.nan_to_num(u / sizes), -1, 1)
    canvas, scene, bars = _stage(x[: shown[-1] + 1], trajectory, drawing, title)
    still, size = canvas.copy_from_bbox(canvas.figure.bbox), np.ptp(scene.get_xlim())
    counted = np.array_equal(trajectory.t, np.arange(len(trajectory.t)))  # no sampling time, or one of 1 s
    for k in shown:
        canvas.restore_region(still)
        trace = [] if drawing.reach else [(x[: k + 1, drawing.place], TRACE)]
        for points, pen in [*trace, *drawing.strokes(x[k], share[k], size)]:
            _show(scene, scene.add_line(Line2D(*np.asarray(points, float).T, **pen)))
        clock = f"sample {k}" if counted else f"t = {trajectory.t[k]:.2f} s"
        _show(scene, scene.text(0.02, 0.98, clock, transform=scene.transAxes, va="top"))
        for j, row in enumerate(share[k]):
            _show(bars, bars.add_line(Line2D([0, row], [-j, -j], **FORCE | {"linewidth": 6, "solid_capstyle": "butt"})))
            _show(bars, bars.text(1.4, -j, _reading(u[k, j], sizes[j]), va="center", ha="right"))
        yield np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _show(ax, artist):
    """Draw one thing over what is there, and forget it."""
    ax.draw_artist(artist)
    artist.remove()


def _sizes(u, inputs):
    """The largest size that each of the inputs (k, m) may have (an open one: has), 1 for none."""
    low, high = box(inputs)
    largest = np.maximum(np.abs(low), np.abs(high))
    largest = np.where(np.isfinite(largest), largest, np.nanmax(np.abs(u), 0, initial=0.0))
    return np.where(largest > 0, largest, 1.0)


def _reading(value, size):
    """An input as text, to a hundredth of its largest size or better and short enough for the margin."""
    places = 2 - int(np.floor(np.log10(size)))
    return f"{value:z.{max(0, places)}f}".replace("-", "−") if -3 < places < 6 else number(value, 2)


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
    bars.set(
        xlim=(-1, 1.4), ylim=(0.5 - m, 0.5), xticks=[], yticks=[-j for j in range(m)], yticklabels=[s.label for s in trajectory.inputs]
    )
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
    tones = [255 * (steps + (1 - steps) * to_rgb(colour)) for colour in (*COLOURS, GREY)]
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
    with temporary_folder() as folder:
        film = folder / "film.mp4"
        done = subprocess.run([ffmpeg, "-v", "error", *raw, *how, str(film)], input=pixels.tobytes(), capture_output=True, check=False)
        said = first_line(done.stderr.decode(errors="replace"))
        require(done.returncode == 0, "path", "could not be written by ffmpeg", said, "Write a .gif instead.")
        write_whole(path, lambda file: file.write(film.read_bytes()))
