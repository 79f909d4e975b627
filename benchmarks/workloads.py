"""What is measured: one row of the table each, with a binary and a real-valued network behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

from benchmarks.models import (
    Layer,
    Width,
    Workload,
    birealnet18,
    conv_chain,
    few_bit_product,
    mobilenet_v1,
    mobilenet_v2,
    product,
    quantized_chain,
    quantized_mobilenet_v1,
    quantized_product,
    quantized_resnet18,
    resnet18,
)

Precision = Literal["binary", "few bits", "int8", "float32", "blocks", "bytes"]
"""Of weights alone: "blocks" of floats times few bits, which allow rounding, and "bytes" made at run time."""

# layers are measured in chains, so that calls and changes of layout at the ends count an eighth, and alone
CHAIN = 8

SHAPES: Mapping[str, Layer] = {
    "conv64": Layer(64, 56),
    "conv128": Layer(128, 28),
    "conv256": Layer(256, 14),
    "conv512": Layer(512, 7),
    "point256": Layer(256, 14, kernel=1),
    "depthwise256": Layer(256, 28, depthwise=True),
}

LAYERS: Mapping[str, Callable[[bool], Workload]] = {
    **{key: partial(conv_chain, layer, CHAIN) for key, layer in SHAPES.items()},
    **{f"{key}-alone": partial(conv_chain, layer, 1) for key, layer in SHAPES.items() if layer.kernel == 3},
    "fc4096": partial(product, 1, 4096, 4096),
    "product1024": partial(product, 1024, 1024, 1024),
}

NETWORKS: Mapping[str, Callable[[bool], Workload]] = {
    "network": lambda binary: birealnet18() if binary else resnet18(),
    "network-body": lambda binary: birealnet18(stem=False) if binary else resnet18(stem=False),
}

WIDTHS: tuple[tuple[Width, int], ...] = (
    (1, 2), (1, 3), (1, 4), (1, 8), (2, 2), (2, 4), (3, 3), (4, 4), (8, 8), ("ternary", 8)
)  # fmt: skip
"""Bits of weights and activations."""


def _label(w: Width, a: int) -> str:
    return f"{'t' if w == 'ternary' else f'w{w}'}a{a}"


FEW_BITS: Mapping[str, tuple[str, Width, int]] = {
    f"{shape}-{_label(w, a)}": (shape, w, a) for w, a in WIDTHS for shape in (*SHAPES, "product1024")
}
"""Shape and widths of layers that only qcompiler computes in these."""

FEW_BIT_NETWORKS: Mapping[str, tuple[Callable[[], Workload] | None, Callable[[], Workload]]] = {
    "resnet18-w8a8": (partial(quantized_resnet18, 8, 8), resnet18),
    "resnet18-w4a4": (partial(quantized_resnet18, 4, 4), resnet18),
    "resnet18-w2a2": (partial(quantized_resnet18, 2, 2), resnet18),
    "mobilenet1-w8a8": (partial(quantized_mobilenet_v1, 8, 8), mobilenet_v1),
    "mobilenet1-w4a4": (partial(quantized_mobilenet_v1, 4, 4), mobilenet_v1),
    "mobilenet2-int8": (None, mobilenet_v2),
}
"""Networks of few bits, if there are, and their twins of real numbers."""

PRODUCTS: Mapping[str, tuple[int, int]] = {
    f"fc4096{'' if rows == 1 else f'x{rows}'}-w{bits}": (rows, bits) for rows in (1, 8) for bits in range(1, 9)
}
"""Rows and widths of products with weights of few bits and inputs of any numbers."""

BLOCK_WIDTHS = (2, 4, 8)
"""Bits of weights that MatMulNBits has."""

TITLES: Mapping[str, str] = {
    **{key: layer.title for key, layer in SHAPES.items()},
    **{f"{key}-alone": f"{layer.title}, as one operator" for key, layer in SHAPES.items()},
    "product1024": "matrix product 1024^3",
    **{key: f"FC 4096x4096, batch {rows}, weights of {bits} bits" for key, (rows, bits) in PRODUCTS.items()},
    "fc4096": "FC 4096x4096, batch 1",
    "network": "18 layers at 224x224",
    "network-body": "18 layers without the stem",
    **{key: f"{key} at 224x224" for key in FEW_BIT_NETWORKS},
}


def label_of(key: str) -> str:
    """The widths of a row's layers, as "w2a4"; empty where it says none."""
    return _label(*FEW_BITS[key][1:]) if key in FEW_BITS else ""


def title(key: str) -> str:
    """What a row is called."""
    if key in FEW_BITS:
        shape, w, a = FEW_BITS[key]
        return f"{TITLES[shape]}, {_label(w, a)}"
    return TITLES[key]


def is_network(key: str) -> bool:
    """Whether a row is a whole network."""
    return key in NETWORKS or key in FEW_BIT_NETWORKS


def measures(key: str, precision: Precision) -> bool:
    """Whether a row has a contestant of this arithmetic."""
    if key in PRODUCTS:
        return precision == "bytes" or (precision == "blocks" and PRODUCTS[key][1] in BLOCK_WIDTHS)
    if key in FEW_BIT_NETWORKS or key in FEW_BITS:
        known = key in FEW_BITS or FEW_BIT_NETWORKS[key][0] is not None
        return precision in (("few bits", "int8", "float32") if known else ("int8", "float32"))
    return precision in ("binary", "int8", "float32")


def workload(key: str, precision: Precision) -> Workload:
    """The workload of a row in the arithmetic of a contestant."""
    if key in PRODUCTS:
        rows, bits = PRODUCTS[key]
        return few_bit_product(rows, 4096, bits, in_bytes=precision == "bytes")
    if key in FEW_BIT_NETWORKS:
        few, real = FEW_BIT_NETWORKS[key]
        return few() if few is not None and precision == "few bits" else real()
    if key not in FEW_BITS:
        return {**LAYERS, **NETWORKS}[key](precision == "binary")
    shape, w, a = FEW_BITS[key]
    if shape in SHAPES:
        few_bits = precision == "few bits"
        return quantized_chain(SHAPES[shape], CHAIN, w, a) if few_bits else conv_chain(SHAPES[shape], CHAIN, False)
    if precision == "few bits":
        return quantized_product(1024, 1024, 1024, w, a)
    return product(1024, 1024, 1024, False)
