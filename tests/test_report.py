"""`report.html`: whole, safe, complete, from nothing but the folder. What a browser makes of it: tests/test_report_browser.py."""

import base64
import itertools
import json
import re
import shutil
import subprocess
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from report_tools import HOSTILE, PIXEL, RUN, SIGNALS, SOLVE, STATED, SVG, leave

from rlctrl.analysis.slices import slices
from rlctrl.cli import main
from rlctrl.plant import Signal
from rlctrl.report import write
from rlctrl.report.html import number
from rlctrl.report.latex import latex

ROOT = Path(__file__).parents[1]
VOID = {"meta", "img", "br", "input", "link", "hr"}


class Page(HTMLParser):
    """Every element with its attributes, text by element, and what is not balanced."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.wrong, self.open, self.texts = [], [], [], {}
        self.feed(text)
        self.close()
        self.wrong += self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"/{tag}")

    def handle_data(self, data):
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return leave(tmp_path_factory.mktemp("run"), RUN)


@pytest.fixture(scope="module")
def text(run):
    return write(run).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_the_page_is_well_formed(page):
    assert page.wrong == []
    named = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(named) == len(set(named))
    anchors = [a["href"][1:] for a in page.all("a") if a["href"].startswith("#")]
    assert set(anchors) <= set(named)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_all_parts_of_the_page_are_in_the_distribution():
    globs = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]["rlctrl"]
    shipped = {path for pattern in globs for path in (ROOT / "rlctrl").glob(pattern)}
    parts = {path for path in (ROOT / "rlctrl" / "report").iterdir() if path.suffix != ".py" and path.is_file()}
    assert len(parts) >= 5
    assert parts <= shipped


def test_the_best_return_is_that_of_a_policy_that_keeps_the_bounds(tmp_path):
    folder = leave(tmp_path / "run", RUN | {"beyond_bounds": {"lqr": 0.0, "critic": 0.0, "dp": 0.3}})
    said = write(folder).read_text(encoding="utf-8")
    assert "Best return: critic, greedy, −74.5; next LQR, −102.3" in said


def test_parameters_stand_beside_their_units(text):
    assert re.search(r"mass.{0,60}>1<.{0,60}>kg<", re.sub(r"\s+", " ", text))


def test_nothing_comes_from_a_network(page):
    sources = [v for _, attributes in page.elements for k, v in attributes.items() if k in ("src", "href", "srcset", "action", "poster")]
    assert [s for s in sources if re.match(r"\s*([a-z]+:)?//", s, re.I) or s.startswith("javascript:")] == []
    assert {s.partition(":")[0] for s in sources if ":" in s} == {"data"}
    style = "".join(page.texts["style"])
    assert "url(" not in style
    assert "@import" not in style
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def test_every_figure_is_inside_with_a_text(page):
    images = {a["data-name"]: a for a in page.all("img") if "data-name" in a}
    assert set(images) == {"value_and_policy", "e_q_map", "returns", "a_new_one"}
    svg, png = (base64.b64decode(images[name]["src"].partition("base64,")[2]) for name in ("value_and_policy", "a_new_one"))
    assert (svg, png) == (SVG, PIXEL)
    assert images["a_new_one"]["src"].startswith("data:image/png;")
    assert min(len(a["alt"]) for a in images.values()) > 5
    assert "T10" in images["e_q_map"]["alt"]


def test_every_headline_number_is_there_with_all_its_digits(page):
    kept = {a["title"] for a in page.all("td") if "title" in a}
    wanted = [RUN["reference"]["error"], *RUN["reference"]["error_terms"].values(), *RUN["budget"]["rms"].values()]
    wanted += [v for part in ("critic", "decomposition") for v in RUN[part].values() if isinstance(v, float)]
    wanted += [v for r in RUN["returns"].values() for v in (r["mean"], r["ci95"])]
    assert {repr(v) for v in wanted} <= kept


def test_verdicts_units_and_manifest_are_said(text):
    said = re.sub(r"<[^>]+>", "", text)
    for words in (
        "M = 8 &lt; p = 384",
        "Training: 20000 updates done.",
        "Excitation lost",
        "GridDP, estimated; V* spans 2",
        "rad/s",
        "0.05\N{NO-BREAK SPACE}s",
        "jax",
        "9.9.9",
        "f623f5",
        "2026-11-23",
        "seed",
    ):
        assert words in said
    assert "an estimate, not a proof" in said
    assert "8.2 times as far from Q*" in said
    assert "Parts cancel" in said


def test_policies_are_ordered_and_new_measures_come_along(page, text):
    rows = re.findall(r"<tr><th scope=\"row\">([^<]+)</th><td class=\"number\" data-sort=\"(-[\d.]+)\"", text)
    assert [float(mean) for _, mean in rows if float(mean) in (-54.9, -74.5, -102.3)] == [-54.9, -74.5, -102.3]
    assert "settling time [s]" in page.texts["th"]
    assert "at a bound [% of steps]" in page.texts["th"]


def test_files_are_linked_relative(page):
    links = {a["href"] for a in page.all("a")}
    assert {"summary.json", "figures/returns.csv", "figures/swing.gif", "figures/e_q_map.svg"} <= links
    assert "report.html" not in links


def test_hostile_names_are_text(tmp_path):
    folder = leave(tmp_path, RUN | {"plant": HOSTILE, "name": HOSTILE, "plant_parameters": {HOSTILE: HOSTILE}}, name=HOSTILE)
    shown = Page(write(folder, latex=True).read_text(encoding="utf-8"))
    assert shown.wrong == []
    assert len(shown.all("script")) == 2
    assert not any("onerror" in attributes for _, attributes in shown.elements)
    assert HOSTILE in "".join(shown.texts["h1"])


def test_the_viewer_gets_the_very_arrays(run, page):
    data = json.loads(next(t for t in page.texts["script"] if t.startswith("{")))
    with np.load(run / "slices.npz") as stored:
        for field in data["fields"][:3]:
            values = np.frombuffer(base64.b64decode(field["data"]), "<f4")
            assert np.array_equal(values, stored[field["key"]].ravel())
        assert [a["nodes"] for a in data["axes"]] == [stored[f"nodes_{k}"].tolist() for k in range(4)]
    assert [(a["name"], a["unit"], a["input"]) for a in data["axes"]] == [(s.name, s.unit, s in SIGNALS[2:]) for s in SIGNALS]
    assert {f["key"] for f in data["fields"] if f["kind"] == "policy"} == {"policy_star_torque", "policy_star_mode"}


def test_a_solve_folder_has_a_report_too(tmp_path):
    shown = write(leave(tmp_path, SOLVE)).read_text(encoding="utf-8")
    assert Page(shown).wrong == []
    for words in ("HJB failed", "within the 7 that both state", "more than the 6.5 they state", "References side by side"):
        assert words in re.sub(r"<[^>]+>", "", shown)


def test_every_reference_of_a_solve_stands_beside_its_own_span(tmp_path):
    shown = re.sub(r"<[^>]+>", "", write(leave(tmp_path, SOLVE)).read_text(encoding="utf-8"))
    assert "± 5.96stated error of V*, estimated; V* spans 110" in shown
    assert shown.count("V* spans 25") == shown.count("; V* spans 110") == 1


def test_a_reference_that_states_no_error_is_said_to_state_none(tmp_path):
    shown = write(leave(tmp_path, RUN | {"reference": STATED | {"error": None}})).read_text(encoding="utf-8")
    assert "The reference (GridDP) converged; how far its V* is off is not known." in shown


def test_an_older_folder_without_slices_is_reported_without_a_viewer(tmp_path):
    folder = leave(tmp_path, {k: v for k, v in RUN.items() if k not in ("asked", "finished", "budget")})
    (folder / "slices.npz").unlink()
    shown = Page(write(folder).read_text(encoding="utf-8"))
    assert shown.wrong == []
    assert not any(a.get("id") in ("viewer", "budget") for _, a in shown.elements)


def test_the_same_folder_gives_the_same_page(run, text):
    assert write(run).read_text(encoding="utf-8") == text


def test_a_failed_write_leaves_the_old_page(tmp_path, monkeypatch):
    folder = leave(tmp_path, RUN)
    (folder / "report.html").write_text("old")
    before = sorted(p.name for p in folder.rglob("*"))

    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk is full"):
        write(folder)
    assert (folder / "report.html").read_text() == "old"
    assert sorted(p.name for p in folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "summary.json").unlink(), "must hold summary.json, which is missing"),
        (lambda f: (f / "summary.json").write_text('{"name": '), "must hold a whole summary.json"),
        (lambda f: (f / "summary.json").write_bytes(b"\xff\xfe{"), "must hold a whole summary.json"),
        (lambda f: (f / "summary.json").write_text("[1, 2]"), "it lacks name, plant"),
        (lambda f: (f / "summary.json").write_text(json.dumps({**RUN, "returns": 3})), "it lacks returns"),
        (lambda f: (f / "slices.npz").write_bytes(b"PK\x03\x04 no"), "must hold a readable slices.npz"),
        (lambda f: f.rename(f.with_name("gone")), "must be the folder of a run"),
        (
            lambda f: (f / "summary.json").write_text(json.dumps({**RUN, "returns": {"lqr": 3}})),
            "must hold what this version of rlctrl leaves",
        ),
        (lambda f: np.savez(f / "slices.npz", q_star=np.zeros(3)), "must hold what this version of rlctrl leaves"),
    ],
)
def test_a_bad_folder_is_refused_in_one_sentence(tmp_path, capsys, damage, said):
    folder = leave(tmp_path / "run", RUN)
    damage(folder)
    assert main(["report", str(folder)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("rlctrl: `DIR`")
    assert error.count("\n") == 1
    assert list(tmp_path.rglob("report.html")) == []


def test_the_command_writes_page_tables_and_citation(tmp_path, capsys):
    folder = leave(tmp_path, RUN | {"plant": "a_b & c{%"})
    assert main(["report", str(folder), "--latex"]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    tables, cited = ((folder / name).read_text(encoding="utf-8") for name in ("tables.tex", "cite.bib"))
    assert r"a\_b \& c\textbraceleft{}\%" in tables
    assert tables.count(r"\begin{tabular}") == tables.count(r"\toprule") == tables.count(r"\end{table}") == 3
    for line in tables.splitlines():
        assert len(re.findall(r"(?<!\\)\$", line)) % 2 == 0
        assert line.isascii()
    assert r"$5.963$" in tables
    assert r"$5.335\cdot 10^{-8}$" in tables or "contraction" not in tables
    assert cited.count("{") == cited.count("}")
    for words in ("version = {0.1.0}", "year = {2026}", r"Doya \& M{\"u}ller".replace(r"{\"u}", "ü"), r"\S{}5"):
        assert words in cited


def test_returns_have_a_column_a_policy_and_a_row_a_measure(tmp_path):
    folder = leave(tmp_path, RUN)
    write(folder, latex=True)
    _, returns = (folder / "tables.tex").read_text(encoding="utf-8").split(r"\label{tab:returns}")
    rows = [line.count("&") for line in returns.splitlines() if "&" in line]
    assert set(rows) == {len(RUN["returns"])}
    assert "settling time [s] &" in returns


@pytest.mark.skipif(not (shutil.which("pdflatex") and shutil.which("bibtex")), reason="needs TeX")
def test_tex_sets_tables_and_citation_within_the_page(tmp_path):
    returns = {
        name: {"mean": -123.45, "ci95": 1.234e-8, "settling_time": 12.35} for name in ("dp", "lqr", "lqr_clipped", "critic", "actor")
    }
    wide = {"returns": returns | {f"formula_{k}": returns["dp"] for k in (1, 2)}, "regret": returns}
    for name, summary in (("run", RUN), ("wide", RUN | wide), ("solve", SOLVE)):
        folder = leave(tmp_path / name, summary)
        write(folder, latex=True)
        page = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{tables}\nocite{*}"
        (folder / "page.tex").write_text(page + r"\bibliographystyle{plain}\bibliography{cite}\end{document}")
        tex = ["pdflatex", "-interaction=nonstopmode", "page"]
        done = [subprocess.run(c, cwd=folder, capture_output=True, check=False).stdout for c in (tex, ["bibtex", "page"], tex)]
        said = b"".join(done).decode(errors="replace")
        assert not re.search(r"^!|Overfull|Warning--", said, re.M), said


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("50 % of $x_1$ & {y}~\\^#", r"50 \% of \$x\_1\$ \& \textbraceleft{}y\textbraceright{}\textasciitilde{}"
         r"\textbackslash{}\textasciicircum{}\#"),
        ("Q̂ − ω̃", r"$\hat{Q}$ $-$ $\tilde{\omega}$"),
        ("e*_noise of e_Q", r"$e^*_{\mathrm{noise}}$ of $e_{\mathrm{Q}}$"),
        ("漢 <", r"[cjk unified ideograph-6f22] \textless{}"),
    ],
)  # fmt: skip
def test_text_is_escaped_for_latex(given, made):
    assert latex(given) == made


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (0.0, "0"), (-1.5, "−1.5"), (0.000123456, "0.0001235"), (1.23456e-7, "1.235·10⁻⁷"), (123456.0, "123500"),
        (2e7, "2·10⁷"), (20000, "20\N{NARROW NO-BREAK SPACE}000"), (None, "–"), (float("inf"), "–"),
    ],
)  # fmt: skip
def test_numbers_are_readable(given, shown):
    assert number(given) == shown


@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 1), (4, 1), (5, 2), (12, 4), (30, 0 + 1)])
def test_slices_fit_whatever_the_dimension(n, m):
    """Odd numbers of nodes, at most so many points, values of the function itself at the nodes, other coordinates where they were put."""
    signals = [Signal(f"s{k}", "m", -1.0 - k, 2.0) for k in range(n + m)]
    at = np.linspace(-0.5, 0.5, n + m)
    weights = np.arange(1.0, n + m + 1)
    of_z, of_x = (
        {"q_star": lambda x, u: np.sin(np.concatenate([x, u], -1) @ weights)},
        {"both": lambda x: np.stack([x[:, 0], x[:, -1]], -1)},
    )
    found = slices(signals[:n], signals[n:], at, of_z, of_x)
    axes, shape = found["axes"], found["q_star"].shape
    assert np.prod(shape) <= 60_000
    assert set(np.array(shape) % 2) == {1}
    assert min(shape) >= 5
    assert len(axes) == min(n + m, 6)
    assert n in axes
    mesh = np.meshgrid(*[found[f"nodes_{k}"] for k in range(len(axes))], indexing="ij")
    phase = sum(weights[a] * v for a, v in zip(axes, mesh, strict=True)) + sum(weights[a] * at[a] for a in range(n + m) if a not in axes)
    np.testing.assert_allclose(found["q_star"], np.sin(phase), atol=1e-6)
    assert found["both"].shape == (2, *shape[: sum(axes < n)])


def test_finite_inputs_are_nodes_and_nothing_between():
    signals = [Signal("x", "m", -1.0, 1.0), Signal("mode", "1", values=(3.0, 0.0, 1.0))]
    found = slices(signals[:1], signals[1:], [0.0, 0.0], {"q_star": lambda x, u: x[:, 0] + u[:, 0]}, {})
    assert found["nodes_1"].tolist() == [0.0, 1.0, 3.0]
    assert found["discrete"].tolist() == [False, True]
    assert found["q_star"].shape == (101, 3)
