"""All epochs of a training, from the start or from the latest checkpoint of an interrupted one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn
from tqdm import tqdm

from detector.engine import distributed
from detector.engine.seeding import get_random_state, set_random_state
from detector.models.recipe import Recipe
from detector.training.compute import ComputeSettings, translate_torch_errors
from detector.training.history import History
from detector.training.interruption import (
    Interrupted,
    StopRequested,
    defer_signals,
    is_stop_requested,
    make_interrupted,
)
from detector.training.kept_epochs import KeptEpochs
from detector.training.loaders import Loaders
from detector.training.loggers import ExperimentLogger
from detector.training.loop import Step, group_batches, train_one_epoch
from detector.training.progress import EpochTiming, WaitTimer, format_epoch, peak_memory_gb
from detector.training.resume import checkpoint_path, load_latest_checkpoint, write_checkpoint
from detector.training.state import BestEpoch, TrainingRun, capture_state, restore_run, start_run
from detector.training.sweep_report import report_progress

SAVE_INTERVAL = 300.0  # seconds between checkpoints within long epochs; each epoch ends with one anyway


def fit(
    model: nn.Module,
    loaders: Loaders,
    validate: Callable[[nn.Module], dict[str, float]],
    recipe: Recipe,
    compute: ComputeSettings,
    *,
    log_folder: Path,
    checkpoint_folder: Path,
    kept_epochs: KeptEpochs | None = None,
    loggers: Sequence[ExperimentLogger] = (),
) -> BestEpoch:
    """Train and validate until the last epoch or until patience runs out; return the best epoch by `recipe.monitor`.

    validate: returns loss, AP and AP50 of the averaged weights, the same in all processes; it may raise
    StopRequested, then in all of them. log_folder: rewritten; `loggers` get the same values. checkpoint_folder: of
    this training; it resumes from the latest checkpoint. Only the main process writes files. The result does not
    depend on how often a training was interrupted and resumed. Raises Interrupted after a signal, with everything
    saved, and UserError when a loss is not finite, memory is too small or compilation fails.
    """
    history = History(log_folder, loggers) if distributed.is_main_process() else None
    if distributed.is_main_process():
        report_progress({"checkpoints": str(checkpoint_folder.resolve())})
    checkpoints = Checkpoints(checkpoint_folder, kept_epochs)
    run = start_run(model, recipe, count_iterations(loaders, recipe) * recipe.epochs, history, compute)
    latest = load_latest_checkpoint(checkpoint_folder) if distributed.is_main_process() else None
    state = distributed.broadcast_object(latest)
    with translate_torch_errors(recipe), defer_signals():
        if state is not None:
            restore_run(run, state)
            keep_epoch(run, checkpoints)  # a kill may have come between the checkpoint and this
            iteration = run.batch // recipe.accumulate_steps + 1
            print(f"resuming at epoch {run.epoch + 1}, iteration {iteration}", flush=True)
        while run.epoch < recipe.epochs and not is_out_of_patience(run, recipe.patience):
            run_epoch(run, loaders, validate, recipe, checkpoints=checkpoints, restored=state)
            state = None
    assert run.best is not None
    save_run(run, checkpoints, get_random_state())
    if run.history is not None:
        run.history.close()
    return run.best


class Checkpoints(NamedTuple):
    """folder: of the checkpoints to resume from. kept: of epochs, if there are any."""

    folder: Path
    kept: KeptEpochs | None


def count_iterations(loaders: Loaders, recipe: Recipe) -> int:
    """Count the optimizer steps per epoch; the last may have fewer batches."""
    return -(-len(loaders.train) // recipe.accumulate_steps)


def is_out_of_patience(run: TrainingRun, patience: int) -> bool:
    """Whether the last `patience` epochs were no better than an earlier one; never for 0."""
    return patience > 0 and run.best is not None and run.epoch - run.best.validation["epoch"] >= patience


def run_epoch(
    run: TrainingRun,
    loaders: Loaders,
    validate: Callable[[nn.Module], dict[str, float]],
    recipe: Recipe,
    *,
    checkpoints: Checkpoints,
    restored: dict[str, Any] | None,
) -> None:
    """Train the rest of `run.epoch`, validate and log; restored: the checkpoint that `run` was just restored from."""
    loaders.sampler.epoch, loaders.sampler.start_batch = run.epoch, run.batch
    batches = iter(loaders.train)
    if restored is not None:
        set_random_state(restored["random_states"][distributed.rank()])
    elif run.epoch:
        save_run(run, checkpoints, get_random_state())
    start, first_batch, wait_timer = time.monotonic(), run.batch, WaitTimer()
    train_remaining_batches(run, loaders, wait_timer.time_items(batches), recipe, checkpoints)
    trained, random_state = time.monotonic(), get_random_state()
    try:
        validation = validate(run.learner.average.model)
    except StopRequested:
        save_run(run, checkpoints, random_state)
        raise make_stop_exception(run, recipe) from None
    validated = time.monotonic()
    count = len(loaders.train)
    timing = EpochTiming(trained - start, wait_timer.seconds, validated - trained, count - first_batch, count)
    finish_epoch(run, validation, recipe.monitor)
    if run.history is not None and run.best is not None:
        loss, lr = run.history.average_losses()["loss"], run.history.learning_rate()
        best = {name: run.best.validation[name] for name in ("epoch", "AP")}
        run.history.log_epoch(run.epoch * count_iterations(loaders, recipe) - 1, validation, best)
        report_progress({"epoch": run.epoch, **validation})
        line = format_epoch(
            run.epoch,
            recipe.epochs,
            loss=loss,
            lr=lr,
            validation=validation,
            timing=timing,
            images_per_batch=recipe.batch_size * distributed.world_size(),
            memory_gb=peak_memory_gb(),
        )
        print(line, flush=True)


def train_remaining_batches(
    run: TrainingRun, loaders: Loaders, batches: Iterator[Any], recipe: Recipe, checkpoints: Checkpoints
) -> None:
    """Train on `batches`, the rest of the epoch; save at intervals and when a stop is requested."""
    count, iterations = len(loaders.train), count_iterations(loaders, recipe)
    paths = loaders.train.dataset.annotations.paths  # type: ignore[attr-defined]
    saved = time.monotonic()

    def on_step(step: Step) -> None:
        nonlocal saved
        if run.history is not None:
            run.history.log_step(step)
        run.batch = min((step.iteration - run.epoch * iterations + 1) * recipe.accumulate_steps, count)
        stop, due = distributed.any_rank(is_stop_requested(), time.monotonic() - saved > SAVE_INTERVAL)
        if stop or due:
            save_run(run, checkpoints, get_random_state())
            saved = time.monotonic()
        if stop:
            raise make_stop_exception(run, recipe)

    title, quiet = f"epoch {run.epoch + 1}/{recipe.epochs}", None if distributed.is_main_process() else True
    with tqdm(batches, title, count, initial=run.batch, unit="batch", disable=quiet, leave=False) as bar:
        train_one_epoch(
            run.learner,
            group_batches(bar, recipe.accumulate_steps),
            run.schedule,
            grad_clip_norm=recipe.grad_clip_norm,
            first_iteration=run.epoch * iterations + run.batch // recipe.accumulate_steps,
            on_step=on_step,
            image_name=lambda row: str(paths[row]),
        )


def finish_epoch(run: TrainingRun, validation: dict[str, float], monitor: str) -> None:
    """Advance to the next epoch; keep the averaged weights if they are the best so far, or as good."""
    run.schedule.finish_epoch(validation["loss"])
    run.epoch, run.batch = run.epoch + 1, 0
    run.validation = {"epoch": run.epoch, **validation}
    if run.best is None or score(validation, monitor) >= score(run.best.validation, monitor):
        weights = {name: tensor.clone() for name, tensor in run.learner.average.model.state_dict().items()}
        run.best = BestEpoch(weights, run.validation)


def score(validation: dict[str, float], monitor: str) -> float:
    """Return what the best epoch has most of: AP, or the negative loss; a loss that is not finite is the worst."""
    if monitor == "AP":
        return validation["AP"]
    return -validation["loss"] if math.isfinite(validation["loss"]) else -math.inf


def save_run(run: TrainingRun, checkpoints: Checkpoints, random_state: dict[str, Any]) -> None:
    """Save the run with the random states of all processes; they wait until it is written."""
    random_states = distributed.all_gather_object(random_state)
    if distributed.is_main_process():
        write_checkpoint(checkpoints.folder, capture_state(run, random_states))
    keep_epoch(run, checkpoints)
    distributed.any_rank(True)


def keep_epoch(run: TrainingRun, checkpoints: Checkpoints) -> None:
    """Keep the epoch that has just ended, with its checkpoint, if it is one of those to keep; in the main process."""
    kept = checkpoints.kept if distributed.is_main_process() else None
    if kept is not None and run.batch == 0 and kept.includes(run.epoch):
        path = checkpoint_path(checkpoints.folder, run.epoch, run.batch)
        kept.keep(run.learner.average.model.state_dict(), run.validation, path)


def make_stop_exception(run: TrainingRun, recipe: Recipe) -> Interrupted:
    """Return the exception that ends a training which was saved after a stop request."""
    message = f"training saved in epoch {run.epoch + 1} of {recipe.epochs}; run the same command again to resume"
    return make_interrupted(message if distributed.is_main_process() else "")
