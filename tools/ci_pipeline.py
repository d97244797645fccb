"""The DVC commands of CI: pull the inputs, run what has changed, push the outputs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from ci_job import SECRETS
from detector.core.errors import UserError
from detector.core.yaml_files import parse_yaml
from git_commands import git_or_none

LOCK = Path("dvc.lock")
LOCAL_CONFIG = Path(".dvc/config.local")
CLEAN_IMAGES = "data/clean"  # the only folder with images besides the raw dataset
REPORT_OUTS = ("metrics/evaluate", "plots/report.html")  # needed by the gate and the reader even if evaluate is skipped


@contextmanager
def configure_remote() -> Iterator[None]:
    """Write the secret DVC_CONFIG_LOCAL, if set, to .dvc/config.local, and delete the file at the end.

    Raises UserError if no DVC remote is configured.
    """
    from dvc.config import Config

    text = os.environ.get("DVC_CONFIG_LOCAL")
    if text:
        LOCAL_CONFIG.write_text(text.rstrip() + "\n", encoding="utf-8")
        LOCAL_CONFIG.chmod(0o600)
    try:
        if not Config(LOCAL_CONFIG.parent).get("core", {}).get("remote"):
            raise UserError(
                "no DVC remote is configured: run `dvc remote add --default NAME URL`, or set the secret "
                "DVC_CONFIG_LOCAL; see docs/ci.md"
            )
        yield
    finally:
        if text:
            LOCAL_CONFIG.unlink()


def run_dvc(*arguments: str) -> None:
    """Run `dvc …` and print its output live. Raises UserError with the end of the output if it fails.

    The stages see no secrets and use this process's Python.
    """
    print(f"$ dvc {' '.join(arguments)}", flush=True)
    lines = []
    with subprocess.Popen(
        build_dvc_command(arguments),
        env=environment_without_secrets(),
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


def environment_without_secrets() -> dict[str, str]:
    """This process's environment without SECRETS, and with this Python first in PATH."""
    environment = {name: value for name, value in os.environ.items() if name not in SECRETS}
    return environment | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])}


def retrain() -> None:
    """Run the outdated stages, pulling only the data that they read, and push all outputs with the run cache."""
    outdated = list_outdated_stages()
    if outdated:
        pull_images(cleaned="preprocess" not in outdated)
    run_dvc("repro", "--pull", "--allow-missing")
    missing = [path for path in REPORT_OUTS if path in read_recorded_outs() and not Path(path).exists()]
    if missing:
        run_dvc("pull", *missing)
    # Push before the commit, so that everything in dvc.lock is available; and even if the gate fails, so that the next
    # run need not repeat the work.
    run_dvc("push", "--run-cache")


def rerun_from_scratch() -> None:
    """Run all stages from scratch, ignoring dvc.lock and the run cache."""
    pull_images(cleaned=False)
    run_dvc("repro", "--force", "--no-run-cache")


def list_outdated_stages() -> list[str]:
    """The first outdated stages; empty if dvc.lock is up to date. Raises UserError.

    A dry run of `dvc repro` stops at the first outdated stage whose data is not in the workspace.
    """
    arguments = ("repro", "--dry", "--allow-missing")
    command, environment = build_dvc_command(arguments), environment_without_secrets()
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    output = result.stdout + result.stderr
    stages = re.findall(r"^(?:Running stage|ERROR: failed to reproduce) '(.+?)':", output, re.MULTILINE)
    if result.returncode and not stages:
        error = result.stderr.strip()
        raise UserError(f"`dvc {' '.join(arguments)}` failed with exit code {result.returncode}:\n{error}")
    return stages


def pull_images(cleaned: bool) -> None:
    """Pull the raw images; cleaned: also those that preprocess has converted.

    Train and evaluate read them, but dvc.yaml lists only the COCO files as dependencies, so DVC does not pull them.
    """
    params = parse_yaml(Path("params.yaml").read_text(encoding="utf-8"))
    dataset = Path(params["preprocess"]["dataset"])
    paths = [] if dataset.exists() else [str(dataset)]  # it may be tracked by git
    if cleaned and CLEAN_IMAGES in read_recorded_outs():
        paths.append(CLEAN_IMAGES)
    if paths:
        run_dvc("pull", *paths)


def read_recorded_outs() -> list[str]:
    """The outputs that dvc.lock has a hash of."""
    return [out["path"] for stage in parse_stages(read_lock()).values() for out in stage.get("outs", [])]


def read_lock() -> str:
    """The text of dvc.lock, "" before the first run."""
    return LOCK.read_text(encoding="utf-8") if LOCK.exists() else ""


def parse_stages(lock: str) -> dict[str, Any]:
    """The stages in the text of a dvc.lock. Raises UserError if it is invalid."""
    try:
        return dict((yaml.safe_load(lock) or {}).get("stages", {}))
    except (yaml.YAMLError, AttributeError):
        raise UserError(f"{LOCK} is invalid: after a merge conflict, keep one side unchanged and push again") from None


def list_changed_stages() -> list[str]:
    """The stages whose entry in dvc.lock differs from the checked-out commit, in the pipeline's order."""
    before = parse_stages(git_or_none("show", f"HEAD:{LOCK}") or "")
    return [name for name, stage in parse_stages(read_lock()).items() if before.get(name) != stage]
