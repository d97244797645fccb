"""What is said of a split: its numbers, its mistakes, its parameters, and the lock that keeps it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from detector.core.errors import UserError
from detector.manifest.manifest import SPLITS
from detector.splitting.split_lock import read_lock, write_lock
from detector.splitting.splitting import Lock, check_splits, describe
from tests.support.manifests import image, params


def test_an_empty_split_is_an_error_with_advice() -> None:
    images = [image(number, "a") for number in range(2)]
    with pytest.raises(UserError, match=r"`test` is empty: 2 images are too few.*near_duplicate.*stratified"):
        check_splits(images, ["train", "val"])
    with pytest.raises(UserError, match="`train` is empty: 0 images"):
        check_splits([], [])


def test_a_class_that_train_lacks_is_an_error_with_advice() -> None:
    images = [image(0, "a"), image(1, "a", "c"), image(2, "b"), image(3, "d")]
    with pytest.raises(UserError, match=r"train has no box of b, c: label more.*`preprocess\.classes`.*ratios\.train"):
        check_splits(images, ["train", "val", "test", "train"])


def test_good_splits_pass() -> None:
    check_splits([image(0, "a", "b"), image(1, "a"), image(2, "b"), image(3)], ["train", "val", "test", None])


def test_description() -> None:
    images = [image(0, "a", "a"), image(1, "a"), image(2, "a", "b"), image(3, "b"), image(4)]
    assert describe(images, ["train", "val", "test", "train", None]) == {
        "images": {"train": 2, "val": 1, "test": 1},
        "images_left_out": 1,
        "units_in_several_splits": 0,
        "largest_deviation_in_points": 25.0,
        "class_shares": {
            "a": {"train": 0.5, "val": 0.25, "test": 0.25},
            "b": {"train": 0.5, "val": 0.0, "test": 0.5},
        },
    }


def test_description_of_nothing() -> None:
    assert describe([], [])["class_shares"] == {}


contents = st.text("0123456789abcdef", min_size=16, max_size=16)


@given(st.dictionaries(contents, st.sampled_from(SPLITS)))
def test_the_lock_round_trips(lock: Lock) -> None:
    text = write_lock(lock, params())
    assert read_lock(text, params()) == lock
    assert read_lock(text.replace("\n", "\r\n") + "\n \n", params()) == lock
    assert text.splitlines()[1:] == sorted(text.splitlines()[1:])


def test_the_lock_is_readable() -> None:
    assert write_lock({"ff": "val", "00": "train"}, params()) == (
        "# strategy stratified, ratios 0.7/0.15/0.15, seed 0\n00 train\nff val\n"
    )


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"strategy": "random"}, {"ratios": {"train": 0.6, "val": 0.2, "test": 0.2}}],
)
def test_a_lock_of_other_parameters_is_ignored(other: dict[str, Any]) -> None:
    assert read_lock(write_lock({"00": "train"}, params()), params(**other)) == {}


def test_no_lock() -> None:
    assert read_lock("", params()) == read_lock("\n \n", params()) == {}


HEADER = "# strategy stratified, ratios 0.7/0.15/0.15, seed 0\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEADER + "00 train\nff\n", ["split.lock:3: found 'ff'", "one of train, val, test", "lines of both sides"]),
        (HEADER + "\n\n00 valid\n", ["split.lock:4: found '00 valid'"]),
        (HEADER + "00 train extra\n", ["split.lock:2: found '00 train extra'"]),
        (HEADER + "<<<<<<< HEAD\n00 train\n", ["split.lock:2: found '<<<<<<< HEAD'", "after a merge"]),
        ("<<<<<<< HEAD\n" + HEADER, ["split.lock:1: found '<<<<<<< HEAD'", HEADER.strip(), "first line of one side"]),
        ("00 train\n", ["split.lock:1: found '00 train'"]),
        (HEADER + "00 train\nff val\n00 test\n", ["split.lock:4: 00 is in test here and in train above"]),
    ],
)
def test_a_bad_line_of_the_lock_is_named(text: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        read_lock(text, params())
    for word in words:
        assert word in str(caught.value)


def test_a_line_twice_after_a_merge_is_no_mistake() -> None:
    assert read_lock(HEADER + "00 train\n00 train\n", params()) == {"00": "train"}


@pytest.mark.parametrize(
    "ratios",
    [
        {"train": 0.7, "val": 0.2, "test": 0.2},
        {"train": 1.0, "val": 0.0, "test": 0.0},
        {"train": 0.7, "val": 0.3},
        {"train": 1.2, "val": -0.1, "test": -0.1},
    ],
)
def test_ratios_that_cannot_be(ratios: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="ratios"):
        params(ratios=ratios)


def test_ratios_that_sum_to_one_but_for_rounding() -> None:
    assert params(ratios={"train": 1 / 3, "val": 1 / 3, "test": 1 / 3}).ratios.of("val") == 1 / 3
