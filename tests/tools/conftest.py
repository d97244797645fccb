"""Fixtures of the tests of CI."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ci_world import IMAGES, World
from tests.support.repository import Repository, environment_for
from tests.support.tiny_pipeline import make_tiny_pipeline


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """A repository after the first run, to copy."""
    folder = tmp_path_factory.mktemp("retrain")
    environment = environment_for(folder / "settings")
    environment = {name: text for name, text in environment.items() if not name.startswith(("GITHUB", "GITLAB", "CI"))}
    environment |= {"OMP_NUM_THREADS": "1"}
    (folder / "repository").mkdir()
    yield make_tiny_pipeline(folder / "repository", environment, folder / "dvc", IMAGES)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def world(template: Repository, tmp_path: Path) -> World:
    return World(tmp_path, template.copy(tmp_path / "colleague"))
