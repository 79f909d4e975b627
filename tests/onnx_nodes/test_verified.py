"""Cases whose special samples onnxruntime and ONNX define otherwise, or not at all, verified as users' models are."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from tests.onnx_nodes.cases import all_cases
from tests.onnx_nodes.outcomes import Kind, outcome
from tests.onnx_nodes.workers import Workers

# data of zeros, sequences without elements, shut gates, 0/0, masks, and powers that are no integers
NAMES = [
    "dynamicquantizelinear",
    "lstm_with_peepholes",
    "gru_bidirectional",
    "mvn",
    "attention_4d_with_past_and_present_qk_matmul_bias_3d_mask_causal",
    "pow_types_int32_float32",
]


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    pool = Workers(partial(outcome, verify=True))
    with pool.open():
        yield pool


@pytest.mark.parametrize("name", NAMES)
def test_case(workers: Workers, name: str) -> None:
    found = workers.run(all_cases()[name])
    assert found.kind == Kind.PASS, found
