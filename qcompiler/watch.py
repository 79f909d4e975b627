"""Looking inside: the graph after a pass, printed or saved as a runnable ONNX file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import onnx.printer
import onnx_ir as ir

from qcompiler.errors import UsageError
from qcompiler.ir.ops import attach_functions

FRONTEND = "frontend"


@dataclass
class GraphWatcher:
    """Called with the name of each finished pass and the graph."""

    print_after: str | None
    save_ir: Path | None
    count: int = field(default=0)

    @classmethod
    def create(cls, print_after: str | None, save_ir: str | Path | None, names: Sequence[str]) -> GraphWatcher:
        """Raises UsageError for an unknown pass name or a folder that cannot be made."""
        known = (FRONTEND, *dict.fromkeys(names))
        if print_after is not None and print_after not in known:
            raise UsageError(f"unknown pass '{print_after}'", remedy=f"choose one of: {', '.join(known)}")
        folder = Path(save_ir) if save_ir is not None else None
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                message = f"cannot create '{folder}': {error.strerror}"
                raise UsageError(message, remedy="choose another folder") from None
        return cls(print_after, folder)

    def __call__(self, name: str, model: ir.Model) -> None:
        """Print or save the graph after the pass `name`."""
        if name != self.print_after and self.save_ir is None:
            return
        attach_functions(model)
        proto = ir.serde.serialize_model(model)
        if name == self.print_after:
            print(f"after {name}:")
            print(onnx.printer.to_text(_without_data(proto)))
        if self.save_ir is not None:
            self._save(name, proto)

    def _save(self, name: str, proto: onnx.ModelProto) -> None:
        assert self.save_ir is not None
        path = self.save_ir / f"{self.count:02d}-{name}.onnx"
        self.count += 1
        try:
            path.write_bytes(proto.SerializeToString())
        except OSError as error:
            raise UsageError(f"cannot write '{path}': {error.strerror}", remedy="choose another --save-ir") from None


def _without_data(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy for reading: the contents of large initializers would bury the graph."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    del copy.graph.initializer[:]
    for tensor in proto.graph.initializer:
        if len(tensor.raw_data) <= 64:
            copy.graph.initializer.append(tensor)
    return copy
