"""Works that claim what is not so are found before any code is made: each test spoils one thing that was right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.errors import InternalError
from qcompiler.ir.storage import Halo
from qcompiler.lowering.check import check_offsets, check_works
from qcompiler.lowering.forms import of_buffer, plain
from qcompiler.lowering.memory import lifetimes, plan
from qcompiler.lowering.module import planned
from qcompiler.lowering.transfers import with_transfers
from qcompiler.lowering.work import External, GenericWork, KernelWork, Slot, Work, slots_of
from qcompiler.targets.problem import Conv2d
from qcompiler.targets.vector.host import HOST
from tests.lowering.interpreter import canonical, in_planes

CONV = "kernel_shape = [3, 3], strides = [1, 1], pads = [1, 1, 1, 1], dilations = [1, 1], group = 1"
POOL = "kernel_shape = [2, 2], strides = [2, 2], pads = [0, 0, 0, 0], dilations = [1, 1], ceil_mode = 0"

TEXT = f"""<ir_version: 10, opset_import: ["" : 21, "qcompiler" : 1]>
g (float[1, 3, 8, 8] x) => (float[1, 8, 4, 4] y, float[1, 16, 16] z) {{
    a = Conv <{CONV}> (x, w0)
    b = qcompiler.Binarize (a)
    c = qcompiler.IntegerConv <{CONV}> (b, w1)
    d = qcompiler.Threshold (c, t, s)
    e = qcompiler.IntegerMaxPool <{POOL}> (d, s)
    f = qcompiler.IntegerConv <{CONV}> (e, w1)
    h = Mul (f, k)
    i = Relu (a)
    j = Reshape (i, shape)
    z = MatMul (j, m)
    l = Exp (h)
    y = Add (l, h)
}}"""


def codes(*shape: int) -> np.ndarray:
    return np.where(np.random.default_rng(sum(shape)).random(shape) < 0.5, -1, 1).astype(np.float32)


CONSTANTS = {
    "w0": np.ones((8, 3, 3, 3), np.float32),
    "w1": codes(8, 8, 3, 3),
    "t": np.ones((1, 1, 8, 1, 1), np.float32),
    "s": np.ones((8, 1, 1), np.float32),
    "k": np.full((8, 1, 1), 0.5, np.float32),
    "m": np.ones((32, 16), np.float32),
    "shape": np.array([1, 16, 32]),
}


@pytest.fixture
def graph() -> ir.Graph:
    return canonical(TEXT, CONSTANTS).graph


def find(works: Sequence[Work], op: str, which: int = 0) -> int:
    return [index for index, work in enumerate(works) if work.op == op][which]


def spoiled(work: KernelWork, **changes: object) -> KernelWork:
    return replace(work, problem=replace(work.problem, **changes))


def swap_order(works: list[Work]) -> str:
    """An alias read in the layout that its consumer would like, as views of a flattened image once were."""
    index = find(works, "MatMul")
    work = works[index]
    (read,) = work.reads
    form = of_buffer(replace(plain(read.value, True).buffer, w=32, c=16), matrix=True)
    works[index] = replace(work, reads=(replace(read, form=form),))
    return "is taken for"


def another_value(works: list[Work]) -> str:
    index = find(works, "IntegerConv", 1)
    other = works[find(works, "IntegerConv")].reads[0]
    works[index] = replace(works[index], reads=(replace(works[index].reads[0], location=other.location),))
    return "where no step left it"


def halo_that_is_not_there(works: list[Work]) -> str:
    index = find(works, "IntegerConv", 1)
    work = works[index]
    buffer = replace(work.reads[0].form.buffer, halo=Halo(2, 2, 2, 2))
    read = replace(work.reads[0], form=of_buffer(buffer, matrix=False))
    works[index] = replace(spoiled(work, x=buffer), reads=(read,))
    return "which lies there as"


def no_halo(works: list[Work]) -> str:
    index = find(works, "IntegerMaxPool")
    pool, conv = works[index], works[find(works, "IntegerConv", 1)]
    bare = replace(pool.problem.into, halo=Halo())
    made = replace(pool.writes[0], form=of_buffer(bare, matrix=False), location=Slot(bare.nbytes))
    works[index] = replace(spoiled(pool, into=bare), writes=(made,))
    works[works.index(conv)] = replace(spoiled(conv, x=bare), reads=(made,))
    return "wider than the halo"


def wrong_border(works: list[Work]) -> str:
    index = find(works, "IntegerConv", 1)
    works[index] = spoiled(works[index], pad_value=1.0)
    return "read from a halo of -1"


def other_groups(works: list[Work]) -> str:
    """A pool that writes groups which it does not read."""
    index = find(works, "IntegerMaxPool")
    pool = works[index]
    into = replace(pool.problem.into, groups=2)
    made = replace(pool.writes[0], form=of_buffer(into, matrix=False), location=Slot(into.nbytes))
    works[index] = replace(spoiled(pool, into=into), writes=(made,))
    return "pools codes in 1 groups into 2"


def too_large(works: list[Work]) -> str:
    """A function whose output is larger than its place, as a wrongly broadcast one was."""
    index = next(i for i, work in enumerate(works) if isinstance(work, GenericWork))
    call = works[index].call
    works[index] = replace(works[index], call=replace(call, output_bytes=tuple(16 * n for n in call.output_bytes)))
    return "into a place of"


def small_slot(works: list[Work]) -> str:
    index = find(works, "IntegerMaxPool")
    (made,) = works[index].writes
    works[index] = replace(works[index], writes=(replace(made, location=Slot(made.form.nbytes - 64)),))
    return "into a place of"


def store_of_another_shape(works: list[Work]) -> str:
    index = find(works, "IntegerMaxPool")
    works[index] = spoiled(works[index], out_hw=(3, 3))
    return r"it computes \(1, 3, 3, 8\)"


def problem_of_other_memory(works: list[Work]) -> str:
    index = find(works, "IntegerConv", 1)
    works[index] = spoiled(works[index], x=replace(works[index].problem.x, halo=Halo(1, 1, 1, 2)))
    return "its problem reads"


def weights_of_another_shape(works: list[Work]) -> str:
    index = find(works, "IntegerConv", 1)
    constants = works[index].constants
    works[index] = replace(works[index], constants=replace(constants, weights=constants.weights[:, :4]))
    return "its weights are not of shape"


def constants_of_other_channels(works: list[Work]) -> str:
    index = find(works, "IntegerConv")
    constants = works[index].constants
    works[index] = replace(works[index], constants=replace(constants, threshold=constants.threshold[:, :4]))
    return "8 channels"


def output_left_out(works: list[Work]) -> str:
    del works[find(works, "MatMul")]
    return "output 'z' is not written"


def output_in_another_order(works: list[Work]) -> str:
    index = next(i for i, work in enumerate(works) for item in work.writes if item.location == External("output", 0))
    work = works[index]
    form = plain(work.writes[0].value, False)
    works[index] = replace(work, writes=(replace(work.writes[0], form=form),))
    return "memory of the caller"


def input_written(works: list[Work]) -> str:
    index = find(works, "MatMul")
    (made,) = works[index].writes
    works[index] = replace(works[index], writes=(replace(made, location=External("input", 0)),))
    return "memory of the caller"


SPOILERS = [
    swap_order, another_value, halo_that_is_not_there, no_halo, wrong_border, other_groups, too_large, small_slot,
    store_of_another_shape, problem_of_other_memory, weights_of_another_shape, constants_of_other_channels,
    output_left_out, output_in_another_order, input_written,
]  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__)
def test_what_is_not_so_is_found(graph: ir.Graph, spoil: Callable[[list[Work]], str]) -> None:
    _, works = planned(graph, in_planes, HOST)
    check_works(graph, works)
    reason = spoil(works)
    with pytest.raises(InternalError, match=reason):
        check_works(graph, works)


def padded_by_nobody(works: list[Work]) -> str:
    """A kernel that pads by itself is given an input with a halo."""
    index = find(works, "IntegerConv", 1)
    works[index] = spoiled(works[index], padding="kernel")
    return "makes up the padding of an input with a halo"


def copied_within_a_memory(works: list[Work]) -> str:
    (source,) = works[-1].reads
    place = replace(source, location=Slot(source.form.nbytes))
    works[-1] = replace(works[-1], writes=(place,))
    return "within one memory"


def copied_in_another_form(works: list[Work]) -> str:
    (target,) = works[0].writes
    form = plain(target.value, False)
    works[0] = replace(works[0], writes=(replace(target, form=form),))
    return "in another form"


def copy_left_out(works: list[Work]) -> str:
    del works[0]
    return "where no step left it"


@pytest.mark.parametrize(
    "spoil",
    [padded_by_nobody, copied_within_a_memory, copied_in_another_form, copy_left_out],
    ids=lambda spoil: spoil.__name__,
)
def test_what_is_not_so_on_a_device_is_found(graph: ir.Graph, spoil: Callable[[list[Work]], str]) -> None:
    works = with_transfers(planned(graph, in_planes, HOST)[1])
    assert [work.op for work in works].count("transfer") == len(graph.inputs) + len(graph.outputs)
    check_works(graph, works)
    reason = spoil(works)
    with pytest.raises(InternalError, match=reason):
        check_works(graph, works)


def test_the_node_is_named(graph: ir.Graph) -> None:
    for node in graph:
        node.name = f"node_{node.outputs[0].name}"
    _, works = planned(graph, in_planes, HOST)
    wrong_border(works)
    with pytest.raises(InternalError) as caught:
        check_works(graph, works)
    assert caught.value.node == "node_f"


def test_an_alias_that_is_none_is_found() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21]>
    g (float[2, 3] x) => (float[3, 2] y) { a = Reshape (x, shape) y = Relu (a) }"""
    graph = canonical(text, {"shape": np.array([3, 2])}).graph
    _, works = planned(graph, in_planes, HOST)
    graph.node("").inputs[0].shape = ir.Shape((2, 2))
    with pytest.raises(InternalError, match="is no other shape of"):
        check_works(graph, works)


def test_values_that_share_memory_while_in_use_are_found(graph: ir.Graph) -> None:
    _, works = planned(graph, in_planes, HOST)
    offsets, size = plan(lifetimes([slots_of(work) for work in works]))
    check_offsets(works, offsets, size)
    with pytest.raises(InternalError, match="outside of the workspace"):
        check_offsets(works, offsets, size - 64)
    busy = max(works, key=lambda work: len(slots_of(work)[0]) + len(slots_of(work)[1]))
    first, second, *_ = (slot for slots in slots_of(busy) for slot in slots)
    with pytest.raises(InternalError, match="share a piece"):
        check_offsets(works, {**offsets, first: offsets[second]}, 2 * size)


def test_stores_are_in_the_order_of_the_epilogue(graph: ir.Graph) -> None:
    _, works = planned(graph, in_planes, HOST)
    index = find(works, "Conv")
    work = works[index]
    assert isinstance(work.problem, Conv2d) and len(work.writes) == 2
    works[index] = replace(work, writes=work.writes[::-1])
    with pytest.raises(InternalError, match="its problem writes"):
        check_works(graph, works)
