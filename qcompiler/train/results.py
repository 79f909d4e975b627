"""The table of results, from run.json files: `python -m qcompiler.train.results RUNS... -o docs/results.md`.

RUNS are run.json files or directories that hold some at any depth. Runs of one name, which differ in the seed, make one
row; runs of float twins are in the rows of their networks. The same runs give the same text.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from qcompiler.errors import QCompilerError, UsageError
from qcompiler.place import REMEDY
from qcompiler.train.atomic import write_atomically
from qcompiler.train.record import Record, read_record

RUN_FILE = "run.json"
_NONE = "-"


@dataclass(frozen=True)
class Published:
    """An accuracy in per cent, the network that it is of, and where it was published."""

    accuracy: str
    network: str
    where: str


_BINARYNET_MLP = Published("99.04", "3 x 4096 units, 1000 epochs", "BinaryNet, 2016")
_XNORNET_MLP = Published("96.8", "3 x 4096 units", "XNOR-Net's implementation in Theano")
_KERAS_MLP = Published("97.9", "3 x 2048 units, binary, 20 epochs", "quantized networks in Keras")
_SCRATCH = Published("93.72, float twin 96.87", "3 x 2048 units, 200 epochs", "binary networks from scratch in Theano")
_LENET = Published("97", "binary LeNet", "BMXNet, 2017")
_BINARYNET_VGG = Published("88.6", "VGG, 128 to 512 filters, 500 epochs", "BinaryNet, 2016")
_XNORNET_VGG = Published("86.2", "VGG, 128 to 512 filters", "XNOR-Net's implementation in Theano")
_MOONS = Published("79.2 on validation", "4 bits, 3 layers of 64 filters, 100 epochs", "Moons et al., 2017")
_LARGE_MOONS = Published("90.0 on validation", "4 bits, 9 layers of 256 filters", "Moons et al., 2017")
_RESNET = Published("86", "binary ResNet-18, 64 to 512 filters", "BMXNet, 2017")
PUBLISHED = {
    "mnist_binarynet": _BINARYNET_MLP,
    "mnist_binary_mlp": _BINARYNET_MLP,
    "mnist_xnornet": _XNORNET_MLP,
    "mnist_xnor_mlp": _XNORNET_MLP,
    "mnist_keras_mlp": _KERAS_MLP,
    "mnist_keras_small": _KERAS_MLP,
    "mnist_keras_cnn": Published("98.98", "CNN, 128 and 256 filters, binary, 20 epochs", "quantized networks in Keras"),
    "mnist_scratch": _SCRATCH,
    "mnist_scratch_small": _SCRATCH,
    "mnist_lenet": _LENET,
    "mnist_lenet_small": _LENET,
    "cifar10_binarynet": _BINARYNET_VGG,
    "cifar10_binarynet_short": _BINARYNET_VGG,
    "cifar10_xnornet": _XNORNET_VGG,
    "cifar10_xnornet_short": _XNORNET_VGG,
    "cifar10_moons": _MOONS,
    "cifar10_moons_small": _MOONS,
    "cifar10_moons_short": _LARGE_MOONS,
    "cifar10_resnet18": _RESNET,
    "cifar10_resnet18_small": _RESNET,
    "cifar10_resnet18_short": _RESNET,
    "svhn_binarynet": Published("97.2", "VGG, 64 to 256 filters, 200 epochs", "BinaryNet, 2016"),
}
"""What was published for the networks of recipes; narrower and shorter recipes stand beside the same."""
TWINS = {
    "cifar10_lsq_2bit_small": "cifar10_resnet18_2bit_small",
    "cifar10_lsq_4bit_small": "cifar10_resnet18_4bit_small",
    "cifar10_bireal_small": "cifar10_resnet18_small",
    "cifar10_reactnet_small": "cifar10_resnet18_small",
    "cifar10_resnet18_2bit_small": "cifar10_resnet18_small",
    "cifar10_resnet18_4bit_small": "cifar10_resnet18_small",
    "mnist_keras_ternary": "mnist_keras_mlp",
    "mnist_keras_nbit": "mnist_keras_mlp",
    "mnist_keras_ternary_small": "mnist_keras_small",
    "mnist_keras_nbit_small": "mnist_keras_small",
}
"""Recipes and those that they are compared with: modern and classic ones of a width, wider and binary layers."""
_HEAD = """# Results

