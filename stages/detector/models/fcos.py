"""`fcos`: FCOS with a ResNet-50 FPN (Tian et al. 2019; with centre sampling, 2020), torchvision's parts."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import FCOS_ResNet50_FPN_Weights
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import clip_boxes_to_image, generalized_box_iou_loss, sigmoid_focal_loss
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from detector.engine.distributed import loss_normalizer
from detector.engine.structures import Output, Targets
from detector.models.assignment import nearest_locations
from detector.models.dense_head import flatten_levels
from detector.models.normalization import Normalize, PixelStatistics
from detector.models.postprocess import Postprocess, area_xyxy
from detector.models.pretrained import detection_weights, load_all_but
from detector.models.pyramids import resnet50_pyramid
from detector.models.recipe import REFERENCE
from detector.models.state_head import StateHead, States, present_scores, state_head

RECIPE = replace(REFERENCE, size=640, backbone_lr_factor=1.0)
STRIDES = (8, 16, 32, 64, 128)
RADIUS = 1.5  # in strides, about an object's centre: where locations answer for it
REACH = (4, 8)  # in strides: how far the farthest edge is of the objects that a map is for


class Logits(NamedTuple):
    """What L locations say: classes [B, L, C], distances to the edges in strides [B, L, 4], centre-ness [B, L].

    states [B, L, S]: None without a head.
    """

    classes: Tensor
    distances: Tensor
    centre: Tensor
    states: Tensor | None


class FCOS(nn.Module):
    """torchvision's backbone, head and locations; assignment, loss and detection for whole batches."""

    def __init__(
        self, classes: int, states: States, statistics: PixelStatistics, postprocess: Postprocess, weights: str
    ) -> None:
        super().__init__()
        with_pyramid = resnet50_pyramid(weights, [2, 3, 4], LastLevelP6P7(256, 256))
        self.normalize = Normalize(statistics)
        self.backbone, self.pyramid = with_pyramid.body, with_pyramid.fpn
        # One square of a stride's size a location.
        self.cells = AnchorGenerator(tuple((stride,) for stride in STRIDES), ((1.0,),) * len(STRIDES))
        self.head = FCOSHead(with_pyramid.out_channels, 1, classes)
        self.states = state_head(with_pyramid.out_channels, states)
        self.postprocess = postprocess

    def forward(self, images: Tensor, targets: Targets | None = None) -> Output:
        """images uint8 [B, 3, H, W]."""
        maps = list(self.pyramid(self.backbone(self.normalize(images))).values())
        logits = self._logits(maps)
        height, width = images.shape[-2:]
        cells = self.cells(ImageList(images, [(height, width)]), maps)[0]  # [L, 4]
        centres, strides = (cells[:, :2] + cells[:, 2:]) / 2, cells[:, 2] - cells[:, 0]
        losses = {} if targets is None else fcos_loss(logits, centres, strides, targets, self.states)
        if self.training:
            return Output(losses, None)
        boxes = clip_boxes_to_image(decode_boxes(logits.distances, centres, strides), (height, width))
        scores = (logits.classes.sigmoid() * logits.centre.sigmoid()[..., None]).sqrt()
        scores = present_scores(scores, logits.states, self.states)
        target_states = None
        if targets is not None and logits.states is not None:
            place = nearest_locations(boxes, centres, targets)[..., None].expand(-1, -1, logits.states.shape[-1])
            target_states = logits.states.gather(1, place)
        return Output(losses, self.postprocess(boxes, scores, logits.states), target_states)

    def _logits(self, maps: list[Tensor]) -> Logits:
        """The state is read from what found the class."""
        head = self.head.classification_head
        seen = [head.conv(level) for level in maps]
        distances, centre = self.head.regression_head(maps)
        return Logits(
            flatten_levels([head.cls_logits(level) for level in seen]),
            distances,
            centre[..., 0],
            None if self.states is None else self.states(flatten_levels(seen)),
        )


def decode_boxes(distances: Tensor, centres: Tensor, strides: Tensor) -> Tensor:
    """Distances [..., L, 4] in strides (left, top, right, bottom) -> boxes_xyxy [..., L, 4] in pixels."""
    pixels = distances * strides[:, None]
    return torch.cat([centres - pixels[..., :2], centres + pixels[..., 2:]], dim=-1)


