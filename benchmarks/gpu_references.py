"""The loops that others train the same architectures with: torchvision's reference, and transformers' Trainer in short.

Both get the same pixels as ours, decoded and of the same size. They start from float images in memory, as their
transforms leave them, ours from uint8; each copies its images to the device in every step.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.amp import GradScaler
from torchvision.models import detection
from torchvision.ops import box_convert

from benchmarks.gpu_data import CLASSES
from benchmarks.gpu_settings import GpuSettings
from detector.engine.dataset import Batch
from detector.models.query_architectures import ARCHITECTURES
from detector.models.query_detector import count_cells
from detector.training.precision import LOWER_PRECISIONS

TORCHVISION: dict[str, Callable[..., Any]] = {
    "ssdlite": detection.ssdlite320_mobilenet_v3_large,
    "faster_rcnn": detection.fasterrcnn_mobilenet_v3_large_320_fpn,
    "faster_rcnn_resnet50": detection.fasterrcnn_resnet50_fpn,
    "retinanet": detection.retinanet_resnet50_fpn,
    "fcos": detection.fcos_resnet50_fpn,
}
DETECTIONS = 100  # per image, as ours


class Reference(NamedTuple):
    """name: of the loop. train, evaluate: run this number of steps."""

    name: str
    train: Callable[[int], None]
    evaluate: Callable[[int], None]


def build_reference(name: str, settings: GpuSettings, precision: str, batches: list[Batch]) -> Reference | None:
    """The reference of one of our models; None where there is none."""
    if name in TORCHVISION:
        return build_torchvision_reference(name, settings, precision, batches)
    if name in ARCHITECTURES:
        return build_transformers_reference(name, settings, precision, batches)
    return None


def build_torchvision_reference(name: str, settings: GpuSettings, precision: str, batches: list[Batch]) -> Reference:
    """torchvision's detector of the same name with the loop of its references/detection."""
    height, width = settings.choose_size(name)
    resize = {} if name == "ssdlite" else {"min_size": min(height, width), "max_size": max(height, width)}
    model = TORCHVISION[name](weights=None, weights_backbone=None, num_classes=CLASSES + 1, **resize)
    model = model.to(settings.device)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, weight_decay=1e-4)
    scaler = GradScaler(settings.device.type, enabled=precision == "fp16")
    data = [split_targets(batch) for batch in batches]
    numbers = count()

    def train(steps: int) -> None:
        model.train()
        for _ in range(steps):
            images, targets = data[next(numbers) % len(data)]
            on_device = [image.to(settings.device) for image in images]
            moved = [{key: value.to(settings.device) for key, value in target.items()} for target in targets]
            with autocast(settings.device, precision):
                losses = sum(model(on_device, moved).values())
            losses.item()  # the reference stops when it is not finite
            optimizer.zero_grad()
            scaler.scale(losses).backward()
            scaler.step(optimizer)
            scaler.update()

    def evaluate(steps: int) -> None:
        model.eval()
        with torch.inference_mode(), autocast(settings.device, precision):
            for _ in range(steps):
                images, _ = data[next(numbers) % len(data)]
                for output in model([image.to(settings.device) for image in images]):
                    output["boxes"].cpu()

    return Reference("torchvision's loop", train, evaluate)


def split_targets(batch: Batch) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """The batch as torchvision's collate function delivers it: float images in 0..1, and targets without padding."""
    images = [image.float() / 255 for image in batch.images]
    targets = [
        {"boxes": boxes[labels > 0], "labels": labels[labels > 0]}
        for boxes, labels in zip(batch.targets.boxes_xyxy, batch.targets.labels, strict=True)
    ]
    return images, targets


def build_transformers_reference(name: str, settings: GpuSettings, precision: str, batches: list[Batch]) -> Reference:
    """transformers' detector of the same configuration, trained as its Trainer does: AdamW, autocast, clipping."""
    from transformers import AutoModelForObjectDetection  # slow to import

    config = ARCHITECTURES[name].make_config()
    config.num_labels = CLASSES
    config.num_queries = min(config.num_queries, count_cells(config, settings.choose_size(name)))
    model: Any = AutoModelForObjectDetection.from_config(config).to(settings.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    scaler = GradScaler(settings.device.type, enabled=precision == "fp16")
    data = [make_inputs(batch, ARCHITECTURES[name].uses_mask) for batch in batches]
    numbers = count()

    def move() -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
        inputs, labels = data[next(numbers) % len(data)]
        moved = [{key: value.to(settings.device) for key, value in label.items()} for label in labels]
        return {key: value.to(settings.device) for key, value in inputs.items()}, moved

    def train(steps: int) -> None:
        model.train()
        for _ in range(steps):
            inputs, labels = move()
            with autocast(settings.device, precision):
                loss = model(**inputs, labels=labels).loss
            loss.item()  # the Trainer drops losses that are not finite from its log
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            scaler.step(optimizer)
            scaler.update()

    def evaluate(steps: int) -> None:
        model.eval()
        with torch.inference_mode(), autocast(settings.device, precision):
            for _ in range(steps):
                output = model(**move()[0])
                scores = output.logits.float().sigmoid().flatten(1)
                scores.topk(min(DETECTIONS, scores.shape[1])).values.cpu()
                output.pred_boxes.cpu()

    return Reference("Trainer's loop", train, evaluate)


def make_inputs(batch: Batch, uses_mask: bool) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """The batch as transformers' image processor delivers it."""
    size = torch.tensor(batch.images.shape[-2:])
    relative = box_convert(batch.targets.boxes_xyxy / size.flip(0).repeat(2), "xyxy", "cxcywh")
    inputs = {"pixel_values": batch.images.float() / 255}
    if uses_mask:
        inputs["pixel_mask"] = torch.ones(len(batch.images), *batch.images.shape[-2:], dtype=torch.int64)
    labels = [
        {"class_labels": labels[labels > 0] - 1, "boxes": boxes[labels > 0]}
        for boxes, labels in zip(relative, batch.targets.labels, strict=True)
    ]
    return inputs, labels


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """torch's automatic mixed precision, or nothing in fp32."""
    return torch.autocast(device.type, LOWER_PRECISIONS.get(precision, torch.bfloat16), enabled=precision != "fp32")
