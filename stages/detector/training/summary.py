"""What is about to be trained, in lines that can be read."""

from __future__ import annotations

from dataclasses import asdict

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from detector.models.recipe import Recipe
from detector.training.fit import Loaders, iterations_of

COLUMNS = 3  # of the recipe's settings


def describe(name: str, model: nn.Module, recipe: Recipe, size: tuple[int, int], loaders: Loaders) -> str:
    """What is about to happen, with nothing left implicit; size: (H, W)."""
    device = next(model.parameters()).device
    train, val = (len(loader.dataset) for loader in (loaders.train, loaders.val))  # type: ignore[arg-type]
    batches, steps = len(loaders.train), iterations_of(loaders, recipe)
    lines = [
        f"{name} at {size[0]}x{size[1]} (height x width): {gflops_of(model, size, device):.2f} GFLOPs an image "
        "(a multiply-add is two)",
        *parts_of(model),
        f"{train} images to train on, {batches} batches and {steps} steps an epoch; {val} to validate on",
        *settings_of(recipe),
    ]
    return "\n".join(lines)


def parts_of(model: nn.Module) -> list[str]:
    """A line for each child of the model that has parameters, and one for all: millions, and how many learn."""
    lines = []
    width = max(len(name) for name, _ in model.named_children()) + 1
    for name, part in [*model.named_children(), ("all", model)]:
        count = sum(parameter.numel() for parameter in part.parameters())
        learning = sum(parameter.numel() for parameter in part.parameters() if parameter.requires_grad)
        if count:
            frozen = f"{(count - learning) / count:4.0%} frozen" if learning < count else ""
            lines.append(f"  {name:<{width}}{count / 1e6:8.3f} M parameters  {frozen}".rstrip())
    return lines


def gflops_of(model: nn.Module, size: tuple[int, int], device: torch.device) -> float:
    """10^9 operations of one image of `size` (H, W) in evaluation; a multiply-add is two, as torch counts.

    Leaves the model and the random numbers as they were.
    """
    modes = {module: module.training for module in model.modules()}
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    image = torch.zeros(1, 3, *size, dtype=torch.uint8, device=device)
    gpus = [device] if device.type == "cuda" else []
    try:
        for parameter in learning:  # the counter hooks onto gradients, even where none are made
            parameter.requires_grad_(False)
        with torch.no_grad(), torch.random.fork_rng(gpus), FlopCounterMode(display=False) as counter:
            model.eval()(image)
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
        for module, training in modes.items():  # not `train()`: frozen norms are in evaluation
            module.training = training
    return counter.get_total_flops() / 1e9


def settings_of(recipe: Recipe) -> list[str]:
    """All settings, in columns that are read downwards."""
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
