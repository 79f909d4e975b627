"""What a user asks of a compile and of a run, in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

    from qcompiler.ir.pixels import Pixels


@dataclass(frozen=True)
class Options:
    """Options of a compile.

    target: a machine family. mcpu: its instruction-set levels or CPU names (none: all levels, chosen at load time).
    bits: "auto", or the widest quantized layer allowed, 1 to 8. output: the directory to create (none: MODEL.qc in the
    current directory); force: replace it. shapes: static shapes of dynamic inputs. threads: default of later runs.
    verify: compare with onnxruntime, on `inputs` (name -> array, of one or several samples in a row) or on made-up
    ones, under an emulator for another processor family. print_after: print the graph after this pass. save_ir: a
    directory for a runnable ONNX file after each pass. dump: a directory for groups, plans, steps and code.
    calibration: quantize real layers after training to `bits` (auto: 8) by these inputs (name -> array, like `inputs`);
    labels: of its rows, integers, for the accuracy before and after. pixels: how a picture becomes the one input, for
    the manifest. flash, ram: bytes that a microcontroller has, beyond which the model is refused. tune: time kernels on
    this machine, so many of each kind of layer at most. tune_db: a file with what was measured, to which more is added.
    """

    target: str = "x86"
    mcpu: Sequence[str] = ()
    bits: str | int = "auto"
    output: Path | None = None
    force: bool = False
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    threads: int = 1
    verify: bool = True
    inputs: Mapping[str, npt.NDArray[Any]] | None = None
    print_after: str | None = None
    save_ir: Path | None = None
    dump: Path | None = None
    calibration: Mapping[str, npt.NDArray[Any]] | None = None
    labels: npt.NDArray[Any] | None = None
    pixels: Pixels | None = None
    flash: int | None = None
    ram: int | None = None
    tune: int | None = None
    tune_db: Path | None = None

    def folder(self, model: Path) -> Path:
        """Where the bundle of a model goes."""
        return self.output if self.output is not None else Path(f"{model.stem}.qc")


@dataclass(frozen=True)
class Picture:
    """A file, and what the user says of pixels beyond what the bundle does; fit: resize and convert it as needed."""

    path: Path
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    layout: str = ""
    fit: bool = False


@dataclass(frozen=True)
class Run:
    """Options of a run.

    inputs: an .npz file, else random arrays are taken; outputs: where the results go. picture: a picture instead, and
    how it becomes an input. labels: a file with the name of each class. top: how many classes are shown. benchmark,
    profile: time whole runs, every step. report: where a page with the profile goes; plot: where its
    roofline goes. threads: None for the bundle's own
    number. as_json: print JSON.
    """

    inputs: Path | None = None
    outputs: Path | None = None
    picture: Picture | None = None
    labels: Path | None = None
    top: int | None = None
    benchmark: bool = False
    profile: bool = False
    report: Path | None = None
    plot: Path | None = None
    threads: int | None = None
    as_json: bool = False
