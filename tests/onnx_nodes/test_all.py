"""Every case of the package: refusals in one line, and nothing wrong. About twenty minutes on two cores."""

from __future__ import annotations

import pytest

from tests.onnx_nodes.cases import all_cases
from tests.onnx_nodes.outcomes import FAULTS, Kind
from tests.onnx_nodes.workers import outcomes

MOST_NODES = 950


@pytest.mark.slow
def test_no_case_is_wrong_or_ends_in_somebody_elses_words() -> None:
    results = list(outcomes(list(all_cases().values()), workers=2))
    faults = [f"{case.name}: {found.kind}: {found.reason}" for case, found in results if found.kind in FAULTS]
    assert not faults, "\n".join(faults)
    passed = [case for case, found in results if found.kind == Kind.PASS and case.kind == "node"]
    assert len(passed) >= MOST_NODES
    refused = [found for _, found in results if found.kind not in (Kind.PASS, *FAULTS)]
    assert all(found.reason and "\n" not in found.reason for found in refused)
