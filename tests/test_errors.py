from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from qcompiler.errors import InvalidModel


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_an_error_is_one_line_that_controls_no_terminal(message: str, node: str, remedy: str) -> None:
    text = str(InvalidModel(message, node=node, remedy=remedy))
    assert len(text.splitlines()) <= 1
    assert not any(unicodedata.category(character) == "Cc" for character in text)


def test_names_beyond_a_line_are_shortened() -> None:
    assert str(InvalidModel("no such node", node="n" * 10_000)) == f"node '{'n' * 59}...{'n' * 18}': no such node"


def test_what_can_be_shown_is_shown() -> None:
    error = InvalidModel("no such thing\n  at all", node="a/b:0 'ü'", remedy="see \x1b[31mhere\u2028now")
    assert str(error) == r"node 'a/b:0 'ü'': no such thing   at all; see \x1b[31mhere now"
    assert error.node == "a/b:0 'ü'" and error.message == "no such thing\n  at all"
