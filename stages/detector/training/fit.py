"""All epochs of a training, from its start or from where a killed one was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from detector.engine import distributed
from detector.engine.dataset import EpochSampler
from detector.engine.seeding import random_state, restore_random
from detector.models.recipe import Recipe
from detector.training.compute import Engine, explained
from detector.training.history import History
from detector.training.interruption import Interrupted, StopRequested, deferred, interrupt, requested
from detector.training.loggers import Mirror
from detector.training.loop import Step, grouped, train_one_epoch
from detector.training.progress import Spent, Waiting, epoch_line, peak_memory
from detector.training.reporting import report
from detector.training.resume import load_latest, save
from detector.training.state import Best, Run, begin, restore, state_of

SAVE_EVERY = 300.0  # seconds, within long epochs; after each epoch anyway


class Loaders(NamedTuple):
    """Both splits in batches; `sampler` is the training loader's."""

    train: DataLoader[Any]
    sampler: EpochSampler
    val: DataLoader[Any]


def fit(
    model: nn.Module,
    loaders: Loaders,
    validate: Callable[[nn.Module], dict[str, float]],
    recipe: Recipe,
    engine: Engine,
    log: Path,
    folder: Path,
    mirrors: Sequence[Mirror] = (),
) -> Best:
    """Train until the epochs or the patience are over, validate after each, keep the best by validation AP.

    validate: loss, AP and AP50 of the averaged weights, the same in all processes. It may raise StopRequested,
    then in all of them. log: written anew, with
    copies in `mirrors`. folder: of this training's checkpoints; the newest is where it goes
    on. Only the first process writes either. The result does not depend on how often a training was ended and
    begun again. Raises Interrupted after a signal, everything saved, and UserError when a loss is not finite,
    the device's memory too small or the model not compiled.
    """
    history = History(log, mirrors) if distributed.is_first() else None
    if distributed.is_first():
        report({"checkpoints": str(folder.resolve())})
    run = begin(model, recipe, iterations_of(loaders, recipe) * recipe.epochs, history, engine)
    state = distributed.from_first(load_latest(folder) if distributed.is_first() else None)
    if state is not None:
        restore(run, state)
        print(f"resuming at epoch {run.epoch + 1}, iteration {run.batch // recipe.accumulate + 1}", flush=True)
    with explained(recipe), deferred():
        while run.epoch < recipe.epochs and not out_of_patience(run, recipe.patience):
            do_epoch(run, loaders, validate, recipe, folder, state)
            state = None
    assert run.best is not None
    save_everywhere(run, folder, random_state())
    reached = run.best.validation
    if run.history is not None:
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
    folder: Path,
    resumed: dict[str, Any] | None,
) -> None:
    """Train what is left of `run.epoch`, validate, note; `resumed`: the state that the run was just put into."""
    loaders.sampler.epoch, loaders.sampler.start = run.epoch, run.batch
    batches = iter(loaders.train)
    if resumed is not None:
        restore_random(resumed["randomness"][distributed.rank()])
    elif run.epoch:
        save_everywhere(run, folder, random_state())
    began, first, waiting = time.monotonic(), run.batch, Waiting()
    train_rest(run, loaders, waiting.watch(batches), recipe, folder)
    trained, randomness = time.monotonic(), random_state()
    try:
        validation = validate(run.learner.average.model)
    except StopRequested:
        save_everywhere(run, folder, randomness)
        raise stopped(run, recipe) from None
    validated = time.monotonic()
    count = len(loaders.train)
    spent = Spent(trained - began, waiting.seconds, validated - trained, count - first, count)
    end_epoch(run, validation)
    if run.history is not None:
        loss, lr = run.history.average_loss(), run.history.learning_rate()
        run.history.epoch_done(run.epoch, validation)
        report({"epoch": run.epoch, **validation})
        images = recipe.batch_size * distributed.count()
        print(epoch_line(run.epoch, recipe.epochs, loss, lr, validation, images, spent, peak_memory()), flush=True)


def train_rest(run: Run, loaders: Loaders, batches: Iterator[Any], recipe: Recipe, folder: Path) -> None:
    """Train on `batches`, those of the epoch that are not done yet; save now and then, and when asked to stop."""
    count, iterations = len(loaders.train), iterations_of(loaders, recipe)
    paths = loaders.train.dataset.annotations.paths  # type: ignore[attr-defined]
    saved = time.monotonic()

    def on_step(step: Step) -> None:
        nonlocal saved
        if run.history is not None:
            run.history.step(step)
        run.batch = min((step.iteration - run.epoch * iterations + 1) * recipe.accumulate, count)
        stop, due = distributed.anywhere(requested(), time.monotonic() - saved > SAVE_EVERY)
        if stop or due:
            save_everywhere(run, folder, random_state())
            saved = time.monotonic()
        if stop:
            raise stopped(run, recipe)

    title, quiet = f"epoch {run.epoch + 1}/{recipe.epochs}", None if distributed.is_first() else True
    with tqdm(batches, title, count, initial=run.batch, unit="batch", disable=quiet, leave=False) as bar:
        train_one_epoch(
            run.learner, grouped(bar, recipe.accumulate), run.schedule, recipe.clip_norm,
            run.epoch * iterations + run.batch // recipe.accumulate, on_step, lambda row: str(paths[row]),
        )  # fmt: skip


def end_epoch(run: Run, validation: dict[str, float]) -> None:
    """Note what the epoch reached, and its averaged weights if they are the best; on to the next."""
    run.schedule.epoch_done(validation["AP"])
    run.epoch, run.batch = run.epoch + 1, 0
    if run.best is None or validation["AP"] >= run.best.validation["AP"]:
        weights = {name: tensor.clone() for name, tensor in run.learner.average.model.state_dict().items()}
        run.best = Best(weights, {"epoch": run.epoch, "AP": validation["AP"], "AP50": validation["AP50"]})


def save_everywhere(run: Run, folder: Path, randomness: dict[str, Any]) -> None:
    """Save the run with the random states of all processes; none goes on before it is written."""
    everyone = distributed.gathered(randomness)
    if distributed.is_first():
        save(folder, state_of(run, everyone))
    distributed.anywhere(True)


def stopped(run: Run, recipe: Recipe) -> Interrupted:
    """How a training ends that was asked to stop and is saved."""
    message = (
        f"training is saved in epoch {run.epoch + 1} of {recipe.epochs}; the same command again goes on from there"
    )
    return interrupt(message if distributed.is_first() else "")
