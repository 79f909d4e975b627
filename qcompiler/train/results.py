"""The table of results, from run.json files: `python -m qcompiler.train.results RUNS... -o docs/results.md`.

RUNS are run.json files or directories that hold some at any depth. Runs of one name, which differ in the seed, make one
row; runs of float twins are in the rows of their networks. The same runs give the same text.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean, stdev

from qcompiler.errors import QCompilerError, UsageError
from qcompiler.place import REMEDY
from qcompiler.train.atomic import write_atomically
from qcompiler.train.record import Record, read_record

RUN_FILE = "run.json"
_NONE = "-"
PUBLISHED = {
    "cifar10_binarynet": ("88.6", "BinaryNet, 2016"),
    "cifar10_binarynet_short": ("88.6", "BinaryNet, 2016"),
    "cifar10_xnornet": ("86.2", "XNOR-Net's implementation in Theano"),
    "cifar10_xnornet_short": ("86.2", "XNOR-Net's implementation in Theano"),
    "cifar10_moons_short": ("90.0 on validation", "Moons et al., 2017"),
    "cifar10_resnet18": ("86", "BMXNet, 2017"),
    "cifar10_resnet18_short": ("86", "BMXNet, 2017"),
}
"""Accuracies in per cent that were published for the networks of recipes in their whole width, and where."""
_HEAD = """# Results

