"""Store files of producers that are not among the dependencies, with their own results.

    python -m tests.end_to_end.producers.store FOLDER NAME...

FOLDER/NAME.onnx is a file as its producer exported it, FOLDER/NAME.npz an input x and the result y of the producer's
own evaluation. Weights that lie beside the file are taken into it; documentation, stack traces and shapes of
intermediate values, which no reader needs, are left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx

HERE = Path(__file__).parent
REFERENCES = HERE / "references.npz"


def stripped(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without what only people read."""
    graphs = [model.graph, *model.functions]
    for holder in (model, *graphs, *(node for graph in graphs for node in graph.node)):
        holder.ClearField("doc_string")
        holder.ClearField("metadata_props")
    for graph in graphs:
        graph.ClearField("value_info")
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.ClearField("metadata_props")
        value.ClearField("doc_string")
    return model


def store(folder: Path, names: list[str]) -> None:
    """Write the fixtures, beside those that are there."""
    references = dict(np.load(REFERENCES)) if REFERENCES.exists() else {}
    for name in names:
        onnx.save(stripped(onnx.load(folder / f"{name}.onnx")), HERE / f"{name}.onnx")
        given = np.load(folder / f"{name}.npz")
        references |= {f"{name}.x": given["x"], f"{name}.y": given["y"]}
    np.savez_compressed(REFERENCES, **references)


if __name__ == "__main__":
    store(Path(sys.argv[1]), sys.argv[2:])
