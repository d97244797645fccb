"""What two-stage detectors share (Ren et al. 2015; Lin et al. 2017), from torchvision's parts.

No image-by-image loop: proposals, sampling, pooling and detection work on whole batches with fixed sizes,
so the same code trains, validates and exports.
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
from detector.models.anchors import decode, encode, match, sample
from detector.models.normalization import Normalize, PixelStatistics
from detector.models.postprocess import Postprocess, batched_nms_mask
from detector.models.pretrained import detection_weights, load_all_but, with_epsilon
from detector.models.roi_pooling import POOLED, pool
from detector.models.state_head import StateHead, States, present_scores, state_head

PROPOSAL_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
PROPOSAL_IOU = 0.7
RPN_SAMPLES, RPN_POSITIVE = 256, 0.5  # anchors of an image in the proposal loss
BOX_SAMPLES, BOX_POSITIVE = 128, 0.25  # proposals of an image that the box head learns from


class Layout(NamedTuple):
    """Where a detector looks.

    anchors: sizes in pixels, for each map of the pyramid. strides: pixels per cell of the maps, the first
    of the pyramid, that boxes are pooled from. candidates, proposals: of an image before and after NMS.
    """

    anchors: tuple[tuple[int, ...], ...]
    strides: tuple[int, ...]
    candidates: int
    proposals: int


class ProposalNetwork(nn.Module):
    """Anchors, and which of them hold an object."""

    def __init__(self, channels: int, sizes: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        self.anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
        self.head = RPNHead(channels, self.anchors.num_anchors_per_location()[0])

    def forward(self, maps: list[Tensor], images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Objectness logits [B, A], offsets [B, A, 4] and anchors [A, 4]."""
        objectness, offsets = self.head(maps)
        height, width = images.shape[-2:]
        anchors = self.anchors(ImageList(images, [(height, width)]), maps)[0]
        logits = torch.cat([level.permute(0, 2, 3, 1).flatten(1) for level in objectness], dim=1)
        flat = [level.permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4)) for level in offsets]
        return logits, torch.cat(flat, dim=1), anchors


class BoxLogits(NamedTuple):
    """Of R proposals: classes [B, R, C + 1], offsets [B, R, C + 1, 4], states [B, R, S] (None without a head)."""

    classes: Tensor
    offsets: Tensor
    states: Tensor | None


class BoxHead(nn.Module):
    """What is in each proposal, where exactly, and in which state."""

    def __init__(self, channels: int, strides: tuple[int, ...], classes: int, states: States) -> None:
        super().__init__()
        self.strides = strides
        self.layers = TwoMLPHead(channels * POOLED**2, 1024)
        self.predictor = FastRCNNPredictor(1024, classes + 1)
        self.states = state_head(1024, states)

    def forward(self, maps: list[Tensor], proposals: Tensor) -> BoxLogits:
        """Look at proposals [B, R, 4]."""
        batch, count, _ = proposals.shape
        pooled = pool(maps[: len(self.strides)], self.strides, proposals)  # [B * R, C, POOLED, POOLED]
        features = self.layers(pooled)
        classes, offsets = self.predictor(features)
        return BoxLogits(
            classes.unflatten(0, (batch, count)),
            offsets.unflatten(1, (-1, 4)).unflatten(0, (batch, count)),
            None if self.states is None else self.states(features).unflatten(0, (batch, count)),
        )


