"""The page of results is what its command makes of the logs beside it."""

from __future__ import annotations

from pathlib import Path

from qcompiler.train.record import read_record
from qcompiler.train.results import find_runs, results

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_page_is_up_to_date() -> None:
    records = [read_record(path) for path in find_runs([DOCS / "runs"])]
    assert results(records) == (DOCS / "results.md").read_text()
