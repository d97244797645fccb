"""torchvision's detectors with random weights that give varied outputs, stored as if they were downloaded.

The layers that make logits and offsets are scaled until their outputs spread as those of a trained detector do: with
plain random weights all scores of an image are nearly the same.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torchvision.models import WeightsEnum, detection
from torchvision.ops import FrozenBatchNorm2d

from detector.models import faster_rcnn, faster_rcnn_resnet50, fcos, retinanet, ssdlite
from detector.models.class_rows import TrainedRows
from detector.models.normalization import IMAGENET_STATISTICS, PixelStatistics
from detector.models.postprocess import Postprocess

NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d)
UNSEEN_LOGIT = -30.0  # of the rows that COCO has no objects for, in a sigmoid or softmax


class Spread(NamedTuple):
    """Mean and standard deviation of a layer's outputs."""

    mean: float
    std: float


class Reference(NamedTuple):
    """One of torchvision's detectors.

    build: its function. weights, load_coco_rows: ours. postprocess: thresholds of both. layers: what to scale, by name.
    losses: names of its losses -> ours. size: (H, W) of the input, which it does not resize. class_layers: with rows
    per class. sigmoid: its scores are sigmoids, and the row of the background is not used.
    """

    build: Callable[..., nn.Module]
    weights: WeightsEnum
    load_coco_rows: Callable[[], TrainedRows]
    postprocess: Postprocess
    layers: dict[str, Spread]
    losses: dict[str, str]
    statistics: PixelStatistics = IMAGENET_STATISTICS
    size: tuple[int, int] = (128, 192)
    class_layers: tuple[str, ...] = ("head.classification_head.cls_logits",)
    sigmoid: bool = True


FPN_NAMES = {"classification": "loss_cls", "bbox_regression": "loss_l1"}
TWO_STAGE_NAMES = {name: name for name in ("loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg")}
TWO_STAGE_LAYERS = {
    "rpn.head.cls_logits": Spread(0, 2),
    "rpn.head.bbox_pred": Spread(0, 0.3),
    "roi_heads.box_predictor.cls_score": Spread(0, 3),
    "roi_heads.box_predictor.bbox_pred": Spread(0, 1),
}
REFERENCES = {
    "ssdlite": Reference(
        detection.ssdlite320_mobilenet_v3_large,
        ssdlite.COCO_WEIGHTS,
        ssdlite.load_coco_rows,
        Postprocess(0.05, 0.55, 300),
        {
            f"head.{kind}_head.module_list.{index}.1": spread
            for index in range(len(ssdlite.CHANNELS))
            for kind, spread in (("classification", Spread(0, 3)), ("regression", Spread(0, 1)))
        },
        {"classification": "loss_cls", "bbox_regression": "loss_smooth_l1"},
        statistics=ssdlite.COCO_STATISTICS,
        size=(320, 320),
        class_layers=tuple(f"head.classification_head.module_list.{index}.1" for index in range(len(ssdlite.CHANNELS))),
        sigmoid=False,
    ),
    "faster_rcnn": Reference(
        detection.fasterrcnn_mobilenet_v3_large_320_fpn,
        faster_rcnn.COCO_WEIGHTS,
        faster_rcnn.load_coco_rows,
        Postprocess(0.05, 0.5, 100),
        TWO_STAGE_LAYERS,
        TWO_STAGE_NAMES,
        size=(320, 416),
        class_layers=("roi_heads.box_predictor.cls_score",),
        sigmoid=False,
    ),
    "faster_rcnn_resnet50": Reference(
        detection.fasterrcnn_resnet50_fpn,
        faster_rcnn_resnet50.COCO_WEIGHTS,
        faster_rcnn_resnet50.load_coco_rows,
        Postprocess(0.05, 0.5, 100),
        TWO_STAGE_LAYERS,
        TWO_STAGE_NAMES,
        class_layers=("roi_heads.box_predictor.cls_score",),
        sigmoid=False,
    ),
    "retinanet": Reference(
        detection.retinanet_resnet50_fpn,
        retinanet.COCO_WEIGHTS,
        retinanet.load_coco_rows,
        Postprocess(0.05, 0.5, 300),
        {
            "head.classification_head.cls_logits": Spread(-5, 1.5),
            "head.regression_head.bbox_reg": Spread(0, 0.3),
        },
        FPN_NAMES,
    ),
    "fcos": Reference(
        detection.fcos_resnet50_fpn,
        fcos.COCO_WEIGHTS,
        fcos.load_coco_rows,
        Postprocess(0.2, 0.6, 100),
        {
            "head.classification_head.cls_logits": Spread(-5, 1.5),
            "head.regression_head.bbox_reg": Spread(3, 1.5),
            "head.regression_head.bbox_ctrness": Spread(0, 1),
        },
        {"classification": "loss_cls", "bbox_regression": "loss_giou", "bbox_ctrness": "loss_centerness"},
    ),
}


