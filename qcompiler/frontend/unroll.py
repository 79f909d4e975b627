"""Loop and Scan whose number of iterations is known: the body, once per iteration."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx

from qcompiler.errors import InvalidModel, UnsupportedModel
from qcompiler.frontend import attributes
from qcompiler.frontend.emitter import Emitter
from qcompiler.frontend.read import MAX_NODES
from qcompiler.frontend.structure import label

# The number of an iteration and the canonical names of the body's inputs; those of its outputs.
Iterate = Callable[[int, Sequence[str]], list[str]]


def scan(emitter: Emitter, node: onnx.NodeProto, body: onnx.GraphProto, iterate: Iterate) -> None:
    """Add the iterations of a Scan of opset 9 or later."""
    count = attributes.integer(node, "num_scan_inputs", 0)
    if not 0 < count <= len(node.input):
        raise InvalidModel(
            f"Scan over {count} sequences has {len(node.input)} inputs", node=label(node), remedy="export it again"
        )
    states, sequences = list(node.input)[: len(node.input) - count], list(node.input)[len(node.input) - count :]
    collected = len(node.output) - len(states)
    _check_counts(node, body, len(node.input), len(node.output), 0)
    ranks = [len(emitter.shape(name)) for name in sequences]
    axes = _per_sequence(node, "scan_input_axes", ranks)
    backwards = _flags(node, "scan_input_directions", count)
    lengths = {emitter.shape(name)[axis] for name, axis in zip(sequences, axes, strict=True)}
    if len(lengths) != 1:
        raise InvalidModel(
            f"Scan over sequences of lengths {sorted(lengths)}", node=label(node), remedy="use one length"
        )
    (length,) = lengths
    _check_length(node, body, length)
    steps: list[list[str]] = []
    for index in range(length):
        elements = [
            _element(emitter, name, axis, length - 1 - index if back else index)
            for name, axis, back in zip(sequences, axes, backwards, strict=True)
        ]
        results = iterate(index, [*states, *elements])
        states = results[: len(states)]
        steps.append(results[len(states) :])
    _bind(emitter, states, list(node.output))
    reverse = _flags(node, "scan_output_directions", collected)
    for position, output in enumerate(list(node.output)[len(states) :]):
        values = [step[position] for step in steps]
        axis = _per_sequence(node, "scan_output_axes", [len(emitter.shape(values[0])) + 1] * collected)[position]
        _stack(emitter, values[::-1] if reverse[position] else values, axis, output)


def loop(emitter: Emitter, node: onnx.NodeProto, body: onnx.GraphProto, iterate: Iterate) -> None:
    """Add the iterations of a Loop whose trip count and conditions are constants."""
    trips = emitter.constant_value(node.input[0]) if node.input[0] else None
    going = emitter.constant_value(node.input[1]) if len(node.input) > 1 and node.input[1] else np.True_
    if trips is None or trips.size != 1 or going is None or going.size != 1:
        raise _on_data(node)
    states = list(node.input)[2:]
    _check_counts(node, body, len(states) + 2, len(node.output) + 1, 1)
    steps: list[list[str]] = []
    length = int(trips.reshape(-1)[0]) if bool(going) else 0
    _check_length(node, body, length)
    for index in range(length):
        first = [emitter.constant(index, "iteration", np.int64), emitter.constant(True, "condition", np.bool_)]
        condition, *results = iterate(index, [*first, *states])
        states, collected = results[: len(states)], results[len(states) :]
        steps.append(collected)
        stays = emitter.constant_value(condition)
        if stays is None or stays.size != 1:
            raise _on_data(node)
        if not bool(stays.reshape(-1)[0]):
            break
    if not steps and len(node.output) > len(states):
        raise UnsupportedModel("Loop without iterations gives an empty result", node=label(node), remedy="remove it")
    _bind(emitter, states, list(node.output))
    for position, output in enumerate(list(node.output)[len(states) :]):
        _stack(emitter, [step[position] for step in steps], 0, output)


def _on_data(node: onnx.NodeProto) -> UnsupportedModel:
    return UnsupportedModel(
        "the number of iterations of Loop depends on data", node=label(node), remedy="make it a constant, or unroll it"
    )


def _check_counts(node: onnx.NodeProto, body: onnx.GraphProto, inputs: int, outputs: int, first: int) -> None:
    """Refuse a body whose signature does not fit the node's."""
    if len(body.input) != inputs or len(body.output) != outputs or not all(list(node.input)[2 * first :]):
        raise InvalidModel(
            f"the body of {node.op_type} has {len(body.input)} inputs and {len(body.output)} outputs, expected {inputs}"
            f" and {outputs}",
            node=label(node),
            remedy="export the model again",
        )


def _check_length(node: onnx.NodeProto, body: onnx.GraphProto, length: int) -> None:
    if length * len(body.node) > MAX_NODES:
        raise UnsupportedModel(
            f"{node.op_type} expands to {length} times {len(body.node)} nodes, expected at most {MAX_NODES}",
            node=label(node),
            remedy="use shorter sequences",
        )


def _per_sequence(node: onnx.NodeProto, name: str, ranks: Sequence[int]) -> list[int]:
    axes = attributes.integers(node, name) or (0,) * len(ranks)
    if len(axes) != len(ranks) or any(not -rank <= axis < rank for axis, rank in zip(axes, ranks, strict=True)):
        raise InvalidModel(f"{name} is {list(axes)}", node=label(node), remedy="give an axis for every sequence")
    return [axis % rank for axis, rank in zip(axes, ranks, strict=True)]


def _flags(node: onnx.NodeProto, name: str, count: int) -> list[bool]:
    values = attributes.integers(node, name) or (0,) * count
    if len(values) != count:
        raise InvalidModel(f"{name} is {list(values)}", node=label(node), remedy="give a direction for every sequence")
    return [bool(value) for value in values]


def _element(emitter: Emitter, sequence: str, axis: int, index: int) -> str:
    bounds = [emitter.constant([value], "bound", np.int64) for value in (index, index + 1, axis)]
    return emitter.op("Squeeze", [emitter.op("Slice", [sequence, *bounds]), bounds[2]])


def _bind(emitter: Emitter, values: Sequence[str], outputs: Sequence[str]) -> None:
    for value, output in zip(values, outputs, strict=False):
        if output:
            emitter.op("Identity", [value], [output])


def _stack(emitter: Emitter, values: Sequence[str], axis: int, output: str) -> None:
    if output:
        along = emitter.constant([axis], "axis", np.int64)
        emitter.op("Concat", [emitter.op("Unsqueeze", [value, along]) for value in values], [output], axis=axis)
