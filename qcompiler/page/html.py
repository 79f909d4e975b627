"""The template of the page: its data, styles and scripts become one file that reaches for nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from string import Template
from typing import Any

SCRIPTS = ("dagre.min.js", "format.js", "graph.js", "charts.js", "page.js")
# what would end or change the script element that holds the data
_ESCAPED = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def render(content: Mapping[str, Any]) -> bytes:
    """The page as UTF-8; texts of the content may hold anything, and only the scripts written here may run."""
    scripts = [_asset(name) for name in SCRIPTS]
    return (
        Template(_asset("page.html"))
        .substitute(
            policy=" ".join(f"'sha256-{_digest(script)}'" for script in scripts),
            styles=_asset("page.css"),
            data=_in_script(content),
            scripts="\n".join(f"<script>{script}</script>" for script in scripts),
        )
        .encode()
    )


def _in_script(content: Mapping[str, Any]) -> str:
    """JSON in ASCII, without a character that HTML gives a meaning."""
    return json.dumps(content, separators=(",", ":")).translate(_ESCAPED)


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@cache
def _asset(name: str) -> str:
    return (resources.files("qcompiler.page") / "assets" / name).read_text(encoding="utf-8").removesuffix("\n")
