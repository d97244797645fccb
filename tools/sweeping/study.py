"""The Optuna study of a sweep: where it is stored, how it chooses values and prunes, and what it has done so far."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from detector.core.errors import UserError
from sweeping.settings import Parameter, Plan, is_whole

FOLDER = Path(".cache/sweep")  # ignored by git: studies, logs
HEARTBEAT = 10  # seconds between two signs of life of a running trial
GRACE = 60  # seconds without one, after which it is failed and tried again
RETRIES = 3  # of a trial whose worker died
DIGITS = 4  # of a value that was drawn from a range; more say nothing and are hard to read

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=ExperimentalWarning)  # heartbeats, which have been so for years


def folder_of(plan: Plan) -> Path:
    """Where a sweep keeps what it needs on this machine."""
    return FOLDER / plan.sweep.name


def storage_url(plan: Plan, given: str | None) -> str:
    """The database: `given`, or an SQLite file in the sweep's folder. PostgreSQL is spoken to by pg8000."""
    if given is None:
        return f"sqlite:///{folder_of(plan).resolve()}/study.db"
    scheme, separator, rest = given.partition("://")
    return f"postgresql+pg8000://{rest}" if separator and scheme in ("postgresql", "postgres") else given


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn what a database, its driver or a wrong address raise into a UserError, without the password."""
    try:
        yield
    except (SQLAlchemyError, ImportError, ValueError) as error:
        try:
            shown = make_url(url).render_as_string(hide_password=True)
        except SQLAlchemyError:
            shown = "its address"
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"--storage: the study cannot be opened at {shown}: {reason}; expected sqlite:///FILE or "
            "postgresql://USER:PASSWORD@HOST/DATABASE of a server that runs"
        ) from None


def open_study(plan: Plan, url: str, new: bool = False) -> optuna.Study:
    """The sweep's study. Raises UserError when it is not there, unless it may be `new`, or the database fails."""
    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    with explained(url):
        storage = open_storage(url)
        names = optuna.get_all_study_names(storage)
        if not new and plan.sweep.name not in names:
            raise UserError(f"there is no sweep `{plan.sweep.name}` yet: `python tools/sweep.py run` begins it")
        study = optuna.create_study(
            storage=storage, study_name=plan.sweep.name, load_if_exists=True, sampler=sampler_of(plan),
            pruner=pruner_of(plan), directions=[objective.direction for objective in plan.objectives],
        )  # fmt: skip
        study.set_metric_names([objective.key for objective in plan.objectives])
    return study


def open_storage(url: str) -> RDBStorage:
    """The database, in which the first to come makes the tables; another that does so at the same time has to wait."""
    retry = RetryHeartbeatStaleTrialCallback(RETRIES, inherit_intermediate_values=True)
    options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    for attempt in range(5):
        try:
            return RDBStorage(
                url, options, heartbeat_interval=HEARTBEAT, grace_period=GRACE, heartbeat_stale_trial_callback=retry
            )
        except SQLAlchemyError:
            if attempt == 4:
                raise
            time.sleep(0.5)
    raise AssertionError("unreachable")


def begin(study: optuna.Study, plan: Plan, commit: str) -> None:
    """Note what a new sweep is and on which commit its trials stand, and enqueue its start.

    Raises UserError when it is not new, and another sweep than before.
    """
    definition = definition_of(plan)
    known = study.user_attrs
    if "definition" not in known:
        for values in plan.sweep.start:
            stored = {key: json.dumps(value) if plan.space[key].values else value for key, value in values.items()}
            study.enqueue_trial(stored, skip_if_exists=True)
        study.set_user_attr("commit", commit)
        study.set_user_attr("definition", definition)
        return
    if known["definition"] != definition:
        before, now = json.loads(known["definition"]), json.loads(definition)
        changed = ", ".join(key for key in now if now[key] != before.get(key))
        raise UserError(
            f"sweep.yaml: the sweep `{plan.sweep.name}` was begun with other {changed}: put them back to go on, or "
            "begin another one under another `name`"
        )


