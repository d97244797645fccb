"""sweep.yaml: what is tried and what is sought, checked against params.yaml and dvc.yaml before the first trial."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from detector.core.errors import UserError
from detector.core.params import Section, checked, read_yaml

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")
SEED = "train.seed"
JUDGED = "evaluate.split"  # trials that are chosen by what `evaluate` writes are judged on val, never on test
REPORTED = ("AP", "AP50", "loss")  # what training tells of each epoch, by which trials are pruned

Name = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Number = Annotated[int | float, Field(allow_inf_nan=False)]
Direction = Literal["maximize", "minimize"]
Value = bool | int | float | str | None | list[Any]


class Parameter(Section):
    """Either `values`, or a range `low` to `high`, of integers when both are.

    log: evenly over the magnitudes. step: only low, low + step, ... when: only in trials in which other parameters
    have this value, or one of these.
    """

    low: Number | None = None
    high: Number | None = None
    log: bool = False
    step: Number | None = None
    values: list[Value] | None = None
    when: dict[str, Value] = Field(default={})


class Pruner(Section):
    """startup_trials: so many are finished before any is pruned (median). warmup_epochs: of every trial."""

    name: Literal["median", "hyperband", "none"]
    startup_trials: int = Field(default=3, ge=1)
    warmup_epochs: int = Field(default=1, ge=1)


class Sweep(Section):
    """sweep.yaml.

    objectives: `file:key` of a metric -> direction. start: values that are tried first. seeds: each trial is trained
    with all of them and has the mean; none: with that of params.yaml. minutes: after them no trial is begun.
    keep_checkpoints: those of pruned and failed trials stay in .cache/train.
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
    """One metric: where it stands, which way is better."""

    file: str
    key: str
    direction: Direction

    @property
    def name(self) -> str:
        """The key without its groups, as `AP` of `best/AP`."""
        return re.split(r"[./]", self.key)[-1]


class Plan(NamedTuple):
    """A checked sweep: targets: the stages to run. overrides: parameters that are the same in all trials."""

    sweep: Sweep
    space: dict[str, Parameter]
    objectives: list[Objective]
    targets: list[str]
    overrides: dict[str, Value]


def load_plan(path: Path) -> Plan:
    """Read and check sweep.yaml in the repository's root. Raises UserError saying what is wrong."""
    document = read_yaml(path)
    if not isinstance(document, dict):
        raise UserError(f"{path} is no mapping: expected the keys {', '.join(Sweep.model_fields)}")
    sweep = checked(path, document, Sweep)
    params = dict(flattened(read_yaml(PARAMS)))
    space = {key: checked(path, values, Parameter, f"parameters.{key}") for key, values in sweep.parameters.items()}
    for key, parameter in space.items():
        check_known(path, key, params)
        check_range(path, key, parameter)
        check_condition(path, key, parameter, space)
    check_method(path, sweep, space)
    check_start(path, sweep, space)
    if sweep.seeds:
        check_known(path, SEED, params)
    stages = read_yaml(PIPELINE)["stages"]
    objectives = [objective_of(path, name, way, stages) for name, way in sweep.objectives.items()]
    if sweep.pruner.name != "none" and objectives[0].name not in REPORTED:
        raise UserError(
            f"{path}: `objectives` has {objectives[0].key}, but a training tells only {', '.join(REPORTED)} of each "
            "epoch, so nothing can be pruned by it: set `pruner: {name: none}`"
        )
    targets = list(dict.fromkeys(stage for item in objectives for stage in writers(item.file, stages)))
    overrides: dict[str, Value] = {JUDGED: "val"} if "evaluate" in targets and JUDGED in params else {}
    return Plan(sweep, space, objectives, targets, overrides)


