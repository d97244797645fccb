"""The DVC commands of a job: bring what is needed, run what changed, push what came out."""

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
from detector.core.params import parse_yaml
from git_commands import git_or_none

LOCK = Path("dvc.lock")
LOCAL = Path(".dvc/config.local")
CLEAN = "data/clean"  # with the raw dataset the only folders that hold images
SHOWN = ("metrics/evaluate", "plots/report.html")  # what the gate and the reader want, though evaluate may not run


@contextmanager
def remote_settings() -> Iterator[None]:
    """Where and how DVC reaches its remote, from the secret DVC_CONFIG_LOCAL if there is one; taken away at the end.

    Raises UserError when no remote is set.
    """
    from dvc.config import Config

    text = os.environ.get("DVC_CONFIG_LOCAL")
    if text:
        LOCAL.write_text(text.rstrip() + "\n", encoding="utf-8")
        LOCAL.chmod(0o600)
    try:
        if not Config(LOCAL.parent).get("core", {}).get("remote"):
            raise UserError(
                "there is no DVC remote to take data from and bring results to: `dvc remote add --default NAME URL`, "
                "or the secret DVC_CONFIG_LOCAL; see docs/ci.md"
            )
        yield
    finally:
        if text:
            LOCAL.unlink()


def dvc(*arguments: str) -> None:
    """Run `dvc …` and show its output as it comes. Raises UserError with the end of it when it fails.

    What it runs sees no token, and finds the `python` that runs this.
    """
    print(f"$ dvc {' '.join(arguments)}", flush=True)
    lines = []
    with subprocess.Popen(
        command_of(arguments), env=environment(), text=True, errors="replace",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        output = "".join(lines)[-2000:].strip()
        raise UserError(f"`dvc {' '.join(arguments)}` ended with {process.returncode}:\n{output}")


def command_of(arguments: tuple[str, ...]) -> list[str]:
    """The DVC of this environment."""
    return [sys.executable, "-m", "dvc", *arguments]


def environment() -> dict[str, str]:
    """This process's, without the secrets."""
    kept = {name: value for name, value in os.environ.items() if name not in SECRETS}
    return kept | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])}


def retrain() -> None:
    """Run what changed since dvc.lock, bringing only what that reads, and push all results with the run cache."""
    stale = would_run()
    if stale:
        bring_images(cleaned="preprocess" not in stale)
    dvc("repro", "--pull", "--allow-missing")
    missing = [path for path in SHOWN if path in recorded_outs() and not Path(path).exists()]
    if missing:
        dvc("pull", *missing)
    # Before git hears of it, so that what a dvc.lock names can be had; and even if the gate then says no: the next
    # try need not compute it again.
    dvc("push", "--run-cache")


def rerun() -> None:
    """Run everything anew, whatever DVC remembers."""
    bring_images(cleaned=False)
    dvc("repro", "--force", "--no-run-cache")


def would_run() -> list[str]:
    """The stages that `dvc repro` would begin with; none when dvc.lock is up to date. Raises UserError.

    A dry run stops at the first stage that is out of date and whose data is not here.
    """
    arguments = ("repro", "--dry", "--allow-missing")
    done = subprocess.run(command_of(arguments), env=environment(), capture_output=True, text=True, check=False)
    stages = re.findall(
        r"^(?:Running stage|ERROR: failed to reproduce) '(.+?)':", done.stdout + done.stderr, re.MULTILINE
    )
    if done.returncode and not stages:
        raise UserError(f"`dvc {' '.join(arguments)}` ended with {done.returncode}:\n{done.stderr.strip()}")
    return stages


def bring_images(cleaned: bool) -> None:
    """The raw images, and those that preprocess had to change unless it runs.

    dvc.yaml names the files that list them, so that DVC does not know that train and evaluate read them too.
    """
    params = parse_yaml(Path("params.yaml").read_text(encoding="utf-8"))
    dataset = Path(params["preprocess"]["dataset"])
    wanted = [] if dataset.exists() else [str(dataset)]  # it may be in git
    if cleaned and CLEAN in recorded_outs():
        wanted.append(CLEAN)
    if wanted:
        dvc("pull", *wanted)


def recorded_outs() -> list[str]:
    """What dvc.lock has a hash for."""
    return [out["path"] for stage in stages_of(read_lock()).values() for out in stage.get("outs", [])]


def read_lock() -> str:
    """dvc.lock as it is now, "" before the first run."""
    return LOCK.read_text(encoding="utf-8") if LOCK.exists() else ""


def stages_of(lock: str) -> dict[str, Any]:
    """The stages in the text of a dvc.lock. Raises UserError when it cannot be read."""
    try:
        return dict((yaml.safe_load(lock) or {}).get("stages", {}))
    except (yaml.YAMLError, AttributeError):
        raise UserError(f"{LOCK} is no list of stages: take one side of a merge, whole, and push again") from None


def changed_stages() -> list[str]:
    """The stages whose result is another than in the commit that is checked out, in the pipeline's order."""
    before = stages_of(git_or_none("show", f"HEAD:{LOCK}") or "")
    return [name for name, stage in stages_of(read_lock()).items() if before.get(name) != stage]
