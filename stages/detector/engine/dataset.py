"""COCO files and images -> batches of uint8 tensors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from detector.core.boxes import xywh_to_xyxy
from detector.core.errors import UserError
from detector.core.images import UNREADABLE, load_letterboxed
from detector.engine.structures import Targets


class Annotations(NamedTuple):
    """A COCO file, packed into arrays: forked workers share them without copying.

    paths [N]; sizes int32 [N, 2] (height, width); image_ids int64 [N]; boxes_xyxy float32 [A, 4] in
    image pixels, labels and states int64 [A]; the boxes of image i are starts[i]:starts[i+1].
    """

    paths: NDArray[np.str_]
    sizes: NDArray[np.int32]
    image_ids: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float32]
    labels: NDArray[np.int64]
    states: NDArray[np.int64]
    starts: NDArray[np.int64]


class Names(NamedTuple):
    """Names in the order of their ids, which start at 1; `present[i]` is whether state i+1 is to be detected."""

    classes: list[str]
    states: list[str]
    present: list[bool]


def names_of(coco: dict[str, Any]) -> Names:
    """The names in a COCO dictionary written by coco-convert."""
    return Names(
        [category["name"] for category in coco["categories"]],
        [state["name"] for state in coco["states"]],
        [state["present"] for state in coco["states"]],
    )


def read_coco(path: Path) -> dict[str, Any]:
    """The dictionary of a COCO file that coco-convert wrote."""
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def present_objects(coco: dict[str, Any]) -> dict[str, Any]:
    """The same COCO dictionary with only the objects that are there to be detected."""
    absent = {state["id"] for state in coco["states"] if not state["present"]}
    kept = [annotation for annotation in coco["annotations"] if annotation["state"] not in absent]
    return {**coco, "annotations": kept}


def pack(coco: dict[str, Any]) -> Annotations:
    """The images and boxes (without crowds) of a COCO dictionary as arrays."""
    images = coco["images"]
    row = {image["id"]: index for index, image in enumerate(images)}
    usable = [annotation for annotation in coco["annotations"] if not annotation["iscrowd"]]
    usable.sort(key=lambda annotation: row[annotation["image_id"]])
    rows = np.array([row[annotation["image_id"]] for annotation in usable], dtype=np.int64)
    boxes_xywh = np.array([annotation["bbox"] for annotation in usable], dtype=np.float64).reshape(-1, 4)
    return Annotations(
        np.array([image["file_name"] for image in images]),
        np.array([(image["height"], image["width"]) for image in images], dtype=np.int32).reshape(-1, 2),
        np.array([image["id"] for image in images], dtype=np.int64),
        xywh_to_xyxy(boxes_xywh).astype(np.float32),
        np.array([annotation["category_id"] for annotation in usable], dtype=np.int64),
        np.array([annotation["state"] for annotation in usable], dtype=np.int64),
        np.searchsorted(rows, np.arange(len(images) + 1)),
    )


class Sample(NamedTuple):
    """One image with its boxes in pixels of the letterboxed image.

    image uint8 [3, H, W]; boxes_xyxy float32 [M, 4]; labels, states int64 [M]; row: in the
    annotations; scale: letterboxed pixels per image pixel; content: (height, width) of the picture, which
    lies at the top left of its padding. An augmented sample has the scale and the content from before.
    """

    image: Tensor
    boxes_xyxy: Tensor
    labels: Tensor
    states: Tensor
    row: int
    scale: float
    content: tuple[int, int]


class Batch(NamedTuple):
    """images uint8 [B, 3, H, W]; targets as in the contract; rows and scales [B] of the samples."""

    images: Tensor
    targets: Targets
    rows: list[int]
    scales: list[float]


# Takes a sample, the number of the visit and a function that draws another sample; returns a changed copy.
Augmentation = Callable[[Sample, int, Callable[[], Sample]], Sample]


def decode(path: Path, size: tuple[int, int], fill: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Letterboxed pixels [H, W, 3]. Raises UserError naming a file that cannot be read."""
    try:
        return load_letterboxed(path, size, fill).pixels
    except UNREADABLE as error:
        raise UserError(f"{path}: cannot be read any more ({error}); run `dvc repro preprocess`") from None


