"""Saving and loading checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from detector.core.errors import UserError
from detector.engine.checkpoint import Card, load_checkpoint, save_checkpoint

CARD = Card(
    model="simple",
    classes=["a", "ü"],
    states=["intact"],
    size=(64, 96),
    mean=(1, 2, 3),
    std=(4, 5, 6),
    recipe={"lr": 5e-05},
    seed=0,
    data="hash",
    validation={"AP": 0.5},
)


def test_round_trip(tmp_path: Path) -> None:
    weights = {"b": torch.arange(6.0).view(2, 3).T, "a": torch.tensor(3)}
    save_checkpoint(tmp_path / "deep" / "model.safetensors", weights, CARD)
    loaded, card = load_checkpoint(tmp_path / "deep" / "model.safetensors")
    assert card == CARD
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_checkpoint(tmp_path / f"{name}.safetensors", {"w": torch.ones(3), "v": torch.zeros(2)}, CARD)
    for suffix in (".safetensors", ".json"):
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()


def test_reads_a_card_that_calls_std_deviation(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, {"w": torch.ones(3)}, CARD)
    card = path.with_suffix(".json")
    card.write_text(card.read_text().replace('"std"', '"deviation"'))
    assert load_checkpoint(path)[1] == CARD


def test_rejects_missing_and_corrupt_files(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(UserError, match="dvc repro train"):
        load_checkpoint(path)
    save_checkpoint(path, {"w": torch.ones(3)}, CARD)
    path.write_bytes(b"not tensors")
    with pytest.raises(UserError, match="not a checkpoint"):
        load_checkpoint(path)
    path.with_suffix(".json").write_text('{"model": 3}')
    with pytest.raises(UserError, match="not a checkpoint"):
        load_checkpoint(path)
