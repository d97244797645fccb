"""All epochs of a training, from its start or from where a killed one was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from detector.data.dataset import EpochSampler
from detector.errors import UserError
from detector.interruption import StopRequested, deferred, interrupt, requested
from detector.models.recipe import Recipe
from detector.training.history import History
from detector.training.loop import Step, grouped, train_one_epoch
from detector.training.mirrors import Mirror
from detector.training.resumable import load_latest, save
from detector.training.state import Best, Run, begin, random_state, restore, restore_random, state_of
from detector.training.summary import peak_memory

SAVE_EVERY = 300.0  # seconds, within long epochs; after each epoch anyway

Item = TypeVar("Item")


class Loaders(NamedTuple):
    """Both splits in batches; `sampler` is the training loader's."""

    train: DataLoader[Any]
    sampler: EpochSampler
    val: DataLoader[Any]


class Waiting:
    """Passes items on and adds up the seconds that it waited for them."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def watch(self, items: Iterator[Item]) -> Iterator[Item]:
        """The same items."""
        while True:
            began = time.monotonic()
            try:
                item = next(items)
            except StopIteration:
                return
            self.seconds += time.monotonic() - began
            yield item


def fit(
    model: nn.Module,
    loaders: Loaders,
    validate: Callable[[nn.Module], dict[str, float]],
    recipe: Recipe,
    device: torch.device,
    log: Path,
    folder: Path,
    mirrors: Sequence[Mirror] = (),
) -> Best:
    """Train until the epochs or the patience are over, validate after each, keep the best by validation AP.

    validate: loss, AP and AP50 of the averaged weights. It may raise StopRequested. log: written anew,
    with copies in `mirrors`. folder: of this training's checkpoints; the newest is where it goes on. The
    result does not depend on how often a training was ended and begun again. Raises Interrupted after a
    signal, everything saved, and UserError when a loss is not finite or the device's memory too small.
    """
    run = begin(model, recipe, iterations_of(loaders, recipe) * recipe.epochs, History(log, mirrors))
    state = load_latest(folder)
    if state is not None:
        restore(run, state)
        print(f"resuming at epoch {run.epoch + 1}, iteration {run.batch // recipe.accumulate + 1}", flush=True)
    try:
        with deferred():
            while run.epoch < recipe.epochs and not out_of_patience(run, recipe.patience):
                do_epoch(run, loaders, validate, recipe, device, folder, state)
                state = None
    except torch.OutOfMemoryError as error:
        raise out_of_memory(recipe, error) from None
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            f"`train.batch_size` {recipe.batch_size} leaves a batch norm of this model with a single value to learn "
            "from; use 2 or more"
        ) from None
    assert run.best is not None
    save(folder, state_of(run, random_state()))
    reached = run.best.validation
    run.history.close({"best/epoch": reached["epoch"], "best/AP": reached["AP"]})
    return run.best


def iterations_of(loaders: Loaders, recipe: Recipe) -> int:
    """Optimizer steps of an epoch; the last may have fewer batches."""
    return -(-len(loaders.train) // recipe.accumulate)


def out_of_patience(run: Run, patience: int) -> bool:
    """Whether the last `patience` epochs were no better than one before them; 0: never."""
    return patience > 0 and run.best is not None and run.epoch - run.best.validation["epoch"] >= patience


def do_epoch(
    run: Run,
    loaders: Loaders,
    validate: Callable[[nn.Module], dict[str, float]],
    recipe: Recipe,
    device: torch.device,
    folder: Path,
    resumed: dict[str, Any] | None,
) -> None:
    """Train what is left of `run.epoch`, validate, note; `resumed`: the state that the run was just put into."""
    loaders.sampler.epoch, loaders.sampler.start = run.epoch, run.batch
    batches = iter(loaders.train)
    if resumed is not None:
        restore_random(resumed["randomness"])
    elif run.epoch:
        save(folder, state_of(run, random_state()))
    began, first, waiting = time.monotonic(), run.batch, Waiting()
    train_rest(run, loaders, waiting.watch(batches), recipe, device, folder)
    trained, randomness = time.monotonic(), random_state()
    try:
        validation = validate(run.average.model)
    except StopRequested:
        save(folder, state_of(run, randomness))
        raise interrupt(stopped(run, recipe)) from None
    validated = time.monotonic() - trained
    lr, loss = run.history.learning_rate(), run.history.average_loss()
    end_epoch(run, validation)
    seconds, done = max(trained - began, 1e-9), len(loaders.train) - first
    left = (recipe.epochs - run.epoch) * (seconds * len(loaders.train) / max(1, done) + validated)
    print(
        f"epoch {run.epoch:3}/{recipe.epochs}  loss {loss:.3f}  val loss {validation['loss']:.3f}  "
        f"AP {validation['AP']:.3f}  AP50 {validation['AP50']:.3f}  lr {lr:.2g}  "
        f"{done * recipe.batch_size / seconds:.0f} images/s  "
        f"data {waiting.seconds / seconds:.0%}  memory {peak_memory(device):.1f} GB  ETA {tqdm.format_interval(left)}",
        flush=True,
    )


def train_rest(
    run: Run, loaders: Loaders, batches: Iterator[Any], recipe: Recipe, device: torch.device, folder: Path
) -> None:
    """Train on `batches`, those of the epoch that are not done yet; save now and then, and when asked to stop."""
    count, iterations = len(loaders.train), iterations_of(loaders, recipe)
    paths = loaders.train.dataset.annotations.paths  # type: ignore[attr-defined]
    saved = time.monotonic()

    def on_step(step: Step) -> None:
        nonlocal saved
        run.history.step(step)
        run.batch = min((step.iteration - run.epoch * iterations + 1) * recipe.accumulate, count)
        if requested() or time.monotonic() - saved > SAVE_EVERY:
            save(folder, state_of(run, random_state()))
            saved = time.monotonic()
        if requested():
            raise interrupt(stopped(run, recipe))

    title = f"epoch {run.epoch + 1}/{recipe.epochs}"
    with tqdm(batches, title, count, initial=run.batch, unit="batch", disable=None, leave=False) as bar:
        train_one_epoch(
            run.model, grouped(bar, recipe.accumulate), run.optimizer, run.schedule, run.average, recipe.clip_norm,
            run.epoch * iterations + run.batch // recipe.accumulate, device, on_step, lambda row: str(paths[row]),
        )  # fmt: skip


def end_epoch(run: Run, validation: dict[str, float]) -> None:
    """Note the epoch's numbers, and its averaged weights if they are the best; on to the next."""
    run.schedule.epoch_done(validation["AP"])
    run.epoch, run.batch = run.epoch + 1, 0
    run.history.epoch_done(run.epoch, validation)
    if run.best is None or validation["AP"] >= run.best.validation["AP"]:
        weights = {name: tensor.clone() for name, tensor in run.average.model.state_dict().items()}
        run.best = Best(weights, {"epoch": run.epoch, "AP": validation["AP"], "AP50": validation["AP50"]})


def stopped(run: Run, recipe: Recipe) -> str:
    """The last message of a training that was asked to stop."""
    return f"training is saved in epoch {run.epoch + 1} of {recipe.epochs}; the same command again goes on from there"


def out_of_memory(recipe: Recipe, error: torch.OutOfMemoryError) -> UserError:
    """What to change when the device's memory is too small."""
    if recipe.batch_size == 1:
        advice = "one image does not fit: lower `train.size`"
    else:
        half = recipe.batch_size // 2
        advice = (
            f"try `train.batch_size: {half}` with `train.accumulate: {2 * recipe.accumulate}`, or lower `train.size`"
        )
    return UserError(f"out of memory with `train.batch_size` {recipe.batch_size}; {advice}\n({error})")
