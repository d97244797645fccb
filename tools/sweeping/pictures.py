"""The pictures of a sweep's report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial, TrialState

from detector.plotting.boxes_on_images import colour
from detector.plotting.style import save_figure
from sweeping.results import Outcome
from sweeping.settings import Parameter

COMPLETE, PRUNED, BEST = colour(0), "#b0b0b0", colour(3)
HALO = {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.5}  # behind a number that a line crosses


def draw_all(folder: Path, outcome: Outcome, trials: list[FrozenTrial]) -> dict[str, Path]:
    """Write every picture that this sweep has something for. Returns title -> file."""
    pictures: dict[str, tuple[str, Figure | None]] = {
        "History": ("history.png", history(outcome)),
        "Epochs": ("epochs.png", epochs(outcome, trials)),
        "Values": ("parallel.png", parallel(outcome, trials)),
        "What matters": ("importances.png", importances(outcome)),
        "Front": ("pareto.png", pareto(outcome)),
    }
    written = {}
    for title, (name, figure) in pictures.items():
        if figure is not None:
            save_figure(figure, folder / name)
            written[title] = folder / name
    return written


def history(outcome: Outcome) -> Figure:
    """The first objective of each trial in order, and the best so far."""
    objective = outcome.plan.objectives[0]
    figure, axes = plt.subplots(figsize=(7, 3))
    complete = [(row["trial"], row[objective.key]) for row in outcome.rows if row["state"] == "complete"]
    pruned = [(row["trial"], row["reached"]) for row in outcome.rows if row["state"] == "pruned" and row["epochs"]]
    better = np.maximum if objective.direction == "maximize" else np.minimum
    numbers, values = zip(*complete, strict=True)
    axes.step(numbers, better.accumulate(values), where="post", color=COMPLETE, linewidth=1, label="best so far")
    axes.scatter(numbers, values, color=COMPLETE, zorder=3, label="complete")
    if pruned:
        axes.scatter(*zip(*pruned, strict=True), color=PRUNED, marker="x", label="pruned, as far as it came")
    axes.scatter(outcome.best.number, outcome.best.values[0], color=BEST, zorder=4, label="best")
    axes.set(xlabel="trial", ylabel=objective.key, title="Each trial in its order")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, loc="best")
    return figure


def epochs(outcome: Outcome, trials: list[FrozenTrial]) -> Figure | None:
    """What each trial told of its epochs; None when none told anything."""
    told = [trial for trial in trials if trial.intermediate_values and trial.state != TrialState.FAIL]
    if not told:
        return None
    figure, axes = plt.subplots(figsize=(7, 3))
    for trial in told:
        best, complete = trial.number == outcome.best.number, trial.state == TrialState.COMPLETE
        steps, values = zip(*sorted(trial.intermediate_values.items()), strict=True)
        axes.plot(
            steps, values, marker="x" if not complete and len(steps) == 1 else "", zorder=3 if best else 2,
            color=BEST if best else COMPLETE if complete else PRUNED, linewidth=2 if best else 1,
        )  # fmt: skip
        if not complete:
            axes.plot(steps[-1], values[-1], marker="x", color=PRUNED)
    kinds = {"best": BEST, "complete": COMPLETE, "pruned": PRUNED}
    axes.legend([plt.Line2D([], [], color=kind) for kind in kinds.values()], kinds, frameon=False, loc="lower right")
    axes.set(xlabel="epoch", ylabel=f"{outcome.plan.objectives[0].name} on val", title="What was seen of each trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def parallel(outcome: Outcome, trials: list[FrozenTrial]) -> Figure:
    """A line a trial across its values, to the first objective at the right."""
    space, objective = outcome.plan.space, outcome.plan.objectives[0]
    finished = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    heights = {key: scale(key, parameter, finished) for key, parameter in space.items()}
    goals = [trial.values[0] for trial in finished if trial.state == TrialState.COMPLETE]
    low, high = min(goals), max(goals)
    figure, axes = plt.subplots(figsize=(7, 3.4))
    for trial in sorted(finished, key=lambda trial: (trial.number == outcome.best.number, trial.state.name)):
        values = trial.user_attrs["values"]
        line = [heights[key](values[key]) if key in values else np.nan for key in space]
        complete = trial.state == TrialState.COMPLETE
        line.append((trial.values[0] - low) / ((high - low) or 1) if complete else np.nan)
        best = trial.number == outcome.best.number
        axes.plot(line, color=BEST if best else COMPLETE if complete else PRUNED, linewidth=2 if best else 1)
    for place, (key, parameter) in enumerate(space.items()):
        axis(axes, place, key, ticks_of(parameter), heights[key])
    axis(axes, len(space), objective.key, [low, high], lambda value: (value - low) / ((high - low) or 1))
    axes.set(xticks=[], yticks=[], ylim=(-0.12, 1.12), title="Values that were tried (grey: pruned; orange: best)")
    axes.spines[["left", "bottom"]].set_visible(False)
    return figure


def scale(key: str, parameter: Parameter, trials: list[FrozenTrial]) -> Callable[[Any], float]:
    """Where a value lies between the lowest (0) and the highest (1)."""
    if parameter.values is not None:
        choices = parameter.values
        return lambda value: choices.index(value) / max(len(choices) - 1, 1)
    assert parameter.low is not None
    assert parameter.high is not None
    bend: Callable[[float], float] = np.log if parameter.log else float
    low, high = bend(parameter.low), bend(parameter.high)
    return lambda value: float((bend(value) - low) / (high - low))


def ticks_of(parameter: Parameter) -> list[Any]:
    """Both ends of a range, or all values."""
    return parameter.values if parameter.values is not None else [parameter.low, parameter.high]


def axis(axes: Axes, place: int, name: str, ticks: list[Any], height: Callable[[Any], float]) -> None:
    """One upright line of the parallel coordinates, with its name below."""
    axes.axvline(place, 0.1, 0.9, color="black", linewidth=0.6)
    axes.text(place, -0.12, name, ha="center", va="top")
    for tick in dict.fromkeys(map(str, ticks)):
        value = next(tick_ for tick_ in ticks if str(tick_) == tick)
        shown = f"{value:.4g}" if isinstance(value, float) else tick
        axes.text(place + 0.02, height(value), shown, fontsize=8, va="center", bbox=HALO)


def importances(outcome: Outcome) -> Figure | None:
    """Bars, the most important on top; None when nothing can be said."""
    shares = outcome.importances.shares
    if not shares:
        return None
    figure, axes = plt.subplots(figsize=(7, 0.6 + 0.35 * len(shares)))
    axes.barh(list(shares)[::-1], list(shares.values())[::-1], color=COMPLETE)
    axes.set(xlim=(0, 1), title=f"Share of the differences in {outcome.importances.of_what}")
    return figure


def pareto(outcome: Outcome) -> Figure | None:
    """The first two objectives of all complete trials; None when there is only one."""
    objectives = outcome.plan.objectives
    if len(objectives) < 2:
        return None
    figure, axes = plt.subplots(figsize=(5, 4))
    front = {trial.number for trial in outcome.front}
    for row in outcome.rows:
        if row["state"] == "complete":
            point = [row[objective.key] for objective in objectives[:2]]
            axes.scatter(*point, color=BEST if row["trial"] in front else COMPLETE)
            axes.annotate(
                str(row["trial"]), (point[0], point[1]), xytext=(4, 4), textcoords="offset points", fontsize=8
            )
    ways = [f"{objective.key} ({objective.direction})" for objective in objectives[:2]]
    axes.set(xlabel=ways[0], ylabel=ways[1], title="Orange: no trial beats these in everything")
    return figure
