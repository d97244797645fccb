"""Train the detector that params.yaml names.

command  python stages/train.py
reads    params.yaml (train), data/coco/{train,val}.json and the images they name
writes   models/detector.{safetensors,json} (the averaged weights of the best epoch by validation AP),
         metrics/train/ (DVCLive), logs/train.json (times; ignored by git)
time     about 90 s for the sample with `simple` on 2 cores
"""

from __future__ import annotations

import difflib
import hashlib
import json
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from detector.environment import check_torch, keep_freed_memory

check_torch()  # before the imports below, where a mismatched pair fails obscurely

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from detector.checkpoint import Card, save_checkpoint
from detector.data.augmentation import Augment
from detector.data.dataset import (
    Annotations,
    DetectionDataset,
    EpochSampler,
    Names,
    collate,
    fitting_size,
    names_of,
    pack,
    pixel_statistics,
    present_objects,
    read_coco,
)
from detector.errors import UserError, run_command
from detector.evaluation.coco_metrics import coco_numbers, evaluate_boxes
from detector.evaluation.predictions import predict
from detector.models import MODELS, Model
from detector.models.normalization import PixelStatistics
from detector.models.postprocess import Postprocess
from detector.models.recipe import Recipe
from detector.models.state_head import States, state_weights
from detector.params import load_section
from detector.seeding import make_deterministic
from detector.training.history import History
from detector.training.loop import train_one_epoch
from detector.training.optimization import AveragedWeights, Schedule, make_optimizer
from detector.training.settings import TrainParams, resolve

COCO = Path("data/coco")
CHECKPOINT = Path("models/detector.safetensors")
LOG = Path("metrics/train")
TIMES = Path("logs/train.json")


class Data(NamedTuple):
    """Both splits as loaders, and what validation and the card need."""

    train: DataLoader[Any]
    sampler: EpochSampler
    val: DataLoader[Any]
    val_truth: dict[str, Any]
    val_annotations: Annotations


def main() -> None:
    started = time.monotonic()
    params = load_section(Path("params.yaml"), "train", TrainParams)
    kind = find_model(params)
    recipe = resolve(params, kind.recipe, pretrained(params, kind))
    make_deterministic(params.seed, params.threads)
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    coco = {split: read_coco(COCO / f"{split}.json") for split in ("train", "val")}
    names = names_of(coco["train"])
    states = states_of(coco["train"], names, recipe.state_weight)
    val_truth = present_objects(coco["val"])
    if not states.present:  # an object that is not there can only teach its state
        coco = {split: present_objects(objects) for split, objects in coco.items()}
    annotations = pack(coco["train"])
    check_data(annotations, recipe)
    statistics = (
        kind.statistics if pretrained(params, kind) else PixelStatistics(*pixel_statistics(annotations, Path()))
    )
    size = params.size if isinstance(params.size, tuple) else fitting_size(annotations, recipe.size)
    data = load_data(coco, val_truth, params, recipe, size, statistics)
    model = kind.build(len(names.classes), states, statistics, Postprocess(), weights_of(params, kind))
    model = model.to(device).to(memory_format=torch.channels_last)
    describe(model, params, recipe, size, data)
    best = fit(model, data, recipe, device)
    card = Card(
        params.model, names.classes, names.states if states.present else [], size,
        statistics.mean, statistics.deviation, asdict(recipe), params.seed, data_hash(), best.validation,
    )  # fmt: skip
    save_checkpoint(CHECKPOINT, best.weights, card)
    TIMES.parent.mkdir(exist_ok=True)
    TIMES.write_text(json.dumps({"seconds": round(time.monotonic() - started, 1)}) + "\n")
    reached = best.validation
    print(f"best epoch {reached['epoch']}: AP {reached['AP']:.3f}, AP50 {reached['AP50']:.3f} on val")


def find_model(params: TrainParams) -> Model:
    """The table's line for `train.model`, with `train.weights` checked."""
    if params.model not in MODELS:
        near = difflib.get_close_matches(params.model, MODELS, n=1, cutoff=0.0)[0]
        raise UserError(
            f"params.yaml: `train.model` is {params.model!r}; known are {', '.join(MODELS)}. Did you mean {near}?"
        )
    kind = MODELS[params.model]
    if params.weights not in ("auto", *kind.weights):
        raise UserError(
            f"params.yaml: `train.weights` is {params.weights!r}; {params.model} takes auto, {', '.join(kind.weights)}"
        )
    return kind


def weights_of(params: TrainParams, kind: Model) -> str:
    """`auto` is the best that the model has."""
    return kind.weights[0] if params.weights == "auto" else params.weights


def pretrained(params: TrainParams, kind: Model) -> bool:
    """Whether the weights expect ImageNet's normalization."""
    return weights_of(params, kind) != "none"


def states_of(coco: dict[str, Any], names: Names, loss_weight: float) -> States:
    """What the state head has to know; no head without states, or with `train.state_weight: 0`."""
    if not names.states or loss_weight == 0:
        return States()
    counts = Counter(annotation["state"] for annotation in coco["annotations"])
    weights = state_weights([counts[number] for number in range(1, len(names.states) + 1)])
    return States(tuple(names.present), weights, loss_weight)


