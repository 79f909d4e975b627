"""Random networks against onnxruntime."""

from __future__ import annotations

import pytest

from tests.fuzz import judge, sweep

SEED = 0


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(8))
def test_random_networks_are_equal(batch: int) -> None:
    judge.warm_up()
    records = sweep.run_batch(SEED, batch)
    assert len(records) > sweep.BATCH // 2
    assert [record for record in records if record["kind"] not in ("equal", "refused")] == []
