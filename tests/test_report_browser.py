"""The report in a real browser: it loads without a complaint, the viewer, sorting and figures work, it prints, and a phone can show it."""

import browser
import pytest
from report_tools import RUN, SOLVE, leave

from rlctrl.report import write

pytestmark = pytest.mark.skipif(browser.FOUND is None, reason="needs Chromium or Chrome, which is not installed")
PICTURES = "[...document.querySelectorAll('#panels canvas')].map((c) => c.toDataURL())"
READOUT = "document.getElementById('readout').textContent"
DRAWN = "new Promise(requestAnimationFrame).then(() => new Promise(requestAnimationFrame)).then(() => 0)"
CONTRAST = """(() => {
  const rgb = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = (c) => rgb(c).slice(0, 3).map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, k) => sum + [0.2126, 0.7152, 0.0722][k] * v, 0);
  const behind = (e) => { const c = getComputedStyle(e).backgroundColor; return rgb(c)[3] === 0 ? behind(e.parentElement) : c; };
  const between = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const ratio = (e) => between(light(getComputedStyle(e).color), light(behind(e)));
  const texts = [...document.querySelectorAll('body *')].filter((e) => e.getClientRects().length
    && [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()));
  return Math.min(...texts.map(ratio));
})()"""


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    above = tmp_path_factory.mktemp("browser")
    found = browser.Browser(above / "profile")
    found.reports = {name: write(leave(above / name, summary)).as_uri() for name, summary in (("run", RUN), ("solve", SOLVE))}
    yield found
    found.close()


@pytest.fixture
def page(opened):
    """The report of the run, fresh, at the size of a desk."""
    opened.size(1280, 900)
    opened.said.clear()
    opened.asked.clear()
    opened.open("about:blank")
    opened.open(opened.reports["run"])
    return opened


def slide(page, name, value):
    slider = f"document.querySelector('#sliders input[name={name}]')"
    page.run(f"({slider}.value = {value}, {slider}.dispatchEvent(new Event('input')), {DRAWN})")


@pytest.mark.parametrize("name", ["run", "solve"])
def test_it_loads_without_complaint_and_without_a_network(opened, name):
    opened.said.clear()
    opened.asked.clear()
    opened.open(opened.reports[name])
    assert opened.said == []
    assert {address.partition(":")[0] for address in opened.asked} <= {"file", "data", "about"}
    assert opened.run("[...document.images].filter((i) => i.src).every((i) => i.complete && i.naturalWidth > 0)")
    assert opened.run("document.querySelectorAll('#panels canvas').length") == {"run": 4, "solve": 4}[name]


def test_sliders_change_the_pictures_and_the_values(page):
    before = page.run(PICTURES)
    slide(page, "torque", -5)
    after = page.run(PICTURES)
    assert (before[0] != after[0], before[2] != after[2], before[3] != after[3]) == (True, True, False)  # e_Q does not depend on it
    scales = page.run("[...document.querySelectorAll('.bar')].map((b) => b.textContent)")
    assert scales[0] == scales[1] != scales[2]
    slide(page, "mode", 2)  # the third of 0, 1, 3
    assert page.run("document.getElementById('held').textContent") == "Held: torque = −5\N{NO-BREAK SPACE}N m, mode = 3"
    theta = 0.5  # where the sliders start
    assert f"Q* (reference): {1 + 2 * theta + 3:g}" in page.run(READOUT)
    assert f"Q̂ (trained critic): −{5 - theta:g}" in page.run(READOUT)
    assert "at ω*: −0.5" in page.run(READOUT)


def test_colours_are_those_of_the_values(page):
    """Q̂ = θ + torque grows to the right, and viridis brightens with it."""
    brightness = "(x) => document.querySelectorAll('#panels canvas')[1].getContext('2d').getImageData(x, 20, 1, 1).data[1]"
    page.run("document.getElementById('levels').click()")
    left, middle, right = (page.run(f"({brightness})({x})") for x in (2, 300, 477))
    assert left < middle < right


def test_values_follow_the_pointer_and_the_arrow_keys(page):
    page.run("""(() => { const c = document.querySelector('#panels canvas'), box = c.getBoundingClientRect();
        c.dispatchEvent(new PointerEvent('pointerdown', { clientX: box.right - 1, clientY: box.top }));
    })()""")
    page.run(DRAWN)
    assert page.run(READOUT).startswith("At theta = 3.1")
    assert "omega = 7.9" in page.run(READOUT) or "omega = 8" in page.run(READOUT)
    page.run("document.querySelector('#panels canvas').focus()")
    for _ in range(3):
        page.press("ArrowDown")
    page.run(DRAWN)
    assert "omega = 7" in page.run(READOUT)


