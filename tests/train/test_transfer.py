"""The commands of docs/transfer.md as they stand there, with narrow networks on a few images."""

from __future__ import annotations

import dataclasses
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qcompiler.cli_train import qtrain
from qcompiler.errors import UsageError
from qcompiler.train.config import load_config, shipped_configs
from tests.train.files import write_mnist
from tests.train.test_recipes import NARROW

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "transfer.md").read_text()
SMALL = ["dataset=mnist", "epochs=1", "batch_size=10", "validation=10", "threads=1", "device=cpu"]


def commands() -> Iterator[list[str]]:
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL):
        for line in block.splitlines():
            yield shlex.split(line)


def test_every_system_has_commands_and_every_recipe_named_exists() -> None:
    sections = PAGE.split("\n## ")[1:]
    assert len(sections) == 7
    assert all("```bash\nqtrain " in section for section in sections[:6])
    named = set(re.findall(r"\b(?:mnist|cifar10|svhn|imagenet)_\w+\b(?!\.py)", PAGE))
    assert named <= set(shipped_configs())


def test_every_setting_in_the_tables_is_one_of_a_recipe_of_its_system() -> None:
    found = 0
    for section in PAGE.split("\n## ")[1:7]:
        recipes = sorted(set(re.findall(r"\w+", section)) & set(shipped_configs()))
        here = [line.split("|")[2] for line in section.splitlines() if line.startswith("| ")]
        for setting in re.findall(r"\b\w+=\w+", " ".join(here)):
            assert any(accepts(recipe, setting) for recipe in recipes), f"{section.splitlines()[0]}: {setting}"
            found += 1
    assert found >= 14


def accepts(recipe: str, setting: str) -> bool:
    try:
        load_config(recipe, [setting])
    except UsageError:
        return False
    return True


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    write_mnist(tmp_path / "data")
    for program, recipe, *words in commands():
        assert program == "qtrain"
        if "--resume" not in words:
            shutil.rmtree("runs", ignore_errors=True)
        _, network = load_config(recipe)
        fields = {field.name for field in dataclasses.fields(network)}
        narrow = [f"{key}={value}" for key, value in NARROW.items() if key in fields]
        # the last value of a key counts
        monkeypatch.setattr(sys, "argv", [program, recipe, *words, *SMALL, *narrow, "--data-dir", "data"])
        with pytest.raises(SystemExit) as left:
            qtrain()
        assert not left.value.code, f"{recipe} {' '.join(words)}: {capfd.readouterr().err}"
    assert Path("weights.qcw").stat().st_size > 0
