"""Energy of one inference by bit-width, on a generic accelerator with a datapath and three levels of memory.

In the manner of Moons et al., "Minimum Energy Quantized Neural Networks", Asilomar 2017 (arXiv:1711.00215), who model
the inference of quantized networks on a generic platform to find the width of least energy. That much is from their
abstract; the equations here have not been compared with theirs. With N_c multiply-accumulates, N_s weights, A_s
activations and p parallel units at Q bits,

    E        = E_compute + E_weights + E_activations + E_dram
    compute  = E_MAC(Q) * (N_c + 3 A_s)          bias, batch normalisation and activation: three more for each output
    weights  = E_main * N_s + E_local * N_c / sqrt(p)
    activations = 2 * E_main * A_s + E_local * N_c / sqrt(p)      written once, read once; each operand serves sqrt(p)
    dram     = E_dram * (input image + weights that do not fit + 2 * activations that do not fit)

with E_MAC(Q) a power of Q, p = 16 p_16 / Q, and memory energies proportional to the bits moved. Weights and activations
have their own widths, and Q = sqrt(w_bits * a_bits): a multiplier grows with their product. In a layer, A_s is the
number of its inputs where they are moved, and of its outputs where they are computed. The constants are of public
origin, see HOROWITZ; put in your own for another chip. The numbers serve to compare networks and widths, not to predict
a device, nor to repeat the paper's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from rich.table import Table
from torch import Tensor, nn

from qcompiler.errors import InvalidData, UsageError
from qcompiler.nn.grid import FLOAT_BITS
from qcompiler.train.workload import LayerWork, traced_work

MAX_CONSTANTS_BYTES = 1 << 20
_PARTS = {
    "compute": "compute",
    "weights": "weight memory",
    "activations": "activation memory",
    "dram": "DRAM",
    "total": "total",
}


@dataclass(frozen=True)
class EnergyConstants:
    """What one chip costs, in picojoules; `source` says where the numbers are from.

    int8_mac and int32_mac: an integer multiply-accumulate, the points that the power of Q goes through. float_mac:
    float32. float_add: what is left of it where one operand is binary or ternary. local, main, dram: per bit moved.
    units: multiply-accumulate units at 16 bits. weight_memory, activation_memory: bits of main memory on the chip.
    input_bits: width of the image as it comes from DRAM.
    """

    source: str
    int8_mac: float
    int32_mac: float
    float_mac: float
    float_add: float
    local: float
    main: float
    dram: float
    units: float = 64
    weight_memory: float = 2**22
    activation_memory: float = 2**22
    input_bits: int = 8

    def __post_init__(self) -> None:
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise UsageError(f"energy constant '{field.name}' is {value!r}", remedy="give a positive number")

    def mac(self, w_bits: int, a_bits: int) -> float:
        """Picojoules of one multiply-accumulate."""
        if FLOAT_BITS in (w_bits, a_bits):
            return self.float_add if min(w_bits, a_bits) <= 2 else self.float_mac
        exponent = math.log(self.int32_mac / self.int8_mac, 4)
        return self.int8_mac * math.pow(math.sqrt(w_bits * a_bits) / 8, exponent)

    def reuse(self, w_bits: int, a_bits: int) -> float:
        """How many multiply-accumulates share one read of local memory: sqrt(p), at least 1."""
        return max(1.0, math.sqrt(self.units * 16 / math.sqrt(w_bits * a_bits)))


HOROWITZ = EnergyConstants(
    source="M. Horowitz, Computing's Energy Problem, ISSCC 2014, 45 nm, 0.9 V",
    int8_mac=0.2 + 0.03,
    int32_mac=3.1 + 0.1,
    float_mac=3.7 + 0.9,
    float_add=0.9,
    local=10 / 64,  # 64 bits of an 8 KB cache
    main=100 / 64,  # 64 bits of a 1 MB cache: weight_memory and activation_memory are half of it each
    dram=1300 / 64,  # 1.3 to 2.6 nJ for 64 bits
)
"""Multiply plus add of the table's integer and float units; the low end of its range for DRAM.

