"""From a float graph to one of quantized layers: ranges, weights, quantizers, and biases that make up for the means.

Every convolution and matrix product with constant weights whose input is real gets a quantizer of N bits before it,
with one scale and zero point, and weights of N bits with a scale per output channel. What happens between layers
(sums of streams, activations) stays as it is. Then, layer by layer, the bias takes what the quantized layer's mean
output lost on the calibration data (bias correction; Nagel et al., "Data-Free Quantization", 2019, section 4.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.analysis.ranges import IntegerRanges
from qcompiler.errors import InvalidData, UnsupportedModel, UsageError
from qcompiler.ir import oracle
from qcompiler.ir.quantizing import ROUND_SHIFT
from qcompiler.ir.traits import channel_axis, weight_axis
from qcompiler.ir.view import constant_of, is_op, only_consumer, static_shape
from qcompiler.passes.decompose_batchnorm import DecomposeBatchnorm
from qcompiler.passes.editing import add_constant, insert, remove_dead
from qcompiler.passes.eliminate_identities import EliminateIdentities
from qcompiler.passes.fold_constants import FoldConstants
from qcompiler.passes.lift_1d_convs import Lift1dConvs
from qcompiler.passes.runner import run_passes
from qcompiler.passes.spell_out_shapes import SpellOutShapes
from qcompiler.passes.split_biases import SplitBiases
from qcompiler.posttraining.absorb import absorb
from qcompiler.posttraining.cost import Cost, accuracy_of, error_of
from qcompiler.posttraining.ranges import Grid, Histogram, best_grid
from qcompiler.posttraining.weights import quantized

Array = npt.NDArray[Any]
Samples = Sequence[Mapping[str, Array]]

_PREPARED = (
    FoldConstants(),
    EliminateIdentities(),
    SpellOutShapes(),
    Lift1dConvs(),
    SplitBiases(),
    DecomposeBatchnorm(),
)
# samples on which means are corrected; chosen
_CORRECTED_ON = 64


@dataclass(frozen=True)
class _Layer:
    """A layer in float, and the Add of its bias."""

    node: ir.Node
    bias: ir.Node

    @property
    def output(self) -> str:
        """The name of what the layer gives, bias and all."""
        return str(self.bias.outputs[0].name)


def quantize(model: ir.Model, samples: Samples, bits: int, labels: npt.NDArray[np.integer] | None = None) -> Cost:
    """Quantize a canonical graph in place.

    samples: inputs by name, each of the graph's shapes. labels: of all samples in a row, [samples * batch].

    Raises UsageError for data that cannot calibrate, UnsupportedModel where there is nothing to quantize.
    """
    _check(samples)
    before = _outputs(model, samples)
    run_passes(model, _PREPARED)
    layers = [_absorbed(node) for node in _candidates(model)]
    if not layers:
        raise UnsupportedModel(
            "the model has no layer with real weights and inputs, so that there is nothing to quantize",
            remedy="leave out --calibrate",
        )
    remove_dead(model.graph)
    means = _means(model, layers, samples)
    _insert_quantizers(model, layers, samples, bits)
    _correct_means(model, layers, means, samples)
    after = _outputs(model, samples)
    accuracies = (None, None) if labels is None else tuple(accuracy_of(each, labels) for each in (before, after))
    return Cost(bits, len(layers), len(samples), error_of(before, after), *accuracies)


def _check(samples: Samples) -> None:
    for sample in samples:
        for name, array in sample.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise InvalidData(
                    f"the calibration data of input '{name}' hold NaN or infinite numbers",
                    remedy="calibrate with inputs that the network is meant for",
                )


def _outputs(model: ir.Model, samples: Samples) -> list[Mapping[str, Array]]:
    session = oracle.Session(model)
    return [session.run(sample) for sample in samples]


def _candidates(model: ir.Model) -> list[ir.Node]:
    """Layers with constant weights and no bias, of real inputs and weights."""
    ranges = IntegerRanges()
    found = []
    for node in model.graph:
        weights = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
        if not is_op(node, "Conv", "MatMul") or weights is None or weights.ndim < 2 or weights.dtype != np.float32:
            continue
        if node.op_type == "MatMul" and weights.ndim != 2 or static_shape(node.outputs[0]) is None:
            continue
        if constant_of(node.inputs[0]) is None and not _on_codes(node.inputs[0], ranges):
            found.append(node)
    return found


def _on_codes(value: ir.Value, ranges: IntegerRanges) -> bool:
    """Whether a value is of codes, or of codes times a constant."""
    node = value.producer()
    while ranges.codes(value) is None and is_op(node, "Mul", "Div", "Sub", "Add"):
        operands = [each for each in node.inputs if constant_of(each) is None]
        if len(operands) != 1:
            return False
        value, node = operands[0], operands[0].producer()
    return ranges.codes(value) is not None


def _absorbed(node: ir.Node) -> _Layer:
    weights = constant_of(node.inputs[1])
    assert weights is not None
    made = absorb(node, weights.shape[weight_axis(node)])
    bias = only_consumer(made.outputs[0])
    assert bias is not None
    return _Layer(made, bias)


def _inputs_of(layers: Sequence[_Layer]) -> list[ir.Value]:
    """What layers read, each value once."""
    return list(dict.fromkeys(layer.node.inputs[0] for layer in layers))


def _histograms(model: ir.Model, values: Sequence[ir.Value], samples: Samples) -> dict[str, Histogram]:
    """What goes into layers, by name, in two walks over the data: for the bounds, and for the counts."""
    names = [str(value.name) for value in values]
    session = oracle.Session(model, names)
    low, high = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for sample in samples:
        for name, array in session.run(sample).items():
            low[name], high[name] = min(low[name], float(array.min())), max(high[name], float(array.max()))
    found = {name: Histogram(low[name], high[name]) for name in names if low[name] < high[name]}
    for sample in samples:
        seen = session.run(sample)
        for name, histogram in found.items():
            histogram.add(seen[name])
    return found


def _insert_quantizers(model: ir.Model, layers: Sequence[_Layer], samples: Samples, bits: int) -> None:
    values = _inputs_of(layers)
    histograms = _histograms(model, values, samples)
    grids = {name: best_grid(histogram, bits) for name, histogram in histograms.items()}
    made: dict[ir.Value, ir.Value] = {}
    for layer in layers:
        value = layer.node.inputs[0]
        if value not in made:
            made[value] = _numbers(layer.node, value, grids.get(str(value.name), Grid(1.0, 0, bits)))
        layer.node.replace_input_with(0, made[value])
        layer.node.replace_input_with(1, _weights(layer.node, bits))


def _numbers(anchor: ir.Node, value: ir.Value, grid: Grid) -> ir.Value:
    """A value through a quantizer."""
    shape = static_shape(value) or ()
    settings = {"low": 0.0, "high": float(2**grid.bits - 1), "rounding": "ROUND", "order": ROUND_SHIFT}
    scale, zero = np.float32(grid.scale), np.float32(grid.zero)
    codes = insert(anchor, "Quantize", [value, scale, zero], shape, settings)
    shifted = insert(anchor, "Sub", [codes, zero], shape) if grid.zero else codes
    return insert(anchor, "Mul", [shifted, scale], shape)


def _weights(layer: ir.Node, bits: int) -> ir.Value:
    """The weights of a layer through a quantizer, as a constant."""
    weights, axis = constant_of(layer.inputs[1]), weight_axis(layer)
    assert weights is not None
    rows = np.moveaxis(weights, axis, 0)
    integers, scales = quantized(rows.reshape(len(rows), -1), bits)
    numbers = (integers * scales[:, None]).astype(np.float32).reshape(rows.shape)
    assert isinstance(layer.graph, ir.Graph)
    return add_constant(layer.graph, np.moveaxis(numbers, 0, axis), f"{layer.name}.weights")


def _means(model: ir.Model, layers: Sequence[_Layer], samples: Samples) -> dict[str, Array]:
    """The mean of each channel of what layers give, float64 [O], by name."""
    names = [layer.output for layer in layers]
    session = oracle.Session(model, names)
    total: dict[str, Array] = {}
    for sample in samples[:_CORRECTED_ON]:
        for layer, array in zip(layers, session.run(sample).values(), strict=True):
            total[layer.output] = total.get(layer.output, 0) + _channel_means(layer.node, array)
    return {name: mean / len(samples[:_CORRECTED_ON]) for name, mean in total.items()}


def _channel_means(layer: ir.Node, output: Array) -> Array:
    axis = channel_axis(layer, output.ndim) % output.ndim
    return np.asarray(output.mean(axis=tuple(a for a in range(output.ndim) if a != axis), dtype=np.float64))


def _correct_means(model: ir.Model, layers: Sequence[_Layer], means: Mapping[str, Array], samples: Samples) -> None:
    """Layer by layer, in the order of the graph: each sees what those before it give after correction."""
    for layer in layers:
        found = _means(model, [layer], samples)[layer.output]
        position = next(i for i, value in enumerate(layer.bias.inputs) if constant_of(value) is not None)
        bias = constant_of(layer.bias.inputs[position])
        assert bias is not None
        corrected = bias + (means[layer.output] - found).reshape(bias.shape)
        layer.bias.inputs[position].const_value = ir.tensor(corrected.astype(np.float32))


def checked_labels(labels: Array, samples: Samples) -> npt.NDArray[np.integer]:
    """Labels of all rows of the samples; raises UsageError where they are none."""
    rows = sum(next(iter(sample.values())).shape[0] for sample in samples if sample)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != rows:
        raise UsageError(
            f"the labels are {labels.dtype} of shape {list(labels.shape)}, expected {rows} integers",
            remedy="give one label for each row of the calibration data",
        )
    return labels
