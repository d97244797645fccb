"""`detr`: DETR with ResNet-50 (Carion et al. 2020, "End-to-End Object Detection with Transformers").

Backbone by torchvision, transformer by transformers. The paper trains 300 epochs on COCO, and from random
weights nothing less will do: on a dataset of one's own it is made for fine-tuning COCO's weights.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import ResNet50_Weights, resnet50

from detector.engine.structures import Output, Targets
from detector.models.hungarian import (
    box_losses,
    goals_of,
    match,
    object_count,
    state_loss,
    states_of_objects,
    to_pixels,
)
from detector.models.normalization import FrozenBatchNorm, Normalize, PixelStatistics
from detector.models.padding import content_mask, content_size
from detector.models.postprocess import Postprocess
from detector.models.pretrained import load_frozen, load_pretrained
from detector.models.recipe import Recipe
from detector.models.state_head import StateHead, States, present_scores, state_head

# Fine-tuning: a tenth of the paper's schedule at half its rate. With 640 pixels a photograph of 4:3 has a
# shorter side of 480, the smallest that COCO's weights were trained with.
RECIPE = Recipe(
    size=640,
    epochs=30,
    batch_size=4,
    optimizer="adamw",
    lr=5e-5,
    weight_decay=1e-4,
    schedule="cosine",
    warmup_iterations=100,
    min_lr=0.02,
    clip_norm=1.0,
    backbone_lr_factor=0.1,
)
HUB = "facebook/detr-resnet-50"
LAYERS = 6  # of the encoder and of the decoder, as COCO's weights have them
STRIDE = 32  # pixels per cell of the backbone's last map
NOTHING_WEIGHT = 0.1  # of a query without an object in the class loss: there are so many


class Detr(nn.Module):
    """Backbone, transformer with 100 queries, heads."""

    def __init__(
        self, classes: int, states: States, statistics: PixelStatistics, postprocess: Postprocess, weights: str
    ) -> None:
        super().__init__()
        network = load_pretrained(lambda: make_network(weights), HUB)
        self.normalize = Normalize(statistics)
        self.backbone = make_backbone(weights)
        self.body = network.model
        if weights == "coco":
            load_frozen(self.backbone, self.body.backbone.model.state_dict())
        self.body.backbone = nn.Identity()
        self.box_head = network.bbox_predictor
        width = self.body.config.d_model
        self.class_head = nn.Linear(width, classes + 1)  # the last is "nothing"
        self.states = state_head(width, states)
        self.postprocess = postprocess
        if weights != "none":  # as in the paper: edges and colours are the same everywhere
            self.backbone.conv1.requires_grad_(False)
            self.backbone.layer1.requires_grad_(False)

    def forward(self, images: Tensor, targets: Targets | None = None) -> Output:
        """images uint8 [B, 3, H, W], H and W multiples of 32. Boxes are shares of the picture without padding."""
        size = content_size(images, self.normalize.mean)  # [B, 2]
        features = self._decode(self.backbone(self.normalize(images)), size)  # [layers, B, Q, D]
        logits = self.class_head(features).float()  # [layers, B, Q, classes + 1]
        boxes = self.box_head(features).float().sigmoid()  # [layers, B, Q, 4]
        state_logits = None if self.states is None else self.states(features[-1]).float()
        losses = {} if targets is None else detr_loss(logits, boxes, size, targets, state_logits, self.states)
        if self.training:
            return Output(losses, None)
        boxes_xyxy = to_pixels(boxes[-1], size)
        scores = present_scores(logits[-1].softmax(-1)[..., :-1], state_logits, self.states)
        detections = self.postprocess.without_nms(boxes_xyxy, scores, state_logits)
        return Output(losses, detections, states_of_objects(boxes_xyxy, state_logits, targets))

    def _decode(self, maps: Tensor, size: Tensor) -> Tensor:
        """Features of the queries after each decoder layer [layers, B, Q, D], from the backbone's map."""
        seen = content_mask(size, (maps.shape[2], maps.shape[3]), STRIDE)  # [B, h, w]
        positions = self.body.position_embedding(maps.shape, maps.device, maps.dtype, mask=seen)  # [B, D, h, w]
        positions = positions.flatten(2).transpose(1, 2)  # [B, h * w, D]
        seen = seen.flatten(1)[:, None, None]  # [B, 1, 1, h * w], for all heads and queries
        memory = self.body.input_projection(maps).flatten(2).transpose(1, 2)  # [B, h * w, D]
        for layer in self.body.encoder.layers:
            memory = layer(memory, seen, spatial_position_embeddings=positions)
        queries = self.body.query_position_embeddings.weight.expand(maps.shape[0], -1, -1)  # [B, Q, D]
        found, features = torch.zeros_like(queries), []
        # Layer by layer: transformers' own decoder, when it returns what comes between, also changes what goes on.
        for layer in self.body.decoder.layers:
            found = layer(found, None, positions, queries, memory, encoder_attention_mask=seen)
            features.append(self.body.decoder.layernorm(found))
        return torch.stack(features)


