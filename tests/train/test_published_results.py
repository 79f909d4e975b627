"""The page of results is what its command makes of the logs beside it, and its rows keep what the recipes promise."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest

from qcompiler.train.record import Record, read_record
from qcompiler.train.results import TWINS, find_runs, results

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return [read_record(path) for path in find_runs([DOCS / "runs"])]


def test_the_page_is_up_to_date(records: list[Record]) -> None:
    assert results(records) == (DOCS / "results.md").read_text()


def test_recipes_reach_at_least_their_twins_in_the_same_epochs(records: list[Record]) -> None:
    runs: dict[str, list[Record]] = {}
    for record in records:
        if record.test is not None:
            runs.setdefault(record.name, []).append(record)
    pairs = [(runs[recipe], runs[twin]) for recipe, twin in TWINS.items() if recipe in runs and twin in runs]
    assert len(pairs) >= 7
    for mine, theirs in pairs:
        assert len({(each.epochs, each.data["sha256"]) for each in [*mine, *theirs]}) == 1, mine[0].name
        assert accuracy(mine) >= accuracy(theirs), mine[0].name


def accuracy(runs: list[Record]) -> float:
    return fmean(each.test or 0 for each in runs)
