"""The Optuna study of a sweep: its storage, sampler and pruner, and the state of its trials."""

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
from sweeping.settings import Parameter, Plan, is_integer_range

SWEEPS_FOLDER = Path(".cache/sweep")  # studies and logs; ignored by git
HEARTBEAT = 10  # seconds between heartbeats of a running trial
GRACE_PERIOD = 60  # seconds without a heartbeat until the trial fails and is repeated
MAX_RETRIES = 3  # for a trial whose worker died
DIGITS = 4  # significant digits of sampled floats, for readability

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=ExperimentalWarning)  # heartbeats


def sweep_folder(plan: Plan) -> Path:
    """The folder of a sweep on this machine."""
    return SWEEPS_FOLDER / plan.sweep.name


def storage_url(plan: Plan, given: str | None) -> str:
    """The database URL: `given`, or an SQLite file in the sweep's folder. The driver for PostgreSQL is pg8000."""
    if given is None:
        return f"sqlite:///{sweep_folder(plan).resolve()}/study.db"
    scheme, separator, rest = given.partition("://")
    return f"postgresql+pg8000://{rest}" if separator and scheme in ("postgresql", "postgres") else given


@contextmanager
def translate_database_errors(url: str) -> Iterator[None]:
    """Turn errors of a database, its driver or its URL into a UserError without the password."""
    try:
        yield
    except (SQLAlchemyError, ImportError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"--storage: cannot open the study at {hide_password(url)}: {reason}; expected sqlite:///FILE or "
            "postgresql://USER:PASSWORD@HOST/DATABASE of a running server"
        ) from None


def hide_password(url: str) -> str:
    """The URL for messages."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return "that URL"


def dashboard_command(plan: Plan, given: str | None) -> str:
    """The command that shows the study in a browser."""
    default = f"sqlite:///{sweep_folder(plan).as_posix()}/study.db"
    return f"optuna-dashboard {default if given is None else hide_password(storage_url(plan, given))}"


def open_study(plan: Plan, url: str, new: bool = False) -> optuna.Study:
    """Open the sweep's study; with `new` it may be created. Raises UserError."""
    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    with translate_database_errors(url):
        storage = open_storage(url)
        names = optuna.get_all_study_names(storage)
        if not new and plan.sweep.name not in names:
            raise UserError(f"there is no sweep `{plan.sweep.name}` yet: `python tools/sweep.py run` starts it")
        study = optuna.create_study(
            storage=storage,
            study_name=plan.sweep.name,
            load_if_exists=True,
            sampler=build_sampler(plan),
            pruner=build_pruner(plan),
            directions=[objective.direction for objective in plan.objectives],
        )
        study.set_metric_names([objective.key for objective in plan.objectives])
    return study


def open_storage(url: str) -> RDBStorage:
    """Open the database. The first worker creates the tables; one that tries at the same time fails and retries."""
    on_stale = RetryHeartbeatStaleTrialCallback(MAX_RETRIES, inherit_intermediate_values=True)
    options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    for attempt in range(5):
        try:
            return RDBStorage(
                url,
                options,
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE_PERIOD,
                heartbeat_stale_trial_callback=on_stale,
            )
        except SQLAlchemyError:
            if attempt == 4:
                raise
            time.sleep(0.5)
    raise AssertionError("unreachable")


def initialize_study(study: optuna.Study, plan: Plan, commit: str) -> None:
    """Store the definition and the commit of a new sweep and enqueue its start values.

    Raises UserError when an existing sweep was started with another definition.
    """
    definition = serialize_definition(plan)
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
            f"sweep.yaml: the sweep `{plan.sweep.name}` was started with other {changed}: restore them to continue "
            "it, or start another sweep with another `name`"
        )


def serialize_definition(plan: Plan) -> str:
    """The settings that must not change during a sweep; trials, sampler and pruner may."""
    values = plan.sweep.model_dump(include={"objectives", "parameters", "seeds"})
    return json.dumps(values, sort_keys=True)


