"""`fcos`: FCOS with a ResNet-50 FPN (Tian et al. 2019; with center sampling, 2020), from torchvision's parts."""

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
from detector.models.assignment import find_nearest_locations
from detector.models.class_rows import NamedRows, TrainedRows
from detector.models.dense_head import decode_distances, flatten_levels
from detector.models.normalization import Normalize, PixelStatistics
from detector.models.postprocess import Postprocess, box_area_xyxy
from detector.models.pretrained import download_detection_weights, load_except
from detector.models.pyramids import build_resnet50_fpn
from detector.models.recipe import REFERENCE
from detector.models.state_head import StateConfig, StateHead, apply_presence, box_loss_mask, build_state_head

RECIPE = replace(REFERENCE, image_size=640, backbone_lr_factor=1.0)
COCO_WEIGHTS = FCOS_ResNet50_FPN_Weights.COCO_V1
# Name prefixes in torchvision's weights -> in ours.
NAMES = {"backbone.body.": "backbone.", "backbone.fpn.": "pyramid.", "head.": "head."}
CLASS_LAYER = "head.classification_head.cls_logits."  # depends on the classes
STRIDES = (8, 16, 32, 64, 128)
CENTER_RADIUS = 1.5  # strides; locations within it around an object's center are positive
SIZE_RANGE = (4, 8)  # strides; distance to the farthest edge of the objects assigned to a feature map


class FCOSLogits(NamedTuple):
    """Logits of L locations: classes [B, L, C], centerness [B, L], states [B, L, S] (None without a state head).

    distances [B, L, 4]: to the edges, in strides.
    """

    classes: Tensor
    distances: Tensor
    centerness: Tensor
    states: Tensor | None


class FCOS(nn.Module):
    """torchvision's backbone, head and locations; batched assignment, loss and detection."""

    def __init__(
        self, classes: int, states: StateConfig, statistics: PixelStatistics, postprocess: Postprocess, weights: str
    ) -> None:
        super().__init__()
        backbone_with_fpn = build_resnet50_fpn(weights, [2, 3, 4], LastLevelP6P7(256, 256))
        self.normalize = Normalize(statistics)
        self.backbone, self.pyramid = backbone_with_fpn.body, backbone_with_fpn.fpn
        # One square cell of stride size per location.
        self.cells = AnchorGenerator(tuple((stride,) for stride in STRIDES), ((1.0,),) * len(STRIDES))
        self.head = FCOSHead(backbone_with_fpn.out_channels, 1, classes)
        self.states = build_state_head(backbone_with_fpn.out_channels, states)
        self.postprocess = postprocess

    def class_rows(self) -> dict[str, NamedRows]:
        """The tensors with rows per class."""
        return {f"{CLASS_LAYER}{kind}": NamedRows() for kind in ("weight", "bias")}

    def forward(self, images: Tensor, targets: Targets | None = None) -> Output:
        """images uint8 [B, 3, H, W]."""
        maps = list(self.pyramid(self.backbone(self.normalize(images))).values())
        logits = self._logits(maps)
        height, width = images.shape[-2:]
        cells = self.cells(ImageList(images, [(height, width)]), maps)[0]  # [L, 4]
        centers, strides = (cells[:, :2] + cells[:, 2:]) / 2, cells[:, 2] - cells[:, 0]
        losses = {} if targets is None else fcos_loss(logits, centers, strides, targets, self.states)
        if self.training:
            return Output(losses, None)
        boxes = clip_boxes_to_image(decode_distances(logits.distances, centers, strides), (height, width))
        scores = (logits.classes.sigmoid() * logits.centerness.sigmoid()[..., None]).sqrt()
        scores = apply_presence(scores, logits.states, self.states)
        target_states = None
        if targets is not None and logits.states is not None:
            index = find_nearest_locations(boxes, centers, targets)[..., None].expand(-1, -1, logits.states.shape[-1])
            target_states = logits.states.gather(1, index)
        return Output(losses, self.postprocess(boxes, scores, logits.states), target_states)

    def _logits(self, maps: list[Tensor]) -> FCOSLogits:
        """The state head uses the features of the class branch."""
        head = self.head.classification_head
        class_features = [head.conv(level) for level in maps]
        distances, centerness = self.head.regression_head(maps)
        return FCOSLogits(
            flatten_levels([head.cls_logits(level) for level in class_features]),
            distances,
            centerness[..., 0],
            None if self.states is None else self.states(flatten_levels(class_features)),
        )


