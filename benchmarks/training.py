"""Training steps on the CPU: ours beside torchvision's reference loop with its own detector of the same name.

Ours is what stages/train.py runs: images decoded once and kept, augmented as uint8, batched targets. The
reference (references/detection of torchvision) decodes each image anew, to float, and goes image by image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
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
from benchmarks.table import Row, at_least, rate
from benchmarks.timing import compare, quiet
from detector.data.augmentation import Augment
from detector.data.cache import in_memory
from detector.data.dataset import DetectionDataset, EpochSampler, collate, pack
from detector.models import MODELS
from detector.models.normalization import IMAGENET
from detector.models.postprocess import Postprocess
from detector.models.state_head import States
from detector.training.engine import Engine
from detector.training.loop import train_one_epoch
from detector.training.state import begin

BATCH = 8
BOXES, CLASSES = 10, 3  # of each photograph, and in all
FILL = (124, 116, 104)


class Contest(NamedTuple):
    """A model of the table, its peer in torchvision, our input (H, W) for the same pixels, the ratio wanted."""

    name: str
    peer: Callable[[], nn.Module]
    size: tuple[int, int]
    target: float


CONTESTS = (
    Contest(
        "ssdlite",
        lambda: detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=CLASSES + 1),
        (320, 320),
        1.5,
    ),
    Contest(
        "faster_rcnn",
        lambda: detection.fasterrcnn_mobilenet_v3_large_fpn(
            weights=None, weights_backbone=None, num_classes=CLASSES + 1, min_size=320, max_size=427
        ),
        (320, 448),  # the photographs become 320 x 427; torchvision pads them alike
        3.0,
    ),
)


def labelled(paths: list[Path]) -> dict[str, Any]:
    """A COCO dictionary with random boxes on each photograph."""
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


def our_steps(contest: Contest, coco: dict[str, Any]) -> Callable[[int], None]:
    """A function that trains our model for so many steps."""
    kind = MODELS[contest.name]
    recipe = kind.recipe
    torch.manual_seed(0)
    model = kind.build(CLASSES, States(), IMAGENET, Postprocess(), "none").to(memory_format=torch.channels_last)
    augment = Augment(recipe.flip, recipe.zoom, recipe.distortion, FILL)
    with quiet():
        data = DetectionDataset(pack(coco), Path(), contest.size, FILL, in_memory(coco, contest.size, FILL), augment)
    sampler = EpochSampler(len(data), BATCH, 0)
    batches = endless(DataLoader(data, batch_sampler=sampler, collate_fn=collate))
    run = begin(model, recipe, 1000, None, Engine(torch.device("cpu")))

    def train(steps: int) -> None:
        groups = ([batch] for batch in islice(batches, steps))
        train_one_epoch(run.learner, groups, run.schedule, recipe.clip_norm, 0, lambda step: None, str)

    return train


class ReferenceDataset(Dataset[Any]):
    """As torchvision's reference reads COCO: PIL image -> flipped float image and its targets."""

    def __init__(self, coco: dict[str, Any]) -> None:
        self.paths = [image["file_name"] for image in coco["images"]]
        packed = pack(coco)
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
        found: tuple[Tensor, dict[str, Tensor]] = self.transforms(picture, target)
        return found


def reference_steps(contest: Contest, coco: dict[str, Any]) -> Callable[[int], None]:
    """A function that trains torchvision's model for so many steps, by its reference loop and optimizer."""
    torch.manual_seed(0)
    model = contest.peer().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9, weight_decay=1e-4)
    data = ReferenceDataset(coco)
    batches = endless(DataLoader(data, BATCH, shuffle=True, collate_fn=lambda items: tuple(zip(*items, strict=True))))

    def train(steps: int) -> None:
        for images, targets in islice(batches, steps):
            losses = model(list(images), [dict(target) for target in targets])
            total = sum(losses.values())
            assert torch.isfinite(total)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()

    return train


def endless(loader: DataLoader[Any]) -> Iterator[Any]:
    """Epoch after epoch."""
    while True:
        yield from loader


def training_row(contest: Contest, paths: list[Path], pairs: int, steps: int) -> Row:
    """Images/s of whole training steps with this many threads, both sides in turn."""
    coco = labelled(paths)
    ours, theirs = our_steps(contest, coco), reference_steps(contest, coco)
    ours(1), theirs(1)  # warm up
    times = compare(lambda: ours(steps), lambda: theirs(steps), pairs)
    threads = torch.get_num_threads()
    return Row(
        f"training `{contest.name}`, {SIZE[0]}×{SIZE[1]} → {contest.size[1]}×{contest.size[0]}, "
        f"batches of {BATCH}, {threads} thread{'s' * (threads > 1)}",
        rate(BATCH * steps, times.here),
        f"{rate(BATCH * steps, times.beside)} torchvision's loop",
        *at_least(times.ratio, contest.target),
    )
