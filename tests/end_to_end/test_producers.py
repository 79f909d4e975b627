"""Files of many producers: compiled, verified, on integers as far as can be, equal to the producer's own result."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.producers.cases import PAGE, Case, cases, check

ALL = {case.name: case for case in cases()}
FEW = (
    "brevitas_concat_two_scales_qcdq",
    "brevitas_mlp_w5a6_signed_qonnxdyn",
    "torch_small_qat_3_dyn",
    "DoReFa w2a2",
    "PACT and SAWB w4a4",
    "QONNX Quant, zero points",
    "FINN streamlined",
    "NNCF, 256 levels around 0",
    "image normalised inside, per colour",
)


@pytest.mark.parametrize("name", FEW)
def test_a_few(tmp_path: Path, name: str) -> None:
    check(ALL[name], tmp_path, ("avx2",))


@pytest.mark.slow
@pytest.mark.parametrize("case", ALL.values(), ids=ALL)
def test_all_on_every_variant(tmp_path: Path, case: Case) -> None:
    check(case, tmp_path)


def test_the_page_lists_them() -> None:
    text = PAGE.read_text()
    assert len(ALL) >= 40
    rows = [f"| {case.producer} | {case.idiom} | {case.integers} of {case.layers} |" for case in ALL.values()]
    assert all(row in text for row in rows)
