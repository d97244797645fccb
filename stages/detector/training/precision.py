"""Floating-point precision of the layers in training and validation."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from detector.core.errors import UserError
from detector.core.output_files import write_text
from detector.engine.distributed import broadcast_object, is_main_process
from detector.engine.seeding import get_random_state, set_random_state
from detector.engine.structures import Targets

LOWER_PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}
MIN_SPEEDUP = 1.1  # below it, `auto` chooses fp32
TIMED_STEPS = 3  # after one warm-up step


def check_precision(precision: str, device: torch.device) -> None:
    """Raise UserError when the device does not support the precision."""
    if precision == "fp16" and device.type != "cuda":
        raise UserError(
            "params.yaml: `train.precision` is fp16, which needs a CUDA GPU, but this machine has none; "
            "use bf16, fp32 or auto"
        )
    if precision == "bf16" and choose_lower_precision(device) != "bf16":
        raise UserError(
            f"params.yaml: `train.precision` is bf16, which {torch.cuda.get_device_name()} does not support; "
            "use fp16, fp32 or auto"
        )


def choose_lower_precision(device: torch.device) -> str:
    """Return the lower precision that the device supports best."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "fp16"
    return "bf16"


def use_precision(model: nn.Module, device: torch.device, precision: str) -> None:
    """Make the layers of `model` compute in `precision`, in place; their outputs are converted back to float32.

    Losses, boxes and scores are computed in `model.forward` and therefore in float32: in bfloat16, a coordinate
    near 640 would be off by up to two pixels. Weights stay float32, and state_dict keys stay the same.
    """
    if precision == "fp32":
        return
    for module in model.modules():
        if module is not model:
            module.forward = partial(_compute, module.forward, device.type, LOWER_PRECISIONS[precision])


def _compute(forward: Callable[..., Any], device_type: str, dtype: torch.dtype, /, *args: Any, **options: Any) -> Any:
    if torch.is_autocast_enabled(device_type):  # inside another layer, which converts its output
        return forward(*args, **options)
    with torch.autocast(device_type, dtype):
        output = forward(*args, **options)
    return tree_map_only(Tensor, lambda tensor: tensor.float() if tensor.dtype == dtype else tensor, output)


def choose_precision(model: nn.Module, batch_size: int, size: tuple[int, int], device: torch.device, file: Path) -> str:
    """Resolve `auto`: the device's lower precision if its steps are clearly faster than in fp32, else fp32.

    Measured once and stored in `file`, so that a resumed or repeated training chooses the same. Draws no random
    number and does not change the model. size: (H, W) of the input.
    """
    timings = broadcast_object(_read_timings(file))
    if timings is None:
        timings = broadcast_object(_measure_timings(model, batch_size, size, device))
        if is_main_process():
            write_text(file, json.dumps(timings) + "\n")
    (_, full_seconds), (lower, lower_seconds) = timings.items()
    chosen = lower if full_seconds >= MIN_SPEEDUP * lower_seconds else "fp32"
    print(
        f"precision: {chosen} ({full_seconds:.3g} s per batch in fp32, {lower_seconds:.3g} s in {lower}; {lower} needs "
        f"a speedup of {MIN_SPEEDUP:g}; measured once, stored in {file})"
    )
    return chosen


def _read_timings(file: Path) -> dict[str, float] | None:
    try:
        timings: dict[str, float] = json.loads(file.read_text())
        return timings
    except (OSError, ValueError):
        return None


def _measure_timings(
    model: nn.Module, batch_size: int, size: tuple[int, int], device: torch.device
) -> dict[str, float]:
    """Measure the seconds of the fastest forward and backward pass on random images in fp32 and lower precision."""
    random_state = get_random_state()
    images = torch.randint(0, 256, (batch_size, 3, *size), dtype=torch.uint8).to(device)
    box = torch.tensor([size[1] / 4, size[0] / 4, size[1] * 3 / 4, size[0] * 3 / 4])
    labels = torch.ones(batch_size, 1, dtype=torch.int64)
    targets = Targets(box.expand(batch_size, 1, 4), labels, torch.zeros_like(labels)).to(device)
    seconds = {}
    for precision in ("fp32", choose_lower_precision(device)):
        model_copy = copy.deepcopy(model).train()
        use_precision(model_copy, device, precision)
        seconds[precision] = min([_time_step(model_copy, images, targets) for _ in range(TIMED_STEPS + 1)][1:])
        del model_copy
    set_random_state(random_state)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return {name: float(f"{value:.4g}") for name, value in seconds.items()}


def _time_step(model: nn.Module, images: Tensor, targets: Targets) -> float:
    model.zero_grad(set_to_none=True)
    _synchronize(images.device)
    start = time.perf_counter()
    torch.stack(list(model(images, targets).losses.values())).sum().backward()
    _synchronize(images.device)
    return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
