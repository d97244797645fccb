"""Temporary copies of the repository, and commands in them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from detector.core.errors import UserError
from detector.core.params import parse_yaml

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("stages", "tools")
FILES = ("dvc.yaml", "params.yaml", "data/decisions.csv", ".dvc/config", ".dvcignore", ".gitignore")


def copy_repository(folder: Path, dataset: Path) -> None:
    """The code and the pipeline, without results, set to read a JSONL `dataset` with the sample's rules."""
    copy_code(folder)
    params = parse_yaml((folder / "params.yaml").read_text(encoding="utf-8"))
    params["preprocess"] |= {"dataset": str(dataset), "format": "jsonl", "classes": None, "states": None}
    params["split"] |= {"strategy": "stratified"}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def copy_code(folder: Path) -> None:
    """The code and the pipeline, without results."""
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)


def call(folder: Path, *command: str) -> str:
    """Run `command` in `folder`; what it printed. Raises UserError with its complaint when it fails."""
    done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)
    if done.returncode:
        complaint = done.stderr.strip() or done.stdout.strip()
        raise UserError(f"`{' '.join(command)}` failed in a copy of the repository:\n{complaint}")
    return done.stdout


def environment(folder: Path) -> dict[str, str]:
    """Ours, without what points at another repository; DVC keeps its notes beside `folder` and calls nobody."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "GIT_"))}
    private = {"DVC_SITE_CACHE_DIR": str(folder.parent / "dvc-site"), "DVC_NO_ANALYTICS": "1"}
    return kept | private | {"CI": "1"}  # with CI set, DVC does not look for a newer version of itself


def python(folder: Path, *arguments: str) -> str:
    """Run this Python."""
    return call(folder, sys.executable, *arguments)


def dvc(folder: Path, *arguments: str) -> str:
    """Run DVC."""
    return python(folder, "-m", "dvc", *arguments)


def make_sample(folder: Path, images: int) -> None:
    """Write the sample dataset where params.yaml names it, and run the three stages on data."""
    python(folder, "tools/sample_data.py", "--out", "data/raw/sample", "--images", str(images))
    for stage in ("preprocess", "split", "coco_convert"):
        python(folder, f"stages/{stage}.py")


def fill_outputs(folder: Path) -> None:
    """Stand-ins for the files that dvc.yaml names and nobody wrote: a no-op run only looks at them."""
    pipeline = parse_yaml((folder / "dvc.yaml").read_text(encoding="utf-8"))
    for stage in pipeline["stages"].values():
        made = [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]
        # A file that a stage reads of another's folder makes that folder.
        for entry in [*(dep for dep in stage["deps"] if not dep.startswith("${")), *made]:
            fill(folder / name_of(entry))


def name_of(entry: str | dict[str, Any]) -> str:
    """The path of an output of dvc.yaml, with options or without."""
    return entry if isinstance(entry, str) else next(iter(entry))


def fill(path: Path) -> None:
    """A small file, or a folder with one, where nothing is yet."""
    if path.exists():
        return
    target = path if path.suffix else path / "file"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f"{path.name}\n", encoding="utf-8")