def make_network(weights: str) -> Any:
    """transformers' DetrForObjectDetection: COCO's or, but for the backbone that is not used, a random one."""
    from transformers import DetrConfig, DetrForObjectDetection  # here, because importing it takes seconds

    if weights == "coco":
        return DetrForObjectDetection.from_pretrained(HUB, use_safetensors=True)
    network = DetrForObjectDetection(DetrConfig(encoder_layers=LAYERS, decoder_layers=LAYERS))
    # As in the paper's code; transformers' own N(0, 0.02) is smaller by far.
    for part in (network.model.encoder, network.model.decoder):
        for parameter in part.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
    for module in (network.model.query_position_embeddings, network.model.input_projection):
        module.reset_parameters()
    return network


def make_backbone(weights: str) -> Any:
    """torchvision's ResNet-50 up to its last map, [B, 3, H, W] -> [B, 2048, H / 32, W / 32]."""
    source = ResNet50_Weights.IMAGENET1K_V1 if weights == "imagenet" else None
    norm = nn.BatchNorm2d if weights == "none" else FrozenBatchNorm
    network = load_pretrained(lambda: resnet50(weights=source, norm_layer=norm))
    return nn.Sequential(OrderedDict(list(network.named_children())[:-2]))  # without pooling and classifier


def detr_loss(
    logits: Tensor,
    boxes_cxcywh: Tensor,
    size: Tensor,
    targets: Targets,
    state_logits: Tensor | None,
    states: StateHead | None,
) -> dict[str, Tensor]:
    """`class`, `box` and `edge` of all decoder layers, and `state` of the last.

    logits [layers, B, Q, classes + 1], boxes_cxcywh [layers, B, Q, 4] as shares of pictures of `size`,
    state_logits [B, Q, S].
    """
    layers, nothing = len(logits), logits.shape[-1] - 1
    goals = goals_of(targets, size, layers)
    logits, boxes_cxcywh = logits.flatten(0, 1), boxes_cxcywh.flatten(0, 1)  # [layers * B, Q, ...]
    pairs = match(boxes_cxcywh, -logits.softmax(-1), goals)
    labels = torch.full(logits.shape[:2], nothing, device=logits.device)
    labels[pairs.row, pairs.query] = goals.labels[pairs.row, pairs.object] - 1
    weights = torch.ones(nothing + 1, device=logits.device)
    weights[nothing] = NOTHING_WEIGHT
    # The mean over one layer, times layers; flat, because only then is it deterministic on a GPU.
    losses = {"class": F.cross_entropy(logits.flatten(0, 1), labels.flatten(), weights) * layers}
    sums = box_losses(boxes_cxcywh, goals, pairs, states)
    total = object_count(targets)
    losses |= {name: value / total for name, value in sums.items()}
    if states is not None and state_logits is not None:
        losses["state"] = state_loss(state_logits, goals, pairs, states)
    return losses


def build(classes: int, states: States, statistics: PixelStatistics, postprocess: Postprocess, weights: str) -> Detr:
    """weights: coco (all but the class head), imagenet (of the backbone; both downloaded) or none."""
    return Detr(classes, states, statistics, postprocess, weights)
