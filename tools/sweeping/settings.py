"""The settings in sweep.yaml, checked against params.yaml and dvc.yaml before the first trial."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from detector.core.errors import UserError
from detector.core.params import Section, validate_values
from detector.core.yaml_files import read_yaml

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")
TRAIN_SEED = "train.seed"
EVALUATED_SPLIT = "evaluate.split"  # set to val in all trials, so that test never decides
EPOCH_METRICS = ("AP", "AP50", "loss")  # what training reports per epoch; pruning needs one of them

Name = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Number = Annotated[int | float, Field(allow_inf_nan=False)]
Direction = Literal["maximize", "minimize"]
Value = bool | int | float | str | None | list[Any]


class Parameter(Section):
    """Either `values`, or a range from `low` to `high`, of integers if both are integers.

    log: sample log-uniformly. step: only low, low + step, ... when: {other parameter: value or values}, for which
    alone this parameter is set.
    """

    low: Number | None = None
    high: Number | None = None
    log: bool = False
    step: Number | None = None
    values: list[Value] | None = None
    when: dict[str, Value] = Field(default={})


class Pruner(Section):
    """startup_trials: finished before any is pruned (median). warmup_epochs: trained in every trial."""

    name: Literal["median", "hyperband", "none"]
    startup_trials: int = Field(default=3, ge=1)
    warmup_epochs: int = Field(default=1, ge=1)


class Sweep(Section):
    """sweep.yaml.

    objectives: `file:key` of a metric -> direction. start: values to try first. seeds: each trial trains with all of
    them and reports the mean; empty: the seed in params.yaml. minutes: no trial begins after them.
    keep_checkpoints: keep those of pruned and failed trials in .cache/train.
    """

    name: Name
    objectives: dict[str, Direction] = Field(min_length=1)
    parameters: dict[str, dict[str, Any]] = Field(min_length=1)
    trials: int = Field(ge=1)
    minutes: Annotated[float, Field(gt=0)] | None = None
    sampler: Literal["tpe", "cmaes", "gp", "grid", "random"] = "tpe"
    pruner: Pruner = Pruner(name="none")
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[])
    start: list[dict[str, Value]] = Field(default=[])
    keep_checkpoints: bool = False


class Objective(NamedTuple):
    """A metric to optimize: its file, its key and the direction."""

    file: str
    key: str
    direction: Direction

    @property
    def name(self) -> str:
        """The last part of the key, such as `AP` of `best.AP`."""
        return re.split(r"[./]", self.key)[-1]


class Plan(NamedTuple):
    """A checked sweep. targets: the stages to run. overrides: parameters with one value in all trials."""

    sweep: Sweep
    space: dict[str, Parameter]
    objectives: list[Objective]
    targets: list[str]
    overrides: dict[str, Value]


def load_plan(path: Path) -> Plan:
    """Read and check sweep.yaml in the repository's root. Raises UserError."""
    document = read_yaml(path)
    if not isinstance(document, dict):
        raise UserError(f"{path} is not a mapping; expected the keys {', '.join(Sweep.model_fields)}")
    sweep = validate_values(path, document, Sweep)
    params = dict(flatten(read_yaml(PARAMS)))
    space = {
        key: validate_values(path, values, Parameter, f"parameters.{key}") for key, values in sweep.parameters.items()
    }
    for key, parameter in space.items():
        check_parameter_exists(path, key, params)
        check_range(path, key, parameter)
        check_condition(path, key, parameter, space)
    check_sampler_and_pruner(path, sweep, space)
    check_start_values(path, sweep, space)
    if sweep.seeds:
        check_parameter_exists(path, TRAIN_SEED, params)
    stages = read_yaml(PIPELINE)["stages"]
    objectives = [parse_objective(path, name, way, stages) for name, way in sweep.objectives.items()]
    if sweep.pruner.name != "none" and objectives[0].name not in EPOCH_METRICS:
        raise UserError(
            f"{path}: `objectives` has {objectives[0].key}, but training reports only {', '.join(EPOCH_METRICS)} per "
            "epoch, so trials cannot be pruned by it: set `pruner: {name: none}`"
        )
    targets = list(dict.fromkeys(stage for item in objectives for stage in find_writers(item.file, stages)))
    overrides: dict[str, Value] = (
        {EVALUATED_SPLIT: "val"} if "evaluate" in targets and EVALUATED_SPLIT in params else {}
    )
    return Plan(sweep, space, objectives, targets, overrides)


