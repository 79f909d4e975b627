"""Blocks of real networks, float and binary, through both of torch's exporters."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architectures import trial
from tests.architectures.catalogue import BLOCKS

# few enough for every run, and chosen so that they differ: joins, gates, matrix products of values
ALWAYS = (("densenet", True, "torchscript"), ("squeeze_excite", False, "torchscript"), ("tcn", True, "dynamo"))

ALL = [(name, binary, exporter) for name in BLOCKS for binary in (False, True) for exporter in trial.EXPORTERS]


def cases() -> list[object]:
    return [pytest.param(*case, marks=() if case in ALWAYS else pytest.mark.slow) for case in ALL]


@pytest.mark.parametrize(("name", "binary", "exporter"), cases())
def test_block_is_right(name: str, binary: bool, exporter: str, tmp_path: Path) -> None:
    done = trial.run(name, binary, exporter, tmp_path)
    assert done.from_onnxruntime <= 1e-4
    assert done.from_torch <= 1e-3
    assert done.verification.ties == 0
