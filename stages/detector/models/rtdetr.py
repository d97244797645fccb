"""`rtdetr`: RT-DETRv2 with ResNet-18 (Lv et al. 2024, "RT-DETRv2: Improved Baseline with Bag-of-Freebies").

The smallest variant, 20 M parameters, to train on few images and run on a CPU. Parts from transformers.
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
from detector.models.denoising import DenoisingQueries, make_denoising_queries
from detector.models.hungarian import (
    MatchIndices,
    SetTargets,
    box_losses,
    count_objects,
    denormalize_boxes,
    gather_target_states,
    hungarian_match,
    make_set_targets,
    state_loss,
)
from detector.models.normalization import Normalize, PixelStatistics, freeze_batch_norms
from detector.models.postprocess import Postprocess, box_iou_xyxy
from detector.models.pretrained import HubWeights, download_hub_weights, load_pretrained, load_without_batch_counts
from detector.models.recipe import Recipe
from detector.models.state_head import StateConfig, StateHead, apply_presence, build_state_head

# The paper's recipe, adapted to fine-tuning: fewer epochs, a shorter warm-up, and weights averaged over the last 500
# steps instead of 10,000 (a decay of 0.9999), which would be the whole training on a few hundred images.
RECIPE = Recipe(
    image_size=640,
    epochs=60,
    batch_size=8,
    optimizer="adamw",
    lr=1e-4,
    weight_decay=1e-4,
    schedule="cosine",
    warmup_iterations=200,
    min_lr_ratio=0.02,
    grad_clip_norm=0.1,
    backbone_lr_factor=0.1,
)
HUB = HubWeights(
    "PekingU/rtdetr_v2_r18vd",
    "5650961749fa93567c0d46fc7f43ea4f9e914107",
    "d18309d0d7ea57048138885c4c6ecfcb1e24506fc6153b94ad484f8ab62c7115",
)
# Normalization of the pretrained weights: x / 255.
STATISTICS = PixelStatistics((0, 0, 0), (255, 255, 255))
QUERIES = 300
CLASS_COST = 2.0
COST_ALPHA, LOSS_ALPHA, GAMMA = 0.25, 0.75, 2.0


class Proposals(NamedTuple):
    """The Q best cells of the encoder: features [B, Q, D], logits [B, Q, C], boxes [B, Q, 4] before the sigmoid."""

    features: Tensor
    logits: Tensor
    boxes: Tensor


class QueryOutputs(NamedTuple):
    """Query outputs of each layer: logits [layers, B, Q, C]; boxes_cxcywh [layers, B, Q, 4], relative to the input.

    features: [B, Q, D] after the last layer.
    """

    logits: Tensor
    boxes_cxcywh: Tensor
    features: Tensor


class RTDetr(nn.Module):
    """Backbone, hybrid encoder whose best cells become the queries, decoder with box and class heads per layer."""

    def __init__(
        self, classes: int, states: StateConfig, statistics: PixelStatistics, postprocess: Postprocess, weights: str
    ) -> None:
        super().__init__()
        self.normalize = Normalize(statistics)
        self.body = load_pretrained(lambda: build_rtdetr_transformer(weights), HUB.repository)
        self.backbone = self.body.backbone.model
        self.body.backbone = nn.Identity()
        if weights != "none":
            freeze_batch_norms(self.backbone)
        width = self.body.config.d_model
        # The layers that depend on the classes are always new.
        self.body.enc_score_head = build_class_head(width, classes)
        self.body.decoder.class_embed = nn.ModuleList(
            build_class_head(width, classes) for _ in self.body.decoder.layers
        )
        self.body.denoising_class_embed = nn.Embedding(classes + 1, width, padding_idx=classes)
        self.states = build_state_head(width, states)
        self.postprocess = postprocess

    def forward(self, images: Tensor, targets: Targets | None = None) -> Output:
        """images uint8 [B, 3, H, W], H and W multiples of 32."""
        size = torch.tensor([images.shape[-2:]], dtype=torch.float32, device=images.device)  # [1, 2]
        memory, sizes = self._encode(images)
        proposals = self._propose(memory, sizes)
        denoising = None
        if targets is not None and self.training:
            set_targets, query_count = make_set_targets(targets, size, 1), proposals.features.shape[1]
            denoising = make_denoising_queries(set_targets, self.body.denoising_class_embed, query_count)
        queries, denoised = self._decode(proposals, denoising, memory, sizes)
        state_logits = None if self.states is None else self.states(queries.features).float()
        losses: dict[str, Tensor] = {}
        if targets is not None:
            total = count_objects(targets)
            losses = rtdetr_loss(queries, size, targets, total=total, state_logits=state_logits, states=self.states)
            if denoising is not None:
                denoising_losses = denoising_loss(denoised, denoising, size, targets, total=total, states=self.states)
                losses |= {name: losses[name] + loss for name, loss in denoising_losses.items()}
            # Every parameter needs a gradient in every step, or other training processes would wait.
            losses["loss_vfl"] = losses["loss_vfl"] + self.body.denoising_class_embed.weight.sum() * 0
        if self.training:
            return Output(losses, None)
        boxes_xyxy = denormalize_boxes(queries.boxes_cxcywh[-1], size)
        scores = apply_presence(queries.logits[-1].sigmoid(), state_logits, self.states)
        detections = self.postprocess.select_without_nms(boxes_xyxy, scores, state_logits)
        return Output(losses, detections, gather_target_states(boxes_xyxy, state_logits, targets))

    def _encode(self, images: Tensor) -> tuple[Tensor, list[tuple[int, int]]]:
        """All cells of the encoder's three feature maps [B, L, D], and the maps' sizes (H, W)."""
        maps = self.backbone(self.normalize(images)).feature_maps
        maps = [project(level) for project, level in zip(self.body.encoder_input_proj, maps, strict=True)]
        maps = self.body.encoder(maps).last_hidden_state
        maps = [project(level) for project, level in zip(self.body.decoder_input_proj, maps, strict=True)]
        memory = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1)
        return memory, [(level.shape[2], level.shape[3]) for level in maps]

    def _propose(self, memory: Tensor, sizes: list[tuple[int, int]]) -> Proposals:
        """The cells with the highest class scores; a small input has fewer than QUERIES."""
        anchors, valid = self.body.generate_anchors(tuple(sizes), device=memory.device, dtype=torch.float32)
        features = self.body.enc_output(memory * valid)
        logits = self.body.enc_score_head(features)
        boxes = self.body.enc_bbox_head(features) + anchors
        best = logits.amax(-1).topk(min(QUERIES, memory.shape[1])).indices[..., None]  # [B, Q, 1]
        return Proposals(*(part.gather(1, best.expand(-1, -1, part.shape[-1])) for part in (features, logits, boxes)))

    def _decode(
        self, proposals: Proposals, denoising: DenoisingQueries | None, memory: Tensor, sizes: list[tuple[int, int]]
    ) -> tuple[QueryOutputs, QueryOutputs]:
        """The outputs of the regular queries, with the proposals as first layer, and of the denoising queries."""
        # The decoder's input is detached: the encoder learns from the loss of the proposals.
        features, boxes, mask = proposals.features.detach(), proposals.boxes.detach(), None
        if denoising is not None:
            features = torch.cat([denoising.features, features], dim=1)
            boxes, mask = torch.cat([denoising.boxes, boxes], dim=1), denoising.mask
        decoded = self.body.decoder(
            inputs_embeds=features,
            encoder_hidden_states=memory,
            encoder_attention_mask=mask,
            reference_points=boxes,
            # Only checked; Python integers, because a check of tensors cannot be exported and synchronizes the GPU.
            spatial_shapes=np.array(sizes, dtype=object),
            spatial_shapes_list=sizes,
        )
        split = features.shape[1] - proposals.features.shape[1]  # K denoising queries come first
        logits = decoded.intermediate_logits.transpose(0, 1).float()  # [layers, B, K + Q, C]
        boxes = decoded.intermediate_reference_points.transpose(0, 1).float()
        queries = QueryOutputs(
            torch.cat([proposals.logits.float()[None], logits[:, :, split:]]),
            torch.cat([proposals.boxes.float().sigmoid()[None], boxes[:, :, split:]]),
            decoded.last_hidden_state[:, split:],
        )
        denoised = QueryOutputs(logits[:, :, :split], boxes[:, :, :split], decoded.last_hidden_state[:, :split])
        return queries, denoised


def build_rtdetr_transformer(weights: str) -> Any:
    """Build transformers' RTDetrV2Model with box heads and COCO or random weights."""
    from transformers import RTDetrResNetConfig, RTDetrV2Config, RTDetrV2ForObjectDetection  # slow to import

    trained = None
    if weights == "coco":
        trained = RTDetrV2ForObjectDetection.from_pretrained(download_hub_weights(HUB), use_safetensors=True).model
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
        freeze_backbone_batch_norms=False,  # FrozenBatchNorm does that and keeps the names of the weights
        initializer_range=0.06,  # Xavier initialization for 256 inputs and outputs; 0.01 hardly learns
    )
    if trained is not None:
        config.num_labels = trained.config.num_labels
    transformer = RTDetrV2ForObjectDetection(config).model
    for module in transformer.modules():
        if isinstance(module, nn.BatchNorm2d):  # transformers initializes their weights around 0
            module.reset_parameters()
    if trained is not None:
        load_without_batch_counts(transformer, trained.state_dict())
    return transformer


