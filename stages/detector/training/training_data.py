"""The datasets of a training, read from the COCO files of train and val."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from detector.core.errors import UserError
from detector.engine.dataset import (
    Annotations,
    LabelNames,
    keep_present_objects,
    load_coco,
    pack_annotations,
    read_label_names,
)
from detector.engine.distributed import world_size
from detector.models.recipe import Recipe
from detector.models.state_head import StateConfig, compute_state_weights

SPLITS = ("train", "val")


class TrainingData(NamedTuple):
    """coco: dictionaries of train and val. annotations: of train. val_truth: the objects of val to be detected."""

    coco: dict[str, dict[str, Any]]
    annotations: Annotations
    val_truth: dict[str, Any]
    names: LabelNames
    states: StateConfig


def load_training_data(folder: Path, recipe: Recipe) -> TrainingData:
    """Load train.json and val.json of `folder`. Raises UserError when they do not suffice for a training."""
    coco = {split: load_coco(folder / f"{split}.json") for split in SPLITS}
    names = read_label_names(coco["train"])
    states = build_state_config(coco["train"], names, recipe.state_loss_weight)
    val_truth = keep_present_objects(coco["val"])
    if not states.present:  # only a state head can learn from absent objects
        coco = {split: keep_present_objects(objects) for split, objects in coco.items()}
    annotations = pack_annotations(coco["train"])
    check_training_data(folder, annotations, val_truth, recipe)
    return TrainingData(coco, annotations, val_truth, names, states)


def build_state_config(coco: dict[str, Any], names: LabelNames, loss_weight: float) -> StateConfig:
    """Configure the state head; empty without states or with a loss weight of 0."""
    if not names.states or loss_weight == 0:
        return StateConfig()
    counts = Counter(annotation["state"] for annotation in coco["annotations"])
    weights = compute_state_weights([counts[state_id] for state_id in range(1, len(names.states) + 1)])
    return StateConfig(tuple(names.present), weights, loss_weight)


def check_training_data(folder: Path, annotations: Annotations, val_truth: dict[str, Any], recipe: Recipe) -> None:
    """Raise UserError when train has no objects or fewer images than a batch, or val has no ground truth."""
    count = len(annotations.paths)
    if not len(annotations.labels):
        raise UserError(f"{folder}/train.json: nothing to train on: no present object in {count} images")
    if all(annotation["iscrowd"] for annotation in val_truth["annotations"]):
        raise UserError(f"{folder}/val.json: cannot select the best epoch: no ground truth in val")
    if recipe.batch_size * world_size() > count:
        per_process = f" in each of {world_size()} processes" if world_size() > 1 else ""
        raise UserError(
            f"params.yaml: `train.batch_size` is {recipe.batch_size}{per_process}, but train has {count} images"
        )


def hash_coco_files(folder: Path) -> str:
    """SHA-256 of train.json and val.json, which contain a hash of each image."""
    return hashlib.sha256(b"".join((folder / f"{split}.json").read_bytes() for split in SPLITS)).hexdigest()
