"""One progress bar for every long job: percent done, time left, a figure that tells how it goes."""

import sys

from tqdm import tqdm

APART = 30.0  # seconds between the lines of a job whose standard error is no terminal


class Progress:
    """A bar from 0 to 100 %; does nothing unless `enabled`. Use as a context manager. Where standard error is no terminal, such as a log,
    a job that takes long leaves a line every half minute."""

    def __init__(self, title, enabled):
        form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
        pace = {} if sys.stderr.isatty() else {"file": _Log(), "mininterval": APART, "maxinterval": APART, "delay": APART, "ncols": 100}
        self._bar = tqdm(total=100.0, desc=title, bar_format=form, disable=not enabled, leave=True, miniters=0, **pace)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()

    def to(self, fraction, note=""):
        """Move to a fraction of the whole (never backwards) and show a note."""
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(max(0.0, min(100.0, 100.0 * float(fraction)) - self._bar.n))


class _Log:
    """Standard error, to which every state of a bar goes as a line of its own."""

    def write(self, text):
        if line := text.strip():
            sys.stderr.write(line + "\n")

    def flush(self):
        sys.stderr.flush()
