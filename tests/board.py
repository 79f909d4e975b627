"""The board of the tests: a root file system of 64-bit ARM with Python, numpy and TVM, to be run under qemu-user.

    python -m tests.board

makes it in .board/ from packages of Debian and PyPI, in about half a minute; nothing is installed on this machine.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from qcompiler.bundle.toolchain import emulator_for

ROOT = Path(__file__).resolve().parents[1] / ".board"
PYTHON = ROOT / "python3"
# musl is a C library besides glibc to link bundles with
DEBIAN = ("python3", "libstdc++6", "musl-dev")
MUSL = ROOT / "usr/lib/aarch64-linux-musl"
# the server is of the client's version; it needs the last three to run as a program
PYPI = (*(f"{name}=={metadata.version(name)}" for name in ("apache-tvm", "apache-tvm-ffi")), "numpy")
SERVER = ("tornado", "psutil", "cloudpickle")
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
# -0 makes sys.executable this script, so that Python can start itself
WRAPPER = """#!/bin/sh
root=$(dirname "$(readlink -f "$0")")
export PYTHONPATH="$root/site:$PYTHONPATH"
exec {emulator} -0 "$root/python3" -L "$root" "$root/usr/bin/{python}" "$@"
"""


def reason_to_skip() -> str:
    """Why nothing can be run on the board; empty if it is there."""
    return "" if PYTHON.exists() else "no emulated board: make it with python -m tests.board"


def make() -> None:
    """Make the board, whole or not at all."""
    emulator = emulator_for("aarch64")
    missing = [tool for tool in ("apt-get", "dpkg") if shutil.which(tool) is None] + ["qemu-user"] * (not emulator)
    if missing:
        sys.exit(
            f"error: {', '.join(missing)} not found: the board is made from Debian's packages and run by qemu-user"
        )
    ROOT.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT.parent, prefix=".board-") as folder:
        staged = Path(folder) / "root"
        _unpack_debian(staged, Path(folder) / "apt")
        python = (staged / "usr/bin/python3").readlink().name
        _unpack_pypi(staged / "site", python.removeprefix("python"))
        wrapper = staged / PYTHON.name
        wrapper.write_text(WRAPPER.format(emulator=emulator, python=python))
        wrapper.chmod(0o755)
        shutil.rmtree(ROOT, ignore_errors=True)
        staged.rename(ROOT)


def _unpack_debian(root: Path, state: Path) -> None:
    """Packages with all that they depend on, by apt with lists and caches of its own: no architecture is added here."""
    for name in ("lists/partial", "archives/partial"):
        (state / name).mkdir(parents=True)
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "",
        "Debug::NoLocking": "1",
        "Dir::Cache": str(state),
        "Dir::State::Lists": str(state / "lists"),
        "Dir::State::status": "/dev/null",
    }
    apt = ["apt-get", "-qq", *(word for item in settings.items() for word in ("-o", "=".join(item)))]
    # sources of others that lack arm64 are no obstacle
    subprocess.run([*apt, "update"], check=False, stdout=subprocess.DEVNULL)
    command = [*apt, "install", "-y", "--no-install-recommends", "--download-only", *DEBIAN]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    for package in sorted((state / "archives").glob("*.deb")):
        subprocess.run(["dpkg", "-x", package, root], check=True)


def _unpack_pypi(site: Path, python_version: str) -> None:
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    options = ["--quiet", "--target", str(site), "--python-version", python_version, "--only-binary=:all:", *platforms]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, *PYPI, *SERVER], check=True)


if __name__ == "__main__":
    make()
