"""Dealing images to train, val and test so that nothing leaks, nothing moves, and classes are balanced.

Why a lock. A rule that looks only at an image's own hash never moves it, but it cannot balance anything;
a rule that looks at all images balances, but an added image moves old ones. So the split is kept: every
image that was ever dealt is written, by the hash of its bytes, into `split.lock`, which lives in git.
Old images stay where the lock says, whatever the file is called or however it is labelled now; only new
ones are dealt, and they fill what the splits lack. Empty the lock to deal everything anew.

Units. Near-duplicates and images of one sequence are one unit and go to the same split. A new image that
joins a unit goes where the unit is. A new image that joins two old units in *different* splits would leak
wherever it went, so it is left out, and the report names it.

The result does not depend on the order in which the dataset lists its images.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from detector.core.errors import UserError
from detector.core.params import Section
from detector.manifest.manifest import SPLITS, CleanImage
from detector.manifest.union_find import linked_by_keys

IMPROVEMENT_SWEEPS = 5
Lock = dict[str, str]  # content of an image -> its split
Features = Counter[object]  # how often an image has what is kept in proportion
Unit = tuple[tuple[int, int], ...]  # the same of a unit: number of the feature, how often


class Ratios(Section):
    """Shares of the images."""

    train: float = Field(gt=0, lt=1)
    val: float = Field(gt=0, lt=1)
    test: float = Field(gt=0, lt=1)

    @model_validator(mode="after")
    def _sum_to_one(self) -> Ratios:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the ratios sum to {total:g}, expected 1")
        return self

    def of(self, split: str) -> float:
        """The share of one split."""
        return float(getattr(self, split))


class SplitParams(Section):
    """`split:` of params.yaml, where every key is explained."""

    strategy: Literal["stratified", "sequence", "random", "given"]
    ratios: Ratios
    seed: int


class Dealt(NamedTuple):
    """splits: for each image its split, or None when it is left out; new: images dealt just now."""

    splits: list[str | None]
    new: int


def deal(images: Sequence[CleanImage], lock: Lock, params: SplitParams) -> Dealt:
    """Deal whole units to splits, the lock first.

    stratified: classes and (class, state) pairs in proportion (see `_deal_units`); sequence: only the
    number of images in proportion; random: by a hash; given: what the dataset says.
    Raises UserError when the strategy needs what the dataset does not have.
    """
    if params.strategy == "given":
        return _deal_given(images)
    if params.strategy == "sequence" and not any(image.sequence for image in images):
        raise UserError(
            "params.yaml: `split.strategy` is sequence, but no image of the manifest belongs to one; use stratified"
        )
    splits: list[str | None] = [lock.get(image.content) for image in images]
    fresh: list[list[int]] = []
    for unit in units_of(images):
        old = {splits[index] for index in unit} - {None}
        if len(old) == 1:
            (home,) = old
            for index in unit:
                splits[index] = home
        elif not old:
            fresh.append(unit)
    _deal_units(fresh, images, splits, params)
    new = sum(bool(split) and image.content not in lock for image, split in zip(images, splits, strict=True))
    return Dealt(splits, new)


def _deal_given(images: Sequence[CleanImage]) -> Dealt:
    if not any(image.split for image in images):
        raise UserError(
            "params.yaml: `split.strategy` is given, but the dataset brings no lists of its own; use stratified"
        )
    return Dealt([image.split for image in images], 0)


def units_of(images: Sequence[CleanImage]) -> list[list[int]]:
    """Indices of the images that must stay together, in the order of their first image."""
    return linked_by_keys(
        [("group", image.group), ("content", image.content)] + [("sequence", image.sequence)] * bool(image.sequence)
        for image in images
    )


def _deal_units(
    fresh: list[list[int]], images: Sequence[CleanImage], splits: list[str | None], params: SplitParams
) -> None:
    """Give every fresh unit to the split that lacks most of what the unit has.

    After Sechidis et al. 2011, "On the Stratification of Multi-Label Data": the largest units first,
    then those with the rarest label; ties by a hash of the content and the seed. Then a few improving sweeps.
    """
    numbers, totals = _numbered(images, params)
    missing = _missing(images, splits, numbers, totals, params)

    def together(unit: list[int]) -> Unit:
        features: Features = sum((_features(images[index], params.strategy) for index in unit), Counter())
        return tuple((numbers[feature], count) for feature, count in features.items())

    def order(member: tuple[list[int], Unit]) -> tuple[int, int, str]:
        unit, features = member
        rarest = min(totals[feature] for feature, _ in features)
        return -len(unit), rarest, _hash(images[unit[0]].content, params.seed)

    fresh = [sorted(unit, key=lambda index: (images[index].content, images[index].image)) for unit in fresh]
    ordered = sorted(((unit, together(unit)) for unit in fresh), key=order)
    homes = []
    for unit, features in ordered:
        if params.strategy == "random":
            split = _by_hash(_hash(images[unit[0]].content, params.seed), params.ratios)
        else:
            split = max(SPLITS, key=lambda name: _need(missing[name], features, totals) / params.ratios.of(name))
        _take(missing[split], features)
        homes.append(split)
    if params.strategy != "random":
        _improve(homes, [features for _, features in ordered], missing, totals)
    for (unit, _), split in zip(ordered, homes, strict=True):
        for index in unit:
            splits[index] = split


def _numbered(images: Sequence[CleanImage], params: SplitParams) -> tuple[dict[object, int], list[int]]:
    """A number for each feature of the dataset, and how often all images have it."""
    totals: Features = Counter()
    for image in images:
        totals.update(_features(image, params.strategy))
    return {feature: number for number, feature in enumerate(totals)}, list(totals.values())


def _missing(
    images: Sequence[CleanImage], splits: Sequence[str | None], numbers: Mapping[object, int], totals: Sequence[int],
    params: SplitParams,
) -> dict[str, list[float]]:  # fmt: skip
    """How much each split lacks of each feature, by number, when these images are already in one."""
    taken = {split: [0] * len(totals) for split in SPLITS}
    for image, split in zip(images, splits, strict=True):
        if split is not None:
            for feature, count in _features(image, params.strategy).items():
                taken[split][numbers[feature]] += count
    return {
        split: [params.ratios.of(split) * total - has for total, has in zip(totals, taken[split], strict=True)]
        for split in SPLITS
    }


def _improve(homes: list[str], units: Sequence[Unit], missing: dict[str, list[float]], totals: Sequence[int]) -> None:
    """Move single units while that lowers the sum of squared shares that the splits miss or have too many."""
    for _ in range(IMPROVEMENT_SWEEPS):
        for number, unit in enumerate(units):
            home = homes[number]
            own = sum((count / totals[feature]) ** 2 for feature, count in unit)
            here = _need(missing[home], unit, totals)
            best = max(SPLITS, key=lambda name: _need(missing[name], unit, totals) if name != home else here + own)
            if best != home:
                _take(missing[home], tuple((feature, -count) for feature, count in unit))
                _take(missing[best], unit)
                homes[number] = best


def _features(image: CleanImage, strategy: str) -> Features:
    """What is kept in proportion: the image itself and, when stratified, its classes and their states."""
    features: Features = Counter({"image": 1})
    if strategy == "stratified":
        for box in image.boxes:
            features[box.label,] += 1
            features[box.label, box.state] += 1
    return features


def _need(missing: Sequence[float], unit: Unit, totals: Sequence[int]) -> float:
    """How much of what the unit has the split still lacks, each feature as a share of its total."""
    return sum((count / totals[feature]) * (missing[feature] / totals[feature]) for feature, count in unit)


def _take(missing: list[float], unit: Unit) -> None:
    for feature, count in unit:
        missing[feature] -= count


def _hash(content: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{content}".encode()).hexdigest()


def _by_hash(digest: str, ratios: Ratios) -> str:
    place = int(digest[:13], 16) / 16**13
    if place < ratios.train:
        return "train"
    return "val" if place < ratios.train + ratios.val else "test"


def check_splits(images: Sequence[CleanImage], splits: Sequence[str | None]) -> None:
    """Raise UserError, with advice, when a split is empty or train lacks a class."""
    for name in SPLITS:
        if name not in splits:
            raise UserError(
                f"split `{name}` is empty: {len(images)} images are too few for `split.ratios`, or too many of "
                "them are one sequence or near-duplicates of each other (raise `preprocess.near_duplicate`), "
                "or the dataset's own lists lack it (use `split.strategy: stratified`)"
            )
    of_train = {
        box.label for image, split in zip(images, splits, strict=True) if split == "train" for box in image.boxes
    }
    lacking = sorted({box.label for image in images for box in image.boxes} - of_train)
    if lacking:
        raise UserError(
            f"train has no box of {', '.join(lacking)}: label more images of it, list the classes to use in "
            "`preprocess.classes`, or raise `split.ratios.train`"
        )


def describe(images: Sequence[CleanImage], splits: Sequence[str | None]) -> dict[str, object]:
    """The numbers of metrics/split.json: counts, shares of each class, leaks and images left out."""
    boxes: dict[str, Counter[str]] = defaultdict(Counter)
    for image, split in zip(images, splits, strict=True):
        for box in image.boxes:
            boxes[box.label][split or "left_out"] += 1
    per_image = Counter(split or "left_out" for split in splits)
    used = sum(per_image[name] for name in SPLITS)
    shares = {
        label: {name: round(count[name] / max(1, sum(count[s] for s in SPLITS)), 4) for name in SPLITS}
        for label, count in sorted(boxes.items())
    }
    wanted = {name: per_image[name] / max(1, used) for name in SPLITS}
    deviations = [abs(share[name] - wanted[name]) * 100 for share in shares.values() for name in SPLITS]
    return {
        "images": {name: per_image[name] for name in SPLITS},
        "images_left_out": per_image["left_out"],
        "units_in_several_splits": len(straddling(images, splits)),
        "largest_deviation_in_points": round(max(deviations, default=0.0), 2),
        "class_shares": shares,
    }


def straddling(images: Sequence[CleanImage], splits: Sequence[str | None]) -> list[list[str]]:
    """Units whose images lie in several splits, as image paths: each is a leak."""
    found = []
    for unit in units_of(images):
        if len({splits[index] for index in unit} - {None}) > 1:
            found.append([images[index].image for index in unit])
    return found
