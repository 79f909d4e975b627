"""The way of the data, from an ONNX file to a verified bundle."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
import onnx_ir as ir

from qcompiler import passes, targets
from qcompiler import verify as verification
from qcompiler.analysis.sizes import constants_of
from qcompiler.border import border
from qcompiler.bundle.footprint import Footprint, footprints
from qcompiler.bundle.isolated import IsolatedBundle
from qcompiler.bundle.load import Bundle, describe
from qcompiler.bundle.manifest import check_threads
from qcompiler.bundle.staging import check_free, new_directory
from qcompiler.bundle.tensors import describe as describe_tensor
from qcompiler.bundle.toolchain import emulator_for
from qcompiler.bundle.write import check_tools, write_into
from qcompiler.errors import UsageError
from qcompiler.fitting import Memory, check_fits
from qcompiler.frontend import canonicalize
from qcompiler.independence import dependence
from qcompiler.ir.batch_axis import batch_axis
from qcompiler.ir.ops import attach_functions
from qcompiler.ir.pixels import Pixels, fits
from qcompiler.ir.program import Program
from qcompiler.ir.samples import samples
from qcompiler.ir.view import shape_of
from qcompiler.lowering.dump import Dump
from qcompiler.lowering.module import lower
from qcompiler.lowering.step_info import tensor_info
from qcompiler.options import Options
from qcompiler.passes.result import PassResult
from qcompiler.passes.runner import run_passes
from qcompiler.posttraining import Cost, checked_labels, quantize
from qcompiler.reference import Reference
from qcompiler.report import Check, add_to, report
from qcompiler.targets.architecture import host_features, named
from qcompiler.tuning import compiling as tuning
from qcompiler.verify import Budget, Inputs, Verification
from qcompiler.watch import GraphWatcher
from qcompiler.widths import check_bits, parse_width

SEED = 0
# widths that few networks stand without training
_HARD_BITS = 2
# seconds for verification on made-up samples, and the least number of them
NATIVE_BUDGET = (0.4, 5)
EMULATED_BUDGET = (2.0, 3)
UNVERIFIED = "not verified on this machine"
WIDTHS_KNOWN_AFTER = "fuse-wide-layers"

Progress = Callable[[str], None]


def compile(
    model: str | Path,
    target: str = "x86",
    *,
    mcpu: Sequence[str] = (),
    bits: str | int = "auto",
    output: str | Path | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    threads: int = 1,
    verify: bool = True,
    inputs: Inputs | None = None,
    print_after: str | None = None,
    save_ir: str | Path | None = None,
    dump: str | Path | None = None,
    calibration: Inputs | None = None,
    labels: npt.NDArray[Any] | None = None,
    pixels: Pixels | None = None,
    flash: int | None = None,
    ram: int | None = None,
    tune: int | None = None,
    tune_db: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
    verified: Callable[[Verification], None] | None = None,
) -> Bundle:
    """Compile an ONNX file into a bundle and load it.

    The options are those of `qcompiler.options.Options`. progress: called with the name of each stage. verified:
    called with the figures of each verification.

    Raises UsageError, InvalidModel, UnsupportedModel or VerificationFailed; nothing is left behind then.
    """
    static = {name: tuple(shape) for name, shape in (shapes or {}).items()}
    folder, saved, dumped = (None if path is None else Path(path) for path in (output, save_ir, dump))
    options = Options(
        target, mcpu, bits, folder, force, static, threads, verify, inputs, print_after, saved, dumped,
        calibration=calibration, labels=labels, pixels=pixels, flash=flash, ram=ram, tune=tune,
        tune_db=None if tune_db is None else Path(tune_db),
    )  # fmt: skip
    return run(Path(model), options, progress, verified)


@border()
def run(
    model: Path,
    options: Options,
    progress: Progress | None = None,
    verified: Callable[[Verification], None] | None = None,
) -> Bundle:
    """Compile with options; see `compile`."""
    say = progress or (lambda _: None)
    folder = options.folder(model)
    check_free(folder, force=options.force)
    check_threads(options.threads, "--threads")
    variants = targets.get(options.target).variants(options.mcpu)
    if options.threads > 1 and not variants[0].architecture.threads:
        raise UsageError(f"--threads {options.threads}: modules for {options.target} run on one", remedy="leave it out")
    memory = Memory(options.flash, options.ram)
    if memory.matters and not variants[0].architecture.bare:
        raise UsageError(f"--flash and --ram are those of microcontrollers, not of {options.target}")
    tuning.check(options.tune, options.tune_db, variants)
    check_tools(variants[0].architecture)
    watcher = GraphWatcher.create(options.print_after, options.save_ir, [each.name for each in passes.DEFAULT])
    dump = None if options.dump is None else Dump(options.dump)
    say("reading the model")
    graph = _read(model, options)
    dependent = _dependent(model, graph, say)
    cost = _quantized(graph, options, say)
    source = graph.clone()
    watcher("frontend", graph)
    say("rewriting the graph")
    _rewrite(graph, options, watcher)
    network = tuning.Network(graph, options.target, variants, identifier(model.stem))
    tuned = tuning.for_compile(network, options.tune, options.tune_db, options.threads, say)
    say("making kernels")
    program = lower(graph, options.target, variants, network.name, dump, tuned)
    for kernel in sorted(tuned.strangers):
        say(f"'{options.tune_db}' names {kernel}, which is no kernel for its problem any more: another one is taken")
    program = replace(program, any_batch=not dependent)
    summary = report(program, constants_of(source.graph), "" if cost is None else str(cost))
    with new_directory(folder, force=options.force) as staged:
        say("linking the libraries")
        program = write_into(program, staged, threads=options.threads, pixels=options.pixels)
        bundle = describe(staged)
        needed = footprints(staged, bundle.manifest) if variants[0].architecture.bare else ()
        check_fits(memory, needed, program)
        checks: list[Check] = []
        if options.verify:
            say("verifying against onnxruntime")
            with _meant(model, source, cost) as file:
                reference = Reference(file, source)
            for where, figures, stack in _verified(bundle, program, graph, reference, options.inputs):
                if figures is None:
                    (progress or warnings.warn)(where)
                    continue
                say(f"{where}: {figures.summary()}")
                needed = _with_stack(needed, len(checks), stack)
                checks.append(_check(where, figures))
                if verified:
                    verified(figures)
            check_fits(memory, needed, program)
        bundle = add_to(bundle, replace(summary, checks=tuple(checks), footprints=needed))
    return bundle.moved(folder)


@border()
def rewritten(model: Path, options: Options) -> ir.Model:
    """The graph of a file after all passes, as lowering takes it."""
    graph = _read(model, options)
    _rewrite(graph, options, GraphWatcher.create(None, None, [each.name for each in passes.DEFAULT]))
    return graph


def _read(path: Path, options: Options) -> ir.Model:
    """The canonical graph of a file; the user's own inputs fit it."""
    graph = canonicalize(path, options.shapes)
    tensors = [tensor_info(value) for value in graph.graph.inputs]
    if options.pixels is not None and not (len(tensors) == 1 and fits(options.pixels, tensors[0])):
        taken = ", ".join(map(describe_tensor, tensors))
        raise UsageError(f"pixels: a picture does not become {taken}", remedy="state its layout and channels")
    if options.inputs is not None:
        next(verification.samples(options.inputs, tensors))
    return graph


