"""Write versions.yaml: the installed versions of the packages that dvc.yaml names as dependencies of stages.

    python tools/versions.py

Run it after an update of the packages (`make lock` does). `dvc status` then shows the stages that another version
makes stale.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from detector.core.errors import run_command
from detector.core.output_files import write_text
from detector.core.versions import get_version
from detector.core.yaml_files import read_yaml

VERSIONS = Path("versions.yaml")
PIPELINE = Path("dvc.yaml")
HEAD = "# The versions that made the committed results, by tools/versions.py; stages depend on those that they use.\n"


def main() -> None:
    """Write the file and print what changed."""
    argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0]).parse_args()  # `--help` starts nothing
    before = read_yaml(VERSIONS) if VERSIONS.exists() else {}
    versions = {package: get_version(package) for package in list_packages()}
    write_text(VERSIONS, HEAD + "".join(f"{package}: {found!r}\n" for package, found in versions.items()))
    for package, found in versions.items():
        if before.get(package) != found:
            print(f"{package}: {before.get(package, 'new')} -> {found}")


def list_packages() -> list[str]:
    """All packages that dvc.yaml names, sorted."""
    stages = read_yaml(PIPELINE)["stages"].values()
    entries = [entry for stage in stages for entry in stage.get("params", []) if isinstance(entry, dict)]
    return sorted({package for entry in entries for package in entry.get(VERSIONS.name, [])})


if __name__ == "__main__":
    run_command(main)
