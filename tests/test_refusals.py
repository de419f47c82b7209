"""Whatever is wrong in a file, however much of it: each wrong key and value is named once, with its line, and nothing else is."""

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rlctrl as rc
from rlctrl import configuration
from rlctrl.refusals import Problems

ROOT = Path(__file__).parents[1]
SAME = {"derandomize": True, "database": None, "deadline": None, "suppress_health_check": list(HealthCheck)}
FULL = """\
name = "full"
seed = 0
[plant]
name = "pendulum"
noise = 0.2
mass = 1.0
[problem]
dt = 0.05
gamma = 0.98
reward = "-theta**2 - 0.1*torque**2"
exit = "absorb"
exit_value = "-omega**2"
target = "theta**2 + 1"
scheme = "euler"
substeps = 2
[reference]
method = "GridDP"
shape = [21, 21]
order = 3
inputs = 5
quadrature = 2
tolerance = 1e-6
margin = 0.5
evaluation = "krylov"
expectation = "auto"
memory = 1.0
iterations = 9
[[also]]
method = "HJB"
shape = [21, 21]
order = 1
iterations = 9
[[also]]
method = "Spectral"
degree = 6
basis = "total"
[baseline]
x = [0.0, 0.0]
u = [0.0]
[mpc]
terminal = "none"
horizon = 5
tolerance = 1e-5
[policies]
half = "-0.5*theta"
[critic]
hidden = 3
activation = "square"
features = "polynomial"
degree = 2
scale = 0.5
[actor]
kind = "linear"
gain = [[1.0, 0.5]]
every = 2
rate = 0.1
[training]
policy = "actor"
steps = 40
memory = 512
rate = 0.1
exploration = 0.1
restart = 10
snapshots = 4
target = "expected"
horizon = 2
gradient = "semi"
refresh = 3
normaliser = 2
update = "gauss-newton"
batch = 32
sampling = "prioritised"
uniform = 0.5
plants = 300
quadrature = 3
[decomposition]
points = 64
starts = 0
iterations = 3
[comparison]
x0 = [[1.0, 0.0]]
policies = ["lqr", "half"]
steps = 10
paths = 4
band = 0.1
rest = [0.0, 0.0]
"""
LINEAR = """\
[plant]
name = "linear"
A = [[-1.0, 1.0, 0.0], [0.0, -1.0, 1.0], [0.0, 0.0, -1.0]]
B = [[0.0], [0.0], [1.0]]
F = [[0.2], [0.1], [0.0]]
c = [0.1, 0.0, 0.0]
[problem]
dt = 0.1
gamma = 0.9
Q = [1.0, 1.0, 1.0]
R = [1.0]
N = [[0.1], [0.0], [0.0]]
[reference]
method = "Riccati"
time = "continuous"
"""
FILES = [FULL, LINEAR, *((ROOT / "examples" / f"{name}.toml").read_text() for name in ("pendulum", "double_integrator", "references"))]
WHOLE, NUMBER = ('"x"', "1.5", "-1", "[[1]]", "true", "99999999999999999999"), ('"x"', "nan", "-1.0", '["a"]')
WORD, LIST = ('"nonsense"', "3", '["a"]'), ('"x"', "[nan]", "[1.0, 2.0, 3.0, 4.0]", "[[]]")
FORMULA = ('"-sin("', '"-nonsense**2"', "3.0")
WRONG = {  # what cannot stand at (section, key)
    ("", "name"): ("5", '"../x"', "{a = 1}"),
    ("", "seed"): WHOLE,
    ("plant", "noise"): NUMBER,
    ("plant", "mass"): NUMBER,
    ("plant", "A"): ('"x"', "[[1.0, 2.0]]", "[[1.0], [1.0, 2.0]]", "[[nan, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]"),
    ("plant", "B"): ("[[1.0], [1.0]]", "[[nan], [1.0], [1.0]]"),
    ("plant", "F"): ('"x"', "[[1.0], [1.0]]", "[[nan], [1.0], [1.0]]"),
    ("plant", "c"): LIST,
    **{("problem", key): ('"x"', "nan", "-1.0", "0", "[1.0]", "true", "2020-01-01") for key in ("dt", "gamma")},
    **{("problem", key): FORMULA for key in ("reward", "target", "exit_value")},
    **{("problem", key): LIST for key in ("Q", "R", "N")},
    **{("problem", key): WORD for key in ("exit", "scheme")},
    ("problem", "substeps"): WHOLE,
    **{(s, "method"): ('"nonsense"', "3", '["GridDP"]') for s in ("reference", "also")},
    **{(s, "shape"): ('"fine"', "[9.7, 9]", "[3, 3]", "[21]", "[21, 21, 21]", "21") for s in ("reference", "also")},
    **{(s, key): WHOLE for s in ("reference", "also") for key in ("order", "inputs", "quadrature", "iterations", "degree")},
    **{(s, key): NUMBER for s in ("reference", "also") for key in ("tolerance", "margin", "memory")},
    **{(s, key): WORD for s in ("reference", "also") for key in ("time", "evaluation", "expectation", "basis")},
    ("baseline", "x"): LIST,
    ("baseline", "u"): LIST,
    ("mpc", "terminal"): WORD,
    ("mpc", "horizon"): WHOLE,
    ("mpc", "tolerance"): NUMBER,
    ("policies", "half"): FORMULA,
    **{("critic", key): WHOLE for key in ("hidden", "degree")},
    **{("critic", key): WORD for key in ("activation", "features")},
    ("critic", "scale"): NUMBER,
    ("actor", "kind"): WORD,
    ("actor", "gain"): ('"x"',),
    ("actor", "every"): WHOLE,
    ("actor", "rate"): NUMBER,
    **{("training", key): WORD for key in ("policy", "target", "gradient", "update", "sampling")},
    **{("training", key): WHOLE for key in ("steps", "memory", "restart", "snapshots", "horizon", "refresh", "batch")},
    **{("training", key): WHOLE for key in ("plants", "quadrature")},
    **{("training", key): NUMBER for key in ("rate", "exploration", "uniform")},
    ("training", "normaliser"): ('"x"', "7", "[1]"),
    **{("decomposition", key): WHOLE for key in ("points", "starts", "iterations")},
    ("comparison", "x0"): ('"up"', "[[nan, 0.0]]", "[]", "[[1.0, 2.0, 3.0, 4.0]]"),
    ("comparison", "policies"): ('"lqr"', '["nope"]', "[]", "[3]"),
    **{("comparison", key): WHOLE for key in ("steps", "paths")},
    ("comparison", "band"): NUMBER,
    ("comparison", "rest"): LIST,
}  # fmt: skip


