"""The page of the camera: opened from its file, with a camera that the browser makes up, and with pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

import qcompiler
from examples.camera.make import text_of
from qcompiler.errors import UsageError
from qcompiler.ir.pixels import Pixels
from tests.examples.test_draw import make, run_of
from tests.networks import binary_cnn
from tests.targets.in_node import missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

RGB = Pixels((120.0, 110.0, 100.0), (1 / 60, 1 / 61, 1 / 62), "nchw")
CLASSES = 5


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What qtrain leaves of a network on colour pictures of 8x8, and names of its classes."""
    folder = tmp_path_factory.mktemp("camera")
    run = run_of(binary_cnn(folder / "cnn.onnx"), folder / "run", RGB)
    (run / "names.txt").write_text("".join(f"<b>thing {index}\n" for index in range(CLASSES)))
    done = make(str(run), "--labels", str(run / "names.txt"), "-o", str(run / "camera.html"), example="camera")
    assert re.fullmatch(r"wrote .*camera\.html \(\d+ KiB\): open it in a browser\n", done.stdout), done.stderr
    return run


@pytest.fixture
def opened(browser: Browser, trained: Path) -> Iterator[Page]:
    """The page as a telephone shows it, from its file; it meets no error and fetches nothing else."""
    context = browser.new_context(viewport={"width": 390, "height": 800})
    shown = context.new_page()
    noticed: list[str] = []
    shown.on("console", lambda message: noticed.append(message.text))
    shown.on("pageerror", lambda error: noticed.append(str(error)))
    shown.on("request", lambda request: noticed.append(request.url))
    address = (trained / "camera.html").as_uri()
    shown.goto(address)
    shown.locator("html[data-ready]").wait_for()
    yield shown
    context.close()
    assert [url for url in noticed if not url.startswith("blob:")] == [address]


def names(shown: Page) -> list[str]:
    return shown.locator(".name").all_inner_texts()


def test_what_the_camera_sees_is_named_again_and_again(opened: Page) -> None:
    opened.locator("#start").click()
    opened.locator(".class").first.wait_for()
    assert len(names(opened)) == 5 and all(re.fullmatch(r"<b>thing \d", name) for name in names(opened))
    facts = opened.locator("#facts").inner_text()
    assert re.fullmatch(r".* weights.*: [\d.]+ µs a picture, \d+ KiB with code \(simd128\)", facts)
    assert ": 0.0 µs" not in facts
    # the made-up camera moves; the canvas follows it
    seen = opened.evaluate("document.getElementById('canvas').toDataURL()")
    opened.wait_for_function("(seen) => document.getElementById('canvas').toDataURL() !== seen", arg=seen)
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390, "nothing hangs over the edge"


def test_a_picture_gets_the_class_that_python_gives(opened: Page, trained: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    opened.locator("#file").set_input_files(tmp_path / "picture.png")
    opened.locator(".class").first.wait_for()
    bundle = qcompiler.load(trained / "model.qc")
    mean, scale = (np.reshape(each, (3, 1, 1)) for each in (RGB.mean, RGB.scale))
    image = ((pixels.transpose(2, 0, 1) - mean) * scale).astype(np.float32)[None]
    (scores,) = bundle.run({bundle.inputs[0].name: image}).values()
    order = np.argsort(-scores.reshape(-1), kind="stable")[:5]
    assert names(opened) == [f"<b>thing {index}" for index in order]


def test_what_is_no_picture_is_said(opened: Page, tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    opened.locator("#file").set_input_files(tmp_path / "cut.png")
    opened.locator("#failure:not([hidden])").wait_for()
    assert opened.locator("#failure").inner_text() == "This file is no picture that the browser reads."
    assert names(opened) == []


def test_a_page_without_a_camera_says_so(browser: Browser, trained: Path) -> None:
    shown = browser.new_page()
    shown.add_init_script("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })")
    shown.goto((trained / "camera.html").as_uri())
    shown.locator("html[data-ready]").wait_for()
    shown.locator("#start").click()
    shown.locator("#failure:not([hidden])").wait_for()
    said = "No camera: the browser gives no camera to this page: open it from a file or by https"
    assert shown.locator("#failure").inner_text() == said
    shown.close()


def test_labels_must_be_as_many_as_classes(trained: Path) -> None:
    with pytest.raises(UsageError, match=f"there are 1 labels, the network has {CLASSES} classes"):
        text_of(trained, ["one"])
