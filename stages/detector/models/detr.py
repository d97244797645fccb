"""`detr`: DETR with ResNet-50 (Carion et al. 2020, "End-to-End Object Detection with Transformers").

Backbone from torchvision, transformer from transformers. The paper trains for 300 epochs on COCO, and random weights
need as much; on your own dataset, fine-tune the COCO weights.
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
    count_objects,
    denormalize_boxes,
    gather_target_states,
    hungarian_match,
    make_set_targets,
    state_loss,
)
from detector.models.normalization import FrozenBatchNorm, Normalize, PixelStatistics
from detector.models.padding import make_content_mask, measure_content
from detector.models.postprocess import Postprocess
from detector.models.pretrained import HubWeights, download_hub_weights, load_pretrained, load_without_batch_counts
from detector.models.recipe import Recipe
from detector.models.state_head import StateConfig, StateHead, apply_presence, build_state_head

# For fine-tuning: a tenth of the paper's schedule at half its learning rate. At 640 pixels, a 4:3 photograph has a
# shorter side of 480, the smallest in the training of the COCO weights.
RECIPE = Recipe(
    image_size=640,
    epochs=30,
    batch_size=4,
    optimizer="adamw",
    lr=5e-5,
    weight_decay=1e-4,
    schedule="cosine",
    warmup_iterations=100,
    min_lr_ratio=0.02,
    grad_clip_norm=1.0,
    backbone_lr_factor=0.1,
)
HUB = HubWeights(
    "facebook/detr-resnet-50",
    "1d5f47bd3bdd2c4bbfa585418ffe6da5028b4c0b",
    "830f5e2eeaada8c8c8281779dcc8ab12833972eb8514ed0a35be6c1d4420ad81",
)
LAYERS = 6  # of the encoder and of the decoder, as in the COCO weights
STRIDE = 32  # pixels per cell of the backbone's last map
NO_OBJECT_WEIGHT = 0.1  # weight of unmatched queries in loss_ce, because there are so many


class Detr(nn.Module):
    """Backbone, transformer with 100 queries, heads."""

    def __init__(
        self, classes: int, states: StateConfig, statistics: PixelStatistics, postprocess: Postprocess, weights: str
    ) -> None:
        super().__init__()
        network = load_pretrained(lambda: build_detr_network(weights), HUB.repository)
        self.normalize = Normalize(statistics)
        self.backbone = build_detr_backbone(weights)
        self.body = network.model
        if weights == "coco":
            load_without_batch_counts(self.backbone, self.body.backbone.model.state_dict())
        self.body.backbone = nn.Identity()
        self.box_head = network.bbox_predictor
        width = self.body.config.d_model
        self.class_head = nn.Linear(width, classes + 1)  # the last is "no object"
        self.states = build_state_head(width, states)
        self.postprocess = postprocess
        if weights != "none":  # as in the paper; early layers detect generic edges and colors
            self.backbone.conv1.requires_grad_(False)
            self.backbone.layer1.requires_grad_(False)

    def forward(self, images: Tensor, targets: Targets | None = None) -> Output:
        """images uint8 [B, 3, H, W], H and W multiples of 32. Boxes are relative to the image without padding."""
        size = measure_content(images, self.normalize.mean)  # [B, 2]
        features = self._decode(self.backbone(self.normalize(images)), size)  # [layers, B, Q, D]
        logits = self.class_head(features).float()  # [layers, B, Q, classes + 1]
        boxes = self.box_head(features).float().sigmoid()  # [layers, B, Q, 4]
        state_logits = None if self.states is None else self.states(features[-1]).float()
        losses: dict[str, Tensor] = {}
        if targets is not None:
            losses = detr_loss(logits, boxes, size, targets, state_logits=state_logits, states=self.states)
        if self.training:
            return Output(losses, None)
        boxes_xyxy = denormalize_boxes(boxes[-1], size)
        scores = apply_presence(logits[-1].softmax(-1)[..., :-1], state_logits, self.states)
        detections = self.postprocess.select_without_nms(boxes_xyxy, scores, state_logits)
        return Output(losses, detections, gather_target_states(boxes_xyxy, state_logits, targets))

    def _decode(self, maps: Tensor, size: Tensor) -> Tensor:
        """Query features after each decoder layer [layers, B, Q, D], from the backbone's feature map."""
        mask = make_content_mask(size, (maps.shape[2], maps.shape[3]), STRIDE)  # [B, h, w]
        positions = self.body.position_embedding(maps.shape, maps.device, maps.dtype, mask=mask)  # [B, D, h, w]
        positions = positions.flatten(2).transpose(1, 2)  # [B, h * w, D]
        mask = mask.flatten(1)[:, None, None]  # [B, 1, 1, h * w], for all heads and queries
        memory = self.body.input_projection(maps).flatten(2).transpose(1, 2)  # [B, h * w, D]
        for layer in self.body.encoder.layers:
            memory = layer(memory, mask, spatial_position_embeddings=positions)
        queries = self.body.query_position_embeddings.weight.expand(maps.shape[0], -1, -1)  # [B, Q, D]
        hidden, features = torch.zeros_like(queries), []
        # Layer by layer, because transformers' decoder also changes its result when it returns intermediate ones.
        for layer in self.body.decoder.layers:
            hidden = layer(hidden, None, positions, queries, memory, encoder_attention_mask=mask)
            features.append(self.body.decoder.layernorm(hidden))
        return torch.stack(features)


