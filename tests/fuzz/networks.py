"""Random small networks: the strategy from which all of them are drawn."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from hypothesis import assume
from hypothesis import strategies as st

from tests.fuzz import blocks, layers, normalisation, pointwise, pools, qonnx, recurrent, shapes, signs
from tests.fuzz.draws import Draw, chance, choice, number
from tests.fuzz.grid import Grid
from tests.fuzz.net import Net, Network, Rejected, Value

Step = Callable[[Draw, Net], Value]

OPSETS = (17, 13, 18, 21)
NAMINGS = ("v{}", "/block.{}/Conv_output_0", "model/layer:{}")
MOST_STEPS = 14
MOST_OUTPUTS = 8


def no_step(draw: Draw, net: Net) -> Value:
    """Leave the network as it is: what every other step shrinks to."""
    raise Rejected


# what comes first is what failures shrink to; how often a step stands here is how often it is drawn
STEPS: tuple[Step, ...] = (
    no_step,
    shapes.nothing,
    *[pointwise.activation] * 2,
    *[layers.conv] * 3,
    *[signs.sign] * 3,
    *[blocks.binary_layer] * 5,
    *[normalisation.batch_norm] * 2,
    *[shapes.reshape] * 3,
    shapes.flatten,
    shapes.squeeze,
    shapes.unsqueeze,
    *[shapes.transpose] * 2,
    *[shapes.concat] * 2,
    shapes.split,
    shapes.cut,
    shapes.pad,
    shapes.resize,
    shapes.resize_freely,
    shapes.channel_shuffle,
    shapes.gather,
    shapes.expand,
    shapes.blocks_of_pixels,
    shapes.tile,
    shapes.computed_reshape,
    *[layers.matmul] * 2,
    layers.gemm,
    layers.depthwise,
    layers.inner_product,
    layers.conv_transpose,
    *[signs.quantize] * 2,
    *[qonnx.quant] * 3,
    qonnx.bipolar,
    *[recurrent.recurrent] * 3,
    normalisation.scale_and_shift,
    normalisation.layer_norm,
    normalisation.instance_norm,
    pointwise.rounded_activation,
    pointwise.swish,
    *[pointwise.two_values] * 2,
    *[pointwise.residual] * 2,
    *[pointwise.constant_operand] * 2,
    pointwise.power,
    pointwise.whole_numbers,
    pointwise.comparison,
    pointwise.select,
    *[pools.max_pool] * 2,
    pools.average_pool,
    pools.global_pool,
    pools.reduction,
    pools.softmax,
    pools.largest,
    shapes.blur,
    *[blocks.two_signs] * 2,
    blocks.dense,
    blocks.squeeze_excite,
    blocks.attention,
    blocks.channels_last,
)

_CHANNELS = (1, 2, 3, 4, 6, 8, 16, 32, 33, 40, 64, 96, 130)
_GRIDS = (Grid(1.0, 2.0), Grid(1.0, 1.0), Grid(0.5, 2.0), Grid(0.25, 1.0), Grid(1.0, 15.0))


@st.composite
def networks(draw: Draw) -> Network:
    """A network of one or two inputs and up to a dozen steps."""
    naming = choice(draw, NAMINGS) if chance(draw, 4) else NAMINGS[0]
    net = Net(choice(draw, OPSETS), number(draw, 0, 999), naming, chance(draw, 5), chance(draw, 4))
    for _ in range(2 if chance(draw, 5) else 1):
        _input(draw, net)
    draw(st.lists(_step(net), min_size=4, max_size=MOST_STEPS))
    if chance(draw, 5):
        net.extra_outputs.append(choice(draw, net.values))
    try:
        network = net.finish()
    except Rejected:
        network = None
    assume(network is not None and len(network.model.graph.output) <= MOST_OUTPUTS)
    assert network is not None
    return network


def _input(draw: Draw, net: Net) -> None:
    batch, channels = 2 if chance(draw, 4) else 1, choice(draw, _CHANNELS)
    rank = choice(draw, (4, 4, 4, 3, 2, 3, 1))
    most = 8 if rank == 4 else 12
    # where extents coincide, a wrong layout passes every check of shapes
    same = channels <= most and chance(draw, 3)
    extents = [channels if same else number(draw, 1, most) for _ in range(max(rank - 2, 0))]
    net.input((batch, channels, *extents)[-rank:], choice(draw, _GRIDS))


@st.composite
def _step(draw: Draw, net: Net) -> str:
    """One step, which leaves the network as it is where it does not fit."""
    step = choice(draw, STEPS)
    with contextlib.suppress(Rejected):
        step(draw, net)
    return step.__name__
