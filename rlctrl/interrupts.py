"""Ctrl-C ends the command `rlctrl` where it stands: what is half done is undone, one sentence is said, the exit code is 130.

Nothing is raised, since no exception would come through whole: JAX, CasADi and `import` turn it into errors of their own, and what Python
calls by itself (`__del__`, weak references) prints it and goes on. Only the command does so; in other programs SIGINT stays as it is.
"""

import contextlib
import os
import signal
import sys
import threading
import time

CODE = 130
PATIENCE = 0.5  # seconds that the main thread has to come back from C code, where Python calls no handler
_undo: list = []
_ending = threading.RLock()


def watch():
    """Put the handler in place if this process is the command. The package calls it before its other imports, which take a second."""
    if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
        from socket import socketpair  # only now: it takes as long to import as all of the above

        heard, said = socketpair()
        said.setblocking(False)
        signal.set_wakeup_fd(said.detach())
        threading.Thread(target=_stand_in, args=(heard,), daemon=True).start()


def too_late():
    """From here on the command ends as if there had been no interrupt: what it found is complete and being handed over."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def undone(undo):
    """Inside, an interrupt calls `undo()` before it ends the command; what that returns, if anything, is said."""
    _undo.append(undo)
    try:
        yield
    finally:
        _undo.remove(undo)


def sentence(*details) -> str:
    """What is said of an interrupt."""
    return "; ".join(["rlctrl: interrupted", *filter(None, details)])


def _is_command():
    """Whether Python was started as `rlctrl` or as `python -m rlctrl`."""
    started = sys.orig_argv[-len(sys.argv) :][:1]
    return [os.path.splitext(os.path.basename(name.removeprefix("-m")))[0] for name in started] == ["rlctrl"]


def _stand_in(heard):
    """End the command in place of the main thread, should that be busy outside Python."""
    while heard.recv(1)[0] != signal.SIGINT:
        pass
    time.sleep(PATIENCE)
    _end()


def _end(*_):
    with _ending:  # never left: another thread waits here until the process is gone
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        details = [_undone(undo) for undo in reversed(_undo)]
        os.write(2, ("\n" * os.isatty(2) + sentence(*details) + "\n").encode())  # below the progress bar; print() cannot be reentered
        os._exit(CODE)


def _undone(undo):
    with contextlib.suppress(Exception):  # the next one has its turn, and the process ends
        return undo()
