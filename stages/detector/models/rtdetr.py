"""`rtdetr`: RT-DETRv2 with ResNet-18 (Lv et al. 2024, "RT-DETRv2: Improved Baseline with Bag-of-Freebies").

Its lightest variant, 20 M parameters, for it must train on few images and run on a CPU. Parts by transformers.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_convert

from detector.engine.structures import Output, Targets
from detector.models.denoising import Noisy, add_noise
from detector.models.hungarian import (
    Goals,
    Pairs,
    box_losses,
    goals_of,
    match,
    object_count,
    state_loss,
    states_of_objects,
    to_pixels,
)
from detector.models.normalization import Normalize, PixelStatistics, freeze_batch_norms
from detector.models.postprocess import Postprocess, pairwise_iou_xyxy
from detector.models.pretrained import load_frozen, load_pretrained
from detector.models.recipe import Recipe
from detector.models.state_head import StateHead, States, present_scores, state_head

# The paper's, but for fine-tuning: fewer epochs, a shorter warm-up, and an average over the last 500 steps
# instead of 10,000 (a decay of 0.9999), which on a few hundred images would be the whole training.
RECIPE = Recipe(
    size=640,
    epochs=60,
    batch_size=8,
    optimizer="adamw",
    lr=1e-4,
    weight_decay=1e-4,
    schedule="cosine",
    warmup_iterations=200,
    min_lr=0.02,
    clip_norm=0.1,
    backbone_lr_factor=0.1,
)
HUB = "PekingU/rtdetr_v2_r18vd"
# What the weights were trained with: x / 255.
STATISTICS = PixelStatistics((0, 0, 0), (255, 255, 255))
QUERIES = 300
CLASS_COST = 2.0
COST_ALPHA, LOSS_ALPHA, GAMMA = 0.25, 0.75, 2.0


class Proposals(NamedTuple):
    """The Q best cells of the encoder: features [B, Q, D], logits [B, Q, C], boxes [B, Q, 4] before the sigmoid."""

    features: Tensor
    logits: Tensor
    boxes: Tensor


class Queries(NamedTuple):
    """What queries say in each layer: logits [layers, B, Q, C], boxes_cxcywh [layers, B, Q, 4] as shares of the input.

    features: [B, Q, D] after the last layer.
    """

    logits: Tensor
    boxes_cxcywh: Tensor
    features: Tensor


class RTDetr(nn.Module):
    """Backbone, hybrid encoder whose best cells become the queries, decoder with box and class heads a layer."""

    def __init__(
        self, classes: int, states: States, statistics: PixelStatistics, postprocess: Postprocess, weights: str
    ) -> None:
        super().__init__()
        self.normalize = Normalize(statistics)
        self.body = load_pretrained(lambda: make_body(weights), HUB)
        self.backbone = self.body.backbone.model
        self.body.backbone = nn.Identity()
        if weights != "none":
            freeze_batch_norms(self.backbone)
        width = self.body.config.d_model
        # What knows of classes is always new: COCO's are others.
        self.body.enc_score_head = class_head(width, classes)
        self.body.decoder.class_embed = nn.ModuleList(class_head(width, classes) for _ in self.body.decoder.layers)
        self.body.denoising_class_embed = nn.Embedding(classes + 1, width, padding_idx=classes)
        self.states = state_head(width, states)
        self.postprocess = postprocess

    def forward(self, images: Tensor, targets: Targets | None = None) -> Output:
        """images uint8 [B, 3, H, W], H and W multiples of 32."""
        size = torch.tensor([images.shape[-2:]], dtype=torch.float32, device=images.device)  # [1, 2]
        memory, sizes = self._encode(images)
        proposals = self._propose(memory, sizes)
        noisy = None
        if targets is not None and self.training:
            noisy = add_noise(goals_of(targets, size, 1), self.body.denoising_class_embed, proposals.features.shape[1])
        queries, denoised = self._decode(proposals, noisy, memory, sizes)
        state_logits = None if self.states is None else self.states(queries.features).float()
        losses: dict[str, Tensor] = {}
        if targets is not None:
            total = object_count(targets)
            losses = rtdetr_loss(queries, size, targets, total, state_logits, self.states)
            denoising = {} if noisy is None else denoising_loss(denoised, noisy, size, targets, total, self.states)
            losses |= {name: losses[name] + loss for name, loss in denoising.items()}
            # No parameter may be left out of a step, or processes that train together wait.
            losses["class"] = losses["class"] + self.body.denoising_class_embed.weight.sum() * 0
        if self.training:
            return Output(losses, None)
        boxes_xyxy = to_pixels(queries.boxes_cxcywh[-1], size)
        scores = present_scores(queries.logits[-1].sigmoid(), state_logits, self.states)
        detections = self.postprocess.without_nms(boxes_xyxy, scores, state_logits)
        return Output(losses, detections, states_of_objects(boxes_xyxy, state_logits, targets))

    def _encode(self, images: Tensor) -> tuple[Tensor, list[tuple[int, int]]]:
        """All cells of the encoder's three maps [B, L, D], and the maps' sizes (H, W)."""
        maps = self.backbone(self.normalize(images)).feature_maps
        maps = [project(level) for project, level in zip(self.body.encoder_input_proj, maps, strict=True)]
        maps = self.body.encoder(maps).last_hidden_state
        maps = [project(level) for project, level in zip(self.body.decoder_input_proj, maps, strict=True)]
        memory = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1)
        return memory, [(level.shape[2], level.shape[3]) for level in maps]

    def _propose(self, memory: Tensor, sizes: list[tuple[int, int]]) -> Proposals:
        """The cells that look most like an object; a small input has fewer than QUERIES."""
        anchors, valid = self.body.generate_anchors(tuple(sizes), device=memory.device, dtype=torch.float32)
        features = self.body.enc_output(memory * valid)
        logits = self.body.enc_score_head(features)
        boxes = self.body.enc_bbox_head(features) + anchors
        chosen = logits.amax(-1).topk(min(QUERIES, memory.shape[1])).indices[..., None]  # [B, Q, 1]
        return Proposals(*(part.gather(1, chosen.expand(-1, -1, part.shape[-1])) for part in (features, logits, boxes)))

    def _decode(
        self, proposals: Proposals, noisy: Noisy | None, memory: Tensor, sizes: list[tuple[int, int]]
    ) -> tuple[Queries, Queries]:
        """What the proposals become, they being the first layer, and what the noisy queries become."""
        # What the decoder begins with does not teach the encoder: the proposals' own loss does.
        features, boxes, mask = proposals.features.detach(), proposals.boxes.detach(), None
        if noisy is not None:
            features = torch.cat([noisy.features, features], dim=1)
            boxes, mask = torch.cat([noisy.boxes, boxes], dim=1), noisy.mask
        decoded = self.body.decoder(
            inputs_embeds=features,
            encoder_hidden_states=memory,
            encoder_attention_mask=mask,
            reference_points=boxes,
            # Only checked: as Python's integers, since of tensors the check cannot be exported and a GPU must wait.
            spatial_shapes=np.array(sizes, dtype=object),
            spatial_shapes_list=sizes,
        )
        extra = features.shape[1] - proposals.features.shape[1]
        logits = decoded.intermediate_logits.transpose(0, 1).float()  # [layers, B, K + Q, C]
        boxes = decoded.intermediate_reference_points.transpose(0, 1).float()
        queries = Queries(
            torch.cat([proposals.logits.float()[None], logits[:, :, extra:]]),
            torch.cat([proposals.boxes.float().sigmoid()[None], boxes[:, :, extra:]]),
            decoded.last_hidden_state[:, extra:],
        )
        return queries, Queries(logits[:, :, :extra], boxes[:, :, :extra], decoded.last_hidden_state[:, :extra])


def make_body(weights: str) -> Any:
    """transformers' RTDetrV2Model with box heads: COCO's or a random one."""
    # Here, because importing them takes seconds.
    from transformers import RTDetrResNetConfig, RTDetrV2Config, RTDetrV2ForObjectDetection

    trained = RTDetrV2ForObjectDetection.from_pretrained(HUB, use_safetensors=True).model if weights == "coco" else None
    backbone = RTDetrResNetConfig(
        depths=[2, 2, 2, 2],
        hidden_sizes=[64, 128, 256, 512],
        layer_type="basic",
        out_indices=[2, 3, 4],  # type: ignore[call-arg]
    )
    config = RTDetrV2Config(
        backbone_config=backbone,
        encoder_in_channels=backbone.hidden_sizes[1:],
        hidden_expansion=0.5,
        decoder_layers=3,
        freeze_backbone_batch_norms=False,  # `train` does that, so that weights have the same names either way
        initializer_range=0.06,  # what Xavier's rule gives for 256 inputs and outputs; 0.01 hardly learns
    )
    if trained is not None:
        config.num_labels = trained.config.num_labels
    body = RTDetrV2ForObjectDetection(config).model
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):  # which transformers begins with weights about 0
            module.reset_parameters()
    if trained is not None:
        load_frozen(body, trained.state_dict())
    return body


def class_head(width: int, classes: int) -> nn.Linear:
    """Features [..., width] -> logits [..., classes], at first 1% each (Lin et al. 2017, "Focal Loss")."""
    layer = nn.Linear(width, classes)
    nn.init.constant_(layer.bias, -math.log(99))
    return layer


def rtdetr_loss(
    queries: Queries,
    size: Tensor,
    targets: Targets,
    total: Tensor,
    state_logits: Tensor | None,
    states: StateHead | None,
) -> dict[str, Tensor]:
    """`class`, `box` and `edge` of the proposals and all decoder layers, and `state` of the last.

    size: height and width of the input in pixels [1, 2]; total: see `object_count`; state_logits [B, Q, S].
    """
    goals = goals_of(targets, size, len(queries.logits))
    logits, boxes_cxcywh = queries.logits.flatten(0, 1), queries.boxes_cxcywh.flatten(0, 1)
    pairs = match(boxes_cxcywh, class_cost(logits), goals)
    sums = {"class": varifocal_loss(logits, boxes_cxcywh, goals, pairs)}
    sums |= box_losses(boxes_cxcywh, goals, pairs, states)
    losses = {name: value / total for name, value in sums.items()}
    if states is not None and state_logits is not None:
        losses["state"] = state_loss(state_logits, goals, pairs, states)
    return losses


def denoising_loss(
    denoised: Queries, noisy: Noisy, size: Tensor, targets: Targets, total: Tensor, states: StateHead | None
) -> dict[str, Tensor]:
    """`class`, `box` and `edge` of the noisy queries, for which no matching is needed."""
    layers, batch = denoised.logits.shape[:2]
    goals = goals_of(targets, size, layers)
    first = torch.arange(layers, device=goals.labels.device)[:, None] * batch
    pairs = Pairs((first + noisy.pairs.row).flatten(), *(part.repeat(layers) for part in noisy.pairs[1:]))
    logits, boxes_cxcywh = denoised.logits.flatten(0, 1), denoised.boxes_cxcywh.flatten(0, 1)
    sums = {"class": varifocal_loss(logits, boxes_cxcywh, goals, pairs)}
    sums |= box_losses(boxes_cxcywh, goals, pairs, states)
    return {name: value / (total * noisy.groups) for name, value in sums.items()}


def class_cost(logits: Tensor) -> Tensor:
    """What it costs that a query stands for a class [..., C]: the change of its focal loss."""
    score = logits.sigmoid()
    found = COST_ALPHA * (1 - score) ** GAMMA * -F.logsigmoid(logits)
    missed = (1 - COST_ALPHA) * score**GAMMA * -F.logsigmoid(-logits)
    return CLASS_COST * (found - missed)


def varifocal_loss(logits: Tensor, boxes_cxcywh: Tensor, goals: Goals, pairs: Pairs) -> Tensor:
    """Sum over all queries [N, Q, C]: a score learns to tell how well its box fits (Zhang et al. 2021).

    That is the overlap with the object; a query without an object counts by how sure it is.
    """
    found = box_convert(boxes_cxcywh[pairs.row, pairs.query].detach(), "cxcywh", "xyxy")  # [P, 4]
    wanted = box_convert(goals.boxes_cxcywh[pairs.row, pairs.object], "cxcywh", "xyxy")
    overlap = pairwise_iou_xyxy(found[:, None], wanted[:, None])[:, 0, 0]  # [P]
    category = goals.labels[pairs.row, pairs.object] - 1
    quality = torch.zeros_like(logits)
    quality[pairs.row, pairs.query, category] = overlap
    weight = LOSS_ALPHA * logits.detach().sigmoid() ** GAMMA
    weight[pairs.row, pairs.query, category] = overlap
    return F.binary_cross_entropy_with_logits(logits, quality, weight, reduction="sum")


def build(classes: int, states: States, statistics: PixelStatistics, postprocess: Postprocess, weights: str) -> RTDetr:
    """weights: coco (all but what knows of classes; downloaded) or none."""
    return RTDetr(classes, states, statistics, postprocess, weights)
