"""Splits: nothing moves, nothing leaks, and classes are balanced."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.errors import UserError
from detector.manifest.manifest import SPLITS, CleanImage
from detector.splitting.split_lock import read_lock, updated_lock, write_lock
from detector.splitting.splitting import (
    Lock,
    deal,
    describe,
    straddling,
    units_of,
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
        homes: dict[str, set[str]] = {}
        for each, split in zip(images, splits, strict=True):
            name = getattr(each, key)
            if split and name is not None:
                homes.setdefault(name, set()).add(split)
        assert all(len(found) == 1 for found in homes.values()), key
    assert straddling(images, splits) == []


def test_no_images_and_one() -> None:
    assert deal([], {}, params()) == ([], 0)
    assert deal([image(1, "bolt")], {}, params()) == (["train"], 1)


def test_units_are_joined_by_group_content_and_sequence() -> None:
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
    assert units_of(images) == [[0, 1], [2, 3, 6], [4, 5, 7, 8], [9]]


def test_a_group_and_a_sequence_of_the_same_name_are_two_things() -> None:
    assert len(units_of([image(0, group="s"), image(1, sequence="s")])) == 2


@pytest.mark.parametrize(
    ("count", "classes", "frames"), [(1000, 1, 1), (1000, 5, 1), (1000, 5, 4), (1500, 8, 2), (3000, 12, 8)]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_classes_are_within_two_points(count: int, classes: int, frames: int, seed: int) -> None:
    images = dataset(count, classes, seed, frames)
    splits, new = deal(images, {}, params(seed=seed))
    assert new == count
    assert_no_leaks(images, splits)
    boxes = Counter(box.label for each in images for box in each.boxes)
    assert min(boxes.values()) > 150
    for label, shares in shares_by_class(images, splits).items():
        for name in SPLITS:
            assert abs(shares[name] - RATIOS[name]) < 0.02, (label, boxes[label], shares)
    for name in SPLITS:
        assert abs(splits.count(name) / count - RATIOS[name]) < 0.02
    assert describe(images, splits)["largest_deviation_in_points"] <= 2


def test_states_are_balanced_too() -> None:
    images = dataset(1000, 3)
    splits, _ = deal(images, {}, params())
    for state in ("intact", "damaged", None):
        of_state = Counter(
            split for each, split in zip(images, splits, strict=True) for box in each.boxes if box.state == state
        )
        for name in SPLITS:
            assert abs(of_state[name] / of_state.total() - RATIOS[name]) < 0.02


def test_other_ratios() -> None:
    images = dataset(1000, 4)
    splits, _ = deal(images, {}, params(ratios={"train": 0.5, "val": 0.2, "test": 0.3}))
    assert [splits.count(name) for name in SPLITS] == pytest.approx([500, 200, 300], abs=5)


@pytest.mark.parametrize("strategy", ["stratified", "random"])
def test_classes_stay_within_two_points_while_the_dataset_grows(strategy: str) -> None:
    images = dataset(2000, 5)
    lock: Lock = {}
    for end in (300, 900, 901, 1500, 2000):
        splits, _ = deal(images[:end], lock, params(strategy=strategy))
        lock = updated_lock(lock, images[:end], splits)
    limit = 0.02 if strategy == "stratified" else 0.06
    for shares in shares_by_class(images, splits).values():
        assert all(abs(shares[name] - RATIOS[name]) < limit for name in SPLITS)


def test_random_follows_the_hash_alone() -> None:
    images = dataset(2000, 3)
    splits, _ = deal(images, {}, params(strategy="random"))
    assert [splits.count(name) / 2000 for name in SPLITS] == pytest.approx([0.7, 0.15, 0.15], abs=0.03)
    some, _ = deal(images[500:900], {}, params(strategy="random"))
    assert some == splits[500:900]
    other, _ = deal(images, {}, params(strategy="random", seed=1))
    assert other != splits


def test_sequences_stay_whole_and_the_images_are_in_proportion() -> None:
    images = [image(number, "bolt", sequence=f"s{number // 10}") for number in range(1000)]
    splits, _ = deal(images, {}, params(strategy="sequence"))
    assert_no_leaks(images, splits)
    assert [splits.count(name) for name in SPLITS] == [700, 150, 150]


def test_sequence_without_sequences_is_an_error() -> None:
    with pytest.raises(UserError, match=r"`split\.strategy` is sequence, but no image.*use stratified"):
        deal(dataset(5, 1), {}, params(strategy="sequence"))


def test_given_is_what_the_dataset_says() -> None:
    homes = ["train", "val", "test", None]
    images = [image(number, split=home) for number, home in enumerate(homes)]
    assert deal(images, {images[0].content: "test"}, params(strategy="given")) == (homes, 0)


def test_given_without_lists_is_an_error() -> None:
    with pytest.raises(UserError, match=r"is given, but the dataset brings no lists of its own; use stratified"):
        deal(dataset(5, 1), {}, params(strategy="given"))


def test_given_lists_that_leak_are_reported() -> None:
    images = [image(0, "a", split="train"), image(1, "a", split="test", group="data/0.jpg"), image(2, split="val")]
    splits, _new = deal(images, {}, params(strategy="given"))
    assert straddling(images, splits) == [["data/0.jpg", "data/1.jpg"]]
    assert describe(images, splits)["units_in_several_splits"] == 1


def test_old_images_stay_whatever_they_are_called_and_hold() -> None:
    images = dataset(100, 3)
    splits, _ = deal(images, {}, params())
    lock = updated_lock({}, images, splits)
    renamed = [replace(each, image=f"new/{each.image}", group=f"new/{each.image}", boxes=()) for each in images]
    assert deal(renamed, lock, params()) == (splits, 0)


def test_an_image_that_comes_back_finds_its_place() -> None:
    images = dataset(100, 3)
    splits, _ = deal(images, {}, params())
    lock = updated_lock({}, images, splits)
    fewer, _ = deal(images[50:], lock, params())
    assert fewer == splits[50:]
    assert deal(images, updated_lock(lock, images[50:], fewer), params()).splits == splits


def test_a_new_image_goes_where_its_unit_is() -> None:
    for home in SPLITS:
        lock = {image(0).content: home}
        joined = [image(0), image(1, group="data/0.jpg"), image(2, content=image(0).content)]
        assert deal(joined, lock, params()).splits == [home] * 3


def test_a_new_image_that_joins_two_old_units_of_one_split_goes_there() -> None:
    lock = {image(0).content: "val", image(1).content: "val"}
    images = [image(0), image(1, group="data/0.jpg"), image(2, group="data/0.jpg")]
    assert deal(images, lock, params()) == (["val"] * 3, 1)


def test_a_new_image_that_joins_two_old_units_in_different_splits_is_left_out() -> None:
    lock = {image(0).content: "train", image(1).content: "test"}
    images = [image(0, "a"), image(1, "a", group="data/0.jpg"), image(2, "a", group="data/0.jpg"), image(3, "a")]
    splits, new = deal(images, lock, params())
    assert splits[:3] == ["train", "test", None]
    assert new == 1
    metrics = describe(images, splits)
    assert metrics["images_left_out"] == 1
    assert updated_lock(lock, images, splits).keys() == {images[0].content, images[1].content, images[3].content}
    assert deal(images, updated_lock(lock, images, splits), params()).splits == splits


@st.composite
def histories(draw: st.DrawFn) -> list[list[CleanImage]]:
    """A dataset after each of a few additions: images that may join old units, and several of them."""
    versions: list[list[CleanImage]] = [[]]
    for _ in range(draw(st.integers(2, 4))):
        images = list(versions[-1])
        for _ in range(draw(st.integers(1, 12))):
            labels = draw(st.lists(st.sampled_from(["a", "b:intact", "b:damaged"]), max_size=3))
            sequence = draw(st.none() | st.sampled_from(["s1", "s2"]))
            new = image(len(images), *labels, sequence=sequence)
            for other in draw(st.lists(st.integers(0, max(0, len(images) - 1)), max_size=2)) if images else []:
                names = {new.group, images[other].group}  # as preprocess does it: all get one group's name
                images = [replace(each, group=min(names)) if each.group in names else each for each in images]
                new = replace(new, group=min(names))
            if images and draw(st.integers(0, 9)) == 0:
                new = replace(new, content=images[draw(st.integers(0, len(images) - 1))].content)
            images.append(new)
        versions.append(images)
    return versions[1:]


@settings(max_examples=100, deadline=None)
@given(histories(), st.sampled_from(["stratified", "random", "sequence"]), st.integers(0, 3))
def test_adding_images_never_moves_an_old_one(versions: list[list[CleanImage]], strategy: str, seed: int) -> None:
    chosen = params(strategy=strategy, seed=seed)
    lock: Lock = {}
    before: list[str | None] = []
    for images in versions:
        if strategy == "sequence" and not any(each.sequence for each in images):
            return
        splits, new = deal(images, lock, chosen)
        old = [home for home in before if home]
        assert [home for home, was in zip(splits, before, strict=False) if was] == old
        assert new == sum(each.content not in lock for each, home in zip(images, splits, strict=True) if home)
        for unit in units_of(images):
            homes = {splits[index] for index in unit if images[index].content not in lock} - {None}
            known = {lock[images[index].content] for index in unit if images[index].content in lock}
            assert len(homes | known) <= 1 or (len(known) > 1 and not homes), "a new image leaks"
            if len(known) <= 1:
                assert all(splits[index] for index in unit), "an image is left out without need"
        lock = updated_lock(read_lock(write_lock(lock, chosen), chosen), images, splits)
        before = splits


@settings(max_examples=40, deadline=None)
@given(histories(), st.randoms(use_true_random=False), st.sampled_from(["stratified", "random", "sequence"]))
def test_the_order_of_the_images_changes_nothing(
    versions: list[list[CleanImage]], shuffler: random.Random, strategy: str
) -> None:
    first, images = versions[0], versions[-1]
    if strategy == "sequence" and not any(each.sequence for each in first):
        return
    lock = updated_lock({}, first, deal(first, {}, params(strategy=strategy)).splits)
    for known in ({}, lock):
        splits, new = deal(images, known, params(strategy=strategy))
        order = list(range(len(images)))
        shuffler.shuffle(order)
        again = deal([images[index] for index in order], known, params(strategy=strategy))
        assert again.new == new
        assert again.splits == [splits[index] for index in order]


def test_the_order_of_a_large_dataset_changes_nothing() -> None:
    images = dataset(600, 6, frames=3)
    splits = dict(zip((each.image for each in images), deal(images, {}, params()).splits, strict=True))
    turned = images[::-1]
    assert deal(turned, {}, params()).splits == [splits[each.image] for each in turned]


def test_another_seed_deals_otherwise() -> None:
    images = dataset(100, 3)
    assert deal(images, {}, params()).splits != deal(images, {}, params(seed=1)).splits
