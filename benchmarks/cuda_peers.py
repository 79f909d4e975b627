"""Seconds of torch on the same GPU: products and convolutions in fp16 and int8, and whole networks in fp16.

Products go to cuBLAS, convolutions to cuDNN. Every time is of a CUDA graph, as ours are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.cuda_rows import Row
from benchmarks.cuda_timing import median
from benchmarks.models import Layer
from benchmarks.network import Add, BatchNorm, Conv, Dense, GlobalAverage, Network, Node, Pool


def peers(row: Row, seconds: float) -> dict[str, float]:
    """Seconds of what torch has for a row, by name; what it refuses is left out."""
    calls: dict[str, Callable[[], Any]] = {}
    if isinstance(row.layer, int):
        calls = _products(row.layer)
    elif isinstance(row.layer, Layer):
        calls = _convolutions(row.layer, row.batch)
    elif row.float_twin is not None:
        twin = row.float_twin()
        calls = {"torch fp16": partial(_Fp16(twin.network), _input(twin.x.shape, row.batch))}
    found = {}
    for name, call in calls.items():
        try:
            found[name] = graphed(call, seconds)
        except RuntimeError as error:
            if "out of memory" in str(error):
                raise
    return found


def graphed(call: Callable[[], Any], seconds: float) -> float:
    """Median seconds of a call that was captured in a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.no_grad(), torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        call()
    return median(graph.replay, torch.cuda.synchronize, seconds)


def _products(size: int) -> dict[str, Callable[[], Any]]:
    halves = torch.randn(size, size, device="cuda", dtype=torch.float16)
    integers = torch.randint(-1, 2, (size, size), device="cuda", dtype=torch.int8)
    # cuBLAS takes the right operand of bytes column by column
    return {
        "torch fp16": partial(torch.matmul, halves, halves),
        "torch int8": partial(torch._int_mm, integers, integers.t().contiguous().t()),
    }


def _convolutions(layer: Layer, batch: int) -> dict[str, Callable[[], Any]]:
    """Torch has no convolution of bytes: its int8 is the product that one is after its windows were written out."""
    channels, taps = layer.channels, layer.kernel**2
    weights = torch.randn(channels, channels, layer.kernel, layer.kernel, device="cuda", dtype=torch.float16)
    x = _input((1, channels, layer.size, layer.size), batch)
    rows = torch.randint(-1, 2, (batch * layer.size**2, channels * taps), device="cuda", dtype=torch.int8)
    columns = torch.randint(-1, 2, (channels, channels * taps), device="cuda", dtype=torch.int8).t()
    held = weights.contiguous(memory_format=torch.channels_last)
    return {
        "torch fp16": partial(F.conv2d, x, held, padding=layer.kernel // 2),
        "torch int8, product alone": partial(torch._int_mm, rows, columns),
    }


def _input(shape: tuple[int, ...], batch: int) -> Tensor:
    x = torch.randn(batch, *shape[1:], device="cuda", dtype=torch.float16)
    return x.contiguous(memory_format=torch.channels_last)


class _Fp16:
    """A network of real numbers in torch, in halves, channels last."""

    def __init__(self, network: Network, device: str = "cuda", dtype: torch.dtype = torch.float16) -> None:
        self.network = network
        self._place: Mapping[str, Any] = {"device": device, "dtype": dtype}
        self._held = {id(array): self._tensor(array) for node in network.nodes for array in _arrays(node)}

    def _tensor(self, array: Any) -> Tensor:
        found = torch.tensor(array, **self._place)
        return found.contiguous(memory_format=torch.channels_last) if found.ndim == 4 else found

    def __call__(self, x: Tensor) -> Tensor:
        values = {"input": x}
        for node in self.network.nodes:
            values[node.output] = self._node(node, values)
        return values[self.network.output]

    def _node(self, node: Node, values: Mapping[str, Tensor]) -> Tensor:
        found: Tensor
        match node:
            case Conv():
                bias = None if node.bias is None else self._held[id(node.bias)]
                weights = self._held[id(node.weights)]
                found = F.conv2d(values[node.source], weights, bias, node.stride, node.pad, groups=node.groups)
                return F.relu(found) if node.relu else found
            case Dense():
                return F.linear(values[node.source], self._held[id(node.weights)])
            case BatchNorm():
                mean, variance, gamma, beta = (
                    self._held[id(a)] for a in (node.mean, node.variance, node.gamma, node.beta)
                )
                return F.batch_norm(values[node.source], mean, variance, gamma, beta, eps=node.epsilon)
            case Add():
                found = values[node.left] + values[node.right]
                return F.relu(found) if node.relu else found
            case Pool():
                pool = F.max_pool2d if node.kind == "max" else F.avg_pool2d
                return pool(values[node.source], node.size, node.stride, node.pad)
            case GlobalAverage():
                return values[node.source].mean((2, 3))
        raise TypeError(f"{type(node).__name__} is not of real numbers")


def _arrays(node: Node) -> list[Any]:
    """The constants of a node."""
    match node:
        case Conv():
            return [node.weights] if node.bias is None else [node.weights, node.bias]
        case Dense():
            return [node.weights]
        case BatchNorm():
            return [node.gamma, node.beta, node.mean, node.variance]
    return []