def check_data(annotations: Annotations, recipe: Recipe) -> None:
    """Stop when there is nothing to learn from, or not even one batch."""
    if not len(annotations.labels):
        raise UserError(f"{COCO}/train.json: no present object in {len(annotations.paths)} images, nothing to train on")
    if recipe.batch_size > len(annotations.paths):
        raise UserError(
            f"params.yaml: `train.batch_size` is {recipe.batch_size}, but train has {len(annotations.paths)} images"
        )


def load_data(
    coco: dict[str, Any],
    val_truth: dict[str, Any],
    params: TrainParams,
    recipe: Recipe,
    size: tuple[int, int],
    statistics: PixelStatistics,
) -> Data:
    """The loaders of both splits; only train is augmented and shuffled."""
    fill = (statistics.mean[0], statistics.mean[1], statistics.mean[2])
    augment = Augment(recipe.flip, recipe.zoom, recipe.distortion, fill)
    cache = int(params.cache_gb * 2**30)
    train = DetectionDataset(pack(coco["train"]), Path(), size, fill, cache, augment, params.seed)
    val = DetectionDataset(pack(coco["val"]), Path(), size, fill, cache)
    sampler = EpochSampler(len(train), recipe.batch_size, params.seed)
    options: dict[str, Any] = {
        "collate_fn": collate,
        "num_workers": params.workers,
        "pin_memory": torch.cuda.is_available(),
        "persistent_workers": params.workers > 0,
    }
    return Data(
        DataLoader(train, batch_sampler=sampler, **options),
        sampler,
        DataLoader(val, batch_size=recipe.batch_size, **options),
        val_truth,
        val.annotations,
    )


def describe(model: nn.Module, params: TrainParams, recipe: Recipe, size: tuple[int, int], data: Data) -> None:
    """What is about to happen, with nothing left implicit."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{params.model}: {parameters / 1e6:.2f} M parameters, input {size[0]}x{size[1]} (height x width)")
    print(f"{len(data.train)} iterations an epoch, {len(data.val.dataset)} validation images")  # type: ignore[arg-type]
    print("  " + ", ".join(f"{key} {value}" for key, value in asdict(recipe).items()))


class Best(NamedTuple):
    """The averaged weights of the best epoch and what they reached."""

    weights: dict[str, torch.Tensor]
    validation: dict[str, float]


def fit(model: nn.Module, data: Data, recipe: Recipe, device: torch.device) -> Best:
    """Train for all epochs, validate after each, keep the best by validation AP."""
    optimizer = make_optimizer(model, recipe)
    iterations = len(data.train)
    schedule = Schedule(optimizer, recipe, iterations * recipe.epochs)
    average = AveragedWeights(model, recipe.ema_decay)
    history = History(LOG)
    best: Best | None = None
    paths = data.train.dataset.annotations.paths  # type: ignore[attr-defined]
    for epoch in range(recipe.epochs):
        data.sampler.epoch = epoch
        began = time.monotonic()
        with tqdm(
            data.train, desc=f"epoch {epoch + 1}/{recipe.epochs}", unit="batch", disable=None, leave=False
        ) as bar:
            train_one_epoch(
                model, bar, optimizer, schedule, average, recipe.clip_norm, epoch * iterations, device,
                history.step, lambda row: str(paths[row]),
            )  # fmt: skip
        speed = iterations * recipe.batch_size / (time.monotonic() - began)
        validation = validate(average.model, data, device)
        schedule.epoch_done(validation["AP"])
        loss = history.average_loss()
        history.epoch_done(epoch + 1, validation)
        print(
            f"epoch {epoch + 1:3}/{recipe.epochs}  loss {loss:.3f}  val loss {validation['loss']:.3f}  "
            f"AP {validation['AP']:.3f}  AP50 {validation['AP50']:.3f}  {speed:.0f} images/s",
            flush=True,
        )
        if best is None or validation["AP"] > best.validation["AP"]:
            weights = {name: tensor.clone() for name, tensor in average.model.state_dict().items()}
            best = Best(weights, {"epoch": epoch + 1, "AP": validation["AP"], "AP50": validation["AP50"]})
    assert best is not None
    history.close({"best/epoch": best.validation["epoch"], "best/AP": best.validation["AP"]})
    return best


def validate(model: nn.Module, data: Data, device: torch.device) -> dict[str, float]:
    """Loss, AP and AP50 of the averaged weights on val; an AP without ground truth counts as 0."""
    predicted = predict(model, data.val, data.val_annotations, device, with_targets=True)
    numbers = coco_numbers(evaluate_boxes(data.val_truth, predicted.predictions))
    return {
        "loss": sum(predicted.losses.values()),
        "AP": numbers["AP"] or 0.0,
        "AP50": numbers["AP50"] or 0.0,
    }


def data_hash() -> str:
    """SHA-256 of the COCO files, which name each image's content."""
    return hashlib.sha256(b"".join((COCO / f"{split}.json").read_bytes() for split in ("train", "val"))).hexdigest()


if __name__ == "__main__":
    run_command(main)
