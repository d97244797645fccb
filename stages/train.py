"""Train the detector that params.yaml names.

command  python stages/train.py
reads    params.yaml (train), data/coco/{train,val}.json and the images they name
writes   models/detector.{safetensors,json} (the averaged weights of the best epoch by validation AP),
         metrics/train/ (DVCLive), logs/train.json (times; ignored by git), and in .cache/ (ignored by git)
         train/ while it runs (where a killed training goes on) and precision/ (what `auto` measured)
time     about 100 s for the sample on 2 cores

`train.processes` or `torchrun --nproc-per-node N stages/train.py`, on one machine or several, trains with several.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from detector.engine.environment import check_torch, keep_freed_memory
from detector.training.interruption import StopRequested, listen, until_requested

if __name__ == "__main__":
    listen()  # before the imports below, which take seconds
check_torch()  # before the imports below, where a mismatched pair fails obscurely

import torch
from torch import nn
from torch.utils.data import DataLoader

from detector.core.errors import UserError, run_command
from detector.core.params import load_section
from detector.engine import distributed
from detector.engine.checkpoint import Card, save_checkpoint
from detector.engine.coco_metrics import coco_numbers, evaluate_boxes
from detector.engine.dataset import (
    Annotations,
    Names,
    fitting_size,
    names_of,
    pack,
    pixel_statistics,
    present_objects,
    read_coco,
)
from detector.engine.predict import predict
from detector.engine.seeding import draw_differently, make_deterministic
from detector.models.normalization import PixelStatistics
from detector.models.postprocess import Postprocess
from detector.models.recipe import Recipe
from detector.models.state_head import States, state_weights
from detector.training.code_hash import code_hash
from detector.training.compute import Engine, explained, machine
from detector.training.fine_tuning import freeze
from detector.training.fit import fit
from detector.training.initialization import Start, find_start, take_weights
from detector.training.loading import load_data
from detector.training.loggers import Mirror, opened
from detector.training.precision import check_precision, fastest
from detector.training.processes import together
from detector.training.resume import forget, key_of, only_one
from detector.training.settings import TrainParams, resolve
from detector.training.state import Best
from detector.training.summary import describe

COCO = Path("data/coco")
CHECKPOINT = Path("models/detector.safetensors")
LOG = Path("metrics/train")
TIMES = Path("logs/train.json")
MIRRORS = Path("logs")
RESUMABLE = Path(".cache/train")
DECODED = Path(".cache/images")
PRECISION = Path(".cache/precision")
CODE = ("core", "engine", "models", "training")  # the folders of detector/ that train depends on in dvc.yaml


def main() -> None:
    started = time.monotonic()
    params = load_section(Path("params.yaml"), "train", TrainParams)
    with together(params.processes):
        train(params.model_copy(update={"processes": distributed.count()}), started)


def train(params: TrainParams, started: float) -> None:
    """One process's part of the training; all of it for a process that trains alone."""
    start = find_start(params.model, params.weights)
    recipe = resolve(params, start.kind.recipe, start.pretrained)
    make_deterministic(params.seed, params.threads)
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_precision(params.precision, device)
    coco = {split: read_coco(COCO / f"{split}.json") for split in ("train", "val")}
    names = names_of(coco["train"])
    states = states_of(coco["train"], names, recipe.state_weight)
    val_truth = present_objects(coco["val"])
    if not states.present:  # an object that is not there can only teach its state
        coco = {split: present_objects(objects) for split, objects in coco.items()}
    annotations = pack(coco["train"])
    check_data(annotations, val_truth, recipe)
    statistics = start.statistics() or PixelStatistics(*pixel_statistics(annotations, Path()))
    size = params.size if isinstance(params.size, tuple) else fitting_size(annotations, recipe.size)
    decoded = Path(os.environ.get("DVC_ROOT", ".")) / DECODED
    loaders = load_data(coco, params, recipe, size, statistics, decoded)
    model = start.kind.build(len(names.classes), states, statistics, Postprocess(), start.weights)
    take_weights(model, start, names, params.weights)
    freeze(model, recipe.freeze)
    model = model.to(device).to(memory_format=torch.channels_last if params.channels_last else torch.contiguous_format)
    draw_differently(params.seed, distributed.rank())
    print(describe(params.model, model, recipe, size, loaders), flush=True)
    engine = Engine(device, precision_of(model, params, recipe, size, device), params.compile)
    folder = Path(os.environ.get("DVC_ROOT", ".")) / RESUMABLE / key(params, start, recipe, engine)
    with only_one(folder) if distributed.is_first() else nullcontext(), mirrored(params, recipe) as mirrors:
        validator = partial(validate, loaders.val, val_truth, device)
        best = fit(model, loaders, validator, recipe, engine, LOG, folder, mirrors)
        card = Card(
            params.model, names.classes, names.states if states.present else [], size,
            statistics.mean, statistics.deviation, asdict(recipe), params.seed, data_hash(), best.validation,
            engine.precision, params.processes, code_hash(),
        )  # fmt: skip
        if distributed.is_first():
            finish(best, card, folder, started)


