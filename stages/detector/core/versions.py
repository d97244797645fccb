"""The packages whose versions can change a stage's results, and which versions are installed.

versions.yaml, kept in git, says which versions made the results. dvc.yaml names for each stage the packages that it
uses, so another version of one reruns the stage as a changed parameter does.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from detector.core.errors import UserError
from detector.core.yaml_files import read_yaml


def check_versions(path: Path, packages: Iterable[str]) -> dict[str, str]:
    """Return the installed version of each package, and print a note for each that differs from the file at `path`.

    A build such as +cpu or +cu128 is not part of a version here. Raises UserError when a package is not installed or
    not in the file; without the file, nothing is compared.
    """
    installed = {package: get_version(package) for package in packages}
    if not path.exists():
        return installed
    recorded = read_yaml(path)
    if not isinstance(recorded, dict):
        raise UserError(f"{path}: expected a mapping of packages to versions; write it with `python tools/versions.py`")
    for package, found in installed.items():
        if package not in recorded:
            raise UserError(f"{path}: {package} is missing; write it with `python tools/versions.py`")
        if found != recorded[package]:
            print(
                f"note: {package} {found} is installed, {path} says {recorded[package]}: results may differ; run "
                "`make install`, or `python tools/versions.py` to go on with what is installed",
                flush=True,
            )
    return installed


def get_version(package: str) -> str:
    """The version of an installed package, without its build. Raises UserError when it is not installed."""
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        raise UserError(f"the package {package} is not installed; run `make install`") from None