@torch.no_grad()
def assign(centres: Tensor, strides: Tensor, targets: Targets) -> Tensor:
    """The object that each location answers for: int64 [B, L]; -1 for none.

    It lies near the object's centre and inside the box, on the map for its size; of several objects the
    smallest is taken. centres [L, 2] and strides [L] in pixels.
    """
    batch, objects = targets.labels.shape
    if objects == 0:
        return torch.full((batch, len(strides)), -1, device=strides.device)
    left_top, right_bottom = targets.boxes_xyxy[:, :, None, :2], targets.boxes_xyxy[:, :, None, 2:]  # [B, M, 1, 2]
    offset = (centres - (left_top + right_bottom) / 2).abs().amax(-1)  # [B, M, L]
    edges = torch.cat([centres - left_top, right_bottom - centres], dim=-1)  # [B, M, L, 4]
    farthest = edges.amax(-1)
    low = torch.where(strides == strides.min(), 0, strides * REACH[0])
    high = torch.where(strides == strides.max(), torch.inf, strides * REACH[1])
    fits = (offset < RADIUS * strides) & (edges.amin(-1) > 0) & (farthest > low) & (farthest < high)
    fits = fits & (targets.labels > 0)[..., None]
    area = torch.where(fits, area_xyxy(targets.boxes_xyxy)[..., None], torch.inf)
    smallest, index = area.min(dim=1)  # [B, L]
    return torch.where(smallest < torch.inf, index, -1)


def fcos_loss(
    logits: Logits, centres: Tensor, strides: Tensor, targets: Targets, states: StateHead | None
) -> dict[str, Tensor]:
    """Focal loss of all locations; generalized IoU and centre-ness of those that answer for an object.

    With a state head also `state`. The box of an absent object is a guess: it teaches no edges, and no
    centre-ness, which is a matter of edges.
    """
    matched = assign(centres, strides, targets)
    image, location = (matched >= 0).nonzero(as_tuple=True)  # [P]
    owner = matched[image, location]
    total = loss_normalizer((matched >= 0).sum())
    wanted_classes = torch.zeros_like(logits.classes)
    wanted_classes[image, location, targets.labels[image, owner] - 1] = 1
    losses = {"class": sigmoid_focal_loss(logits.classes, wanted_classes, reduction="sum") / total}
    if states is not None and logits.states is not None:
        true_states = targets.states[image, owner]
        losses["state"] = states.loss(logits.states[image, location], true_states)
        there = states.is_present(true_states)
        image, location, owner = image[there], location[there], owner[there]
    wanted = targets.boxes_xyxy[image, owner]  # [P, 4]
    boxes = decode_boxes(logits.distances[image, location], centres[location], strides[location])
    box_loss = generalized_box_iou_loss(boxes, wanted, reduction="sum")
    centre = centreness(centres[location], wanted)
    centre_loss = F.binary_cross_entropy_with_logits(logits.centre[image, location], centre, reduction="sum")
    return losses | {"box": box_loss / total, "centre": centre_loss / total}


def centreness(centres: Tensor, boxes_xyxy: Tensor) -> Tensor:
    """How central each location [P, 2] is in its own box [P, 4]: [P], 1 at the centre, 0 at an edge."""
    before, after = centres - boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - centres
    return (torch.minimum(before, after) / torch.maximum(before, after)).prod(-1).sqrt()


def build(classes: int, states: States, statistics: PixelStatistics, postprocess: Postprocess, weights: str) -> FCOS:
    """weights: coco or imagenet (downloaded), or none."""
    model = FCOS(classes, states, statistics, postprocess, weights)
    if weights == "coco":
        names = {"backbone.body.": "backbone.", "backbone.fpn.": "pyramid.", "head.": "head."}
        stored = detection_weights(FCOS_ResNet50_FPN_Weights.COCO_V1, names)
        load_all_but(model, stored, ("head.classification_head.cls_logits.", "states."))
    return model
