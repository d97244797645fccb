"""Speed of training steps on the CPU, against torchvision's reference loop with its detector of the same name.

Ours is what stages/train.py runs: images are decoded once and cached, augmented as uint8, targets are batched, freed
memory is kept. The reference (references/detection in torchvision) decodes each image in each epoch, to float, and
handles images one by one. Each side runs in its own process, because some settings affect the whole process.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.models import detection
from torchvision.transforms import v2

from benchmarks.photographs import SIZE
from benchmarks.table import Row, check_ratio
from benchmarks.timing import hide_progress_bars, time_pairs
from detector.engine.dataset import DetectionDataset, EpochSampler, collate, pack_annotations
from detector.engine.environment import keep_freed_memory
from detector.engine.seeding import make_deterministic
from detector.models import MODELS
from detector.models.normalization import IMAGENET_STATISTICS
from detector.models.postprocess import Postprocess
from detector.models.state_head import StateConfig
from detector.training.augmentation import Augmenter
from detector.training.compute import ComputeSettings
from detector.training.image_cache import cache_in_memory
from detector.training.loop import group_batches, train_one_epoch
from detector.training.state import start_run

BOXES, CLASSES = 10, 3  # boxes per photograph, classes in total
FILL = (124, 116, 104)


class ModelPair(NamedTuple):
    """Our model, torchvision's counterpart, our input (H, W) with as many pixels, and the target ratio."""

    name: str
    reference: Callable[..., nn.Module]
    reference_size: dict[str, int]
    size: tuple[int, int]
    target: float


# Faster R-CNN resizes the photographs to 427 x 320; torchvision pads them to the same size.
MODEL_PAIRS = (
    ModelPair("ssdlite", detection.ssdlite320_mobilenet_v3_large, {}, (320, 320), 1.5),
    ModelPair(
        "faster_rcnn",
        detection.fasterrcnn_mobilenet_v3_large_320_fpn,
        {"min_size": 320, "max_size": 427},
        (320, 448),
        3.0,
    ),
)

TrainSteps = Callable[[int], None]  # trains for this number of steps


def random_labels(paths: list[Path]) -> dict[str, Any]:
    """A COCO dictionary with random boxes per photograph."""
    rng = np.random.default_rng(0)
    sides = rng.uniform(0.05, 0.4, (len(paths), BOXES, 2)) * SIZE
    corners = rng.uniform(0, 1, sides.shape) * (SIZE - sides)
    boxes_xywh = np.concatenate([corners, sides], axis=2).round(2)
    labels = rng.integers(1, CLASSES + 1, (len(paths), BOXES))
    images = [
        {"id": row, "width": SIZE[0], "height": SIZE[1], "file_name": str(path)} for row, path in enumerate(paths)
    ]
    annotations = [
        {"image_id": row, "bbox": box, "category_id": label, "state": 0, "iscrowd": 0}
        for row in range(len(paths))
        for box, label in zip(boxes_xywh[row].tolist(), labels[row].tolist(), strict=True)
    ]
    return {"images": images, "annotations": annotations}


def build_our_training(pair: ModelPair, coco: dict[str, Any], batch: int) -> TrainSteps:
    """Our model, trained as in stages/train.py."""
    keep_freed_memory()
    make_deterministic(0, 0)
    kind = MODELS[pair.name]
    recipe = kind.recipe
    model = kind.build(CLASSES, StateConfig(), IMAGENET_STATISTICS, Postprocess(), "none")
    model = model.to(memory_format=torch.channels_last)
    augment = Augmenter(recipe.flip, recipe.scale, recipe.color_jitter, FILL)
    with hide_progress_bars():
        annotations = pack_annotations(coco)
        decoded = cache_in_memory(annotations, pair.size, FILL)
        data = DetectionDataset(annotations, Path(), pair.size, FILL, decoded=decoded, augmentation=augment)
    sampler = EpochSampler(len(data), batch, 0)
    batches = repeat_loader(DataLoader(data, batch_sampler=sampler, collate_fn=collate))
    run = start_run(model, recipe, 1000, None, ComputeSettings(torch.device("cpu")))

    def train(steps: int) -> None:
        groups = group_batches(islice(batches, steps), 1)
        train_one_epoch(
            run.learner,
            groups,
            run.schedule,
            grad_clip_norm=recipe.grad_clip_norm,
            first_iteration=0,
            on_step=lambda step: None,
            image_name=str,
        )

    return train


