"""In which floating-point format layers compute while a model is trained and validated."""

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
from detector.engine.distributed import from_first, is_first
from detector.engine.seeding import random_state, restore_random
from detector.engine.structures import Targets

LOWER = {"bf16": torch.bfloat16, "fp16": torch.float16}
CLEARLY_FASTER = 1.1  # times, or `auto` stays with fp32
STEPS = 3  # that are timed, after one that is not


def check_precision(precision: str, device: torch.device) -> None:
    """Raise UserError when the device has no such arithmetic."""
    if precision == "fp16" and device.type != "cuda":
        raise UserError(
            "params.yaml: `train.precision` is fp16, which needs a CUDA GPU, and this machine has none; "
            "use bf16, fp32 or auto"
        )
    if precision == "bf16" and lower_of(device) != "bf16":
        raise UserError(
            f"params.yaml: `train.precision` is bf16, which {torch.cuda.get_device_name()} does not have; "
            "use fp16, fp32 or auto"
        )


def lower_of(device: torch.device) -> str:
    """The lower precision that the device is good at."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "fp16"
    return "bf16"


def use_precision(model: nn.Module, device: torch.device, precision: str) -> None:
    """Let the layers of `model` compute in `precision`; what they answer `model.forward` is float32 again.

    So losses, boxes and scores, which are made in `model.forward`, are float32 whatever the model is: in
    bfloat16 a coordinate would be off by two pixels of 640. Weights stay float32, names stay the same.
    """
    if precision == "fp32":
        return
    for module in model.modules():
        if module is not model:
            module.forward = partial(_compute, module.forward, device.type, LOWER[precision])


def _compute(forward: Callable[..., Any], device_type: str, dtype: torch.dtype, /, *args: Any, **options: Any) -> Any:
    if torch.is_autocast_enabled(device_type):  # within another layer, whose answer is made float32
        return forward(*args, **options)
    with torch.autocast(device_type, dtype):
        answer = forward(*args, **options)
    return tree_map_only(Tensor, lambda tensor: tensor.float() if tensor.dtype == dtype else tensor, answer)


def fastest(model: nn.Module, batch_size: int, size: tuple[int, int], device: torch.device, file: Path) -> str:
    """What `auto` stands for: fp32, or the device's lower precision when its steps are clearly faster.

    Measured once and remembered in `file`, so that a run which goes on or is repeated decides the same. Takes
    no random number and does not change the model.
    """
    found = from_first(_remembered(file))
    if found is None:
        found = from_first(_measure(model, batch_size, size, device))
        if is_first():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(found) + "\n")
    (_, usual), (lower, seconds) = found.items()
    chosen = lower if usual >= CLEARLY_FASTER * seconds else "fp32"
    print(
        f"precision: a batch takes {usual:.3g} s in fp32 and {seconds:.3g} s in {lower}: {chosen} "
        f"(lower only if {CLEARLY_FASTER:g} x faster; measured once, {file})"
    )
    return chosen


def _remembered(file: Path) -> dict[str, float] | None:
    try:
        found: dict[str, float] = json.loads(file.read_text())
        return found
    except (OSError, ValueError):
        return None


def _measure(model: nn.Module, batch_size: int, size: tuple[int, int], device: torch.device) -> dict[str, float]:
    """Seconds of the fastest forward and backward pass over random images, for fp32 and the lower precision."""
    before = random_state()
    images = torch.randint(0, 256, (batch_size, 3, *size), dtype=torch.uint8).to(device)
    middle = torch.tensor([size[1] / 4, size[0] / 4, size[1] * 3 / 4, size[0] * 3 / 4])
    labels = torch.ones(batch_size, 1, dtype=torch.int64)
    targets = Targets(middle.expand(batch_size, 1, 4), labels, torch.zeros_like(labels)).to(device)
    seconds = {}
    for precision in ("fp32", lower_of(device)):
        copied = copy.deepcopy(model).train()
        use_precision(copied, device, precision)
        seconds[precision] = min([_seconds_of_a_step(copied, images, targets) for _ in range(STEPS + 1)][1:])
        del copied
    restore_random(before)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return {name: float(f"{value:.4g}") for name, value in seconds.items()}


def _seconds_of_a_step(model: nn.Module, images: Tensor, targets: Targets) -> float:
    model.zero_grad(set_to_none=True)
    _wait(images.device)
    began = time.perf_counter()
    torch.stack(list(model(images, targets).losses.values())).sum().backward()
    _wait(images.device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
