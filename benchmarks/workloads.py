"""What is measured: one row of the table each, with a binary and a real-valued network behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from benchmarks.models import Workload, birealnet18, conv_chain, few_bit_product, product, quantized_chain, resnet18

Precision = Literal["binary", "few bits", "int8", "float32", "blocks", "bytes"]
"""Of weights alone: "blocks" of floats times few bits, which allow rounding, and "bytes" made at run time."""

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

WIDTHS = ((1, 2), (1, 3), (1, 4), (2, 2), (2, 4), (3, 3), (4, 4), (8, 8))
"""Bits of weights and activations."""

FEW_BITS: Mapping[str, tuple[int, int, int, int]] = {
    f"conv{channels}-w{w}a{a}": (channels, size, w, a)
    for w, a in WIDTHS
    for channels, size in ((64, 56), (128, 28), (256, 14))
}
"""Channels, size and widths of layers that only qcompiler computes in these."""

PRODUCTS: Mapping[str, tuple[int, int]] = {
    f"fc4096{'' if rows == 1 else f'x{rows}'}-w{bits}": (rows, bits) for rows in (1, 8) for bits in range(1, 9)
}
"""Rows and widths of products with weights of few bits and inputs of any numbers."""

BLOCK_WIDTHS = (2, 4, 8)
"""Bits of weights that MatMulNBits has."""

TITLES: Mapping[str, str] = {
    **{key: f"conv 3x3, C{c}, {s}x{s}, w{w}a{a}" for key, (c, s, w, a) in FEW_BITS.items()},
    **{key: f"FC 4096x4096, batch {rows}, weights of {bits} bits" for key, (rows, bits) in PRODUCTS.items()},
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


def measures(key: str, precision: Precision) -> bool:
    """Whether a row has a contestant of this arithmetic."""
    if key in PRODUCTS:
        return precision == "bytes" or (precision == "blocks" and PRODUCTS[key][1] in BLOCK_WIDTHS)
    return precision not in ("blocks", "bytes", "binary" if key in FEW_BITS else "few bits")


def workload(key: str, precision: Precision) -> Workload:
    """The workload of a row in the arithmetic of a contestant."""
    if key in PRODUCTS:
        rows, bits = PRODUCTS[key]
        return few_bit_product(rows, 4096, bits, in_bytes=precision == "bytes")
    if key not in FEW_BITS:
        return {**LAYERS, **NETWORKS}[key](precision == "binary")
    channels, size, w, a = FEW_BITS[key]
    if precision == "few bits":
        return quantized_chain(channels, size, CHAIN, w, a)
    return conv_chain(channels, size, CHAIN, False)