def definition_of(plan: Plan) -> str:
    """What must not change while a sweep goes on; the number of trials, the sampler and the pruner may."""
    values = plan.sweep.model_dump(include={"objectives", "parameters", "seeds"})
    return json.dumps(values, sort_keys=True)


def sampler_of(plan: Plan) -> optuna.samplers.BaseSampler:
    """What chooses the values; not seeded, or several workers would try the same."""
    samplers: dict[str, Any] = {
        "tpe": lambda: optuna.samplers.TPESampler(constant_liar=True),
        "cmaes": lambda: optuna.samplers.CmaEsSampler(warn_independent_sampling=False),
        "gp": lambda: optuna.samplers.GPSampler(warn_independent_sampling=False),
        "grid": lambda: optuna.samplers.GridSampler({key: grid(one) for key, one in plan.space.items()}),
        "random": optuna.samplers.RandomSampler,
    }
    sampler: optuna.samplers.BaseSampler = samplers[plan.sweep.sampler]()
    return sampler


def grid(parameter: Parameter) -> list[Any]:
    """All values of a parameter, as Optuna stores them."""
    if parameter.values is not None:
        return [json.dumps(value) for value in parameter.values]
    low, high, step = parameter.low, parameter.high, parameter.step
    assert low is not None
    assert high is not None
    assert step is not None
    return [low + place * step for place in range(int((high - low) / step + 1e-9) + 1)]


def pruner_of(plan: Plan) -> optuna.pruners.BasePruner:
    """What ends trials early, by the objective after each epoch."""
    pruner = plan.sweep.pruner
    if pruner.name == "median":
        return optuna.pruners.MedianPruner(pruner.startup_trials, n_warmup_steps=pruner.warmup_epochs)
    if pruner.name == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=pruner.warmup_epochs)
    return optuna.pruners.NopPruner()


def suggest(trial: Trial, space: dict[str, Parameter]) -> dict[str, Any]:
    """The trial's values; a parameter whose condition is not met is left out. Lists and null stand for themselves."""
    values: dict[str, Any] = {}
    for key, parameter in space.items():
        conditions = parameter.when.items()
        if all(values.get(other) in (wanted if isinstance(wanted, list) else [wanted]) for other, wanted in conditions):
            values[key] = suggest_one(trial, key, parameter)
    return values


def suggest_one(trial: Trial, key: str, parameter: Parameter) -> Any:
    """One value; of a range of floats with DIGITS digits."""
    if parameter.values is not None:  # as JSON, for Optuna stores no lists
        return json.loads(str(trial.suggest_categorical(key, [json.dumps(value) for value in parameter.values])))
    low, high, step, log = parameter.low, parameter.high, parameter.step, parameter.log
    assert low is not None
    assert high is not None
    if is_whole(parameter):
        return trial.suggest_int(key, int(low), int(high), step=int(step or 1), log=log)
    value = trial.suggest_float(key, low, high, step=step, log=log)
    return min(max(float(f"{value:.{DIGITS}g}"), low), high)


def retry(study: optuna.Study, trial: FrozenTrial) -> None:
    """Put an interrupted trial back in the queue, with what it had reached."""
    RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)(study, trial)


class Count(dict[str, int]):
    """Trials by what became of them: complete, pruned, failed, retried (tried again under another number), running,
    waiting."""

    @property
    def used(self) -> int:
        """Trials that count for `trials` of sweep.yaml."""
        return self["complete"] + self["pruned"] + self["failed"]


def count(trials: list[FrozenTrial]) -> Count:
    """How far a study is."""
    retried = retried_numbers(trials)
    found = Count(complete=0, pruned=0, failed=0, retried=0, running=0, waiting=0)
    for trial in trials:
        found[fate(trial, retried)] += 1
    return found


def retried_numbers(trials: list[FrozenTrial]) -> set[int]:
    """The failed trials that were put back in the queue."""
    return {number for trial in trials for number in RetryHeartbeatStaleTrialCallback.retry_history(trial)}


def fate(trial: FrozenTrial, retried: set[int]) -> str:
    """The key of `Count` that a trial belongs to."""
    if trial.state == TrialState.FAIL:
        return "retried" if trial.number in retried else "failed"
    return str(trial.state.name.lower())
