"""The functions of a variant in parts: together they are all of them, whatever the size of a part."""

from __future__ import annotations

from pathlib import Path

import pytest

import qcompiler
from qcompiler import passes, targets
from qcompiler.bundle.toolchain import toolchain_for
from qcompiler.frontend import canonicalize
from qcompiler.ir.program import Program
from qcompiler.lowering import kernel_table
from qcompiler.lowering.module import lower
from qcompiler.passes.runner import run_passes
from tests.networks import lenet


def program(folder: Path) -> Program:
    graph = canonicalize(lenet(folder / "lenet.onnx"), {})
    run_passes(graph, passes.DEFAULT)
    return lower(graph, "x86", targets.get("x86").variants(("avx2", "baseline")), "lenet")


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_every_function_is_in_one_object(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_table, "PART", size)
    chain = toolchain_for("x86_64")
    for variant in program(tmp_path).variants:
        found = []
        for number, code in enumerate(variant.objects):
            (tmp_path / f"{number}.o").write_bytes(code)
            # beside conversions of float16, which may be in several objects
            symbols = [each for each in chain.symbols(f"{number}.o", tmp_path) if each.defined and not each.weak]
            found.append([each.name for each in symbols])
        wanted = {call.symbol for call in variant.calls}
        assert sorted(name for names in found for name in names) == sorted(wanted)
        assert len(found) == -(-len(wanted) // size) and max(map(len, found)) <= size


def test_a_bundle_of_many_objects_computes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_table, "PART", 1)
    bundle = qcompiler.compile(lenet(tmp_path / "lenet.onnx"), output=tmp_path / "out", mcpu=("avx2", "baseline"))
    assert len(bundle.steps) > 4


def test_objects_do_not_depend_on_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_table, "PART", 2)
    many = program(tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    assert program(tmp_path).variants == many.variants
