"""What tests of several kinds share."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell lets its background jobs ignore interrupts, which some tests send and processes of tests would inherit
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless browser, with a camera that shows a test picture to every page that asks."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("missing Debian package: chromium")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", *CAMERA])
        yield found
        found.close()
