"""One file read by the front end: what it takes, and whether anything but a graph or an error of ours comes of it."""

from __future__ import annotations

import resource
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

from qcompiler.border import border
from qcompiler.errors import InternalError, QCompilerError
from qcompiler.frontend import canonicalize

# what the front end may take for one file
MOST_SECONDS = 10.0
MOST_KILOBYTES = 2**20
_STATUSES = (2, 3, 4)


@dataclass(frozen=True)
class Trial:
    """How one file came out.

    fault: what is wrong, without the names and numbers of the file; empty where nothing is. refused: whether the file
    was refused, as it should be if it is wrong. kilobytes: the largest resident size so far.
    """

    fault: str
    detail: str
    refused: bool
    seconds: float
    kilobytes: int


def tried(path: Path) -> Trial:
    """Read the file up to the canonical graph."""
    start = time.process_time()
    fault = detail = ""
    refused = False
    try:
        with warnings.catch_warnings(action="error"), border():
            canonicalize(path)
    except InternalError as error:
        cause = error.__cause__ or error
        fault, detail = f"{type(cause).__name__} {_place(cause)}", "".join(traceback.format_exception(error))
    except QCompilerError as error:
        refused = True
        fault, detail = _wrong_refusal(error), f"{type(error).__name__}: {error}"
    except Exception as error:
        fault, detail = f"{type(error).__name__} {_place(error)}", "".join(traceback.format_exception(error))
    seconds = time.process_time() - start
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if not fault and seconds > MOST_SECONDS:
        fault = "slow"
    return Trial(fault, detail, refused, seconds, kilobytes)


def _wrong_refusal(error: QCompilerError) -> str:
    """What is wrong with an error; empty where it is as errors should be."""
    if error.exit_code not in _STATUSES:
        return f"{type(error).__name__} {_place(error)}"
    if len(str(error).splitlines()) != 1:
        return f"not one line {_place(error)}"
    return "" if error.remedy else f"no remedy {_place(error)}"


def _place(error: BaseException) -> str:
    """The innermost places in our own code."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f"{Path(frame.filename).name}:{frame.name}" for frame in frames if "/qcompiler/" in frame.filename]
    return "at " + " < ".join(reversed(ours[-3:]))
