"""The page in a browser: nothing fails, nothing is fetched, and a click shows what a step is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from qcompiler.page.content import MAX_STEPS
from tests.page import networks

Open = Callable[[Path], Page]


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    """Opens a page from its file, and looks at the end that it met no error and fetched nothing else."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    noticed: list[str] = []
    page.on("console", lambda message: noticed.append(message.text))
    page.on("pageerror", lambda error: noticed.append(str(error)))
    page.on("request", lambda request: noticed.append(request.url))
    page.on("dialog", lambda dialog: noticed.append(dialog.message))

    def opens(path: Path) -> Page:
        page.goto(path.as_uri())
        page.locator("html[data-ready]").wait_for()
        assert noticed.pop(0) == path.as_uri()
        return page

    yield opens
    page.close()
    assert noticed == []


def place(page: Page) -> tuple[float, float, float]:
    """Where the scene lies, and how large it is drawn."""
    transform = page.locator("#scene").get_attribute("transform") or ""
    x, y, scale = map(float, re.findall(r"-?[\d.]+(?:e-?\d+)?", transform))
    return x, y, scale


@pytest.mark.parametrize("steps", [1, 6, 200])
def test_a_click_shows_the_facts(opened: Open, tmp_path: Path, steps: int) -> None:
    page = opened(networks.written(tmp_path, networks.program(steps)))
    assert page.locator("#graph .node").count() == steps + 2
    assert page.locator("#graph .edge").count() == steps + 1 + max(0, (steps - 1) // 5)
    chosen = min(3, steps - 1)
    page.locator(f"#node-s{chosen} rect.body").click()
    facts = page.locator("#facts").inner_text()
    for fact in (f"layer/{chosen}/Conv", f"layer/{chosen}/Sign", "IntegerConv", "popcount_conv2d_p4", "2 KiB", "512 B"):
        assert fact in facts
    assert "[1, 64, 8, 8]: codes -1 to 1 in bit planes" in facts
    assert ("put a sign before it" in facts) == (chosen == 3)
    assert f"{100_000 * (1 + chosen):,}" in facts
    assert page.locator(f"#node-s{chosen}.chosen").count() == 1


def test_keys_choose_too(opened: Open, tmp_path: Path) -> None:
    page = opened(networks.written(tmp_path, networks.program(6)))
    page.locator("#node-s2").focus()
    page.keyboard.press("Enter")
    assert "layer/2/Conv" in page.locator("#facts h3").inner_text()


@pytest.mark.parametrize(
    "where", ["#times tr[data-step='2']", "#memory rect[data-step='2']", "#roofline circle >> nth=2"]
)
def test_every_plot_leads_to_the_step(opened: Open, tmp_path: Path, where: str) -> None:
    page = opened(networks.written(tmp_path, networks.program(6), networks.measured(6)))
    page.locator(where).click()
    shown = page.locator("#facts h3").inner_text().partition(":")[0]
    assert page.locator(f"#node-s{shown}.chosen").count() == 1
    assert "µs" in page.locator("#facts").inner_text()


def test_pan_and_zoom(opened: Open, tmp_path: Path) -> None:
    page = opened(networks.written(tmp_path, networks.program(200)))
    box, node = page.locator("#graph").bounding_box(), page.locator("#node-s1 rect.body").bounding_box()
    assert box is not None and node is not None
    x, y, scale = place(page)
    at_x, at_y = node["x"] + 60, node["y"] + 20
    page.mouse.move(at_x, at_y)
    page.mouse.wheel(0, -400)
    page.wait_for_function(f"!document.getElementById('scene').getAttribute('transform').endsWith('scale({scale:g})')")
    zoomed = place(page)
    assert zoomed[2] > 1.5 * scale
    # what lies under the pointer stays there
    left = at_x - box["x"]
    assert (left - zoomed[0]) / zoomed[2] == pytest.approx((left - x) / scale, abs=0.5)
    page.mouse.down()
    page.mouse.move(at_x + 60, at_y - 30)
    page.mouse.up()
    panned = place(page)
    assert panned == pytest.approx((zoomed[0] + 60, zoomed[1] - 30, zoomed[2]), abs=0.5)
    assert page.locator("#facts h3").count() == 0, "dragging is no click"
    page.locator("#fit").click()
    assert place(page)[2] < scale
    page.locator("#zoom-in").click()
    page.locator("#zoom-out").click()


def test_a_view_that_nobody_moved_follows_the_window(opened: Open, tmp_path: Path) -> None:
    page = opened(networks.written(tmp_path, networks.program(6)))
    before = place(page)

    def resize(width: int) -> None:
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")

    resize(500)
    assert place(page) != before
    box = page.locator("#graph").bounding_box()
    assert box is not None
    for node in page.locator("#graph rect.body").all():
        seen = node.bounding_box()
        assert seen is not None and box["x"] <= seen["x"] and seen["x"] + seen["width"] <= box["x"] + box["width"] + 1
    page.locator("#zoom-in").click()
    moved = place(page)
    resize(1400)
    assert place(page) == moved


def test_two_fingers_zoom(opened: Open, tmp_path: Path) -> None:
    page = opened(networks.written(tmp_path, networks.program(6)))
    _, _, scale = place(page)
    page.evaluate(
        """() => {
            const send = (kind, id, x) => document.getElementById("graph").dispatchEvent(
                new PointerEvent(kind, { pointerId: id, clientX: x, clientY: 300, bubbles: true }));
            send("pointerdown", 1, 300); send("pointerdown", 2, 400); send("pointermove", 2, 500);
        }"""
    )
    assert place(page)[2] == pytest.approx(2 * scale)


def test_names_are_text_and_nothing_else(opened: Open, tmp_path: Path) -> None:
    page = opened(networks.written(tmp_path, networks.program(3, networks.HOSTILE, networks.HOSTILE)))
    for index in range(3):
        page.locator(f"#node-s{index} rect.body").click()
        assert networks.HOSTILE in page.locator("#facts").inner_text()
    assert page.title() == "network: qcompiler report"
    assert page.locator("img").count() == 0 and page.evaluate("document.scripts.length") == 6


def test_no_script_but_the_pages_own_may_run(browser: Browser, tmp_path: Path) -> None:
    """Were a name ever parsed as HTML, the policy of the page would still keep it from running and from fetching."""
    page = browser.new_page()
    page.goto(networks.written(tmp_path, networks.program(1)).as_uri())
    page.evaluate("""() => { document.body.innerHTML = '<img src="file:///etc/passwd" onerror="document.title=1">' }""")
    page.evaluate("""() => { const s = document.createElement("script"); s.textContent = "document.title = 2";
                             document.body.append(s); }""")
    page.wait_for_timeout(100)
    assert page.title() == "network: qcompiler report"
    page.close()


def test_the_largest_page_is_drawn(opened: Open, tmp_path: Path) -> None:
    page = opened(networks.written(tmp_path, networks.program(MAX_STEPS + 100)))
    assert page.locator("#graph .node").count() == MAX_STEPS + 2
    assert f"the first {MAX_STEPS} are shown, report.json has all" in page.locator("#summary").inner_text()


def test_what_is_not_known_is_said(opened: Open, tmp_path: Path) -> None:
    path = networks.written(tmp_path, networks.program(2))
    text = path.read_text()
    assert "qrun BUNDLE --profile --report" in opened(path).locator("#times").inner_text()
    path.write_text(re.sub(r'"checks":\[.*?\]', '"checks":[]', text))
    assert "not verified" in opened(path).locator("#verification").inner_text()


def test_a_page_that_cannot_be_drawn_says_so(browser: Browser, tmp_path: Path) -> None:
    path = networks.written(tmp_path, networks.program(2))
    path.write_text(path.read_text().replace('"steps":[{', '"stages":[{'))
    page = browser.new_page()
    page.goto(path.as_uri())
    assert "report.txt of the bundle says the same" in page.locator("#failure").inner_text()
    page.close()


def test_on_a_telephone(browser: Browser, tmp_path: Path) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800}, has_touch=True)
    page.goto(networks.written(tmp_path, networks.program(20), networks.measured(20)).as_uri())
    page.locator("#node-s1 rect.body").tap()
    assert "layer/1/Conv" in page.locator("#facts h3").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing hangs over the edge"
    for row in ("#times tr[data-step='1']", "#verification tr"):
        box = page.locator(row).last.bounding_box()
        assert box is not None and box["height"] < 80, "names are not written letter under letter"
    page.close()


def test_in_the_dark(browser: Browser, tmp_path: Path) -> None:
    """Pale writing on dark paper, and dark writing in the boxes, which are pale."""
    page = browser.new_page(color_scheme="dark")
    page.goto(networks.written(tmp_path, networks.program(6), networks.measured(6)).as_uri())

    def light(selector: str, what: str) -> float:
        shown = page.locator(selector).first.evaluate(f"(element) => getComputedStyle(element).{what}")
        return sum(map(int, re.findall(r"\d+", shown)[:3])) / (3 * 255)

    assert light("section", "backgroundColor") < 0.2 < 0.8 < light("h2", "color")
    assert light(".plot text", "fill") > 0.6
    assert light("#graph .node rect.body", "fill") > 0.6 > 0.2 > light("#graph .node text", "fill")
    page.close()
