"""Training steps on the CPU: ours beside torchvision's reference loop with its own detector of the same name.

Ours is what stages/train.py runs: images decoded once and kept, augmented as uint8, batched targets, freed
memory kept. The reference (references/detection of torchvision) decodes each image anew, to float, and goes
image by image. Each side has a process of its own, because some settings are of the whole process.
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
from benchmarks.table import Row, at_least
from benchmarks.timing import compare, quiet
from detector.engine.dataset import DetectionDataset, EpochSampler, collate, pack
from detector.engine.environment import keep_freed_memory
from detector.engine.seeding import make_deterministic
from detector.models import MODELS
from detector.models.normalization import IMAGENET
from detector.models.postprocess import Postprocess
from detector.models.state_head import States
from detector.training.augmentation import Augment
from detector.training.compute import Engine
from detector.training.image_cache import in_memory
from detector.training.loop import grouped, train_one_epoch
from detector.training.state import begin

BOXES, CLASSES = 10, 3  # of each photograph, and in all
FILL = (124, 116, 104)


class Contest(NamedTuple):
    """A model of the table, its peer in torchvision, our input (H, W) for the same pixels, the ratio wanted."""

    name: str
    peer: Callable[..., nn.Module]
    peer_size: dict[str, int]
    size: tuple[int, int]
    target: float


# The photographs become 320 x 427 for Faster R-CNN; torchvision pads them alike.
CONTESTS = (
    Contest("ssdlite", detection.ssdlite320_mobilenet_v3_large, {}, (320, 320), 1.5),
    Contest(
        "faster_rcnn",
        detection.fasterrcnn_mobilenet_v3_large_fpn,
        {"min_size": 320, "max_size": 427},
        (320, 448),
        3.0,
    ),
)

Steps = Callable[[int], None]  # trains for so many


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


def our_steps(contest: Contest, coco: dict[str, Any], batch: int) -> Steps:
    """Our model, trained as stages/train.py does it."""
    keep_freed_memory()
    make_deterministic(0, 0)
    kind = MODELS[contest.name]
    recipe = kind.recipe
    model = kind.build(CLASSES, States(), IMAGENET, Postprocess(), "none")
    model = model.to(memory_format=torch.channels_last)
    augment = Augment(recipe.flip, recipe.zoom, recipe.distortion, FILL)
    with quiet():
        data = DetectionDataset(pack(coco), Path(), contest.size, FILL, in_memory(coco, contest.size, FILL), augment)
    sampler = EpochSampler(len(data), batch, 0)
    batches = endless(DataLoader(data, batch_sampler=sampler, collate_fn=collate))
    run = begin(model, recipe, 1000, None, Engine(torch.device("cpu")))

    def train(steps: int) -> None:
        groups = grouped(islice(batches, steps), 1)
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


def reference_steps(contest: Contest, coco: dict[str, Any], batch: int) -> Steps:
    """torchvision's model, trained by its reference loop and optimizer."""
    torch.manual_seed(0)
    model = contest.peer(weights=None, weights_backbone=None, num_classes=CLASSES + 1, **contest.peer_size).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9, weight_decay=1e-4)
    data = ReferenceDataset(coco)
    batches = endless(
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


def endless(loader: DataLoader[Any]) -> Iterator[Any]:
    """Epoch after epoch."""
    while True:
        yield from loader


SIDES = {"here": our_steps, "beside": reference_steps}


def work(connection: Connection, side: str, name: str, coco: dict[str, Any], batch: int, threads: int) -> None:
    """What a process does: warm up, then train for so many steps whenever it is asked; 0 ends it."""
    torch.set_num_threads(threads)
    train = SIDES[side](next(contest for contest in CONTESTS if contest.name == name), coco, batch)
    train(2)
    connection.send("ready")
    while steps := connection.recv():
        train(steps)
        connection.send("done")


@contextmanager
def process(*arguments: Any) -> Iterator[Steps]:
    """`work` in a process of its own, when it is warm: a function that waits for so many steps."""
    context = multiprocessing.get_context("spawn")
    connection, other_end = context.Pipe()
    worker = context.Process(target=work, args=(other_end, *arguments), daemon=True)
    worker.start()
    other_end.close()  # so that the worker's death is the end of the connection

    def ask(steps: int) -> None:
        connection.send(steps)
        connection.recv()

    try:
        connection.recv()
        yield ask
        connection.send(0)
        worker.join()
    finally:
        worker.kill()


def training_row(contest: Contest, paths: list[Path], batch: int, pairs: int, steps: int) -> Row:
    """Images/s of whole training steps, both sides in turn with torch's number of threads."""
    coco, threads = labelled(paths), torch.get_num_threads()
    rest = (contest.name, coco, batch, threads)
    with process("here", *rest) as ours, process("beside", *rest) as theirs:
        times = compare(lambda: ours(steps), lambda: theirs(steps), pairs)
    return Row(
        f"training `{contest.name}`, {contest.size[1]}×{contest.size[0]}, batches of {batch}, {threads} threads",
        f"{batch * steps / times.here:.1f} images/s",
        f"{batch * steps / times.beside:.1f} images/s torchvision's loop",
        *at_least(times.ratio, contest.target),
    )
