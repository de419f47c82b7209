"""Numbers into files: JSON and csv (readable anywhere), npz (NumPy), mat (MATLAB). Every file appears whole or not at all."""

import csv
import io
import json
import math

import numpy as np
from scipy.io import savemat

from rlctrl.errors import require
from rlctrl.storage import write_whole


def write_json(path, value):
    """Nested dictionaries of numbers and text; infinities and NaN become null."""
    text = json.dumps(_plain(value), indent=2, allow_nan=False, ensure_ascii=False)
    write_whole(path, lambda file: file.write((text + "\n").encode()))


def write_npz(path, arrays):
    """Named arrays for NumPy."""
    write_whole(path, lambda file: np.savez_compressed(file, **arrays))


def write_mat(path, arrays):
    """Named arrays for MATLAB (format 5); names must be valid there: letters, digits, underscores, at most 63."""
    write_whole(path, lambda file: savemat(file, arrays, do_compression=True, oned_as="column", long_field_names=True))


def write_csv(path, columns):
    """Columns by name, equally long, as comma-separated values under one header line. Numbers read back exactly; NaN is left empty."""
    lengths = {name: len(column) for name, column in columns.items()}
    require(len(set(lengths.values())) <= 1, "columns", "must be equally long", lengths, "Cut or pad them.")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(map(_cell, np.asarray(column).tolist()) for column in columns.values()), strict=True))
    write_whole(path, lambda file: file.write(text.getvalue().encode()))


def _cell(value):
    """Python's csv writes floats by repr, which reads back exactly."""
    return int(value) if isinstance(value, bool) else "" if value != value else value


def _plain(value):
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