def make_images(size: tuple[int, int]) -> Tensor:
    """Two images uint8 [2, 3, H, W] of rectangles in random colors, with noise."""
    generator = torch.Generator().manual_seed(0)
    images = torch.full((2, 3, *size), 110.0)
    for image in images:
        for _ in range(40):
            left, top = (int(torch.randint(side, (), generator=generator)) for side in reversed(size))
            width, height = torch.randint(8, 100, (2,), generator=generator).tolist()
            image[:, top : top + height, left : left + width] = torch.rand(3, 1, 1, generator=generator) * 255
    return (images + 30 * torch.randn(images.shape, generator=generator)).clamp(0, 255).to(torch.uint8)


def store_reference(name: str, cache: Path) -> Any:
    """torchvision's detector in evaluation mode; its weights are stored in torch's `cache`, where ours finds them.

    It takes images of `size` as they are, and normalizes as ours. Rows of the classes that COCO has no objects for
    have UNSEEN_LOGIT.
    """
    reference = REFERENCES[name]
    (cache / "hub/checkpoints").mkdir(parents=True)
    file = cache / "hub/checkpoints" / reference.weights.url.rpartition("/")[2]
    torch.manual_seed(1)
    torch.save(to_file_names(reference.build(weights=None, weights_backbone=None).state_dict()), file)
    statistics, postprocess = reference.statistics, reference.postprocess
    sizes = {} if name == "ssdlite" else {"min_size": min(reference.size), "max_size": max(reference.size)}
    model = reference.build(
        weights=reference.weights,
        image_mean=[value / 255 for value in statistics.mean],
        image_std=[value / 255 for value in statistics.std],
        **{("box_" if "faster" in name else "") + "score_thresh": postprocess.score_threshold},
        **{("box_" if "faster" in name else "") + "nms_thresh": postprocess.nms_iou},
        **{("box_" if "faster" in name else "") + "detections_per_img": postprocess.max_detections},
        **sizes,
    ).eval()
    hooks = [scale_outputs(model.get_submodule(layer), spread) for layer, spread in reference.layers.items()]
    hooks += [normalize_inputs(layer) for layer in model.modules() if isinstance(layer, NORMS)]
    with torch.no_grad():
        model(list(make_images(reference.size).float() / 255))
        for layer in reference.class_layers:
            silence_unseen_classes(model.get_submodule(layer), reference)
    for hook in hooks:
        hook.remove()
    torch.save(to_file_names(model.state_dict()), file)
    return model


def normalize_inputs(norm: nn.Module) -> RemovableHandle:
    """Give the batch norm the statistics of its next input, roughly: else nothing of the image reaches deep layers."""
    done: list[Any] = []

    def set_statistics(module: Any, inputs: tuple[Tensor]) -> None:
        if not done:
            std, mean = torch.std_mean(inputs[0].transpose(0, 1).flatten(1), dim=1)  # [C]
            module.running_mean.copy_(mean)
            module.running_var.copy_(std.square().clamp(min=1e-3) * torch.empty_like(std).uniform_(0.5, 2))
            module.bias.normal_(0, 0.1)
            done.append(True)

    return norm.register_forward_pre_hook(set_statistics)


def scale_outputs(layer: nn.Module, spread: Spread) -> RemovableHandle:
    """Scale the layer's weights at its next call such that each channel of its outputs has this spread."""
    done: list[Any] = []

    def scale(module: Any, _: object, output: Tensor) -> Tensor | None:
        if done:
            return None
        done.append(True)
        std, mean = torch.std_mean(output.transpose(0, 1).flatten(1), dim=1)  # [C]
        factor = spread.std / std
        shift = spread.mean - mean * factor
        module.weight.mul_(factor.view(-1, *[1] * (module.weight.dim() - 1)))
        module.bias.mul_(factor).add_(shift)
        shape = (-1, *[1] * (output.dim() - 2))
        return output * factor.view(shape) + shift.view(shape)

    return layer.register_forward_hook(scale)


def silence_unseen_classes(layer: Any, reference: Reference) -> None:
    """Make the rows of `N/A`, and of the background where it is not used, constant and low, in place."""
    names = reference.weights.meta["categories"]
    unseen = torch.tensor([name == "N/A" or (reference.sigmoid and name == "__background__") for name in names])
    rows = unseen.repeat(len(layer.bias) // len(names))
    layer.weight[rows] = 0
    layer.bias[rows] = UNSEEN_LOGIT


def to_file_names(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename tensors as in torchvision's weight files, which are older than its code; it renames them when loading."""
    new = {
        f"{block}.{index}.0.": f"{block}.{index}." for block in ("inner_blocks", "layer_blocks") for index in range(4)
    }
    new |= {"rpn.head.conv.0.0.": "rpn.head.conv."}
    new |= {f"_head.conv.{index}.0.": f"_head.conv.{2 * index}." for index in range(4) if has_plain_tower(stored)}
    renamed = {}
    for name, value in stored.items():
        part = next((part for part in new if part in name), "")
        renamed[name.replace(part, new.get(part, ""))] = value
    return renamed


def has_plain_tower(stored: dict[str, Tensor]) -> bool:
    """Whether the head has RetinaNet's tower, whose convolutions were once in one list with their activations."""
    return "head.regression_head.conv.0.0.weight" in stored
