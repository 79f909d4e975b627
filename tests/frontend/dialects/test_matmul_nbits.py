"""MatMulNBits against onnxruntime's kernel, and against its definition where that has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.errors import InvalidModel, QCompilerError, UnsupportedModel
from qcompiler.frontend import load
from qcompiler.ir import oracle
from tests.frontend.dialects.integer_files import QUICK, one_node, results
from tests.frontend.files import write


def packed(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes [..., C] in bytes, the first in the lowest bits; the last byte is filled up."""
    per_byte = 8 // bits
    missing = -codes.shape[-1] % per_byte
    filled = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, missing)])
    parts = filled.reshape(*codes.shape[:-1], -1, per_byte).astype(np.uint8) << np.arange(0, 8, bits, dtype=np.uint8)
    return np.bitwise_or.reduce(parts, axis=-1)


def layer(generator: np.random.Generator, k: int, n: int, bits: int, block: int, zeros: str) -> tuple[Any, Any, Any]:
    """Operands without the first, attributes, and the weights [K, N] that they stand for, in float64."""
    blocks = -(-k // block)
    codes = generator.integers(0, 2**bits, (n, blocks, block))
    scales = generator.uniform(0.01, 1, (n, blocks)).astype(np.float32)
    points = np.full((n, blocks), 2.0 ** (bits - 1))
    operands: list[tuple[str, Any] | None] = [("b", packed(codes, bits)), ("s", scales)]
    if zeros == "packed":
        points = generator.integers(0, 2**bits, (n, blocks))
        operands.append(("z", packed(points, bits)))
    elif zeros == "numbers":
        points = generator.uniform(0, 2**bits - 1, (n, blocks)).astype(np.float32)
        operands.append(("z", points))
    weights = (codes - points[:, :, None]) * scales[:, :, None].astype(np.float64)
    return operands, {"K": k, "N": n, "bits": bits, "block_size": block}, weights.reshape(n, -1)[:, :k].T


@QUICK
@given(st.data())
def test_products_are_those_of_onnxruntime(tmp_path: Path, data: st.DataObject) -> None:
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    bits, block = data.draw(st.sampled_from([2, 4, 8])), data.draw(st.sampled_from([16, 32, 64]))
    k, n = data.draw(st.integers(1, 130)), data.draw(st.integers(1, 9))
    zeros = data.draw(st.sampled_from(["none", "packed", "numbers"]))
    operands, attributes, weights = layer(generator, k, n, bits, block, zeros)
    if data.draw(st.booleans()):
        operands[1] = ("s", operands[1][1].reshape(-1))
    bias = generator.normal(size=n).astype(np.float32) if data.draw(st.booleans()) else np.zeros(n, np.float32)
    operands += [None] * (4 - len(operands)) + [("bias", bias)] if bias.any() else []
    a = generator.normal(size=data.draw(st.sampled_from([(1, k), (5, k), (2, 3, k)]))).astype(np.float32)
    proto = one_node("MatMulNBits", [("a", a), *operands], ["a"], "com.microsoft", **attributes)
    found = oracle.run(load(write(tmp_path, proto)), {"a": a})["y"]
    bound = 1e-5 * (np.abs(a).astype(np.float64) @ np.abs(weights) + np.abs(bias)).max()
    np.testing.assert_allclose(found, a.astype(np.float64) @ weights + bias, rtol=0, atol=bound)
    # onnxruntime has no kernel for zero points that are numbers of other widths
    if zeros != "numbers" or bits == 4:
        np.testing.assert_allclose(found, oracle.run(proto, {"a": a})["y"], rtol=0, atol=bound)


def test_codes_themselves_are_read(tmp_path: Path) -> None:
    """A row of the identity at a time: the weights, bit for bit."""
    generator = np.random.default_rng(5)
    for bits in (2, 4, 8):
        operands, attributes, weights = layer(generator, 70, 3, bits, 32, "packed")
        proto = one_node(
            "MatMulNBits", [("a", np.eye(70, dtype=np.float32)), *operands], ["a"], "com.microsoft", **attributes
        )
        found, want = results(tmp_path, proto, {"a": np.eye(70, dtype=np.float32)})
        np.testing.assert_array_equal(found["y"], weights.astype(np.float32))
        np.testing.assert_array_equal(found["y"], want["y"])


@pytest.mark.parametrize("zeros", ["none", "numbers"])
def test_blocks_in_another_order(tmp_path: Path, zeros: str) -> None:
    """g_idx names the block whose scale and zero point belong to each row of the weights."""
    generator = np.random.default_rng(6)
    operands, attributes, _ = layer(generator, 64, 3, 4, 32, zeros)
    operands += [None] * (3 - len(operands)) + [("g", generator.integers(0, 2, 64).astype(np.int32))]
    a = generator.normal(size=(2, 64)).astype(np.float32)
    proto = one_node("MatMulNBits", [("a", a), *operands], ["a"], "com.microsoft", **attributes)
    found, want = results(tmp_path, proto, {"a": a})
    np.testing.assert_allclose(found["y"], want["y"], rtol=1e-4, atol=1e-4)


GOOD, SETTINGS, _ = layer(np.random.default_rng(0), 40, 2, 4, 16, "packed")


@pytest.mark.parametrize(
    ("changed", "attributes", "error", "words"),
    [
        ({}, {"bits": 0}, InvalidModel, "0 bits, expected 2, 4 or 8"),
        ({}, {"bits": 3}, InvalidModel, "3 bits"),
        ({}, {"bits": 33}, InvalidModel, "33 bits"),
        ({}, {"block_size": 0}, InvalidModel, "blocks of 0, expected a power of two of at least 16"),
        ({}, {"block_size": 24}, InvalidModel, "blocks of 24"),
        ({}, {"block_size": 32}, InvalidModel, r"weights of shape \[2, 3, 8\], expected \[2, 2, 16\]"),
        ({}, {"bits": 8}, InvalidModel, r"weights of shape \[2, 3, 8\], expected \[2, 3, 16\]"),
        ({}, {"K": 0}, InvalidModel, "K = 0"),
        ({}, {"N": -1}, InvalidModel, "N = -1"),
        ({}, {"K": 2**40, "N": 2**40}, InvalidModel, "an operand of shape"),
        ({}, {"K": 48}, InvalidModel, r"an operand of shape \[1, 40\], expected \[..., 48\]"),
        ({"s": np.ones((2, 2), np.float32)}, {}, InvalidModel, r"scales of shape \[2, 2\], expected \[2, 3\]"),
        ({"s": np.full((2, 3), np.nan, np.float32)}, {}, InvalidModel, "scales that hold nan"),
        ({"s": np.ones((2, 3), np.int32)}, {}, InvalidModel, "scales of type int32, expected float or float16"),
        ({"z": np.zeros((2, 3), np.uint8)}, {}, InvalidModel, r"zero points of shape \[2, 3\], expected \[2, 2\]"),
        ({"z": np.full((2, 3), np.inf, np.float32)}, {}, InvalidModel, "zero points that holds? inf"),
        ({"b": np.zeros((2, 3, 8), np.int8)}, {}, InvalidModel, "weights of type int8, expected uint8"),
        ({"g": np.zeros(40, np.int32)}, {}, UnsupportedModel, "packed zero points, which onnxruntime ignores"),
        ({"g": np.full(40, 3, np.int32)}, {}, InvalidModel, "block indices from 3 to 3, expected 0 to 2"),
        ({"g": np.zeros(41, np.int32)}, {}, InvalidModel, "block indices of shape"),
    ],
)
def test_layouts_that_do_not_fit(
    tmp_path: Path, changed: dict[str, Any], attributes: dict[str, int], error: type[QCompilerError], words: str
) -> None:
    operands = {"a": np.zeros((1, 40), np.float32)} | dict(GOOD) | changed
    proto = one_node("MatMulNBits", list(operands.items()), ["a"], "com.microsoft", **(SETTINGS | attributes))
    with pytest.raises(error, match=words) as caught:
        load(write(tmp_path, proto))
    assert caught.value.node == "node"


def test_weights_that_depend_on_data(tmp_path: Path) -> None:
    operands = [("a", np.zeros((1, 40), np.float32)), *GOOD]
    proto = one_node("MatMulNBits", operands, ["a", "b"], "com.microsoft", **SETTINGS)
    with pytest.raises(UnsupportedModel, match="weights that depend on data"):
        load(write(tmp_path, proto))
