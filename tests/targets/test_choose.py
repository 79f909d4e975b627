"""One function says what kernels take, and what is taken follows from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qcompiler.errors import UnsupportedModel
from qcompiler.ir.codes import Codes
from qcompiler.ir.storage import Buffer, Halo
from qcompiler.lowering.common_storage import CommonStorage
from qcompiler.lowering.forms import of_buffer
from qcompiler.lowering.module import planned
from qcompiler.targets import arm, choose, x86
from qcompiler.targets.choose import chosen
from qcompiler.targets.problem import Conv2d, Operation, Problem
from qcompiler.targets.target import Kernel, Variant
from qcompiler.targets.tuned import Tuned, problem_key
from qcompiler.targets.vector.host import HOST
from tests.lowering.interpreter import canonical

VARIANTS = [*x86.TARGET.variants(()), *arm.TARGET.variants(())]
LAYER = Conv2d(
    Buffer(1, 7, 9, 64, "float32", halo=Halo(1, 1, 1, 1)), 40, (3, 3), pads=(1, 1, 1, 1),
    epilogue=(Operation("store", into=Buffer(1, 7, 9, 40, "float32")),),
)  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_the_cheapest_estimate_wins_and_a_measurement_may_overrule_it(
    variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = variant.kernels(LAYER)
    assert len(offered) > 3
    choice = chosen(variant, LAYER)
    assert choice is not None and choice.kernel == offered[0] and choice.nanoseconds == offered[0].cost
    measured = {offered[2]: 1.5, offered[1]: 2.0}
    monkeypatch.setattr(choose, "nanoseconds", lambda variant, problem, kernel: measured.get(kernel, kernel.cost))
    overruled = chosen(variant, LAYER)
    assert overruled is not None and (overruled.kernel, overruled.nanoseconds) == (offered[2], 1.5)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_of_kernels_that_were_measured_for_the_problem_the_fastest_wins(variant: Variant) -> None:
    key, offered = (variant.name, problem_key(LAYER)), variant.kernels(LAYER)
    slow = 1e3 * offered[0].cost
    tuned = Tuned({key: {offered[2].name: slow, offered[1].name: slow + 1, "kernel_of_old": 1.0}})
    choice = chosen(variant, LAYER, tuned)
    assert choice is not None and (choice.kernel, choice.nanoseconds) == (offered[2], slow)
    assert tuned.strangers == {"kernel_of_old"}
    other = replace(LAYER, out_channels=41)
    assert chosen(variant, other, tuned) == chosen(variant, other)


TEXT = """<ir_version: 10, opset_import: ["" : 21, "qcompiler" : 1]>
g (float[1,64,7,9] x) => (float[1,40,7,9] y) {
    r = Round (x)
    c = Clip (r, low, high)
    y = qcompiler.IntegerConv <kernel_shape = [3, 3], strides = [1, 1], pads = [1, 1, 1, 1], dilations = [1, 1],
                               group = 1> (c, w)
}"""
CONSTANTS = {
    "low": np.float32(0),
    "high": np.float32(3),
    "w": np.random.default_rng(1).integers(-1, 2, (40, 64, 3, 3)).astype(np.float32),
}


@pytest.mark.parametrize("faster", ["planes", "float"])
def test_storage_follows_what_kernels_take(faster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(variant: Variant, problem: Problem, kernel: Kernel) -> float:
        return 1.0 if kernel.name.startswith(faster) else 2.0

    monkeypatch.setattr(choose, "nanoseconds", measured)
    graph = canonical(TEXT, CONSTANTS).graph
    _, works = planned(graph, CommonStorage(x86.TARGET.variants(("avx2", "baseline"))), HOST)
    (layer,) = (work for work in works if work.op == "IntegerConv")
    assert layer.problem.x.packed == (faster == "planes")
    assert layer.problem.x.halo == Halo(1, 1, 1, 1)


def test_a_storage_must_be_read_by_all_variants_of_a_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = x86.TARGET.variants(("avx2", "baseline"))
    floats = of_buffer(Buffer(1, 7, 9, 64, "float32"), matrix=False)
    node = next(node for node in canonical(TEXT, CONSTANTS).graph if node.op_type == "IntegerConv")
    both = type(first).operands

    def only_floats(variant: Variant, layer: Conv2d, codes: Codes | None) -> tuple[Buffer, ...]:
        return tuple(buffer for buffer in both(variant, layer, codes) if variant != second or not buffer.packed)

    monkeypatch.setattr(choose, "nanoseconds", lambda variant, problem, kernel: 1.0)
    assert CommonStorage((first, second)).operand(node, floats, Codes(0, 3)).is_packed
    monkeypatch.setattr(type(first), "operands", only_floats)
    assert CommonStorage((first,)).operand(node, floats, Codes(0, 3)).is_packed
    assert not CommonStorage((first, second)).operand(node, floats, Codes(0, 3)).is_packed
    monkeypatch.setattr(
        type(first),
        "operands",
        lambda variant, *asked: [b for b in both(variant, *asked) if b.packed == (variant == first)],
    )
    with pytest.raises(UnsupportedModel, match="variants avx2, baseline read the input of IntegerConv in no storage"):
        CommonStorage((first, second)).operand(node, floats, Codes(0, 3))
