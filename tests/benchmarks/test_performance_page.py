"""The page of speeds names the fastest peer that computes alike, and shares of limits."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from benchmarks.arena import Result, Settings
from benchmarks.machine import CEILINGS, Machine
from benchmarks.performance_page import latest, page, read
from benchmarks.table import write_json

MACHINE = Machine("a processor", 2, 2.0, {"w1a4": 200.0, "w8a8": 64.0})


def result(row: str, contestant: str, precision: str, median: float, **more: object) -> Result:
    return Result(row, 1, contestant, precision, "1.0", 1000, median=median, **more)


def cells(text: str, start: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(start)]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_of_few_bits_stands_beside_the_fastest_in_eight(tmp_path: Path) -> None:
    results = [
        result("conv64-w1a4", "qcompiler few bits", "few bits", 5e-6, kernel=4e-9),
        result("conv64-w1a4", "OpenVINO int8", "int8", 9e-6),
        result("conv64-w1a4", "LiteRT int8", "int8", 8e-6),
        result("conv64-w1a4", "OpenVINO float32", "float32", 1e-6),
        result("conv64-w1a4", "onnxruntime int8", "int8", 1e-6, failure="wrong output"),
    ]
    write_json(tmp_path / "results.json", MACHINE, Settings(), results)
    found, machine = read(tmp_path / "results.json")
    assert [asdict(each) for each in found] == [asdict(each) for each in results] and machine == MACHINE
    found = [
        each if not each.failure else Result("conv64-w1a4", 1, "onnxruntime int8", "int8", "1.0") for each in found
    ]
    line = cells(page(found, machine), "| conv 3x3, C64, 56x56, w1a4")
    assert line[1:] == ["few bits", "5.0", "125", "62%", "LiteRT int8", "8.0", "1.60"]


def test_reasons_are_of_the_processor() -> None:
    """What is said of a Zen 4 does not stand below the figures of another processor; plots are of the first alone."""
    texts = {
        name: page([result("conv64-w8a8", "qcompiler few bits", "few bits", 5e-6)], Machine("x", 2, 2.0, limits))
        for name, limits in [*CEILINGS.items(), ("another", {})]
    }
    said = {name: text.count("on Zen 4") - text.count("on Zen 3") for name, text in texts.items()}
    assert said == {"znver4": 1, "znver3": -1, "znver5": 0, "another": 0}
    assert [name for name, text in texts.items() if "pictures/speed.svg" in text] == ["znver4"]


def test_floats_stand_beside_floats_and_networks_apart() -> None:
    results = [
        result("network", "qcompiler float32", "float32", 3e-3),
        result("network", "OpenVINO int8", "int8", 1e-3),
        result("network", "OpenVINO float32", "float32", 6e-3),
    ]
    text = page(results, MACHINE)
    assert "## Networks, 1 thread" in text and "## Layers" not in text
    assert cells(text, "| 18 layers at 224x224")[1:] == [
        "float32", "3,000", "-", "-", "OpenVINO float32", "6,000", "2.00",
    ]  # fmt: skip


def test_rows_of_a_later_run_replace_earlier_ones() -> None:
    first = [result("network", "LiteRT int8", "int8", 1e-3), result("conv64", "LiteRT int8", "int8", 2e-3)]
    later = [result("network", "OpenVINO int8", "int8", 3e-3)]
    assert latest([first, later]) == [later[0], first[1]]
