"""Names of classes, and which of them a network takes for likely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.display import Guess, classes_of
from qcompiler.errors import InvalidData, UsageError

Array = npt.NDArray[Any]
TOP = 5
# bytes of a file of names; chosen
_MAX_BYTES = 16 * 2**20


def read_names(path: Path) -> tuple[str, ...]:
    """The names of a file, one on each line, in the order of the classes. Raises UsageError or InvalidData."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror or error}") from error
    if len(content) > _MAX_BYTES:
        raise UsageError(f"'{path}' has more than {_MAX_BYTES} bytes, expected a name on each line")
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidData(f"'{path}' is no text in UTF-8", remedy="write one name on each line") from error
    while lines and not lines[-1].strip():
        lines.pop()
    return tuple(line.strip() for line in lines)


def scores_of(outputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs that look like scores of classes, as rows [N, C]."""
    return {name: np.atleast_2d(array) for name, array in outputs.items() if classes_of(array) is not None}


def guesses(outputs: Mapping[str, Array], names: Sequence[str] | None, top: int) -> dict[str, list[list[Guess]]]:
    """The likeliest classes of every row of every output that looks like scores, by output name.

    names: of all classes, if they have any. Raises UsageError where there are more or fewer names than classes, or no
    output of scores.
    """
    scores = scores_of(outputs)
    if not scores:
        raise UsageError("no output of the network is scores of classes", remedy="leave out --labels and --top")
    for output, rows in scores.items():
        if names is not None and len(names) != rows.shape[1]:
            raise UsageError(
                f"there are {len(names)} labels, output '{output}' has {rows.shape[1]} classes",
                remedy="give one name on each line, in the order of the classes",
            )
    return {output: [_likeliest(row, names, top) for row in rows] for output, rows in scores.items()}


def _likeliest(row: Array, names: Sequence[str] | None, top: int) -> list[Guess]:
    """Of equal scores the first is the likelier one, as argmax has it."""
    order = np.argsort(-row.astype(np.float64), kind="stable")[:top]
    return [Guess(int(index), names[index] if names else "", float(row[index])) for index in order]
