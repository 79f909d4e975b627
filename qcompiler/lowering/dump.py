"""Looking inside lowering: a folder with the groups and their plans, the steps, and the code of every kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from qcompiler.errors import UsageError
from qcompiler.ir.provenance import label
from qcompiler.ir.storage import Halo
from qcompiler.lowering.forms import Form
from qcompiler.lowering.kernel_table import KernelTable
from qcompiler.lowering.plan import Plan
from qcompiler.lowering.work import CopyWork, External, KernelWork, Location, Slot, Stored, Work, place_of


class Dump:
    """Writes plans.txt, steps.txt and, per variant, a folder with the source and the assembly of its functions."""

    def __init__(self, folder: Path) -> None:
        """Raises UsageError where the folder cannot be made."""
        self._folder = folder
        self._make(folder)

    def plans(self, plans: Sequence[Plan]) -> None:
        """What every group of nodes reads and stores, in which form."""
        self._write("plans.txt", "\n".join(_plan(number, plan) for number, plan in enumerate(plans)))

    def works(self, works: Sequence[Work], offsets: Mapping[Slot, int]) -> None:
        """The calls in their order, and where their operands lie."""
        self._write("steps.txt", "\n".join(_work(number, work, offsets) for number, work in enumerate(works)))

    def code(self, tables: Sequence[KernelTable]) -> None:
        """The functions of every variant before and after compilation."""
        for table in tables:
            name = table.variant.name
            self._make(self._folder / name)
            for symbol, function in table.functions.items():
                self._write(f"{name}/{symbol}.py", table.variant.platform.source(function))
            listing = table.variant.platform.assembly(table.functions, table.variant.tvm_target)
            self._write(f"{name}/kernels.s", listing)

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot create '{folder}': {error.strerror}", remedy="choose another --dump") from None

    def _write(self, name: str, text: str) -> None:
        path = self._folder / name
        try:
            path.write_text(text.rstrip() + "\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write '{path}': {error.strerror}", remedy="choose another --dump") from None


def _plan(number: int, plan: Plan) -> str:
    lines = [f"group {number}: {plan.group.kind}: {', '.join(label(node) for node in plan.group.nodes)}"]
    lines += [f"    reads {read.value.name}: {_form(read.form)}" for read in plan.reads]
    lines += [f"    stores {value.name}: {_form(form)}" for value, forms in plan.stores.items() for form in forms]
    return "\n".join(lines) + "\n"


def _form(form: Form) -> str:
    if form.buffer is None:
        return f"{form.element}, dense, {form.nbytes} bytes"
    b = form.buffer
    what = b.element if b.codes is None else f"codes {b.codes.low} to {b.codes.high} by {b.codes.step}"
    shape = f"matrix {b.w} x {b.c}" if form.matrix else f"image {b.n} x {b.h} x {b.w} x {b.c}, {b.order}"
    halo = f", halo {b.halo} of {b.halo_value:g}" if b.halo != Halo() else ""
    groups = f", {b.groups} groups" if b.groups > 1 else ""
    return f"{what}, {shape}{groups}{halo}, {form.nbytes} bytes"


def _work(number: int, work: Work, offsets: Mapping[Slot, int]) -> str:
    lines = [f"step {number}: {work.op}: {', '.join(label(node) for node in work.nodes) or 'layout'}"]
    if isinstance(work, KernelWork):
        lines.append(f"    {work.problem}")
    for what, items in (("reads", work.reads), ("writes", work.writes)):
        lines += [f"    {what} {_item(item, offsets)}" for item in items if isinstance(item, Stored | Slot)]
    if not isinstance(work, CopyWork):
        lines += [f"    scratch {_item(slot, offsets)}" for slot in work.temporaries]
    return "\n".join(lines) + "\n"


def _item(item: Stored | Slot, offsets: Mapping[Slot, int]) -> str:
    where = _where(place_of(item), offsets)
    return f"{item.value.name} {where}: {_form(item.form)}" if isinstance(item, Stored) else where


def _where(place: Location, offsets: Mapping[Slot, int]) -> str:
    if isinstance(place, External):
        return f"in {place.kind} {place.position}"
    return f"in workspace at {offsets[place]}"
