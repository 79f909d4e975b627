"""From a trained torch model to an ONNX file with QONNX quantizers, compared in onnxruntime before it appears."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx.checker
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from qcompiler.bundle.staging import new_file
from qcompiler.errors import QCompilerError, UnsupportedModel, UsageError
from qcompiler.nn.agreement import QuantizerNode, largest_difference
from qcompiler.nn.fixed import DOMAIN
from qcompiler.nn.freeze import freeze
from qcompiler.nn.functions import attach_quantizer_bodies
from qcompiler.nn.tidy import module_path, tidy
from qcompiler.place import check_file

OPSET = 18
_AS_TENSOR = "torch.from_numpy makes one of an array"
IR_VERSION = 10
"""What tools of the year 2024 read; newer ones read it too."""


@dataclass(frozen=True)
class Export:
    """A written file, its size, and the largest difference of an output from torch (None where not compared).

    The difference is relative to the output's largest magnitude.
    """

    path: Path
    bytes: int
    largest_difference: float | None


def export_onnx(
    model: nn.Module,
    example: Tensor | Sequence[Tensor],
    path: str | os.PathLike[str],
    *,
    check: bool = True,
    inputs: Sequence[str] = ("image",),
    outputs: Sequence[str] = ("scores",),
    dynamic_batch: bool = False,
) -> Export:
    """Write `model`, frozen, as an ONNX file that stock onnxruntime, QONNX tools and qcompiler read.

    example: the input, or one tensor for each of `inputs`, and one name of `outputs` for each output; the file is
    for these shapes, or with `dynamic_batch` for any length of their first axis. check: run the file in onnxruntime
    on the example and compare it with torch. The file replaces an existing one when it is complete and correct. The
    model itself is left as it is.
    Raises UsageError (the model does not take the example, is not of float32, or has other outputs; `path` cannot be
    written), UnsupportedModel (no constant quantizer, or no ONNX form), VerificationFailed (onnxruntime computes
    something else than torch).
    """
    check_file(Path(path))
    _check_names([*inputs, *outputs])
    model = uncompiled(model)
    tensors = _tensors(example)
    _check_values(model)
    _check_float32(model, tensors)
    frozen = freeze(model).cpu()
    _check_example(frozen, tensors, inputs, outputs)
    if dynamic_batch:
        # the exporter takes an axis of length 1 for a constant
        tensors = [torch.cat([tensor, tensor]) if len(tensor) == 1 else tensor for tensor in tensors]
    exported = _exported(frozen, tensors, inputs, outputs, dynamic_batch)
    exported.graph.name = type(model).__name__
    sources = _quantizer_nodes(exported)
    tidy(exported)
    attach_quantizer_bodies(exported)
    exported.ir_version = IR_VERSION
    file = ir.to_proto(exported)
    onnx.checker.check_model(file, full_check=True)
    difference = largest_difference(frozen, tensors, file, _named(sources)) if check else None
    return Export(Path(path), _written(file, Path(path)), difference)


def uncompiled(model: nn.Module) -> nn.Module:
    """The module that torch.compile has wrapped, or the module itself."""
    plain: nn.Module = getattr(model, "_orig_mod", model)
    return plain


def _check_names(names: Sequence[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"'{twice}' names two inputs or outputs", remedy="choose a name of its own for each")


def _tensors(example: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """The example's tensors on the CPU."""
    given: list[Any] = [*example] if isinstance(example, list | tuple) else [example]
    wrong = next((each for each in given if not isinstance(each, Tensor)), None)
    if wrong is not None:
        kind = type(wrong).__name__
        raise UsageError(f"the example is of type {kind}, expected a tensor or a list of them", remedy=_AS_TENSOR)
    if any(tensor.is_meta for tensor in given):
        raise UsageError("the example is a meta tensor, without values", remedy="give one with values")
    return [tensor.detach().cpu() for tensor in given]


def _check_values(model: nn.Module) -> None:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_meta or is_lazy(tensor):
            raise UsageError(f"'{name}' has no values yet", remedy="load or initialise the model first")


def _check_float32(model: nn.Module, example: Sequence[Tensor]) -> None:
    """Refuse the other float types: the grids, and the comparison with onnxruntime, are of float32."""
    held = [(f"'{name}'", tensor) for name, tensor in (*model.named_parameters(), *model.named_buffers())]
    for name, tensor in [*held, *(("the example", tensor) for tensor in example)]:
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise UsageError(f"{name} is {tensor.dtype}, expected float32", remedy="call .float() on model and example")


def _check_example(frozen: nn.Module, example: Sequence[Tensor], inputs: Sequence[str], outputs: Sequence[str]) -> None:
    if len(example) != len(inputs):
        raise UsageError(f"{len(example)} example tensors for {len(inputs)} inputs ({', '.join(inputs)})")
    try:
        with torch.no_grad():
            result = frozen(*example)
    except QCompilerError:
        raise
    except Exception as error:  # the model's own code, which may raise anything
        shapes = ", ".join(str(list(tensor.shape)) for tensor in example)
        raise UsageError(
            f"the model cannot run on an example of shape {shapes}: {_first_line(error)}",
            remedy="give one example of the model's input",
        ) from error
    results = [*result] if isinstance(result, list | tuple) else [result]
    wrong = next((each for each in results if not isinstance(each, Tensor)), None)
    if wrong is not None:
        raise UsageError(
            f"the model returns {type(wrong).__name__}, expected a tensor or a tuple of tensors",
            remedy="wrap it in a module that returns its tensors",
        )
    if len(results) != len(outputs):
        raise UsageError(
            f"the model has {len(results)} outputs, {len(outputs)} are named ({', '.join(outputs)})",
            remedy="give one name for each: outputs=(...)",
        )


def _exported(
    frozen: nn.Module, example: Sequence[Tensor], inputs: Sequence[str], outputs: Sequence[str], dynamic_batch: bool
) -> ir.Model:
    batch = torch.export.Dim("batch") if dynamic_batch else None
    settings: dict[str, Any] = {"dynamic_shapes": tuple({0: batch} for _ in example)} if batch is not None else {}
    try:
        with _quiet():
            program = torch.onnx.export(
                frozen, tuple(example), input_names=list(inputs), output_names=list(outputs),
                opset_version=OPSET, dynamo=True, optimize=False, verbose=False, **settings,
            )  # fmt: skip
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        cause = error.__cause__ or error
        raise UnsupportedModel(
            f"torch cannot export the model: {_first_line(cause)}",
            remedy="use operations whose shapes and branches do not depend on data",
        ) from error
    assert program is not None
    return program.model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on itself, and the graphs that it prints before an error, from the user."""
    disabled = logging.root.manager.disable
    logging.disable(max(disabled, logging.WARNING))
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _quantizer_nodes(model: ir.Model) -> list[tuple[str, ir.Node]]:
    """The quantizers of activations, with the names of their modules, which `tidy` removes."""
    constants = set(model.graph.initializers.values())
    quantizers = [node for node in model.graph if node.domain == DOMAIN]
    return [(module_path(node), node) for node in quantizers if node.inputs[0] not in constants]


def _named(sources: Sequence[tuple[str, ir.Node]]) -> list[QuantizerNode]:
    """The same with the values' final names."""
    return [
        QuantizerNode(module, str(node.inputs[0].name), str(node.outputs[0].name))
        for module, node in sources
        if node.graph is not None and node.inputs[0] is not None
    ]


def _written(file: onnx.ModelProto, path: Path) -> int:
    content = file.SerializeToString()
    with new_file(path) as staged:
        staged.write_bytes(content)
    return len(content)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
