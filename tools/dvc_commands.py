"""Runs dvc commands, and reads what dvc.lock records."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from detector.core.errors import UserError
from detector.core.yaml_files import parse_yaml

LOCK = Path("dvc.lock")
DRY_RUN = ("repro", "--dry", "--allow-missing")


def run_dvc(*arguments: str) -> None:
    """Run `dvc …` and print its output live. Raises UserError with the end of the output if it fails."""
    print(f"$ dvc {' '.join(arguments)}", flush=True)
    lines = []
    with subprocess.Popen(
        build_dvc_command(arguments),
        env=stage_environment(),
        text=True,
        errors="replace",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        output = "".join(lines)[-2000:].strip()
        raise UserError(f"`dvc {' '.join(arguments)}` failed with exit code {process.returncode}:\n{output}")


def build_dvc_command(arguments: tuple[str, ...]) -> list[str]:
    """The command that runs this environment's DVC."""
    return [sys.executable, "-m", "dvc", *arguments]


def stage_environment() -> dict[str, str]:
    """This process's environment with this Python first in PATH, for the stages."""
    return os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}


def list_outdated_stages() -> list[str]:
    """The stages that `dvc repro` would run first; empty if dvc.lock is up to date. Nothing is run or fetched.

    A stage is outdated if its command, parameters, dependencies or outputs differ from dvc.lock; data that is not in
    the workspace counts as unchanged. Raises UserError with DVC's message, such as that another process runs the
    pipeline.
    """
    result = subprocess.run(
        build_dvc_command(DRY_RUN), env=stage_environment(), capture_output=True, text=True, check=False
    )
    # The first outdated stage whose data is missing ends a dry run.
    missing = re.findall(r"^ERROR: failed to reproduce '(.+?)': \[Errno 2\]", result.stderr, re.MULTILINE)
    if result.returncode and not missing:
        raise UserError(
            f"`dvc {' '.join(DRY_RUN)}` failed with exit code {result.returncode}:\n{result.stderr.strip()}"
        )
    return re.findall(r"^Running stage '(.+?)':", result.stdout, re.MULTILINE) + missing


def parse_stages(text: str, file: str = str(LOCK)) -> dict[str, Any]:
    """The stages in the text of a dvc.lock, which may be empty. Raises UserError naming the file if it is invalid."""
    try:
        return dict((parse_yaml(text) or {}).get("stages") or {})
    except (yaml.YAMLError, AttributeError, TypeError, ValueError):
        raise UserError(
            f"{file} is invalid: after a merge conflict, keep one side unchanged, then run `dvc repro` and commit"
        ) from None


def list_outs(stages: dict[str, Any]) -> list[str]:
    """The outputs that these stages of a dvc.lock have a hash of."""
    return [out["path"] for stage in stages.values() for out in stage.get("outs", [])]
