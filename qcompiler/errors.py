"""Every error the user can meet, each with the exit status of the command line.

A message is one line: the thing (node, file, option), what was found, what was expected, and the remedy.
"""

from __future__ import annotations

import re

# words that no terminal has room for, such as some names
_LONG = re.compile(r"(\S{60})\S{140,}(\S{20})")


class QCompilerError(Exception):
    """Base of all deliberate errors; `exit_code` is the status of `qcompile` and `qrun`."""

    exit_code = 1

    def __init__(self, message: str, *, node: str = "", remedy: str = "") -> None:
        self.message = message
        self.node = node
        self.remedy = remedy
        where = f"node '{node}': " if node else ""
        then = f"; {remedy}" if remedy else ""
        super().__init__(one_line(f"{where}{message}{then}"))


def one_line(text: str) -> str:
    """Text for a terminal: on one line, long names shortened, and none of a file controls anything there."""
    words = _LONG.sub(r"\1...\2", " ".join(text.splitlines()))
    return words if words.isprintable() else "".join(map(_shown, words))


def _shown(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


class UsageError(QCompilerError):
    """A wrong option, input name, shape or dtype."""

    exit_code = 2


class UnsupportedModel(QCompilerError):
    """A valid model that qcompiler cannot compile (yet): which node, why, what to do."""

    exit_code = 3


class UnsupportedCpu(QCompilerError):
    """The CPU has none of the instruction sets that the bundle carries."""

    exit_code = 3


class InvalidModel(QCompilerError):
    """A file that is not a valid ONNX model, or is outside the safety bounds."""

    exit_code = 4


class InvalidBundle(QCompilerError):
    """A bundle that is truncated, tampered with, or of another format version."""

    exit_code = 4


class VerificationFailed(QCompilerError):
    """The compiled network, or the graph after a pass, disagrees with the reference."""

    exit_code = 5


class InvalidData(QCompilerError):
    """A data set, checkpoint or run log that is truncated, damaged or of another format."""

    exit_code = 4


class InternalError(QCompilerError):
    """Something that qcompiler itself got wrong and noticed: never the user's fault, never a wrong number."""

    def __init__(self, message: str, *, node: str = "") -> None:
        super().__init__(f"internal error: {message}", node=node, remedy="please report the model")
