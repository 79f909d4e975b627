"""The image classifiers that the package ships: compiled, verified, and compared with its stored outputs."""

from __future__ import annotations

from functools import partial

import pytest

from tests.onnx_nodes.cases import light_models
from tests.onnx_nodes.outcomes import Kind, outcome
from tests.onnx_nodes.workers import Workers


@pytest.mark.slow
@pytest.mark.parametrize("name", light_models())
def test_classifier(name: str) -> None:
    pool = Workers(partial(outcome, verify=True))
    with pool.open():
        found = pool.run(light_models()[name])
    assert found.kind == Kind.PASS, found
