"""Assign images to train, val and test: no leaks, stable assignments, balanced classes.

Lock. Assigning each image by its own hash is stable but cannot balance classes; assigning by all images
balances them, but an added image moves old ones. So assignments are recorded: `split.lock`, which lives in
git, lists every image ever assigned, by the hash of its bytes. Old images keep their split under any file
name and with any labels; only new images are assigned, to the splits that need them most. Another seed reassigns
everything.

Units. Near-duplicates and images of one sequence form a unit and go to the same split. A new image that
joins a unit goes to the unit's split. A new image that joins two old units in *different* splits would leak
in either, so it is left out, and the stage prints its path.

The result does not depend on the order in which the dataset lists its images.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from detector.core.errors import UserError
from detector.manifest.manifest import SPLITS, CleanImage
from detector.manifest.union_find import group_by_shared_keys
from detector.splitting.settings import Ratios, SplitParams

IMPROVEMENT_SWEEPS = 5
Lock = dict[str, str]  # content hash of an image -> its split
Features = Counter[object]  # feature to be balanced -> its count
Unit = tuple[tuple[int, int], ...]  # (feature index, count) pairs of a unit


class SplitAssignment(NamedTuple):
    """splits: the split of each image, or None if it is left out; new_count: newly assigned images."""

    splits: list[str | None]
    new_count: int


def assign_splits(images: Sequence[CleanImage], lock: Lock, params: SplitParams) -> SplitAssignment:
    """Assign whole units to splits; images in the lock keep their split.

    stratified: balances images, classes and (class, state) pairs (see `_assign_new_units`); sequence: balances
    only the number of images; random: by hash; given: the dataset's own splits.
    Raises UserError if the dataset lacks what the strategy needs.
    """
    if params.strategy == "given":
        return _use_given_splits(images)
    if params.strategy == "sequence" and not any(image.sequence for image in images):
        raise UserError("params.yaml: `split.strategy` is sequence, but no image belongs to a sequence; use stratified")
    splits: list[str | None] = [lock.get(image.content) for image in images]
    new_units: list[list[int]] = []
    for unit in find_units(images):
        known = {splits[index] for index in unit} - {None}
        if len(known) == 1:
            (split,) = known
            for index in unit:
                splits[index] = split
        elif not known:
            new_units.append(unit)
    _assign_new_units(new_units, images, splits, params)
    new_count = sum(bool(split) and image.content not in lock for image, split in zip(images, splits, strict=True))
    return SplitAssignment(splits, new_count)


def _use_given_splits(images: Sequence[CleanImage]) -> SplitAssignment:
    if not any(image.split for image in images):
        raise UserError("params.yaml: `split.strategy` is given, but the dataset defines no splits; use stratified")
    several = [image for image in images if image.split and image.split not in SPLITS]
    if several:
        raise UserError(
            f"params.yaml: `split.strategy` is given, but {len(several)} images are in several lists of the dataset, "
            f"such as {several[0].image} in {several[0].split}; list each image once, or use stratified"
        )
    return SplitAssignment([image.split for image in images], 0)


def find_units(images: Sequence[CleanImage]) -> list[list[int]]:
    """Indices of the images that must stay together, in the order of their first image."""
    return group_by_shared_keys(
        [("group", image.group), ("content", image.content)] + [("sequence", image.sequence)] * bool(image.sequence)
        for image in images
    )


def _assign_new_units(
    new_units: list[list[int]], images: Sequence[CleanImage], splits: list[str | None], params: SplitParams
) -> None:
    """Assign every new unit to the split with the largest shortfall of the unit's features, in place.

    After Sechidis et al. 2011, "On the Stratification of Multi-Label Data": the largest units first,
    then those with the rarest label; ties by a hash of content and seed. A few improvement sweeps follow.
    """
    indices, totals = _index_features(images, params)
    shortfalls = _compute_shortfalls(images, splits, indices, totals, params)

    def count_unit_features(unit: list[int]) -> Unit:
        features: Features = sum((_count_features(images[index], params.strategy) for index in unit), Counter())
        return tuple((indices[feature], count) for feature, count in features.items())

    def sort_key(member: tuple[list[int], Unit]) -> tuple[int, int, str]:
        unit, features = member
        rarest = min(totals[feature] for feature, _ in features)
        return -len(unit), rarest, _hash_content(images[unit[0]].content, params.seed)

    new_units = [sorted(unit, key=lambda index: (images[index].content, images[index].image)) for unit in new_units]
    ordered = sorted(((unit, count_unit_features(unit)) for unit in new_units), key=sort_key)
    assigned = []
    for unit, features in ordered:
        if params.strategy == "random":
            split = _pick_split_by_hash(_hash_content(images[unit[0]].content, params.seed), params.ratios)
        else:
            needs = {
                name: _compute_need(shortfalls[name], features, totals) / params.ratios.get(name) for name in SPLITS
            }
            split = max(SPLITS, key=needs.__getitem__)
        _subtract(shortfalls[split], features)
        assigned.append(split)
    if params.strategy != "random":
        _improve_by_moves(assigned, [features for _, features in ordered], shortfalls, totals)
    for (unit, _), split in zip(ordered, assigned, strict=True):
        for index in unit:
            splits[index] = split


def _index_features(images: Sequence[CleanImage], params: SplitParams) -> tuple[dict[object, int], list[int]]:
    """The index of each feature, and its total count over all images."""
    totals: Features = Counter()
    for image in images:
        totals.update(_count_features(image, params.strategy))
    return {feature: index for index, feature in enumerate(totals)}, list(totals.values())


def _compute_shortfalls(
    images: Sequence[CleanImage],
    splits: Sequence[str | None],
    indices: Mapping[object, int],
    totals: Sequence[int],
    params: SplitParams,
) -> dict[str, list[float]]:
    """How much each split still needs of each feature, by feature index, given the images already assigned."""
    assigned = {split: [0] * len(totals) for split in SPLITS}
    for image, split in zip(images, splits, strict=True):
        if split is not None:
            for feature, count in _count_features(image, params.strategy).items():
                assigned[split][indices[feature]] += count
    return {
        split: [params.ratios.get(split) * total - count for total, count in zip(totals, assigned[split], strict=True)]
        for split in SPLITS
    }


def _improve_by_moves(
    assigned: list[str], units: Sequence[Unit], shortfalls: dict[str, list[float]], totals: Sequence[int]
) -> None:
    """Move single units in place while that lowers the sum of squared relative shortfalls."""
    for _ in range(IMPROVEMENT_SWEEPS):
        for index, unit in enumerate(units):
            current = assigned[index]
            own = sum((count / totals[feature]) ** 2 for feature, count in unit)
            needs = {name: _compute_need(shortfalls[name], unit, totals) for name in SPLITS}
            needs[current] += own
            best = max(SPLITS, key=needs.__getitem__)
            if best != current:
                _subtract(shortfalls[current], tuple((feature, -count) for feature, count in unit))
                _subtract(shortfalls[best], unit)
                assigned[index] = best


def _count_features(image: CleanImage, strategy: str) -> Features:
    """The features to balance: the image itself and, if stratified, its classes and (class, state) pairs."""
    features: Features = Counter({"image": 1})
    if strategy == "stratified":
        for box in image.boxes:
            features[box.label,] += 1
            features[box.label, box.state] += 1
    return features


def _compute_need(shortfall: Sequence[float], unit: Unit, totals: Sequence[int]) -> float:
    """How much a split needs the unit's features, each relative to its total."""
    return sum((count / totals[feature]) * (shortfall[feature] / totals[feature]) for feature, count in unit)


