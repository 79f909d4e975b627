"""The command line of `python -m qcompiler.passes`: run passes by hand, each proven on data as in a compile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from qcompiler.cli import parse_shape
from qcompiler.command import Debug, Task, main
from qcompiler.errors import UsageError
from qcompiler.place import check_file

if TYPE_CHECKING:
    from qcompiler.passes.result import Pass

_app = typer.Typer(add_completion=False, rich_markup_mode=None)

_HELP = """Run passes on an ONNX file, one after the other, and say what each of them did.

\b
Examples:
  python -m qcompiler.passes model.onnx                         all passes, in the order of a compile
  python -m qcompiler.passes model.onnx -p fold-constants,split-biases
  python -m qcompiler.passes model.onnx --time -o rewritten.onnx
"""


def command() -> NoReturn:
    """Entry point of python -m qcompiler.passes."""
    main(_app, "python -m qcompiler.passes")


@_app.command(help=_HELP)
def _command(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", show_default=False)],
    names: Annotated[str, typer.Option("-p", "--passes", metavar="NAME[,NAME...]", help="Default: all.")] = "",
    output: Annotated[Path | None, typer.Option("-o", metavar="OUT.onnx", help="Save the rewritten graph.")] = None,
    timed: Annotated[bool, typer.Option("--time", help="Print the seconds of each pass.")] = False,
    refusals: Annotated[bool, typer.Option(help="Print what each pass refused, and why.")] = True,
    check: Annotated[bool, typer.Option(help="Prove each pass on data.")] = True,
    shape: Annotated[
        list[str] | None, typer.Option(metavar="NAME=1x3x224x224", help="Shape of an input; may be repeated.")
    ] = None,
    debug: Debug = False,
) -> Task:
    if output is not None:
        check_file(output)
    shapes = dict(parse_shape(text) for text in shape or ())
    return lambda: _run(model, names, shapes, output, timed, refusals, check)


def _run(
    model: Path,
    names: str,
    shapes: dict[str, tuple[int, ...]],
    output: Path | None,
    timed: bool,
    refusals: bool,
    check: bool,
) -> None:
    import onnx_ir as ir

    from qcompiler import passes
    from qcompiler.bundle.staging import new_file
    from qcompiler.frontend import canonicalize
    from qcompiler.passes.result import PassResult
    from qcompiler.passes.runner import run_passes

    chosen = _chosen(names, passes.DEFAULT)
    graph = canonicalize(model, shapes)

    def show(_: ir.Model, result: PassResult, seconds: float) -> None:
        took = f"{1000 * seconds:9.1f} ms  " if timed else ""
        print(f"{took}{result.name}: {result.rewrites} rewrites, {len(result.refusals)} refused")
        for refusal in result.refusals if refusals else ():
            print(f"    {refusal.node}: {refusal.reason}")

    run_passes(graph, chosen, check=check, callback=show)
    if output is not None:
        with new_file(output) as staged:
            staged.write_bytes(ir.serde.serialize_model(graph).SerializeToString())
        print(f"wrote {output}")


def _chosen(names: str, known: Sequence[Pass]) -> list[Pass]:
    """The passes of these names, in their order; all of the default if there are none."""
    if not names:
        return list(known)
    by_name = {each.name: each for each in known}
    wanted = [name for name in names.split(",") if name]
    unknown = [name for name in wanted if name not in by_name]
    if unknown:
        raise UsageError(f"unknown pass '{unknown[0]}'", remedy=f"choose among: {', '.join(by_name)}")
    return [by_name[name] for name in wanted]
