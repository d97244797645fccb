"""`ssdlite`: SSD-Lite with MobileNetV3-Large (Sandler et al. 2018; Howard et al. 2019), from torchvision's parts."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import MobileNet_V3_Large_Weights, mobilenet_v3_large
from torchvision.models.detection import SSDLite320_MobileNet_V3_Large_Weights
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.ops import clip_boxes_to_image

from detector.engine.distributed import loss_normalizer
from detector.engine.structures import Output, Targets
from detector.models.anchors import decode_offsets, encode_boxes, match_default_boxes
from detector.models.class_rows import NamedRows, TrainedRows
from detector.models.normalization import Normalize, PixelStatistics
from detector.models.postprocess import Postprocess, box_iou_xyxy
from detector.models.pretrained import download_detection_weights, load_except, load_pretrained
from detector.models.private_imports import SSDLITE_EXTRACTOR
from detector.models.recipe import REFERENCE
from detector.models.state_head import StateConfig, StateHead, apply_presence, box_loss_mask, build_state_head

RECIPE = REFERENCE
OBJECT_IOU = 0.5  # anchors from here on are objects
ANCHOR_SIZES = (0.2, 0.95)  # of the first and the last feature map, as fractions of the longer side of the input
OFFSET_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
NEGATIVES_PER_POSITIVE = 3
CHANNELS = [672, 960, 512, 256, 256, 128]  # of the six feature maps
# The layers that depend on the classes are the last ones of each feature map's block.
CLASS_LAYERS = tuple(f"head.classification_head.module_list.{index}.1." for index in range(len(CHANNELS)))
COCO_WEIGHTS = SSDLite320_MobileNet_V3_Large_Weights.COCO_V1
# Name prefixes in torchvision's weights -> in ours.
NAMES = {"backbone.features.": "backbone.", "backbone.extra.": "extra.", "head.": "head."}
COCO_STATISTICS = PixelStatistics((127, 127, 127), (128, 128, 128))  # normalization of torchvision's COCO weights
STATE_CHANNELS = 128  # all feature maps are projected to this width for the shared state head


class SSDLite(nn.Module):
    """torchvision's backbone, head and default boxes; batched matching, loss and detection."""

    def __init__(
        self, classes: int, states: StateConfig, statistics: PixelStatistics, postprocess: Postprocess, weights: str
    ) -> None:
        super().__init__()
        norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
        source = MobileNet_V3_Large_Weights.IMAGENET1K_V1 if weights == "imagenet" else None
        mobilenet = load_pretrained(lambda: mobilenet_v3_large(weights=source, norm_layer=norm), source)
        self.normalize = Normalize(statistics)
        backbone = SSDLITE_EXTRACTOR.load()(mobilenet, 6, norm)
        self.backbone, self.extra = backbone.features, backbone.extra
        smallest, largest = ANCHOR_SIZES
        self.boxes = DefaultBoxGenerator([[2, 3] for _ in CHANNELS], min_ratio=smallest, max_ratio=largest)
        self.head = SSDLiteHead(CHANNELS, self.boxes.num_anchors_per_location(), classes + 1, norm)
        self.states = build_state_head(STATE_CHANNELS, states)
        self.state_features = nn.ModuleList(
            nn.Conv2d(width, STATE_CHANNELS, 1) for width in CHANNELS if self.states is not None
        )
        self.postprocess = postprocess

    def class_rows(self) -> dict[str, NamedRows]:
        """The tensors with rows per class."""
        rows = NamedRows(self.boxes.num_anchors_per_location()[0], background="first")
        return {f"{layer}{kind}": rows for layer in CLASS_LAYERS for kind in ("weight", "bias")}

    def forward(self, images: Tensor, targets: Targets | None = None) -> Output:
        """images uint8 [B, 3, H, W]."""
        maps = []
        x = self.normalize(images)
        for block in (*self.backbone, *self.extra):
            x = block(x)
            maps.append(x)
        outputs = self.head(maps)
        offsets, logits = outputs["bbox_regression"], outputs["cls_logits"]  # [B, A, 4], [B, A, classes + 1]
        height, width = images.shape[-2:]
        anchors = make_default_boxes(self.boxes, images, maps)  # [A, 4]
        state_logits = self._state_logits(maps)
        losses: dict[str, Tensor] = {}
        if targets is not None:
            losses = ssd_loss(offsets, logits, anchors, targets, state_logits=state_logits, states=self.states)
        if self.training:
            return Output(losses, None)
        boxes_xyxy = clip_boxes_to_image(decode_offsets(offsets, anchors, OFFSET_WEIGHTS), (height, width))
        scores = apply_presence(logits.softmax(-1)[..., 1:], state_logits, self.states)
        target_states = None
        if targets is not None and state_logits is not None:
            overlap = box_iou_xyxy(targets.boxes_xyxy, anchors[None])  # [B, M, A]
            index = overlap.argmax(-1)[..., None].expand(-1, -1, state_logits.shape[-1])
            target_states = state_logits.gather(1, index)
        return Output(losses, self.postprocess(boxes_xyxy, scores, state_logits), target_states)

    def _state_logits(self, maps: list[Tensor]) -> Tensor | None:
        """State logits [B, A, S]; the anchors of a location share its state."""
        if self.states is None:
            return None
        features = [
            layer(level).flatten(2).transpose(1, 2) for layer, level in zip(self.state_features, maps, strict=True)
        ]
        logits: Tensor = self.states(torch.cat(features, dim=1))  # [B, locations, S]
        return logits.repeat_interleave(self.boxes.num_anchors_per_location()[0], dim=1)


