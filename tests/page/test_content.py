"""What goes into a page: bounded, and only what fits the bundle."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.errors import InvalidBundle
from qcompiler.ir.program import MAX_TEXT
from qcompiler.page import page
from qcompiler.page.content import MAX_STEPS, MAX_STEPS_BYTES, content
from qcompiler.page.html import render
from tests.page import networks

# of the template with its scripts
TEMPLATE = 90_000
# of everything but the steps: tensors, checks and pieces of the workspace
REST = 500_000


def data_of(html: bytes) -> dict[str, Any]:
    """The data of a page, as a browser finds them: up to the first end of a script element."""
    text = html.decode()
    start = text.index('<script type="application/json" id="data">')
    body = text[text.index(">", start) + 1 : text.index("</script", start)]
    found: dict[str, Any] = json.loads(body)
    return found


def test_a_page_is_a_template_and_what_the_bundle_says() -> None:
    made = networks.program(200)
    html = page(*networks.described(made), networks.measured(200))
    shown = data_of(html)
    assert len(html) < TEMPLATE + 200 * 600
    step = shown["steps"][5]
    assert step["steps"] == [0, 4] and step["inputs"] == [] and shown["steps"][0]["inputs"] == [0]
    assert step["kernels"] == ["tvm", "tvm"] and step["nanoseconds"] == [0.0, 0.0]
    assert (step["read_bytes"], step["write_bytes"], step["constant_bytes"]) == (2048, 2048, 512)
    assert step["values"] == [
        {"name": "value layer 5", "shape": [1, 64, 8, 8], "form": "codes -1 to 1 in bit planes, channels last"}
    ]
    assert shown["steps"][199]["outputs"] == [0] and shown["steps"][198]["outputs"] == []
    assert (shown["weights"], shown["other_constants"], shown["library_bytes"]) == (100_000, 500, 50_000)
    assert [0, 2048, 0, 1] in shown["allocations"] and len(shown["allocations"]) == 200
    assert shown["measured"]["seconds"][4] == pytest.approx(5e-6) and shown["checks"][0]["codes"] == 1000


@pytest.mark.parametrize(
    ("steps", "name", "at_least"),
    [
        (20_000, "n", MAX_STEPS),
        # each character takes twelve: not all of these fit
        (MAX_STEPS, "\U0001f600" * 1000, 100),
        (8, "<" * MAX_TEXT, 8),
    ],
)
def test_no_network_makes_a_large_page(steps: int, name: str, at_least: int) -> None:
    html = page(*networks.described(networks.program(steps, name, note=name)), networks.measured(steps))
    shown = data_of(html)
    # one character of a name takes six in the page
    assert len(html) < TEMPLATE + 6 * (MAX_STEPS_BYTES + REST)
    assert shown["steps_in_all"] == steps
    assert at_least <= len(shown["steps"]) == len(shown["measured"]["seconds"]) <= min(steps, MAX_STEPS)


@given(st.text(st.characters(), max_size=40))
def test_any_name_comes_back(name: str) -> None:
    assert data_of(render({"name": name})) == {"name": name}


@pytest.mark.parametrize("name", [networks.HOSTILE, "</SCRIPT >", "<!--<script>", "\u2028", "\ud800", "]]>", "$data"])
def test_names_that_mean_something_come_back(name: str) -> None:
    html = render({"name": name})
    assert data_of(html) == {"name": name}
    assert html.count(b"<script") == render({}).count(b"<script")


def _wrong(report: dict[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(report)
    place: Any = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("rows",), []),
        (("rows",), None),
        (("rows", 1), 7),
        (("rows", 1, "reads_steps"), [1]),
        (("rows", 1, "reads_steps"), [-1]),
        (("rows", 1, "reads_steps"), ["0"]),
        (("rows", 1, "reads_inputs"), [1]),
        (("rows", 1, "nanoseconds"), [1.0]),
        (("rows", 1, "nanoseconds"), [float("nan"), 1.0]),
        (("rows", 1, "read_bytes"), True),
        (("constants",), 3),
        (("allocations", 0, "offset"), "0"),
        (("checks", 0, "largest"), None),
        (("checks", 0, "text"), ["verified"]),
        (("macs",), "many"),
    ],
)
def test_a_report_of_something_else_is_refused(path: tuple[str | int, ...], value: Any) -> None:
    manifest, report = networks.described(networks.program(3))
    with pytest.raises(InvalidBundle, match=r"^report\.json.*; compile the model again$"):
        page(manifest, _wrong(report, path, value))


def test_a_report_of_an_older_bundle_is_refused() -> None:
    manifest, report = networks.described(networks.program(3))
    for missing in ("rows", "constants", "allocations", "checks", "after_training", "macs"):
        with pytest.raises(InvalidBundle, match=f"no '{missing}'"):
            page(manifest, {key: value for key, value in report.items() if key != missing})
    with pytest.raises(InvalidBundle, match=r"report\.json has no 'rows'"):
        page(manifest, {})


def test_pieces_of_steps_that_are_not_shown_are_left_out() -> None:
    manifest, report = networks.described(networks.program(3))
    report["allocations"].append({"offset": 0, "nbytes": 64, "first": 3, "last": 5})
    assert len(content(manifest, report)["allocations"]) == 3