def test_axes_can_be_chosen_and_a_view_be_linked(page):
    page.run("""(() => { const up = document.getElementById('up'); up.value = 2; up.dispatchEvent(new Event('change')); })()""")
    assert page.run("[...document.querySelectorAll('#sliders input')].map((s) => s.name)") == ["omega", "mode"]
    assert page.run("location.hash").startswith("#slices?view-number=0&x-axis=theta&y-axis=torque&theta=0.5")
    page.open("about:blank")
    page.open(page.reports["run"] + "#slices?view-number=0&x-axis=omega&y-axis=mode&torque=-2.5&theta=1")
    assert (
        page.run("document.getElementById('held').textContent")
        == "Held: theta = 1\N{NO-BREAK SPACE}rad, torque = −2.5\N{NO-BREAK SPACE}N m"
    )
    assert page.said == []
    last = page.run("document.getElementById('show').options.length") - 1
    page.run(f"(() => {{ const s = document.getElementById('show'); s.value = {last}; s.dispatchEvent(new Event('change')); }})()")
    assert page.run("[...document.querySelectorAll('#panels h4')].map((h) => h.textContent)") == [
        "V* (reference)",
        "π*: torque [N m]",
        "π*: mode",
    ]
    assert page.said == []


def test_tables_sort_by_number_and_by_word(page):
    table = "[...document.querySelectorAll('table')].find((t) => t.caption.textContent.startsWith('Returns'))"
    column = f"[...{table}.tBodies[0].rows].map((r) => r.cells[COLUMN].textContent)"
    click = f"{table}.tHead.rows[0].cells[COLUMN].querySelector('button').click()"
    at = lambda script, k: page.run(script.replace("COLUMN", str(k)))
    at(click, 1)
    assert at(column, 1) == ["−102.3", "−74.5", "−54.9"]
    at(click, 1)
    assert at(column, 1) == ["−54.9", "−74.5", "−102.3"]
    assert page.run(f"{table}.tHead.rows[0].cells[1].getAttribute('aria-sort')") == "descending"
    at(click, 3)
    assert at(column, 3) == ["1.5", "3.5", "–"]
    at(click, 3)
    assert at(column, 3) == ["3.5", "1.5", "–"]
    at(click, 0)
    assert at(column, 0) == ["critic, greedy", "LQR", "reference π*"]


def test_figures_open_by_keyboard_and_close_by_escape(page):
    page.run("document.querySelector('button.enlarge').focus()")
    page.run("document.activeElement.click()")
    assert page.run("document.getElementById('enlarged').open")
    assert page.run("document.querySelector('#enlarged img').src === document.querySelector('button.enlarge img').src")
    page.press("Escape")
    assert not page.run("document.getElementById('enlarged').open")


@pytest.mark.parametrize("name", ["run", "solve"])
def test_a_phone_shows_it_without_scrolling_sideways(opened, name):
    opened.size(360, 740)
    opened.open(opened.reports[name])
    assert opened.run("document.documentElement.scrollWidth") <= 360
    assert (
        opened.run("Math.max(...[...document.querySelectorAll('canvas, img, select, input')].map((e) => e.getBoundingClientRect().right))")
        <= 360
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(opened, scheme):
    opened.size(1280, 900, scheme)
    opened.open(opened.reports["run"])
    assert opened.run(CONTRAST) >= 4.5


@pytest.mark.parametrize(("width", "media"), [(1280, ""), (690, "print")])
def test_no_table_is_cut_off(page, width, media):
    """On a desk, and on paper (Letter less its margins), where nobody can scroll."""
    page.size(width, 900)
    page.media(media)
    edge = lambda e: f"{e}.getBoundingClientRect().right"
    room = page.run(f"[...document.querySelectorAll('.box')].map((b) => {edge('b')} - {edge('b.firstChild')})")
    page.media("")
    assert len(room) > 5
    assert min(room) >= -1


def test_it_prints_pages_without_controls(page):
    assert page.print().startswith(b"%PDF-")
    page.media("print")
    hidden = "['nav', '.controls', '#readout', 'dialog'].map((s) => getComputedStyle(document.querySelector(s)).display)"
    assert set(page.run(hidden)) == {"none"}
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.media("")