class ReferenceDataset(Dataset[Any]):
    """Reads COCO like torchvision's reference: PIL image -> randomly flipped float image and its targets."""

    def __init__(self, coco: dict[str, Any]) -> None:
        self.paths = [image["file_name"] for image in coco["images"]]
        packed = pack_annotations(coco)
        self.boxes_xyxy = packed.boxes_xyxy.reshape(len(self.paths), -1, 4)
        self.labels = packed.labels.reshape(len(self.paths), -1)
        self.transforms = v2.Compose(
            [v2.PILToTensor(), v2.RandomHorizontalFlip(0.5), v2.ToDtype(torch.float, scale=True), v2.ToPureTensor()]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[Tensor, dict[str, Tensor]]:
        with Image.open(self.paths[row]) as image:
            picture = image.convert("RGB")
        boxes = tv_tensors.BoundingBoxes(self.boxes_xyxy[row], format="XYXY", canvas_size=SIZE[::-1])
        target = {"boxes": boxes, "labels": torch.from_numpy(self.labels[row])}
        result: tuple[Tensor, dict[str, Tensor]] = self.transforms(picture, target)
        return result


def build_reference_training(pair: ModelPair, coco: dict[str, Any], batch: int) -> TrainSteps:
    """torchvision's model, trained with its reference loop and optimizer."""
    torch.manual_seed(0)
    model = pair.reference(weights=None, weights_backbone=None, num_classes=CLASSES + 1, **pair.reference_size).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9, weight_decay=1e-4)
    data = ReferenceDataset(coco)
    batches = repeat_loader(
        DataLoader(data, batch, shuffle=True, drop_last=True, collate_fn=lambda items: tuple(zip(*items, strict=True)))
    )

    def train(steps: int) -> None:
        for images, targets in islice(batches, steps):
            losses = model(list(images), [dict(target) for target in targets])
            total = sum(losses.values())
            assert torch.isfinite(total)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()

    return train


def repeat_loader(loader: DataLoader[Any]) -> Iterator[Any]:
    """Yield batches epoch after epoch."""
    while True:
        yield from loader


SIDES = {"ours": build_our_training, "baseline": build_reference_training}


def serve_steps(connection: Connection, side: str, name: str, coco: dict[str, Any], batch: int, threads: int) -> None:
    """The worker process: warm up, then train for each number of steps received; 0 ends it."""
    torch.set_num_threads(threads)
    train = SIDES[side](next(pair for pair in MODEL_PAIRS if pair.name == name), coco, batch)
    train(2)
    connection.send("ready")
    while steps := connection.recv():
        train(steps)
        connection.send("done")


@contextmanager
def start_worker(*arguments: Any) -> Iterator[TrainSteps]:
    """Run `serve_steps` in a process. Yields a function that trains for a number of steps, once it is warm."""
    context = multiprocessing.get_context("spawn")
    connection, other_end = context.Pipe()
    worker = context.Process(target=serve_steps, args=(other_end, *arguments), daemon=True)
    worker.start()
    other_end.close()  # so the connection ends when the worker dies

    def train(steps: int) -> None:
        connection.send(steps)
        connection.recv()

    try:
        connection.recv()
        yield train
        connection.send(0)
        worker.join()
    finally:
        worker.kill()


def training_row(pair: ModelPair, paths: list[Path], batch: int, pairs: int, steps: int) -> Row:
    """Images/s of whole training steps, both sides alternately with torch's number of threads."""
    coco, threads = random_labels(paths), torch.get_num_threads()
    rest = (pair.name, coco, batch, threads)
    with start_worker("ours", *rest) as ours, start_worker("baseline", *rest) as theirs:
        times = time_pairs(lambda: ours(steps), lambda: theirs(steps), pairs)
    return Row(
        f"training `{pair.name}`, {pair.size[1]}×{pair.size[0]}, batches of {batch}, {threads} threads",
        f"{batch * steps / times.ours:.1f} images/s",
        f"{batch * steps / times.baseline:.1f} images/s torchvision's loop",
        *check_ratio(times.ratio, pair.target),
    )
