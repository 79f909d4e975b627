"""The command lines qcompile and qrun: parse, call, print."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from qcompiler.command import Debug, Task, Version, importing, keep_freed_memory, main, terminal
from qcompiler.errors import UsageError
from qcompiler.options import Options, Picture, Run
from qcompiler.place import check_file

if TYPE_CHECKING:
    from qcompiler.bundle.load import Bundle
    from qcompiler.bundle.remote import RemoteBundle

_COMPILE_HELP = """Compile an ONNX network into a directory with a C library that needs nothing else.

\b
Examples:
  qcompile model.onnx                          for this kind of machine, into model.qc/
  qcompile model.onnx -o net --threads 4       into net/, run on four threads by default
  qcompile model.onnx --shape image=1x3x32x32  fix the shape of a dynamic input
  qcompile model.onnx --tune 16                time kernels on this machine, and take the fastest
  qcompile model.onnx --explain                say for each layer its widths, and why it is not on integers

The result is checked against onnxruntime, step by step, before it appears.
Exit status: 0 done, 2 usage, 3 unsupported model, 4 invalid file, 5 verification failed, 1 anything else.
"""

_RUN_HELP = """Run a network that qcompile made, on arrays from an .npz file or on random ones.

\b
Examples:
  qrun model.qc --inputs in.npz --outputs out.npz
  qrun model.qc --image digit.png --top 3      the likeliest classes of a picture
  qrun model.qc --image cat.jpg --labels names.txt --scale 1/255 --fit
  qrun model.qc --benchmark --threads 2        time whole runs
  qrun model.qc --profile                      time every step
  qrun model.qc --profile --report page.html   and show the times in the bundle's report
  qrun model.qc --benchmark --json             the same for programs
  qrun model.qc --remote pi:9090 --benchmark   on a device where TVM's RPC server runs

An .npz file has one array per input, under the input's name, with any number of rows where the model leaves its batch
open: numpy.savez("in.npz", **{"input": array}). Exit status: 0 done, 2 usage, 3 unsupported CPU, 4 damaged
bundle or picture.
"""

_UNITS = {"K": 2**10, "M": 2**20}
# files of bundles for which people look
_SHOWN = ("index.js", "index.d.ts", "package.json", "example.c", "example.cpp", "bench.c", "Makefile")

_compile_app = typer.Typer(rich_markup_mode=None)
_run_app = typer.Typer(rich_markup_mode=None)


def complete_targets(incomplete: str) -> list[str]:
    """The targets of which the user's shell has the beginning."""
    from qcompiler.targets import TARGETS

    return [name for name in TARGETS if name.startswith(incomplete)]


def qcompile() -> NoReturn:
    """Entry point of the command qcompile."""
    main(_compile_app, "qcompile")


def qrun() -> NoReturn:
    """Entry point of the command qrun."""
    main(_run_app, "qrun")


