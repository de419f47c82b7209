"""One progress bar for every long job: percent done, time left, a figure that tells how it goes."""

from tqdm import tqdm


class Progress:
    """A bar from 0 to 100 %; does nothing unless `enabled`. Use as a context manager."""

    def __init__(self, title, enabled):
        form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
        self._bar = tqdm(total=100.0, desc=title, bar_format=form, disable=not enabled, leave=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()

    def to(self, fraction, note=""):
        """Move to a fraction of the whole (never backwards) and show a note."""
        self._bar.update(max(0.0, min(100.0, 100.0 * float(fraction)) - self._bar.n))
        self._bar.set_postfix_str(note)
