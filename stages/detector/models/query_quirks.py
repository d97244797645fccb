"""What transformers' query-based detectors need beyond the table: short functions, which change them in place."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn


def keep(network: Any) -> None:
    """Change nothing."""
    del network


def untie_class_heads(network: Any) -> None:
    """Give each decoder layer of Deformable DETR a class head of its own, as its box refinement has them.

    transformers builds one head for all layers, and takes them apart when it loads a file in which they differ.
    """
    for head in network.class_embed:
        head.weight, head.bias = (nn.Parameter(tensor.detach().clone()) for tensor in (head.weight, head.bias))


def prepare_deformable_detr(network: Any) -> None:
    """Clamp no tensor twice, because the ONNX exporter then writes an invalid file."""
    vars(import_module(type(network).__module__))["inverse_sigmoid"] = invert_sigmoid


def invert_sigmoid(values: Tensor, eps: float = 1e-5) -> Tensor:
    """Probabilities -> logits, limited to +-11.5 by `eps`; as transformers', which clamps to 0..1 before."""
    return torch.log(values.clamp(min=eps) / (1 - values).clamp(min=eps))


def prepare_rfdetr(network: Any) -> None:
    """Divide pictures that are not square into the windows that the backbone puts together again.

    transformers exchanges height and width here, like the authors, who have square pictures only; there it is the same.
    """
    embeddings = network.model.backbone.backbone.embeddings
    embeddings.window_partition = partial(partition_windows, embeddings.config.num_windows, embeddings.patch_size)


def partition_windows(windows: int, patch_size: int, tokens: Tensor, height: int, width: int) -> Tensor:
    """Divide the patches of pictures of `height` x `width` pixels into `windows` per side, each with the class token.

    tokens [B, 1 + patches, C] -> [B * windows^2, 1 + patches / windows^2, C], the windows of a picture in a row.
    """
    rows, columns = height // patch_size // windows, width // patch_size // windows  # of a window
    patches = tokens[:, 1:].unflatten(1, (windows, rows, windows, columns))
    patches = patches.transpose(2, 3).flatten(3, 4).flatten(0, 2)  # [B * windows^2, rows * columns, C]
    return torch.cat([tokens[:, :1].repeat_interleave(windows**2, 0), patches], dim=1)


def initialize_detr(network: Any) -> None:
    """Random weights as in the paper's code: those of transformers are far smaller, and all queries answer alike."""
    for part in (network.model.encoder, network.model.decoder):
        for parameter in part.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
    for module in (network.model.query_position_embeddings, network.model.input_projection):
        module.reset_parameters()


def reset_batch_norms(network: Any) -> None:
    """Let all batch norms start as the identity: transformers draws their weights around 0."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