def build_class_head(width: int, classes: int) -> nn.Linear:
    """Features [..., width] -> logits [..., classes]; initial probabilities are 1% (Lin et al. 2017, "Focal Loss")."""
    layer = nn.Linear(width, classes)
    nn.init.constant_(layer.bias, -math.log(99))
    return layer


def rtdetr_loss(
    queries: QueryOutputs,
    size: Tensor,
    targets: Targets,
    *,
    total: Tensor,
    state_logits: Tensor | None,
    states: StateHead | None,
) -> dict[str, Tensor]:
    """`loss_vfl`, `loss_bbox` and `loss_giou` of the proposals and all decoder layers; `loss_state` of the last one.

    size: height and width of the input in pixels [1, 2]; total: see `count_objects`; state_logits [B, Q, S].
    """
    set_targets = make_set_targets(targets, size, len(queries.logits))
    logits, boxes_cxcywh = queries.logits.flatten(0, 1), queries.boxes_cxcywh.flatten(0, 1)
    matches = hungarian_match(boxes_cxcywh, compute_class_cost(logits), set_targets)
    sums = {"loss_vfl": varifocal_loss(logits, boxes_cxcywh, set_targets, matches)}
    sums |= box_losses(boxes_cxcywh, set_targets, matches, states)
    losses = {name: value / total for name, value in sums.items()}
    if states is not None and state_logits is not None:
        losses["loss_state"] = state_loss(state_logits, set_targets, matches, states)
    return losses


