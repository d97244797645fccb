"""Measure training and evaluation on a GPU, check what only a GPU can show, and print one table per part.

command  python -m benchmarks.gpu        (or `make bench-gpu`)
         --models NAME ...: only these;  --parts NAME ...: only these
         --device cpu --quick: the same code with tiny inputs on a CPU, in a minute
reads    stages/, params.yaml; needs no network
writes   a temporary folder of about 100 MB, which is removed
time     at most 8 minutes on a GPU; what does not fit into that is left out, with a row that says so

Without a GPU it prints what it would measure. A missed target is marked and is not an error; a measurement that fails
is, after all others. docs/speed.md says how to bring the packages to a machine without a network.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.table import Row, format_table
from detector.core.errors import UserError, run_command

if TYPE_CHECKING:
    import torch

    from benchmarks.gpu_settings import GpuSettings, Part

LIMIT = 450.0  # seconds after which nothing new is begun
# What stages/train.py imports, and with it this.
MODULES = (
    "torch", "torchvision", "transformers", "timm", "scipy", "numpy", "PIL", "safetensors", "pydantic", "yaml",
    "ruamel", "tqdm", "dvclive", "hotcoco", "pycocotools", "onnx", "onnxscript", "onnxruntime",
)  # fmt: skip
VERSIONS = ("torch", "torchvision", "transformers", "timm", "onnxruntime")
PARTS = {
    "curves": "loss curves of bf16 and fp16 within the difference of two seeds in fp32",
    "runs": "two runs byte-equal where torch has deterministic kernels, and how far apart where not",
    "resume": "a training that is killed and resumed, byte-equal to one that is not",
    "devices": "the detections of the GPU beside those of the CPU",
    "loading": "share of time waiting for data: 0, 4 and 8 workers, augmentation on the GPU and in the workers",
    "speed": "images/s and peak memory of every model, training and evaluation in fp32, bf16 and fp16, beside "
    "torchvision's reference loop or that of transformers' Trainer",
    "onnx": "the exported file with ONNX Runtime's CUDA provider, where it is installed",
    "compile": "training with torch.compile",
}


def main() -> None:
    options = parse_arguments(sys.argv[1:])
    check_modules()
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        print("No CUDA GPU was found. With one, this command measures:\n")
        print("\n".join(f"- `{name}`: {what}" for name, what in PARTS.items()))
        print("\nTo try its code on this machine: python -m benchmarks.gpu --device cpu --quick")
        return
    failed = measure(make_settings(options), options.parts)
    if failed:
        raise UserError(f"{len(failed)} measurements failed: {'; '.join(row.what for row in failed)}")


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny inputs and few models, to try the code")
    parser.add_argument("--models", nargs="+", default=[], help="default: all")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    return parser.parse_args(arguments)


def check_modules() -> None:
    """Raise UserError naming the packages that are missing."""
    missing = [name for name in MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"not installed in {sys.prefix}: {', '.join(missing)}. With a network: `make install`. Without one, on a "
            "machine that has it and the same Python version:\n  pip download -r requirements.txt -d wheels\n"
            "then on this one:\n  pip install --no-deps wheels/*"
        )


def make_settings(options: argparse.Namespace) -> GpuSettings:
    """The settings for the command line. Raises UserError for an unknown model."""
    from dataclasses import replace

    import torch

    from benchmarks.gpu_settings import GpuSettings, make_quick_settings
    from detector.models import MODELS

    device = torch.device(options.device)
    settings = make_quick_settings(device) if options.quick else GpuSettings(device)
    if unknown := [name for name in options.models if name not in MODELS]:
        raise UserError(f"--models {unknown[0]}: unknown; known models: {', '.join(MODELS)}")
    return replace(settings, models=tuple(options.models)) if options.models else settings


def measure(settings: GpuSettings, parts: list[str]) -> list[Row]:
    """Print one table per part; return the rows of measurements that failed."""
    from benchmarks.gpu_settings import Deadline, measure_parts
    from detector.engine.environment import keep_freed_memory
    from detector.engine.seeding import make_deterministic

    start, deadline = time.perf_counter(), Deadline(LIMIT)
    keep_freed_memory()
    make_deterministic(0, 0)
    print(describe_device(settings.device), flush=True)
    failed: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as scratch:
        for name, measurements in list_parts(settings, parts, Path(scratch)).items():
            rows = list(measure_parts(measurements, deadline))
            failed += [row for row in rows if row.ours.startswith("failed: ")]
            print(f"\n## {PARTS[name][:1].upper()}{PARTS[name][1:]}\n\n{format_table(rows)}", flush=True)
    print(f"\nmeasured in {time.perf_counter() - start:.0f} s")
    return failed


def list_parts(settings: GpuSettings, names: list[str], scratch: Path) -> dict[str, Part]:
    """The measurements of each part, those first that need little time or matter most."""
    from benchmarks import gpu_loading, gpu_numerics, gpu_onnx, gpu_resume, gpu_speed

    parts = {
        "curves": gpu_numerics.list_curves(settings),
        "runs": gpu_numerics.list_equal_runs(settings),
        "resume": gpu_resume.list_resumes(settings, scratch),
        "devices": gpu_numerics.list_devices(settings),
        "loading": gpu_loading.list_loading(settings, scratch),
        "speed": gpu_speed.list_speeds(settings),
        "onnx": gpu_onnx.list_providers(settings, scratch),
        "compile": gpu_speed.list_compiled(settings),
    }
    return {name: part for name, part in parts.items() if name in names and part}


def describe_device(device: torch.device) -> str:
    """Date, device and versions."""
    import torch

    from benchmarks.speed import processor_name
    from detector.core.machine import count_cores

    found = []
    for name in VERSIONS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # onnxruntime-gpu is another package
            continue
    gpu = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}, " if device.type == "cuda" else "no GPU, "
    where = f"{gpu}{processor_name()}, {count_cores()} cores"
    return f"{time.strftime('%Y-%m-%d')}, {where}\nPython {platform.python_version()}, {', '.join(found)}"


if __name__ == "__main__":
    run_command(main)
