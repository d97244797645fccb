"""The hash of the training code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from detector.training.code_hash import compute_code_hash

ROOT = Path(__file__).parents[2]


def test_imported_files_are_in_the_folders_that_dvc_names() -> None:
    code = (
        "import train; from detector.training.code_hash import *; "
        "print(*[path.relative_to(STAGES) for path in list_imported_files(STAGES)]); "
        "train.load_section(Path('../params.yaml'), 'train', train.TrainParams); "
        "before = compute_code_hash(train.list_code()); "
        "assert sys.modules.pop('detector.exporting.settings'); "
        "assert compute_code_hash(train.list_code()) == before, 'code of other stages counts'"
    )
    names = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "stages", check=True, capture_output=True, text=True
    )
    named = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["train"]["deps"]
    imported = [Path("stages") / name for name in names.stdout.split()]
    assert len(imported) > 50
    assert [path for path in imported if not any(path.is_relative_to(place) for place in named)] == []


def test_code_counts_and_docstrings_of_packages_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package, module = tmp_path / "coded/__init__.py", tmp_path / "coded/one.py"
    package.parent.mkdir()
    package.write_text('"""Nothing."""\n')
    module.write_text("one = 1\n")
    before = compute_code_hash([tmp_path], tmp_path)
    __import__("coded.one")
    loaded = compute_code_hash([tmp_path], tmp_path)
    assert loaded != before
    package.write_text('"""Nothing at all."""\n')
    assert compute_code_hash([tmp_path], tmp_path) == loaded
    module.write_text("one = 2\n")
    assert compute_code_hash([tmp_path], tmp_path) != loaded
