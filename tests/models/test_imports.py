"""A stage does not wait for libraries that its model does not use."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.source_tree import STAGES

SLOW = {"timm", "transformers", "scipy.optimize", "matplotlib", "onnx", "onnxscript", "onnxruntime", "vl_convert"}


@pytest.mark.parametrize(("code", "allowed"), [
    ("import train, evaluate", set()),
    ("import export", {"scipy.optimize", "onnx", "onnxscript", "onnxruntime"}),
])  # fmt: skip
def test_importing_a_stage(code: str, allowed: set[str]) -> None:
    program = f"import sys; sys.path.insert(0, {str(STAGES)!r}); {code}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not SLOW & set(done.stdout.split()) - allowed