def make_default_boxes(generator: DefaultBoxGenerator, images: Tensor, maps: list[Tensor]) -> Tensor:
    """The default boxes [A, 4] of all cells of the maps, in pixels of the images [B, 3, H, W].

    Their sizes are shares of the longer side: on an input that is not square a location has the same boxes as on the
    square input to which the image would be padded.
    """
    height, width = images.shape[-2:]
    stretched = generator(ImageList(images, [(height, width)]), maps)[0]  # with sizes that are shares of each side
    scale = max(height, width) / stretched.new_tensor([width, height])
    center, half = (stretched[:, :2] + stretched[:, 2:]) / 2, (stretched[:, 2:] - stretched[:, :2]) / 2 * scale
    return torch.cat([center - half, center + half], dim=1)


def ssd_loss(
    offsets: Tensor,
    logits: Tensor,
    anchors: Tensor,
    targets: Targets,
    *,
    state_logits: Tensor | None,
    states: StateHead | None,
) -> dict[str, Tensor]:
    """`loss_cls` (cross-entropy) of positive anchors and hard negatives; `loss_smooth_l1`, `loss_state` of positives.

    Hard negative mining as in Liu et al. 2016, "SSD: Single Shot MultiBox Detector".
    """
    with torch.no_grad():
        matched = match_default_boxes(anchors, targets, OBJECT_IOU)  # [B, A]
    positive = matched >= 0
    total = loss_normalizer(positive.sum())
    labels = torch.zeros_like(matched)
    box_loss = offsets.sum() * 0
    image, anchor = positive.nonzero(as_tuple=True)
    losses = {}
    true_states = targets.states[image, matched[image, anchor]]
    if states is not None and state_logits is not None:
        losses["loss_state"] = states.loss(state_logits[image, anchor], true_states)
    if len(image):
        labels[image, anchor] = targets.labels[image, matched[image, anchor]]
        mask = box_loss_mask(states, true_states)
        image, anchor = image[mask], anchor[mask]
        true_boxes = targets.boxes_xyxy[image, matched[image, anchor]]
        true_offsets = encode_boxes(true_boxes, anchors[anchor], OFFSET_WEIGHTS)
        box_loss = F.smooth_l1_loss(offsets[image, anchor], true_offsets, reduction="sum")
    # Flat, to be deterministic on a GPU.
    class_losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)  # [B, A]
    negatives = torch.where(positive, -1.0, class_losses.detach())
    rank = negatives.argsort(dim=1, descending=True).argsort(dim=1)
    hard = rank < NEGATIVES_PER_POSITIVE * positive.sum(dim=1, keepdim=True)
    class_loss = class_losses[positive | hard].sum()
    return losses | {"loss_cls": class_loss / total, "loss_smooth_l1": box_loss / total}


def build_ssdlite(
    classes: int, states: StateConfig, statistics: PixelStatistics, postprocess: Postprocess, weights: str
) -> SSDLite:
    """weights: coco or imagenet (downloaded), or none."""
    model = SSDLite(classes, states, statistics, postprocess, weights)
    if weights == "coco":
        initial = model.state_dict()
        stored = download_detection_weights(COCO_WEIGHTS, NAMES)
        reusable = {name: value for name, value in stored.items() if not name.startswith(CLASS_LAYERS)}
        widened = {name: widen_weights(value, initial[name]) for name, value in reusable.items()}
        load_except(model, widened, (*CLASS_LAYERS, "states.", "state_features."))
    return model


def load_coco_rows() -> TrainedRows:
    """The rows per class of the COCO weights; the additional input channels of a wider layer have weight 0."""
    stored = download_detection_weights(COCO_WEIGHTS, NAMES)
    tensors = {}
    for layer, width in zip(CLASS_LAYERS, CHANNELS, strict=True):
        narrow = stored[f"{layer}weight"]
        tensors[f"{layer}weight"] = widen_weights(narrow, narrow.new_zeros(len(narrow), width, 1, 1))
        tensors[f"{layer}bias"] = stored[f"{layer}bias"]
    return TrainedRows(COCO_WEIGHTS.meta["categories"][1:], tensors)  # the first one is the background


def widen_weights(narrow: Tensor, wide: Tensor) -> Tensor:
    """Insert the weights of a narrower layer into a wide one without changing the outputs of its channels.

    torchvision's COCO weights are of a MobileNet with half the channels at its end, its ImageNet weights of one with
    all. The inserted channels get no input from the additional ones, which keep their random weights and can still
    learn (Chen et al. 2016, "Net2Net").
    """
    result = wide.clone()
    if narrow.dim() > 1:
        result[: len(narrow)] = 0
    result[tuple(slice(side) for side in narrow.shape)] = narrow
    return result
