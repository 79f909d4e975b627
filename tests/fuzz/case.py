"""A network with the inputs that it is tried on, and smaller ones cut out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.printer
from onnx import helper

from qcompiler.ir import oracle
from tests.fuzz.net import Array, Network, needed
from tests.fuzz.samples import Sample, samples


@dataclass(frozen=True)
class Case:
    """A file, inputs for it, and the names of the outputs that must be equal bit for bit."""

    model: onnx.ModelProto
    samples: tuple[Sample, ...]
    exact: frozenset[str]

    @property
    def nodes(self) -> int:
        return len(self.model.graph.node)


def case_of(network: Network) -> Case:
    """A random network on inputs of its grids."""
    return Case(network.model, tuple(samples(network)), frozenset(network.exact))


def reduced(case: Case, fails: Callable[[Case], bool]) -> Case:
    """A smaller case that still fails: one output, and computed values given as inputs, as near to it as possible."""
    names = [output.name for output in case.model.graph.output]
    if len(names) > 1:
        case = next(filter(fails, (_cut(case, {}, [name]) for name in names)), case)
    while (smaller := next(filter(fails, _cuts(case)), None)) is not None:
        case = smaller
    return case


def save(case: Case, text: str, path: Path) -> None:
    """Write PATH.onnx, PATH.npz with the samples stacked, as `qcompile --inputs` reads them, and PATH.txt.

    Scalars cannot be stacked; then only the first sample is written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(case.model, path.with_suffix(".onnx"))
    kept = case.samples if all(array.ndim for array in case.samples[0].values()) else case.samples[:1]
    stacked: dict[str, Array] = {
        name: np.concatenate([sample[name] for sample in kept]) if len(kept) > 1 else array
        for name, array in case.samples[0].items()
    }
    np.savez(path.with_suffix(".npz"), allow_pickle=False, **stacked)
    path.with_suffix(".txt").write_text(f"{text}\n\n{onnx.printer.to_text(case.model)}\n", encoding="utf-8")


def _cuts(case: Case) -> Iterator[Case]:
    """The case with one more computed value given as an input, the last ones first, where that takes nodes away."""
    outputs = [output.name for output in case.model.graph.output]
    computed = [node.output[0] for node in case.model.graph.node if node.op_type != "Constant"]
    inner = [name for name in reversed(computed) if name not in outputs]
    if not inner:
        return
    session = oracle.Session(case.model, inner)
    values = [session.run(sample) for sample in case.samples]
    for name in inner:
        smaller = _cut(case, {name: [value[name] for value in values]}, outputs)
        if smaller.nodes < case.nodes and smaller.model.graph.input:
            yield smaller


def _cut(case: Case, given: dict[str, list[Array]], outputs: Iterable[str]) -> Case:
    """The part of the graph that computes `outputs`; given: values that become inputs, one array for each sample."""
    graph = case.model.graph
    wanted = [output for output in graph.output if output.name in set(outputs)]
    kept = [node for node in graph.node if not set(node.output) & set(given)]
    nodes = needed(kept, [output.name for output in wanted])
    used = {name for node in nodes for name in node.input}
    inputs = [value for value in graph.input if value.name in used]
    for name, arrays in given.items():
        dtype = helper.np_dtype_to_tensor_dtype(arrays[0].dtype)
        inputs.append(helper.make_tensor_value_info(name, dtype, arrays[0].shape))
    constants = [tensor for tensor in graph.initializer if tensor.name in used]
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    model.graph.CopyFrom(helper.make_graph(nodes, graph.name, inputs, wanted, constants))
    names = [value.name for value in inputs]
    both = [{**sample, **{k: v[i] for k, v in given.items()}} for i, sample in enumerate(case.samples)]
    return Case(model, tuple({name: sample[name] for name in names} for sample in both), case.exact)
