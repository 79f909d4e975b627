"""Random networks against onnxruntime; a failure shrinks, and its message is the smallest network."""

from __future__ import annotations

import onnx.printer
import pytest
from hypothesis import Phase, note

from tests.fuzz import judge, planted, sweep
from tests.fuzz.case import case_of
from tests.fuzz.net import Network
from tests.targets.emulated import missing

SEED = 0
# of sweep.BATCH networks
ALWAYS, ALL = 2, 40
MISSING = ", ".join(filter(None, map(missing, ("aarch64", "arm"))))


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    judge.warm_up()


@pytest.mark.parametrize(
    "batch", [pytest.param(batch, marks=[] if batch < ALWAYS else pytest.mark.slow) for batch in range(ALL)]
)
def test_random_networks_are_equal(batch: int) -> None:
    sweep.drawn(_check, SEED, batch, (Phase.generate, Phase.shrink))


@pytest.mark.skipif(bool(MISSING), reason=f"missing Debian packages: {MISSING}")
@pytest.mark.parametrize(("batch", "every"), [(0, 6), *(pytest.param(n, 1, marks=pytest.mark.slow) for n in (1, 2))])
def test_random_networks_are_equal_on_arm(batch: int, every: int) -> None:
    records = sweep.run_batch(SEED, batch, target="arm", every=every)
    assert records and not [record for record in records if record["kind"] not in judge.RIGHT]


@pytest.mark.parametrize("name", planted.FAULTS)
def test_a_fault_can_be_planted(name: str) -> None:
    """What it replaces is still there."""
    with planted.FAULTS[name]():
        pass


@pytest.mark.slow
@pytest.mark.parametrize("name", planted.FAULTS)
def test_a_planted_fault_is_found(name: str) -> None:
    drawn, how = planted.networks_until_found(planted.FAULTS[name], planted.target_of(name))
    assert drawn < planted.MOST, how


def _check(network: Network) -> None:
    outcome = judge.judge(case_of(network), sweep.variant_of(sweep.digest_of(network)))
    note(onnx.printer.to_text(network.model))
    assert outcome.kind in judge.RIGHT, f"{outcome.kind}: {outcome.reason} {outcome.detail}"
