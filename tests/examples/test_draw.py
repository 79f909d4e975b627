"""The page on which digits are drawn: made of runs, opened from its file, drawn on by script."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

import qcompiler
from examples.draw.make import HERE, grey_pixels
from examples.webpage import page
from qcompiler.errors import UsageError
from qcompiler.ir.pixels import Pixels
from tests.networks import binary_cnn
from tests.targets.in_node import missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

ROOT = Path(__file__).resolve().parents[2]
# of pictures of 8x8, which the digits of scikit-learn are
PIXELS = Pixels((0.0,), (1 / 255,), "nchw")


def run_of(model: Path, folder: Path, pixels: Pixels | None = PIXELS) -> Path:
    """What qtrain --deploy leaves, as far as the page needs it."""
    folder.mkdir(parents=True)
    shutil.copyfile(model, folder / "model.onnx")
    qcompiler.compile(model, output=folder / "model.qc", mcpu=("baseline",), verify=False, pixels=pixels)
    return folder


def make(*arguments: str, example: str = "draw") -> subprocess.CompletedProcess[str]:
    command, path = (
        [sys.executable, "-m", f"examples.{example}.make", *arguments],
        {**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return subprocess.run(command, cwd=ROOT, env=path, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two networks, one twice."""
    folder = tmp_path_factory.mktemp("draw")
    run = run_of(ROOT / "examples" / "digits" / "model.onnx", folder / "</script><b>" / "seed0")
    done = make(str(run), str(run), "-o", str(folder / "draw.html"))
    assert re.fullmatch(r"wrote .*draw\.html \(\d+ KiB\): open it in a browser\n", done.stdout), done.stderr
    return folder / "draw.html"


@pytest.fixture
def opened(browser: Browser, drawing: Path) -> Iterator[Page]:
    """The page as a telephone shows it, from its file; it meets no error and fetches nothing else."""
    context = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True)
    shown = context.new_page()
    noticed: list[str] = []
    shown.on("console", lambda message: noticed.append(message.text))
    shown.on("pageerror", lambda error: noticed.append(str(error)))
    shown.on("request", lambda request: noticed.append(request.url))
    shown.goto(drawing.as_uri())
    shown.locator("html[data-ready]").wait_for()
    yield shown
    context.close()
    assert [url for url in noticed if not url.startswith("blob:")] == [drawing.as_uri()]


def stroke(shown: Page, points: list[tuple[float, float]]) -> None:
    """A line through points of the paper, in parts of its side."""
    box = shown.locator("#canvas").bounding_box()
    assert box is not None
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    shown.mouse.move(*at[0])
    shown.mouse.down()
    for point in at[1:]:
        shown.mouse.move(*point)
    shown.mouse.up()


CIRCLE = [(0.5 + 0.2 * math.sin(i / 4), 0.5 - 0.3 * math.cos(i / 4)) for i in range(27)]
LINE = [(0.5, 0.2 + i / 20) for i in range(13)]


def answers(shown: Page) -> list[str]:
    return shown.locator(".answer").all_inner_texts()


@pytest.mark.parametrize(("points", "digit"), [(CIRCLE, "0"), (LINE, "1")])
def test_a_drawn_digit_is_named_at_once(opened: Page, points: list[tuple[float, float]], digit: str) -> None:
    assert answers(opened) == ["", ""]
    stroke(opened, points)
    opened.wait_for_function("document.querySelector('.answer').textContent !== ''", timeout=1000)
    assert answers(opened) == [digit, digit]
    bars = opened.locator(".network").first.locator(".bar")
    widths = [float((bars.nth(i).get_attribute("style") or "").split(": ")[1].rstrip("%;")) for i in range(10)]
    assert np.argmax(widths) == int(digit) and sum(widths) == pytest.approx(100, abs=0.1)
    facts = opened.locator(".facts").first.inner_text()
    assert re.fullmatch(r"[\d.]+ µs a picture, \d+ KiB with code \(simd128\)", facts)


def test_the_class_comes_within_a_tenth_of_a_second(opened: Page) -> None:
    """Of the last movement, on the page's own clock; the best of a few, for other programs may take the processor."""
    stroke(opened, CIRCLE)
    measure = """() => new Promise((resolve) => {
        const canvas = document.getElementById("canvas"), box = canvas.getBoundingClientRect();
        document.getElementById("clear").click();
        const at = (x, y) => ({ clientX: box.left + x, clientY: box.top + y, pointerId: 1, bubbles: true });
        canvas.setPointerCapture = () => {};
        requestAnimationFrame(() => requestAnimationFrame(() => {
            const start = performance.now(), answer = document.querySelector(".answer");
            new MutationObserver(() => answer.textContent && resolve(performance.now() - start))
                .observe(answer, { childList: true });
            canvas.dispatchEvent(new PointerEvent("pointerdown", at(100, 60)));
            canvas.dispatchEvent(new PointerEvent("pointermove", at(100, 200)));
            canvas.dispatchEvent(new PointerEvent("pointerup", at(100, 200)));
        }));
    })"""
    assert min(opened.evaluate(measure) for _ in range(8)) < 100


def test_a_finger_draws_and_the_button_clears(opened: Page) -> None:
    box = opened.locator("#canvas").bounding_box()
    assert box is not None
    opened.touchscreen.tap(box["x"] + 100, box["y"] + 100)
    opened.wait_for_function("document.querySelector('.answer').textContent !== ''", timeout=1000)
    opened.locator("#clear").tap()
    opened.wait_for_function("document.querySelector('.answer').textContent === ''", timeout=1000)
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390, "nothing hangs over the edge"


def test_a_browser_without_webassembly_says_so(browser: Browser, drawing: Path) -> None:
    shown = browser.new_page()
    shown.add_init_script("delete globalThis.WebAssembly")
    shown.goto(drawing.as_uri())
    failure = shown.locator("#failure")
    failure.wait_for()
    assert failure.inner_text() == "This page cannot run here: the browser has no WebAssembly"
    shown.close()


def test_a_browser_without_vectors_takes_the_plain_module(browser: Browser, drawing: Path) -> None:
    shown = browser.new_page()
    shown.add_init_script("WebAssembly.validate = () => false")
    shown.goto(drawing.as_uri())
    shown.locator("html[data-ready]").wait_for()
    stroke(shown, LINE)
    shown.wait_for_function("document.querySelector('.answer').textContent === '1'", timeout=5000)
    assert shown.locator(".facts").first.inner_text().endswith("KiB with code (plain)")
    shown.close()


def test_the_page_is_small_and_runs_hold_no_markup(drawing: Path) -> None:
    text = drawing.read_text()
    assert len(text) < 400 * 1024
    assert "</script><b>" not in text


def test_other_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no model.onnx; name the directory of a run of qtrain with --deploy"):
        grey_pixels(tmp_path)
    run = run_of(binary_cnn(tmp_path / "cnn.onnx"), tmp_path / "cnn", Pixels((0.0,) * 3, (1.0,) * 3, "nchw"))
    with pytest.raises(UsageError, match="does not take grey pictures"):
        grey_pixels(run)
    drawn = tmp_path / "draw.html"
    done = make(str(tmp_path), "-o", str(drawn))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and not drawn.exists()
    assert page(HERE, []).startswith("<!doctype html>")
