"""Summary of a training, printed before it starts."""

from __future__ import annotations

from dataclasses import asdict

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from detector.models.recipe import Recipe
from detector.training.fit import count_iterations
from detector.training.loaders import Loaders

COLUMNS = 3  # for the recipe's settings


def describe_training(name: str, model: nn.Module, recipe: Recipe, size: tuple[int, int], loaders: Loaders) -> str:
    """Describe the model, the data and all resolved settings; size: (H, W)."""
    device = next(model.parameters()).device
    train, val = (len(loader.dataset) for loader in (loaders.train, loaders.val))  # type: ignore[arg-type]
    batches, steps = len(loaders.train), count_iterations(loaders, recipe)
    lines = [
        f"{name} at {size[0]}x{size[1]} (height x width): {count_gflops(model, size, device):.2f} GFLOPs per image "
        "(a multiply-add counts as two)",
        *describe_parts(model),
        f"{train} training images, {batches} batches and {steps} steps per epoch; {val} validation images",
        *format_settings(recipe),
    ]
    return "\n".join(lines)


def describe_parts(model: nn.Module) -> list[str]:
    """Return one line per child of the model with its parameters in millions and their frozen fraction, and a total."""
    lines = []
    width = max(len(name) for name, _ in model.named_children()) + 1
    for name, part in [*model.named_children(), ("all", model)]:
        count = sum(parameter.numel() for parameter in part.parameters())
        trainable = sum(parameter.numel() for parameter in part.parameters() if parameter.requires_grad)
        if count:
            frozen = f"{(count - trainable) / count:4.0%} frozen" if trainable < count else ""
            lines.append(f"  {name:<{width}}{count / 1e6:8.3f} M parameters  {frozen}".rstrip())
    return lines


def count_gflops(model: nn.Module, size: tuple[int, int], device: torch.device) -> float:
    """Count 10^9 operations for one image of `size` (H, W) in evaluation; a multiply-add counts as two, as in torch.

    Leaves the model and the random state unchanged.
    """
    modes = {module: module.training for module in model.modules()}
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    image = torch.zeros(1, 3, *size, dtype=torch.uint8, device=device)
    gpus = [device] if device.type == "cuda" else []
    try:
        for parameter in trainable:  # the counter hooks onto gradients even without backward
            parameter.requires_grad_(False)
        with torch.no_grad(), torch.random.fork_rng(gpus), FlopCounterMode(display=False) as counter:
            model.eval()(image)
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
        for module, training in modes.items():  # not `train()`: frozen norms stay in evaluation mode
            module.training = training
    flops: int = counter.get_total_flops()
    return flops / 1e9


def format_settings(recipe: Recipe) -> list[str]:
    """Return all settings in columns, ordered top to bottom."""
    settings = [f"{name} {_short(value)}" for name, value in asdict(recipe).items()]
    rows = -(-len(settings) // COLUMNS)
    columns = [settings[start : start + rows] for start in range(0, len(settings), rows)]
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for row in range(rows):
        cells = [column[row].ljust(width) for column, width in zip(columns, widths, strict=True) if row < len(column)]
        lines.append("  " + "   ".join(cells).rstrip())
    return lines


def _short(value: object) -> str:
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_short, value)) + "]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
