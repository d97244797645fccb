"""Weights from the internet, and what to do where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from detector.core.errors import UserError

Loaded = TypeVar("Loaded")


def load_pretrained(build: Callable[[], Loaded], hub: str = "") -> Loaded:
    """`build()`, which may download: from the repository `hub` of Hugging Face or, if "", from torch's server.

    Raises UserError naming the cache folder when it cannot.
    """
    try:
        return build()
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"pretrained weights could not be had: {error}\n"
            f"They are looked for in {_cache(hub)} there from a machine with internet, or train from scratch with "
            "`train.weights: none`."
        ) from None


def _cache(hub: str) -> str:
    """Where weights are kept once downloaded, and what to copy."""
    if not hub:
        return f"{torch.hub.get_dir()}/checkpoints: copy the file"
    from huggingface_hub.constants import HF_HUB_CACHE

    return f"{HF_HUB_CACHE}: copy the folder models--{hub.replace('/', '--')}"


def detection_weights(source: WeightsEnum, names: dict[str, str]) -> dict[str, Tensor]:
    """torchvision's weights of a whole detector, downloaded, under our names.

    names: beginnings of the names there and here.
    """
    stored = load_pretrained(lambda: source.get_state_dict(progress=True, check_hash=True))
    renamed = {}
    for name, value in stored.items():
        there = next((beginning for beginning in names if name.startswith(beginning)), "")
        renamed[names.get(there, "") + name.removeprefix(there)] = value
    return renamed


def load_all_but(model: nn.Module, weights: dict[str, Tensor], new: tuple[str, ...]) -> None:
    """Copy the weights into the model, except for names that begin with one of `new`: these stay as they are."""
    kept = {name: value for name, value in weights.items() if not name.startswith(new)}
    missing, unexpected = model.load_state_dict(kept, strict=False)
    lacking = [name for name in missing if not name.startswith((*new, "normalize."))]
    if lacking or unexpected:
        raise RuntimeError(f"the weights lack {lacking} and have {unexpected} besides; torchvision has changed")


def with_epsilon(weights: dict[str, Tensor], trained: float, own: float) -> dict[str, Tensor]:
    """The same function for batch norms that add `own` to the variance, not `trained` as these weights want."""
    scaled = dict(weights)
    for name, variance in weights.items():
        if name.endswith(".running_var"):
            weight = name.replace(".running_var", ".weight")
            scaled[weight] = weights[weight] * ((variance + own) / (variance + trained)).sqrt()
    return scaled


def load_frozen(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load weights from where batch norms are frozen for good: such do not count batches, all else must fit."""
    missing, unexpected = module.load_state_dict(weights, strict=False)
    wrong = [*unexpected, *(name for name in missing if not name.endswith("num_batches_tracked"))]
    if wrong:
        raise RuntimeError(f"weights of another model: {', '.join(wrong)}")
