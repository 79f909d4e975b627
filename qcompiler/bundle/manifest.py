"""The manifest of a bundle: its data model, and a reader that believes nothing (docs/adr/0003-bundle-format.md)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from numbers import Integral
from typing import Any, TypeVar

from qcompiler.errors import InvalidBundle, UsageError
from qcompiler.ir.codes import BINARY, Codes
from qcompiler.ir.pixels import CHANNELS, Pixels, fits
from qcompiler.ir.pixels import LAYOUTS as PIXEL_LAYOUTS
from qcompiler.ir.program import MAX_RANK, MAX_TENSORS, MAX_TEXT, Argument, StoredValue, TensorInfo
from qcompiler.ir.storage import PACKED_LAYOUTS
from qcompiler.targets.architecture import NAMES, named

REMEDY = "compile the model again"
FORMAT = "qcompiler-bundle"
VERSION = 1
FILE_NAME = "manifest.json"
REPORT_JSON, REPORT_TEXT, REPORT_PAGE = "report.json", "report.txt", "report.html"

# what a manifest may claim; chosen, beyond what is written
MAX_MANIFEST_BYTES = 64 * 2**20
MAX_FILE_BYTES = 4 * 2**30
MAX_BUFFER_BYTES = 2**40
MAX_STEPS = 100_000
MAX_VARIANTS = 32
MAX_THREADS = 128
MAX_NAME = 128
MAX_COUNT = 2**62

DTYPES: dict[str, int] = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "float16": 2,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
    "int64": 8,
    "uint64": 8,
    "float64": 8,
}
# what an input or output of float32 can be in the ONNX file
FILE_DTYPES = ("", "float16", "bfloat16", "float64")
LAYOUTS = (*PACKED_LAYOUTS, "float-nhwc", "float-nchw", "dense")

_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,254}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Step:
    """One step: the ONNX nodes it covers, what they became, and the kernel of each variant; see `StepInfo`."""

    nodes: tuple[str, ...]
    op: str
    w_bits: int
    a_bits: int
    macs: int
    bytes: int
    note: str
    kernels: tuple[str, ...]
    values: tuple[StoredValue, ...]
    integers: bool = False


@dataclass(frozen=True)
class VariantInfo:
    """An instruction-set variant and the CPU features it needs, in the names of /proc/cpuinfo."""

    name: str
    features: tuple[str, ...]


@dataclass(frozen=True)
class FileInfo:
    """Size and content of one file of the bundle."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """Everything that manifest.json says; any_batch: see `Program`. pixels: how a picture becomes the one input."""

    name: str
    target: str
    architecture: str
    threads: int
    workspace_bytes: int
    versions: Mapping[str, str]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    variants: tuple[VariantInfo, ...]
    steps: tuple[Step, ...]
    files: Mapping[str, FileInfo]
    any_batch: bool = False
    pixels: Pixels | None = None

    @property
    def library(self) -> str:
        """File name of the shared library, of the best variant's module or static library, or of iOS's static one."""
        if named(self.architecture).file_format == "wasm":
            return module_name(self.name, self.variants[0].name)
        if named(self.architecture).bare:
            return bare_library_name(self.name, self.variants[0].name)
        return f"lib{self.name}.{'a' if named(self.architecture).file_format == 'macho' else 'so'}"

    def encode(self) -> bytes:
        """The JSON text, one key per line."""
        document = {"format": FORMAT, "version": VERSION, **asdict(self)}
        return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def check_threads(threads: object, option: str = "") -> None:
    """Raise UsageError for a number of threads that no library serves; option: the one that gave it, if any did."""
    if isinstance(threads, Integral) and 1 <= int(threads) <= MAX_THREADS:
        return
    if option:
        raise UsageError(f"{option} {threads}: expected a number from 1 to {MAX_THREADS}")
    raise UsageError(f"{threads} threads, expected 1 to {MAX_THREADS}")


def module_name(name: str, variant: str) -> str:
    """File name of the WebAssembly module of a variant."""
    return f"{name}.{variant}.wasm"


def bare_library_name(name: str, variant: str) -> str:
    """File name of the static library of a variant, without an operating system."""
    return f"lib{name}_{variant}.a"


def tensor_bytes(tensor: TensorInfo) -> int:
    """Bytes of a tensor in C order."""
    return math.prod(tensor.shape) * DTYPES[tensor.dtype]


def decode(text: bytes) -> Manifest:
    """Read manifest.json. Raises InvalidBundle, naming the entry that is missing, of another type or out of bounds."""
    if len(text) > MAX_MANIFEST_BYTES:
        raise InvalidBundle(f"{FILE_NAME}: {len(text)} bytes, at most {MAX_MANIFEST_BYTES} are read")
    try:
        document = json.loads(text.decode("utf-8"), parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidBundle(f"{FILE_NAME}: not JSON ({error})", remedy=REMEDY) from error
    root = _Entry(document, "manifest")
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InvalidBundle(f"{FILE_NAME}: not the manifest of a bundle", remedy="name a directory made by qcompile")
    if document.get("version") != VERSION:
        raise InvalidBundle(
            f"bundle format version {str(document.get('version'))[:20]!r} found, {VERSION} expected",
            remedy="compile the model again with this version of qcompiler",
        )
    return _manifest(root)


def _reject_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


_T = TypeVar("_T")


@dataclass(frozen=True)
class _Entry:
    """A value of the document and the path that led to it."""

    value: Any
    where: str

    def _fail(self, expected: str) -> InvalidBundle:
        found = repr(self.value)
        found = found if len(found) <= 60 else found[:60] + "..."
        return InvalidBundle(f"{FILE_NAME}: {self.where} is {found}, expected {expected}", remedy=REMEDY)

    def field(self, key: str) -> _Entry:
        if not isinstance(self.value, dict):
            raise self._fail("an object")
        if key not in self.value:
            raise InvalidBundle(f"{FILE_NAME}: {self.where} has no '{key}'", remedy=REMEDY)
        return _Entry(self.value[key], f"{self.where}.{key}")

    def integer(self, low: int, high: int) -> int:
        if type(self.value) is not int or not low <= self.value <= high:
            raise self._fail(f"an integer from {low} to {high}")
        return self.value

    def number(self) -> float:
        if not isinstance(self.value, int | float) or isinstance(self.value, bool) or not math.isfinite(self.value):
            raise self._fail("a number")
        return float(self.value)

    def boolean(self) -> bool:
        if not isinstance(self.value, bool):
            raise self._fail("true or false")
        return self.value

    def text(self, limit: int = MAX_TEXT) -> str:
        if not isinstance(self.value, str) or len(self.value) > limit or "\0" in self.value:
            raise self._fail(f"a text of at most {limit} characters")
        return self.value

    def matching(self, pattern: re.Pattern[str], meaning: str) -> str:
        if not isinstance(self.value, str) or not pattern.fullmatch(self.value):
            raise self._fail(meaning)
        return self.value

    def one_of(self, choices: tuple[str, ...]) -> str:
        if self.value not in choices:
            raise self._fail("one of " + ", ".join(choices))
        return str(self.value)

    def items(self, read: Callable[[_Entry], _T], low: int, high: int) -> tuple[_T, ...]:
        if not isinstance(self.value, list) or not low <= len(self.value) <= high:
            raise self._fail(f"a list of {low} to {high} entries")
        return tuple(read(_Entry(item, f"{self.where}[{i}]")) for i, item in enumerate(self.value))

    def mapping(self, read: Callable[[_Entry], _T], keys: re.Pattern[str], limit: int) -> dict[str, _T]:
        if not isinstance(self.value, dict) or len(self.value) > limit:
            raise self._fail(f"an object of at most {limit} entries")
        for key in self.value:
            _Entry(key, f"a key of {self.where}").matching(keys, "a plain file name or word")
        return {key: read(_Entry(item, f"{self.where}['{key}']")) for key, item in self.value.items()}


def _manifest(root: _Entry) -> Manifest:
    variants = root.field("variants").items(_variant, 1, MAX_VARIANTS)
    workspace = root.field("workspace_bytes").integer(0, MAX_BUFFER_BYTES)
    manifest = Manifest(
        name=root.field("name").matching(_NAME, "a C identifier"),
        target=root.field("target").text(MAX_NAME),
        architecture=root.field("architecture").one_of(NAMES),
        threads=root.field("threads").integer(1, MAX_THREADS),
        workspace_bytes=workspace,
        versions=root.field("versions").mapping(lambda entry: entry.text(MAX_NAME), _FILE, 64),
        inputs=root.field("inputs").items(_tensor, 1, MAX_TENSORS),
        outputs=root.field("outputs").items(_tensor, 1, MAX_TENSORS),
        variants=variants,
        steps=root.field("steps").items(lambda entry: _step(entry, len(variants)), 1, MAX_STEPS),
        files=root.field("files").mapping(_file, _FILE, 64),
        # bundles that were made before it was written have none
        any_batch=root.field("any_batch").boolean() if "any_batch" in root.value else False,
        pixels=None if root.value.get("pixels") is None else _pixels(root.field("pixels")),
    )
    _check_consistency(manifest)
    return manifest


def _check_consistency(manifest: Manifest) -> None:
    if manifest.library not in manifest.files:
        raise InvalidBundle(f"{FILE_NAME}: files does not list {manifest.library}", remedy=REMEDY)
    if manifest.pixels is not None and not (len(manifest.inputs) == 1 and fits(manifest.pixels, manifest.inputs[0])):
        raise InvalidBundle(f"{FILE_NAME}: pixels do not fit the input", remedy=REMEDY)
    for kind, tensors in (("inputs", manifest.inputs), ("outputs", manifest.outputs)):
        if len({tensor.name for tensor in tensors}) != len(tensors):
            raise InvalidBundle(f"{FILE_NAME}: two {kind} have the same name", remedy=REMEDY)
        if manifest.any_batch and not all(tensor.shape for tensor in tensors):
            raise InvalidBundle(f"{FILE_NAME}: any_batch is true, and one of the {kind} has no axes", remedy=REMEDY)


def _pixels(entry: _Entry) -> Pixels:
    mean, scale = (entry.field(name).items(_Entry.number, 1, max(CHANNELS)) for name in ("mean", "scale"))
    return Pixels(mean, scale, entry.field("layout").one_of(PIXEL_LAYOUTS))


def _variant(entry: _Entry) -> VariantInfo:
    return VariantInfo(
        name=entry.field("name").matching(_NAME, "a C identifier"),
        features=entry.field("features").items(lambda feature: feature.text(MAX_NAME), 0, 64),
    )


def _file(entry: _Entry) -> FileInfo:
    return FileInfo(
        sha256=entry.field("sha256").matching(_SHA256, "64 hexadecimal digits"),
        bytes=entry.field("bytes").integer(0, MAX_FILE_BYTES),
    )


def _shape(entry: _Entry) -> tuple[int, ...]:
    shape = entry.items(lambda size: size.integer(1, 2**31 - 1), 0, MAX_RANK)
    if math.prod(shape) > MAX_BUFFER_BYTES // 8:
        raise entry._fail(f"a shape of at most {MAX_BUFFER_BYTES // 8} elements")
    return shape


def _tensor(entry: _Entry) -> TensorInfo:
    dtype = entry.field("dtype").one_of(tuple(DTYPES))
    return TensorInfo(
        name=entry.field("name").text(),
        shape=_shape(entry.field("shape")),
        dtype=dtype,
        # bundles that were made before it was written have none
        indices=entry.field("indices").integer(0, 2**31 - 1) if "indices" in entry.value else 0,
        file_dtype=entry.field("file_dtype").one_of(FILE_DTYPES if dtype == "float32" else ("",))
        if "file_dtype" in entry.value
        else "",
    )


def _step(entry: _Entry, variants: int) -> Step:
    return Step(
        nodes=entry.field("nodes").items(lambda node: node.text(), 0, MAX_STEPS),
        op=entry.field("op").text(),
        w_bits=entry.field("w_bits").integer(0, 64),
        a_bits=entry.field("a_bits").integer(0, 64),
        macs=entry.field("macs").integer(0, MAX_COUNT),
        bytes=entry.field("bytes").integer(0, MAX_COUNT),
        note=entry.field("note").text(),
        kernels=entry.field("kernels").items(lambda kernel: kernel.text(), variants, variants),
        values=entry.field("values").items(_stored_value, 0, MAX_STEPS),
        # bundles that were made before it was written have none
        integers=entry.field("integers").boolean() if "integers" in entry.value else False,
    )


def _stored_value(entry: _Entry) -> StoredValue:
    argument = entry.field("argument")
    kind: Any = argument.field("kind").one_of(("input", "output", "workspace", "constant"))
    halo = entry.field("halo").items(lambda size: size.integer(0, 2**20), 4, 4)
    return StoredValue(
        name=entry.field("name").text(),
        argument=Argument(kind, argument.field("position").integer(0, MAX_BUFFER_BYTES)),
        shape=_shape(entry.field("shape")),
        layout=entry.field("layout").one_of(LAYOUTS),
        dtype=entry.field("dtype").one_of(tuple(DTYPES)),
        halo=(halo[0], halo[1], halo[2], halo[3]),
        groups=entry.field("groups").integer(1, 2**31 - 1),
        codes=_codes(entry.field("codes")) if "codes" in entry.value else BINARY,
    )


def _codes(entry: _Entry) -> Codes:
    low, high = (entry.field(name).integer(-(2**24), 2**24) for name in ("low", "high"))
    return Codes(low, high, entry.field("step").integer(1, 2**24))
