"""The Makefile in a folder with a space in its path, with sh; the environment's programs are stubs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.repository import SOURCE

NEEDED = ("Makefile", "requirements.txt", "requirements-dev.txt", "pyproject.toml")
STUB = '#!/bin/sh\necho "$(basename "$0") $* in $VIRTUAL_ENV"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What `make` reads, and stubs that print their arguments."""
    root = tmp_path / "a b"
    (root / ".venv/bin").mkdir(parents=True)
    for name in NEEDED:
        shutil.copy(SOURCE / name, root)
    for name in ("python", "uv", "dvc", "pre-commit"):
        (root / ".venv/bin" / name).write_text(STUB)
        (root / ".venv/bin" / name).chmod(0o755)
    return root


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "SHELL=/bin/sh", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("install", "uv pip install -r requirements.txt in {venv}"),
        ("install-dev", "uv pip install -r requirements-dev.txt in {venv}"),
        ("loggers", "uv pip install -r requirements-loggers.txt in {venv}"),
        ("lock", "uv pip install --quiet -r requirements-dev.txt in {venv}"),
        ("repro", "dvc repro in "),
        ("test", "python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m not long in "),
        ("test-gpu", "python -m pytest -rs -W default tests/gpu in "),
        ("bench-gpu", "python -m benchmarks.gpu in "),
        ("check", "pre-commit run --all-files --show-diff-on-failure in "),
    ],
)
def test_a_target_runs_the_programs_of_its_environment(folder: Path, target: str, expected: str) -> None:
    done = make(folder, target)
    assert done.returncode == 0, done.stderr
    assert expected.format(venv=folder / ".venv") in done.stdout.splitlines()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["repro", "DATASET=../my photos"], "python tools/add_dataset.py ../my photos in "),
        (["repro", 'DATASET=my "best" `id` $5'], 'python tools/add_dataset.py my "best" `id` $5 in '),
        (["repro", "DATASET=photos", "FORMAT=voc"], "python tools/add_dataset.py photos --format voc in "),
        (["bench-accuracy", "DATASETS=cells photos"], "python -m benchmarks.accuracy cells photos in "),
    ],
)
def test_a_dataset_is_named(folder: Path, arguments: list[str], expected: str) -> None:
    done = make(folder, *arguments)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout.splitlines()
    assert ("dvc repro in " in done.stdout.splitlines()) is (arguments[0] == "repro")


@pytest.mark.parametrize("dataset", ["data/raw/sample", "data/raw/sample-2", "photos"])
def test_the_sample_is_made_only_if_it_is_the_dataset(folder: Path, dataset: str) -> None:
    (folder / "params.yaml").write_text(f"preprocess:\n  dataset: {dataset}   # folder\n")
    done = make(folder, "repro")
    assert ("python tools/sample_data.py --out data/raw/sample in " in done.stdout) is (dataset == "data/raw/sample")
    assert "dvc repro in " in done.stdout


def test_an_environment_elsewhere(folder: Path, tmp_path: Path) -> None:
    (folder / ".venv").rename(tmp_path / "elsewhere")
    done = make(folder, "install", f"VENV={tmp_path / 'elsewhere'}")
    assert f"uv pip install -r requirements.txt in {tmp_path / 'elsewhere'}" in done.stdout.splitlines()
    refused = make(folder, "install", f"VENV={folder / '.venv'}")
    assert refused.returncode == 2
    assert "space" in refused.stderr
    assert "name another folder" in refused.stderr