class DetectionDataset(Dataset[Sample]):
    """Letterboxed images of one split.

    size: (H, W); fill: RGB of the padding; decoded: uint8 [N, H, W, 3], the images where they are kept (see
    `cache`), else each is decoded when it is asked for; augmentation: applied with a generator seeded from
    (seed, visit, row), so that the number of workers changes nothing.
    """

    def __init__(
        self,
        annotations: Annotations,
        root: Path,
        size: tuple[int, int],
        fill: tuple[int, int, int],
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

    def scale(self, row: int) -> float:
        """Letterboxed pixels per image pixel."""
        height, width = self.annotations.sizes[row]
        return min(self.size[0] / int(height), self.size[1] / int(width))

    def __getitem__(self, key: int) -> Sample:
        """The sample of `key` = visit * N + row; the visit is the epoch, or see `EpochSampler`."""
        visit, row = divmod(key, len(self))
        if self._augmentation is None:
            return self._plain(row)
        # Not torch.manual_seed: it would seed the GPU's generators too, and takes ten times as long.
        generator = torch.default_generator
        before = generator.get_state()
        generator.manual_seed(int(np.random.SeedSequence((self._seed, visit, row)).generate_state(1)[0]))
        try:
            return self._augmentation(self._plain(row), visit, self._any)
        finally:
            generator.set_state(before)

    def _any(self) -> Sample:
        return self._plain(int(torch.randint(len(self), ())))

    def _plain(self, row: int) -> Sample:
        if self._decoded is None:
            pixels = decode(self._root / str(self.annotations.paths[row]), self.size, self._fill)
        else:
            pixels = self._decoded[row]
        found = slice(self.annotations.starts[row], self.annotations.starts[row + 1])
        scale = self.scale(row)
        height, width = (max(1, round(int(side) * scale)) for side in self.annotations.sizes[row])
        return Sample(
            torch.from_numpy(pixels.transpose(2, 0, 1).copy()),
            torch.from_numpy(self.annotations.boxes_xyxy[found] * np.float32(scale)),
            torch.from_numpy(self.annotations.labels[found]),
            torch.from_numpy(self.annotations.states[found]),
            row,
            scale,
            (height, width),
        )


class EpochSampler(Sampler[list[int]]):
    """Batches of keys visit * N + row, shuffled anew each epoch; the last, smaller batch is left out.

    Because the key carries the epoch, workers can live on from epoch to epoch. `start` batches of the
    epoch are passed over, as when a training goes on in the midst of it. Of several processes, `rank` takes its
    `batch_size` of each batch, so that all together take what one process with a larger batch would.

    factors [N]: how often each image comes, on average; all epochs are equally long. The visit of an image that
    comes the k-th time (from 0) in an epoch is epoch + k * epochs: no two keys of a training are the same.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int,
        factors: NDArray[np.float64] | None = None,
        epochs: int = 1,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.epoch, self.start = 0, 0
        self._rank, self._processes = rank, processes
        self._count, self._batch_size, self._seed, self._epochs = count, batch_size, seed, epochs
        # Where the images lie on a line on which one draw is as long as 1; its end is a whole number.
        ends = np.arange(1.0, count + 1) if factors is None else np.cumsum(factors)
        self._draws = round(ends[-1])
        self._ends = ends * (self._draws / ends[-1])
        self._ends[-1] = self._draws

    def __len__(self) -> int:
        return self._draws // (self._batch_size * self._processes)

    def __iter__(self) -> Iterator[list[int]]:
        keys = np.random.default_rng((self._seed, self.epoch)).permutation(self._keys())
        for number in range(self.start, len(self)):
            first = (number * self._processes + self._rank) * self._batch_size
            yield [int(key) for key in keys[first : first + self._batch_size]]

    def _keys(self) -> NDArray[np.int64]:
        """All keys of the epoch, in order: systematic sampling draws an image floor or ceil of its factor times."""
        # 20 bits, so that adding it to a whole number never rounds up to the next.
        offset = int(np.random.default_rng((self._seed, self.epoch, 1)).integers(2**20)) / 2**20
        rows = np.searchsorted(self._ends, np.arange(self._draws) + offset, side="right")
        times = np.arange(self._draws) - np.searchsorted(rows, rows)  # that the same row came before
        return (self.epoch + times * self._epochs) * self._count + rows


def batches_of(count: int, batch_size: int, rank: int, processes: int) -> list[list[int]]:
    """The batches of a split, in its order, that one of several processes looks at: every n-th of n."""
    starts = range(rank * batch_size, count, processes * batch_size)
    return [list(range(start, min(start + batch_size, count))) for start in starts]


def collate(samples: list[Sample]) -> Batch:
    """Stack samples, padding their boxes to the fullest one."""
    most = max(len(sample.labels) for sample in samples)
    boxes = torch.zeros(len(samples), most, 4)
    labels = torch.zeros(len(samples), most, dtype=torch.int64)
    states = torch.zeros(len(samples), most, dtype=torch.int64)
    for place, sample in enumerate(samples):
        count = len(sample.labels)
        boxes[place, :count] = sample.boxes_xyxy
        labels[place, :count] = sample.labels
        states[place, :count] = sample.states
    return Batch(
        torch.stack([sample.image for sample in samples]),
        Targets(boxes, labels, states),
        [sample.row for sample in samples],
        [sample.scale for sample in samples],
    )


def pixel_statistics(annotations: Annotations, root: Path, most: int = 500) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Mean and standard deviation of R, G, B over up to `most` images, as whole numbers 0..255.

    Images are spread evenly over the split and read at about 64 pixels; sums are of integers, so that
    the result is the same on any machine.
    """
    rows = range(0, len(annotations.paths), max(1, len(annotations.paths) // most))
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
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 1.0))
    return tuple(round(value) for value in mean.tolist()), tuple(round(value) for value in deviation.tolist())


def fitting_size(annotations: Annotations, longest: int) -> tuple[int, int]:
    """(H, W), multiples of 32 with `longest` as the longer side, that the images of a split fit best.

    The shorter side is as small as it can be without shrinking more than one image in twenty: photographs
    of 4:3 need no square.
    """
    heights, widths = (
        annotations.sizes[:, 0] / annotations.sizes.max(1),
        annotations.sizes[:, 1] / annotations.sizes.max(1),
    )

    def side(shares: NDArray[np.float64]) -> int:
        return int(-(-np.quantile(shares, 0.95) * longest // 32) * 32)

    return side(heights), side(widths)
