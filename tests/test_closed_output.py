"""Every command and stage with a standard output that cannot be written: no traceback, and an exit code to say so."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Reproduced
from tests.support.source_tree import SCRIPTS

ROOT = Path(__file__).parents[1]
TOOLS = sorted(path.stem for path in (ROOT / "tools").glob("*.py") if "__main__" in path.read_text(encoding="utf-8"))
# Arguments with which a tool prints something soon, where that is not `--help`.
ARGUMENTS = {
    "compare": ["HEAD", "workspace"],
    "gate": ["HEAD"],
    "predict": ["models/model.onnx", "data/raw/sample"],
    "evaluate_model": ["models/model.onnx", "test"],
    "reproduce": ["run"],
    "retrain": ["run"],
    "sample_data": ["--out", "logs/sample", "--images", "20"],
    "summary": [],
    "sweep": ["report"],
    "versions": [],
    "generate_docs": [],
    "archive": ["data/raw/sample", "logs/archive"],
    "add_dataset": ["data/raw/sample"],
}
Run = Callable[[list[str], Path, dict[str, str]], tuple[int, str]]
# As a user has it: what was printed is written late, where nobody may look at an error any more.
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def run_full(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """On a device that is full."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=folder, env=environment, stdout=full, stderr=subprocess.PIPE, check=False)
    return done.returncode, done.stderr.decode()


def run_closed(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Into a pipe that nobody reads."""
    end, start = os.pipe()
    os.close(end)
    with os.fdopen(start, "w") as pipe:
        done = subprocess.run(command, cwd=folder, env=environment, stdout=pipe, stderr=subprocess.PIPE, check=False)
    return done.returncode, done.stderr.decode()


def run_without(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """With no standard output at all, as `>&-` leaves it."""
    shell = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    done = subprocess.run(shell, cwd=folder, env=environment, stderr=subprocess.PIPE, check=False)
    return done.returncode, done.stderr.decode()


EACH_WAY = pytest.mark.parametrize("run", [run_full, run_closed, run_without])


def check(code: int, errors: str, run: Run) -> None:
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
    if run is run_closed:
        assert code in (0, 1, 3, 141)
    elif run is run_full:
        assert code != 120, "the interpreter could not write what was left"


@EACH_WAY
@pytest.mark.parametrize("tool", [pytest.param(name, marks=() if name in ("predict", "summary") else pytest.mark.long)
                                  for name in TOOLS])  # fmt: skip
def test_help(tool: str, run: Run) -> None:
    code, errors = run([sys.executable, f"tools/{tool}.py", "--help"], ROOT, BUFFERED)
    check(code, errors, run)


@pytest.mark.long
@EACH_WAY
@pytest.mark.parametrize("tool", sorted(ARGUMENTS))
def test_tools(tool: str, run: Run, reproduced: Reproduced) -> None:
    repository = reproduced.repository
    command = [sys.executable, f"tools/{tool}.py", *ARGUMENTS[tool]]
    code, errors = run(command, repository.root, repository.environment | {"PYTHONUNBUFFERED": ""})
    check(code, errors, run)


@pytest.mark.long
@pytest.mark.parametrize("run", [run_full, run_closed])
@pytest.mark.parametrize("stage", SCRIPTS)
def test_stages(stage: str, run: Run, reproduced: Reproduced, tmp_path: Path) -> None:
    repository = reproduced.repository.copy(tmp_path / "copy")
    command = [sys.executable, f"stages/{SCRIPTS[stage]}"]
    code, errors = run(command, repository.root, repository.environment | {"PYTHONUNBUFFERED": ""})
    check(code, errors, run)


def test_every_tool_is_tried() -> None:
    assert set(ARGUMENTS) | {"serve"} == set(TOOLS), "`serve` has a test of its own"
