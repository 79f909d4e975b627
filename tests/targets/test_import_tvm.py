from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("torch")


@pytest.mark.parametrize(
    ("module", "before", "expected"),
    [
        ("qcompiler.pipeline", "", "False"),
        ("qcompiler.pipeline", "import torch", "True"),
        ("qcompiler.lowering.generic", "", "False"),
    ],
)
def test_the_compiler_imports_no_torch_but_leaves_it_to_others(module: str, before: str, expected: str) -> None:
    program = (
        f"import sys\n{before}\nimport {module}\nprint('torch' in sys.modules)\nimport torch\nprint(torch.ones(1))"
    )
    lines = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert lines.splitlines() == [expected, "tensor([1.])"]


@pytest.mark.parametrize("module", ["torch", "tvm.runtime.disco"])
def test_nothing_stays_hidden(module: str) -> None:
    """A name with nothing behind it would keep others from importing the module."""
    program = f"import sys, qcompiler.pipeline; print(sys.modules.get('{module}', 'absent'))"
    lines = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert lines == "absent\n"
