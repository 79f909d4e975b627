"""What is measured on a GPU: rows with their networks, batches, inputs, and what of their outputs is compared.

Whoever measures needs numpy alone: inputs are drawn anew, and of the outputs a sample is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.models import (
    Layer,
    Workload,
    binarynet_vgg,
    birealnet18,
    conv_chain,
    product,
    quantized_chain,
    quantized_product,
    quantized_resnet18,
    resnet18,
)
from benchmarks.workloads import CHAIN, SHAPES

BATCHES = (128, 32, 1)
SIZES = (4096, 8192, 2048, 1024)
CONVOLUTIONS = ("conv64", "conv128", "conv256", "conv512")
SEED, SAMPLED = 1, 1 << 16
TINY = Layer(64, 7)

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Row:
    """A network at a batch; title: for tables. float_twin: what a peer computes in float in its place, of a network.

    layer: channels and size of the convolutions, or rows of the product, that a peer is timed on. small: whether the
    processor can stand for a device within seconds. family: of kernels that are to be taken, by how their names begin.
    """

    title: str
    workload: Callable[[], Workload]
    batch: int = 1
    float_twin: Callable[[], Workload] | None = None
    layer: Layer | int | None = None
    small: bool = False
    family: str = ""


def _convolutions(label: str, chain: Callable[[Layer, int], Workload]) -> dict[str, Row]:
    return {
        f"{shape}-{label}-batch{batch}": Row(
            f"{SHAPES[shape].title}, {label}", partial(chain, SHAPES[shape], CHAIN), batch, layer=SHAPES[shape]
        )
        for batch in BATCHES
        for shape in CONVOLUTIONS
    }


def _signs(layer: Layer, repeats: int) -> Workload:
    return conv_chain(layer, repeats, True)


def _codes(width: int) -> Callable[[Layer, int], Workload]:
    return lambda layer, repeats: quantized_chain(layer, repeats, width, width)


def _product(size: int, width: int) -> Row:
    one = partial(product, size, size, size, True)
    made = one if width == 1 else partial(quantized_product, size, size, size, width, width)
    return Row(f"matrix product {size}^3, w{width}a{width}", made, layer=size)


def _networks() -> dict[str, Row]:
    twins: dict[str, tuple[Callable[[], Workload], Callable[[], Workload]]] = {
        "birealnet18": (birealnet18, resnet18),
        "binarynet-vgg": (partial(binarynet_vgg, True), partial(binarynet_vgg, False)),
        "resnet18-w2a2": (partial(quantized_resnet18, 2, 2), resnet18),
    }
    return {
        f"{name}-batch{batch}": Row(name, ours, batch, float_twin)
        for batch in BATCHES
        for name, (ours, float_twin) in twins.items()
    }


def _by_wgmma(row: Row) -> Row:
    """The row by the kernel that is there to be measured; peers are timed for the row itself."""
    return replace(row, title=f"{row.title}, by wgmma", family="mma_wide_bits", layer=None)


_FC = Row("FC 4096x4096, batch 1, w1a1", partial(product, 1, 4096, 4096, True))

_WITH_WGMMA = {
    "tiny-w1a1": Row("tiny, w1a1", partial(_signs, TINY, 2), 2, small=True),
    "product4096-w1a1": _product(4096, 1),
    **{name: row for name, row in _convolutions("w1a1", _signs).items() if row.batch == BATCHES[0]},
}

ROWS: Mapping[str, Row] = {
    "tiny-w1a1": Row("tiny, w1a1", partial(_signs, TINY, 2), 2, small=True),
    **{f"tiny-w{w}a{w}": Row(f"tiny, w{w}a{w}", partial(_codes(w), TINY, 2), 2, small=True) for w in (2, 4, 8)},
    "tiny-product": Row("tiny product, w1a1", partial(product, 40, 96, 70, True), small=True),
    **{f"product{size}-w1a1": _product(size, 1) for size in SIZES},
    **_convolutions("w1a1", _signs),
    **_networks(),
    **_convolutions("w2a2", _codes(2)),
    **_convolutions("w4a4", _codes(4)),
    **{f"product4096-w{width}a{width}": _product(4096, width) for width in (2, 4, 8)},
    **{f"{name}-wgmma": _by_wgmma(row) for name, row in _WITH_WGMMA.items()},
    "fc4096-w1a1": _FC,
    "fc4096-w1a1-blocks": replace(_FC, title=f"{_FC.title}, over blocks", family="mma_bits_m16n32s4x"),
}
"""By name; the first ones matter most where time is short."""


@dataclass(frozen=True)
class Drawn:
    """How an input is drawn: normally distributed numbers, their signs, or their magnitudes."""

    shape: tuple[int, ...]
    kind: str

    def array(self) -> npt.NDArray[np.float32]:
        """float32 of the shape, always the same."""
        found = np.random.default_rng(SEED).standard_normal(self.shape, np.float32)
        if self.kind == "signs":
            return np.where(found >= 0, np.float32(1), np.float32(-1))
        return np.abs(found) if self.kind == "magnitudes" else found


def drawn(x: Array, batch: int) -> Drawn:
    """As x, of a batch of one image, is: its numbers are -1 and +1, of one sign, or any; matrices stay as they are."""
    kind = "signs" if np.isin(x, (-1, 1)).all() else "magnitudes" if x.min() >= 0 else "numbers"
    return Drawn((batch, *x.shape[1:]) if x.ndim == 4 else x.shape, kind)


def sampled(output: Array) -> Array:
    """Every so-manieth element, at most twice SAMPLED: of each image as many."""
    flat = output.reshape(len(output), -1)
    return np.ascontiguousarray(flat[:, :: max(1, output.size // SAMPLED)])


def rebatched(workload: Workload, batch: int) -> tuple[Workload, Drawn]:
    """The workload with its multiply-adds at a batch, and its input there."""
    found = drawn(workload.x, batch)
    times = batch if workload.x.ndim == 4 else 1
    return replace(workload, macs=workload.macs * times), found