def flatten(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield `("train.lr", 0.1)`, ... from nested mappings; lists are values."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield f"{prefix}{key}", value
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def suggest_name(name: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` with the most similar known name; empty when none is known."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)
    return f"; did you mean `{matches[0]}`?" if matches else ""


def check_parameter_exists(path: Path, key: str, params: dict[str, Any]) -> None:
    """Raise UserError unless params.yaml has the parameter."""
    if key not in params or isinstance(params[key], dict):
        known = [name for name, value in params.items() if not isinstance(value, dict)]
        raise UserError(f"{path}: {PARAMS} has no parameter `{key}`{suggest_name(key, known)}")


def check_range(path: Path, key: str, parameter: Parameter) -> None:
    """Raise UserError for an empty range, or for both a range and values."""
    where, low, high = f"{path}: `parameters.{key}`", parameter.low, parameter.high
    if parameter.values is not None:
        if parameter.model_fields_set & {"low", "high", "log", "step"}:
            raise UserError(f"{where} has `values` and a range: give one of them")
        if not parameter.values:
            raise UserError(f"{where}: `values` is empty")
        return
    if low is None or high is None:
        raise UserError(f"{where} needs `low` and `high`, or `values`")
    if low >= high:
        raise UserError(f"{where} goes from {low} to {high}, an empty range: `low` must be less than `high`")
    if parameter.log and low <= 0:
        raise UserError(f"{where}: `log` needs a `low` above 0, not {low}")
    if parameter.step is not None and (parameter.log or not 0 < parameter.step <= high - low):
        raise UserError(f"{where}: `step` must be above 0 and at most {high - low}, and cannot be combined with `log`")
    if is_integer_range(parameter) and parameter.step is not None and not isinstance(parameter.step, int):
        raise UserError(f"{where}: `step` is {parameter.step} in a range of integers; write {float(low)} for floats")


def is_integer_range(parameter: Parameter) -> bool:
    """Whether both ends of the range are integers."""
    return isinstance(parameter.low, int) and isinstance(parameter.high, int)


def check_condition(path: Path, key: str, parameter: Parameter, space: dict[str, Parameter]) -> None:
    """Raise UserError for a `when` that no trial can meet or that names a later parameter."""
    earlier = list(space)[: list(space).index(key)]
    for other, wanted in parameter.when.items():
        where = f"{path}: `parameters.{key}.when`"
        if other not in earlier:
            hint = suggest_name(other, earlier) if other not in space else ": move that one up"
            raise UserError(f"{where} names `{other}`, which is not a parameter above it{hint}")
        choices = space[other].values
        for value in wanted if isinstance(wanted, list) else [wanted]:
            if choices is None or value not in choices:
                raise UserError(f"{where}: `{other}` is never {value!r}; its values are {choices}")


def check_sampler_and_pruner(path: Path, sweep: Sweep, space: dict[str, Parameter]) -> None:
    """Raise UserError for a sampler or pruner that does not support the objectives or parameters."""
    if len(sweep.objectives) > 1 and (sweep.pruner.name != "none" or sweep.sampler == "cmaes"):
        raise UserError(
            f"{path}: with several objectives neither pruning nor CMA-ES is possible: set "
            "`pruner: {name: none}` and another `sampler`"
        )
    if sweep.sampler != "grid":
        return
    for key, parameter in space.items():
        if parameter.values is None and parameter.step is None:
            raise UserError(f"{path}: the grid sampler needs `values` or a `step` in `parameters.{key}`")
        if parameter.when:
            raise UserError(f"{path}: a grid has all combinations, so `parameters.{key}` cannot have `when`")


def check_start_values(path: Path, sweep: Sweep, space: dict[str, Parameter]) -> None:
    """Raise UserError for start values outside of the search space."""
    for key, value in ((key, value) for values in sweep.start for key, value in values.items()):
        if key not in space:
            raise UserError(f"{path}: `start` has `{key}`, which is not in `parameters`{suggest_name(key, space)}")
        parameter = space[key]
        if parameter.values is not None:
            fits = value in parameter.values
        else:
            assert parameter.low is not None
            assert parameter.high is not None
            fits = isinstance(value, (int, float)) and parameter.low <= value <= parameter.high
        if not fits:
            raise UserError(f"{path}: `start` has {value!r} for `{key}`, which is outside `parameters.{key}`")


def list_metric_files(stage: dict[str, Any]) -> list[str]:
    """The metrics files of a stage in dvc.yaml."""
    return [path for entry in stage.get("metrics", []) for path in ([entry] if isinstance(entry, str) else entry)]


def list_output_paths(stage: dict[str, Any]) -> list[str]:
    """The outputs of a stage in dvc.yaml that are no metrics or plots."""
    return [path for entry in stage.get("outs", []) for path in ([entry] if isinstance(entry, str) else entry)]


def find_writers(file: str, stages: dict[str, Any]) -> list[str]:
    """The stages that write a file, as a metric or in an output such as metrics/evaluate: one or none."""
    return [
        name
        for name, stage in stages.items()
        if any(Path(file).is_relative_to(out) for out in [*list_metric_files(stage), *list_output_paths(stage)])
    ]


def parse_objective(path: Path, name: str, direction: Direction, stages: dict[str, Any]) -> Objective:
    """Split `metrics/train/metrics.json:best.AP`. Raises UserError when no stage writes the metric."""
    file, colon, key = name.partition(":")
    if not colon or not key:
        raise UserError(f"{path}: the objective `{name}` should be `file:key`, e.g. metrics/train/metrics.json:best.AP")
    if not find_writers(file, stages):
        known = [known for stage in stages.values() for known in list_metric_files(stage)]
        raise UserError(f"{path}: no stage writes the metrics file `{file}`{suggest_name(file, known)}")
    if Path(file).is_file():  # its keys are known only after a run
        keys = dict(flatten(json.loads(Path(file).read_text(encoding="utf-8"))))
        if not isinstance(keys.get(key), (int, float)):
            numbers = [known for known, value in keys.items() if isinstance(value, (int, float))]
            raise UserError(f"{path}: {file} has no number `{key}`{suggest_name(key, numbers)}")
    return Objective(file, key, direction)
