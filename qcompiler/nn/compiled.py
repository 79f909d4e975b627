"""One call from a trained torch module to a library that takes and gives torch tensors."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

import qcompiler
from qcompiler.bundle.load import Bundle
from qcompiler.bundle.staging import check_free
from qcompiler.bundle.tensors import check_names
from qcompiler.bundle.tensors import describe as described
from qcompiler.errors import UsageError
from qcompiler.ir.pixels import Pixels
from qcompiler.ir.program import TensorInfo
from qcompiler.nn.export import export_onnx, uncompiled

Value = TypeVar("Value", Tensor, npt.NDArray[Any])


class TorchBundle:
    """A compiled network that is called as the torch module it was made of, with tensors on the CPU or numpy arrays.

    bundle: the network, as `qcompiler.load` gives it, with its report, benchmark and profile. A contiguous CPU tensor
    of the input's dtype is read where it lies, and results are tensors on the memory that the network wrote; anything
    else is copied once. No gradient flows through.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def __call__(self, *values: Value, threads: int = 1) -> Value | tuple[Value, ...]:
        """The output of the network for one value per input, in their order; of several outputs a tuple.

        values: as `run` takes them. Raises UsageError as `run` does.
        """
        tensors = self.bundle.inputs
        if len(values) != len(tensors):
            wanted = ", ".join(map(described, tensors))
            raise UsageError(f"{len(values)} inputs given, the network takes {len(tensors)}", remedy=f"give {wanted}")
        names = [tensor.name for tensor in tensors]
        results = tuple(self.run(dict(zip(names, values, strict=True)), threads).values())
        return results[0] if len(results) == 1 else results

    def run(self, inputs: Mapping[str, Value], threads: int = 1) -> dict[str, Value]:
        """Run the network by the names of inputs and outputs.

        inputs: one value per input, all of them tensors or all numpy arrays, of the shapes and dtypes that
        `Bundle.run` takes. The result has one new value of the same kind per output. Raises UsageError for wrong
        inputs, and for tensors on another device than the CPU.
        """
        check_names(inputs, self.bundle.inputs)
        kinds = {isinstance(value, Tensor) for value in inputs.values()}
        if len(kinds) > 1:
            raise UsageError("some inputs are tensors and some are not", remedy="give all as tensors or all as arrays")
        if kinds == {False}:
            return self.bundle.run(inputs, threads)
        arrays = {tensor.name: _array(inputs[tensor.name], tensor) for tensor in self.bundle.inputs}
        return {name: torch.from_numpy(array) for name, array in self.bundle.run(arrays, threads).items()}


def _array(value: Tensor, expected: TensorInfo) -> npt.NDArray[Any]:
    """The memory of a tensor on the CPU as an array."""
    if value.device.type != "cpu":
        raise UsageError(f"input '{expected.name}' lies on {value.device}, expected the CPU", remedy="call .cpu()")
    if value.layout != torch.strided:
        raise UsageError(
            f"input '{expected.name}' is {value.layout}, expected a dense tensor", remedy="use .to_dense()"
        )
    if str(value.dtype) != f"torch.{np.dtype(expected.dtype).name}":
        raise UsageError(
            f"input '{expected.name}' is {value.dtype}, expected torch.{expected.dtype}",
            remedy=f"convert it with .to(torch.{expected.dtype})",
        )
    # forced: without the gradient, and without the lazy minus of some views
    array: npt.NDArray[Any] = value.numpy(force=True)
    return array


def compile(
    module: nn.Module,
    example: Tensor | Sequence[Tensor],
    target: str = "x86",
    *,
    mcpu: Sequence[str] = (),
    output: str | Path | None = None,
    inputs: Sequence[str] = ("image",),
    outputs: Sequence[str] = ("scores",),
    dynamic_batch: bool = False,
    threads: int = 1,
    pixels: Pixels | None = None,
    force: bool = False,
    progress: Callable[[str], None] | None = None,
) -> TorchBundle:
    """Compile a trained module: export it, compare torch with the exported graph, compile, verify, load.

    example, inputs, outputs: as for `export_onnx`. dynamic_batch: the library runs any batch, as many rows at a time as
    the example has; else batches of the example's size alone. target, mcpu, threads, pixels, force, progress: as for
    `qcompiler.compile`. output: the directory of the bundle, left out CLASS.qc, after the module's class.

    The module is left as it is. Nothing is written on failure. Raises UsageError (no module, one in training mode, an
    example that does not fit, a bad option), UnsupportedModel (the module has no constant graph, or one that cannot be
    compiled) and VerificationFailed (torch, onnxruntime and the library do not agree).
    """
    _check_module(module)
    folder = Path(output) if output is not None else Path(f"{_name(type(uncompiled(module)).__name__)}.qc")
    check_free(folder, force=force)
    with tempfile.TemporaryDirectory(prefix="qcompiler-") as scratch:
        path = Path(scratch) / f"{_name(folder.stem)}.onnx"
        export_onnx(module, example, path, inputs=inputs, outputs=outputs, dynamic_batch=dynamic_batch)
        tensors = [example] if isinstance(example, Tensor) else example
        shapes = {name: tuple(tensor.shape) for name, tensor in zip(inputs, tensors, strict=True)}
        return TorchBundle(
            qcompiler.compile(
                path, target, mcpu=mcpu, output=folder, shapes=shapes, threads=threads, pixels=pixels, force=force,
                progress=progress,
            )
        )  # fmt: skip


def _check_module(module: object) -> None:
    if not isinstance(module, nn.Module):
        kind = f"the class {module.__name__}" if isinstance(module, type) else f"a {type(module).__name__}"
        raise UsageError(f"the module is {kind}, expected a torch.nn.Module", remedy="give the network itself")
    training = next((name for name, each in module.named_modules() if each.training), None)
    if training is not None:
        which = f"'{training}'" if training else "the module"
        raise UsageError(f"{which} is in training mode", remedy="call .eval() first")


def _name(text: str) -> str:
    """`text` as the name of a file and of C functions, in lower case."""
    return re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_").lower() or "net"