The table as later publications quote it: 8-bit add 0.03 and multiply 0.2, 32-bit 0.1 and 3.1, float32 0.9 and 3.7 pJ;
64 bits from 8 KB 10 pJ, from 1 MB 100 pJ, from DRAM 1.3 to 2.6 nJ.
"""


@dataclass(frozen=True)
class LayerEnergy:
    """The work of a layer and its parts of the energy of one inference, in picojoules."""

    work: LayerWork
    compute: float
    weights: float
    activations: float
    dram: float

    @property
    def total(self) -> float:
        """Picojoules of the layer."""
        return self.compute + self.weights + self.activations + self.dram

    def as_json(self) -> dict[str, Any]:
        """Plain data: the work, the parts and the total."""
        return {**asdict(self), "total": self.total}


def energy(model: nn.Module, example: Tensor, constants: EnergyConstants = HOROWITZ) -> list[LayerEnergy]:
    """The energy of every convolution and linear layer for one image of `example`, float32 [N, ...]."""
    return cost(traced_work(model, example), constants)


def cost(layers: Sequence[LayerWork], constants: EnergyConstants = HOROWITZ) -> list[LayerEnergy]:
    """The energy of known work; the first layer reads the image from DRAM."""
    weight_bits = sum(layer.weights * layer.w_bits for layer in layers)
    outside = max(0.0, 1 - constants.weight_memory / weight_bits) if weight_bits else 0.0
    return [_layer(layer, constants, outside, first=not index) for index, layer in enumerate(layers)]


def by_width(
    layers: Sequence[LayerWork], widths: Sequence[int] = (1, 2, 4, 8, 16), constants: EnergyConstants = HOROWITZ
) -> dict[int, float]:
    """Picojoules of one inference if every quantized weight and activation had that many bits."""

    def at(layer: LayerWork, width: int) -> LayerWork:
        w_bits, a_bits = (bits if bits == FLOAT_BITS else width for bits in (layer.w_bits, layer.a_bits))
        return replace(layer, w_bits=w_bits, a_bits=a_bits)

    def total(width: int) -> float:
        return sum(each.total for each in cost([at(layer, width) for layer in layers], constants))

    return {width: total(width) for width in widths}


def read_constants(path: Path) -> EnergyConstants:
    """Constants from a JSON object that names some fields of EnergyConstants; the others are HOROWITZ's."""
    try:
        if path.stat().st_size > MAX_CONSTANTS_BYTES:
            raise InvalidData(f"'{path}' is larger than {MAX_CONSTANTS_BYTES} bytes, expected a few energy constants")
        given = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read energy constants '{path}': {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidData(f"'{path}' is not JSON: {error}") from error
    known = [field.name for field in fields(EnergyConstants)]
    if not isinstance(given, dict) or not given.keys() <= set(known):
        raise UsageError(f"'{path}' is no object of energy constants", remedy=f"choose from {', '.join(known)}")
    if not isinstance(given.get("source", str(path)), str):
        raise UsageError(f"'{path}': source is no text", remedy="say where the numbers are from")
    return replace(HOROWITZ, **{"source": str(path), **given})


def energy_table(layers: Sequence[LayerEnergy], constants: EnergyConstants = HOROWITZ) -> Table:
    """What `qtrain --energy` prints: work and nanojoules by layer, and their sums."""
    table = Table(title=f"Energy of one inference, in nJ ({constants.source})", show_footer=True)
    work = [each.work for each in layers]
    table.add_column("layer", "total")
    table.add_column("bits w/a")
    for name, values in (
        ("MACs", [each.macs for each in work]),
        ("weights", [each.weights for each in work]),
        ("activations", [each.activations for each in work]),
    ):
        table.add_column(name, f"{sum(values):,}", justify="right")
    for part, name in _PARTS.items():
        table.add_column(name, _nanojoules(sum(getattr(each, part) for each in layers)), justify="right")
    for each in layers:
        counts = (f"{count:,}" for count in (each.work.macs, each.work.weights, each.work.activations))
        parts = (_nanojoules(getattr(each, part)) for part in _PARTS)
        table.add_row(each.work.name, f"{each.work.w_bits}/{each.work.a_bits}", *counts, *parts)
    return table


def _layer(layer: LayerWork, constants: EnergyConstants, outside: float, *, first: bool) -> LayerEnergy:
    """`outside`: the share of the network's weights that main memory cannot hold."""
    local_reads = layer.macs / constants.reuse(layer.w_bits, layer.a_bits)
    weight_bits, activation_bits = layer.weights * layer.w_bits, layer.activations * layer.a_bits
    from_dram = outside * weight_bits + 2 * max(0.0, activation_bits - constants.activation_memory)
    if first:
        from_dram += layer.activations * constants.input_bits
    return LayerEnergy(
        work=layer,
        compute=constants.mac(layer.w_bits, layer.a_bits) * (layer.macs + 3 * layer.outputs),
        weights=constants.main * weight_bits + constants.local * layer.w_bits * local_reads,
        activations=2 * constants.main * activation_bits + constants.local * layer.a_bits * local_reads,
        dram=constants.dram * from_dram,
    )


def _nanojoules(picojoules: float) -> str:
    return f"{picojoules / 1000:,.3g}" if picojoules < 1e6 else f"{picojoules / 1000:,.0f}"
