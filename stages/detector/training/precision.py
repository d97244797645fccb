"""Floating-point precision of the layers in training and validation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from detector.core.errors import UserError

LOWER_PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


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
    integral = {model, *get_containers(model)}
    for module in model.modules():
        if module not in integral:
            forward = module.forward
            if isinstance(module, nn.Conv2d) and device.type == "cpu" and precision == "bf16":
                forward = partial(_convolve, forward, module.stride[1])
            module.forward = partial(_compute, forward, device.type, LOWER_PRECISIONS[precision])


def get_containers(model: nn.Module) -> list[nn.Module]:
    """The modules inside `model` whose `forward` computes losses and boxes, as `model.forward` does in other models."""
    containers: list[nn.Module] = model.containers() if hasattr(model, "containers") else []  # type: ignore[operator]
    return containers


def _compute(forward: Callable[..., Any], device_type: str, dtype: torch.dtype, /, *args: Any, **options: Any) -> Any:
    if torch.is_autocast_enabled(device_type):  # inside another layer, which converts its output
        return forward(*args, **options)
    with torch.autocast(device_type, dtype):
        output = forward(*args, **options)
    return tree_map_only(Tensor, lambda tensor: tensor.float() if tensor.dtype == dtype else tensor, output)


def _convolve(forward: Callable[[Tensor], Tensor], stride: int, /, inputs: Tensor) -> Tensor:
    """A convolution on the CPU, in fp32 for inputs narrower than its stride.

    Of these, torch 2.15 computes the gradient of the weights in bf16 from memory that it has not written (2026-11-29).
    """
    if inputs.shape[-1] >= stride:
        return forward(inputs)
    with torch.autocast("cpu", enabled=False):
        return forward(inputs.float()).to(torch.bfloat16)


def choose_precision(precision: str, device: torch.device) -> str:
    """Resolve `auto`: the device's lower precision on a GPU, fp32 on a CPU.

    bf16 took 1.3 to 2 times as long as fp32 on both CPUs measured, one with instructions for it and one without.
    """
    if precision != "auto":
        return precision
    return choose_lower_precision(device) if device.type == "cuda" else "fp32"
