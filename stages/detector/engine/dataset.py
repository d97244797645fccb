"""COCO files and images -> batches of uint8 tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from detector.core.boxes import to_input_pixels
from detector.core.images import load_letterboxed
from detector.core.pixels import fit_scale, fit_size
from detector.engine.annotations import AnnotationPacker, Annotations
from detector.engine.structures import Targets


class LabelNames(NamedTuple):
    """Class and state names in id order, from id 1; `present[i]`: whether objects in state i+1 are to be detected."""

    classes: list[str]
    states: list[str]
    present: list[bool]


def read_label_names(coco: dict[str, Any]) -> LabelNames:
    """Read the class and state names of a COCO dictionary written by coco-convert."""
    return LabelNames(
        [category["name"] for category in coco["categories"]],
        [state["name"] for state in coco["states"]],
        [state["present"] for state in coco["states"]],
    )


def pack_annotations(coco: dict[str, Any]) -> Annotations:
    """Pack the images and boxes (without crowds) of a COCO dictionary into arrays."""
    packer = AnnotationPacker()
    for image in coco["images"]:
        packer.add_image(image)
    for annotation in coco["annotations"]:
        packer.add_object(annotation)
    return packer.pack()


class Sample(NamedTuple):
    """One letterboxed image with its boxes in letterboxed pixels.

    image uint8 [3, H, W]; boxes_xyxy float32 [M, 4]; labels, states int64 [M]; row: index in the
    annotations; scale: letterboxed pixels per image pixel in x and y, which augmentation leaves as it was; content:
    (height, width) of the image content, which is at the top left of the padding; plan: what is still to be done to
    the image on the training's device, see `training/batch_augmentation.py`.
    """

    image: Tensor
    boxes_xyxy: Tensor
    labels: Tensor
    states: Tensor
    row: int
    scale: tuple[float, float]
    content: tuple[int, int]
    plan: Any = None


class Batch(NamedTuple):
    """images uint8 [B, 3, H, W]; targets padded to the same M; rows and scales [B] of the samples.

    plan: what is still to be done to the images; the targets are already those of the result.
    """

    images: Tensor
    targets: Targets
    rows: list[int]
    scales: list[tuple[float, float]]
    plan: Any = None


# (sample, visit number, function that draws a random sample) -> augmented copy of the sample
Augmentation = Callable[[Sample, int, Callable[[], Sample]], Sample]


class DetectionDataset(Dataset[Sample]):
    """Letterboxed images of one split.

    size: (H, W). fill: RGB of the padding. decoded: uint8 [N, H, W, 3], cached images, else decoded on access.
    augmentation: seeded from (seed, visit, row), so the number of workers does not affect the samples.
    """

    def __init__(
        self,
        annotations: Annotations,
        root: Path,
        size: tuple[int, int],
        fill: tuple[int, int, int],
        *,
        decoded: NDArray[np.uint8] | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self.annotations = annotations
        self.size = size
        self._root, self._fill, self._decoded = root, fill, decoded
        self._augmentation, self._seed = augmentation, seed

    def __len__(self) -> int:
        return len(self.annotations.paths)

    def scale(self, row: int) -> tuple[float, float]:
        """Letterboxed pixels per image pixel in x and y."""
        height, width = (int(side) for side in self.annotations.sizes[row])
        return fit_scale(width, height, self.size[1], self.size[0])

    def __getitem__(self, key: int) -> Sample:
        """The sample of `key` = visit * N + row; see `EpochSampler` for the visit number."""
        visit, row = divmod(key, len(self))
        if self._augmentation is None:
            return self._load(row)
        # Not torch.manual_seed, which also seeds the GPU generators and takes ten times as long.
        generator = torch.default_generator
        before = generator.get_state()
        generator.manual_seed(int(np.random.SeedSequence((self._seed, visit, row)).generate_state(1)[0]))
        try:
            return self._augmentation(self._load(row), visit, self._load_random)
        finally:
            generator.set_state(before)

    def _load_random(self) -> Sample:
        return self._load(int(torch.randint(len(self), ())))

    def _load(self, row: int) -> Sample:
        height, width = (int(side) for side in self.annotations.sizes[row])
        if self._decoded is None:
            path = self._root / str(self.annotations.paths[row])
            pixels = load_letterboxed(path, self.size, self._fill, (width, height)).pixels
        else:
            pixels = self._decoded[row]
        own = slice(self.annotations.starts[row], self.annotations.starts[row + 1])
        scale = self.scale(row)
        return Sample(
            torch.from_numpy(pixels.transpose(2, 0, 1).copy()),
            torch.from_numpy(to_input_pixels(self.annotations.boxes_xyxy[own], scale).astype(np.float32)),
            torch.from_numpy(self.annotations.labels[own]),
            torch.from_numpy(self.annotations.states[own]),
            row,
            scale,
            fit_size(width, height, self.size[1], self.size[0])[::-1],
        )


class EpochSampler(Sampler[list[int]]):
    """Batches of keys visit * N + row, reshuffled each epoch; an incomplete last batch is dropped.

    The key encodes the epoch, so workers persist across epochs. The first `start_batch` batches are skipped, to resume
    within an epoch. Each of several processes takes `batch_size` samples of every global batch.

    repeat_factors [N]: mean number of repeats of each image per epoch; all epochs have the same length. The k-th
    repeat (from 0) of an image has visit epoch + k * epochs, so no key occurs twice in a training run.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int,
        *,
        repeat_factors: NDArray[np.float64] | None = None,
        epochs: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.epoch, self.start_batch = 0, 0
        self._rank, self._world_size = rank, world_size
        self._count, self._batch_size, self._seed, self._epochs = count, batch_size, seed, epochs
        # Cumulative repeat factors, scaled so that the last one is the whole number of draws per epoch.
        ends = np.arange(1.0, count + 1) if repeat_factors is None else np.cumsum(repeat_factors)
        self._draws: int = round(ends[-1])
        self._ends = ends * (self._draws / ends[-1])
        self._ends[-1] = self._draws

    def __len__(self) -> int:
        return self._draws // (self._batch_size * self._world_size)

    def __iter__(self) -> Iterator[list[int]]:
        keys = np.random.default_rng((self._seed, self.epoch)).permutation(self._keys())
        for number in range(self.start_batch, len(self)):
            first = (number * self._world_size + self._rank) * self._batch_size
            yield [int(key) for key in keys[first : first + self._batch_size]]

    def _keys(self) -> NDArray[np.int64]:
        """All keys of the epoch in order; systematic sampling draws an image floor or ceil of its factor times."""
        # A multiple of 2^-20, so that adding it to a whole number never rounds up to the next one.
        offset = int(np.random.default_rng((self._seed, self.epoch, 1)).integers(2**20)) / 2**20
        rows = np.searchsorted(self._ends, np.arange(self._draws) + offset, side="right")
        repeat = np.arange(self._draws) - np.searchsorted(rows, rows)  # earlier draws of the same row
        return (self.epoch + repeat * self._epochs) * self._count + rows


