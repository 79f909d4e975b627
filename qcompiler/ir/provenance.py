"""What the user is told about a node: where it came from, why it is not binary, and what was assumed.

Kept in `node.metadata_props`: "qcompiler.source" (original node names, comma separated), "qcompiler.widths" (of a
layer, such as w2a4), "qcompiler.reason" and "qcompiler.note".
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

SOURCE = "qcompiler.source"
REASON = "qcompiler.reason"
NOTE = "qcompiler.note"
WIDTHS = "qcompiler.widths"


def sources(node: ir.Node) -> tuple[str, ...]:
    """Names of the original nodes that `node` stands for; its own name if no pass touched it."""
    recorded = node.metadata_props.get(SOURCE)
    if recorded is not None:
        return tuple(recorded.split(","))
    return (node.name,) if node.name else ()


def add_sources(node: ir.Node, origins: Iterable[ir.Node]) -> None:
    """Record that `node` replaces `origins`, in addition to what it already stands for."""
    recorded = node.metadata_props.get(SOURCE)
    names = dict.fromkeys(recorded.split(",") if recorded else ())
    for origin in origins:
        names.update(dict.fromkeys(sources(origin)))
    if names:
        node.metadata_props[SOURCE] = ",".join(names)


def carry_remarks(node: ir.Node, origins: Iterable[ir.Node]) -> None:
    """Keep the reasons, notes and widths of `origins` on the node that replaces them."""
    for key in (REASON, NOTE):
        remarks = [origin.metadata_props[key] for origin in origins if key in origin.metadata_props]
        if remarks:
            node.metadata_props[key] = "; ".join(dict.fromkeys(remarks))
    for origin in origins:
        if WIDTHS in origin.metadata_props:
            node.metadata_props.setdefault(WIDTHS, origin.metadata_props[WIDTHS])


def label(node: ir.Node | None) -> str:
    """How a message names a node: its op type and its original name."""
    if node is None:
        return "the graph input"
    first = sources(node)
    return f"{node.op_type} '{first[0] if first else node.name}'"
