"""The losses of the query-based detectors: transformers' own, in float32, with our names and our normalization.

Matching and losses are those of each paper. Absent objects are nothing to detect, so transformers does not see them.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only
from torchvision.ops import box_convert

from detector.engine.distributed import loss_normalizer
from detector.engine.structures import Targets
from detector.models.private_imports import DISTRIBUTED_LOSS
from detector.models.state_head import StateHead, box_loss_mask

# Components that are sums over objects, divided by their number; DETR's loss_ce and loss_ddf are means.
SUMS = ("loss_vfl", "loss_mal", "loss_bbox", "loss_giou", "loss_fgl")


def make_labels(targets: Targets, size: Tensor, states: StateHead | None) -> list[dict[str, Tensor]]:
    """The present objects of each image as transformers expects them: class_labels int64 [M] from 0, boxes [M, 4].

    Boxes are cxcywh, relative to `size`, the height and width in pixels [B, 2].
    """
    boxes_cxcywh = box_convert(targets.boxes_xyxy / size.flip(1).repeat(1, 2)[:, None], "xyxy", "cxcywh")
    shown = (targets.labels > 0) & box_loss_mask(states, targets.states)
    return [
        {"class_labels": labels[mask] - 1, "boxes": boxes[mask]}
        for labels, boxes, mask in zip(targets.labels, boxes_cxcywh, shown, strict=True)
    ]


def use_own_normalization(network: Any) -> None:
    """Make transformers' model return from its loss what `compute_components` returns, in place."""
    # LW-DETR's loss adds up the objects of all processes, in validation too, where they differ in their batches: the
    # others would wait for ever. `compute_components` does it instead, for all losses alike.
    setattr(import_module(DISTRIBUTED_LOSS.module), DISTRIBUTED_LOSS.name, _return_false)
    network.loss_function = partial(compute_components, network.loss_function)


def _return_false() -> bool:
    return False


def compute_components(
    loss_function: Callable[..., Any],
    logits: Tensor,
    labels: list[dict[str, Tensor]],
    device: torch.device,
    boxes_cxcywh: Tensor,
    config: Any,
    *others: Any,
    **options: Any,
) -> tuple[Tensor, dict[str, Tensor], None]:
    """transformers' loss and its weighted components in float32; layers and denoising are part of each component.

    loss_function: of transformers; the others are its arguments. The divisor is the number of objects of this batch, in
    training their mean over the processes. Losses of predictions that are not finite are NaN, where transformers
    would stop.
    """
    with torch.autocast(logits.device.type, enabled=False):
        inputs = tree_map_only(Tensor, _to_float32, (logits, boxes_cxcywh, others, options))
        floats: list[Tensor] = []
        tree_map_only(Tensor, lambda tensor: floats.append(tensor) if tensor.is_floating_point() else None, inputs)
        finite = torch.stack([tensor.sum().isfinite() for tensor in floats]).all()
        if not finite:
            inputs = tree_map_only(Tensor, _replace_not_finite, inputs)
        logits, boxes_cxcywh, others, options = inputs
        groups = 1
        if hasattr(config, "group_detr"):
            groups = logits.shape[1] // config.num_queries  # in evaluation 1, which transformers overlooks
            config = copy.copy(config)
            config.group_detr = groups
        loss_dict = loss_function(logits, labels, device, boxes_cxcywh, config, *others, **options)[1]
    objects = torch.tensor(sum(len(label["class_labels"]) for label in labels), device=logits.device)
    factor = (objects * groups).clamp(min=1) / (loss_normalizer(objects) * groups)
    weights, sums = get_component_weights(config), get_summed_components(config)
    components: dict[str, Tensor] = {}
    for name, value in loss_dict.items():
        component = re.match(r"loss_[a-z]+", name)
        if component is None:  # such as cardinality_error, which is no loss
            continue
        key = component[0]
        loss = value * weights.get(key, 1.0) * (factor if key in sums else 1.0)
        components[key] = components[key] + loss if key in components else loss
    if not finite:
        components = {name: value * torch.nan for name, value in components.items()}
    return torch.stack(list(components.values())).sum(), components, None


def _to_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _replace_not_finite(tensor: Tensor) -> Tensor:
    return tensor.nan_to_num(0.5, 0.5, 0.5) if tensor.is_floating_point() else tensor


def get_component_weights(config: Any) -> dict[str, float]:
    """The weights of the components that transformers has not applied yet: RT-DETR and its successors do it inside."""
    if not hasattr(config, "bbox_loss_coefficient"):
        return {}
    return {
        "loss_ce": getattr(config, "class_loss_coefficient", 1.0),
        "loss_bbox": config.bbox_loss_coefficient,
        "loss_giou": config.giou_loss_coefficient,
    }


def get_summed_components(config: Any) -> tuple[str, ...]:
    """The components that are divided by the number of objects."""
    return SUMS if config.model_type == "detr" else (*SUMS, "loss_ce")


def compute_detr_losses(network: Any, outputs: Any, labels: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """DETR's losses of all decoder layers, from the outputs of a forward pass with `output_hidden_states`.

    With its own `auxiliary_loss`, transformers' decoder normalizes the queries between its layers, which neither the
    paper nor the COCO weights do.
    """
    hidden = torch.stack(outputs.decoder_hidden_states[-len(network.model.decoder.layers) :])
    hidden = network.model.decoder.layernorm(hidden)
    config = copy.copy(network.config)
    config.auxiliary_loss = True
    classes, boxes_cxcywh = network.class_labels_classifier(hidden), network.bbox_predictor(hidden).sigmoid()
    losses: dict[str, Tensor] = network.loss_function(
        outputs.logits, labels, outputs.logits.device, outputs.pred_boxes, config, classes, boxes_cxcywh
    )[1]
    return losses