@torch.no_grad()
def assign_by_center(centers: Tensor, strides: Tensor, targets: Targets) -> Tensor:
    """Assign an object to each location: int64 [B, L]; -1 for background.

    The location must be near the object's center and inside its box, on the feature map for its size; of several
    objects the smallest is assigned. centers [L, 2] and strides [L] in pixels.
    """
    batch, objects = targets.labels.shape
    if objects == 0:
        return torch.full((batch, len(strides)), -1, device=strides.device)
    left_top, right_bottom = targets.boxes_xyxy[:, :, None, :2], targets.boxes_xyxy[:, :, None, 2:]  # [B, M, 1, 2]
    offset = (centers - (left_top + right_bottom) / 2).abs().amax(-1)  # [B, M, L]
    edges = torch.cat([centers - left_top, right_bottom - centers], dim=-1)  # [B, M, L, 4]
    farthest = edges.amax(-1)
    low = torch.where(strides == strides.min(), 0, strides * SIZE_RANGE[0])
    high = torch.where(strides == strides.max(), torch.inf, strides * SIZE_RANGE[1])
    positive = (offset < CENTER_RADIUS * strides) & (edges.amin(-1) > 0) & (farthest > low) & (farthest < high)
    positive = positive & (targets.labels > 0)[..., None]
    area = torch.where(positive, box_area_xyxy(targets.boxes_xyxy)[..., None], torch.inf)
    smallest, index = area.min(dim=1)  # [B, L]
    return torch.where(smallest < torch.inf, index, -1)


def fcos_loss(
    logits: FCOSLogits, centers: Tensor, strides: Tensor, targets: Targets, states: StateHead | None
) -> dict[str, Tensor]:
    """`loss_cls` (focal) of all locations; `loss_giou`, `loss_centerness` and `loss_state` of those with an object.

    Centerness depends on the box edges, so it is a box loss: absent objects do not contribute to it.
    """
    matched = assign_by_center(centers, strides, targets)
    image, location = (matched >= 0).nonzero(as_tuple=True)  # [P]
    owner = matched[image, location]
    total = loss_normalizer((matched >= 0).sum())
    class_targets = torch.zeros_like(logits.classes)
    class_targets[image, location, targets.labels[image, owner] - 1] = 1
    losses = {"loss_cls": sigmoid_focal_loss(logits.classes, class_targets, reduction="sum") / total}
    true_states = targets.states[image, owner]
    if states is not None and logits.states is not None:
        losses["loss_state"] = states.loss(logits.states[image, location], true_states)
    mask = box_loss_mask(states, true_states)
    image, location, owner = image[mask], location[mask], owner[mask]
    true_boxes = targets.boxes_xyxy[image, owner]  # [P, 4]
    boxes = decode_distances(logits.distances[image, location], centers[location], strides[location])
    giou_loss = generalized_box_iou_loss(boxes, true_boxes, reduction="sum")
    centerness = compute_centerness(centers[location], true_boxes)
    centerness_loss = F.binary_cross_entropy_with_logits(
        logits.centerness[image, location], centerness, reduction="sum"
    )
    return losses | {"loss_giou": giou_loss / total, "loss_centerness": centerness_loss / total}


def compute_centerness(centers: Tensor, boxes_xyxy: Tensor) -> Tensor:
    """Centerness of each location [P, 2] in its box [P, 4]: [P], 1 at the center, 0 at an edge."""
    left_top, right_bottom = centers - boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - centers
    return (torch.minimum(left_top, right_bottom) / torch.maximum(left_top, right_bottom)).prod(-1).sqrt()


def build_fcos(
    classes: int, states: StateConfig, statistics: PixelStatistics, postprocess: Postprocess, weights: str
) -> FCOS:
    """weights: coco or imagenet (downloaded), or none."""
    model = FCOS(classes, states, statistics, postprocess, weights)
    if weights == "coco":
        load_except(model, download_detection_weights(COCO_WEIGHTS, NAMES), (CLASS_LAYER, "states."))
    return model


def load_coco_rows() -> TrainedRows:
    """The rows per class of the COCO weights; in torchvision's the first one is of an unused background class."""
    stored = download_detection_weights(COCO_WEIGHTS, NAMES)
    tensors = {name: value for name, value in stored.items() if name.startswith(CLASS_LAYER)}
    return TrainedRows(COCO_WEIGHTS.meta["categories"], tensors)
