"""Checkpoints on disk, and a training that is interrupted at each of its steps."""

from __future__ import annotations

import dataclasses
import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from detector.core.errors import UserError
from detector.engine.checkpoint import Card, load_checkpoint
from detector.engine.dataset import Batch, EpochSampler
from detector.engine.structures import Output, Targets
from detector.models.recipe import REFERENCE, Recipe
from detector.training import interruption
from detector.training.compute import ComputeSettings
from detector.training.fit import fit, score
from detector.training.kept_epochs import KeptEpochs
from detector.training.loaders import Loaders
from detector.training.resume import (
    delete_checkpoints,
    fingerprint,
    load_latest_checkpoint,
    write_checkpoint,
)
from detector.training.state import BestEpoch
from tests.support.targets import no_targets

EPOCHS, BATCHES = 3, 5
RECIPE = dataclasses.replace(REFERENCE, epochs=EPOCHS, optimizer="adamw", schedule="plateau", warmup_iterations=3)


class Images(list[int]):
    """A dataset with what the loop needs."""

    annotations = SimpleNamespace(paths=[f"{row}.png" for row in range(200)])


class Toy(nn.Module):
    """Draws from every random generator; receives SIGTERM in one of its calls."""

    def __init__(self, stop_in_call: int = 0) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.ones(2, 2))
        self.noise = nn.BatchNorm1d(2)
        self.calls, self.stop_in_call = 0, stop_in_call

    def forward(self, images: torch.Tensor, targets: Targets | None = None) -> Output:
        self.calls += 1
        if self.calls == self.stop_in_call:
            interruption._received = signal.SIGTERM
        drawn = torch.rand(2, 2) + random.random() + float(np.random.random())
        return Output({"a": self.noise(self.number * drawn - images.float().mean()).abs().sum() / 9}, None)


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Outside any repository, without a pending signal from an earlier test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(interruption, "_received", None)
    generators = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    random.setstate(generators[0])
    np.random.set_state(generators[1])
    torch.set_rng_state(generators[2])


