"""The cases of `onnx.backend.test`: a model, inputs and the outputs that the standard expects of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.backend.test.loader
from onnx.backend.test.case.test_case import TestCase

Array = npt.NDArray[Any]

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
_LIGHT = Path(onnx.backend.test.loader.DATA_DIR) / "light"


@dataclass(frozen=True)
class Case:
    """One model and what it has to compute.

    model: the serialised ModelProto. data: pairs of inputs and outputs in the graph's order; what is no plain tensor
    (sequences, absent optionals) is kept as the package has it. rtol, atol: of floats, as in numpy.allclose. seconds:
    what takes longer counts as a hang.
    """

    name: str
    kind: str
    model: bytes
    data: tuple[tuple[tuple[Any, ...], tuple[Any, ...]], ...]
    rtol: float
    atol: float
    seconds: float = 60


@cache
def all_cases() -> Mapping[str, Case]:
    """Every case that brings its data along, by name, without the `test_` in front."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # the package computes some of its data by overflows
        cases = [_case(test, kind) for kind in KINDS for test in onnx.backend.test.loader.load_model_tests(kind=kind)]
    return {case.name: case for case in sorted(cases, key=lambda case: (KINDS.index(case.kind), case.name))}


def light_models() -> Mapping[str, Case]:
    """The image classifiers of the package, their weights made by nodes, on the ramp that its own runner feeds them."""
    return {path.stem: _light_case(path) for path in sorted(_LIGHT.glob("*.onnx"))}


def _case(test: TestCase, kind: str) -> Case:
    if test.model is not None:
        model, sets = test.model, test.data_sets
    else:
        folder = Path(test.model_dir)
        model, sets = onnx.load(folder / "model.onnx"), list(_stored_sets(folder))
    data = tuple((tuple(map(_plain, inputs)), tuple(map(_plain, outputs))) for inputs, outputs in sets)
    return Case(test.name.removeprefix("test_"), kind, model.SerializeToString(), data, test.rtol, test.atol)


def _plain(value: Any) -> Any:
    """A tensor as an array; anything else as it is."""
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _stored_sets(folder: Path) -> Iterator[tuple[Sequence[Array], Sequence[Array]]]:
    for data in sorted(folder.glob("test_data_set_*")):
        yield _stored(data, "input"), _stored(data, "output")


def _stored(folder: Path, what: str) -> list[Any]:
    return [_parsed(folder / f"{what}_{index}.pb") for index in range(len(list(folder.glob(f"{what}_*.pb"))))]


def _parsed(path: Path) -> Any:
    """A stored tensor; what does not parse as one is a sequence or an optional, which no case compares."""
    tensor = onnx.TensorProto()
    try:
        tensor.ParseFromString(path.read_bytes())
        return onnx.numpy_helper.to_array(tensor)
    except Exception:  # the parsers of protobuf and of onnx raise whatever they meet
        return None


def _light_case(path: Path) -> Case:
    model = onnx.load(path)
    stored = {tensor.name for tensor in model.graph.initializer}
    (image,) = (value for value in model.graph.input if value.name not in stored)
    shape = [dim.dim_value for dim in image.type.tensor_type.shape.dim]
    ramp = (np.arange(np.prod(shape)).reshape(shape) / np.prod(shape)).astype(np.float32)
    expected = _parsed(path.with_name(f"{path.stem}_output_0.pb"))
    return Case(path.stem, "light", model.SerializeToString(), (((ramp,), (expected,)),), 1e-3, 1e-7, 1200)
