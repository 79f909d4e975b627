"""Parameters that make no sense: refused with the node's name, or computed as onnxruntime does, in time and memory.

Every file is read in a process of its own, for onnxruntime, too, dies of some of them; each item of `bad_files` is one.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

import qcompiler
from qcompiler.errors import InvalidModel, QCompilerError, UnsupportedModel
from qcompiler.frontend import canonicalize
from qcompiler.ir import oracle
from tests.end_to_end import bad_files
from tests.end_to_end.bad_files import CULPRIT, FORMS, MICROSOFT, Named
from tests.frontend.files import write
from tests.fuzz import isolated

MOST_SECONDS, MOST_KILOBYTES = 10, 2**20
ITEMS: dict[str, Callable[[], Iterator[Named]]] = {
    "sound": bad_files.sound,
    "bits": bad_files.bad_bits,
    "scales": bad_files.bad_scales,
    "zero points": bad_files.bad_zero_points,
    "axes": bad_files.bad_axes,
    "Q and DQ": bad_files.pairs,
    "blocks": bad_files.bad_blocks,
}
# defined by others than onnxruntime, which has no kernel for them; their own tests hold them to their definitions
_FOREIGN = tuple(op for op, (domain, *_) in FORMS.items() if domain not in ("", MICROSOFT))
# what onnxruntime refuses for limits of its kernels, and where the definition leaves no doubt
_BEYOND_KERNELS = (
    "QLinearGlobalAveragePool scale 1e-45",
    "QLinearGlobalAveragePool scale 3e38",
    "QLinearConv y_zero of type int8",
    "QLinearMatMul y_zero of type int8",
    "QuantizeLinear 1 blocks of 9223372036854775807",
    "DequantizeLinear 1 blocks of 9223372036854775807",
)


@dataclass(frozen=True)
class Outcome:
    """What became of one file: refused, computed, or a complaint."""

    refused: bool = False
    complaint: str = ""


@pytest.mark.parametrize("item", ITEMS)
def test_each_file_is_refused_or_computed(item: str, tmp_path: Path) -> None:
    files = dict(ITEMS[item]())
    seconds, kilobytes, outcomes = isolated.call(lambda: _all(files, tmp_path), 120)
    assert {name: each.complaint for name, each in outcomes.items() if each.complaint} == {}
    assert len(outcomes) == len(files)
    assert sum(each.refused for each in outcomes.values()) >= _LEAST_REFUSED[item]
    assert seconds < MOST_SECONDS and kilobytes < MOST_KILOBYTES


_LEAST_REFUSED = {
    "sound": 0, "bits": 44, "scales": 400, "zero points": 330, "axes": 36, "Q and DQ": 4, "blocks": 43
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("item", ITEMS)
def test_what_is_not_refused_is_compiled_right(item: str, tmp_path: Path) -> None:
    """With verification; lowering may refuse, too."""
    wrong = {}
    for name, proto in ITEMS[item]():
        path = write(tmp_path, proto)
        try:
            qcompiler.compile(path, output=tmp_path / "out", mcpu=("baseline",), force=True)
        except (InvalidModel, UnsupportedModel) as error:
            if CULPRIT not in error.node:
                wrong[name] = str(error)
        except QCompilerError as error:
            wrong[name] = str(error)
    assert wrong == {}


def _all(files: dict[str, onnx.ModelProto], folder: Path) -> tuple[float, int, dict[str, Outcome]]:
    slowest, outcomes = 0.0, {}
    for name, proto in files.items():
        start = time.process_time()
        outcomes[name] = _one(name, proto, folder)
        slowest = max(slowest, time.process_time() - start)
    return slowest, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, outcomes


def _one(name: str, proto: onnx.ModelProto, folder: Path) -> Outcome:
    try:
        graph = canonicalize(write(folder, proto))
    except (InvalidModel, UnsupportedModel) as error:
        complete = CULPRIT in error.node and error.remedy and error.exit_code in (3, 4)
        return Outcome(True, "" if complete else f"refused by {type(error).__name__}: {error}")
    except Exception as error:
        return Outcome(complaint=f"{type(error).__name__}: {error}")
    inputs = {value.name: _numbers(value) for value in proto.graph.input}
    found = oracle.run(graph, inputs)
    try:
        wanted = oracle.run(proto, inputs)
    except QCompilerError as error:
        known = name.startswith(_FOREIGN) or name in _BEYOND_KERNELS
        return Outcome(complaint="" if known else f"read, and onnxruntime says {error}")
    wrong = [key for key, array in wanted.items() if not _equal(found[key], array)]
    return Outcome(complaint=f"other results in {wrong}" if wrong else "")


def _numbers(value: onnx.ValueInfoProto) -> np.ndarray:
    kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    random = np.random.default_rng(0)
    numbers = random.normal(0, 3, shape) if kind.kind == "f" else random.integers(0, 128, shape)
    return np.asarray(numbers).astype(kind)


def _equal(found: np.ndarray, wanted: np.ndarray) -> bool:
    same = (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    return same and np.array_equal(found, wanted, equal_nan=wanted.dtype.kind == "f")