@_compile_app.command(help=_COMPILE_HELP)
def _compile_command(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", show_default=False)],
    target: Annotated[
        str, typer.Option(metavar="NAME", help="Machine family.", autocompletion=complete_targets)
    ] = "x86",
    mcpu: Annotated[
        str, typer.Option(metavar="NAME[,NAME...]", help="Instruction sets or CPUs to make code for; default: all.")
    ] = "",
    bits: Annotated[str, typer.Option(metavar="auto|1..8", help="Widest quantized layer allowed.")] = "auto",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Directory to make; default: MODEL.qc.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the bundle at the output.")] = False,
    shape: Annotated[
        list[str] | None, typer.Option(metavar="NAME=1x3x224x224", help="Shape of an input; may be repeated.")
    ] = None,
    threads: Annotated[
        int, typer.Option(metavar="N", help="Threads that qrun uses by default, at most one a processor.")
    ] = 1,
    verify: Annotated[bool, typer.Option(help="Compare with onnxruntime before the bundle appears.")] = True,
    inputs: Annotated[Path | None, typer.Option(metavar="DATA.npz", help="Inputs to verify with.")] = None,
    calibrate: Annotated[
        Path | None, typer.Option(metavar="DATA.npz", help="Quantize after training to --bits (8) by these inputs.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="LABELS.npz", help="Of the calibration data: report the accuracy too.")
    ] = None,
    flash: Annotated[
        str, typer.Option(metavar="SIZE", help="Of a microcontroller, such as 256K: refuse what does not fit.")
    ] = "",
    ram: Annotated[str, typer.Option(metavar="SIZE", help="Of a microcontroller, such as 64K.")] = "",
    tune: Annotated[
        int | None,
        typer.Option(metavar="TRIALS", help="Time kernels here first, so many of each kind of layer at most."),
    ] = None,
    tune_db: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Take kernels by what this file of qtune's holds; with --tune: add."),
    ] = None,
    print_after: Annotated[str | None, typer.Option(metavar="PASS", help="Print the graph after a pass.")] = None,
    save_ir: Annotated[Path | None, typer.Option(metavar="DIR", help="Save the graph after each pass.")] = None,
    dump: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write groups, plans, steps, TIR and assembly.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say the widths of each layer, and why it is not on integers.")
    ] = False,
    debug: Debug = False,
    show_version: Version = False,
) -> Task:
    options = Options(
        target=target,
        mcpu=tuple(name for name in mcpu.split(",") if name),
        bits=parse_bits(bits),
        output=output,
        force=force,
        shapes=dict(parse_shape(text) for text in shape or ()),
        threads=threads,
        verify=verify,
        print_after=print_after,
        save_ir=save_ir,
        dump=dump,
        flash=parse_size("--flash", flash),
        ram=parse_size("--ram", ram),
        tune=tune,
        tune_db=tune_db,
    )
    return lambda: _compile(model, _Files(inputs, calibrate, labels), options, explain)


