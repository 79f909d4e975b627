"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

Line = TypeVar("Line")


def table(columns: Mapping[str, Callable[[Line], str]], lines: Iterable[Line]) -> str:
    """A row for each line; columns: the text of a cell by the head of its column."""
    rows = [list(columns), ["---"] * len(columns), *([cell(line) for cell in columns.values()] for line in lines)]
    cells = ([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)
    return "".join("| " + " | ".join(row) + " |\n" for row in cells)