def _quantized(graph: ir.Model, options: Options, say: Progress) -> Cost | None:
    """Quantize the real layers of a graph in place, if there are data to calibrate with; what that cost."""
    if options.calibration is None:
        if options.labels is not None:
            raise UsageError("labels without calibration data", remedy="give the data with --calibrate")
        return None
    bits = parse_width(options.bits)
    say(f"quantizing to {bits} bits")
    tensors = [tensor_info(value) for value in graph.graph.inputs]
    given = list(verification.samples(options.calibration, tensors))
    labels = None if options.labels is None else checked_labels(options.labels, given)
    cost = quantize(graph, given, bits, labels)
    say(str(cost))
    if bits <= _HARD_BITS:
        say(f"{bits} bits lose much without training: train with them (qtrain, or qcompiler.nn in your own loop)")
    return cost


@contextmanager
def _meant(model: Path, source: ir.Model, cost: Cost | None) -> Iterator[Path]:
    """The file that says what the network computes: the user's, or what quantization after training made of it."""
    if cost is None:
        yield model
        return
    with tempfile.TemporaryDirectory(prefix="qcompiler-") as folder:
        attach_functions(source)
        path = Path(folder) / "quantized.onnx"
        onnx.save(ir.to_proto(source), path)
        yield path


def _dependent(path: Path, graph: ir.Model, say: Progress) -> str:
    """Why the bundle runs batches of one size alone; "" where it runs any.

    Raises UsageError where nobody gave a size, and one cannot stand for any.
    """
    axis = batch_axis(graph.graph)
    if axis is None:
        return "the file has a batch of fixed size"
    why = dependence(path, graph)
    if why and axis.open_inputs:
        what = f"dynamic dimensions in input {axis.open_inputs}, and one row cannot stand for any batch: {why}"
        raise UsageError(what, remedy=axis.remedy)
    size = shape_of(graph.graph.inputs[0])[0]
    say(f"runs batches of {size} alone: {why}" if why else f"runs any batch, {size} at a time")
    return why


