"""What users see: few names, each documented with every keyword, and misspelt keywords refused by name."""

import inspect
import re
import types

import pytest

import rlctrl as rc
from rlctrl.result import Result

CALLABLES = {name: getattr(rc, name) for name in rc.__all__}
CLASSES = {name: c for name, c in CALLABLES.items() if inspect.isclass(c)}
EXCEPTIONS = {name for name, c in CLASSES.items() if issubclass(c, Exception)}
RESULTS = {name for name, c in CLASSES.items() if issubclass(c, Result)}  # made by rlctrl, not by its users
CALLED = sorted(set(CALLABLES) - EXCEPTIONS - RESULTS)


def members(cls):
    """Public methods and properties of a class that rlctrl itself wrote."""
    kinds = (types.FunctionType, property, classmethod, staticmethod)
    for base in cls.__mro__:
        if base.__module__.split(".")[0] == "rlctrl":
            yield from (n for n, v in vars(base).items() if not n.startswith("_") and (isinstance(v, kinds) or hasattr(v, "attrname")))


MEMBERS = sorted({(c, m) for c, cls in CLASSES.items() for m in members(cls)})


def keywords(function):
    skipped = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [k for k, p in inspect.signature(function).parameters.items() if k not in ("self", "cls") and p.kind not in skipped]


def documented(word, text):
    """In backticks, alone or in a formula, or as a word of its own."""
    return re.search(rf"(?<![\w]){re.escape(word)}(?![\w])", text) is not None


def test_public_names_are_few_sorted_and_unique():
    assert rc.__all__ == sorted(set(rc.__all__))
    assert len(rc.__all__) <= 30


def test_all_is_all():
    """Nothing public hides in the package, and nothing foreign leaks out of it."""
    shown = {n for n, v in vars(rc).items() if not n.startswith("_") and not inspect.ismodule(v)}
    assert shown == set(rc.__all__)


@pytest.mark.parametrize("name", rc.__all__)
def test_every_public_name_has_a_docstring(name):
    text = CALLABLES[name].__doc__
    assert text
    assert len(text.split()) >= 3
    assert not text.startswith(f"{name}(")  # what dataclasses write when nobody did


@pytest.mark.parametrize(("name", "member"), MEMBERS)
def test_every_public_member_has_a_docstring(name, member):
    assert inspect.getdoc(inspect.getattr_static(CLASSES[name], member)) or inspect.getdoc(getattr(CLASSES[name], member))


def test_the_list_of_members_is_not_empty():
    assert {("Plant", "digest"), ("Plant", "n"), ("Problem", "from_rates"), ("Reference", "load"), ("Training", "plot")} <= set(MEMBERS)


@pytest.mark.parametrize("name", sorted(set(CALLABLES) - EXCEPTIONS))
def test_every_keyword_is_documented(name):
    undocumented = [k for k in keywords(CALLABLES[name]) if not documented(k, CALLABLES[name].__doc__)]
    assert undocumented == []


def test_documented_means_as_a_word():
    assert documented("gamma", "`gamma` in (0, 1]")
    assert documented("x0", "from x0, (n,)")
    assert not documented("x", "the maximum")
    assert not documented("step", "`steps`")


@pytest.mark.parametrize(("name", "keyword"), [(n, k) for n in CALLED for k in keywords(CALLABLES[n])])
def test_a_misspelt_keyword_is_refused_with_the_nearest_name(name, keyword):
    wrong = f"{keyword}_"
    with pytest.raises(rc.InputError, match=rf"`{wrong}` .*Did you mean `{keyword}`\?"):
        CALLABLES[name](**{wrong: 1})


@pytest.mark.parametrize("name", CALLED)
def test_an_unheard_of_keyword_is_refused_with_all_names(name):
    with pytest.raises(rc.InputError, match="`zzzzzzzz`") as caught:
        CALLABLES[name](zzzzzzzz=1)
    assert all(re.search(rf"\b{k}\b", str(caught.value)) for k in keywords(CALLABLES[name]))


@pytest.mark.parametrize("name", CALLED)
def test_too_many_arguments_are_refused(name):
    with pytest.raises(rc.InputError, match=f"`{name}`"):
        CALLABLES[name](*range(40))


@pytest.mark.parametrize(
    "name", [n for n in CALLED if any(p.default is p.empty for p in inspect.signature(CALLABLES[n]).parameters.values())]
)
def test_missing_arguments_are_refused(name):
    with pytest.raises(rc.InputError, match=f"`{name}`"):
        CALLABLES[name]()


@pytest.mark.parametrize(
    ("wrong", "meant"), [("discount_rte", "discount_rate"), ("reward", "reward_rate"), ("exot", "exit"), ("substep", "substeps")]
)
def test_from_rates_refuses_a_misspelt_keyword(wrong, meant):
    given = {"reward_rate": lambda x, u: -(x[0] ** 2), "discount_rate": 0.1, "dt": 0.1}
    given[wrong] = given.pop(meant, "free")
    with pytest.raises(rc.InputError, match=rf"`{wrong}`.*`{meant}`"):
        rc.Problem.from_rates(plant(), **given)


def test_with_params_refuses_a_misspelt_parameter():
    for changed in (plant(), rc.Problem(plant(), lambda x, u: -x[0], gamma=0.9, dt=0.1)):
        with pytest.raises(rc.InputError, match=r"`decai`.*Did you mean `decay`\?"):
            changed.with_params(decai=2.0)


def plant():
    signals = {"states": [rc.Signal("level", "m", -1, 1)], "inputs": [rc.Signal("flow", "m/s", -1, 1)]}
    return rc.Plant("tank", **signals, drift=lambda x, u, p: u[0] - p.decay * x[0], params={"decay": 1.0})
