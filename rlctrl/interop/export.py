"""Numbers into files: JSON (readable anywhere), npz (NumPy), mat (MATLAB), csv (tables). Every file appears whole or not at all."""

import csv
import io
import json
import math

import numpy as np
from scipy.io import savemat

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


def write_table(path, rows):
    """Dictionaries with the same keys as a table of comma-separated values with a heading."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_whole(path, lambda file: file.write(text.getvalue().encode()))


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
