"""Which kernels are timed for the table, and that what it makes of them chooses what was fastest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import costs, kernel_times
from benchmarks.choice import choice
from benchmarks.kernel_times import KernelTimes
from benchmarks.layers import SHAPES, Offer, Shape, layers_with, offered, signed, unsigned
from qcompiler.errors import QCompilerError
from qcompiler.targets.measured import Ratios, Tiles, family_and_tile, shipped
from qcompiler.targets.target import Variant
from qcompiler.targets.x86 import TARGET
from qcompiler.targets.x86.machine import GHZ

Tables = Mapping[str, Mapping[str, Tiles]]
(NATIVE,) = TARGET.variants(["znver4"])
MEASURED = [variant for variant in TARGET.variants(()) if variant.name in shipped().table]
BYTES = (signed(8), unsigned(8))
SOME = [(SHAPES[5], BYTES), (SHAPES[5], (signed(2), unsigned(2))), (Shape(384, (13, 13), 160), BYTES)]


def true_ratio(name: str) -> float:
    """Of a kernel on a machine that is made up: none is as estimated."""
    return 0.6 + hashlib.sha256(name.encode()).digest()[0] / 255


def made_up(variant: Variant, offers: Sequence[Offer]) -> list[list[float]]:
    return [[each.kernel.cost * true_ratio(each.kernel.name)] * 3 for each in offers]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Times that are made up, and how many kernels were timed at once."""
    counts = list[int]()

    def timed(variant: Variant, offers: Sequence[Offer]) -> list[list[float]]:
        counts.append(len(offers))
        return made_up(variant, offers)

    monkeypatch.setattr(kernel_times, "timed", timed)
    monkeypatch.setattr(costs, "clock_ghz", lambda: GHZ)
    return counts


def silent() -> Console:
    return Console(quiet=True)


def test_layers_store_codes_as_they_read_them_and_rows_floats() -> None:
    for shape, widths in layers_with([""]):
        for each in offered(NATIVE, shape, widths):
            problem = each.problem
            into = problem.epilogue[-1].into
            assert into is not None
            if problem.out_hw[0] * problem.out_hw[1] < 16:
                assert into.codes is None
            else:
                read = problem.x.packing if problem.x.codes else "bytes"
                assert into.codes == widths[1] and into.packing == ("planes" if read == "pixels" else read)


def test_a_kernel_runs_as_it_is_timed() -> None:
    """With real thresholds and scales."""
    for widths in ((signed(2), unsigned(2)), BYTES):
        offers = offered(NATIVE, Shape(16, (5, 5), 16, 3), widths)[:2]
        if all(feature.name in Path("/proc/cpuinfo").read_text().split() for feature in NATIVE.features):
            assert all(time > 0 for rounds in kernel_times.timed(NATIVE, offers) for time in rounds)


def test_at_first_the_best_of_each_family_are_timed_but_for_hopeless_ones() -> None:
    offers = offered(NATIVE, *SOME[0])
    asked = costs.starting(offers, {})
    families = [family_and_tile(each.kernel.name)[0] for each in asked]
    # eight by eight planes of bits take a dozen times as long
    assert families == ["bytes_conv2d_vnni_w8"] * costs.STARTING
    assert any(each.kernel.name.startswith("planes") for each in offers)
    assert [each.kernel.cost for each in asked] == sorted(each.kernel.cost for each in offers)[: costs.STARTING]
    known = {costs.place_of(asked[0]): [1.0]}
    assert costs.starting(offers, known) == asked[1:]


def test_what_may_be_the_best_is_timed_until_the_best_is_known(quick: list[int], tmp_path: Path) -> None:
    found = costs.measured(NATIVE, SOME, KernelTimes(tmp_path / "times.jsonl"), silent())
    table = Ratios({NATIVE.name: found})
    for shape, widths in SOME:
        offers = offered(NATIVE, shape, widths)
        taken = choice(NATIVE, table, offers)
        known = [each for each in offers if _is_measured(found, each)]
        took = {each: each.kernel.cost * true_ratio(each.kernel.name) for each in known}
        assert taken in took and took[taken] <= 1.002 * min(took.values())
    assert sum(quick) < sum(len(offered(NATIVE, *layer)) for layer in SOME) / 2