def build_detr_network(weights: str) -> Any:
    """Build transformers' DetrForObjectDetection with COCO or random weights; its backbone is not used."""
    from transformers import DetrConfig, DetrForObjectDetection  # slow to import

    if weights == "coco":
        return DetrForObjectDetection.from_pretrained(download_hub_weights(HUB), use_safetensors=True)
    network = DetrForObjectDetection(DetrConfig(encoder_layers=LAYERS, decoder_layers=LAYERS))
    # As in the paper's code; transformers' own N(0, 0.02) is far smaller.
    for part in (network.model.encoder, network.model.decoder):
        for parameter in part.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
    for module in (network.model.query_position_embeddings, network.model.input_projection):
        module.reset_parameters()
    return network


def build_detr_backbone(weights: str) -> Any:
    """Build torchvision's ResNet-50 up to its last feature map: [B, 3, H, W] -> [B, 2048, H / 32, W / 32]."""
    source = ResNet50_Weights.IMAGENET1K_V1 if weights == "imagenet" else None
    norm = nn.BatchNorm2d if weights == "none" else FrozenBatchNorm
    network = load_pretrained(lambda: resnet50(weights=source, norm_layer=norm))
    return nn.Sequential(OrderedDict(list(network.named_children())[:-2]))  # without pooling and classifier


def detr_loss(
    logits: Tensor,
    boxes_cxcywh: Tensor,
    size: Tensor,
    targets: Targets,
    *,
    state_logits: Tensor | None,
    states: StateHead | None,
) -> dict[str, Tensor]:
    """`loss_ce`, `loss_bbox` and `loss_giou` of all decoder layers, and `loss_state` of the last one.

    logits [layers, B, Q, classes + 1]; boxes_cxcywh [layers, B, Q, 4], relative to `size`, the height and width [B, 2]
    of the images without padding; state_logits [B, Q, S].
    """
    layers, no_object = len(logits), logits.shape[-1] - 1
    set_targets = make_set_targets(targets, size, layers)
    logits, boxes_cxcywh = logits.flatten(0, 1), boxes_cxcywh.flatten(0, 1)  # [layers * B, Q, ...]
    matches = hungarian_match(boxes_cxcywh, -logits.softmax(-1), set_targets)
    labels = torch.full(logits.shape[:2], no_object, device=logits.device)
    labels[matches.row, matches.query] = set_targets.labels[matches.row, matches.object] - 1
    weights = torch.ones(no_object + 1, device=logits.device)
    weights[no_object] = NO_OBJECT_WEIGHT
    # The mean over one layer, times the layers; flat, to be deterministic on a GPU.
    losses = {"loss_ce": F.cross_entropy(logits.flatten(0, 1), labels.flatten(), weights) * layers}
    sums = box_losses(boxes_cxcywh, set_targets, matches, states)
    total = count_objects(targets)
    losses |= {name: value / total for name, value in sums.items()}
    if states is not None and state_logits is not None:
        losses["loss_state"] = state_loss(state_logits, set_targets, matches, states)
    return losses


def build_detr(
    classes: int, states: StateConfig, statistics: PixelStatistics, postprocess: Postprocess, weights: str
) -> Detr:
    """weights: coco (all but the class head) or imagenet (backbone only), both downloaded, or none."""
    return Detr(classes, states, statistics, postprocess, weights)
