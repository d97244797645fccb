"""Which code trained: one hash, for the model's card."""

from __future__ import annotations

import ast
import hashlib
import sys
from pathlib import Path

STAGES = Path(__file__).resolve().parents[2]


def code_hash(root: Path = STAGES) -> str:
    """SHA-256 of the files under `root` that this process has imported, with their names.

    For a stage these are the files that dvc.yaml names: the hash stays when other code changes, as the results do.
    """
    digest = hashlib.sha256()
    for path in imported(root):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def imported(root: Path) -> list[Path]:
    """The Python files under `root` that this process has imported, in order, but not those without any code."""
    names = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    paths = {Path(name).resolve() for name in names if name}
    # torch has modules whose file is but a name.
    return sorted(path for path in paths if path.is_relative_to(root) and path.is_file() and not _is_empty(path))


def _is_empty(path: Path) -> bool:
    """Whether a package's file holds nothing but a docstring."""
    if path.name != "__init__.py":
        return False
    return all(isinstance(node, ast.Expr) for node in ast.parse(path.read_text(encoding="utf-8")).body)