Made by `python -m qcompiler.train.results` from the logs of the runs. Accuracies are in per cent, a mean and standard
deviation over the seeds, with each seed's value in brackets in the order of the seeds. The best epoch was chosen on the
validation split; the test set was touched once by each run.
"""
_SPEED_NOTE = """Sizes and speeds are of the first seed. "Same class" counts the test images that torch and onnxruntime,
and torch and the compiled bundle, put into the same class. Speeds are for one image on one thread.
"""


def results(records: Sequence[Record]) -> str:
    """The page, in Markdown."""
    groups = _groups(records)
    parts = [_HEAD, "## Accuracy", _table(_ACCURACY, groups)]
    published = [group for group in groups if group[0].name in PUBLISHED]
    if published:
        parts += ["## Beside published accuracies", _table(_PUBLISHED, published)]
    deployed = [group for group in groups if any(each.deploy for each in group)]
    if deployed:
        parts += ["## Compiled", _SPEED_NOTE, _table(_DEPLOY, deployed)]
    parts += ["## Runs", _table(_RUNS, groups), "## Data", _data(records)]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """Every run.json under `paths`, sorted; not those of float twins, which their networks' runs tell about."""
    found: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise UsageError(f"no run at '{path}'", remedy="name run.json files or directories that hold some")
        found.update(path.rglob(RUN_FILE) if path.is_dir() else [path])
    runs = sorted(each for each in found if not (each.parent.parent / RUN_FILE).exists())
    if not runs:
        raise UsageError(f"no {RUN_FILE} in {', '.join(map(str, paths))}", remedy="train first")
    return runs


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; result: its exit status."""
    parser = argparse.ArgumentParser(prog="python -m qcompiler.train.results", description="Table of training runs.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help="run.json files or directories of runs")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.md", help="where to write (default: print)")
    options = parser.parse_args(arguments)
    try:
        text = results([read_record(path) for path in find_runs(options.runs)])
        if options.output is None:
            sys.stdout.write(text)
        else:
            write_atomically(options.output, lambda file: file.write(text.encode()), REMEDY)
    except QCompilerError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


Group = list[Record]


def _groups(records: Sequence[Record]) -> list[Group]:
    """Runs by data set and name, each sorted by seed; two runs of one name and seed are refused."""
    groups: dict[tuple[str, str], Group] = {}
    for record in sorted(records, key=lambda each: (each.data["name"], each.name, each.seed)):
        groups.setdefault((record.data["name"], record.name), []).append(record)
    for group in groups.values():
        for first, second in zip(group, group[1:], strict=False):
            if first.seed == second.seed:
                message = f"'{first.path}' and '{second.path}' are both {first.name} with seed {first.seed}"
                raise UsageError(message, remedy="leave one of them out")
            if first.network != second.network:
                message = f"'{first.path}' and '{second.path}' share the name {first.name} but not the network"
                raise UsageError(message, remedy="give one of the recipes another name")
    return list(groups.values())


def _table(columns: dict[str, Callable[[Group], str]], groups: Sequence[Group]) -> str:
    return _markdown(list(columns), [[cell(group) for cell in columns.values()] for group in groups])


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        cells = (cell.replace("|", "\\|").replace("\n", " ") for cell in row)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _share(value: Callable[[Record], float | None]) -> Callable[[Group], str]:
    """A cell: mean ± deviation [each seed] of an accuracy in per cent; runs without it show as a dash."""

    def cell(group: Group) -> str:
        values = [value(each) for each in group]
        known = [100 * each for each in values if each is not None]
        if not known:
            return _NONE
        spread = f" ± {stdev(known):.2f}" if len(known) > 1 else ""
        each = ", ".join(_NONE if each is None else f"{100 * each:.2f}" for each in values)
        return f"{fmean(known):.2f}{spread}" + (f" [{each}]" if len(values) > 1 else "")

    return cell


def _loss_of_fixed(record: Record) -> float | None:
    return None if record.fixed is None or record.test is None else record.test - record.fixed


def _fixed(group: Group) -> str:
    losses = [loss for each in group if (loss := _loss_of_fixed(each)) is not None]
    shown = _share(lambda each: each.fixed)(group)
    return shown if not losses else f"{shown}, at most {100 * max(losses):.2f} lost"


_ACCURACY: dict[str, Callable[[Group], str]] = {
    "recipe": lambda group: group[0].name,
    "network": lambda group: group[0].network,
    "data": lambda group: group[0].data["name"],
    "test": _share(lambda each: each.test),
    "validation": _share(lambda each: each.validation),
    "float twin, test": _share(lambda each: each.baseline),
    "fixed point, test": _fixed,
}


_PUBLISHED: dict[str, Callable[[Group], str]] = {
    "recipe": lambda group: group[0].name,
    "test": _share(lambda each: each.test),
    "validation": _share(lambda each: each.validation),
    "published": lambda group: PUBLISHED[group[0].name][0],
    "where": lambda group: PUBLISHED[group[0].name][1],
    "epochs": lambda group: ", ".join(str(each.epochs) for each in group),
    "wall time": lambda group: ", ".join(_duration(each.wall_s) for each in group),
}


def _first(value: Callable[[Record], str]) -> Callable[[Group], str]:
    """A cell about the first seed that was deployed."""
    return lambda group: value(next(each for each in group if each.deploy))


def _count(key: str) -> Callable[[Record], str]:
    return lambda record: _NONE if record.number(key) is None else f"{record.number(key):,.0f}"


def _same(key: str) -> Callable[[Record], str]:
    """Images of the same class, of all."""

    def cell(record: Record) -> str:
        same, images = record.number(key), record.number("images")
        return _NONE if same is None or images is None else f"{same:,.0f} of {images:,.0f}"

    return cell


def _kilobytes(key: str) -> Callable[[Record], str]:
    return lambda record: _NONE if (size := record.number(key)) is None else f"{size / 1000:,.1f}"


_DEPLOY: dict[str, Callable[[Group], str]] = {
    "recipe": lambda group: group[0].name,
    "same class in onnxruntime": _first(_same("same_class_onnxruntime")),
    "in the bundle": _first(_same("same_class_bundle")),
    "quantized layers": _first(_count("quantized_layers")),
    "bit-exact": _first(lambda record: {True: "yes", False: "no"}.get(record.deployed("exact"), _NONE)),
    "ONNX kB": _first(_kilobytes("onnx_bytes")),
    "library kB": _first(_kilobytes("library_bytes")),
    "weights kB": _first(_kilobytes("weight_bytes")),
    "µs": _first(_count("us_per_image")),
    "onnxruntime µs": _first(_count("onnxruntime_us_per_image")),
    "the compiler lacks": _first(lambda record: record.deployed("lacks") or _NONE),
}


def _hardware(group: Group) -> str:
    """Each machine of the group once."""
    return "; ".join(sorted({each.machine for each in group}))


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


_RUNS: dict[str, Callable[[Group], str]] = {
    "recipe": lambda group: group[0].name,
    "seeds": lambda group: ", ".join(str(each.seed) for each in group),
    "parameters": lambda group: f"{group[0].parameters:,}",
    "epochs": lambda group: ", ".join(str(each.epochs) for each in group),
    "best epoch": lambda group: ", ".join(str(each.best_epoch) for each in group),
    "wall time": lambda group: ", ".join(_duration(each.wall_s) for each in group),
    "hardware": _hardware,
    "torch": lambda group: ", ".join(sorted({each.versions.get("torch", "unknown") for each in group})),
}


def _data(records: Sequence[Record]) -> str:
    versions = sorted({(each.data["name"], each.data["version"], each.data["sha256"]) for each in records})
    rows = [[name, version, f"`{sha256}`"] for name, version, sha256 in versions]
    return _markdown(["data", "version", "sha256"], rows)


if __name__ == "__main__":
    sys.exit(main())
