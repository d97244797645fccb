"""The summary of a split, its errors and parameters, and the lock file."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from detector.core.errors import UserError
from detector.manifest.manifest import SPLITS
from detector.splitting.split_lock import format_lock, parse_lock, parse_whole_lock
from detector.splitting.splitting import Lock, check_splits, summarize_splits
from tests.support.manifests import image, params


def test_empty_split_is_an_error_with_advice() -> None:
    images = [image(number, "a") for number in range(2)]
    with pytest.raises(UserError, match=r"`test` is empty.*2 images.*near_duplicate.*stratified"):
        check_splits(images, ["train", "val"])
    with pytest.raises(UserError, match=r"`train` is empty.*0 images"):
        check_splits([], [])


def test_class_missing_from_train_is_an_error_with_advice() -> None:
    images = [image(0, "a"), image(1, "a", "c"), image(2, "b"), image(3, "d")]
    with pytest.raises(UserError, match=r"train has no box of b, c.*`preprocess\.classes`.*ratios\.train"):
        check_splits(images, ["train", "val", "test", "train"])


def test_valid_splits_pass() -> None:
    check_splits([image(0, "a", "b"), image(1, "a"), image(2, "b"), image(3)], ["train", "val", "test", None])


def test_summary() -> None:
    images = [image(0, "a", "a"), image(1, "a"), image(2, "a", "b"), image(3, "b"), image(4)]
    assert summarize_splits(images, ["train", "val", "test", "train", None]) == {
        "images": {"train": 2, "val": 1, "test": 1},
        "images_left_out": 1,
        "groups_in_several_splits": 0,
        "max_class_deviation_points": 25.0,
        "class_shares": {
            "a": {"train": 0.5, "val": 0.25, "test": 0.25},
            "b": {"train": 0.5, "val": 0.0, "test": 0.5},
        },
    }


def test_summary_of_no_images() -> None:
    assert summarize_splits([], [])["class_shares"] == {}


contents = st.text("0123456789abcdef", min_size=16, max_size=16)


@given(st.dictionaries(contents, st.sampled_from(SPLITS)))
def test_lock_round_trips(lock: Lock) -> None:
    text = format_lock(lock, params())
    assert parse_lock(text, params()) == lock
    assert parse_lock(text.replace("\n", "\r\n") + "\n \n", params()) == lock
    assert text.splitlines()[1:] == sorted(text.splitlines()[1:])


def test_lock_is_readable() -> None:
    assert format_lock({"ff": "val", "00": "train"}, params()) == (
        "# strategy stratified, ratios 0.7/0.15/0.15, seed 0\n00 train\nff val\n"
    )


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"strategy": "random"}, {"ratios": {"train": 0.6, "val": 0.2, "test": 0.2}}],
)
def test_lock_of_other_parameters_is_ignored(other: dict[str, Any]) -> None:
    assert parse_lock(format_lock({"00": "train"}, params()), params(**other)) == {}


def test_empty_lock() -> None:
    assert parse_lock("", params()) == parse_lock("\n \n", params()) == {}


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
        (HEADER + "00 train\nff val\n00 test\n", ["split.lock:4: 00 is in test here but in train above"]),
    ],
)
def test_invalid_line_of_the_lock_is_named(text: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        parse_lock(text, params())
    for word in words:
        assert word in str(caught.value)


def test_repeated_line_after_a_merge_is_accepted() -> None:
    assert parse_lock(HEADER + "00 train\n00 train\n", params()) == {"00": "train"}


IMAGES = [image(number) for number in range(12)]
LOCK = {each.content: SPLITS[number % 3] for number, each in enumerate(IMAGES)}


def test_a_truncated_lock_is_an_error_or_the_same_lock() -> None:
    """Cut at every byte, with the whole one committed; 10 and 1 are both seeds."""
    section = params(seed=10)
    whole = format_lock(LOCK, section)
    for length in range(len(whole)):
        with pytest.raises(UserError, match=r"split\.lock"):
            parse_whole_lock(whole[:length], whole, IMAGES, section)
    assert parse_whole_lock(whole, whole, IMAGES, section) == LOCK


def test_a_lock_may_lack_only_what_the_commit_does_not_assign_here() -> None:
    whole = format_lock(LOCK, params())
    without_first = format_lock(dict(list(LOCK.items())[1:]), params())
    assert parse_whole_lock(whole, without_first, IMAGES, params()) == LOCK
    assert len(parse_whole_lock(without_first, whole, IMAGES[1:], params())) == len(LOCK) - 1
    with pytest.raises(UserError, match=f"lacks the split of 1 images.*{IMAGES[0].image}.*git checkout split.lock"):
        parse_whole_lock(without_first, whole, IMAGES, params())
    with pytest.raises(UserError, match=r"of 12 images.*split\.seed"):
        parse_whole_lock("", whole, IMAGES, params())


def test_other_parameters_deal_anew_and_a_broken_commit_says_nothing() -> None:
    whole = format_lock(LOCK, params())
    assert parse_whole_lock("", whole, IMAGES, params(seed=1)) == {}
    assert parse_whole_lock(format_lock({}, params(seed=1)), whole, IMAGES, params()) == {}
    assert parse_whole_lock("", "<<<<<<< HEAD\n" + whole, IMAGES, params()) == {}
    assert parse_whole_lock("", "", IMAGES, params()) == {}


@pytest.mark.parametrize(
    "ratios",
    [
        {"train": 0.7, "val": 0.2, "test": 0.2},
        {"train": 1.0, "val": 0.0, "test": 0.0},
        {"train": 0.7, "val": 0.3},
        {"train": 1.2, "val": -0.1, "test": -0.1},
    ],
)
def test_invalid_ratios(ratios: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="ratios"):
        params(ratios=ratios)


def test_ratios_may_sum_to_one_within_rounding() -> None:
    assert params(ratios={"train": 1 / 3, "val": 1 / 3, "test": 1 / 3}).ratios.get("val") == 1 / 3
