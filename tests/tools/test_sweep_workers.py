"""Two workers in two clones share a study on a PostgreSQL server, and one of them is killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from sweeping.study import storage_url
from tests.support.tiny_sweep import make_repository, start_sweep, write_sweep

SHORT_HEARTBEAT = "import sweeping.study as study\nstudy.HEARTBEAT, study.GRACE_PERIOD = 1, 2"
TIMEOUT = 120  # seconds for a worker to start a trial


def find_postgresql() -> Path | None:
    """The folder of PostgreSQL's programs: the newest of Debian's, or the one on the PATH."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return programs[-1].parent if programs else Path(on_path).parent if on_path else None


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """The URL of a temporary server that listens on a socket in a temporary folder."""
    bin_ = find_postgresql()
    if bin_ is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    # Not below pytest's own folder, which only root may enter where these tests run as root.
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    as_user: dict[str, str] = {}
    if os.geteuid() == 0:  # it refuses to run as root
        shutil.chown(folder, "postgres")
        as_user = {"user": "postgres"}

    def run(*command: str) -> None:
        done = subprocess.run(command, **as_user, cwd=folder, capture_output=True, text=True)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stdout + done.stderr

    data = str(folder / "data")
    run(str(bin_ / "initdb"), "--pgdata", data, "--username", "sweeper", "--auth", "trust", "--no-sync")
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    run(str(bin_ / "pg_ctl"), "--pgdata", data, "--wait", "--log", str(folder / "log"), "--options", options, "start")
    try:
        yield f"postgresql://sweeper@/postgres?unix_sock={folder}/.s.PGSQL.5432"
    finally:
        run(str(bin_ / "pg_ctl"), "--pgdata", data, "--mode", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.mark.long
def test_two_workers_share_a_study_and_one_is_killed(postgresql: str, tmp_path: Path) -> None:
    first = make_repository(tmp_path / "first", tmp_path / "settings")
    parameters = {"train.lr": {"low": 1e-4, "high": 1.0, "log": True}, "train.pause": {"values": [0.5]}}
    write_sweep(first, name="shared", trials=4, parameters=parameters)
    first.commit()
    second = first.copy(tmp_path / "second")
    storage = optuna.storages.RDBStorage(storage_url(None, postgresql))  # type: ignore[arg-type]
    workers = [start_sweep(one, "run", "--storage", postgresql, code=SHORT_HEARTBEAT) for one in (first, second)]
    study = wait_for_both(storage)
    workers[0].kill()
    killed = workers[0].communicate()[0]
    output = workers[1].communicate()[0]
    assert workers[1].returncode == 0, killed + output

    trials = study.get_trials()
    storage.remove_session()
    storage.engine.dispose()
    states = [trial.state.name for trial in trials]
    assert (states.count("COMPLETE"), states.count("FAIL"), len(states)) == (4, 1, 5), states
    (dead,) = [trial for trial in trials if trial.state.name == "FAIL"]
    (again,) = [trial for trial in trials if trial.system_attrs.get("failed_trial") == dead.number]
    assert again.params == dead.params
    assert "shared: 4 of 4 trials" in output
    assert len({str(trial.params) for trial in trials}) == 4, "both workers tried the same values"
    end = time.monotonic() + TIMEOUT  # the experiment of the killed worker ends by itself
    while list((first.root / ".dvc/tmp/exps/standalone").glob("tmp*")):
        assert time.monotonic() < end
        time.sleep(0.1)


def wait_for_both(storage: optuna.storages.RDBStorage) -> optuna.Study:
    """The study, once each worker is training."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        time.sleep(0.1)
        if "shared" in optuna.get_all_study_names(storage):
            study = optuna.load_study(study_name="shared", storage=storage)
            if len([trial for trial in study.trials if trial.intermediate_values]) == 2:
                return study
    raise AssertionError("the workers did not start")
