"""The DVC commands of CI: fetch what a run needs, run what has changed, push the outputs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detector.core.errors import UserError
from detector.core.yaml_files import read_yaml
from dvc_commands import LOCK, list_outdated_stages, list_outs, parse_stages, run_dvc
from revisions import read_git_file

LOCAL_CONFIG = Path(".dvc/config.local")
PARAMS = Path("params.yaml")
# What the gate, the comment and the reader need even if the stages are skipped.
REPORT_OUTS = ("metrics/preprocess", "metrics/split", "metrics/evaluate", "metrics/export", "plots/report.html")


@contextmanager
def configure_remote() -> Iterator[None]:
    """Write the secret DVC_CONFIG_LOCAL, if set, to .dvc/config.local, and delete the file at the end.

    Raises UserError if there is such a file already, or no valid DVC remote.
    """
    from dvc.config import Config, ConfigError

    text = os.environ.get("DVC_CONFIG_LOCAL")
    if text:
        if LOCAL_CONFIG.exists():
            raise UserError(f"{LOCAL_CONFIG} exists, so DVC_CONFIG_LOCAL would overwrite it: unset one of both")
        LOCAL_CONFIG.touch(mode=0o600)
        LOCAL_CONFIG.write_text(text.rstrip() + "\n", encoding="utf-8")
    try:
        try:
            config = Config(str(LOCAL_CONFIG.parent))
        except ConfigError as error:
            raise UserError(
                f"DVC's settings, with those in the secret DVC_CONFIG_LOCAL, are invalid: {error}"
            ) from None
        if not config.get("core", {}).get("remote"):
            raise UserError(
                "no DVC remote is configured: run `dvc remote add --default NAME URL`, or set the secret "
                "DVC_CONFIG_LOCAL; see docs/ci.md"
            )
        yield
    finally:
        if text:
            LOCAL_CONFIG.unlink()


def fetch_inputs() -> None:
    """Pull all data if a stage is outdated, otherwise what the gate reads. Runs no stage. Raises UserError."""
    if list_outdated_stages():
        run_dvc("pull", "--allow-missing")  # for an output that was never pushed, the stage that needs it says so
    else:
        recorded = list_outs(parse_stages(read_lock()))
        missing = [path for path in REPORT_OUTS if path in recorded and not Path(path).exists()]
        if missing:
            run_dvc("pull", *missing)


def run_outdated() -> None:
    """Run the outdated stages on what `fetch_inputs` has fetched. Raises UserError."""
    run_dvc("repro", "--allow-missing")


def push_outputs() -> None:
    """Push all outputs. Raises UserError."""
    run_dvc("push")


def pull_dataset() -> None:
    """Pull the raw images, unless git tracks them. Raises UserError."""
    dataset = Path(read_yaml(PARAMS)["preprocess"]["dataset"])
    if not dataset.exists():
        run_dvc("pull", str(dataset))


def rerun_from_scratch() -> None:
    """Run all stages from scratch, ignoring dvc.lock and the run cache. Raises UserError."""
    run_dvc("repro", "--force", "--no-run-cache")


def read_lock() -> str:
    """The text of dvc.lock, "" before the first run."""
    return LOCK.read_text(encoding="utf-8") if LOCK.exists() else ""


def list_changed_stages() -> list[str]:
    """The stages whose entry in dvc.lock differs from the checked-out commit, in the pipeline's order."""
    before = parse_stages(read_git_file("HEAD", str(LOCK)) or "")
    return [name for name, stage in parse_stages(read_lock()).items() if before.get(name) != stage]
