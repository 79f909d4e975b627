"""A case or two of every operator that compiles: what the run of all cases proves, in short."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.onnx_nodes.cases import all_cases
from tests.onnx_nodes.outcomes import Kind
from tests.onnx_nodes.workers import Workers

NAMES = Path(__file__).with_name("sample.txt").read_text().split()


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    pool = Workers()
    with pool.open():
        yield pool


@pytest.mark.parametrize("name", NAMES)
def test_case(workers: Workers, name: str) -> None:
    found = workers.run(all_cases()[name])
    assert found.kind == Kind.PASS, found
