"""Samples by key, and the order of keys in an epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from detector.core.errors import UserError
from detector.core.pixels import letterbox
from detector.engine.annotations import Annotations
from detector.engine.dataset import (
    Batch,
    DetectionDataset,
    EpochSampler,
    Sample,
    collate,
    pack_annotations,
)
from detector.models.padding import make_content_mask
from detector.training.augmentation import Augmenter

SIZE, FILL = (64, 96), (7, 8, 9)
ALL_AUGMENTATIONS = Augmenter(0.5, (0.7, 1.5), 0.2, FILL, mosaic=0.5, mixup=0.5, crop=0.5, rotation=5.0, epochs=5)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    numbers = np.random.default_rng(0)
    for index, (width, height) in enumerate([(96, 64), (40, 40), (200, 50), (64, 96), (33, 47)]):
        Image.fromarray(numbers.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    return folder


def make_annotations() -> Annotations:
    sides = [(96, 64), (40, 40), (200, 50), (64, 96), (33, 47)]
    images = [{"id": i, "file_name": f"{i}.png", "width": w, "height": h} for i, (w, h) in enumerate(sides)]
    objects = [
        {"id": i, "image_id": i % 4, "category_id": 1 + i % 3, "bbox": [5, 6, 20, 18], "iscrowd": 0, "state": 0}
        for i in range(9)
    ]
    return pack_annotations({"images": images, "annotations": objects})


def make_dataset(root: Path, augmentation: Augmenter | None = ALL_AUGMENTATIONS) -> DetectionDataset:
    return DetectionDataset(make_annotations(), root, SIZE, FILL, augmentation=augmentation, seed=3)


def is_equal(first: Sample, second: Sample) -> bool:
    return torch.equal(first.image, second.image) and torch.equal(first.boxes_xyxy, second.boxes_xyxy)


def test_content_is_at_the_top_left(root: Path) -> None:
    data = make_dataset(root, None)
    for row in range(len(data)):
        sample = data[row]
        height, width = sample.content
        fill = torch.tensor(FILL, dtype=torch.uint8)[:, None, None]
        assert (sample.image[:, height:] == fill).all()
        assert (sample.image[:, :, width:] == fill).all()
        assert (sample.image[:, height - 1] != fill).any()
        assert (sample.image[:, :, width - 1] != fill).any()
        assert height == SIZE[0] or width == SIZE[1]


def test_an_image_of_another_size_than_annotated_is_an_error(root: Path) -> None:
    annotations = make_annotations()
    annotations.sizes[1] = 80, 80
    data = DetectionDataset(annotations, root, SIZE, FILL)
    assert data[0].row == 0
    with pytest.raises(UserError, match=r"1\.png: .* has 40x40 pixels, but its annotations are for 80x80"):
        data[1]


SIDE = st.integers(1, 200)


@settings(max_examples=40)
@given(st.lists(st.tuples(SIDE, SIDE), min_size=1, max_size=4), st.booleans())
def test_the_mask_of_a_batch_is_that_of_the_letterbox(sides: list[tuple[int, int]], augmented: bool) -> None:
    """In training, where colors are distorted and images flipped, as in evaluation."""
    fill = torch.tensor(FILL, dtype=torch.uint8)[:, None]
    white = [letterbox(Image.new("RGB", one, "white"), SIZE, FILL).pixels for one in sides]
    noise = [letterbox(Image.effect_noise(one, 90).convert("RGB"), SIZE, FILL).pixels for one in sides]
    images = [{"id": i, "file_name": "", "width": w, "height": h} for i, (w, h) in enumerate(sides)]
    annotations = pack_annotations({"images": images, "annotations": []})
    augmentation = Augmenter(0.5, (0.5, 1.8), 0.3, FILL, crop=0.5, rotation=5.0) if augmented else None
    data = DetectionDataset(annotations, Path(), SIZE, FILL, decoded=np.stack(noise), augmentation=augmentation)
    batch = collate([data[row] for row in range(len(data))])
    mask = make_content_mask(batch.targets.content, SIZE, 1)
    for row, pixels in enumerate(white):
        assert torch.equal(mask[row], torch.from_numpy((pixels == 255).all(2)))
        assert (batch.images[row][:, ~mask[row]] == fill).all()


def test_a_sample_depends_only_on_its_key(root: Path) -> None:
    data, count = make_dataset(root), len(make_annotations().paths)
    torch.manual_seed(1)
    first = [data[key] for key in range(4 * count)]
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = [data[key] for key in reversed(range(4 * count))][::-1]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(is_equal(*pair) for pair in zip(first, second, strict=True))
    for row in range(count):  # each visit of an image is augmented differently
        assert not any(is_equal(first[row], first[row + visit * count]) for visit in (1, 2, 3))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on one core
def test_batches_do_not_depend_on_the_number_of_workers(root: Path) -> None:
    def load_batches(workers: int) -> list[Batch]:
        factors = np.array([1.0, 2.5, 1.0, 1.2, 1.0])
        sampler = EpochSampler(5, 2, 3, repeat_factors=factors, epochs=5)
        return list(DataLoader(make_dataset(root), batch_sampler=sampler, num_workers=workers, collate_fn=collate))

    for without, with_two in zip(load_batches(0), load_batches(2), strict=True):
        assert without.rows == with_two.rows
        assert torch.equal(without.images, with_two.images)
        assert all(torch.equal(*pair) for pair in zip(without.targets, with_two.targets, strict=True))


def list_batches(sampler: EpochSampler, epoch: int, start_batch: int = 0) -> list[list[int]]:
    sampler.epoch, sampler.start_batch = epoch, start_batch
    return list(sampler)


def test_without_repeat_factors_an_epoch_is_a_permutation() -> None:
    sampler = EpochSampler(23, 4, 9)
    assert len(sampler) == 5
    for epoch in range(3):
        order = np.random.default_rng((9, epoch)).permutation(23)
        keys = [key for batch in list_batches(sampler, epoch) for key in batch]
        assert keys == [epoch * 23 + row for row in order.tolist()][:20]
    assert list_batches(sampler, 1, 2) == list_batches(sampler, 1)[2:]


@settings(max_examples=60)
@given(st.lists(st.floats(1, 6), min_size=1, max_size=40), st.integers(0, 1000), st.integers(1, 4))
def test_images_repeat_by_their_factor(factors: list[float], seed: int, epochs: int) -> None:
    count, draws = len(factors), round(sum(factors))
    sampler = EpochSampler(count, 1, seed, repeat_factors=np.array(factors), epochs=epochs)
    assert len(sampler) == draws
    seen_keys: set[int] = set()
    for epoch in range(epochs):
        keys = [key for batch in list_batches(sampler, epoch) for key in batch]
        assert len(keys) == draws
        assert {key // count % epochs for key in keys} == {epoch}
        seen_keys |= set(keys)
        times = np.bincount([key % count for key in keys], minlength=count)
        expected = np.array(factors) * (draws / sum(factors))
        assert (np.abs(times - expected) < 1 + 1e-9).all()
    assert len(seen_keys) == draws * epochs  # no key twice


def test_repeat_factors_hold_on_average() -> None:
    factors = np.array([1.0, 1.5, 3.25, 1.0, 2.25])
    sampler = EpochSampler(5, 1, 0, repeat_factors=factors, epochs=400)
    rows = [key % 5 for epoch in range(400) for (key,) in list_batches(sampler, epoch)]
    assert np.bincount(rows) / 400 == pytest.approx(factors, abs=0.1)


def test_an_epoch_with_repeat_factors_can_be_resumed_midway() -> None:
    sampler = EpochSampler(5, 2, 0, repeat_factors=np.array([1.0, 1.5, 3.25, 1.0, 2.25]), epochs=3)
    assert list_batches(sampler, 1, 3) == list_batches(sampler, 1)[3:]
    assert list_batches(sampler, 1) != list_batches(sampler, 2)
