"""Bring a folder of images and annotations under DVC and make it the dataset of params.yaml. `make repro` runs it.

    python tools/add_dataset.py FOLDER [--format FORMAT]

FOLDER    any folder, which is never changed: one outside of the repository is copied to data/raw/NAME, without hidden
          files; one inside is used where it is
FORMAT    only needed when the folder fits two formats

Runs `dvc add` and sets `preprocess.dataset` (and `preprocess.format`, if FORMAT is given, or if that of another dataset
was). A copy that DVC tracks unchanged is replaced when the folder has changed; its former version stays in DVC's cache.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from dvc.utils.serialize import modify_yaml
from tqdm import tqdm

from detector.core.errors import UserError, run_command
from detector.core.images import IMAGE_SUFFIXES
from detector.preprocessing.dataset_folder import find_files, walk_folder
from detector.preprocessing.findings import FindingKind
from detector.preprocessing.formats import READERS
from detector.preprocessing.formats.recognition import recognize_format
from dvc_commands import build_dvc_command, run_dvc

PARAMS = Path("params.yaml")
RAW = Path("data/raw")
NEED_IMAGES = ("voc", "yolo")  # whose annotations name images only inside of the folder


def main() -> None:
    given = parse_arguments()
    folder = Path(os.path.abspath(given.folder.expanduser()))  # noqa: PTH100  a link into the repository stays one
    check_folder(folder, given.format)
    root = Path.cwd()
    dataset = folder.relative_to(root) if folder.is_relative_to(root) else RAW / name_dataset(folder)
    if not folder.is_relative_to(root):
        copy_dataset(folder, dataset)
    track_dataset(dataset)
    set_dataset(dataset, given.format)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder with images and annotations")
    parser.add_argument("--format", choices=READERS, help="its format (default: recognized)")
    return parser.parse_args()


def check_folder(folder: Path, format_: str | None) -> None:
    """Raise UserError for a folder that cannot be a dataset, before anything is copied."""
    if folder.is_file():
        raise UserError(f"{folder} is a file, expected a folder; unpack an archive first")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    if Path.cwd().is_relative_to(folder):
        raise UserError(f"{folder} contains this repository; name the folder of the dataset alone")
    if format_ is None:
        found = recognize_format(folder)
        format_ = found.format
        print(f"{folder}: {found}")
    if format_ in NEED_IMAGES and not find_files(folder, IMAGE_SUFFIXES):
        raise UserError(f"{folder}: holds annotations, but no images; name a folder that holds both")


def name_dataset(folder: Path) -> str:
    """The folder's name with characters that commands and YAML leave alone."""
    name = re.sub(r"[^\w.-]+", "_", folder.name).strip("._")
    if not name:
        raise UserError(f"{folder}: has no name that can be used under {RAW}; rename it")
    return name


def copy_dataset(source: Path, target: Path) -> None:
    """Make `target` a copy of `source`. Raises UserError if it holds something that DVC has no copy of."""
    files, left_out = list_files(source)
    if target.exists():
        if is_same(source, target, files):
            print(f"{target}: is a copy of {source} already")
            return
        if not is_tracked(target):
            raise UserError(
                f"{target} exists and differs from {source}; move it away, or use it as it is: DATASET={target}"
            )
        former = list_files(target)[0]
        if 2 * len(set(files) & set(former)) < len(former):
            raise UserError(
                f"{target} holds another dataset: {source} has fewer than half of its files; rename one of the folders"
            )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        new = Path(scratch) / "new"
        for name in tqdm(files, desc=f"copy to {target}", unit="file", disable=None):
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, new / name)
        if target.exists():
            target.rename(Path(scratch) / "old")
            print(f"{target}: replaced, since {source} has changed; the former version is in DVC's cache")
        new.rename(target)
    print(f"{target}: {len(files):,} files copied from {source}" + (f"; {left_out:,} left out" if left_out else ""))


def list_files(folder: Path) -> tuple[list[str], int]:
    """The files below a folder, relative to it, sorted; and the number of those that are not copied.

    These are hidden files, such as those of git, links that lead nowhere, pipes and devices. Raises UserError for a
    folder that cannot be read.
    """
    entries = list(walk_folder(folder))
    for path, problem in entries:
        if problem == FindingKind.SKIPPED_FOLDER and not os.access(path, os.R_OK | os.X_OK):
            raise UserError(
                f"{path}: this folder cannot be read, so its files would be missing; change its permissions"
            )
    files = sorted(os.path.relpath(path, folder) for path, problem in entries if problem is None)
    return files, sum(problem not in (None, FindingKind.SKIPPED_FOLDER) for _, problem in entries)


def is_same(source: Path, target: Path, files: list[str]) -> bool:
    """Whether `target` has exactly these files, with the same bytes."""
    if list_files(target)[0] != files:
        return False
    return not any(filecmp.cmpfiles(source, target, files, shallow=False)[1:])


def is_tracked(folder: Path) -> bool:
    """Whether DVC tracks a folder that has not changed since, so that its bytes are in the cache."""
    file = folder.with_name(f"{folder.name}.dvc")
    if not file.is_file():
        return False
    command = build_dvc_command(("status", "--quiet", str(file)))
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def track_dataset(dataset: Path) -> None:
    """Let DVC track the folder, unless it does so already. Raises UserError with DVC's message."""
    if dataset.is_symlink():
        print(f"{dataset}: is a link, which DVC does not track; stages depend on what it leads to")
    elif not is_tracked(dataset):
        run_dvc("add", "--quiet", str(dataset))


def set_dataset(dataset: Path, format_: str | None) -> None:
    """Write the dataset to params.yaml, as `dvc exp run -S` would."""
    with modify_yaml(str(PARAMS)) as params:
        section = params["preprocess"]
        is_other = section["dataset"] != dataset.as_posix()
        section["dataset"] = dataset.as_posix()
        if format_ is not None or is_other:
            section["format"] = format_ or "auto"
    print(f"{PARAMS}: preprocess.dataset: {dataset.as_posix()}")


if __name__ == "__main__":
    run_command(main)
