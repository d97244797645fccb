"""One hash of the training code, for the model's card."""

from __future__ import annotations

import ast
import hashlib
import sys
from pathlib import Path

STAGES = Path(__file__).resolve().parents[2]


def compute_code_hash(root: Path = STAGES) -> str:
    """SHA-256 of the names and contents of the files under `root` that this process has imported.

    For a stage these are files that dvc.yaml names: like the results, the hash does not depend on other code.
    """
    digest = hashlib.sha256()
    for path in list_imported_files(root):
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