@pytest.mark.usefixtures("quick")
def test_a_slower_clock_makes_no_kernel_slower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside those that are not measured, whose estimates are for one clock."""
    usual = costs.measured(NATIVE, SOME, KernelTimes(tmp_path / "times.jsonl"), silent())
    timed, slow = kernel_times.timed, 0.8
    monkeypatch.setattr(costs, "clock_ghz", lambda: slow * GHZ)
    monkeypatch.setattr(
        kernel_times, "timed", lambda *asked: [[time / slow for time in rounds] for rounds in timed(*asked)]
    )
    assert costs.measured(NATIVE, SOME, KernelTimes(tmp_path / "slow.jsonl"), silent()) == usual


def test_a_run_that_was_stopped_goes_on_and_the_table_is_written_at_the_end(
    quick: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "table.json"
    before = {
        "machine": "one",
        "ratios": {"avx2": {"point": {}}, NATIVE.name: {"point": {"old": {"p1b1r": {"1.0": 1}}}}},
    }
    path.write_text(json.dumps(before))
    monkeypatch.setattr(costs, "write_atomically", _full_disk)
    with pytest.raises(QCompilerError):
        costs.measure([NATIVE], SOME, path, True, silent())
    assert json.loads(path.read_text()) == before and sum(quick) > 10
    monkeypatch.undo()
    monkeypatch.setattr(kernel_times, "timed", lambda variant, offers: [] if not offers else pytest.fail("timed again"))
    costs.measure([NATIVE], SOME, path, True, silent())
    after = json.loads(path.read_text())["ratios"]
    assert after["avx2"] == {"point": {}} and after[NATIVE.name]["point"].keys() >= {"bytes_conv2d_vnni_w8"}
    assert "old" not in after[NATIVE.name]["point"]
    assert [each.name for each in tmp_path.iterdir()] == ["table.json"]


def _full_disk(*arguments: object) -> None:
    raise QCompilerError("no space left")


def test_some_layers_leave_the_rest_of_a_table(quick: list[int], tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    tiles = {"p7b2c": {"8.0": 9.0, "11.0": 9.0}}
    path.write_text(json.dumps({"ratios": {NATIVE.name: {"point": {"bytes_conv2d_vnni_w8": tiles}}}}))
    costs.measure([NATIVE], SOME[:1], path, False, silent())
    kept = json.loads(path.read_text())["ratios"][NATIVE.name]["point"]["bytes_conv2d_vnni_w8"]["p7b2c"]
    assert kept["11.0"] == 9 and kept["8.0"] == pytest.approx(true_ratio("bytes_conv2d_vnni_w8_p7b2s2c"), abs=1e-3)


def test_times_of_another_machine_do_not_count(
    quick: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, offers = tmp_path / "times.jsonl", offered(NATIVE, *SOME[0])[:3]
    KernelTimes(path).of(NATIVE, *SOME[0], offers)
    assert KernelTimes(path).of(NATIVE, *SOME[0], offers) and len(KernelTimes(path)) == 3
    assert quick == [3, 0]
    monkeypatch.setattr(kernel_times, "here", lambda: "x86_64/other")
    assert len(KernelTimes(path)) == 0


# of which fewer blocks lie side by side than when processors with AVX-512 were measured
WAITING = Shape(1152, (1, 1), 336)


@pytest.mark.parametrize("variant", MEASURED, ids=lambda variant: variant.name)
def test_what_the_shipped_table_chooses_for_its_layers_was_measured_and_was_the_fastest(variant: Variant) -> None:
    """As a tile was not that had been measured on other layers alone: 71 µs instead of 63 for 1x1 layers of 256."""
    table, known = shipped(), shipped().table[variant.name]
    for shape, widths in layers_with([""]):
        offers = offered(variant, shape, widths)
        taken = choice(variant, table, offers)
        kind, family, tile, size = costs.place_of(taken)
        if family not in known.get(kind, {}):
            continue
        if shape == WAITING and variant.isa.vector_bytes == 64 and family.startswith("bytes_conv2d"):
            continue
        assert size in known[kind][family].get(tile, {}), f"{shape} {widths}: measure it (benchmarks.costs --layers)"
        took = [_time(known, each) for each in offers if _is_measured(known, each)]
        assert _time(known, taken) <= 1.01 * min(took)


def _is_measured(known: Tables, offer: Offer) -> bool:
    kind, family, tile, size = costs.place_of(offer)
    return size in known.get(kind, {}).get(family, {}).get(tile, {})


def _time(known: Tables, offer: Offer) -> float:
    kind, family, tile, size = costs.place_of(offer)
    return float(known[kind][family][tile][size]) * offer.kernel.cost