def build_sampler(plan: Plan) -> optuna.samplers.BaseSampler:
    """The sampler, without a seed: seeded workers would all try the same values."""
    samplers: dict[str, Any] = {
        "tpe": lambda: optuna.samplers.TPESampler(constant_liar=True),
        "cmaes": lambda: optuna.samplers.CmaEsSampler(warn_independent_sampling=False),
        "gp": lambda: optuna.samplers.GPSampler(warn_independent_sampling=False),
        "grid": lambda: optuna.samplers.GridSampler({key: grid_values(one) for key, one in plan.space.items()}),
        "random": optuna.samplers.RandomSampler,
    }
    sampler: optuna.samplers.BaseSampler = samplers[plan.sweep.sampler]()
    return sampler


def grid_values(parameter: Parameter) -> list[Any]:
    """All values of a parameter as Optuna stores them."""
    if parameter.values is not None:
        return [json.dumps(value) for value in parameter.values]
    low, high, step = parameter.low, parameter.high, parameter.step
    assert low is not None
    assert high is not None
    assert step is not None
    return [low + place * step for place in range(int((high - low) / step + 1e-9) + 1)]


def build_pruner(plan: Plan) -> optuna.pruners.BasePruner:
    """The pruner, which sees the first objective after each epoch."""
    pruner = plan.sweep.pruner
    if pruner.name == "median":
        return optuna.pruners.MedianPruner(pruner.startup_trials, n_warmup_steps=pruner.warmup_epochs)
    if pruner.name == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=pruner.warmup_epochs)
    return optuna.pruners.NopPruner()


def suggest_values(trial: Trial, space: dict[str, Parameter]) -> dict[str, Any]:
    """Values for a trial, without the parameters whose condition is not met."""
    values: dict[str, Any] = {}
    for key, parameter in space.items():
        conditions = parameter.when.items()
        if all(values.get(other) in (wanted if isinstance(wanted, list) else [wanted]) for other, wanted in conditions):
            values[key] = suggest_value(trial, key, parameter)
    return values


def suggest_value(trial: Trial, key: str, parameter: Parameter) -> Any:
    """One value; floats have DIGITS significant digits."""
    if parameter.values is not None:  # as JSON, because Optuna stores no lists
        return json.loads(str(trial.suggest_categorical(key, [json.dumps(value) for value in parameter.values])))
    low, high, step, log = parameter.low, parameter.high, parameter.step, parameter.log
    assert low is not None
    assert high is not None
    if is_integer_range(parameter):
        return trial.suggest_int(key, int(low), int(high), step=int(step or 1), log=log)
    value = trial.suggest_float(key, low, high, step=step, log=log)
    return min(max(float(f"{value:.{DIGITS}g}"), low), high)


def requeue(study: optuna.Study, trial: FrozenTrial) -> None:
    """Put a stopped trial back in the queue with its reported epochs."""
    RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)(study, trial)


class TrialCounts(dict[str, int]):
    """Number of trials per outcome: complete, pruned, failed, retried (under another number), running, waiting."""

    @property
    def used(self) -> int:
        """Trials that count towards `trials` in sweep.yaml."""
        return self["complete"] + self["pruned"] + self["failed"]


def count_trials(trials: list[FrozenTrial]) -> TrialCounts:
    """Count the trials of a study per outcome."""
    requeued = find_requeued(trials)
    counts = TrialCounts(complete=0, pruned=0, failed=0, retried=0, running=0, waiting=0)
    for trial in trials:
        counts[trial_outcome(trial, requeued)] += 1
    return counts


def find_requeued(trials: list[FrozenTrial]) -> set[int]:
    """The numbers of failed trials that were put back in the queue."""
    return {number for trial in trials for number in RetryHeartbeatStaleTrialCallback.retry_history(trial)}


def trial_outcome(trial: FrozenTrial, requeued: set[int]) -> str:
    """The outcome of a trial: a key of `TrialCounts`."""
    if trial.state == TrialState.FAIL:
        return "retried" if trial.number in requeued else "failed"
    return str(trial.state.name.lower())
