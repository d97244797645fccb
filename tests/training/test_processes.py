"""How many processes train: as many as params.yaml names, whoever starts them."""

from __future__ import annotations

import pytest

from detector.core.errors import UserError
from detector.training.processes import spawn_workers


def torchrun(monkeypatch: pytest.MonkeyPatch, world_size: int) -> None:
    """What torchrun sets in the first of its processes."""
    ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": str(world_size), "LOCAL_WORLD_SIZE": str(world_size)}
    for name, value in {"TORCHELASTIC_RUN_ID": "none", **ranks}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(("started", "recorded"), [(2, 1), (1, 2), (8, 4)])
def test_another_number_than_dvc_records_is_refused(
    monkeypatch: pytest.MonkeyPatch, started: int, recorded: int
) -> None:
    torchrun(monkeypatch, started)
    message = rf"torchrun started {started} .*`train.processes: {recorded}`: set it to {started}"
    with pytest.raises(UserError, match=message), spawn_workers(recorded):
        pytest.fail("it must not train")


def test_the_recorded_number_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    torchrun(monkeypatch, 1)
    with spawn_workers(1):
        pass
