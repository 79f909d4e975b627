"""TVM's passes that are left out change no code."""

from __future__ import annotations

import pytest

from qcompiler.ir.codes import Codes
from qcompiler.targets import arm, x86
from qcompiler.targets.target import Variant
from qcompiler.targets.vector import host
from tests.targets import test_reductions as reductions
from tests.targets.test_properties import PROBLEMS

LAYERS = ("binary-odd", "binary-residual", "float-odd", "depthwise", "codes", "planes", "to-planes-odd", "byte-point")
VARIANTS: list[Variant] = [*x86.TARGET.variants(["avx2"]), *arm.TARGET.variants(["generic"])]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_code_is_the_same_without_them(variant: Variant, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = [*map(PROBLEMS.__getitem__, LAYERS), *[*reductions.LAYERS.values()][::6]]
    kernels = [kernel for problem in problems for kernel in variant.kernels(problem)[:1]]
    assert len(kernels) > 12
    functions = {f"kernel_{place}": kernel.build(f"kernel_{place}") for place, kernel in enumerate(kernels)}
    without = host.assembly_of(functions, variant.tvm_target)
    monkeypatch.setattr(host, "_IDLE_PASSES", ())
    assert host.assembly_of(functions, variant.tvm_target) == without


def test_one_that_changes_code_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    (variant,) = arm.TARGET.variants(["generic"])
    problem = reductions.layer(64, 48, 5, 6, 3, Codes(0, 3), Codes(-2, 1))
    functions = {"kernel": variant.kernels(problem)[0].build("kernel")}
    right = host.assembly_of(functions, variant.tvm_target)
    monkeypatch.setattr(host, "_IDLE_PASSES", (*host._IDLE_PASSES, "tirx.NarrowDataType", "tirx.StmtSimplify"))
    assert host.assembly_of(functions, variant.tvm_target) != right
