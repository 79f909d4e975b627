"""Where foreign exceptions end: what escapes from a library or from our own code is a fault of qcompiler."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import TracebackType

import numpy as np

from qcompiler.errors import InternalError, QCompilerError

# of a foreign message; chosen
_MOST_CHARACTERS = 300


@contextlib.contextmanager
def border() -> Iterator[None]:
    """Let only our own errors out, and those of the system: any other becomes InternalError with the node at hand.

    Numbers of a file may overflow. What becomes of them is checked; a warning by numpy would be a line of its own.
    """
    try:
        with np.errstate(all="ignore"):
            yield
    except (QCompilerError, MemoryError, OSError):
        raise
    except Exception as error:
        raise InternalError(f"{type(error).__name__}: {_first_words(error)}", node=_node_at_hand(error)) from error


def _first_words(error: BaseException) -> str:
    """What the exception says, on one line; libraries append whole programs."""
    return " ".join(str(error).split())[:_MOST_CHARACTERS]


def _node_at_hand(error: BaseException) -> str:
    """The name of the node that the innermost function was working on; empty where none was."""
    found = ""
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        node = trace.tb_frame.f_locals.get("node")
        name = getattr(node, "name", None)
        found = name if isinstance(name, str) and name else found
        trace = trace.tb_next
    return found
