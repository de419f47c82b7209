"""Which walls an optimal path touches when: contacts changed until no change to their neighbours makes the path better.

On the border between two sets of contacts, where Φ_i(x_k, u_k) lies on its wall, both programmes (`programme`) hold the same path. It is
the better of neither if and only if, for the upper wall, the multiplier of x_{k+1,i} = Φ_i is ≥ 0 (else pressing against the wall helps)
and that of x_{k+1,i} ≤ wall is ≥ 0 (else leaving it does); for the lower wall both are ≤ 0.
"""

import numpy as np

from rlctrl.reference.programme import Path, optimum
from rlctrl.reference.rollout import Guess

NEAR = 1e-5  # distance from a wall, relative to 1 + |x|, that counts as on it
ROUNDS = 30  # changes of the contacts
MOVES = 40  # runs of contacts begun or ended a step earlier or later


def settled(shooting, start, guess, fixed) -> Path | str:
    """The optimum reached from a guess, its contacts changed while that makes it better: those that ask, with ever more steps of the runs
    they end, or only the one that asks most."""
    path, reach = optimum(shooting, shooting.walls, start, guess, fixed), 0
    for _ in range(ROUNDS):
        found = None if isinstance(path, str) else _better(shooting, start, path, reach, fixed)
        if found is None:
            break
        path, reach = found
    return path


def refined(shooting, start, path, fixed) -> Path:
    """The path, or better ones found by beginning or ending a run of contacts a step earlier or later: each is an optimum of its own."""
    moves = _moved(path.contacts)
    for _ in range(MOVES):
        contacts = next(moves, None)
        if contacts is None:
            break
        trial = settled(shooting, start, Guess(path.x, path.u, contacts), fixed)
        if isinstance(trial, Path) and trial.value > path.value + shooting.tolerance * (1 + abs(path.value)):
            path, moves = trial, _moved(trial.contacts)
    return path


def _moved(contacts):
    """Contacts with one run longer or shorter by a step."""
    edges = np.diff(contacts, axis=1, prepend=0)
    for i, k in zip(*np.nonzero(edges), strict=True):
        for at, value in ((k, contacts[i, k - 1] if k else 0), (k - 1, contacts[i, k])):
            if at >= 0:
                other = contacts.copy()
                other[i, at] = value
                yield other


def _better(shooting, start, path, reach, fixed):
    """A better path with other contacts, and how far the next change may reach; None if there is none."""
    asks = _asks(shooting, path)
    if not np.any(asks):
        return None
    least = path.value + shooting.tolerance * (1 + abs(path.value))
    all_of, strongest = asks > 0, asks == np.max(asks)
    tried = [*([(all_of, reach)] if reach else []), (all_of, 0), *([(strongest, 0)] if np.sum(all_of) > 1 else [])]
    for which, further in tried:
        contacts = _changed(shooting.walls, path, which, further)
        trial = optimum(shooting, shooting.walls, start, Guess(path.x, path.u, contacts), fixed)
        if isinstance(trial, Path) and trial.value > least:
            return trial, 2 * further + 1
    return None


def _asks(shooting, path):
    """How strongly each contact asks to be changed (n, steps): its multiplier of the wrong sign, 0 where it has none."""
    x, held = path.x[:, 1:], path.contacts != 0
    on = np.abs(path.gap) <= NEAR * (1 + np.abs(x))
    asks = np.where(held & on, -path.contacts * path.push, np.where(held, 0.0, -_touched(shooting.walls, x) * path.price))
    return np.where(asks > shooting.tolerance * (1 + abs(path.value)), asks, 0.0)


def _touched(walls, x):
    """±1 where x (n, steps) is on the upper (lower) wall, else 0."""
    low, high = np.array(walls)[..., None]
    near = NEAR * (1 + np.abs(x))
    return np.where(high - x <= near, 1, np.where(x - low <= near, -1, 0))


def _changed(walls, path, which, further):
    """The contacts with those in `which` (n, steps) taken or given up; with them the next steps of the runs of contacts they end."""
    held = path.contacts != 0
    gone = which & held
    for _ in range(further):
        beside = np.zeros_like(gone)
        beside[:, 1:] |= gone[:, :-1]
        beside[:, :-1] |= gone[:, 1:]
        gone |= beside & held
    return np.where(gone, 0, np.where(which & ~held, _touched(walls, path.x[:, 1:]), path.contacts))
