"""Layers of 1 to 8 bits by 1 to 8 bits, and ternary ones, from file to outputs: the bits of onnxruntime's results."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler import passes
from qcompiler.frontend import canonicalize
from qcompiler.ir.view import is_quantized_op
from qcompiler.passes.runner import run_passes
from tests.end_to_end.width_layers import FOLLOWERS, FORMS, KINDS, TERNARY, WIDTHS, Layer, add, drawn
from tests.fuzz import judge
from tests.fuzz.case import Case, case_of
from tests.fuzz.net import Net
from tests.targets.emulated import missing

X86, AARCH64, ARMV7 = ",".join(judge.VARIANTS["x86"]), "i8mm,dotprod,generic", "armv7"
MISSING = ", ".join(filter(None, map(missing, ("aarch64", "arm"))))
PAIRS = [(w, a, signed) for w in (TERNARY, *WIDTHS) for a in WIDTHS for signed in (False, True)]
INTEGER = ("IntegerConv", "IntegerMatMul")
# layers in one file: most of the time of a compile is spent once
TOGETHER = 8
# of the sweep
SECONDS = float(os.environ.get("QCOMPILER_SWEEP_SECONDS", "300"))


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    judge.warm_up()


@st.composite
def some_layers(draw: st.DrawFn) -> list[Layer]:
    """A few layers, of which the simplest come first."""
    pairs = draw(st.lists(st.sampled_from(PAIRS), min_size=TOGETHER, max_size=TOGETHER))
    return [drawn(lambda options: draw(st.sampled_from(options)), *pair, draw(st.integers(0, 99))) for pair in pairs]


@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(some_layers())
def test_layers_of_all_widths_give_the_bits_of_onnxruntime(layers: list[Layer]) -> None:
    check(layers, X86)


@pytest.mark.skipif(bool(MISSING), reason=f"missing Debian packages: {MISSING}")
@pytest.mark.parametrize("variants", [AARCH64, ARMV7])
def test_layers_of_all_widths_on_arm(variants: str) -> None:
    chooser = random.Random(variants)
    check([some_layer(chooser, pair) for pair in chooser.sample(PAIRS, TOGETHER)], variants)


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 6])
def test_all_but_transposed_layers_are_on_integers(tmp_path: Path, every: int) -> None:
    chooser = random.Random(every)
    for pair in PAIRS[::every]:
        layer = replace(some_layer(chooser, pair), again=False)
        path = tmp_path / "layer.onnx"
        path.write_bytes(_case([layer]).model.SerializeToString())
        graph = canonicalize(path)
        run_passes(graph, passes.DEFAULT, check=False)
        assert any(is_quantized_op(node, *INTEGER) for node in graph.graph) != (layer.kind == "transposed"), layer


@pytest.mark.slow
@pytest.mark.parametrize(
    "variants",
    [X86, *(pytest.param(v, marks=pytest.mark.skipif(bool(MISSING), reason=MISSING)) for v in (AARCH64, ARMV7))],
)
def test_sweep(variants: str) -> None:
    """All pairs of widths in turn, in another order and with everything else drawn anew each time, until time is up."""
    chooser, covered, end = random.Random(0), Counter[str](), time.monotonic() + SECONDS
    pending: list[tuple[int, int, bool]] = []
    while time.monotonic() < end:
        if len(pending) < TOGETHER:
            pending += chooser.sample(PAIRS, len(PAIRS))
        pairs, pending = pending[:TOGETHER], pending[TOGETHER:]
        layers = [some_layer(chooser, pair) for pair in pairs]
        check(layers, variants)
        for layer in layers:
            covered.update(_features(layer))
    print(f"\n{variants}: {_table(covered)}")


def some_layer(chooser: random.Random, pair: tuple[int, int, bool]) -> Layer:
    return drawn(lambda options: chooser.choice(list(options)), *pair, chooser.randrange(2**32))


def check(layers: Sequence[Layer], variants: str) -> None:
    """Compile the layers in one file and compare; a failure is told of the first layer that fails alone."""
    outcome = judge.judge(_case(layers), variants, explain=False)
    if outcome.kind == "equal":
        return
    for layer in layers:
        alone = judge.judge(_case([layer]), variants)
        assert alone.kind == "equal", f"{layer}\n{alone.kind}: {alone.reason}\n{alone.detail}"
    pytest.fail(f"together, each of them alone is right: {outcome.kind}: {outcome.reason}\n{outcome.detail}")


def _case(layers: Sequence[Layer]) -> Case:
    net = Net(21, 0)
    for layer in layers:
        add(net, layer)
    return case_of(net.finish("layers"))


def _features(layer: Layer) -> list[str]:
    weights = "ternary" if layer.w == TERNARY else f"w{layer.w}"
    return ["layers", f"pair {weights}a{layer.a}{'s' if layer.signed else 'u'}", layer.form, layer.kind, layer.follower]


def _table(covered: Counter[str]) -> str:
    pairs = [name for name in covered if name.startswith("pair ")]
    others = ", ".join(f"{name} {covered[name]}" for name in (*FORMS, *KINDS, *FOLLOWERS))
    return f"{covered['layers']} layers, {len(pairs)} of {len(PAIRS)} pairs of widths; {others}"
