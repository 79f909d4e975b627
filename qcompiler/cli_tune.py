"""The command line qtune: time kernels for a network, here or on a fleet of devices, and keep what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from qcompiler.cli import parse_bits, parse_shape
from qcompiler.command import Debug, Task, Version, importing, main
from qcompiler.errors import UsageError
from qcompiler.options import Options
from qcompiler.place import check_file

_HELP = """Time the kernels of a network's layers, and keep the times in a file that qcompile reads.

\b
Examples:
  qtune model.onnx --db tuned.jsonl                     on this machine
  qtune model.onnx --db tuned.jsonl --trials 8          eight kernels of each kind of layer at most
  qtune model.onnx --db tuned.jsonl --target arm --mcpu dotprod --tracker pc:9190 --key rpi5
  qtune model.onnx --db tuned.jsonl --report            what the file holds of the network; measures nothing
  qcompile model.onnx --tune-db tuned.jsonl             compile with what was measured

A kernel's results are compared with the reference before its time counts. Ctrl-C keeps all that was measured, and the
same command goes on from there. Files are merged with cat. A file serves every network that has such layers.
Exit status: 0 done, 2 usage, 3 unsupported model, 4 invalid file, 1 anything else.
"""

_MOST_KEY = 100
_app = typer.Typer(add_completion=False, rich_markup_mode=None)


def qtune() -> NoReturn:
    """Entry point of the command qtune."""
    main(_app, "qtune", kept="what was measured is kept, and the same command goes on from there")


@_app.command(help=_HELP)
def _command(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", show_default=False)],
    db: Annotated[Path, typer.Option(metavar="FILE", help="File of records, made or added to.", show_default=False)],
    target: Annotated[str, typer.Option(metavar="NAME", help="Machine family.")] = "x86",
    mcpu: Annotated[
        str, typer.Option(metavar="NAME[,NAME...]", help="As for qcompile; the best that runs is tuned.")
    ] = "",
    bits: Annotated[str, typer.Option(metavar="auto|1..8", help="Widest quantized layer allowed.")] = "auto",
    shape: Annotated[
        list[str] | None, typer.Option(metavar="NAME=1x3x224x224", help="Shape of an input; may be repeated.")
    ] = None,
    trials: Annotated[int, typer.Option(metavar="N", help="Kernels of each kind of layer at most.")] = 16,
    tracker: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Time on the devices of this TVM RPC tracker.")
    ] = None,
    key: Annotated[str, typer.Option(metavar="KEY", help="Of the devices, which are of one kind.")] = "",
    report: Annotated[bool, typer.Option("--report", help="Show what the file holds of the network.")] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="With --report: draw layers against the machine's limits.")
    ] = None,
    debug: Debug = False,
    show_version: Version = False,
) -> Task:
    check_file(db)
    if report and not db.is_file():
        raise UsageError(f"cannot read '{db}': there is no such file", remedy="measure first, without --report")
    if plot is not None and not report:
        raise UsageError("--plot needs --report", remedy="it shows what the file holds")
    if plot is not None:
        check_file(plot)
    if (tracker is None) != (not key):
        raise UsageError("--tracker and --key need each other", remedy="name the tracker and the kind of device")
    if key and not (key.isprintable() and len(key) <= _MOST_KEY):
        raise UsageError(f"--key: expected at most {_MOST_KEY} printable characters")
    shapes = dict(parse_shape(text) for text in shape or ())
    names = tuple(name for name in mcpu.split(",") if name)
    options = Options(target, names, parse_bits(bits), shapes=shapes, verify=False, tune=trials, tune_db=db)
    return lambda: _report(model, options, key, plot) if report else _tune(model, options, tracker or "", key)


def _tune(model: Path, options: Options, tracker: str, key: str) -> None:
    with importing():
        from qcompiler.tuning_run import run

    run(model, options, tracker, key)


def _report(model: Path, options: Options, key: str, plot: Path | None) -> None:
    with importing():
        from qcompiler.tuning_run import report

    report(model, options, key, plot)