def flattened(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`("train.lr", 0.1)`, ... of nested mappings; a list is a value."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield f"{prefix}{key}", value
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean ...?`, or nothing when nothing is known."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)
    return f"; did you mean `{near[0]}`?" if near else ""


def check_known(path: Path, key: str, params: dict[str, Any]) -> None:
    """Raise UserError for a parameter that params.yaml does not have."""
    if key not in params or isinstance(params[key], dict):
        known = [name for name, value in params.items() if not isinstance(value, dict)]
        raise UserError(f"{path}: {PARAMS} has no parameter `{key}`{nearest(key, known)}")


def check_range(path: Path, key: str, parameter: Parameter) -> None:
    """Raise UserError for a range without a value, or for values beside a range."""
    where, low, high = f"{path}: `parameters.{key}`", parameter.low, parameter.high
    if parameter.values is not None:
        if parameter.model_fields_set & {"low", "high", "log", "step"}:
            raise UserError(f"{where} has `values` and a range: give one of both")
        if not parameter.values:
            raise UserError(f"{where}: `values` is empty, nothing can be tried")
        return
    if low is None or high is None:
        raise UserError(f"{where} needs `low` and `high`, or `values`")
    if low >= high:
        raise UserError(f"{where} goes from {low} to {high}, an empty range: `low` must be less than `high`")
    if parameter.log and low <= 0:
        raise UserError(f"{where}: `log` needs a `low` above 0, not {low}")
    if parameter.step is not None and (parameter.log or not 0 < parameter.step <= high - low):
        raise UserError(f"{where}: `step` must be above 0 and at most {high - low}, and goes not with `log`")
    if is_whole(parameter) and parameter.step is not None and not isinstance(parameter.step, int):
        raise UserError(f"{where}: `step` is {parameter.step} in a range of integers; write {float(low)} for floats")


def is_whole(parameter: Parameter) -> bool:
    """Whether a range is one of integers."""
    return isinstance(parameter.low, int) and isinstance(parameter.high, int)


def check_condition(path: Path, key: str, parameter: Parameter, space: dict[str, Parameter]) -> None:
    """Raise UserError for a `when` that no trial can meet, or that is not decided when its turn comes."""
    earlier = list(space)[: list(space).index(key)]
    for other, wanted in parameter.when.items():
        where = f"{path}: `parameters.{key}.when`"
        if other not in earlier:
            hint = nearest(other, earlier) if other not in space else ": put that one first"
            raise UserError(f"{where} names `{other}`, which is no parameter before it{hint}")
        choices = space[other].values
        for value in wanted if isinstance(wanted, list) else [wanted]:
            if choices is None or value not in choices:
                raise UserError(f"{where}: `{other}` is never {value!r}; its values are {choices}")


def check_method(path: Path, sweep: Sweep, space: dict[str, Parameter]) -> None:
    """Raise UserError for a sampler or pruner that cannot do what is asked."""
    if len(sweep.objectives) > 1 and (sweep.pruner.name != "none" or sweep.sampler == "cmaes"):
        raise UserError(
            f"{path}: with several objectives no trial can be pruned, nor can CMA-ES be used: set "
            "`pruner: {name: none}` and another `sampler`"
        )
    if sweep.sampler != "grid":
        return
    for key, parameter in space.items():
        if parameter.values is None and parameter.step is None:
            raise UserError(f"{path}: a grid needs `values` or a `step` of `parameters.{key}`")
        if parameter.when:
            raise UserError(f"{path}: a grid has all combinations, so `parameters.{key}` cannot have `when`")


def check_start(path: Path, sweep: Sweep, space: dict[str, Parameter]) -> None:
    """Raise UserError for values to start from that are none of the sweep."""
    for key, value in ((key, value) for values in sweep.start for key, value in values.items()):
        if key not in space:
            raise UserError(f"{path}: `start` has `{key}`, which is not in `parameters`{nearest(key, space)}")
        parameter = space[key]
        if parameter.values is not None:
            fits = value in parameter.values
        else:
            assert parameter.low is not None
            assert parameter.high is not None
            fits = isinstance(value, (int, float)) and parameter.low <= value <= parameter.high
        if not fits:
            raise UserError(f"{path}: `start` has {value!r} for `{key}`, which is outside of `parameters.{key}`")


def metric_files(stage: dict[str, Any]) -> list[str]:
    """The files under `metrics` of a stage in dvc.yaml."""
    return [path for entry in stage.get("metrics", []) for path in ([entry] if isinstance(entry, str) else entry)]


def writers(file: str, stages: dict[str, Any]) -> list[str]:
    """The stage that writes a metrics file, in a list; an empty one if there is none."""
    return [name for name, stage in stages.items() if file in metric_files(stage)]


def objective_of(path: Path, name: str, direction: Direction, stages: dict[str, Any]) -> Objective:
    """`metrics/train/metrics.json:best/AP` taken apart. Raises UserError when no stage writes it."""
    file, colon, key = name.partition(":")
    if not colon or not key:
        raise UserError(f"{path}: the objective `{name}` should be `file:key`, as metrics/train/metrics.json:best/AP")
    if not writers(file, stages):
        known = [known for stage in stages.values() for known in metric_files(stage)]
        raise UserError(f"{path}: no stage writes the metrics file `{file}`{nearest(file, known)}")
    if Path(file).is_file():  # else no run has shown yet what is in it
        keys = dict(flattened(json.loads(Path(file).read_text(encoding="utf-8"))))
        if not isinstance(keys.get(key), (int, float)):
            numbers = [known for known, value in keys.items() if isinstance(value, (int, float))]
            raise UserError(f"{path}: {file} has no number `{key}`{nearest(key, numbers)}")
    return Objective(file, key, direction)