def _subtract(shortfall: list[float], unit: Unit) -> None:
    for feature, count in unit:
        shortfall[feature] -= count


def _hash_content(content: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{content}".encode()).hexdigest()


def _pick_split_by_hash(digest: str, ratios: Ratios) -> str:
    position = int(digest[:13], 16) / 16**13
    if position < ratios.train:
        return "train"
    return "val" if position < ratios.train + ratios.val else "test"


def check_splits(images: Sequence[CleanImage], splits: Sequence[str | None]) -> None:
    """Raise UserError, with advice, if a split is empty or train lacks a class."""
    for name in SPLITS:
        if name not in splits:
            raise UserError(
                f"split `{name}` is empty: either {len(images)} images are too few for `split.ratios`, or too many "
                "of them are one sequence or near-duplicates (raise `preprocess.near_duplicate_similarity`), or the "
                "dataset's own splits lack it (use `split.strategy: stratified`)"
            )
    train_labels = {
        box.label for image, split in zip(images, splits, strict=True) if split == "train" for box in image.boxes
    }
    missing = sorted({box.label for image in images for box in image.boxes} - train_labels)
    if missing:
        raise UserError(
            f"train has no box of {', '.join(missing)}: label more such images, list the classes to use in "
            "`preprocess.classes`, or raise `split.ratios.train`"
        )


def summarize_splits(images: Sequence[CleanImage], splits: Sequence[str | None]) -> dict[str, object]:
    """The contents of metrics/split/details.json: images per split, leaks, images left out, and each class's shares."""
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
    image_shares = {name: per_image[name] / max(1, used) for name in SPLITS}
    deviations = [abs(share[name] - image_shares[name]) * 100 for share in shares.values() for name in SPLITS]
    return {
        "images": {name: per_image[name] for name in SPLITS},
        "images_left_out": per_image["left_out"],
        "groups_in_several_splits": len(find_leaks(images, splits)),
        "max_class_deviation_points": round(max(deviations, default=0.0), 2),
        "class_shares": shares,
    }


def find_leaks(images: Sequence[CleanImage], splits: Sequence[str | None]) -> list[list[str]]:
    """Units whose images lie in different splits, as image paths: each is a leak."""
    leaks = []
    for unit in find_units(images):
        if len({splits[index] for index in unit} - {None}) > 1:
            leaks.append([images[index].image for index in unit])
    return leaks
