"""The table of numbers behind a figure holds what was drawn."""

import csv

import numpy as np
from matplotlib.figure import Figure

from rlctrl.plots.numbers import HEAD, write_numbers


def table(figure, folder):
    write_numbers(figure, folder / "f.csv")
    with open(folder / "f.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_lines_points_maps_and_bars_come_back(tmp_path):
    figure = Figure()
    left, middle, right = figure.subplots(1, 3)
    left.plot([0.0, 1.0], [2.0, np.pi], label="V")
    left.scatter([3.0], [4.0], c=[5.0])
    left.axhline(7.0)  # a bound, no data
    left.set(title="a", xlabel="t [s]", ylabel="V")
    mesh = middle.pcolormesh([0.0, 1.0, 2.0], [0.0, 10.0], [[1.5, 2.5]])
    figure.colorbar(mesh)
    middle.fill_between([0.0, 1.0], [0.0, 0.0], [1.0, 1.0])
    middle.imshow([[8.0], [9.0]], extent=(0, 1, 0, 2), origin="lower")
    right.barh([0, 1], [3.0, 4.0])
    right.set(yticks=[0, 1], yticklabels=["noise", "policy"])
    right.stairs([6.0], [0.0, 0.5], label="h")
    rows = table(figure, tmp_path)
    assert tuple(rows[0]) == HEAD
    of = lambda kind: [(r["panel"], r["series"], float(r["x"]), float(r["y"]), r["value"]) for r in rows if r["kind"] == kind]
    assert of("line") == [("1", "V", 0.0, 2.0, ""), ("1", "V", 1.0, np.pi, "")]
    assert of("points") == [("1", "", 3.0, 4.0, "5.0")]
    assert of("map") == [("2", "", 0.5, 5.0, "1.5"), ("2", "", 1.5, 5.0, "2.5"), ("2", "", 0.5, 0.5, "8.0"), ("2", "", 0.5, 1.5, "9.0")]
    assert of("bars") == [("3", "noise", 1.5, 0.0, "3.0"), ("3", "policy", 2.0, 1.0, "4.0")]
    assert of("histogram") == [("3", "h", 0.25, 6.0, "0.5")]
    assert len(of("band")) >= 4
    assert {(r["title"], r["x_label"]) for r in rows if r["panel"] == "1"} == {("a", "t [s]")}
