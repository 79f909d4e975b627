"""What qrun does with an open bundle, on this machine and on a device."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from qcompiler.analysis.sizes import Constants
from qcompiler.bundle.load import Bundle, load
from qcompiler.bundle.remote import RemoteBundle
from qcompiler.bundle.write import write
from qcompiler.options import Run
from qcompiler.report import add_to, report
from qcompiler.roofline import Point, shares
from qcompiler.running import run
from tests import rpc
from tests.bundle import programs
from tests.page.test_content import data_of


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    program, folder = programs.tiny(), tmp_path_factory.mktemp("bundles") / "tiny"
    write(program, folder)
    return add_to(load(folder), report(program, Constants(0, 0)))


def test_a_page_with_times_measured_here(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(bundle, Run(profile=True, report=tmp_path / "page.html", threads=2, as_json=True))
    measured = data_of((tmp_path / "page.html").read_bytes())["measured"]
    threads = min(2, len(os.sched_getaffinity(0)))
    assert (measured["variant"], measured["threads"], measured["repeats"]) == (bundle.variant, threads, 50)
    shown = json.loads(capsys.readouterr().out)["profile"]["steps"]
    assert measured["seconds"] == [step["seconds"] for step in shown] and len(shown) == len(bundle.steps)
    # no memory is as slow or as fast
    assert [name for name, _ in measured["copies"]] == ["cached", "in memory"]
    assert all(1e8 < rate < 1e13 for _, rate in measured["copies"])


def test_a_page_with_times_of_a_device_has_no_memory_of_this_machine(bundle: Bundle, tmp_path: Path) -> None:
    with rpc.server(tmp_path / "log") as address:
        far = RemoteBundle(bundle.directory, address, rpc.KEY)
        run(far, Run(profile=True, report=tmp_path / "page.html"))
    measured = data_of((tmp_path / "page.html").read_bytes())["measured"]
    assert len(measured["seconds"]) == len(bundle.steps) and measured["copies"] == []


def test_steps_stand_against_the_limits_of_the_machine(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(bundle, Run(profile=True, plot=tmp_path / "roof.png"))
    with Image.open(tmp_path / "roof.png") as picture:
        assert picture.format == "PNG" and len(picture.convert("RGB").getcolors(2**16) or ()) > 10
    shown = capsys.readouterr().out
    assert "of limit" in shown and "%" in shown and f"wrote {tmp_path / 'roof.png'}" in shown


def test_a_limit_is_of_memory_or_of_the_best_of_a_kind() -> None:
    points = [
        Point("a", "w1a1", 1000, 10, 1e-6),
        Point("b", "w1a1", 1000, 10, 4e-6),
        Point("c", "float", 0, 2000, 4e-6),
    ]
    assert shares(points, [("cached", 1e9), ("in memory", 1e8)]) == ["100 %", "25 %", "50 %"]
    assert shares(points, ()) == ["100 %", "25 %", ""]
