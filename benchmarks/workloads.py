"""What is measured: one row of the table each, with a binary and a real-valued network behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from benchmarks.models import Workload, birealnet18, conv_chain, product, resnet18

Precision = Literal["binary", "int8", "float32"]

# layers are measured in chains, so that calls and changes of layout at the ends count an eighth, and alone
CHAIN = 8

LAYERS: Mapping[str, Callable[[bool], Workload]] = {
    "conv64": lambda binary: conv_chain(64, 56, CHAIN, binary),
    "conv128": lambda binary: conv_chain(128, 28, CHAIN, binary),
    "conv256": lambda binary: conv_chain(256, 14, CHAIN, binary),
    "conv512": lambda binary: conv_chain(512, 7, CHAIN, binary),
    "conv64-alone": lambda binary: conv_chain(64, 56, 1, binary),
    "conv128-alone": lambda binary: conv_chain(128, 28, 1, binary),
    "conv256-alone": lambda binary: conv_chain(256, 14, 1, binary),
    "conv512-alone": lambda binary: conv_chain(512, 7, 1, binary),
    "fc4096": lambda binary: product(1, 4096, 4096, binary),
    "product1024": lambda binary: product(1024, 1024, 1024, binary),
}

NETWORKS: Mapping[str, Callable[[bool], Workload]] = {
    "network": lambda binary: birealnet18() if binary else resnet18(),
    "network-body": lambda binary: birealnet18(stem=False) if binary else resnet18(stem=False),
}

TITLES: Mapping[str, str] = {
    "conv64": "conv 3x3, C64, 56x56",
    "conv128": "conv 3x3, C128, 28x28",
    "conv256": "conv 3x3, C256, 14x14",
    "conv512": "conv 3x3, C512, 7x7",
    "conv64-alone": "conv 3x3, C64, 56x56, as one operator",
    "conv128-alone": "conv 3x3, C128, 28x28, as one operator",
    "conv256-alone": "conv 3x3, C256, 14x14, as one operator",
    "conv512-alone": "conv 3x3, C512, 7x7, as one operator",
    "fc4096": "FC 4096x4096, batch 1",
    "product1024": "matrix product 1024^3",
    "network": "18 layers at 224x224",
    "network-body": "18 layers without the stem",
}


def workload(key: str, precision: Precision) -> Workload:
    """The workload of a row in the arithmetic of a contestant."""
    return {**LAYERS, **NETWORKS}[key](precision == "binary")
