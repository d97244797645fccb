"""Run an ONNX file in a process that cannot import torch, as it will be deployed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from detector.core.errors import UserError
from detector.runners.inference_task import InferencePass, PassResult, read_results, write_task

STAGES = Path(__file__).resolve().parents[2]
# A module set to None in sys.modules cannot be imported.
BLOCKED_MODULES = ("torch", "torchvision", "timm", "transformers", "onnx", "onnxscript", "hotcoco", "yaml", "dvc")
CODE = f"""
import sys
sys.modules.update(dict.fromkeys({BLOCKED_MODULES!r}))
sys.path.insert(0, {str(STAGES)!r})
from pathlib import Path
from detector.core.errors import run_command
from detector.core.stage_process import end_with_parent
from detector.runners.inference_task import run_task
end_with_parent()
run_command(lambda: run_task(Path(sys.argv[1])))
"""


def run_without_torch(model: Path, images: list[str], passes: list[InferencePass], threads: int) -> list[PassResult]:
    """Run the file on these images, once per pass. Raises UserError with the output of a process that failed."""
    with tempfile.TemporaryDirectory() as folder:
        write_task(Path(folder), model, images, passes, threads)
        done = subprocess.run([sys.executable, "-c", CODE, folder], check=False, capture_output=True, text=True)
        if done.returncode:
            message = done.stderr.strip().removeprefix("error: ")
            raise UserError(f"{model} cannot be run without torch (exit code {done.returncode}):\n{message}")
        return read_results(Path(folder), len(passes))
