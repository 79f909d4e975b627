"""ggml on the CPU: products of floats and weights of 4 and 8 bits in blocks of 32.

There is no wheel of it alone. Build it into the environment of the peers, whose libraries are then found:

    git clone https://github.com/ggml-org/ggml && cmake -S ggml -B build -DCMAKE_INSTALL_PREFIX=<environment> && \
        cmake --build build --target install
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import c_bool, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.contestants import Lacking
from benchmarks.models import Workload
from benchmarks.network import FewBitDense, FloatArray
from benchmarks.timing import Round, measure

# enum ggml_type, enum ggml_backend_dev_type and the size of a block, as in its headers
_TYPES = {4: 2, 8: 8}
_FLOAT32, _CPU, _BLOCK = 0, 0, 32
_CONTEXT_BYTES = 1 << 20


class _Settings(ctypes.Structure):
    """`ggml_init_params`."""

    _fields_ = (("bytes", c_size_t), ("memory", c_void_p), ("no_data", c_bool))


class _Library:
    """The functions in use; every pointer is a `void *`."""

    def __init__(self) -> None:
        folder = Path(sys.prefix) / "lib"
        libraries = [
            ctypes.CDLL(str(folder / f"lib{name}.so"), ctypes.RTLD_GLOBAL) for name in ("ggml-base", "ggml-cpu", "ggml")
        ]
        self._libraries = libraries

    def call(self, name: str, *arguments: Any, gives: Any = c_void_p) -> Any:
        """Call a function of any of the libraries."""
        function = next(getattr(library, name) for library in self._libraries if hasattr(library, name))
        function.restype = gives
        return function(*arguments)


class GgmlSession:
    """A graph of one product, its weights repacked where ggml has kernels for that."""

    def __init__(self, workload: Workload, threads: int) -> None:
        (product,) = workload.network.nodes
        if not isinstance(product, FewBitDense) or product.bits not in _TYPES or product.size != _BLOCK:
            raise Lacking("only products with weights of 4 and 8 bits in blocks of 32")
        self._ggml, (rows, inputs), outputs = _Library(), workload.x.shape, len(product.codes)
        self._shape = rows, outputs
        call = self._ggml.call
        self._backend = c_void_p(call("ggml_backend_cpu_init"))
        call("ggml_backend_cpu_set_n_threads", self._backend, c_int(threads), gives=None)
        context = self._context()
        self._x = c_void_p(call("ggml_new_tensor_2d", context, c_int(_FLOAT32), c_int64(inputs), c_int64(rows)))
        for place in self._places():
            weights = self._weights(product.bits, inputs, outputs, place)
            self._y = c_void_p(call("ggml_mul_mat", context, weights, self._x))
            if call("ggml_backend_dev_supports_op", self._device(), self._y, gives=c_bool):
                break
        self._set(weights, _packed(product))
        self._graph = c_void_p(call("ggml_new_graph", context))
        call("ggml_build_forward_expand", self._graph, self._y, gives=None)
        call("ggml_backend_alloc_ctx_tensors", context, self._backend)
        self._set(self._x, np.ascontiguousarray(workload.x, np.float32))

    def _context(self) -> c_void_p:
        return c_void_p(self._ggml.call("ggml_init", _Settings(_CONTEXT_BYTES, None, True)))

    def _device(self) -> c_void_p:
        return c_void_p(self._ggml.call("ggml_backend_dev_by_type", c_int(_CPU)))

    def _places(self) -> list[c_void_p]:
        """Kinds of memory for weights: those that repack them first, then as they are."""
        registry = c_void_p(self._ggml.call("ggml_backend_dev_backend_reg", self._device()))
        name = c_char_p(b"ggml_backend_dev_get_extra_bufts")
        address = self._ggml.call("ggml_backend_reg_get_proc_address", registry, name)
        listed = ctypes.CFUNCTYPE(ctypes.POINTER(c_void_p), c_void_p)(address)(self._device()) if address else None
        found: list[c_void_p] = []
        while listed and listed[len(found)]:
            found.append(c_void_p(listed[len(found)]))
        return [*found, c_void_p(self._ggml.call("ggml_backend_cpu_buffer_type"))]

    def _weights(self, bits: int, inputs: int, outputs: int, place: c_void_p) -> c_void_p:
        """Room for weights in a kind of memory."""
        call, context = self._ggml.call, self._context()
        made = c_void_p(call("ggml_new_tensor_2d", context, c_int(_TYPES[bits]), c_int64(inputs), c_int64(outputs)))
        call("ggml_backend_alloc_ctx_tensors_from_buft", context, place)
        return made

    def _set(self, tensor: c_void_p, content: npt.NDArray[Any]) -> None:
        data, size = content.ctypes.data_as(c_void_p), c_size_t(content.nbytes)
        self._ggml.call("ggml_backend_tensor_set", tensor, data, c_size_t(0), size, gives=None)

    def run(self) -> None:
        """One inference."""
        self._ggml.call("ggml_backend_graph_compute", self._backend, self._graph, gives=c_int)

    def measure(self, seconds: float) -> Round:
        """Time inferences for about `seconds`."""
        return measure(self.run, seconds)

    def output(self) -> FloatArray:
        """The result of the last run."""
        y = np.empty(self._shape, np.float32)
        data = y.ctypes.data_as(c_void_p)
        self._ggml.call("ggml_backend_tensor_get", self._y, data, c_size_t(0), c_size_t(y.nbytes), gives=None)
        return y

    def kernel_seconds(self) -> float | None:
        """Not measured."""
        return None


def _packed(product: FewBitDense) -> npt.NDArray[np.uint8]:
    """Blocks of 32 weights, of which a half-precision scale comes first; in 4 bits, those 16 apart share a byte."""
    codes = product.codes.reshape(len(product.codes), -1, _BLOCK)
    scales = product.scales.astype(np.float16)[..., None].view(np.uint8)
    low, high = codes[..., : _BLOCK // 2], codes[..., _BLOCK // 2 :]
    held = codes ^ np.uint8(0x80) if product.bits == 8 else low | (high << np.uint8(4))
    return np.ascontiguousarray(np.concatenate([scales, held], axis=-1), np.uint8)


def open_blocks(workload: Workload, threads: int) -> GgmlSession:
    """A session on `threads` threads."""
    return GgmlSession(workload, threads)
