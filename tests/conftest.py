"""What several test files share."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

from tests.support.repository import Repository, environment_for, new_repository

if TYPE_CHECKING:
    from playwright.sync_api import Browser


# No example is timed: on a busy machine the first one may wait for seconds.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# What a shell runs in the background ignores Ctrl-C, and so would the programs that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _tiny_query_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shrink the query-based detectors in tests that build models; other tests need not wait for torch."""
    if "detector.models" in sys.modules:
        from tests.support.tiny_query_models import use_tiny_models

        use_tiny_models(monkeypatch)


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """An installed Chromium; without one the test is skipped, unless BROWSER_TESTS=required."""
    from playwright.sync_api import sync_playwright  # not for the many tests that need none

    if CHROMIUM is None:
        assert os.environ.get("BROWSER_TESTS") != "required", "no chromium, and BROWSER_TESTS=required"
        pytest.skip("no chromium on this machine (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Reproduced(NamedTuple):
    """A repository after its first `dvc repro`, committed, and what that printed."""

    repository: Repository
    output: str


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Reproduced]:
    """One real run of the whole pipeline for the tests of all workers; take `pipeline` to change anything."""
    alone = worker_id == "master"
    base = tmp_path_factory.getbasetemp()
    folder = (base if alone else base.parent) / "reproduced"  # the parent is that of this test run's workers
    repository = Repository(folder / "repository", environment_for(folder / "settings"))
    output = folder / "output.txt"
    with FileLock(base.parent / "reproduced.lock"):
        if not output.exists():
            new_repository(repository.root, repository.environment)
            printed = repository.dvc("repro")
            repository.commit()
            output.write_text(printed, encoding="utf-8")
    yield Reproduced(repository, output.read_text(encoding="utf-8"))
    if alone:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def pipeline(reproduced: Reproduced, tmp_path: Path) -> Iterator[Repository]:
    """A copy of the reproduced repository that a test may spoil."""
    yield reproduced.repository.copy(tmp_path / "pipeline")
    shutil.rmtree(tmp_path, ignore_errors=True)  # each has weights and an ONNX file, twice