def denoising_loss(
    denoised: QueryOutputs,
    denoising: DenoisingQueries,
    size: Tensor,
    targets: Targets,
    *,
    total: Tensor,
    states: StateHead | None,
) -> dict[str, Tensor]:
    """`loss_vfl`, `loss_bbox` and `loss_giou` of the denoising queries, which need no matching."""
    layers, batch = denoised.logits.shape[:2]
    set_targets = make_set_targets(targets, size, layers)
    first_row = torch.arange(layers, device=set_targets.labels.device)[:, None] * batch
    row = (first_row + denoising.matches.row).flatten()
    matches = MatchIndices(row, *(column.repeat(layers) for column in denoising.matches[1:]))
    logits, boxes_cxcywh = denoised.logits.flatten(0, 1), denoised.boxes_cxcywh.flatten(0, 1)
    sums = {"loss_vfl": varifocal_loss(logits, boxes_cxcywh, set_targets, matches)}
    sums |= box_losses(boxes_cxcywh, set_targets, matches, states)
    return {name: value / (total * denoising.groups) for name, value in sums.items()}


def compute_class_cost(logits: Tensor) -> Tensor:
    """The cost of matching a query to an object of each class [..., C]: the change of its focal loss."""
    score = logits.sigmoid()
    positive = COST_ALPHA * (1 - score) ** GAMMA * -F.logsigmoid(logits)
    negative = (1 - COST_ALPHA) * score**GAMMA * -F.logsigmoid(-logits)
    return CLASS_COST * (positive - negative)


def varifocal_loss(logits: Tensor, boxes_cxcywh: Tensor, set_targets: SetTargets, matches: MatchIndices) -> Tensor:
    """Varifocal loss (Zhang et al. 2021), summed over all queries; logits [N, Q, C], boxes_cxcywh [N, Q, 4].

    The target score is the IoU of the query's box with its object. Queries without an object are weighted by their
    score.
    """
    boxes = box_convert(boxes_cxcywh[matches.row, matches.query].detach(), "cxcywh", "xyxy")  # [P, 4]
    true_boxes = box_convert(set_targets.boxes_cxcywh[matches.row, matches.object], "cxcywh", "xyxy")
    iou = box_iou_xyxy(boxes[:, None], true_boxes[:, None])[:, 0, 0]  # [P]
    category = set_targets.labels[matches.row, matches.object] - 1
    quality = torch.zeros_like(logits)
    quality[matches.row, matches.query, category] = iou
    weight = LOSS_ALPHA * logits.detach().sigmoid() ** GAMMA
    weight[matches.row, matches.query, category] = iou
    return F.binary_cross_entropy_with_logits(logits, quality, weight, reduction="sum")


def build_rtdetr(
    classes: int, states: StateConfig, statistics: PixelStatistics, postprocess: Postprocess, weights: str
) -> RTDetr:
    """weights: coco (all but the layers that depend on the classes; downloaded) or none."""
    return RTDetr(classes, states, statistics, postprocess, weights)