@_run_app.command(help=_RUN_HELP)
def _run_command(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", show_default=False)],
    inputs: Annotated[Path | None, typer.Option(metavar="IN.npz", help="Arrays by input name.")] = None,
    outputs: Annotated[Path | None, typer.Option(metavar="OUT.npz", help="Write the outputs here.")] = None,
    image: Annotated[
        Path | None, typer.Option(metavar="PICTURE.png", help="Run on a picture; --mean and the like say how.")
    ] = None,
    mean: Annotated[
        str, typer.Option(metavar="M[,M,M]", help="Of pixels of 0 to 255; the input is (pixel - mean) * scale.")
    ] = "",
    scale: Annotated[str, typer.Option(metavar="S[,S,S]", help="Such as 1/255; default: the bundle's own.")] = "",
    layout: Annotated[str, typer.Option(metavar="nchw|nhwc", help="Order of the input's axes.")] = "",
    fit: Annotated[bool, typer.Option("--fit", help="Resize and convert the picture as the network takes it.")] = False,
    labels: Annotated[
        Path | None, typer.Option(metavar="NAMES.txt", help="Name of each class, one on each line.")
    ] = None,
    top: Annotated[int | None, typer.Option(metavar="N", help="Show so many of the likeliest classes.")] = None,
    benchmark: Annotated[bool, typer.Option("--benchmark", help="Time whole runs.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Time every step.")] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="PAGE.html", help="With --profile: write the report with these times.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="With --profile: draw the steps against the machine's limits."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(metavar="N", help="At most one a processor. Default: as given to qcompile.")
    ] = None,
    variant: Annotated[str | None, typer.Option(metavar="NAME", help="Instruction set; default: the best.")] = None,
    remote: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Run on the device of this server.")] = None,
    remote_key: Annotated[str | None, typer.Option(metavar="KEY", help="Key of the server; default: none.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Debug = False,
    show_version: Version = False,
) -> Task:
    if remote is None and remote_key is not None:
        raise UsageError("--remote-key needs --remote", remedy="name the server with --remote HOST:PORT")
    if outputs is not None and inputs is None and image is None:
        raise UsageError("--outputs needs --inputs or --image", remedy="give the arrays to run on")
    if inputs is not None and image is not None:
        raise UsageError("--inputs and --image both say what to run on", remedy="give one of them")
    if top is not None and top < 1:
        raise UsageError(f"--top {top}: expected at least 1")
    picture = parse_picture(image, mean, scale, layout, fit=fit)
    if threads is not None:
        from qcompiler.bundle.manifest import check_threads

        check_threads(threads, "--threads")
    if bundle.suffix == ".onnx" and bundle.is_file():
        raise UsageError(f"'{bundle}' is a model, expected a bundle", remedy=f"compile it first: qcompile {bundle}")
    for option, path in (("--report", report), ("--plot", plot)):
        if path is not None and not profile:
            raise UsageError(f"{option} needs --profile", remedy="it shows the times of a profile")
        if path is not None and path.absolute().parent.resolve() == bundle.resolve():
            raise UsageError(
                f"{option} {path} is inside of the bundle", remedy="its files are fixed: name another place"
            )
    for path in (outputs, report, plot):
        if path is not None:
            check_file(path)
    opened = partial(_open, bundle, variant, remote, remote_key or "")
    asked = Run(inputs, outputs, picture, labels, top, benchmark, profile, report, plot, threads, as_json)
    return lambda: _run(opened, asked)


def _run(opened: Callable[[], Bundle | RemoteBundle], asked: Run) -> None:
    from qcompiler.running import run

    run(opened(), asked)


def parse_picture(path: Path | None, mean: str, scale: str, layout: str, *, fit: bool) -> Picture | None:
    """A picture and what is said of its pixels, which takes a picture."""
    given = {"--mean": mean, "--scale": scale, "--layout": layout, "--fit": fit}
    lonely = next((option for option, value in given.items() if value), None)
    if path is None and lonely is not None:
        raise UsageError(f"{lonely} needs --image", remedy="name the picture to run on")
    if layout not in ("", "nchw", "nhwc"):
        raise UsageError(f"--layout {layout}: expected nchw or nhwc")
    return None if path is None else Picture(path, _numbers("--mean", mean), _numbers("--scale", scale), layout, fit)


def _numbers(option: str, text: str) -> tuple[float, ...]:
    """Numbers or fractions, such as 0.5,1/255."""
    try:
        found = tuple(map(_number, text.split(","))) if text else ()
    except (ValueError, ZeroDivisionError):
        found = (math.nan,)
    if not all(map(math.isfinite, found)):
        raise UsageError(f"{option} {text}: expected numbers such as 0.5 or 1/255, for each channel")
    return found


def _number(text: str) -> float:
    above, _, below = text.partition("/")
    return float(above) / float(below or 1)


def parse_bits(text: str) -> str | int:
    """The value of --bits: auto, or an integer from 1 to 8."""
    if text == "auto":
        return text
    if text.isdecimal() and text.isascii() and 1 <= int(text) <= 8:
        return int(text)
    raise UsageError(f"--bits {text}: expected auto or a number from 1 to 8")


def parse_size(option: str, text: str) -> int | None:
    """Bytes, such as 65536, 64K or 2M; None where there is no text."""
    digits, unit = (text[:-1], text[-1:].upper()) if text[-1:].upper() in _UNITS else (text, "")
    if not text:
        return None
    if not (digits.isdecimal() and digits.isascii() and len(digits) < 12 and int(digits)):
        raise UsageError(f"{option} {text}: expected a size such as 65536, 64K or 2M")
    return int(digits) * _UNITS.get(unit, 1)


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """NAME=1x3x224x224 as (name, shape); the name may contain further equal signs."""
    name, _, sizes = text.rpartition("=")
    parts = sizes.split("x")
    if not name or not all(part.isdecimal() and part.isascii() and len(part) < 10 and int(part) for part in parts):
        raise UsageError(f"--shape {text}: expected NAME=1x3x224x224, with positive sizes")
    return name, tuple(int(part) for part in parts)


def _check_before_loading(model: Path, options: Options) -> None:
    """The wrong paths, names and numbers that are found at once, before the compiler is loaded."""
    with importing():
        from qcompiler.bundle.manifest import check_threads
        from qcompiler.bundle.staging import check_free
        from qcompiler.frontend.read import check_file as check_model
        from qcompiler.targets import check_name

    check_threads(options.threads, "--threads")
    check_name(options.target)
    check_free(options.folder(model), force=options.force)
    check_model(model)


@dataclass(frozen=True)
class _Files:
    """The user's arrays."""

    inputs: Path | None
    calibration: Path | None
    labels: Path | None

    def read(self, options: Options) -> Options:
        """Options with the arrays."""
        from qcompiler.bundle.tensors import read_npz

        inputs, calibration, labels = (
            None if path is None else read_npz(path) for path in (self.inputs, self.calibration, self.labels)
        )
        if labels is not None and len(labels) != 1:
            raise UsageError(
                f"'{self.labels}' holds {len(labels)} arrays, expected one",
                remedy="write it with numpy.savez(path, labels)",
            )
        only = None if labels is None else next(iter(labels.values()))
        return replace(options, inputs=inputs, calibration=calibration, labels=only)


def _compile(model: Path, files: _Files, options: Options, explain: bool) -> None:
    keep_freed_memory()
    _check_before_loading(model, options)
    if any((files.inputs, files.calibration, files.labels)):
        options = files.read(options)
    with _stages() as progress:
        with importing():
            from qcompiler.pipeline import run

        bundle = run(model, options, progress)
    _print_compiled(terminal(), bundle, explain)


def _print_compiled(console: Console, bundle: Bundle, explain: bool) -> None:
    """The report in the width of the terminal, and where the files are."""
    from qcompiler.report import Row, memory_table, table

    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    console.print(table([Row(**row) for row in bundle.report["rows"]]))
    if bundle.report["footprints"]:
        console.print(memory_table(bundle.report["footprints"]))
    for line in _explanations(bundle) if explain else ():
        say(line)
    if bundle.report["after_training"]:
        say(bundle.report["after_training"])
    say(bundle.report_text.splitlines()[-1])
    files = bundle.manifest.files
    binaries = [file for file in files if file.startswith("lib") or file.endswith(".wasm")]
    sizes = ", ".join(f"{file} ({files[file].bytes / 1024:.1f} KiB)" for file in binaries)
    sources = ", ".join(file for file in (f"{bundle.name}.h", *_SHOWN) if file in files)
    say(f"wrote {bundle.directory}/: {sizes}, {sources}")
    if bundle.runs_here:
        say(f"try: qrun {bundle.directory} --benchmark")
    elif "index.js" in files:
        say(f"try: node {bundle.directory}/example.mjs")
    elif "Makefile" in files:
        say(f"try: make -C {bundle.directory} run")
    elif "example.c" not in files:
        say(f"for {bundle.manifest.architecture}: link {bundle.directory}/{bundle.manifest.library} into an app")
    else:
        say(f"for {bundle.manifest.architecture}: {bundle.directory}/example.c says how to build a program")


def _explanations(bundle: Bundle) -> Iterator[str]:
    for step in bundle.steps:
        if not step.macs:
            continue
        how = "on integers" if step.integers else "in float32"
        what = f"{how}, {_width(step.w_bits)} weights, {_width(step.a_bits)} inputs"
        reason = f": {step.note}" if step.note else ""
        yield f"{', '.join(dict.fromkeys(step.nodes)) or step.op}: {what}{reason}"


def _width(bits: int) -> str:
    return f"{bits}-bit" if 0 < bits < 32 else "real"


@contextmanager
def _stages() -> Iterator[Callable[[str], None]]:
    """A callback that shows the stage at work, and leaves a line with its time for each that is done."""
    console = Console(stderr=True)
    started = perf_counter()
    with console.status("loading the compiler") as status:

        def show(stage: str) -> None:
            seconds = f"{perf_counter() - started:6.1f} s  "
            console.print(seconds + stage, markup=False, highlight=False, soft_wrap=True)
            status.update(stage.partition(":")[0])

        yield show


def _open(path: Path, variant: str | None, remote: str | None, key: str) -> Bundle | RemoteBundle:
    if remote is None:
        from qcompiler.bundle.load import load

        return load(path, variant=variant)
    from qcompiler.bundle.remote import RemoteBundle

    return RemoteBundle(path, remote, key, variant=variant)