Made by `python -m qcompiler.train.results` from the logs of the runs. Accuracies are in per cent, a mean and standard
deviation over the seeds, with each seed's value in brackets in the order of the seeds. The best epoch was chosen on the
validation split; the test set was touched once by each run, at its end. An unfinished run has none of it;
under Runs stands how far it came.
"""
_TWINS_NOTE = """Modern recipes beside the classic ones of their widths, and wider layers beside binary ones:
networks of as many filters or units, trained on the same images.
"""
_PUBLISHED_NOTE = """What was published is of the whole network. Narrower and shorter recipes stand beside the same
numbers; their parameters and epochs are under Runs.
"""
_NOT_RUN_NOTE = """Published recipes without a run so far. `qtrain RECIPE` takes a GPU where there is one, and computes
in bf16 with `-o amp=bf16`.
"""
_SPEED_NOTE = """Sizes and speeds are of the first seed. "Same class" counts the test images that torch and onnxruntime,
and torch and the compiled bundle, put into the same class. Speeds are for one image on one thread.
All of it, with what the compiler lacked, is of the day of the run: `qtrain RUN --deploy` measures a kept run anew.
"""


def results(records: Sequence[Record]) -> str:
    """The page, in Markdown."""
    groups = _groups(records)
    parts = [_HEAD, "## Accuracy", _table(_ACCURACY, groups)]
    twins = _twins(groups)
    if twins:
        parts += ["## Beside their twins", _TWINS_NOTE, _markdown(_TWINS, twins)]
    published = [group for group in groups if group[0].name in PUBLISHED]
    if published:
        parts += ["## Beside published accuracies", _PUBLISHED_NOTE, _table(_PUBLISHED, published)]
        parts += ["## Published, not run", _NOT_RUN_NOTE, _not_run({group[0].name for group in groups})]
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


_TEST, _VALIDATION = _share(lambda each: each.test), _share(lambda each: each.validation)
_ACCURACY: dict[str, Callable[[Group], str]] = {
    "recipe": lambda group: group[0].name,
    "network": lambda group: group[0].network,
    "data": lambda group: group[0].data["name"],
    "test": _TEST,
    "validation": _VALIDATION,
    "float twin, test": _share(lambda each: each.baseline),
    "fixed point, test": _fixed,
}


def _of_published(field: Callable[[Published], str]) -> Callable[[Group], str]:
    return lambda group: field(PUBLISHED[group[0].name])


_PUBLISHED: dict[str, Callable[[Group], str]] = {
    "recipe": lambda group: group[0].name,
    "test": _TEST,
    "validation": _VALIDATION,
    "published": _of_published(lambda each: each.accuracy),
    "of": _of_published(lambda each: each.network),
    "where": _of_published(lambda each: each.where),
}


def _not_run(names: Collection[str]) -> str:
    """The published recipes that are not among `names`, which have run, and what each wants."""
    rows = [
        [name, each.accuracy, each.network, each.where, "hours on a CPU" if name.startswith("mnist") else "a GPU"]
        for name, each in PUBLISHED.items()
        if name not in names and not name.endswith("_short")
    ]
    return _markdown(["recipe", "published", "of", "where", "wants"], rows)


_TWINS = ["recipe", "test", "validation", "epochs", "twin", "its test", "its validation", "its epochs"]


def _twins(groups: Sequence[Group]) -> list[list[str]]:
    """Rows of the recipes whose twins have run on the same data set."""
    found = {(group[0].name, group[0].data["sha256"]): group for group in groups}
    pairs = [(group, found.get((TWINS.get(name, ""), data))) for (name, data), group in found.items()]
    return [[*_result(group), *_result(twin)] for group, twin in pairs if twin is not None]


def _result(group: Group) -> list[str]:
    return [group[0].name, _TEST(group), _VALIDATION(group), _epochs(group)]


def _epochs(group: Group) -> str:
    """Those of each run; of a run that is not finished, of how many."""
    return ", ".join(str(each.epochs) + (f" of {each.planned}" if each.epochs < each.planned else "") for each in group)


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
    "epochs": _epochs,
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
