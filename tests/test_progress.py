"""Progress: seldom a line in a log, a bar with time left on a terminal, nothing when it is not asked for."""

import io
import time

import pytest

from rlctrl import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def said(monkeypatch, stream, enabled=True, steps=200, pause=0.0):
    monkeypatch.setattr("sys.stderr", stream)
    with progress.Progress("job", enabled) as bar:
        for k in range(steps + 1):
            bar.to(k / steps, f"step {k}")
            time.sleep(pause)
    return stream.getvalue()


def test_a_short_job_leaves_nothing_in_a_log(monkeypatch):
    assert said(monkeypatch, io.StringIO()) == ""


def test_a_long_job_leaves_a_line_now_and_then(monkeypatch):
    monkeypatch.setattr(progress, "APART", 0.1)
    lines = said(monkeypatch, io.StringIO(), pause=0.003).splitlines()
    assert 2 <= len(lines) <= 20
    assert all(line.startswith("job: ") and "step" in line for line in lines)
    assert "100%" in lines[-1]


def test_a_terminal_shows_the_bar_and_its_end(monkeypatch):
    text = said(monkeypatch, Terminal())
    assert "job: 100%" in text
    assert "step 200" in text
    assert text.count("\r") < 20


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_nothing_is_said_unasked(monkeypatch, stream):
    assert said(monkeypatch, stream(), enabled=False) == ""