class TwoStage(nn.Module):
    """Backbone with pyramid, proposal network, box head."""

    def __init__(
        self,
        with_pyramid: BackboneWithFPN,
        layout: Layout,
        classes: int,
        states: States,
        statistics: PixelStatistics,
        postprocess: Postprocess,
    ) -> None:
        super().__init__()
        self.layout = layout
        self.normalize = Normalize(statistics)
        self.backbone, self.pyramid = with_pyramid.body, with_pyramid.fpn
        self.proposal_network = ProposalNetwork(with_pyramid.out_channels, layout.anchors)
        self.box_head = BoxHead(with_pyramid.out_channels, layout.strides, classes, states)
        self.postprocess = postprocess

    def forward(self, images: Tensor, targets: Targets | None = None) -> Output:
        """images uint8 [B, 3, H, W]."""
        height, width = images.shape[-2:]
        maps = list(self.pyramid(self.backbone(self.normalize(images))).values())
        objectness, offsets, anchors = self.proposal_network(maps, images)
        losses: dict[str, Tensor] = {}
        with torch.no_grad():
            proposals = propose(objectness, offsets, anchors, (height, width), self.layout)  # [B, R, 4]
        if targets is not None:
            losses |= proposal_loss(objectness, offsets, anchors, targets, self.box_head.states)
            losses |= self._box_loss(maps, proposals, targets)
        if self.training:
            return Output(losses, None)
        found = self.box_head(maps, proposals)
        boxes = decode(found.offsets[:, :, 1:], proposals[:, :, None], BOX_WEIGHTS)  # [B, R, classes, 4]
        boxes = clip_boxes_to_image(boxes, (height, width))
        real = (proposals[..., 2:] > proposals[..., :2]).all(-1, keepdim=True)  # padding finds nothing
        scores = found.classes.softmax(-1)[..., 1:] * real
        scores = present_scores(scores, found.states, self.box_head.states)
        target_states = None
        if targets is not None and found.states is not None:
            target_states = self.box_head(maps, targets.boxes_xyxy).states
        return Output(losses, self.postprocess(boxes, scores, found.states), target_states)

    def _box_loss(self, maps: list[Tensor], proposals: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Cross-entropy and smooth L1 of sampled proposals; the true boxes are among them."""
        proposals = torch.cat([targets.boxes_xyxy, proposals], dim=1)
        matched = match(proposals, targets, 0.5, 0.5, keep_best=False)
        # Padding is no box: neither an object nor background.
        padding = (proposals[..., 2:] <= proposals[..., :2]).any(dim=2)
        positive, negative = sample(torch.where(padding, -2, matched), BOX_SAMPLES, BOX_POSITIVE)
        weight, index = (positive.float() * 2 + negative.float()).topk(min(BOX_SAMPLES, matched.shape[1]), dim=1)
        chosen = proposals.gather(1, index[..., None].expand(-1, -1, 4))  # [B, S, 4]
        found = self.box_head(maps, chosen)
        owner = matched.gather(1, index).clamp(min=0)
        hit = weight > 1.5  # [B, S]
        labels = torch.zeros_like(owner)
        box_loss = found.offsets.sum() * 0
        losses = {}
        states = self.box_head.states
        image, place = hit.nonzero(as_tuple=True)
        if len(image):
            labels[image, place] = targets.labels[image, owner[image, place]]
        if states is not None and found.states is not None:
            true_states = targets.states[image, owner[image, place]]
            losses["state"] = states.loss(found.states[image, place], true_states)
            there = states.is_present(true_states)
            image, place = image[there], place[there]
        if len(image):
            wanted = encode(targets.boxes_xyxy[image, owner[image, place]], chosen[image, place], BOX_WEIGHTS)
            box_loss = F.smooth_l1_loss(
                found.offsets[image, place, labels[image, place]], wanted, beta=1 / 9, reduction="sum"
            )
        used = weight > 0.5
        class_loss = F.cross_entropy(found.classes[used], labels[used], reduction="sum")
        total = loss_normalizer(used.sum())
        return losses | {"class": class_loss / total, "box": box_loss / total}


def propose(objectness: Tensor, offsets: Tensor, anchors: Tensor, size: tuple[int, int], layout: Layout) -> Tensor:
    """The best anchors after NMS, as boxes inside the image (H, W): [B, layout.proposals, 4]; zeros pad."""
    candidates = min(layout.candidates, objectness.shape[1])
    scores, index = objectness.sigmoid().topk(candidates, dim=1)
    wide = index[..., None].expand(-1, -1, 4)
    boxes = decode(offsets.gather(1, wide), anchors[index], PROPOSAL_WEIGHTS)
    boxes = clip_boxes_to_image(boxes, size)
    keep = batched_nms_mask(boxes, torch.zeros_like(index), PROPOSAL_IOU)
    keep = keep & ((boxes[..., 2:] - boxes[..., :2]).amin(dim=2) > 1e-3)
    _, order = (scores * keep).topk(min(layout.proposals, candidates), dim=1)
    return (boxes * keep[..., None]).gather(1, order[..., None].expand(-1, -1, 4))


def proposal_loss(
    objectness: Tensor, offsets: Tensor, anchors: Tensor, targets: Targets, states: StateHead | None
) -> dict[str, Tensor]:
    """Binary cross-entropy and smooth L1 of sampled anchors; the box of an absent object teaches no edges."""
    with torch.no_grad():
        matched = match(anchors, targets, 0.3, 0.7, keep_best=True)
        positive, negative = sample(matched, RPN_SAMPLES, RPN_POSITIVE)
    used = positive | negative
    total = loss_normalizer(used.sum())
    object_loss = F.binary_cross_entropy_with_logits(objectness[used], positive[used].float(), reduction="sum")
    box_loss = offsets.sum() * 0
    image, anchor = positive.nonzero(as_tuple=True)
    if states is not None:
        there = states.is_present(targets.states[image, matched[image, anchor]])
        image, anchor = image[there], anchor[there]
    if len(image):
        wanted = encode(targets.boxes_xyxy[image, matched[image, anchor]], anchors[anchor], PROPOSAL_WEIGHTS)
        box_loss = F.smooth_l1_loss(offsets[image, anchor], wanted, beta=1 / 9, reduction="sum")
    return {"proposal_object": object_loss / total, "proposal_box": box_loss / total}


def load_coco(model: TwoStage, source: WeightsEnum, trained_epsilon: float, own_epsilon: float) -> None:
    """torchvision's weights, but for the layers that depend on the classes; the epsilons are of batch norms."""
    names = {
        "backbone.body.": "backbone.",
        "backbone.fpn.": "pyramid.",
        "rpn.": "proposal_network.",
        "roi_heads.box_head.": "box_head.layers.",
        "roi_heads.box_predictor.": "box_head.predictor.",
    }
    weights = with_epsilon(detection_weights(source, names), trained_epsilon, own_epsilon)
    load_all_but(model, weights, ("box_head.predictor.", "box_head.states."))
