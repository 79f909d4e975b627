"""The batch: the first axis of all inputs and outputs, where the file leaves its size open (docs/adr/0019-batch.md).

Kept in the graph's metadata under "qcompiler.batch", as JSON.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import onnx_ir as ir

_KEY = "qcompiler.batch"


@dataclass(frozen=True)
class BatchAxis:
    """open_inputs: inputs whose batch nobody gave, so that it was taken as 1, each as 'x' [N, 3]; "" for none.

    remedy: the options that give it.
    """

    open_inputs: str = ""
    remedy: str = ""


def record_batch_axis(graph: ir.Graph, axis: BatchAxis | None) -> None:
    """Remember that the file has a batch of open size."""
    if axis is not None:
        graph.metadata_props[_KEY] = json.dumps(asdict(axis))


def batch_axis(graph: ir.Graph) -> BatchAxis | None:
    """The batch axis of the file, None where it has none."""
    found = graph.metadata_props.get(_KEY)
    return None if found is None else BatchAxis(**json.loads(found))
