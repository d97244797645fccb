"""An ONNX file's answers from a process that cannot import torch, as where it will be used."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from detector.core.errors import UserError
from detector.runners.subprocess_run import Pass, Replayed, read_answers, write_task

STAGES = Path(__file__).resolve().parents[2]
# None among the modules makes Python refuse the import.
REFUSED = ("torch", "torchvision", "timm", "transformers", "onnx", "onnxscript", "hotcoco", "pydantic", "dvc")
CODE = f"""
import sys
sys.modules.update(dict.fromkeys({REFUSED!r}))
sys.path.insert(0, {str(STAGES)!r})
from pathlib import Path
from detector.core.errors import run_command
from detector.runners.subprocess_run import replay
run_command(lambda: replay(Path(sys.argv[1])))
"""


def answers_without_torch(model: Path, images: list[str], passes: list[Pass], threads: int) -> list[Replayed]:
    """What the file says to each of the passes over these images. Raises UserError with what the process printed."""
    with tempfile.TemporaryDirectory() as folder:
        write_task(Path(folder), model, images, passes, threads)
        done = subprocess.run([sys.executable, "-c", CODE, folder], check=False, capture_output=True, text=True)
        if done.returncode:
            said = done.stderr.strip().removeprefix("error: ")
            raise UserError(f"{model} cannot be run without torch (exit code {done.returncode}):\n{said}")
        return read_answers(Path(folder), len(passes))
