from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.bundle import manifest
from qcompiler.errors import InvalidBundle
from qcompiler.ir.program import StoredValue
from tests.bundle import programs


@pytest.fixture(scope="module")
def document(pristine: Path) -> dict[str, Any]:
    return dict(json.loads((pristine / "manifest.json").read_text()))


def encoded(document: Any) -> bytes:
    return json.dumps(document).encode()


def changed(document: dict[str, Any], path: str, value: Any) -> bytes:
    """The document with the entry at a dotted path replaced."""
    result = copy.deepcopy(document)
    *parents, last = [int(key) if key.isdecimal() else key for key in path.split("/")]
    place: Any = result
    for key in parents:
        place = place[key]
    place[last] = value
    return encoded(result)


def test_round_trip(pristine: Path) -> None:
    text = (pristine / "manifest.json").read_bytes()
    decoded = manifest.decode(text)
    assert decoded.encode() == text
    values: list[StoredValue] = [value for step in decoded.steps for value in step.values]
    assert values == [programs.BITS, programs.SCALED, programs.SCORES]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("version", 2, "format version '2' found, 1 expected; compile the model again with this version"),
        ("version", "x" * 1000, "format version"),
        ("format", "tarball", "not the manifest of a bundle"),
        ("name", "../x", "manifest.name is '../x', expected a C identifier"),
        ("name", 3, "manifest.name is 3"),
        ("name", "other", "files does not list libother.so"),
        ("threads", 0, "manifest.threads is 0, expected an integer from 1 to 128"),
        ("threads", True, "manifest.threads is True"),
        ("threads", 1.5, "manifest.threads is 1.5"),
        ("workspace_bytes", -1, "manifest.workspace_bytes is -1"),
        ("workspace_bytes", 2**63, "manifest.workspace_bytes is 9223372036854775808"),
        ("pixels", 3, "manifest.pixels is 3, expected an object"),
        ("pixels", {"mean": [0], "scale": [1], "layout": "nchw"}, "pixels do not fit the input"),
        ("pixels", {"mean": [0], "scale": [1e999], "layout": "nchw"}, "not JSON"),
        ("pixels", {"mean": [True], "scale": [1], "layout": "nchw"}, "manifest.pixels.mean[0] is True"),
        ("pixels", {"mean": [], "scale": [1], "layout": "nchw"}, "a list of 1 to 3 entries"),
        ("pixels", {"mean": [0], "scale": [1], "layout": "chw"}, "expected one of nchw, nhwc"),
        ("architecture", "z80", "expected one of x86_64, aarch64, arm"),
        ("inputs", [], "a list of 1 to 64 entries"),
        ("inputs", {"a": 1}, "a list of 1 to 64 entries"),
        ("inputs/0", "x", "manifest.inputs[0] is 'x', expected an object"),
        ("inputs/0/dtype", "object", "manifest.inputs[0].dtype is 'object'"),
        ("inputs/0/dtype", ["float32"], "manifest.inputs[0].dtype"),
        ("inputs/0/shape", [2**31, 2**31], "manifest.inputs[0].shape[0]"),
        ("inputs/0/shape", [2**30, 2**30], "a shape of at most"),
        ("inputs/0/shape", [0], "manifest.inputs[0].shape[0] is 0"),
        ("inputs/0/shape", [1] * 17, "a list of 0 to 16 entries"),
        ("inputs/1/name", "features/x:0", "two inputs have the same name"),
        ("outputs/0/name", "x" * 70000, "a text of at most 65536 characters"),
        ("variants", [], "a list of 1 to 32 entries"),
        ("variants/0/features", "avx2", "manifest.variants[0].features"),
        ("steps/0/kernels", ["one"], "manifest.steps[0].kernels is ['one'], expected a list of 2 to 2 entries"),
        ("steps/0/values/0/layout", "nchw", "manifest.steps[0].values[0].layout"),
        ("steps/0/values/0/halo", [1, 1, 1], "a list of 4 to 4 entries"),
        ("steps/0/values/0/halo", [1, 1, 1, -1], "halo[3] is -1"),
        ("steps/0/values/0/groups", 0, "groups is 0"),
        ("steps/0/values/0/argument/kind", "stack", "expected one of input, output, workspace, constant"),
        ("steps/0/values/0/argument/position", -64, "position is -64"),
        ("steps/0/macs", "many", "manifest.steps[0].macs is 'many'"),
        ("files", {}, "files does not list libtiny.so"),
        ("files/..", {"sha256": "0" * 64, "bytes": 1}, "is '..', expected a plain file name"),
        ("files/a%b", {"sha256": "0" * 64, "bytes": 1}, "expected a plain file name"),
        ("files/libtiny.so/sha256", "0" * 63, "expected 64 hexadecimal digits"),
        ("files/libtiny.so/bytes", 2**40, "manifest.files['libtiny.so'].bytes"),
    ],
)
def test_refusals(document: dict[str, Any], path: str, value: Any, message: str) -> None:
    text = changed(document, path, value)
    with pytest.raises(InvalidBundle) as caught:
        manifest.decode(text)
    assert message in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "/etc/passwd", ".hidden", "", "a\0b", "x" * 300, "a\nb"])
def test_file_names(document: dict[str, Any], name: str) -> None:
    files = {**document["files"], name: {"sha256": "0" * 64, "bytes": 1}}
    with pytest.raises(InvalidBundle, match="plain file name"):
        manifest.decode(encoded({**document, "files": files}))


@pytest.mark.parametrize("key", ["name", "inputs", "steps", "files", "variants", "workspace_bytes", "versions"])
def test_missing_entries(document: dict[str, Any], key: str) -> None:
    with pytest.raises(InvalidBundle, match=f"manifest has no '{key}'"):
        manifest.decode(encoded({name: value for name, value in document.items() if name != key}))


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\xff\xfe", b"[]", b"3", b"null", b'{"format": NaN}', b"[" * 100_000, b'{"a": 1' + b"0" * 9999]
)
def test_not_json(text: bytes) -> None:
    with pytest.raises(InvalidBundle):
        manifest.decode(text)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_junk_anywhere_is_refused_or_harmless(document: dict[str, Any], data: st.DataObject) -> None:
    """Whatever stands in any place, decoding either works or raises InvalidBundle."""
    path = data.draw(st.sampled_from(places(document)[1:]))
    broken = copy.deepcopy(document)
    place: Any = broken
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = data.draw(JUNK)
    try:
        assert isinstance(manifest.decode(encoded(broken)), manifest.Manifest)
    except InvalidBundle as error:
        assert "\n" not in str(error)
