"""A trained network in one small file: 1 bit for each binary weight, n bits for each n-bit one, float32 for the rest.

What BMXNet's model converter does. The file (see `container`) holds the state of the frozen network. A weight that lies
on the constant grid of its quantizer is a stream of codes, each less the smallest of its grid, in `bits` bits, lowest
bit first, the last byte filled up with zeros; the grid's scale stands beside it as a tensor of its own. The network's
name and parameters, the shape of an image and the number of classes are in the header, and the settings of the run but
for places on its machine, so that `read_packed` needs nothing else. The unpacked network computes what the packed one
computed, bit for bit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from qcompiler.errors import InvalidData, UsageError
from qcompiler.nn import Fixed, freeze
from qcompiler.nn.grid import EXACT_BITS, Grid, codes
from qcompiler.train.config import PLACES, TrainConfig, from_flat
from qcompiler.train.container import Array, read_container, write_container
from qcompiler.train.networks import NETWORKS, Network, Shape
from qcompiler.train.trained import Trained

SCHEMA = 1
MAX_SIDE = 1 << 16


@dataclass(frozen=True)
class PackedSize:
    """Bytes of the packed file and of the same network's state in float32."""

    bytes: int
    float_bytes: int

    @property
    def ratio(self) -> float:
        """How many times smaller the packed file is."""
        return self.float_bytes / self.bytes

    def __str__(self) -> str:
        return f"{self.bytes / 1000:,.0f} kB packed, {self.float_bytes / 1000:,.0f} kB in float32: {self.ratio:.1f}x"


def pack(
    model: nn.Module, path: Path, network: Network, shape: Shape, classes: int, config: TrainConfig | None = None
) -> PackedSize:
    """Write `model`, which `network.build(shape, classes)` made and training by `config` changed, to `path`."""
    frozen = freeze(model).cpu()
    grids = dict(_grids(frozen))
    tensors: dict[str, Array] = {}
    packed: dict[str, Any] = {}
    for name, value in frozen.state_dict().items():
        stream = _stream(value, grids[name]) if name in grids else None
        tensors[name] = value.numpy() if stream is None else stream
        if stream is not None:
            packed[name] = {"bits": grids[name].bits, "shape": list(value.shape)}
    description = {
        "schema": SCHEMA,
        "network": network.name,
        "parameters": asdict(network),
        "shape": list(shape),
        "classes": classes,
        "packed": packed,
        "run": None if config is None else _run_settings(config),
    }
    floats = sum(each.numel() * each.element_size() for each in model.state_dict().values())
    return PackedSize(write_container(path, tensors, description), floats)


def unpack(path: Path) -> nn.Module:
    """The frozen network in a packed file, float32 [N, C, H, W] to scores; InvalidData if the file is damaged."""
    return read_packed(path).model


def read_packed(path: Path) -> Trained:
    """The frozen network in a packed file, and how it was made; InvalidData if the file is damaged."""
    tensors, description = read_container(path)
    schema = description.get("schema")
    if schema != SCHEMA:
        newer = isinstance(schema, int) and schema > SCHEMA
        remedy = "update qcompiler" if newer else "pack the checkpoint again"
        raise InvalidData(f"'{path}' has schema {schema!r}, expected {SCHEMA}", remedy=remedy)
    network, shape, classes = _network(path, description)
    model = _unpacked(path, freeze(network.build(shape, classes)), tensors, description)
    return Trained(path, model, network, shape, classes, _config(path, description, network))


def _unpacked(path: Path, model: nn.Module, tensors: Mapping[str, Array], description: Mapping[str, Any]) -> nn.Module:
    """`model` with the weights in `tensors`."""
    grids = dict(_grids(model))
    packed = description.get("packed")
    if not isinstance(packed, dict) or not packed.keys() <= grids.keys():
        raise _other(path, "other weights are packed than the network has quantized")
    # the scales of the grids come first: the codes are multiplied with them
    scales = {name: _plain(each) for name, each in tensors.items() if name not in packed}
    _load(path, model, scales, strict=False)
    grids = dict(_grids(model))
    state = model.state_dict()
    for name in packed:
        scales[name] = _weight(path, name, tensors.get(name), state[name].shape, grids[name])
    _load(path, model, scales, strict=True)
    return model


def _grids(frozen: nn.Module) -> Iterator[tuple[str, Grid]]:
    """The name of every weight in the state of a frozen network, and its grid."""
    for name, layer in frozen.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(getattr(layer, "weight_quantizer", None), Fixed):
            yield f"{prefix}weight", layer.weight_quantizer.grid
        if parametrize.is_parametrized(layer):
            for tensor, chain in layer.parametrizations.items():
                if isinstance(chain[-1], Fixed):
                    yield f"{prefix}parametrizations.{tensor}.original", chain[-1].grid


