"""The two-stage detector (Ren et al. 2015; Lin et al. 2017), from torchvision's parts.

Proposals, sampling, pooling and detection are batched with fixed shapes, without a loop over images, so the same code
trains, validates and exports.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import WeightsEnum
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import clip_boxes_to_image

from detector.engine.distributed import loss_normalizer
from detector.engine.structures import Output, Targets
from detector.models.anchors import decode_offsets, encode_boxes, match_anchors, sample_balanced
from detector.models.class_rows import NamedRows, TrainedRows
from detector.models.normalization import Normalize, PixelStatistics
from detector.models.postprocess import Postprocess, batched_nms_mask
from detector.models.pretrained import adjust_batch_norm_epsilon, download_detection_weights, load_except
from detector.models.roi_pooling import POOL_SIZE, pool_boxes
from detector.models.state_head import StateConfig, StateHead, apply_presence, box_loss_mask, build_state_head

RPN_CODER_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
BOX_CODER_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
PREDICTOR = "box_head.predictor."  # the layers that depend on the classes
NAMES = {  # name prefixes in torchvision's weights -> in ours
    "backbone.body.": "backbone.",
    "backbone.fpn.": "pyramid.",
    "rpn.": "proposal_network.",
    "roi_heads.box_head.": "box_head.layers.",
    "roi_heads.box_predictor.": PREDICTOR,
}
RPN_NMS_IOU = 0.7
RPN_SAMPLES, RPN_POSITIVE_FRACTION = 256, 0.5  # sampled anchors per image in the RPN loss
BOX_SAMPLES, BOX_POSITIVE_FRACTION = 512, 0.25  # sampled proposals per image in the box head's loss
MIN_PROPOSAL_SIDE, MIN_DETECTION_SIDE = 1e-3, 1e-2  # pixels; smaller boxes are dropped


class ProposalConfig(NamedTuple):
    """Anchors and proposals of a two-stage detector.

    anchor_sizes: in pixels, per pyramid level. pool_strides: pixels per cell of the levels that boxes are pooled
    from, the first ones of the pyramid. top_n, train_top_n: proposals per level before NMS and per image after it,
    for detections and in training. min_score: objectness of a proposal.
    """

    anchor_sizes: tuple[tuple[int, ...], ...]
    pool_strides: tuple[int, ...]
    top_n: int = 1000
    train_top_n: int = 2000
    min_score: float = 0.0


class AnchorLogits(NamedTuple):
    """Predictions for A anchors: objectness logits [B, A], offsets [B, A, 4]; anchors [A, 4] in pixels.

    level_counts: anchors of each pyramid level, in this order.
    """

    objectness: Tensor
    offsets: Tensor
    anchors: Tensor
    level_counts: tuple[int, ...]


class ProposalNetwork(nn.Module):
    """The region proposal network (RPN): objectness and box offsets of all anchors."""

    def __init__(self, channels: int, sizes: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        self.anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
        self.head = RPNHead(channels, self.anchors.num_anchors_per_location()[0])

    def forward(self, maps: list[Tensor], images: Tensor) -> AnchorLogits:
        """Feature maps and images [B, 3, H, W] -> predictions for all anchors."""
        objectness, offsets = self.head(maps)
        height, width = images.shape[-2:]
        anchors = self.anchors(ImageList(images, [(height, width)]), maps)[0]
        logits = [level.permute(0, 2, 3, 1).flatten(1) for level in objectness]
        flat = [level.permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4)) for level in offsets]
        counts = tuple(level.shape[1] for level in logits)
        return AnchorLogits(torch.cat(logits, dim=1), torch.cat(flat, dim=1), anchors, counts)


class BoxLogits(NamedTuple):
    """Logits of R proposals: classes [B, R, C + 1], offsets [B, R, C + 1, 4], states [B, R, S], None without a head."""

    classes: Tensor
    offsets: Tensor
    states: Tensor | None


class BoxHead(nn.Module):
    """Predicts class, box offsets and state of each proposal."""

    def __init__(self, channels: int, strides: tuple[int, ...], classes: int, states: StateConfig) -> None:
        super().__init__()
        self.strides = strides
        self.layers = TwoMLPHead(channels * POOL_SIZE**2, 1024)
        self.predictor = FastRCNNPredictor(1024, classes + 1)
        self.states = build_state_head(1024, states)

    def forward(self, maps: list[Tensor], proposals: Tensor) -> BoxLogits:
        """Feature maps and proposals [B, R, 4] -> logits."""
        batch, count, _ = proposals.shape
        pooled = pool_boxes(maps[: len(self.strides)], self.strides, proposals)  # [B * R, C, POOL_SIZE, POOL_SIZE]
        features = self.layers(pooled)
        classes, offsets = self.predictor(features)
        return BoxLogits(
            classes.unflatten(0, (batch, count)),
            offsets.unflatten(1, (-1, 4)).unflatten(0, (batch, count)),
            None if self.states is None else self.states(features).unflatten(0, (batch, count)),
        )


class TwoStage(nn.Module):
    """Backbone with feature pyramid, proposal network, box head."""

    def __init__(
        self,
        backbone_with_fpn: BackboneWithFPN,
        proposal_config: ProposalConfig,
        *,
        classes: int,
        states: StateConfig,
        statistics: PixelStatistics,
        postprocess: Postprocess,
    ) -> None:
        super().__init__()
        self.proposal_config = proposal_config
        self.normalize = Normalize(statistics)
        self.backbone, self.pyramid = backbone_with_fpn.body, backbone_with_fpn.fpn
        self.proposal_network = ProposalNetwork(backbone_with_fpn.out_channels, proposal_config.anchor_sizes)
        self.box_head = BoxHead(backbone_with_fpn.out_channels, proposal_config.pool_strides, classes, states)
        self.postprocess = postprocess

    def class_rows(self) -> dict[str, NamedRows]:
        """The tensors with rows per class."""
        layouts = {"cls_score": NamedRows(background="first"), "bbox_pred": NamedRows(background="first", values=4)}
        return {f"{PREDICTOR}{layer}.{kind}": rows for layer, rows in layouts.items() for kind in ("weight", "bias")}

    def forward(self, images: Tensor, targets: Targets | None = None) -> Output:
        """images uint8 [B, 3, H, W]."""
        height, width = images.shape[-2:]
        maps = list(self.pyramid(self.backbone(self.normalize(images))).values())
        anchor_logits = self.proposal_network(maps, images)
        losses: dict[str, Tensor] = {}
        config = self.proposal_config
        with torch.no_grad():
            top_n = config.train_top_n if self.training else config.top_n
            proposals = select_proposals(anchor_logits, (height, width), top_n, config.min_score)  # [B, R, 4]
        if targets is not None:
            losses |= rpn_loss(anchor_logits, targets, self.box_head.states)
            losses |= self._box_loss(maps, proposals, targets)
        if self.training:
            return Output(losses, None)
        logits = self.box_head(maps, proposals)
        boxes = decode_offsets(logits.offsets[:, :, 1:], proposals[:, :, None], BOX_CODER_WEIGHTS)  # [B, R, classes, 4]
        boxes = clip_boxes_to_image(boxes, (height, width))
        real = (proposals[..., 2:] > proposals[..., :2]).all(-1, keepdim=True)  # False for padding
        real = real & ((boxes[..., 2:] - boxes[..., :2]).amin(-1) >= MIN_DETECTION_SIDE)
        scores = logits.classes.softmax(-1)[..., 1:] * real
        scores = apply_presence(scores, logits.states, self.box_head.states)
        target_states = None
        if targets is not None and logits.states is not None:
            target_states = self.box_head(maps, targets.boxes_xyxy).states
        return Output(losses, self.postprocess(boxes, scores, logits.states), target_states)

    def _box_loss(self, maps: list[Tensor], proposals: Tensor, targets: Targets) -> dict[str, Tensor]:
        """`loss_classifier` (cross-entropy), `loss_box_reg` (smooth L1) and `loss_state` of sampled proposals.

        The ground-truth boxes are added to the proposals.
        """
        proposals = torch.cat([targets.boxes_xyxy, proposals], dim=1)
        matched = match_anchors(proposals, targets, 0.5, 0.5, allow_low_quality_matches=False)
        # Padding is ignored: neither object nor background.
        padding = (proposals[..., 2:] <= proposals[..., :2]).any(dim=2)
        positive, negative = sample_balanced(torch.where(padding, -2, matched), BOX_SAMPLES, BOX_POSITIVE_FRACTION)
        weight, index = (positive.float() * 2 + negative.float()).topk(min(BOX_SAMPLES, matched.shape[1]), dim=1)
        sampled = proposals.gather(1, index[..., None].expand(-1, -1, 4))  # [B, R, 4]
        logits = self.box_head(maps, sampled)
        owner = matched.gather(1, index).clamp(min=0)
        labels = torch.zeros_like(owner)
        box_loss = logits.offsets.sum() * 0
        losses = {}
        states = self.box_head.states
        image, region = (weight > 1.5).nonzero(as_tuple=True)  # the positives
        if len(image):
            labels[image, region] = targets.labels[image, owner[image, region]]
        true_states = targets.states[image, owner[image, region]]
        if states is not None and logits.states is not None:
            losses["loss_state"] = states.loss(logits.states[image, region], true_states)
        mask = box_loss_mask(states, true_states)
        image, region = image[mask], region[mask]
        if len(image):
            true_boxes = targets.boxes_xyxy[image, owner[image, region]]
            true_offsets = encode_boxes(true_boxes, sampled[image, region], BOX_CODER_WEIGHTS)
            own_offsets = logits.offsets[image, region, labels[image, region]]
            box_loss = F.smooth_l1_loss(own_offsets, true_offsets, beta=1 / 9, reduction="sum")
        used = weight > 0.5
        class_loss = F.cross_entropy(logits.classes[used], labels[used], reduction="sum")
        total = loss_normalizer(used.sum())
        return losses | {"loss_classifier": class_loss / total, "loss_box_reg": box_loss / total}


def select_proposals(logits: AnchorLogits, size: tuple[int, int], top_n: int, min_score: float) -> Tensor:
    """The best anchors after NMS as boxes inside the image (H, W): [B, R, 4], best first, zero-padded.

    The `top_n` best of each level go through NMS within their level. R is `top_n`, or their number if it is less.
    """
    chosen, levels, start = [], [], 0
    for level, count in enumerate(logits.level_counts):
        best = logits.objectness[:, start : start + count].topk(min(top_n, count), dim=1).indices
        chosen.append(best + start)
        levels.append(torch.full_like(best, level))
        start += count
    index = torch.cat(chosen, dim=1)  # [B, K]
    scores = logits.objectness.gather(1, index).sigmoid()
    offsets = logits.offsets.gather(1, index[..., None].expand(-1, -1, 4))
    boxes = clip_boxes_to_image(decode_offsets(offsets, logits.anchors[index], RPN_CODER_WEIGHTS), size)
    usable = ((boxes[..., 2:] - boxes[..., :2]).amin(dim=2) >= MIN_PROPOSAL_SIDE) & (scores >= min_score)
    keep = batched_nms_mask(boxes, torch.where(usable, torch.cat(levels, dim=1), -1), RPN_NMS_IOU, top_n)
    order = torch.where(keep, scores, -1.0).topk(min(top_n, scores.shape[1]), dim=1).indices
    proposals: Tensor = (boxes * keep[..., None]).gather(1, order[..., None].expand(-1, -1, 4))
    return proposals


def rpn_loss(logits: AnchorLogits, targets: Targets, states: StateHead | None) -> dict[str, Tensor]:
    """`loss_objectness` (binary cross-entropy) and `loss_rpn_box_reg` (smooth L1) of sampled anchors."""
    objectness, offsets, anchors, _ = logits
    with torch.no_grad():
        matched = match_anchors(anchors, targets, 0.3, 0.7, allow_low_quality_matches=True)
        positive, negative = sample_balanced(matched, RPN_SAMPLES, RPN_POSITIVE_FRACTION)
    used = positive | negative
    total = loss_normalizer(used.sum())
    object_loss = F.binary_cross_entropy_with_logits(objectness[used], positive[used].float(), reduction="sum")
    box_loss = offsets.sum() * 0
    image, anchor = positive.nonzero(as_tuple=True)
    mask = box_loss_mask(states, targets.states[image, matched[image, anchor]])
    image, anchor = image[mask], anchor[mask]
    if len(image):
        true_boxes = targets.boxes_xyxy[image, matched[image, anchor]]
        true_offsets = encode_boxes(true_boxes, anchors[anchor], RPN_CODER_WEIGHTS)
        box_loss = F.smooth_l1_loss(offsets[image, anchor], true_offsets, beta=1 / 9, reduction="sum")
    return {"loss_objectness": object_loss / total, "loss_rpn_box_reg": box_loss / total}


def load_coco_weights(model: TwoStage, source: WeightsEnum, trained_epsilon: float, used_epsilon: float) -> None:
    """Load torchvision's COCO weights, except the layers that depend on the classes; epsilons: of the batch norms."""
    weights = adjust_batch_norm_epsilon(download_detection_weights(source, NAMES), trained_epsilon, used_epsilon)
    load_except(model, weights, (PREDICTOR, "box_head.states."))


def load_predictor_rows(source: WeightsEnum) -> TrainedRows:
    """The rows per class of torchvision's COCO weights."""
    weights = download_detection_weights(source, NAMES)
    tensors = {name: value for name, value in weights.items() if name.startswith(PREDICTOR)}
    return TrainedRows(source.meta["categories"][1:], tensors)  # the first one is the background