def keys(text):
    """(number of the line, section, key) of everything that a file states."""
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        heading, key = re.match(r"\[+(\w+)", line), re.match(r"(\w+) = ", line)
        section = heading[1] if heading else section
        if key and not heading:
            yield number, section, key[1]


def broken(text, where, value):
    """A file with another value, or with value None another key, in a line; and the key as it stands then."""
    number, _, key = where
    lines = text.splitlines()
    word = key if value is not None else key + key[-1]
    lines[number - 1] = f"{word} = {lines[number - 1].split('=', 1)[1].strip() if value is None else value}"
    return "\n".join(lines) + "\n", word


@st.composite
def wrongs(draw):
    """A file broken in one to four places, in the same section as a rule, and what must be said: [(line, key)]."""
    text = draw(st.sampled_from(FILES))
    known = [place for place in keys(text) if place[1:] in WRONG]
    section = draw(st.sampled_from(sorted({place[1] for place in known})))
    near = [place for place in known if place[1] == section]
    said = []
    for where in draw(st.lists(st.sampled_from(known) | st.sampled_from(near), min_size=1, max_size=4, unique=True)):
        free = where[1] in ("", "policies")  # a word more at the top, or the name of a policy, is no key that is known nearby
        value = draw(st.sampled_from((*WRONG[where[1:]], *(() if free else (None, None)))))
        text, word = broken(text, where, value)
        said.append((where[0], word))
    return text, sorted(said)


def refusals(text):
    """[(line, sentence)] of all that a file is refused for."""
    with pytest.raises(rc.InputError) as refused:
        configuration.build(tomllib.loads(text), "file", text)
    found = [re.fullmatch(r"line (\d+): (.*)", line) for line in str(refused.value).splitlines()]
    assert all(found), str(refused.value)
    return [(int(line[1]), line[2]) for line in found if line]


@settings(max_examples=300, **SAME)
@given(wrongs())
def test_each_wrong_key_and_value_is_named_once_with_its_line_and_nothing_else(wrong):
    text, expected = wrong
    found = refusals(text)
    assert [line for line, _ in found] == [line for line, _ in expected], found
    for (_, word), (_, sentence) in zip(expected, found, strict=True):
        assert re.search(rf"`(\[\w+\] |params\[')?{word}", sentence)


def test_what_names_no_key_is_blamed_on_the_value_without_which_it_vanishes():
    text = LINEAR.replace("c = [0.1, 0.0, 0.0]", "c = [0.1, 0.0, 0.0]\nstate_max = [1.0, 2.0]")
    ((line, sentence),) = refusals(text)
    assert line == 7
    assert sentence.startswith("[plant] `state_max, input_max` must")


@pytest.mark.parametrize(("name", "lines"), [('"pendlum"', [4, 5, 10, 81]), ('"linar"', [4]), ("3", [4])])
def test_a_misspelt_plant_counts_as_the_nearest_whose_keys_fit(name, lines):
    """Then its values and what is said of its signals are checked too."""
    text = FULL.replace('"pendulum"', name).replace("noise = 0.2", "noise = -1").replace("theta**2 - 0", "thta**2 - 0")
    found = refusals(text.replace("x0 = [[1.0, 0.0]]", "x0 = [[1.0]]"))
    assert [line for line, _ in found if line in (4, 5, 10, 81)] == lines


def test_without_a_plant_the_rest_of_the_file_is_checked():
    text = FULL.replace('"pendulum"', "3").replace("gamma = 0.98", "gamma = 2").replace("substeps = 2", "substeps = 0")
    found = refusals(text.replace("steps = 10\n", "steps = 0\n").replace("horizon = 5", "horizon = 0"))
    assert [line for line, _ in found] == [4, 9, 15, 42, 83]


def test_unreadable_inputs_do_not_hide_the_states():
    found = refusals(LINEAR.replace("B = [[0.0], [0.0], [1.0]]", 'B = "x"').replace("Q = [1.0, 1.0, 1.0]", "Q = [1.0]"))
    assert [line for line, _ in found] == [4, 10]


@pytest.mark.parametrize("sentence", ["`a` is wrong.", "`b` is wrong.", "`nothing` is wrong.", "All is wrong."])
def test_a_refusal_that_no_exchange_mends_ends(sentence):
    """Each key is exchanged at most once, so the calls are counted: at most one a key, and one more for each that might be to blame."""
    calls = []

    def refuse(values):
        calls.append(values)
        raise rc.InputError(sentence)

    problems = Problems("a = 1\nb = 2\n")
    assert problems.attempt("", refuse, values={"a": 1, "b": 2}) is None
    assert len(calls) <= 4
    with pytest.raises(rc.InputError) as refused:
        problems.raise_any()
    assert str(refused.value).count(sentence) == 1
