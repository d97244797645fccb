"""`retinanet`: RetinaNet with a ResNet-50 FPN (Lin et al. 2017, "Focal Loss"), from torchvision's parts."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import RetinaNet_ResNet50_FPN_Weights
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import clip_boxes_to_image, sigmoid_focal_loss
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from detector.engine.distributed import loss_normalizer
from detector.engine.structures import Output, Targets
from detector.models.anchors import decode_offsets, encode_boxes, match_anchors
from detector.models.class_rows import NamedRows, TrainedRows
from detector.models.dense_head import flatten_levels
from detector.models.normalization import Normalize, PixelStatistics
from detector.models.postprocess import Postprocess, box_iou_xyxy
from detector.models.pretrained import adjust_batch_norm_epsilon, download_detection_weights, load_except
from detector.models.private_imports import RETINANET_ANCHOR_GENERATOR
from detector.models.pyramids import RESNET_EPS, build_resnet50_fpn
from detector.models.recipe import REFERENCE
from detector.models.state_head import StateConfig, StateHead, apply_presence, box_loss_mask, build_state_head

RECIPE = replace(REFERENCE, image_size=640, backbone_lr_factor=1.0)
COCO_WEIGHTS = RetinaNet_ResNet50_FPN_Weights.COCO_V1
# Name prefixes in torchvision's weights -> in ours.
NAMES = {"backbone.body.": "backbone.", "backbone.fpn.": "pyramid.", "head.": "head."}
CLASS_LAYER = "head.classification_head.cls_logits."  # depends on the classes
OFFSET_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
BACKGROUND_IOU, OBJECT_IOU = 0.4, 0.5  # anchors below are background, from here on objects


class RetinaNet(nn.Module):
    """torchvision's backbone, head and anchors; batched matching, loss and detection."""

    def __init__(
        self,
        backbone_with_fpn: BackboneWithFPN,
        classes: int,
        states: StateConfig,
        statistics: PixelStatistics,
        postprocess: Postprocess,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(statistics)
        self.backbone, self.pyramid = backbone_with_fpn.body, backbone_with_fpn.fpn
        self.anchors = RETINANET_ANCHOR_GENERATOR.load()()
        self.anchors_per_location = self.anchors.num_anchors_per_location()[0]
        self.head = RetinaNetHead(backbone_with_fpn.out_channels, self.anchors_per_location, classes)
        self.states = build_state_head(backbone_with_fpn.out_channels, states)
        self.postprocess = postprocess

    def class_rows(self) -> dict[str, NamedRows]:
        """The tensors with rows per class."""
        return {f"{CLASS_LAYER}{kind}": NamedRows(self.anchors_per_location) for kind in ("weight", "bias")}

    def forward(self, images: Tensor, targets: Targets | None = None) -> Output:
        """images uint8 [B, 3, H, W]."""
        maps = list(self.pyramid(self.backbone(self.normalize(images))).values())
        logits, state_logits = self._class_and_state_logits(maps)  # [B, A, classes], [B, A, S]
        offsets = self.head.regression_head(maps)  # [B, A, 4]
        height, width = images.shape[-2:]
        anchors = self.anchors(ImageList(images, [(height, width)]), maps)[0]  # [A, 4]
        losses: dict[str, Tensor] = {}
        if targets is not None:
            losses = retinanet_loss(offsets, logits, anchors, targets, state_logits=state_logits, states=self.states)
        if self.training:
            return Output(losses, None)
        boxes_xyxy = clip_boxes_to_image(decode_offsets(offsets, anchors, OFFSET_WEIGHTS), (height, width))
        scores = apply_presence(logits.sigmoid(), state_logits, self.states)
        target_states = None
        if targets is not None and state_logits is not None:
            overlap = box_iou_xyxy(targets.boxes_xyxy, anchors[None])  # [B, M, A]
            index = overlap.argmax(-1)[..., None].expand(-1, -1, state_logits.shape[-1])
            target_states = state_logits.gather(1, index)
        return Output(losses, self.postprocess(boxes_xyxy, scores, state_logits), target_states)

    def _class_and_state_logits(self, maps: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        """The state head uses the features of the class branch; the anchors of a location share its state."""
        head = self.head.classification_head
        class_features = [head.conv(level) for level in maps]
        logits = flatten_levels([head.cls_logits(level) for level in class_features])  # [B, L, anchors * classes]
        logits = logits.unflatten(2, (self.anchors_per_location, -1)).flatten(1, 2)
        if self.states is None:
            return logits, None
        state_logits: Tensor = self.states(flatten_levels(class_features))  # [B, L, S]
        return logits, state_logits.repeat_interleave(self.anchors_per_location, dim=1)


def retinanet_loss(
    offsets: Tensor,
    logits: Tensor,
    anchors: Tensor,
    targets: Targets,
    *,
    state_logits: Tensor | None,
    states: StateHead | None,
) -> dict[str, Tensor]:
    """`loss_cls` (focal) of all anchors but the ignored ones; `loss_l1` and `loss_state` of positive anchors.

    As in torchvision, the first two are means over the images of each image's sum over its positive anchors' number.
    """
    with torch.no_grad():
        matched = match_anchors(anchors, targets, BACKGROUND_IOU, OBJECT_IOU, allow_low_quality_matches=True)  # [B, A]
    image, anchor = (matched >= 0).nonzero(as_tuple=True)  # [P]
    owner = matched[image, anchor]
    positives = (matched >= 0).sum(dim=1).clamp(min=1)  # [B]
    images = loss_normalizer(positives.new_tensor(len(positives)))
    class_targets = torch.zeros_like(logits)
    class_targets[image, anchor, targets.labels[image, owner] - 1] = 1
    class_losses = sigmoid_focal_loss(logits, class_targets).sum(-1)  # [B, A]
    losses = {"loss_cls": ((class_losses * (matched != -2)).sum(1) / positives).sum() / images}
    true_states = targets.states[image, owner]
    if states is not None and state_logits is not None:
        losses["loss_state"] = states.loss(state_logits[image, anchor], true_states)
    mask = box_loss_mask(states, true_states)
    image, anchor, owner = image[mask], anchor[mask], owner[mask]
    true_offsets = encode_boxes(targets.boxes_xyxy[image, owner], anchors[anchor], OFFSET_WEIGHTS)
    box_losses = F.l1_loss(offsets[image, anchor], true_offsets, reduction="none").sum(-1)  # [P]
    return losses | {"loss_l1": (box_losses / positives[image]).sum() / images}


def build_retinanet(
    classes: int, states: StateConfig, statistics: PixelStatistics, postprocess: Postprocess, weights: str
) -> RetinaNet:
    """weights: coco or imagenet (downloaded), or none."""
    # Without the feature map of stride 4, which would have too many anchors.
    backbone_with_fpn = build_resnet50_fpn(weights, [2, 3, 4], LastLevelP6P7(256, 256))
    model = RetinaNet(backbone_with_fpn, classes, states, statistics, postprocess)
    if weights == "coco":
        stored = download_detection_weights(COCO_WEIGHTS, NAMES)
        load_except(model, adjust_batch_norm_epsilon(stored, 0.0, RESNET_EPS), (CLASS_LAYER, "states."))
    return model


def load_coco_rows() -> TrainedRows:
    """The rows per class of the COCO weights; in torchvision's the first one is of an unused background class."""
    stored = download_detection_weights(COCO_WEIGHTS, NAMES)
    tensors = {name: value for name, value in stored.items() if name.startswith(CLASS_LAYER)}
    return TrainedRows(COCO_WEIGHTS.meta["categories"], tensors)
