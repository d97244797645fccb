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
from detector.core.yaml_files import parse_yaml

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("stages", "tools")
FILES = ("dvc.yaml", "params.yaml", "versions.yaml", "data/decisions.csv", ".dvc/config", ".dvcignore", ".gitignore")


def copy_repository(folder: Path, dataset: Path) -> None:
    """Copy the code and the pipeline without results; params.yaml names a JSONL `dataset` with the sample's rules."""
    copy_code(folder)
    params = parse_yaml((folder / "params.yaml").read_text(encoding="utf-8"))
    params["preprocess"] |= {"dataset": str(dataset), "format": "jsonl", "classes": None, "states": None}
    params["split"] |= {"strategy": "stratified"}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def copy_code(folder: Path) -> None:
    """Copy the code and the pipeline without results."""
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)


def run_command_in(folder: Path, *command: str) -> str:
    """Run a command in `folder` and return its output. Raises UserError with its error output."""
    variables = build_environment(folder)
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        output = done.stderr.strip() or done.stdout.strip()
        raise UserError(f"`{' '.join(command)}` failed in a copy of the repository:\n{output}")
    return done.stdout


def build_environment(folder: Path) -> dict[str, str]:
    """This environment without variables of DVC and git; DVC's site cache lies next to `folder`, analytics are off."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "GIT_"))}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)  # as for users: the second process of a copy finds its compiled code
    private = {"DVC_SITE_CACHE_DIR": str(folder.parent / "dvc-site"), "DVC_NO_ANALYTICS": "1"}
    return kept | private | {"CI": "1"}  # with CI set, DVC does not look for a newer version of itself


def run_python(folder: Path, *arguments: str) -> str:
    """Run this Python in `folder`."""
    return run_command_in(folder, sys.executable, *arguments)


def run_dvc(folder: Path, *arguments: str) -> str:
    """Run DVC in `folder`."""
    return run_python(folder, "-m", "dvc", *arguments)


def commit_params(folder: Path) -> None:
    """Make `folder` a git repository with one commit, which DVCLive needs."""
    run_command_in(folder, "git", "init", "--quiet")
    run_command_in(folder, "git", "add", "params.yaml")
    identity = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
    run_command_in(folder, "git", *identity, "commit", "--quiet", "-m", "bench")


def make_sample(folder: Path, images: int) -> None:
    """Write the sample dataset to its path in params.yaml and run the three data stages."""
    run_python(folder, "tools/sample_data.py", "--out", "data/raw/sample", "--images", str(images))
    for stage in ("preprocess", "split", "coco_convert"):
        run_python(folder, f"stages/{stage}.py")


def write_placeholder_outputs(folder: Path) -> None:
    """Write small files for missing outputs of dvc.yaml; a `dvc repro` with nothing to do only checks their hashes."""
    pipeline = parse_yaml((folder / "dvc.yaml").read_text(encoding="utf-8"))
    for stage in pipeline["stages"].values():
        made = [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]
        # Dependencies first: one inside another stage's output folder creates that folder.
        for entry in [*(dep for dep in stage["deps"] if not dep.startswith("${")), *made]:
            write_placeholder(folder / output_path(entry))


def output_path(entry: str | dict[str, Any]) -> str:
    """The path of an output in dvc.yaml, with or without options."""
    return entry if isinstance(entry, str) else next(iter(entry))


def write_placeholder(path: Path) -> None:
    """Write a small file, or a folder with one, unless the path exists."""
    if path.exists():
        return
    target = path if path.suffix else path / "file"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f"{path.name}\n", encoding="utf-8")
