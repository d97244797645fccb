"""`retinanet`: RetinaNet with a ResNet-50 FPN (Lin et al. 2017, "Focal Loss"), torchvision's parts."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import RetinaNet_ResNet50_FPN_Weights
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead, _default_anchorgen
from torchvision.ops import clip_boxes_to_image, sigmoid_focal_loss
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from detector.engine.distributed import loss_normalizer
from detector.engine.structures import Output, Targets
from detector.models.anchors import decode, encode, match
from detector.models.dense_head import flatten_levels
from detector.models.normalization import Normalize, PixelStatistics
from detector.models.postprocess import Postprocess, pairwise_iou_xyxy
from detector.models.pretrained import detection_weights, load_all_but, with_epsilon
from detector.models.pyramids import RESNET_EPS, resnet50_pyramid
from detector.models.recipe import REFERENCE
from detector.models.state_head import StateHead, States, present_scores, state_head

RECIPE = replace(REFERENCE, size=640, backbone_lr_factor=1.0)
OFFSET_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
LOW, HIGH = 0.4, 0.5  # overlap below which an anchor is background, and from which it is an object


class RetinaNet(nn.Module):
    """torchvision's backbone, head and anchors; matching, loss and detection for whole batches."""

    def __init__(
        self,
        with_pyramid: BackboneWithFPN,
        classes: int,
        states: States,
        statistics: PixelStatistics,
        postprocess: Postprocess,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(statistics)
        self.backbone, self.pyramid = with_pyramid.body, with_pyramid.fpn
        self.anchors = _default_anchorgen()
        self.per_location = self.anchors.num_anchors_per_location()[0]
        self.head = RetinaNetHead(with_pyramid.out_channels, self.per_location, classes)
        self.states = state_head(with_pyramid.out_channels, states)
        self.postprocess = postprocess

    def forward(self, images: Tensor, targets: Targets | None = None) -> Output:
        """images uint8 [B, 3, H, W]."""
        maps = list(self.pyramid(self.backbone(self.normalize(images))).values())
        logits, state_logits = self._class_and_state_logits(maps)  # [B, A, classes], [B, A, S]
        offsets = self.head.regression_head(maps)  # [B, A, 4]
        height, width = images.shape[-2:]
        anchors = self.anchors(ImageList(images, [(height, width)]), maps)[0]  # [A, 4]
        losses = {} if targets is None else retina_loss(offsets, logits, anchors, targets, state_logits, self.states)
        if self.training:
            return Output(losses, None)
        boxes_xyxy = clip_boxes_to_image(decode(offsets, anchors, OFFSET_WEIGHTS), (height, width))
        scores = present_scores(logits.sigmoid(), state_logits, self.states)
        target_states = None
        if targets is not None and state_logits is not None:
            overlap = pairwise_iou_xyxy(targets.boxes_xyxy, anchors[None])  # [B, M, A]
            place = overlap.argmax(-1)[..., None].expand(-1, -1, state_logits.shape[-1])
            target_states = state_logits.gather(1, place)
        return Output(losses, self.postprocess(boxes_xyxy, scores, state_logits), target_states)

    def _class_and_state_logits(self, maps: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        """The state is read from what found the class; the anchors of a location share it."""
        head = self.head.classification_head
        seen = [head.conv(level) for level in maps]
        logits = flatten_levels([head.cls_logits(level) for level in seen])  # [B, L, anchors * classes]
        logits = logits.unflatten(2, (self.per_location, -1)).flatten(1, 2)
        if self.states is None:
            return logits, None
        state_logits: Tensor = self.states(flatten_levels(seen))  # [B, L, S]
        return logits, state_logits.repeat_interleave(self.per_location, dim=1)


def retina_loss(
    offsets: Tensor,
    logits: Tensor,
    anchors: Tensor,
    targets: Targets,
    state_logits: Tensor | None,
    states: StateHead | None,
) -> dict[str, Tensor]:
    """Focal loss of all anchors that are not between background and object, L1 of those that are an object's.

    With a state head also `state`. The box of an absent object is a guess: it teaches no edges.
    """
    with torch.no_grad():
        matched = match(anchors, targets, LOW, HIGH, keep_best=True)  # [B, A]
    image, anchor = (matched >= 0).nonzero(as_tuple=True)  # [P]
    owner = matched[image, anchor]
    total = loss_normalizer((matched >= 0).sum())
    wanted_classes = torch.zeros_like(logits)
    wanted_classes[image, anchor, targets.labels[image, owner] - 1] = 1
    class_losses = sigmoid_focal_loss(logits, wanted_classes).sum(-1)  # [B, A]
    losses = {"class": (class_losses * (matched != -2)).sum() / total}
    if states is not None and state_logits is not None:
        true_states = targets.states[image, owner]
        losses["state"] = states.loss(state_logits[image, anchor], true_states)
        there = states.is_present(true_states)
        image, anchor, owner = image[there], anchor[there], owner[there]
    wanted = encode(targets.boxes_xyxy[image, owner], anchors[anchor], OFFSET_WEIGHTS)
    return losses | {"box": F.l1_loss(offsets[image, anchor], wanted, reduction="sum") / total}


def build(
    classes: int, states: States, statistics: PixelStatistics, postprocess: Postprocess, weights: str
) -> RetinaNet:
    """weights: coco or imagenet (downloaded), or none."""
    # Without the map of stride 4, which would have too many anchors.
    with_pyramid = resnet50_pyramid(weights, [2, 3, 4], LastLevelP6P7(256, 256))
    model = RetinaNet(with_pyramid, classes, states, statistics, postprocess)
    if weights == "coco":
        names = {"backbone.body.": "backbone.", "backbone.fpn.": "pyramid.", "head.": "head."}
        stored = detection_weights(RetinaNet_ResNet50_FPN_Weights.COCO_V1, names)
        load_all_but(model, with_epsilon(stored, 0.0, RESNET_EPS), ("head.classification_head.cls_logits.", "states."))
    return model