def finish(best: Best, card: Card, folder: Path, started: float) -> None:
    """Write the results; nothing is left to go on from."""
    save_checkpoint(CHECKPOINT, best.weights, card)
    forget(folder)
    TIMES.parent.mkdir(exist_ok=True)
    TIMES.write_text(json.dumps({"seconds": round(time.monotonic() - started, 1)}) + "\n")
    reached = best.validation
    print(f"best epoch {reached['epoch']}: AP {reached['AP']:.3f}, AP50 {reached['AP50']:.3f} on val")


def states_of(coco: dict[str, Any], names: Names, loss_weight: float) -> States:
    """What the state head has to know; no head without states, or with `train.state_weight: 0`."""
    if not names.states or loss_weight == 0:
        return States()
    counts = Counter(annotation["state"] for annotation in coco["annotations"])
    weights = state_weights([counts[number] for number in range(1, len(names.states) + 1)])
    return States(tuple(names.present), weights, loss_weight)


def check_data(annotations: Annotations, val_truth: dict[str, Any], recipe: Recipe) -> None:
    """Stop when there is nothing to learn from or to choose the best epoch by, or not even one batch."""
    if not len(annotations.labels):
        raise UserError(f"{COCO}/train.json: no present object in {len(annotations.paths)} images, nothing to train on")
    if all(annotation["iscrowd"] for annotation in val_truth["annotations"]):
        raise UserError(f"{COCO}/val.json: no present object, so no epoch can be told to be the best")
    if recipe.batch_size * distributed.count() > len(annotations.paths):
        each = f" in each of {distributed.count()} processes" if distributed.count() > 1 else ""
        raise UserError(
            f"params.yaml: `train.batch_size` is {recipe.batch_size}{each}, but train has {len(annotations.paths)} "
            "images"
        )


def precision_of(
    model: nn.Module, params: TrainParams, recipe: Recipe, size: tuple[int, int], device: torch.device
) -> str:
    """`train.precision`, or what `auto` finds to be faster for this training on this machine."""
    if params.precision != "auto":
        return params.precision
    own = {"model", "weights", "threads", "channels_last", "processes"}
    values = {**params.model_dump(include=own), "freeze": recipe.freeze, "batch_size": recipe.batch_size, "size": size}
    name = key_of({**values, **machine()}, [])
    file = Path(os.environ.get("DVC_ROOT", ".")) / PRECISION / f"{name}.json"
    with explained(recipe):
        return fastest(model, recipe.batch_size, size, device, file)


def mirrored(params: TrainParams, recipe: Recipe) -> AbstractContextManager[list[Mirror]]:
    """The mirrors of the log; the first process speaks for all."""
    names = params.mirrors if distributed.is_first() else ()
    folder = Path(os.environ.get("DVC_ROOT", ".")) / MIRRORS
    return opened(names, folder, f"{params.model}-{datetime.now():%Y%m%d-%H%M%S}", asdict(recipe))


def validate(val: DataLoader[Any], truth: dict[str, Any], device: torch.device, model: nn.Module) -> dict[str, float]:
    """Loss, AP and AP50 of the averaged weights on val; an AP without ground truth counts as 0.

    Each process predicts its share. Raises StopRequested in all of them when one is asked to stop.
    """
    annotations = val.dataset.annotations  # type: ignore[attr-defined]
    predicted = None
    with suppress(StopRequested):
        predicted = predict(model, until_requested(val), annotations, device, with_targets=True)
    if distributed.anywhere(predicted is None)[0] or predicted is None:
        raise StopRequested
    shares = distributed.gathered((predicted.predictions, sum(predicted.losses.values())))
    if not distributed.is_first():
        return distributed.from_first({})
    row = {image_id: number for number, image_id in enumerate(annotations.image_ids.tolist())}
    predictions = sorted((one for share, _ in shares for one in share), key=lambda one: row[one["image_id"]])
    numbers = coco_numbers(evaluate_boxes(truth, predictions))
    loss = sum(loss for _, loss in shares)
    return distributed.from_first({"loss": loss, "AP": numbers["AP"] or 0.0, "AP50": numbers["AP50"] or 0.0})


def data_hash() -> str:
    """SHA-256 of the COCO files, which name each image's content."""
    return hashlib.sha256(b"".join((COCO / f"{split}.json").read_bytes() for split in ("train", "val"))).hexdigest()


def key(params: TrainParams, start: Start, recipe: Recipe, engine: Engine) -> str:
    """A name for this very training: parameters, data, code, and what else its bytes depend on."""
    values = {
        "params": params.model_dump(),
        "weights": start.digest,
        "recipe": asdict(recipe),
        "data": data_hash(),
        "precision": engine.precision,
        **machine(),
    }
    library = Path(__file__).parent / "detector"
    return key_of(values, [Path(__file__), *sorted(path for name in CODE for path in (library / name).rglob("*.py"))])


if __name__ == "__main__":
    run_command(main)