def _rewrite(graph: ir.Model, options: Options, watcher: GraphWatcher) -> None:
    """Run all passes, and refuse layers that are wider than asked for as soon as widths are known."""

    def after_pass(current: ir.Model, result: PassResult, _: float) -> None:
        watcher(result.name, current)
        if result.name == WIDTHS_KNOWN_AFTER:
            check_bits(current.graph, options.bits)

    run_passes(graph, passes.DEFAULT, check=options.verify, callback=after_pass)


def _verified(
    bundle: Bundle, program: Program, graph: ir.Model, reference: Reference, inputs: Inputs | None
) -> Iterator[tuple[str, Verification | None, int]]:
    """Verify a bundle, under an emulator where its code is for another processor family.

    The variant, and where it ran, with its figures, and how deep its stack was, if that was asked; or the reason why
    there are none.
    """
    architecture = bundle.manifest.architecture
    emulator = "" if bundle.runs_here else emulator_for(architecture)
    if emulator is None:
        package = named(architecture).emulator_package
        remedy = f"install the package {package} to verify by emulation" if package else "nothing but its machines does"
        yield f"{UNVERIFIED}: it cannot run {architecture} code; {remedy}", None, 0
        return
    if inputs is None:
        given, budget = samples(graph, SEED), Budget(*(EMULATED_BUDGET if emulator else NATIVE_BUDGET))
    else:
        given, budget = verification.given(inputs, program.inputs), None
    stands_in = " on the processor" if named(architecture).host_name else f" under {Path(emulator).name}"
    where = stands_in if emulator else ""
    threads = verification.THREADS if named(architecture).threads else 1
    with IsolatedBundle(bundle.directory, bundle.manifest, emulator) as isolated:
        usable = [index for index in range(len(program.variants)) if isolated.supports(index)]
        variants = [isolated.at(index) for index in usable]
        found = verification.verify_on_samples(variants, program, graph, reference, given, budget, threads)
        if program.any_batch and named(architecture).host_name:
            pair = [next(iter(samples(graph, seed))).inputs for seed in (SEED, SEED + 1)]
            for each in variants:
                verification.verify_together(each, pair)
        for index, figures in zip(usable, found, strict=True):
            depth = isolated.stack_bytes(index) if named(architecture).bare else 0
            yield f"{program.variants[index].name}{where}", figures, depth
    for index, variant in enumerate(program.variants):
        if index not in usable:
            lacks = sorted(set(variant.features) - host_features())
            yield f"{UNVERIFIED}: {variant.name}, for which its CPU lacks {', '.join(lacks) or 'something'}", None, 0


def _with_stack(needed: tuple[Footprint, ...], index: int, stack: int) -> tuple[Footprint, ...]:
    """Footprints, if there are any, of which one has a measured stack."""
    return tuple(each.measured(stack) if place == index else each for place, each in enumerate(needed))


def _check(where: str, figures: Verification) -> Check:
    return Check(where, figures.samples, figures.codes, figures.ties, figures.largest, figures.summary())


def identifier(stem: str) -> str:
    """A C identifier for a network named after its file."""
    name = re.sub(r"\W+", "_", stem, flags=re.ASCII).strip("_").lower()
    if not name:
        raise UsageError(f"'{stem}' gives no C identifier", remedy="rename the file with letters and digits")
    return name if name[0].isalpha() else f"net_{name}"
