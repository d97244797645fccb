"""Weights from the internet, and what to do where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from detector.errors import UserError

ModuleType = TypeVar("ModuleType", bound=nn.Module)


def load_pretrained(build: Callable[[], ModuleType], hub: str = "") -> ModuleType:
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


def load_frozen(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load weights from where batch norms are frozen for good: such do not count batches, all else must fit."""
    missing, unexpected = module.load_state_dict(weights, strict=False)
    wrong = [*unexpected, *(name for name in missing if not name.endswith("num_batches_tracked"))]
    if wrong:
        raise RuntimeError(f"weights of another model: {', '.join(wrong)}")


def freeze_batch_norms(module: nn.Module) -> None:
    """Keep the pretrained statistics: batches of detection are too small to estimate new ones."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
            for parameter in layer.parameters():
                parameter.requires_grad_(False)