def collate(rows: list[int]) -> Batch:
    images = torch.tensor(rows, dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    return Batch(images, no_targets(2, (2, 2)), rows, [(1.0, 1.0)] * len(rows))


def make_card(validation: dict[str, float]) -> Card:
    """The card of a model that is never built."""
    return Card(
        model="toy", classes=["a"], states=[], size=(32, 32), mean=(0, 0, 0), std=(1, 1, 1), recipe={}, seed=0, data="",
        validation=validation,
    )  # fmt: skip


def train(
    name: str, model: nn.Module, recipe: Recipe = RECIPE, stop_in_validation: int = -1, keep_every: int = 0
) -> BestEpoch:
    """Seed, build and fit in the folder `name`."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    data = Images(row % 256 for row in range(200))
    sampler = EpochSampler(BATCHES * 2, 2, 0)
    loaders = Loaders(
        DataLoader(data, batch_sampler=sampler, collate_fn=collate),  # type: ignore[arg-type]
        sampler,
        DataLoader(data[:4], collate_fn=collate),  # type: ignore[arg-type]
    )
    seen = 0

    def validate(average: nn.Module) -> dict[str, float]:
        nonlocal seen
        for _ in interruption.iterate_until_stop(loaders.val):
            seen += 1
            if seen == stop_in_validation:
                interruption._received = signal.SIGTERM
        number = float(average.get_parameter("number").sum()) + float(torch.rand(()))
        return {"loss": 2.0 + number % 0.7, "AP": number % 1, "AP50": number % 1}

    Path(name).mkdir(exist_ok=True)
    return fit(
        model,
        loaders,
        validate,
        recipe,
        ComputeSettings(torch.device("cpu")),
        log_folder=Path(name) / "log",
        checkpoint_folder=Path(name),
        kept_epochs=KeptEpochs(Path(f"{name}-kept"), keep_every, make_card),
    )


def files(name: str) -> dict[str, bytes]:
    log = Path(name) / "log"
    return {str(path.relative_to(log)): path.read_bytes() for path in log.rglob("*") if path.is_file()}


def check_same(resumed: BestEpoch, uninterrupted: BestEpoch) -> None:
    assert resumed.validation == uninterrupted.validation
    for name, tensor in uninterrupted.weights.items():
        assert torch.equal(resumed.weights[name], tensor), name
    assert files("resumed") == files("uninterrupted")


@pytest.mark.parametrize("accumulate_steps", [1, 2])
def test_interrupted_in_any_step_and_resumed(accumulate_steps: int, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = dataclasses.replace(RECIPE, accumulate_steps=accumulate_steps)
    uninterrupted = train("uninterrupted", Toy(), recipe)
    for call in range(1, EPOCHS * BATCHES):
        with pytest.raises(interruption.Interrupted) as ended:
            train("resumed", Toy(stop_in_call=call), recipe)
        assert ended.value.code == 143
        assert f"epoch {1 + (call - 1) // BATCHES} of {EPOCHS}" in capsys.readouterr().err
        check_same(train("resumed", Toy(), recipe), uninterrupted)
        assert "resuming at epoch" in capsys.readouterr().out
        delete_checkpoints(Path("resumed"))


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_interrupted_in_validation_and_resumed(batch: int) -> None:
    uninterrupted = train("uninterrupted", Toy())
    with pytest.raises(interruption.Interrupted):
        train("resumed", Toy(), stop_in_validation=batch)
    model = Toy()
    check_same(train("resumed", model), uninterrupted)
    assert model.calls == (EPOCHS - 1 - (batch - 1) // 4) * BATCHES  # no step is repeated


def test_killed_while_writing_the_results() -> None:
    """The end of the last epoch is saved too."""
    uninterrupted, model = train("uninterrupted", Toy()), Toy()
    train("resumed", Toy())
    check_same(train("resumed", model), uninterrupted)
    assert model.calls == 0


def test_patience_ends_a_training_without_improvement() -> None:
    recipe = dataclasses.replace(RECIPE, epochs=9, patience=2, lr=1e-9)
    best = train("short", Toy(), recipe)
    scores = read_curve("short", "AP")
    assert len(scores) == best.validation["epoch"] + 2 < 9
    assert max(scores) == scores[int(best.validation["epoch"]) - 1]


def read_curve(name: str, metric: str) -> list[float]:
    """A metric of each epoch."""
    rows = (Path(name) / f"log/plots/metrics/val/{metric}.tsv").read_text().splitlines()[1:]
    return [float(row.split("\t")[1]) for row in rows]


def test_the_loss_can_decide_on_the_best_epoch_and_on_patience() -> None:
    recipe = dataclasses.replace(RECIPE, epochs=9, patience=2, lr=1e-9, monitor="loss")
    best = train("short", Toy(), recipe)
    losses = read_curve("short", "loss")
    assert len(losses) == best.validation["epoch"] + 2 < 9
    assert min(losses) == losses[int(best.validation["epoch"]) - 1]
    assert train("other", Toy(), dataclasses.replace(recipe, monitor="AP")).validation != best.validation


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_the_worst(loss: float) -> None:
    assert score({"AP": 1.0, "loss": loss}, "loss") < score({"AP": 0.0, "loss": 1e30}, "loss")


def test_kept_epochs_are_models_and_can_be_continued() -> None:
    uninterrupted = train("uninterrupted", Toy(), keep_every=2)
    folder = Path("uninterrupted-kept/002")
    assert [path.name for path in Path("uninterrupted-kept").iterdir()] == ["002"]  # of three epochs
    names = ["000002-00000000.pt", "detector.json", "detector.safetensors"]
    assert sorted(path.name for path in folder.iterdir()) == names
    weights, card = load_checkpoint(folder / "detector.safetensors")
    assert weights.keys() == uninterrupted.weights.keys()
    assert card.validation["epoch"] == 2
    assert card.validation["AP"] == pytest.approx(read_curve("uninterrupted", "AP")[1], abs=1e-5)
    assert files("uninterrupted") == files_of_training_without_kept_epochs()

    Path("resumed").mkdir()
    shutil.copy(folder / names[0], "resumed")
    model = Toy()
    check_same(train("resumed", model), uninterrupted)
    assert model.calls == BATCHES


def files_of_training_without_kept_epochs() -> dict[str, bytes]:
    """The files of the same training."""
    train("without", Toy())
    assert not Path("without-kept").exists()
    return files("without")


def test_an_epoch_is_kept_when_a_kill_came_before_it() -> None:
    train("first", Toy(), keep_every=2)
    shutil.rmtree("first-kept")
    Path("first/000003-00000000.pt").unlink()  # the checkpoint of epoch 2 is the last one
    train("first", Toy(), keep_every=2)
    assert [path.name for path in Path("first-kept").iterdir()] == ["002"]


def test_an_epoch_that_cannot_be_kept_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    Path("full-kept").touch()
    train("full", Toy(), keep_every=1)
    assert capsys.readouterr().out.count("warning: could not keep full-kept/00") == EPOCHS


@pytest.mark.parametrize(
    ("batch_size", "advice"), [(6, "batch_size: 3` with `train.accumulate_steps: 2`"), (1, "train.image_size")]
)
def test_out_of_memory(batch_size: int, advice: str) -> None:
    class Large(Toy):
        def forward(self, images: torch.Tensor, targets: Targets | None = None) -> Output:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(UserError, match=f"`train.batch_size` {batch_size};.*{advice}"):
        train("large", Large(), dataclasses.replace(RECIPE, batch_size=batch_size))


def state(epoch: int) -> dict[str, object]:
    return {"epoch": epoch, "batch": 0, "tensor": torch.arange(3)}


def test_the_latest_two_are_kept_and_a_damaged_one_is_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load_latest_checkpoint(tmp_path) is None
    for epoch in (1, 2, 10):
        write_checkpoint(tmp_path, state(epoch))
    names = ["000002-00000000.pt", "000010-00000000.pt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    (tmp_path / names[1]).write_bytes((tmp_path / names[1]).read_bytes()[:-1])
    found = load_latest_checkpoint(tmp_path)
    assert found is not None
    assert found["epoch"] == 2
    assert torch.equal(found["tensor"], torch.arange(3))
    assert f"{names[1]} cannot be read" in capsys.readouterr().out


def test_an_unwritable_checkpoint_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    write_checkpoint(tmp_path / "file", state(1))
    assert "warning: could not write a checkpoint" in capsys.readouterr().out


def test_the_fingerprint_changes_with_each_value_and_file(tmp_path: Path) -> None:
    file = tmp_path / "code.py"
    file.write_text("1")
    keys = {fingerprint({"lr": 0.1}, [file]), fingerprint({"lr": 0.2}, [file]), fingerprint({"lr": 0.1}, [])}
    file.write_text("2")
    assert len(keys | {fingerprint({"lr": 0.1}, [file])}) == 4


def test_an_unfinished_checkpoint_is_not_loaded(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, state(1))
    (tmp_path / ".000002-00000000.7.part.pt").write_bytes(b"half")
    found = load_latest_checkpoint(tmp_path)
    assert found is not None
    assert found["epoch"] == 1
