"""TVM writes warnings to standard error from C++, past Python and without a switch: here they are dropped."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator

_LINE = re.compile(rb"^\[\d\d:\d\d:\d\d\] \S+:\d+: (Warning|INFO)")
_STDERR = 2
_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop TVM's own lines from standard error meanwhile; what others write there comes out at the end."""
    with _one_at_a_time, tempfile.TemporaryFile() as caught:
        sys.stderr.flush()
        kept = os.dup(_STDERR)
        os.dup2(caught.fileno(), _STDERR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, _STDERR)
            os.close(kept)
            caught.seek(0)
            for line in caught:
                if not _LINE.match(line):
                    os.write(_STDERR, line)
