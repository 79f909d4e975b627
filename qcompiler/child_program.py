"""The program of a `child.Child`: answers questions on a socket until it is closed."""

from __future__ import annotations

import sys
from multiprocessing.connection import Connection


def serve(connection: Connection) -> None:
    """Call the functions that come, and send back None, then (True, result) or (False, exception)."""
    while True:
        try:
            function, arguments = connection.recv()
        except EOFError:
            return
        # whoever asks counts the seconds from here on, when all is imported
        connection.send(None)
        try:
            answer = (True, function(*arguments))
        except Exception as error:
            answer = (False, error)
        try:
            connection.send(answer)
        except (TypeError, AttributeError, ValueError):
            # an exception of TVM's that cannot be sent
            connection.send((False, RuntimeError(str(answer[1]))))


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
