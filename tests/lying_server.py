"""TVM's RPC server on a device that lies: kernels run there, but what they are said to give or take is false.

    python -m tests.lying_server LIE --host HOST --port PORT --port-end PORT --key KEY --tracker HOST:PORT

LIE: "results", of which a byte is another one; "fast" or "slow", times that cannot be.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
from pathlib import Path
from typing import Any

from tvm.rpc import server

from qcompiler.bundle.device import parse_address
from qcompiler.tuning import build

LIES = ("results", "fast", "slow")
# a library around the one that was sent; the last tensor before the integers holds results, or times
_SOURCE = """
#include <dlfcn.h>
#include <stdint.h>
#include <tvm/ffi/c_api.h>
typedef int (*Function)(void *, const TVMFFIAny *, int32_t, TVMFFIAny *);
static int honest(const char *name, void *self, const TVMFFIAny *arguments, int32_t count, TVMFFIAny *result) {
    return ((Function)dlsym(dlopen(SENT, RTLD_NOW | RTLD_LOCAL), name))(self, arguments, count, result);
}
static char *data(const TVMFFIAny *argument) {
    const DLTensor *tensor = argument->v_ptr;
    return (char *)tensor->data + tensor->byte_offset;
}
int __tvm_ffi_run(void *self, const TVMFFIAny *arguments, int32_t count, TVMFFIAny *result) {
    int failed = honest("__tvm_ffi_run", self, arguments, count, result);
    if (RESULTS) *data(arguments + count - 2) ^= 1;
    return failed;
}
int __tvm_ffi_time(void *self, const TVMFFIAny *arguments, int32_t count, TVMFFIAny *result) {
    int failed = honest("__tvm_ffi_time", self, arguments, count, result);
    if (TIME) *(double *)data(arguments + count - 4) = TIME;
    return failed;
}
"""


def false_library(sent: Path, lie: str) -> Path:
    """A library that runs the functions of another one, and lies about them."""
    source, false = sent.with_suffix(".c"), sent.with_suffix(".false.so")
    source.write_text(_SOURCE)
    time = {"fast": "1e-3", "slow": "1e12"}.get(lie, "0")
    names = [f'-DSENT="{sent}"', f"-DRESULTS={int(lie == 'results')}", f"-DTIME={time}"]
    headers = [f"-I{path}" for path in build.headers()]
    subprocess.run(["cc", "-shared", "-fPIC", "-o", false, source, *names, *headers, "-ldl"], check=True)
    return false


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description="An RPC server that lies.")
    parser.add_argument("lie", choices=LIES)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--port-end", type=int, required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--tracker", type=parse_address, required=True)
    options = parser.parse_args()
    honest = server._load_module

    def load(path: str) -> Any:
        return honest(str(false_library(Path(path), options.lie)))

    server._load_module = load
    logging.getLogger("RPCServer").setLevel(logging.INFO)
    state = server.PopenRPCServerState(
        options.host, options.port, options.port_end, key=options.key, tracker_addr=options.tracker
    )
    state.thread.join()


if __name__ == "__main__":
    main()
