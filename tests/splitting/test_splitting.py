"""Splits: no leaks, stable assignments, balanced classes."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.errors import UserError
from detector.manifest.manifest import SPLITS, CleanImage
from detector.splitting.split_lock import format_lock, parse_lock, update_lock
from detector.splitting.splitting import (
    Lock,
    assign_splits,
    find_leaks,
    find_units,
    summarize_splits,
)
from tests.support.manifests import RATIOS, dataset, image, params


def shares_by_class(images: list[CleanImage], splits: list[str | None]) -> dict[str, dict[str, float]]:
    counts: dict[str, Counter[str | None]] = {}
    for each, split in zip(images, splits, strict=True):
        for box in each.boxes:
            counts.setdefault(box.label, Counter())[split] += 1
    return {label: {name: count[name] / count.total() for name in SPLITS} for label, count in counts.items()}


def assert_no_leaks(images: list[CleanImage], splits: list[str | None]) -> None:
    for key in ("group", "content", "sequence"):
        splits_by_value: dict[str, set[str]] = {}
        for each, split in zip(images, splits, strict=True):
            value = getattr(each, key)
            if split and value is not None:
                splits_by_value.setdefault(value, set()).add(split)
        assert all(len(found) == 1 for found in splits_by_value.values()), key
    assert find_leaks(images, splits) == []


def test_zero_images_and_one() -> None:
    assert assign_splits([], {}, params()) == ([], 0)
    assert assign_splits([image(1, "bolt")], {}, params()) == (["train"], 1)


def test_units_share_group_content_or_sequence() -> None:
    images = [
        image(0),
        image(1, group="data/0.jpg"),
        image(2),
        image(3, content=image(2).content),
        image(4, sequence="s"),
        image(5, sequence="s"),
        image(6, content=image(2).content),
        image(7),
        image(8, group="data/7.jpg", sequence="s"),
        image(9),
    ]
    assert find_units(images) == [[0, 1], [2, 3, 6], [4, 5, 7, 8], [9]]


def test_group_and_sequence_of_the_same_name_are_unrelated() -> None:
    assert len(find_units([image(0, group="s"), image(1, sequence="s")])) == 2


@pytest.mark.parametrize(
    ("count", "classes", "frames"), [(1000, 1, 1), (1000, 5, 1), (1000, 5, 4), (1500, 8, 2), (3000, 12, 8)]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_classes_are_within_two_points(count: int, classes: int, frames: int, seed: int) -> None:
    images = dataset(count, classes, seed, frames)
    splits, new = assign_splits(images, {}, params(seed=seed))
    assert new == count
    assert_no_leaks(images, splits)
    boxes = Counter(box.label for each in images for box in each.boxes)
    assert min(boxes.values()) > 150
    for label, shares in shares_by_class(images, splits).items():
        for name in SPLITS:
            assert abs(shares[name] - RATIOS[name]) < 0.02, (label, boxes[label], shares)
    for name in SPLITS:
        assert abs(splits.count(name) / count - RATIOS[name]) < 0.02
    assert summarize_splits(images, splits)["max_class_deviation_points"] <= 2  # type: ignore[operator]


def test_states_are_balanced() -> None:
    images = dataset(1000, 3)
    splits, _ = assign_splits(images, {}, params())
    for state in ("intact", "damaged", None):
        counts = Counter(
            split for each, split in zip(images, splits, strict=True) for box in each.boxes if box.state == state
        )
        for name in SPLITS:
            assert abs(counts[name] / counts.total() - RATIOS[name]) < 0.02


def test_other_ratios() -> None:
    images = dataset(1000, 4)
    splits, _ = assign_splits(images, {}, params(ratios={"train": 0.5, "val": 0.2, "test": 0.3}))
    assert [splits.count(name) for name in SPLITS] == pytest.approx([500, 200, 300], abs=5)


@pytest.mark.parametrize("strategy", ["stratified", "random"])
def test_classes_stay_within_two_points_while_the_dataset_grows(strategy: str) -> None:
    images = dataset(2000, 5)
    lock: Lock = {}
    for end in (300, 900, 901, 1500, 2000):
        splits, _ = assign_splits(images[:end], lock, params(strategy=strategy))
        lock = update_lock(lock, images[:end], splits)
    limit = 0.02 if strategy == "stratified" else 0.06
    for shares in shares_by_class(images, splits).values():
        assert all(abs(shares[name] - RATIOS[name]) < limit for name in SPLITS)


def test_random_depends_only_on_the_hash() -> None:
    images = dataset(2000, 3)
    splits, _ = assign_splits(images, {}, params(strategy="random"))
    assert [splits.count(name) / 2000 for name in SPLITS] == pytest.approx([0.7, 0.15, 0.15], abs=0.03)
    some, _ = assign_splits(images[500:900], {}, params(strategy="random"))
    assert some == splits[500:900]
    other, _ = assign_splits(images, {}, params(strategy="random", seed=1))
    assert other != splits


def test_sequences_stay_whole_and_image_counts_follow_the_ratios() -> None:
    images = [image(number, "bolt", sequence=f"s{number // 10}") for number in range(1000)]
    splits, _ = assign_splits(images, {}, params(strategy="sequence"))
    assert_no_leaks(images, splits)
    assert [splits.count(name) for name in SPLITS] == [700, 150, 150]


def test_sequence_without_sequences_is_an_error() -> None:
    with pytest.raises(UserError, match=r"`split\.strategy` is sequence.*stratified"):
        assign_splits(dataset(5, 1), {}, params(strategy="sequence"))


def test_given_uses_the_datasets_splits() -> None:
    given_splits = ["train", "val", "test", None]
    images = [image(number, split=split) for number, split in enumerate(given_splits)]
    assert assign_splits(images, {images[0].content: "test"}, params(strategy="given")) == (given_splits, 0)


def test_given_without_splits_is_an_error() -> None:
    with pytest.raises(UserError, match=r"`split\.strategy` is given.*stratified"):
        assign_splits(dataset(5, 1), {}, params(strategy="given"))


def test_given_splits_that_leak_are_reported() -> None:
    images = [image(0, "a", split="train"), image(1, "a", split="test", group="data/0.jpg"), image(2, split="val")]
    splits, _new = assign_splits(images, {}, params(strategy="given"))
    assert find_leaks(images, splits) == [["data/0.jpg", "data/1.jpg"]]
    assert summarize_splits(images, splits)["groups_in_several_splits"] == 1


def test_old_images_keep_their_split_when_renamed_or_relabeled() -> None:
    images = dataset(100, 3)
    splits, _ = assign_splits(images, {}, params())
    lock = update_lock({}, images, splits)
    renamed = [replace(each, image=f"new/{each.image}", group=f"new/{each.image}", boxes=()) for each in images]
    assert assign_splits(renamed, lock, params()) == (splits, 0)


def test_returning_image_gets_its_old_split() -> None:
    images = dataset(100, 3)
    splits, _ = assign_splits(images, {}, params())
    lock = update_lock({}, images, splits)
    fewer, _ = assign_splits(images[50:], lock, params())
    assert fewer == splits[50:]
    assert assign_splits(images, update_lock(lock, images[50:], fewer), params()).splits == splits


def test_new_image_joins_its_units_split() -> None:
    for split in SPLITS:
        lock = {image(0).content: split}
        joined = [image(0), image(1, group="data/0.jpg"), image(2, content=image(0).content)]
        assert assign_splits(joined, lock, params()).splits == [split] * 3


def test_new_image_that_joins_two_units_of_one_split_goes_there() -> None:
    lock = {image(0).content: "val", image(1).content: "val"}
    images = [image(0), image(1, group="data/0.jpg"), image(2, group="data/0.jpg")]
    assert assign_splits(images, lock, params()) == (["val"] * 3, 1)


def test_new_image_that_joins_units_of_different_splits_is_left_out() -> None:
    lock = {image(0).content: "train", image(1).content: "test"}
    images = [image(0, "a"), image(1, "a", group="data/0.jpg"), image(2, "a", group="data/0.jpg"), image(3, "a")]
    splits, new = assign_splits(images, lock, params())
    assert splits[:3] == ["train", "test", None]
    assert new == 1
    metrics = summarize_splits(images, splits)
    assert metrics["images_left_out"] == 1
    assert update_lock(lock, images, splits).keys() == {images[0].content, images[1].content, images[3].content}
    assert assign_splits(images, update_lock(lock, images, splits), params()).splits == splits


@st.composite
def histories(draw: st.DrawFn) -> list[list[CleanImage]]:
    """Growing versions of a dataset; each new image may join one or more old units."""
    versions: list[list[CleanImage]] = [[]]
    for _ in range(draw(st.integers(2, 4))):
        images = list(versions[-1])
        for _ in range(draw(st.integers(1, 12))):
            labels = draw(st.lists(st.sampled_from(["a", "b:intact", "b:damaged"]), max_size=3))
            sequence = draw(st.none() | st.sampled_from(["s1", "s2"]))
            new = image(len(images), *labels, sequence=sequence)
            for other in draw(st.lists(st.integers(0, max(0, len(images) - 1)), max_size=2)) if images else []:
                names = {new.group, images[other].group}  # like preprocess: all get the name of one group
                images = [replace(each, group=min(names)) if each.group in names else each for each in images]
                new = replace(new, group=min(names))
            if images and draw(st.integers(0, 9)) == 0:
                new = replace(new, content=images[draw(st.integers(0, len(images) - 1))].content)
            images.append(new)
        versions.append(images)
    return versions[1:]


@settings(max_examples=100)
@given(histories(), st.sampled_from(["stratified", "random", "sequence"]), st.integers(0, 3))
def test_added_images_never_move_old_ones(versions: list[list[CleanImage]], strategy: str, seed: int) -> None:
    chosen = params(strategy=strategy, seed=seed)
    lock: Lock = {}
    before: list[str | None] = []
    for images in versions:
        if strategy == "sequence" and not any(each.sequence for each in images):
            return
        splits, new = assign_splits(images, lock, chosen)
        old = [split for split in before if split]
        assert [split for split, previous in zip(splits, before, strict=False) if previous] == old
        assert new == sum(each.content not in lock for each, split in zip(images, splits, strict=True) if split)
        for unit in find_units(images):
            added = {splits[index] for index in unit if images[index].content not in lock} - {None}
            known = {lock[images[index].content] for index in unit if images[index].content in lock}
            assert len(added | known) <= 1 or (len(known) > 1 and not added), "a new image leaks"
            if len(known) <= 1:
                assert all(splits[index] for index in unit), "an image is left out unnecessarily"
        lock = update_lock(parse_lock(format_lock(lock, chosen), chosen), images, splits)
        before = splits


@settings(max_examples=40)
@given(histories(), st.randoms(use_true_random=False), st.sampled_from(["stratified", "random", "sequence"]))
def test_image_order_does_not_matter(versions: list[list[CleanImage]], shuffler: random.Random, strategy: str) -> None:
    first, images = versions[0], versions[-1]
    if strategy == "sequence" and not any(each.sequence for each in first):
        return
    lock = update_lock({}, first, assign_splits(first, {}, params(strategy=strategy)).splits)
    for known in ({}, lock):
        splits, new = assign_splits(images, known, params(strategy=strategy))
        order = list(range(len(images)))
        shuffler.shuffle(order)
        again = assign_splits([images[index] for index in order], known, params(strategy=strategy))
        assert again.new_count == new
        assert again.splits == [splits[index] for index in order]


def test_image_order_does_not_matter_for_a_large_dataset() -> None:
    images = dataset(600, 6, frames=3)
    splits = dict(zip((each.image for each in images), assign_splits(images, {}, params()).splits, strict=True))
    backwards = images[::-1]
    assert assign_splits(backwards, {}, params()).splits == [splits[each.image] for each in backwards]


def test_another_seed_changes_the_assignment() -> None:
    images = dataset(100, 3)
    assert assign_splits(images, {}, params()).splits != assign_splits(images, {}, params(seed=1)).splits