def _stream(weight: Tensor, grid: Grid) -> Array | None:
    """uint8 [bytes]: the codes of the weight; None where they would not give the same weight back."""
    if grid.bits > EXACT_BITS:
        return None
    levels = codes(weight, grid)
    if not torch.equal(_values(levels, grid), weight):
        return None
    step = 2 if grid.bipolar else 1
    unsigned = ((levels - grid.limits[0]) / step).to(torch.int32).numpy().reshape(-1)
    planes = [(unsigned >> bit & 1).astype(np.uint8) for bit in range(grid.bits)]
    return np.packbits(np.stack(planes, -1), bitorder="little")


def _weight(path: Path, name: str, stream: Array | None, shape: torch.Size, grid: Grid) -> Tensor:
    """The weight that `_stream` packed."""
    count = math.prod(shape)
    expected = -(-count * grid.bits // 8)
    if stream is None or stream.dtype != np.uint8 or stream.shape != (expected,):
        raise _other(path, f"'{name}' is no stream of {count} codes of {grid.bits} bits")
    planes = np.unpackbits(stream, bitorder="little", count=count * grid.bits).reshape(count, grid.bits)
    unsigned = np.zeros(count, np.int32)
    for bit in range(grid.bits):
        unsigned |= planes[:, bit].astype(np.int32) << bit
    step = 2 if grid.bipolar else 1
    levels = torch.from_numpy((unsigned * step + grid.limits[0]).astype(np.float32)).reshape(shape)
    return _values(levels, grid)


def _values(levels: Tensor, grid: Grid) -> Tensor:
    return ((levels - grid.zero_point) if grid.zero_point else levels) * grid.scale


def _plain(array: Array) -> Tensor:
    return torch.from_numpy(array.copy())


def _load(path: Path, model: nn.Module, state: Mapping[str, Tensor], *, strict: bool) -> None:
    known = model.state_dict()
    for name, value in state.items():
        if name in known and known[name].dtype != value.dtype:
            raise _other(path, f"'{name}' is {value.dtype}, expected {known[name].dtype}")
    try:
        model.load_state_dict(state, strict=strict)
    except RuntimeError as error:
        raise _other(path, str(error)) from error


def _run_settings(config: TrainConfig) -> dict[str, Any]:
    return {key: value for key, value in asdict(config).items() if key not in PLACES}


def _config(path: Path, description: Mapping[str, Any], network: Network) -> TrainConfig | None:
    """The settings of the run that the header holds, checked."""
    run = description.get("run")
    if run is None:
        return None
    if not isinstance(run, dict):
        raise _other(path, f"its run is {run!r}")
    try:
        config, _ = from_flat({**run, **asdict(network), "network": network.name}, f"packed network '{path}'")
    except UsageError as error:
        raise _other(path, error.message) from error
    return config


def _network(path: Path, description: Mapping[str, Any]) -> tuple[Network, Shape, int]:
    """The network that the header describes, the shape of its images, and its classes."""
    name, parameters = description.get("network"), description.get("parameters")
    shape, classes = description.get("shape", ()), description.get("classes")
    if not isinstance(name, str) or name not in NETWORKS or not isinstance(parameters, dict):
        raise InvalidData(f"'{path}' is of network {name!r}", remedy=f"known are {', '.join(NETWORKS)}")
    # no network has more layers, channels, classes or weights than its file has bits
    limit = 8 * path.stat().st_size
    numbers = [each for each in parameters.values() if isinstance(each, int | float)]
    if not _is_shape(shape) or type(classes) is not int or max(0, classes, *numbers) > limit:
        raise _other(path, f"images {shape!r}, {classes!r} classes, {json.dumps(parameters)}")
    try:
        network = NETWORKS[name](**parameters)
        with torch.device("meta"):
            weights = sum(each.numel() for each in network.build(tuple(shape), classes).parameters())
        if weights > limit:
            raise _other(path, f"{name} would have {weights} weights")
        return network, tuple(shape), classes
    except (TypeError, ValueError, UsageError) as error:
        raise _other(path, f"{name} refuses {json.dumps(parameters)}: {error}") from error


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, list) and len(shape) == 3 and all(type(n) is int and 0 < n <= MAX_SIDE for n in shape)


def _other(path: Path, why: str) -> InvalidData:
    return InvalidData(f"'{path}' does not fit the network in its header: {why}", remedy="pack the checkpoint again")
