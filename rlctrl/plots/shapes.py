"""How mechanical plants are drawn: stick figures as functions (x, u, size) → strokes, each a polyline (k, 2) and its pen.

x are the states in the plant's order, u the inputs as shares of their largest values, `size` is the width of the view; strokes are in
metres, or in lengths fixed by convention. Angles called theta are measured from the upright, counter-clockwise, but for the cart-pole
clockwise, as its equations have it; headings from the x axis.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rlctrl.errors import require
from rlctrl.plant import Plant
from rlctrl.plots.drawing import COLOURS, GREY

BODY = {"color": COLOURS[0], "linewidth": 3, "solid_capstyle": "round"}
FINE = {"color": COLOURS[0], "linewidth": 1.2}
FORCE = {"color": COLOURS[1], "linewidth": 1.8}
JOINT = {"color": "black", "marker": "o", "markersize": 5, "linestyle": "none"}
CROSS = np.array([[-1.0, 0.0], [1.0, 0.0]])


class Drawing(NamedTuple):
    """How a kind of plant is drawn: its plants in the library, the names with which its states begin (`whole`: all of them), how many
    inputs it shows, its strokes, the columns of its place (x, y) in the world, how far the view reaches around that (0: a fifth of
    the way travelled, which is then traced), and whether the figure of the plant shows the `scene`."""

    plants: tuple[str, ...]
    states: tuple[str, ...]
    strokes: Callable
    inputs: int = 1
    place: tuple[int, ...] = ()
    reach: float = 0.0
    whole: bool = False
    scene: bool = False

    def suits(self, states, inputs) -> bool:
        """Whether signals of these names can be drawn so without being told."""
        same = states == self.states if self.whole else states[: len(self.states)] == self.states
        return same and len(inputs) >= self.inputs


def _turned(points, angle):
    """Points (k, 2) turned counter-clockwise."""
    c, s = np.cos(angle), np.sin(angle)
    return np.asarray(points) @ np.array([[c, s], [-s, c]])


def _arrow(foot, way):
    """An arrow from `foot` along `way`, as one polyline."""
    tip, head = np.add(foot, way), 0.25 * np.asarray(way)
    return np.array([foot, tip, tip - _turned([head], 0.5)[0], tip, tip - _turned([head], -0.5)[0]])


def _pendulum(x, *_):
    tip = _turned([[0, 1]], x[0])[0]
    return [(np.array([[0, 0], tip]), BODY), (np.array([[0, 0]]), JOINT), (tip[None], JOINT | {"markersize": 13, "color": COLOURS[0]})]


def _cart_pole(x, u, _):
    """A pole of 1 m on a cart of 0.5 m."""
    cart = np.add([x[0], 0.0], [[-0.25, -0.12], [0.25, -0.12], [0.25, 0.12], [-0.25, 0.12], [-0.25, -0.12]])
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


def _hill(x):
    """Height over the places x, as Gymnasium draws it, and its slope as an angle."""
    return 0.45 * np.sin(3 * x), np.arctan(1.35 * np.cos(3 * x))


def _mountain_car(x, u, _):
    """A car on its hill, which goes with sin 3x, and the flag at 0.45."""
    ground, (height, slope), goal = np.linspace(-1.2, 0.6, 121), _hill(x[0]), _hill(0.45)[0]
    place = lambda points: np.add(_turned(points, slope), [x[0], height])
    body = [[-0.08, 0.03], [0.08, 0.03], [0.08, 0.09], [-0.08, 0.09], [-0.08, 0.03]]
    return [
        (np.stack([ground, _hill(ground)[0]], -1), {"color": GREY, "linewidth": 0.8}),
        (np.array([[0.45, goal], [0.45, goal + 0.2], [0.54, goal + 0.16], [0.45, goal + 0.12]]), FINE | {"color": COLOURS[2]}),
        (place(body), FINE),
        (place([[-0.05, 0.02], [0.05, 0.02]]), JOINT | {"markersize": 4}),
        (place(_arrow([0.08 * np.sign(u[0]), 0.06], [0.25 * u[0], 0])), FORCE),
    ]


def _two_link(x, *_):
    """Two links of 1 m."""
    elbow = _turned([[0, 1]], x[0])[0]
    chain = np.array([[0, 0], elbow, elbow + _turned([[0, 1]], x[0] + x[1])[0]])
    return [(chain, BODY), (chain[:2], JOINT)]


def _robot(x, _, size):
    """A triangle that points along the heading, two wheels beside it."""
    body = np.array([[-0.5, -0.4], [0.8, 0], [-0.5, 0.4], [-0.5, -0.4]])
    wheels = [np.array([[-0.4, y], [0.1, y]]) for y in (-0.5, 0.5)]
    placed = [_turned(0.05 * size * part, x[2]) + x[:2] for part in (body, *wheels)]
    return [(placed[0], FINE), *[(wheel, BODY) for wheel in placed[1:]]]


def _bicycle(x, u, size):
    """Frame, rear wheel, and a front wheel turned by up to 0.6 rad for `u[1]`."""
    frame, wheel, axle = 0.06 * size * CROSS, 0.025 * size * CROSS, np.array([0.06 * size, 0.0])
    parts = frame, wheel - axle, axle + _turned(wheel, 0.6 * u[1])
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
    Drawing(("gym_mountain_car",), (), _mountain_car, place=(0,), reach=0.7, whole=True, scene=True),  # drawn by its name only
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
    require(found, "plant", "needs a drawing", name or names, f"There are drawings of {drawn}, and of plants with their states.")
    return found[0]
