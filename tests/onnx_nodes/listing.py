"""The page that says what of the cases compiles, and why the rest does not."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import onnx

from tests.onnx_nodes.cases import Case
from tests.onnx_nodes.outcomes import Kind, Outcome

Results = Sequence[tuple[Case, Outcome]]

_HEAD = """# ONNX operators

What becomes of the test cases that the ONNX package carries: each is compiled for x86 and run, and its outputs are
compared with those that the standard expects, floats within the tolerances of the cases, everything else exactly.
This page is written by `python -m tests.onnx_nodes --workers 2 --write`.

Most cases have one node, and every operand of it is an input of the model, also where networks have constants: axes,
shapes, weights. Refusals of such inputs therefore weigh more here than in networks. The operators named are those of
the cases that are refused; with other operands they may compile.
"""


def page(results: Results) -> str:
    """The page as Markdown."""
    return f"{_HEAD}\n## Counts\n\n{_counts(results)}\n## Not compiled, by reason\n\n{_reasons(results)}"


def reason(outcome: Outcome) -> str:
    """Why a case is refused, without what is of this case alone: names, shapes, sizes and the remedy."""
    line = re.sub(r"^node '[^']*': ", "", outcome.reason).partition("; ")[0]
    line = re.sub(r" \(.*\)$", "", line) if line.startswith("no kernel for") else line
    for pattern, general in (
        (r"(in|out)put '[^']*'", r"an \1put"),
        (r"\[[^]]*\]", "[...]"),
        (r"value '[^']*'", "a value"),
    ):
        line = re.sub(pattern, general, line)
    line = re.sub(r"^(an (?:in|out)put) of \w+ is of type", r"\1 is of type", line)
    line = re.sub(r"^the shape of an output of \w+ depends", "the shape of an output depends", line)
    line = re.sub(r"^(operator) \w+ (of domain|of opset)", r"\1 \2", line)
    line = re.sub(r"^no kernel for [\w, ]+$", "no kernel for the operator", line)
    return re.sub(r"\b\d+ (NaN|times|nodes)", r"n \1", line)


def _counts(results: Results) -> str:
    suites = list(dict.fromkeys(case.kind for case, _ in results))
    found = Counter((result.kind, case.kind) for case, result in results)
    totals = Counter(case.kind for case, _ in results)
    rows = [[kind, *(str(found[kind, suite]) for suite in suites)] for kind in Kind]
    return _table(["", *suites], [*rows, ["all", *(str(totals[suite]) for suite in suites)]])


def _reasons(results: Results) -> str:
    groups: dict[str, list[Case]] = defaultdict(list)
    for case, result in results:
        if result.kind != Kind.PASS:
            groups[f"{result.kind}: {reason(result)}"].append(case)
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    return _table(
        ["reason", "cases", "operators"], [[why, str(len(cases)), _operators(cases)] for why, cases in ordered]
    )


def _operators(cases: Sequence[Case]) -> str:
    names: set[str] = set()
    for case in cases:
        nodes = onnx.ModelProto.FromString(case.model).graph.node
        names.update([node.op_type for node in nodes] if len(nodes) == 1 else [f"{case.name} (a graph)"])
    single = sorted(name for name in names if not name.endswith("(a graph)"))
    graphs = len(names) - len(single)
    return ", ".join([*single, *([f"{graphs} graph{'s' * (graphs > 1)} of several"] if graphs else [])])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)
