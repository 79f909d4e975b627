"""What qrun does with an open bundle, on this machine and on a device."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qcompiler.analysis.sizes import Constants
from qcompiler.bundle.load import Bundle, load
from qcompiler.bundle.remote import RemoteBundle
from qcompiler.bundle.write import write
from qcompiler.options import Run
from qcompiler.report import add_to, report
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
    assert (measured["variant"], measured["threads"], measured["repeats"]) == (bundle.variant, 2, 50)
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
