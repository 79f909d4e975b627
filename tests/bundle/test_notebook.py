"""A bundle shows itself in a notebook: its facts as text, and its report as a page of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from playwright.sync_api import Browser

from qcompiler.bundle.load import Bundle, load
from qcompiler.bundle.notebook import as_html
from tests.page import networks


def test_a_prompt_shows_one_line(bundle: Bundle, pristine: Path) -> None:
    takes = "'features/x:0' float32 [1, 40, 3, 5], 'bias' float32 [40]"
    gives = "'scores/out:0' float32 [1, 40], 'count' int64 [1]"
    assert repr(bundle) == f"<Bundle tiny in '{pristine}' for x86: {takes} -> {gives}>"


def test_a_notebook_shows_facts_and_the_report(browser: Browser, pristine: Path, tmp_path: Path) -> None:
    """In the report's own frame its scripts run; the notebook's page is out of their reach."""
    bundle = load(pristine)
    report = networks.written(tmp_path, networks.program(6)).read_bytes()
    page = browser.new_page()
    noticed: list[str] = []
    page.on("console", lambda message: noticed.append(message.text))
    page.on("pageerror", lambda error: noticed.append(str(error)))
    name = "<script>document.title = 'reached'</script>"
    (taken, *rest) = bundle.manifest.inputs
    manifest = replace(bundle.manifest, inputs=(replace(taken, name=name), *rest))
    page.set_content(f"<title>notebook</title>{as_html(manifest, '/nets/tiny.qc', report)}")
    frame = page.frame_locator("iframe")
    frame.locator("html[data-ready]").wait_for()
    assert frame.locator("#graph .node").count() == 8
    assert name in page.locator("table").inner_text() and "/nets/tiny.qc" in page.locator("table").inner_text()
    assert page.title() == "notebook"
    frame.locator("#node-s3 rect.body").click()
    assert "layer/3/Conv" in frame.locator("#facts").inner_text()
    page.close()
    assert noticed == []


def test_a_report_that_is_hidden_at_first(browser: Browser, pristine: Path, tmp_path: Path) -> None:
    """As in a folded cell or a tab behind another, and in a frame whose scripts run before it is laid out."""
    report = networks.written(tmp_path, networks.program(6)).read_bytes()
    page = browser.new_page()
    page.set_content(f"<div hidden>{as_html(load(pristine).manifest, '', report)}</div>")
    frame = page.frame_locator("iframe")
    frame.locator("html[data-ready]").wait_for(state="attached")
    page.evaluate("document.querySelector('div').hidden = false")
    body = frame.locator("#node-s3 rect.body")
    body.click()
    shown = body.bounding_box()
    assert shown is not None and shown["width"] > 50, "large enough to be read"
    assert "layer/3/Conv" in frame.locator("#facts").inner_text()
    page.close()


def test_without_a_report_there_are_facts(bundle: Bundle) -> None:
    shown = bundle._repr_html_()
    assert "<th>network</th><td>tiny</td>" in shown and "avx2, plain" in shown
    assert "<iframe" not in as_html(bundle.manifest, "", b"")