def shard_batches(count: int, batch_size: int, rank: int, world_size: int) -> list[list[int]]:
    """The batches of a split, in order, that process `rank` evaluates: every `world_size`-th one."""
    starts = range(rank * batch_size, count, world_size * batch_size)
    return [list(range(start, min(start + batch_size, count))) for start in starts]


def collate(samples: list[Sample]) -> Batch:
    """Stack samples; boxes are padded to the sample with the most objects."""
    max_objects = max(len(sample.labels) for sample in samples)
    boxes = torch.zeros(len(samples), max_objects, 4)
    labels = torch.zeros(len(samples), max_objects, dtype=torch.int64)
    states = torch.zeros(len(samples), max_objects, dtype=torch.int64)
    for index, sample in enumerate(samples):
        count = len(sample.labels)
        boxes[index, :count] = sample.boxes_xyxy
        labels[index, :count] = sample.labels
        states[index, :count] = sample.states
    return Batch(
        torch.stack([sample.image for sample in samples]),
        Targets(boxes, labels, states, torch.tensor([sample.content for sample in samples], dtype=torch.float32)),
        [sample.row for sample in samples],
        [sample.scale for sample in samples],
    )


def compute_pixel_statistics(
    annotations: Annotations, root: Path, max_images: int = 500
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Mean and standard deviation of R, G, B over about `max_images` images, as whole numbers 0..255.

    The images are spread evenly over the split and downscaled to 64 pixels. Sums are integers, so the result is
    the same on every machine.
    """
    rows = range(0, len(annotations.paths), max(1, len(annotations.paths) // max_images))
    sums, squares, count = np.zeros(3, np.int64), np.zeros(3, np.int64), 0
    for row in rows:
        height, width = (int(side) for side in annotations.sizes[row])
        scale = min(1.0, 64 / max(height, width))
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        pixels = load_letterboxed(root / str(annotations.paths[row]), size, (0, 0, 0)).pixels.astype(np.int64)
        sums += pixels.sum((0, 1))
        squares += (pixels**2).sum((0, 1))
        count += size[0] * size[1]
    mean = sums / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 1.0))
    rounded = [(round(red), round(green), round(blue)) for red, green, blue in (mean.tolist(), std.tolist())]
    return rounded[0], rounded[1]


def choose_image_size(annotations: Annotations, longest_side: int) -> tuple[int, int]:
    """(H, W), multiples of 32 with `longest_side` as the longer side, that suits the images of a split.

    The shorter side is the smallest that shrinks at most one image in twenty further: 4:3 photographs need no
    square input.
    """
    longest_sides = annotations.sizes.max(1)
    heights, widths = annotations.sizes[:, 0] / longest_sides, annotations.sizes[:, 1] / longest_sides

    def round_side(ratios: NDArray[np.float64]) -> int:
        return int(-(-np.quantile(ratios, 0.95) * longest_side // 32) * 32)

    return round_side(heights), round_side(widths)
