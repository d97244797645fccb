"""The datasets of a training, read from the COCO files of train and val."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from detector.core.errors import UserError
from detector.engine.annotations import AnnotationPacker, Annotations
from detector.engine.coco_stream import read_ground_truth, read_packed
from detector.engine.dataset import LabelNames
from detector.engine.distributed import world_size
from detector.engine.ground_truth import GroundTruth
from detector.models.recipe import Recipe
from detector.models.state_head import StateConfig, compute_state_weights

SPLITS = ("train", "val")


class TrainingData(NamedTuple):
    """annotations: of train and val. val_truth: the objects of val to be detected."""

    annotations: dict[str, Annotations]
    val_truth: GroundTruth
    names: LabelNames
    states: StateConfig


def load_training_data(folder: Path, recipe: Recipe) -> TrainingData:
    """Load train.json and val.json of `folder`. Raises UserError when they do not suffice for a training."""
    packer = AnnotationPacker()
    train, names = read_packed(folder / "train.json", packer)
    states = build_state_config(names, packer.state_counts, recipe.state_loss_weight)
    del packer  # before more is read
    truth = read_ground_truth(folder / "val.json")
    val = truth.pack_annotations()
    present_val = drop_absent_objects(val, names)
    if not states.present:  # only a state head can learn from absent objects
        train, val = drop_absent_objects(train, names), present_val
    check_training_data(folder, train, present_val, recipe)
    return TrainingData({"train": train, "val": val}, truth.keep_present(), names, states)


def build_state_config(names: LabelNames, counts: Mapping[int, int], loss_weight: float) -> StateConfig:
    """Configure the state head; empty without states or with a loss weight of 0. counts: objects by state id."""
    if not names.states or loss_weight == 0:
        return StateConfig()
    weights = compute_state_weights([counts.get(state_id, 0) for state_id in range(1, len(names.states) + 1)])
    return StateConfig(tuple(names.present), weights, loss_weight)


def drop_absent_objects(annotations: Annotations, names: LabelNames) -> Annotations:
    """The annotations without the objects in an absent state."""
    absent = [state for state, present in enumerate(names.present, 1) if not present]
    kept = ~np.isin(annotations.states, absent)
    return annotations._replace(
        boxes_xyxy=annotations.boxes_xyxy[kept],
        labels=annotations.labels[kept],
        states=annotations.states[kept],
        starts=np.append(0, np.cumsum(kept))[annotations.starts],
    )


def check_training_data(folder: Path, annotations: Annotations, present_val: Annotations, recipe: Recipe) -> None:
    """Raise UserError when train has no objects or fewer images than a batch, or val has no ground truth."""
    count = len(annotations.paths)
    if not len(annotations.labels):
        raise UserError(f"{folder}/train.json: nothing to train on: no present object in {count} images")
    if not len(present_val.labels):
        raise UserError(f"{folder}/val.json: cannot select the best epoch: no ground truth in val")
    if recipe.batch_size * world_size() > count:
        per_process = f" in each of {world_size()} processes" if world_size() > 1 else ""
        raise UserError(
            f"params.yaml: `train.batch_size` is {recipe.batch_size}{per_process}, but train has {count} images"
        )


def hash_coco_files(folder: Path) -> str:
    """SHA-256 of train.json and val.json, which contain a hash of each image."""
    digest = hashlib.sha256()
    for split in SPLITS:
        with (folder / f"{split}.json").open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()
