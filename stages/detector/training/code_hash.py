"""One hash of the training code, for the model's card."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

STAGES = Path(__file__).resolve().parents[2]


def compute_code_hash(places: Sequence[Path], root: Path = STAGES) -> str:
    """SHA-256 of the names, relative to `root`, and contents of the imported files at or in one of `places`.

    places: what dvc.yaml names for the stage. Other imported code, such as the other sections of params.yaml, does not
    decide what the stage writes.
    """
    digest = hashlib.sha256()
    for path in list_imported_files(root):
        if not any(path.is_relative_to(place.resolve()) for place in places):
            continue
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def list_imported_files(root: Path) -> list[Path]:
    """List the Python files under `root` that this process has imported, sorted, without packages that have no code."""
    names = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    paths = {Path(name).resolve() for name in names if name}
    # Some of torch's modules have a `__file__` that does not exist.
    return sorted(path for path in paths if path.is_relative_to(root) and path.is_file() and not _has_no_code(path))


def _has_no_code(path: Path) -> bool:
    """Whether this is a package's file with nothing but a docstring."""
    if path.name != "__init__.py":
        return False
    return all(isinstance(node, ast.Expr) for node in ast.parse(path.read_text(encoding="utf-8")).body)
